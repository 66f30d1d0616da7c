//! When a source that answers questions is asked again.
//!
//! Every wait has a random part, so that the proxies of a mesh, which start together, do not ask together for ever.

use super::Found;
use crate::cluster::Cluster;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Even a record with a time to live of 0 is not asked for more often.
const TTL_MIN: Duration = Duration::from_secs(1);
/// Even a record that holds for a day is asked for this often: the day is rarely meant.
const TTL_MAX: Duration = Duration::from_secs(300);
/// The wait after the first failure; it doubles with each further one.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest wait between tries, without its random part.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Most that is added to the wait after a good answer: what is known is a little out of date anyway.
const JITTER_PERCENT: u32 = 10;
/// Most that is added to the wait after a failure: a server that comes back must not be asked by all at once.
const RETRY_JITTER_PERCENT: u32 = 50;

/// The waits between answers.
#[derive(Debug, Default)]
struct Waits {
    refresh: Option<Duration>,
    retry: Option<Duration>,
}

impl Waits {
    /// How long to wait after `found`; `None`: it holds for ever. `random` decides the random part.
    fn next(&mut self, found: &Found, random: u64) -> Option<Duration> {
        if found.problem.is_some() {
            let retry = self.retry.map_or(RETRY_MIN, |last| (last * 2).min(RETRY_MAX));
            self.retry = Some(retry);
            return Some(with_jitter(retry, RETRY_JITTER_PERCENT, random));
        }
        self.retry = None;
        let ttl = found.ttl?.clamp(TTL_MIN, TTL_MAX);
        Some(with_jitter(self.refresh.unwrap_or(ttl), JITTER_PERCENT, random))
    }
}

/// `time` and up to `percent` of it.
fn with_jitter(time: Duration, percent: u32, random: u64) -> Duration {
    let part = (random >> 11) as f64 / (1u64 << 53) as f64; // 0 to 1, by the bits that a double can hold
    time.saturating_add(time.mul_f64(part * f64::from(percent) / 100.0))
}

/// When a source is asked next.
#[derive(Debug)]
pub(super) struct Schedule {
    waits: Waits,
    due: Due,
    /// Whose random numbers decide.
    cluster: Arc<Cluster>,
}

#[derive(Debug)]
enum Due {
    Now,
    At(Instant),
    Never,
}

impl Schedule {
    /// Due at once; then after a fixed time, or after the answers' time to live.
    pub(super) fn new(refresh: Option<Duration>, cluster: Arc<Cluster>) -> Schedule {
        Schedule { waits: Waits { refresh, retry: None }, due: Due::Now, cluster }
    }

    /// Waits until the source is to be asked; `None`: its answer holds for ever.
    pub(super) async fn wait(&self) -> Option<()> {
        match self.due {
            Due::Now => {}
            Due::At(time) => tokio::time::sleep_until(time).await,
            Due::Never => return None,
        }
        Some(())
    }

    /// Whether the source is to be asked now.
    pub(super) fn is_due(&self) -> bool {
        match self.due {
            Due::Now => true,
            Due::At(time) => time <= Instant::now(),
            Due::Never => false,
        }
    }

    /// The source is to be asked now, whatever it said before.
    pub(super) fn start_over(&mut self) {
        self.due = Due::Now;
    }

    /// Takes note of an answer.
    pub(super) fn settle(&mut self, found: &Found) {
        let wait = self.waits.next(found, self.cluster.random());
        self.due = wait.map_or(Due::Never, |wait| Due::At(Instant::now() + wait));
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
        let mut waits = Waits::default();
        assert_eq!(waits.next(&good(Some(secs(0))), 0), Some(secs(1)));
        assert_eq!(waits.next(&good(Some(secs(30))), 0), Some(secs(30)));
        assert_eq!(waits.next(&good(Some(secs(86_400))), 0), Some(secs(300)));
        assert_eq!(waits.next(&good(None), 0), None);
        let mut fixed = Waits { refresh: Some(secs(7)), retry: None };
        assert_eq!(fixed.next(&good(Some(secs(30))), 0), Some(secs(7)));
    }

    #[test]
    fn failures_back_off_and_a_success_starts_over() {
        let mut waits = Waits { refresh: Some(secs(60)), retry: None };
        let bad = Found::nothing("SERVFAIL".into());
        let seconds: Vec<_> = (0..7).map(|_| waits.next(&bad, 0).unwrap().as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
        waits.next(&good(Some(secs(5))), 0);
        assert_eq!(waits.next(&bad, 0), Some(secs(1)));
    }

    #[test]
    fn proxies_that_start_together_do_not_ask_together() {
        let (mut waits, answer) = (Waits::default(), good(Some(secs(100))));
        let least = waits.next(&answer, 0).unwrap();
        let middle = waits.next(&answer, u64::MAX / 2).unwrap();
        let most = waits.next(&answer, u64::MAX).unwrap();
        assert_eq!(least, secs(100), "never before its time");
        assert!(middle > secs(104) && middle < secs(106), "{middle:?}");
        assert!(most > secs(109) && most <= secs(110), "{most:?}");
        let retry = Waits::default().next(&Found::nothing("SERVFAIL".into()), u64::MAX).unwrap();
        assert!(retry > Duration::from_millis(1499) && retry <= Duration::from_millis(1500), "{retry:?}");
    }
}
