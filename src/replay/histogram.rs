//! Durations, counted in a log-linear histogram: 1 µs to 1 h.
//!
//! Why an own one: each row of the result (route, account, second) has its own, most stay small, and they are merged
//! once a second across threads. The layout is that of HDR histograms (<http://hdrhistogram.org/>): below
//! 2^(digits+1) µs each value has its own counter, above it each doubling is cut into 2^digits of them, so that a value
//! is known to 1/2^digits. How it fails: longer than an hour is counted as an hour.

use serde::{Deserialize, Serialize};

/// The longest that is told apart.
const LONGEST_US: u64 = 3_600_000_000;

/// Three decimal digits: 1/1024.
const FINE: u32 = 10;

/// About 3 %: for the seconds of a run, of which there are many.
const COARSE: u32 = 5;

/// Counts of durations.
#[derive(Clone, Debug)]
pub struct Histogram {
    bits: u32,
    counts: Vec<u64>,
    count: u64,
    sum_us: u64,
    max_us: u64,
    min_us: u64,
}

/// What a histogram says, for a table or a page. Microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many durations.
    pub count: u64,
    /// The shortest; 0 without any.
    pub min_us: u64,
    /// Their mean.
    pub mean_us: f64,
    /// The longest.
    pub max_us: u64,
    /// Percentile (0 to 100) and duration: 0, 50, 75, 90, 95, 99, 99.9, 99.99, 99.999 and 100.
    pub percentiles: Vec<(f64, u64)>,
}

/// The percentiles of a [`Summary`].
pub const PERCENTILES: [f64; 10] = [0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 99.999, 100.0];

impl Default for Histogram {
    fn default() -> Self {
        Histogram::with_bits(FINE)
    }
}

impl Histogram {
    /// An empty one that knows values to about 3 %.
    pub fn coarse() -> Histogram {
        Histogram::with_bits(COARSE)
    }

    fn with_bits(bits: u32) -> Histogram {
        Histogram { bits, counts: Vec::new(), count: 0, sum_us: 0, max_us: 0, min_us: u64::MAX }
    }

    /// Counts a duration of so many nanoseconds.
    pub fn record_ns(&mut self, duration_ns: u64) {
        self.record_us(duration_ns.div_ceil(1_000));
    }

    /// Counts a duration.
    pub fn record_us(&mut self, duration_us: u64) {
        let us = duration_us.min(LONGEST_US);
        let index = self.index(us);
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
        }
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        self.max_us = self.max_us.max(us);
        self.min_us = self.min_us.min(us);
    }

    fn index(&self, us: u64) -> usize {
        let width = u64::BITS - us.leading_zeros();
        let shift = width.saturating_sub(self.bits + 1);
        ((u64::from(shift) << self.bits) + (us >> shift)) as usize
    }

    /// The largest value of a counter.
    fn value(&self, index: usize) -> u64 {
        let index = index as u64;
        let shift = (index >> self.bits).saturating_sub(1);
        let place = index - (shift << self.bits);
        ((place + 1) << shift) - 1
    }

    /// Adds what another counted. Of another precision: by the values of its counters.
    pub fn add(&mut self, other: &Histogram) {
        if self.bits == other.bits {
            if self.counts.len() < other.counts.len() {
                self.counts.resize(other.counts.len(), 0);
            }
            self.counts.iter_mut().zip(&other.counts).for_each(|(into, from)| *into += from);
        } else {
            for (index, count) in other.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                let own = self.index(other.value(index).min(LONGEST_US));
                if own >= self.counts.len() {
                    self.counts.resize(own + 1, 0);
                }
                if let Some(into) = self.counts.get_mut(own) {
                    *into += count;
                }
            }
        }
        self.count += other.count;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.max_us = self.max_us.max(other.max_us);
        self.min_us = self.min_us.min(other.min_us);
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The duration that `percent` of all are not longer than, in microseconds; 0 without any.
    pub fn percentile_us(&self, percent: f64) -> u64 {
        if self.count == 0 {
            return 0;
        }
        if percent <= 0.0 {
            return self.min_us;
        }
        let wanted = ((percent / 100.0 * self.count as f64).ceil() as u64).clamp(1, self.count);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return self.value(index).min(self.max_us);
            }
        }
        self.max_us
    }

    /// The mean, in microseconds.
    pub fn mean_us(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum_us as f64 / self.count as f64 }
    }

    /// The longest, in microseconds.
    pub fn max_us(&self) -> u64 {
        self.max_us
    }

    /// What it says.
    pub fn summary(&self) -> Summary {
        Summary {
            count: self.count,
            min_us: if self.count == 0 { 0 } else { self.min_us },
            mean_us: self.mean_us(),
            max_us: self.max_us,
            percentiles: PERCENTILES.iter().map(|percent| (*percent, self.percentile_us(*percent))).collect(),
        }
    }
}

impl Summary {
    /// The duration at one of [`PERCENTILES`]; 0 for another.
    pub fn at(&self, percent: f64) -> u64 {
        self.percentiles.iter().find(|(p, _)| (*p - percent).abs() < 1e-9).map_or(0, |(_, us)| *us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_three_digits() {
        let mut histogram = Histogram::default();
        (1..=100_000).for_each(|us| histogram.record_us(us));
        for percent in [0.0, 1.0, 50.0, 90.0, 99.0, 99.9, 100.0] {
            let expected = (percent * 1_000.0_f64).max(1.0);
            let found = histogram.percentile_us(percent) as f64;
            assert!((found - expected).abs() <= expected / 1_000.0, "{percent}: {found}");
        }
        assert_eq!(histogram.summary().at(100.0), 100_000);
        assert!((histogram.mean_us() - 50_000.5).abs() < 0.01);
    }

    #[test]
    fn longer_than_an_hour_is_an_hour_and_nothing_is_zero() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.percentile_us(99.0), histogram.summary().min_us), (0, 0));
        histogram.record_ns(u64::MAX);
        assert_eq!(histogram.percentile_us(50.0), LONGEST_US);
    }

    proptest::proptest! {
        #[test]
        fn merged_is_as_if_counted_together(left: Vec<u32>, right: Vec<u32>) {
            let (mut one, mut two, mut both) = (Histogram::default(), Histogram::default(), Histogram::default());
            left.iter().for_each(|us| one.record_us(u64::from(*us)));
            right.iter().for_each(|us| two.record_us(u64::from(*us)));
            left.iter().chain(&right).for_each(|us| both.record_us(u64::from(*us)));
            one.add(&two);
            proptest::prop_assert_eq!(one.summary(), both.summary());
            let mut coarse = Histogram::coarse();
            coarse.add(&both);
            let (fine, rough) = (both.percentile_us(50.0), coarse.percentile_us(50.0));
            proptest::prop_assert!(rough.abs_diff(fine) as f64 <= fine as f64 / 16.0 + 1.0);
        }
    }
}
