//! Windows and loops, as they are written.

use crate::units::parse_duration;
use std::time::Duration;

/// A part of a recording's time, from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) from_ns: u64,
    pub(super) until_ns: u64,
}

impl Default for Window {
    fn default() -> Self {
        Window { from_ns: 0, until_ns: u64::MAX }
    }
}

impl Window {
    /// Reads `10s..70s`, `5m..` or `..1h`.
    pub(super) fn parse(text: &str) -> Result<Window, String> {
        let wrong = || format!("`{text}` is no window: write 10s..70s, 5m.. or ..1h");
        let (from, until) = text.split_once("..").ok_or_else(wrong)?;
        let read = |text: &str, default: u64| match text.trim() {
            "" => Ok(default),
            text => parse_duration(text).map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
        };
        let window = Window { from_ns: read(from, 0)?, until_ns: read(until, u64::MAX)? };
        if window.from_ns < window.until_ns { Ok(window) } else { Err(wrong()) }
    }
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loop {
    Count(u32),
    For(Duration),
}

impl Loop {
    /// Reads `3` or `10m`.
    pub(super) fn parse(text: &str) -> Result<Loop, String> {
        match text.parse::<u32>() {
            Ok(0) => Err("a loop has at least one turn".into()),
            Ok(count) => Ok(Loop::Count(count)),
            Err(_) => match parse_duration(text) {
                Ok(time) if !time.is_zero() => Ok(Loop::For(time)),
                _ => Err(format!("`{text}` is neither a number nor a duration: write 3 or 10m")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_and_loops_are_read() {
        let second = 1_000_000_000;
        assert_eq!(Window::parse("1s..2s"), Ok(Window { from_ns: second, until_ns: 2 * second }));
        assert_eq!(Window::parse("..2s"), Ok(Window { from_ns: 0, until_ns: 2 * second }));
        assert_eq!(Window::parse("1s.."), Ok(Window { from_ns: second, until_ns: u64::MAX }));
        for text in ["", "1s", "2s..1s", "1s..1s", "x..y"] {
            assert!(Window::parse(text).is_err(), "{text}");
        }
        assert_eq!(Loop::parse("3"), Ok(Loop::Count(3)));
        assert_eq!(Loop::parse("10m"), Ok(Loop::For(Duration::from_secs(600))));
        for text in ["", "0", "0s", "-1", "x"] {
            assert!(Loop::parse(text).is_err(), "{text}");
        }
    }
}
