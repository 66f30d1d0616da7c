//! The load of an endpoint: what is under way, and a peak EWMA of its times to answer.
//!
//! The average is an exponentially weighted one, decay 10 s, that a slower answer replaces at once (hence "peak") and a
//! faster one only pulls down slowly. It fades while there is no answer, so an endpoint that was slow or failed is tried
//! again. Sources: Finagle's `PeakEwma` (the algorithm), tower's `peak_ewma` and linkerd2-proxy (decay 10 s).
//!
//! The average is two relaxed atomics; two workers that write at once lose one sample of the two.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// Time in which the weight of an answer falls to 1/e, in nanoseconds.
const DECAY_NS: f64 = 10e9;

/// The start of the clock that everything about endpoints is dated by.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the process started.
#[inline]
pub fn clock_ns(now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(*EPOCH).as_nanos()).unwrap_or(u64::MAX)
}

/// The load of an endpoint, written by every worker.
#[derive(Debug, Default)]
pub struct Load {
    /// Exchanges that are under way.
    pub in_flight: AtomicU32,
    /// The bits of the average, in nanoseconds; 0 before the first answer.
    cost: AtomicU64,
    /// When `cost` was written, in nanoseconds since the process started.
    cost_at: AtomicU64,
}

impl Load {
    /// Takes `time` into the average.
    #[inline]
    pub fn observe(&self, time: Duration, now_ns: u64) {
        // Zero says that there is no answer yet.
        let sample = (time.as_nanos() as f64).max(1.0);
        let cost = f64::from_bits(self.cost.load(Relaxed));
        let cost_at = self.cost_at.load(Relaxed);
        let cost = if sample >= cost {
            sample
        } else {
            let old = fading(now_ns.saturating_sub(cost_at));
            cost * old + sample * (1.0 - old)
        };
        self.cost.store(cost.to_bits(), Relaxed);
        // What is told late does not make the average older than it is: it would have faded at once.
        self.cost_at.store(now_ns.max(cost_at), Relaxed);
    }

    /// The average in nanoseconds and when it was written, in nanoseconds since the process started; `None` before the
    /// first answer.
    #[inline]
    pub fn cost(&self) -> Option<(f64, u64)> {
        let cost = f64::from_bits(self.cost.load(Relaxed));
        (cost > 0.0).then(|| (cost, self.cost_at.load(Relaxed)))
    }

    /// The average, faded since it was written; `None` before the first answer.
    pub fn average(&self, now_ns: u64) -> Option<Duration> {
        let (cost, at_ns) = self.cost()?;
        Some(Duration::from_nanos((cost * fading(now_ns.saturating_sub(at_ns))) as u64))
    }
}

/// What is left of an average after so long.
#[inline]
pub fn fading(elapsed_ns: u64) -> f64 {
    if elapsed_ns == 0 { 1.0 } else { (-(elapsed_ns as f64) / DECAY_NS).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn ms(load: &Load, now_ns: u64) -> u128 {
        load.average(now_ns).unwrap().as_millis()
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_fast_ones_pull_down_slowly() {
        let load = Load::default();
        assert_eq!(load.average(0), None);
        load.observe(Duration::from_millis(10), 0);
        assert_eq!(ms(&load, 0), 10);
        load.observe(Duration::from_millis(500), SECOND_NS);
        assert_eq!(ms(&load, SECOND_NS), 500, "the peak replaces the average");
        load.observe(Duration::from_millis(10), 2 * SECOND_NS);
        // 500 × e^-0.1 + 10 × (1 - e^-0.1)
        assert_eq!(ms(&load, 2 * SECOND_NS), 453);
    }

    #[test]
    fn an_average_fades_without_answers() {
        let load = Load::default();
        load.observe(Duration::from_millis(1000), 0);
        assert_eq!(ms(&load, 10 * SECOND_NS), 367, "1/e after the decay time");
        assert_eq!(ms(&load, 100 * SECOND_NS), 0);
    }

    #[test]
    fn a_clock_that_goes_back_does_no_harm() {
        let load = Load::default();
        load.observe(Duration::from_millis(10), SECOND_NS);
        load.observe(Duration::from_millis(1), 0);
        assert_eq!(ms(&load, 0), 10);
        assert_eq!(ms(&load, SECOND_NS), 10, "nor does what is told late");
    }
}
