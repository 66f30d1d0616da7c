//! Which entries are meant.

use super::unhex;
use crate::exchange::Direction;
use crate::record::{Entry, Query, Recording};
use crate::units::moment;
use crate::units::parse_duration;
use clap::Args;
use std::ops::RangeInclusive;

pub(super) const TIMES: &str = "\
Times: 2026-11-23T10:00:00Z, or +30s (behind the recording's begin), or -5m (before its end).
Status: 404, 5xx, 400-499, or 0 for exchanges without an answer.";

/// Filters; those that are given must all hold.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Filter {
    /// Exchanges that began then or later
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = Time::parse)]
    from: Option<Time>,
    /// Exchanges that began before
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = Time::parse)]
    until: Option<Time>,
    /// Of this account
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// Of this user
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Of this route
    #[arg(long, value_name = "ROUTE")]
    route: Option<String>,
    /// Of this trace
    #[arg(long, value_name = "TRACE-ID", value_parser = trace)]
    trace: Option<[u8; 16]>,
    /// With this status
    #[arg(long, value_name = "STATUS", value_parser = Statuses::parse)]
    status: Option<Statuses>,
    /// On this side of the application
    #[arg(long, value_name = "DIRECTION", value_parser = direction)]
    direction: Option<Direction>,
}

/// A moment, maybe of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    At(u64),
    BehindBegin(u64),
    BeforeEnd(u64),
}

impl Time {
    fn parse(text: &str) -> Result<Time, String> {
        let nanos = |text: &str| {
            let duration = parse_duration(text)?;
            u64::try_from(duration.as_nanos()).map_err(|_| format!("{text} is too long"))
        };
        if let Some(text) = text.strip_prefix('+') {
            return nanos(text).map(Time::BehindBegin);
        }
        if let Some(text) = text.strip_prefix('-') {
            return nanos(text).map(Time::BeforeEnd);
        }
        moment::parse(text)
            .map(Time::At)
            .ok_or_else(|| "write a time as in 2026-11-23T10:00:00Z, +30s or -5m".into())
    }

    fn resolve(self, [first_ns, last_ns]: [u64; 2]) -> u64 {
        match self {
            Time::At(at) => at,
            Time::BehindBegin(ns) => first_ns.saturating_add(ns),
            Time::BeforeEnd(ns) => last_ns.saturating_sub(ns),
        }
    }
}

/// Statuses that are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Statuses(RangeInclusive<u16>);

impl Statuses {
    fn parse(text: &str) -> Result<Statuses, String> {
        let wrong = || format!("`{text}` is no status: write 404, 5xx or 400-499");
        let number = |text: &str| text.parse::<u16>().map_err(|_| wrong());
        if let Some(class) = text.strip_suffix("xx") {
            let class = number(class).ok().filter(|class| (1..=9).contains(class)).ok_or_else(wrong)?;
            return Ok(Statuses(class * 100..=class * 100 + 99));
        }
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        Ok(Statuses(number(from)?..=number(to)?))
    }
}

fn trace(text: &str) -> Result<[u8; 16], String> {
    unhex(text).ok_or_else(|| "a trace id has 32 hexadecimal digits".into())
}

fn direction(text: &str) -> Result<Direction, String> {
    match text {
        "inbound" => Ok(Direction::Inbound),
        "outbound" => Ok(Direction::Outbound),
        _ => Err("write inbound or outbound".into()),
    }
}

/// When the first and the last entry began.
pub(super) fn bounds(recording: &Recording) -> [u64; 2] {
    let (mut first_ns, mut last_ns) = (u64::MAX, 0);
    let mut add = |from: u64, to: u64| {
        first_ns = first_ns.min(from);
        last_ns = last_ns.max(to);
    };
    let is_indexed = recording.segments().iter().all(|segment| segment.blocks.is_some());
    if is_indexed {
        for block in recording.segments().iter().filter_map(|segment| segment.blocks.as_ref()).flatten() {
            if block.entries > 0 {
                add(block.first_ns, block.last_ns);
            }
        }
    } else {
        recording
            .entries(&Query::default())
            .flatten()
            .for_each(|entry| add(entry.started_ns, entry.started_ns));
    }
    if first_ns > last_ns { [0, 0] } else { [first_ns, last_ns] }
}

/// A filter for one recording.
pub(super) struct Wanted {
    pub query: Query,
    statuses: Option<Statuses>,
}

impl Wanted {
    /// Whether what the query found is meant.
    pub fn matches(&self, entry: &Entry) -> bool {
        self.statuses.as_ref().is_none_or(|statuses| statuses.0.contains(&entry.status))
    }
}

impl Filter {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        let texts = [&self.account, &self.user, &self.route];
        texts.iter().all(|text| text.is_none())
            && [self.from, self.until].iter().all(Option::is_none)
            && self.trace.is_none()
            && self.status.is_none()
            && self.direction.is_none()
    }

    /// The filter with the recording's own times.
    pub fn of(&self, recording: &Recording) -> Wanted {
        let is_relative = [self.from, self.until].iter().flatten().any(|time| !matches!(time, Time::At(_)));
        let bounds = if is_relative { bounds(recording) } else { [0, 0] };
        Wanted {
            query: Query {
                from_ns: self.from.map(|time| time.resolve(bounds)),
                until_ns: self.until.map(|time| time.resolve(bounds)),
                trace_id: self.trace,
                account_id: self.account.clone(),
                user_id: self.user.clone(),
                route: self.route.clone(),
                direction: self.direction,
            },
            statuses: self.status.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_the_clock_or_of_the_recording() {
        let bounds = [1_000_000_000_000, 2_000_000_000_000];
        for (text, want) in [
            ("+30s", Some(1_030_000_000_000)),
            ("-5m", Some(1_700_000_000_000)),
            ("1970-01-01T00:00:01Z", Some(1_000_000_000)),
            ("30s", None),
            ("yesterday", None),
            ("+", None),
        ] {
            assert_eq!(Time::parse(text).ok().map(|time| time.resolve(bounds)), want, "{text}");
        }
    }

    #[test]
    fn statuses_are_one_a_class_or_a_range() {
        for (text, want) in [
            ("404", Some(404..=404)),
            ("5xx", Some(500..=599)),
            ("400-499", Some(400..=499)),
            ("0", Some(0..=0)),
            ("0xx", None),
            ("99999xx", None),
            ("teapot", None),
        ] {
            assert_eq!(Statuses::parse(text).ok().map(|statuses| statuses.0), want, "{text}");
        }
    }
}
