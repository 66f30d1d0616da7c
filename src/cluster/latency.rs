//! How long a cluster takes to answer: a histogram that forgets, for hedging after a quantile.
//!
//! Buckets are log-linear as in HdrHistogram: eight to each power of two, so a quantile is at most an eighth too long. The
//! counts are halved every ten seconds (the decay of balancing's average), by whoever comes first after that: what is
//! asked is what the cluster does now, and a time of day that was slow is forgotten in a minute. Counts are relaxed
//! atomics in sixteenths, so that what is halved does not vanish at low rates; what two workers lose to one another is a
//! few samples of thousands.
//!
//! The memory is taken, and anything written, once a route hedges to the cluster; the others pay one load.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Buckets to each power of two.
const STEPS: u64 = 8;
const STEPS_BITS: u32 = STEPS.trailing_zeros();
/// The longest time that is told from longer ones: 2^27 µs, about 134 s.
const LONGEST_BITS: u32 = 27;
const BUCKETS: usize = ((LONGEST_BITS - STEPS_BITS + 1) as usize) * STEPS as usize;
/// What a sample counts.
const SAMPLE: u32 = 16;
/// A count stays below this, so that sums fit; it is reached at some million answers a second.
const COUNT_MAX: u32 = 1 << 30;
const HALF_LIFE_NS: u64 = 10_000_000_000;
/// Samples before a quantile is told, whichever.
const SAMPLES_MIN: u64 = 20;

/// The times of a cluster's answers.
#[derive(Default)]
pub struct Latency(OnceLock<Box<Histogram>>);

struct Histogram {
    counts: [AtomicU32; BUCKETS],
    /// When the counts were halved last, in nanoseconds since the process started.
    halved_ns: AtomicU64,
}

impl Latency {
    /// Takes an answer's time into account. The first call takes the memory.
    pub fn observe(&self, time: Duration, now_ns: u64) {
        let histogram = self.0.get_or_init(|| {
            Box::new(Histogram {
                counts: [const { AtomicU32::new(0) }; BUCKETS],
                halved_ns: AtomicU64::new(now_ns),
            })
        });
        histogram.forget(now_ns);
        if let Some(count) = histogram.counts.get(bucket(time))
            && count.load(Relaxed) < COUNT_MAX
        {
            count.fetch_add(SAMPLE, Relaxed);
        }
    }

    /// The time within which so many thousandths of the answers came; `None` while there are too few to tell: at least
    /// 20, and for high quantiles so many that one is expected beyond.
    pub fn quantile(&self, thousandths: u32, now_ns: u64) -> Option<Duration> {
        let histogram = self.0.get()?;
        histogram.forget(now_ns);
        let total: u64 = histogram.counts.iter().map(|count| u64::from(count.load(Relaxed))).sum();
        let beyond = 1000u64.saturating_sub(u64::from(thousandths));
        let samples_min = 1000u64.checked_div(beyond)?.max(SAMPLES_MIN);
        if total < samples_min * u64::from(SAMPLE) {
            return None;
        }
        let mut left = total * beyond / 1000;
        for (index, count) in histogram.counts.iter().enumerate().rev() {
            let count = u64::from(count.load(Relaxed));
            if count > left {
                return Some(upper_end(index));
            }
            left -= count;
        }
        None
    }

    /// Whether anything was observed so far.
    pub fn is_used(&self) -> bool {
        self.0.get().is_some()
    }
}

impl Histogram {
    /// Halves the counts for each half-life that has passed.
    fn forget(&self, now_ns: u64) {
        let halved_ns = self.halved_ns.load(Relaxed);
        let halves = now_ns.saturating_sub(halved_ns) / HALF_LIFE_NS;
        if halves == 0 {
            return;
        }
        let next_ns = halved_ns + halves * HALF_LIFE_NS;
        // One of all the workers does it.
        if self.halved_ns.compare_exchange(halved_ns, next_ns, Relaxed, Relaxed).is_err() {
            return;
        }
        for count in &self.counts {
            let old = count.load(Relaxed);
            if old > 0 {
                let kept = old.checked_shr(u32::try_from(halves).unwrap_or(u32::MAX)).unwrap_or(0);
                count.store(kept, Relaxed);
            }
        }
    }
}

