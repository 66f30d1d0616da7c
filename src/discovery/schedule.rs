//! When a source is asked again.

use super::Found;
use std::time::Duration;

/// Even a record with a time to live of 0 is not asked for more often.
const TTL_MIN: Duration = Duration::from_secs(1);
/// Even a record that holds for a day is asked for this often: the day is rarely meant.
const TTL_MAX: Duration = Duration::from_secs(300);
/// The wait after the first failure; it doubles with each further one.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest wait between tries.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The wait after each answer.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    refresh: Option<Duration>,
    retry: Option<Duration>,
}

impl Schedule {
    /// A fixed time between good answers, or `None` for their time to live.
    pub(super) fn every(refresh: Option<Duration>) -> Schedule {
        Schedule { refresh, retry: None }
    }

    /// How long to wait after `found`; `None`: it holds for ever.
    pub(super) fn next(&mut self, found: &Found) -> Option<Duration> {
        if found.problem.is_some() {
            let retry = self.retry.map_or(RETRY_MIN, |last| (last * 2).min(RETRY_MAX));
            self.retry = Some(retry);
            return self.retry;
        }
        self.retry = None;
        let ttl = found.ttl?.clamp(TTL_MIN, TTL_MAX);
        Some(self.refresh.unwrap_or(ttl))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn good(ttl: Option<Duration>) -> Found {
        Found { ttl, ..Found::default() }
    }

    #[test]
    fn the_time_to_live_counts_within_bounds() {
        let mut schedule = Schedule::default();
        assert_eq!(schedule.next(&good(Some(secs(0)))), Some(secs(1)));
        assert_eq!(schedule.next(&good(Some(secs(30)))), Some(secs(30)));
        assert_eq!(schedule.next(&good(Some(secs(86_400)))), Some(secs(300)));
        assert_eq!(schedule.next(&good(None)), None);
        assert_eq!(Schedule::every(Some(secs(7))).next(&good(Some(secs(30)))), Some(secs(7)));
    }

    #[test]
    fn failures_back_off_and_a_success_starts_over() {
        let mut schedule = Schedule::every(Some(secs(60)));
        let bad = Found::nothing("SERVFAIL".into());
        let waits: Vec<_> = (0..7).map(|_| schedule.next(&bad).unwrap().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        schedule.next(&good(Some(secs(5))));
        assert_eq!(schedule.next(&bad), Some(secs(1)));
    }
}
