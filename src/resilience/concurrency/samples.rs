//! Latencies, counted in buckets: by every worker at once, and by the one who looks at them.
//!
//! Buckets are log-linear (16 in each power of two, as in Tene's HdrHistogram), so a percentile is wrong by 3 % at most
//! and a sample costs two relaxed additions on a shard that few threads share.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Buckets in each power of two.
const STEPS: u64 = 16;
/// The unit: 1,024 ns. What is shorter is the same.
const UNIT_SHIFT: u32 = 10;
/// The longest latency that is told apart, in units: 2²⁷, about 137 s.
const UNITS_MAX: u64 = (1 << 27) - 1;
const BUCKETS: usize = 24 * STEPS as usize;
/// Threads beyond these share.
const SHARDS: usize = 8;

fn bucket_of(latency_ns: u64) -> usize {
    let units = (latency_ns >> UNIT_SHIFT).min(UNITS_MAX);
    if units < STEPS {
        return units as usize;
    }
    let exponent = u64::from(units.ilog2());
    ((exponent - 3) * STEPS + ((units >> (exponent - 4)) & (STEPS - 1))) as usize
}

/// Where a bucket begins, in nanoseconds.
fn start_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let units = match bucket / STEPS {
        0 => bucket,
        power => (STEPS + bucket % STEPS) << (power - 1),
    };
    units << UNIT_SHIFT
}

/// Counts of one owner.
#[derive(Debug)]
pub(super) struct Histogram {
    counts: Box<[u32]>,
    total: u64,
}

impl Histogram {
    pub(super) fn new() -> Histogram {
        Histogram { counts: vec![0; BUCKETS].into(), total: 0 }
    }

    pub(super) fn add(&mut self, latency_ns: u64) {
        self.add_many(bucket_of(latency_ns), 1);
    }

    fn add_many(&mut self, bucket: usize, count: u32) {
        if let Some(own) = self.counts.get_mut(bucket) {
            *own = own.saturating_add(count);
            self.total += u64::from(count);
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.total
    }

    pub(super) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }

    /// The latency that `percent` of the samples are below, in nanoseconds; `None` without samples.
    pub(super) fn percentile(&self, percent: u32) -> Option<u64> {
        if self.total == 0 {
            return None;
        }
        let rank = self.total as f64 * f64::from(percent) / 100.0;
        let mut below = 0.0;
        for (bucket, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = f64::from(*count);
            if below + count >= rank {
                let (start, end) = (start_of(bucket), start_of(bucket + 1));
                return Some(start + ((end - start) as f64 * (rank - below) / count) as u64);
            }
            below += count;
        }
        None
    }
}

/// What all workers count into.
#[derive(Debug)]
pub struct Samples {
    shards: Box<[Shard]>,
    /// Requests that began before this moment are not looked at: they saw another limit.
    epoch_ns: AtomicU64,
}

#[derive(Debug)]
#[repr(align(64))]
struct Shard {
    counts: [AtomicU32; BUCKETS],
}

thread_local! {
    /// This thread's shard, in every set of samples.
    static SHARD: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed) % SHARDS
    };
}

impl Samples {
    /// No samples yet.
    pub fn new() -> Samples {
        let shard = || Shard { counts: [const { AtomicU32::new(0) }; BUCKETS] };
        Samples { shards: (0..SHARDS).map(|_| shard()).collect(), epoch_ns: AtomicU64::new(0) }
    }

    /// Counts a request that began at `began_ns` and was answered after `latency_ns`.
    #[inline]
    pub fn add(&self, began_ns: u64, latency_ns: u64) {
        let Some(shard) = self.shards.get(SHARD.try_with(|shard| *shard).unwrap_or(0)) else { return };
        if began_ns >= self.epoch_ns.load(Relaxed)
            && let Some(count) = shard.counts.get(bucket_of(latency_ns))
        {
            count.fetch_add(1, Relaxed);
        }
    }

    /// From now on, what began earlier is not looked at.
    pub(super) fn set_epoch(&self, epoch_ns: u64) {
        self.epoch_ns.store(epoch_ns, Relaxed);
    }

    /// Moves all counts into `histogram`.
    pub(super) fn drain(&self, histogram: &mut Histogram) {
        for shard in &self.shards {
            for (bucket, count) in shard.counts.iter().enumerate() {
                if count.load(Relaxed) > 0 {
                    histogram.add_many(bucket, count.swap(0, Relaxed));
                }
            }
        }
    }
}

impl Default for Samples {
    fn default() -> Self {
        Samples::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_the_range_without_a_gap() {
        for bucket in 0..BUCKETS {
            assert_eq!(bucket_of(start_of(bucket)), bucket);
            assert_eq!(bucket_of(start_of(bucket + 1) - 1), bucket);
        }
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_percentile_is_right_within_a_bucket() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.percentile(50), None);
        for ms in 1..=1000u64 {
            histogram.add(ms * 1_000_000);
        }
        for percent in [1, 10, 50, 90, 99] {
            let found = histogram.percentile(percent).unwrap() as f64;
            let exact = f64::from(percent) * 10e6;
            assert!((found / exact - 1.0).abs() < 0.05, "p{percent}: {found} for {exact}");
        }
        histogram.clear();
        assert_eq!((histogram.len(), histogram.percentile(50)), (0, None));
    }

    #[test]
    fn what_began_before_the_epoch_does_not_count() {
        let samples = Samples::new();
        samples.set_epoch(100);
        samples.add(99, 5_000_000);
        samples.add(100, 5_000_000);
        let mut histogram = Histogram::new();
        samples.drain(&mut histogram);
        samples.drain(&mut histogram);
        assert_eq!(histogram.len(), 1);
    }

    #[test]
    fn threads_lose_nothing() {
        let samples = Samples::new();
        std::thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| (0..1000).for_each(|ns| samples.add(0, ns * 1000)));
            }
        });
        let mut histogram = Histogram::new();
        samples.drain(&mut histogram);
        assert_eq!(histogram.len(), 12_000);
    }
}
