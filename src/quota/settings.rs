//! What code passes where a user writes a rate limit.

use super::Part;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// One rate limit of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its name in answers, events and metrics: printable ASCII, since it stands in header fields.
    pub name: Arc<str>,
    /// What a bucket is for; empty: one bucket for all.
    pub key: Vec<Part>,
    /// What each bucket allows.
    pub rate: Rate,
    /// What is allowed instead for some values of the first part of the key.
    pub overrides: BTreeMap<Box<[u8]>, Rate>,
    /// Most buckets.
    pub keys_max: usize,
    /// Whether answers that pass say what is left.
    pub has_headers: bool,
}

/// How much a bucket allows. A number or time of zero counts as the least that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests in each `per`.
    pub requests: u32,
    /// The time that `requests` is about.
    pub per: Duration,
    /// Requests that may come at once.
    pub burst: u32,
}

/// The longest time in which a bucket fills up, in nanoseconds: 146 years. With it, no sum of times overflows.
const FILL_NS_MAX: u64 = 1 << 62;

impl Rate {
    /// The time for one more request, in nanoseconds: rounded up, so that never more than `requests` pass in `per`.
    /// At least 1: more than a request in each nanosecond cannot be told apart.
    pub(super) fn interval_ns(&self) -> u64 {
        let exact = self.per.as_nanos().div_ceil(u128::from(self.requests.max(1)));
        let most = FILL_NS_MAX / u64::from(self.burst.max(1));
        u64::try_from(exact).unwrap_or(u64::MAX).clamp(1, most)
    }

    /// Whether it is as written: from one request in each nanosecond, to buckets that fill up in 146 years.
    pub fn is_representable(&self) -> bool {
        let exact = self.per.as_nanos().div_ceil(u128::from(self.requests.max(1)));
        exact == u128::from(self.interval_ns()) && self.per.as_nanos() >= u128::from(self.requests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_never_allows_more_than_is_written() {
        let rate = |requests, per_ns, burst| Rate { requests, per: Duration::from_nanos(per_ns), burst };
        for (rate, want) in [
            (rate(100, 1_000_000_000, 100), 10_000_000),
            (rate(3, 1_000_000_000, 3), 333_333_334),
            (rate(u32::MAX, 1, 1), 1),
            (rate(0, 5, 0), 5),
        ] {
            assert_eq!(rate.interval_ns(), want, "{rate:?}");
        }
        assert!(rate(1_000_000_000, 1_000_000_000, 1).is_representable());
        assert!(!rate(1_000_000_001, 1_000_000_000, 1).is_representable(), "more than one in a nanosecond");
        let year = 365 * 24 * 3_600_000_000_000;
        assert!(rate(1, year, 100).is_representable());
        assert!(!rate(1, year, u32::MAX).is_representable(), "four billion years to fill up");
        assert!(rate(1, u64::MAX, u32::MAX).interval_ns() <= FILL_NS_MAX / u64::from(u32::MAX));
    }
}
