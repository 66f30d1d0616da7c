//! Latency of two versions: quantiles with bounds by order statistics, which ask nothing of the distribution's shape.
//!
//! Of n values the one of rank k is below the q-quantile as often as a binomial (n, q) is at least k; so the ranks
//! n·q ± z·√(n·q·(1 − q)) bound it. Where such a rank does not exist there is no bound, and nothing is said.
//! Values are kept in a log-linear histogram: 64 steps for each power of two, 1.6 % wide, some 1,700 at most.

use serde::Serialize;
use std::collections::BTreeMap;

const STEP_BITS: u32 = 6;

/// Latencies, counted.
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    counts: BTreeMap<u32, u64>,
    total: u64,
}

/// A quantile and where it is for sure (95 %).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantile {
    /// The estimate, ns.
    pub ns: u64,
    /// It is not below this; `null`: too few values.
    pub low_ns: Option<u64>,
    /// It is not above this; `null`: too few values.
    pub high_ns: Option<u64>,
}

fn index(ns: u64) -> u32 {
    let power = (u64::BITS - ns.leading_zeros()).saturating_sub(STEP_BITS + 1);
    (power << STEP_BITS) + (ns >> power) as u32
}

/// Where a step begins, and how wide it is.
fn step(index: u32) -> (u64, u64) {
    let power = (index >> STEP_BITS).saturating_sub(1);
    (u64::from(index - (power << STEP_BITS)) << power, 1 << power)
}

impl Sketch {
    /// Counts a latency.
    pub fn add(&mut self, ns: u64) {
        *self.counts.entry(index(ns)).or_default() += 1;
        self.total += 1;
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The step of a rank, from 1.
    fn at(&self, rank: u64) -> Option<(u64, u64)> {
        let mut seen = 0;
        self.counts.iter().find_map(|(index, count)| {
            seen += count;
            (seen >= rank && rank > 0).then(|| step(*index))
        })
    }

    /// A quantile; `z` says how sure its bounds are.
    pub fn quantile(&self, q: f64, z: f64) -> Quantile {
        let n = self.total as f64;
        let half = z * (n * q * (1.0 - q)).sqrt();
        let rank = |at: f64| (at >= 1.0 && at <= n).then_some(at as u64).and_then(|rank| self.at(rank));
        let (start, width) = self.at(((n * q).ceil() as u64).max(1)).unwrap_or_default();
        Quantile {
            ns: start + width / 2,
            low_ns: rank((n * q - half).floor()).map(|(start, _)| start),
            high_ns: rank((n * q + half).ceil() + 1.0).map(|(start, width)| start.saturating_add(width - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_are_within_a_step_and_bounded_where_there_are_enough() {
        let mut sketch = Sketch::default();
        (1..=10_000u64).for_each(|n| sketch.add(n * 1_000));
        let p99 = sketch.quantile(0.99, 1.96);
        assert!((p99.ns as f64 / 9_900_000.0 - 1.0).abs() < 0.02, "{p99:?}");
        assert!(p99.low_ns.unwrap() < 9_900_000 && p99.high_ns.unwrap() > 9_900_000, "{p99:?}");
        let mut few = Sketch::default();
        (1..=20).for_each(|n| few.add(n));
        assert_eq!(few.quantile(0.99, 1.96).high_ns, None);
        assert_eq!(Sketch::default().quantile(0.5, 1.96), Quantile::default());
    }

    proptest! {
        #[test]
        fn a_step_holds_its_value(ns: u64) {
            let (start, width) = step(index(ns));
            prop_assert!(start <= ns && ns - start < width && width - 1 <= ns >> STEP_BITS, "{ns}: {start} {width}");
        }
    }
}
