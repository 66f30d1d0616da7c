//! How much of the load each priority level gets.
//!
//! A level can take its share of healthy endpoints × overprovisioning, 100 % at most; what it cannot take spills to the
//! next. Only when all levels together cannot take everything, a level with fewer healthy endpoints than the panic
//! threshold uses all of its endpoints; when every level does, the load follows the number of endpoints, since each of
//! them is used. Source: Envoy's priority load and panic threshold (docs, "Priority levels" and "Panic threshold"), in
//! fractions instead of whole percents.

/// A priority level's endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// How many may be used.
    pub usable: usize,
    /// How many there are.
    pub total: usize,
}

impl Standing {
    /// Whether fewer than `percent` may be used.
    pub(super) fn is_below(self, percent: u32) -> bool {
        (self.usable as u64) * 100 < u64::from(percent) * (self.total as u64)
    }
}

/// What becomes of a priority level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share {
    /// Its part of the load; all parts together are 1, or 0 if nothing can be used.
    pub load: f64,
    /// Whether all of its endpoints are used.
    pub is_panic: bool,
}

/// Sums that should be 1 and are a little less.
const ROUNDING: f64 = 1e-9;

/// The shares of `levels`, which stand in the order of their priorities. Both other numbers are percents.
pub(super) fn shares(levels: &[Standing], overprovisioning: u32, panic_threshold: u32) -> Vec<Share> {
    let capacity = |level: &Standing| match level.total {
        0 => 0.0,
        total => (f64::from(overprovisioning) / 100.0 * level.usable as f64 / total as f64).min(1.0),
    };
    let together = levels.iter().map(capacity).sum::<f64>();
    let is_short = together < 1.0 - ROUNDING;
    let is_panic = |level: &Standing| is_short && level.total > 0 && level.is_below(panic_threshold);
    let endpoints: usize = levels.iter().map(|level| level.total).sum();
    if endpoints > 0 && levels.iter().all(|level| level.total == 0 || is_panic(level)) {
        let load = |level: &Standing| level.total as f64 / endpoints as f64;
        return levels.iter().map(|level| Share { load: load(level), is_panic: level.total > 0 }).collect();
    }
    let mut left = 1.0;
    levels
        .iter()
        .map(|level| {
            let load = if together > 0.0 { (capacity(level) / together.min(1.0)).min(left) } else { 0.0 };
            left -= load;
            Share { load, is_panic: is_panic(level) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Levels of 100 endpoints with so many healthy ones → their load in whole percents, and who panics.
    fn table(healthy: &[usize], panic_threshold: u32) -> Vec<(u32, bool)> {
        let levels: Vec<_> = healthy.iter().map(|usable| Standing { usable: *usable, total: 100 }).collect();
        shares(&levels, 140, panic_threshold)
            .into_iter()
            .map(|share| ((share.load * 100.0).round() as u32, share.is_panic))
            .collect()
    }

    #[test]
    fn load_is_that_of_envoys_documentation() {
        let no = |loads: &[u32]| loads.iter().map(|load| (*load, false)).collect::<Vec<_>>();
        for (healthy, loads) in [
            (&[100][..], &[100][..]),
            (&[60], &[100]),
            (&[100, 100], &[100, 0]),
            (&[72, 72], &[100, 0]),
            (&[71, 71], &[99, 1]),
            (&[50, 50], &[70, 30]),
            (&[50, 60], &[70, 30]),
            (&[25, 100], &[35, 65]),
            (&[0, 100], &[0, 100]),
            (&[100, 100, 100], &[100, 0, 0]),
            (&[72, 72, 100], &[100, 0, 0]),
            (&[71, 71, 100], &[99, 1, 0]),
            (&[50, 50, 100], &[70, 30, 0]),
            (&[25, 100, 100], &[35, 65, 0]),
            (&[25, 25, 100], &[35, 35, 30]),
        ] {
            assert_eq!(table(healthy, 50), no(loads), "{healthy:?}");
        }
        // Here Envoy's documentation looks at load only, and its panic threshold does not count.
        assert_eq!(table(&[25, 25, 20], 0), no(&[36, 36, 29]));
    }

    #[test]
    fn a_level_panics_only_when_all_levels_together_are_too_few() {
        assert_eq!(table(&[25, 25], 50), [(50, true), (50, true)]);
        assert_eq!(table(&[5, 65], 50), [(7, true), (93, false)]);
        assert_eq!(table(&[0, 60], 50), [(0, true), (100, false)]);
        assert_eq!(table(&[49], 50), [(100, true)]);
        assert_eq!(table(&[50], 50), [(100, false)]);
        assert_eq!(table(&[0], 50), [(100, true)]);
        assert_eq!(table(&[0, 0], 50), [(50, true), (50, true)]);
    }

    #[test]
    fn without_a_threshold_nobody_panics() {
        assert_eq!(table(&[5, 10], 0), [(33, false), (67, false)]);
        assert_eq!(table(&[0, 0], 0), [(0, false), (0, false)], "there is nothing to use");
    }

    #[test]
    fn when_every_level_panics_the_load_follows_the_number_of_endpoints() {
        let levels = [Standing { usable: 1, total: 30 }, Standing { usable: 2, total: 10 }];
        let shares = shares(&levels, 140, 50);
        assert_eq!(shares.iter().map(|share| share.load).collect::<Vec<_>>(), [0.75, 0.25]);
    }
}