/// Where `time` is counted.
fn bucket(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min((1 << LONGEST_BITS) - 1);
    if micros < STEPS {
        return micros as usize;
    }
    let octave = micros.ilog2() - STEPS_BITS;
    ((u64::from(octave) * STEPS) + (micros >> octave)) as usize
}

/// The longest time that is counted there.
fn upper_end(bucket: usize) -> Duration {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return Duration::from_micros(bucket + 1);
    }
    let octave = bucket / STEPS - 1;
    Duration::from_micros((bucket % STEPS + STEPS + 1) << octave)
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latency").field("is_used", &self.is_used()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn ms(latency: &Latency, thousandths: u32, now_ns: u64) -> Option<u128> {
        latency.quantile(thousandths, now_ns).map(|time| time.as_millis())
    }

    #[test]
    fn nothing_is_told_of_too_few_answers() {
        let latency = Latency::default();
        assert!(!latency.is_used());
        assert_eq!(latency.quantile(950, 0), None);
        for _ in 0..19 {
            latency.observe(Duration::from_millis(10), 0);
        }
        assert_eq!(latency.quantile(950, 0), None);
        latency.observe(Duration::from_millis(10), 0);
        assert_eq!(ms(&latency, 950, 0), Some(10));
        assert_eq!(latency.quantile(990, 0), None, "none of 20 is expected beyond p99");
        assert_eq!(latency.quantile(1000, 0), None, "nothing is beyond all");
    }

    #[test]
    fn a_quantile_is_where_it_should_be() {
        let latency = Latency::default();
        for time in 1..=1000 {
            latency.observe(Duration::from_millis(time), 0);
        }
        for (thousandths, exact) in [(500, 500), (900, 900), (950, 950), (990, 990), (999, 999)] {
            let told = ms(&latency, thousandths, 0).unwrap() as u64;
            assert!((exact..=exact * 9 / 8 + 1).contains(&told), "p{thousandths} is {told}");
        }
    }

    #[test]
    fn what_was_is_forgotten() {
        let latency = Latency::default();
        for _ in 0..1000 {
            latency.observe(Duration::from_secs(1), 0);
        }
        for second in 0..60 {
            for _ in 0..100 {
                latency.observe(Duration::from_millis(1), second * SECOND_NS);
            }
        }
        assert!(ms(&latency, 950, 60 * SECOND_NS).unwrap() <= 2);
        assert_eq!(latency.quantile(950, 3600 * SECOND_NS), None, "an hour later nothing is known");
    }

    #[test]
    fn a_few_answers_a_second_are_enough() {
        let latency = Latency::default();
        for second in 0..60 {
            for _ in 0..3 {
                latency.observe(Duration::from_millis(5), second * SECOND_NS);
            }
        }
        assert_eq!(ms(&latency, 950, 60 * SECOND_NS), Some(5));
    }

    #[test]
    fn a_clock_that_goes_back_does_no_harm() {
        let latency = Latency::default();
        for _ in 0..20 {
            latency.observe(Duration::from_millis(5), 60 * SECOND_NS);
        }
        assert_eq!(ms(&latency, 950, 0), Some(5));
    }

    #[test]
    fn buckets_are_in_order_and_all_are_used() {
        let mut last = 0;
        for micros in 0..4096 {
            let found = bucket(Duration::from_micros(micros));
            assert!(found == last || found == last + 1, "{micros}");
            last = found;
        }
        assert!((0..64).all(|bits| bucket(Duration::from_micros(1 << bits)) < BUCKETS));
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    proptest! {
        #[test]
        fn a_time_is_within_an_eighth_of_its_bucket(micros in 0u64..(1 << LONGEST_BITS)) {
            let end = u64::try_from(upper_end(bucket(Duration::from_micros(micros))).as_micros()).unwrap();
            prop_assert!(end > micros && end <= micros + micros / 8 + 1, "{micros} is counted up to {end}");
        }
    }
}
