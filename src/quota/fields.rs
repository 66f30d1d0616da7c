//! The fields that tell callers about a limit: `RateLimit-Policy` and `RateLimit`, lists of structured fields
//! (RFC 9651), as in draft-ietf-httpapi-ratelimit-headers-11.
//!
//! `t` is the effective window: the seconds in which a caller can use no more than `r`. It is the time in which the
//! limit lets `r` requests through in the long run, and at least the time to the next one: so a caller that spreads
//! `r` over `t` keeps within the limit for ever, also after it was silent for long and `r` is a whole burst (section
//! 8.5 of the draft). There is no partition key: it could tell one caller about another.

use super::Rate;
use std::fmt::Write;
use std::time::Duration;

/// The largest number of a structured field (RFC 9651, section 3.3.1).
const INTEGER_MAX: u128 = 999_999_999_999_999;

/// The item of `RateLimit-Policy`: `"name";q=100;w=1`. Windows are whole seconds; other times are said as the number of
/// requests in the next longer one.
pub(super) fn policy(name: &str, rate: Rate) -> String {
    let per_ns = rate.per.as_nanos().max(1);
    let window_s = per_ns.div_ceil(1_000_000_000);
    let quota = u128::from(rate.requests).saturating_mul(window_s * 1_000_000_000) / per_ns;
    let mut item = text(name);
    let _ = write!(item, ";q={};w={}", quota.min(INTEGER_MAX), window_s.min(INTEGER_MAX));
    item
}

/// The item of `RateLimit`: `"name";r=12;t=1`.
pub(super) fn limit(name: &str, remaining: u32, window_s: u64) -> String {
    let mut item = text(name);
    let _ = write!(item, ";r={remaining};t={window_s}");
    item
}

/// The effective window of `remaining` requests, in seconds.
pub(super) fn window(remaining: u32, interval_ns: u64) -> u64 {
    seconds(Duration::from_nanos(interval_ns.saturating_mul(u64::from(remaining.max(1)))))
}

/// Whole seconds, rounded up, and at least 1: whoever comes after them does not come too early.
pub(super) fn seconds(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}

/// A string of a structured field. What it cannot hold becomes `?`; names that need that are refused beforehand.
fn text(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len() + 16);
    quoted.push('"');
    for char in name.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            ' '..='~' => quoted.push(char),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_said_in_whole_seconds() {
        for (requests, per_ms, want) in [
            (100, 1000, r#""n";q=100;w=1"#),
            (10, 60_000, r#""n";q=10;w=60"#),
            (10, 250, r#""n";q=40;w=1"#),
            (10, 1500, r#""n";q=13;w=2"#),
            (u32::MAX, 1, r#""n";q=4294967295000;w=1"#),
        ] {
            let rate = Rate { requests, per: Duration::from_millis(per_ms), burst: 1 };
            assert_eq!(policy("n", rate), want);
        }
        let most = Rate { requests: u32::MAX, per: Duration::from_nanos(1), burst: 1 };
        assert_eq!(policy("n", most), r#""n";q=999999999999999;w=1"#, "as much as the field can hold");
    }

    #[test]
    fn names_are_strings_of_structured_fields() {
        for (name, want) in [
            ("account_id", r#""account_id""#),
            ("a b", r#""a b""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("a\nbü", r#""a?b?""#),
        ] {
            assert_eq!(text(name), want);
        }
    }

    #[test]
    fn the_window_is_what_the_rest_takes_in_the_long_run() {
        let ms = 1_000_000;
        for (remaining, interval_ns, want) in [
            (99, 10 * ms, 1),   // 100 a second
            (0, 10 * ms, 1),    // the next one is due in 10 ms, and a second is the shortest
            (99, 600 * ms, 60), // 100 a minute: 99 at once, and no more than that in a minute
            (10, 600 * ms, 6),
            (0, 90_000 * ms, 90), // 40 an hour
            (u32::MAX, u64::MAX, 18_446_744_074),
        ] {
            assert_eq!(window(remaining, interval_ns), want, "{remaining} {interval_ns}");
        }
        assert_eq!(limit("n", 12, 1), r#""n";r=12;t=1"#);
        assert_eq!(seconds(Duration::from_millis(1001)), 2);
        assert_eq!(seconds(Duration::from_secs(2)), 2);
        assert_eq!(seconds(Duration::ZERO), 1);
    }
}
