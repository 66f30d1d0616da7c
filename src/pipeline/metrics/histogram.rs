//! A histogram with fixed bounds and one writer.
//!
//! What: counts of observations by bucket, and their sum, as relaxed atomics that one worker writes (a load, an add and
//! a store, no locked instruction) and the scraper reads. Why: at one observation for each exchange a shared counter
//! would bounce between the cores. How it fails: a second writer would lose counts; the registry gives each worker
//! cells of its own. The count is the sum of the buckets, so `+Inf` and `_count` always agree in a scrape; `_sum` may
//! be one observation ahead or behind.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// OpenTelemetry's bounds of `http.server.request.duration`, in nanoseconds
/// (<https://opentelemetry.io/docs/specs/semconv/http/http-metrics/>).
pub const DURATION_BOUNDS: [u64; 14] = [
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
];

/// Bounds of content sizes in bytes: powers of four from 256 B to 16 MiB, and none at all.
pub const SIZE_BOUNDS: [u64; 10] =
    [0, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20];

/// How many buckets the larger of the two has, `+Inf` included.
pub const BUCKETS_MAX: usize = DURATION_BOUNDS.len() + 1;

/// Durations: [`DURATION_BOUNDS`] and `+Inf`.
pub type Durations = Histogram<{ DURATION_BOUNDS.len() + 1 }>;
/// Sizes: [`SIZE_BOUNDS`] and `+Inf`.
pub type Sizes = Histogram<{ SIZE_BOUNDS.len() + 1 }>;

/// Observations in `BUCKETS` buckets, the last of which is `+Inf`.
pub struct Histogram<const BUCKETS: usize> {
    bounds: &'static [u64],
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

/// Adds to a counter that only this thread writes.
#[inline]
pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

impl Durations {
    /// An empty histogram of durations.
    pub fn durations() -> Durations {
        Histogram::new(&DURATION_BOUNDS)
    }

    /// The position of the bucket that a duration falls into.
    pub(super) fn bucket_of(nanos: u64) -> usize {
        DURATION_BOUNDS.iter().take_while(|bound| nanos > **bound).count()
    }

    /// Counts one duration; 584 years and more count as that.
    #[inline]
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }
}

impl Sizes {
    /// An empty histogram of sizes.
    pub fn sizes() -> Sizes {
        Histogram::new(&SIZE_BOUNDS)
    }
}

impl<const BUCKETS: usize> Histogram<BUCKETS> {
    fn new(bounds: &'static [u64]) -> Self {
        Histogram { bounds, buckets: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0) }
    }

    /// Counts one value. For the one writer only.
    #[inline]
    pub fn observe(&self, value: u64) {
        // Most values lie in the first buckets, where a scan is shorter than a binary search.
        let index = self.bounds.iter().take_while(|bound| value > **bound).count();
        if let Some(bucket) = self.buckets.get(index) {
            add(bucket, 1);
        }
        add(&self.sum, value);
    }

    /// Adds what was counted so far to `total`.
    pub fn collect(&self, total: &mut Totals) {
        total.bounds = self.bounds;
        for (sum, bucket) in total.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
        total.sum = total.sum.wrapping_add(self.sum.load(Ordering::Relaxed));
    }
}

/// The sum of several histograms with the same bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The upper bounds, without `+Inf`.
    pub bounds: &'static [u64],
    /// Observations in each bucket, not cumulative.
    pub buckets: [u64; BUCKETS_MAX],
    /// The sum of all values.
    pub sum: u64,
}

impl Totals {
    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds another sum to this one.
    pub fn merge(&mut self, other: &Totals) {
        self.bounds = other.bounds;
        for (sum, bucket) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += bucket;
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_what_is_larger_to_infinity() {
        let sizes = Sizes::sizes();
        for value in [0, 1, 256, 257, 16 << 20, (16 << 20) + 1] {
            sizes.observe(value);
        }
        let mut totals = Totals::default();
        sizes.collect(&mut totals);
        assert_eq!(totals.buckets[..11], [1, 2, 1, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(totals.count(), 6);
        assert_eq!(totals.sum, 1 + 256 + 257 + (16 << 20) + (16 << 20) + 1);
    }

    #[test]
    fn durations_have_the_standard_buckets() {
        let durations = Durations::durations();
        durations.observe_duration(Duration::from_millis(5));
        durations.observe_duration(Duration::from_millis(6));
        durations.observe_duration(Duration::from_secs(11));
        durations.observe_duration(Duration::MAX);
        let mut totals = Totals::default();
        durations.collect(&mut totals);
        assert_eq!((totals.buckets[0], totals.buckets[1], totals.buckets[14]), (1, 1, 2));
    }
}
