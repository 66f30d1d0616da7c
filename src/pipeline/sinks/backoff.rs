//! How long a sink that failed is left alone.
//!
//! What: 100 ms, then 1.5 times as long each time, at most 30 s (the OpenTelemetry Collector's exporters: 5 s, 1.5, 30 s;
//! they give up after 5 minutes, this never does), half of it random so that many sidecars do not come back at once. Where
//! the other side says when (Retry-After), then, but within five minutes.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(30);
const ASKED_MAX: Duration = Duration::from_secs(300);

/// The pauses between attempts.
pub(super) struct Backoff {
    pause: Duration,
}

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff { pause: FIRST }
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.pause = FIRST;
    }

    /// The next pause. `asked`: what the other side said.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let pause = self.pause;
        self.pause = pause.mul_f64(1.5).min(LAST);
        // The standard library's hasher has keys that nobody knows: enough of a die.
        let die = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
        let jittered = pause.mul_f64(0.5 + die / 2.0);
        asked.map_or(jittered, |asked| asked.min(ASKED_MAX).max(jittered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_obey_the_other_side() {
        let mut backoff = Backoff::new();
        let pauses: Vec<Duration> = (0..30).map(|_| backoff.next(None)).collect();
        assert!(pauses[0] >= FIRST / 2 && pauses[0] <= FIRST);
        assert!(pauses[29] >= LAST / 2 && pauses[29] <= LAST);
        assert_eq!(backoff.next(Some(Duration::from_secs(60))), Duration::from_secs(60));
        assert_eq!(backoff.next(Some(Duration::from_secs(86_400))), ASKED_MAX);
        backoff.reset();
        assert!(backoff.next(None) <= FIRST);
    }
}
