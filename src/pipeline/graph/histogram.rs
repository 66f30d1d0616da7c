//! Latencies of an edge: a log-linear histogram that can be merged.
//!
//! What: microseconds in buckets, sixteen to each power of two, so that the middle of a bucket is within 3.2 % of all that
//! is in it (the layout of HdrHistogram, <https://hdrhistogram.github.io/HdrHistogram/>). Up to 16 µs it is exact, what
//! takes longer than 19 hours counts as that. Kept are the buckets between the least and the largest that was met: some
//! hundred for an edge. Why not the buckets of the metrics: their first one ends at 5 ms. How it fails: it cannot; sums
//! that do not fit stay at their largest.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::time::Duration;

/// Buckets to a power of two, as a power of two.
const SUB_BITS: u32 = 4;
/// Values have at most so many bits.
const VALUE_BITS: u32 = 36;
/// All buckets.
const BUCKETS: usize = ((VALUE_BITS - SUB_BITS + 1) << SUB_BITS) as usize;

/// How long the calls of an edge took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    sum_us: u64,
    min_us: u64,
    max_us: u64,
    /// The bucket that `counts` begins with.
    first: usize,
    /// Empty, or with a number above 0 at both ends.
    counts: Vec<u64>,
}

fn bucket(micros: u64) -> usize {
    let micros = micros.min((1 << VALUE_BITS) - 1);
    if micros < 1 << SUB_BITS {
        return micros as usize;
    }
    let power = micros.ilog2();
    let sub = (micros >> (power - SUB_BITS)) & ((1 << SUB_BITS) - 1);
    (((power - SUB_BITS + 1) << SUB_BITS) as usize) + sub as usize
}

/// The least value of a bucket.
fn lower(bucket: usize) -> u64 {
    let (power, sub) = ((bucket >> SUB_BITS) as u32, (bucket & ((1 << SUB_BITS) - 1)) as u64);
    if power == 0 { sub } else { ((1 << SUB_BITS) + sub) << (power - 1) }
}

impl Histogram {
    /// Counts one duration.
    #[inline]
    pub fn observe(&mut self, duration: Duration) {
        self.observe_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts one duration in microseconds.
    #[inline]
    pub fn observe_micros(&mut self, micros: u64) {
        let is_first = self.counts.is_empty();
        self.min_us = if is_first { micros } else { self.min_us.min(micros) };
        self.max_us = self.max_us.max(micros);
        self.sum_us = self.sum_us.saturating_add(micros);
        self.add(bucket(micros), 1);
    }

    #[inline]
    fn add(&mut self, bucket: usize, count: u64) {
        let index = bucket.wrapping_sub(self.first);
        match self.counts.get_mut(index) {
            Some(here) => *here = here.saturating_add(count),
            None => self.widen(bucket, count),
        }
    }

    #[cold]
    fn widen(&mut self, bucket: usize, count: u64) {
        if self.counts.is_empty() {
            (self.first, self.counts) = (bucket, vec![count]);
        } else if let Some(missing) = self.first.checked_sub(bucket).filter(|missing| *missing > 0) {
            let before = std::iter::once(count).chain(std::iter::repeat_n(0, missing - 1));
            self.counts.splice(0..0, before);
            self.first = bucket;
        } else {
            self.counts.resize(bucket - self.first, 0);
            self.counts.push(count);
        }
    }

    /// Adds another one to this one.
    pub fn merge(&mut self, other: &Histogram) {
        if other.counts.is_empty() {
            return;
        }
        let is_first = self.counts.is_empty();
        self.min_us = if is_first { other.min_us } else { self.min_us.min(other.min_us) };
        self.max_us = self.max_us.max(other.max_us);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        // The ends first, so that the buckets are widened twice at most.
        self.add(other.first + other.counts.len() - 1, 0);
        self.add(other.first, 0);
        for (index, count) in other.counts.iter().enumerate() {
            self.add(other.first + index, *count);
        }
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The sum of all durations, in microseconds.
    pub fn sum_micros(&self) -> u64 {
        self.sum_us
    }

    /// How many took at most `micros`, but for the error of a bucket.
    pub fn count_to(&self, micros: u64) -> u64 {
        let end = bucket(micros).checked_sub(self.first).map_or(0, |index| index + 1);
        self.counts.iter().take(end).fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The average, in microseconds; `None` before the first one.
    pub fn mean(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.sum_us as f64 / count as f64)
    }

    /// How long the fastest `share` took at most (0.99: all but one in a hundred), in microseconds, within 3.2 %. `None`
    /// before the first one.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let rank = ((share * self.count() as f64).ceil() as u64).max(1);
        let mut before = 0_u64;
        for (index, count) in self.counts.iter().enumerate() {
            before = before.saturating_add(*count);
            if before >= rank {
                let (from, to) = (lower(self.first + index), lower(self.first + index + 1));
                let middle = (from + to.saturating_sub(1)) as f64 / 2.0;
                return Some(middle.clamp(self.min_us as f64, self.max_us.max(self.min_us) as f64));
            }
        }
        None
    }
}

/// A duration in milliseconds, to the microsecond.
pub(super) fn millis(micros: f64) -> f64 {
    micros.round() / 1000.0
}

/// What is written: the quantiles for people, the rest for merging.
#[derive(Serialize)]
struct Written<'a> {
    mean: Option<f64>,
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
    sum_us: u64,
    min_us: u64,
    max_us: u64,
    buckets: Buckets<'a>,
}

struct Buckets<'a>(&'a Histogram);

impl Serialize for Buckets<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let numbered = self.0.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        s.collect_seq(numbered.map(|(index, count)| (self.0.first + index, *count)))
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let quantile = |share| self.quantile(share).map(millis);
        let written = Written {
            mean: self.mean().map(millis),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            sum_us: self.sum_us,
            min_us: self.min_us,
            max_us: self.max_us,
            buckets: Buckets(self),
        };
        written.serialize(s)
    }
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Read {
    sum_us: u64,
    min_us: u64,
    max_us: u64,
    buckets: Vec<(usize, u64)>,
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let read = Read::deserialize(d)?;
        let mut histogram = Histogram::default();
        for (bucket, count) in read.buckets.into_iter().filter(|(_, count)| *count > 0) {
            if bucket >= BUCKETS {
                return Err(D::Error::custom(format!("bucket {bucket} of {BUCKETS}")));
            }
            histogram.add(bucket, count);
        }
        if !histogram.counts.is_empty() {
            (histogram.sum_us, histogram.min_us) = (read.sum_us, read.min_us);
            histogram.max_us = read.max_us.max(read.min_us);
        }
        Ok(histogram)
    }
}
