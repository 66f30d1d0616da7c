//! Zone preference: as much as possible stays in the zone of this service, as long as every endpoint gets as much as any
//! other, whichever zone it is in.
//!
//! A zone that has a larger share of the endpoints than of the callers can take all calls from its own zone, and has some
//! to spare. One with a smaller share takes as much as its endpoints' share; the rest of its callers' calls goes to the
//! zones with something to spare, in proportion to it. Together each zone gets exactly the share of its endpoints.
//! Source: Envoy's zone aware routing.

use std::collections::BTreeMap;

/// The usable endpoints of a zone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Zone<'a> {
    /// Its name; `None` for the endpoints whose zone is not known.
    pub name: Option<&'a str>,
    /// The weights of its endpoints together.
    pub weight: u64,
}

/// Which part of the calls from the zone `own` goes to each of `zones`. `callers` are relative weights of the zones that
/// calls come from; empty for as much from each.
pub(super) fn shares(zones: &[Zone<'_>], own: &str, callers: &BTreeMap<String, u32>) -> Vec<f64> {
    let total: u64 = zones.iter().map(|zone| zone.weight).sum();
    let capacity = |zone: &Zone<'_>| zone.weight as f64 / total.max(1) as f64;
    let calls = Callers::new(zones, own, callers);
    let own_calls = calls.share(Some(own));
    let own_capacity: f64 = zones.iter().filter(|zone| zone.name == Some(own)).map(capacity).sum();
    if own_capacity > 0.0 && own_capacity >= own_calls {
        return zones.iter().map(|zone| if zone.name == Some(own) { 1.0 } else { 0.0 }).collect();
    }
    let stays = if own_calls > 0.0 { own_capacity / own_calls } else { 0.0 };
    let spare = |zone: &Zone<'_>| match zone.name {
        Some(name) if name == own => 0.0,
        name => (capacity(zone) - calls.share(name)).max(0.0),
    };
    let all_spare: f64 = zones.iter().map(spare).sum();
    if all_spare <= 0.0 {
        // The callers of this zone do not count, and all others are served by their own.
        return zones.iter().map(capacity).collect();
    }
    zones
        .iter()
        .map(|zone| match zone.name == Some(own) {
            true => stays,
            false => (1.0 - stays) * spare(zone) / all_spare,
        })
        .collect()
}

/// Which part of all calls comes from a zone.
struct Callers<'a> {
    callers: &'a BTreeMap<String, u32>,
    /// All weights; 0 if each zone counts as much.
    total: u64,
    zones: usize,
}

impl<'a> Callers<'a> {
    fn new(zones: &[Zone<'_>], own: &str, callers: &'a BTreeMap<String, u32>) -> Callers<'a> {
        let known = zones.iter().filter(|zone| zone.name.is_some_and(|name| name != own)).count();
        Callers { callers, total: callers.values().map(|weight| u64::from(*weight)).sum(), zones: known + 1 }
    }

    fn share(&self, zone: Option<&str>) -> f64 {
        match zone {
            None => 0.0,
            Some(_) if self.total == 0 => 1.0 / self.zones as f64,
            Some(zone) => f64::from(self.callers.get(zone).copied().unwrap_or(0)) / self.total as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zones<'a>(weights: &[(&'a str, u64)]) -> Vec<Zone<'a>> {
        weights.iter().map(|(name, weight)| Zone { name: Some(*name), weight: *weight }).collect()
    }

    fn callers(weights: &[(&str, u32)]) -> BTreeMap<String, u32> {
        weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect()
    }

    fn percents(shares: &[f64]) -> Vec<u32> {
        shares.iter().map(|share| (share * 100.0).round() as u32).collect()
    }

    #[test]
    fn a_zone_with_enough_endpoints_keeps_its_calls() {
        let shares = shares(&zones(&[("a", 5), ("b", 5)]), "a", &callers(&[]));
        assert_eq!(percents(&shares), [100, 0]);
    }

    #[test]
    fn a_zone_with_too_few_endpoints_keeps_what_they_can_take() {
        let here = zones(&[("a", 2), ("b", 5), ("c", 3)]);
        assert_eq!(percents(&shares(&here, "a", &callers(&[("a", 40), ("b", 30), ("c", 30)]))), [50, 50, 0]);
        assert_eq!(percents(&shares(&here, "b", &callers(&[("a", 40), ("b", 30), ("c", 30)]))), [0, 100, 0]);
        assert_eq!(percents(&shares(&here, "x", &callers(&[]))), [0, 83, 17], "25 % of the calls from each");
    }

    #[test]
    fn nothing_known_of_callers_or_no_call_from_anywhere() {
        let unknown = [Zone { name: None, weight: 5 }, Zone { name: Some("a"), weight: 1 }];
        // One zone calls, and has a sixth of the endpoints; the rest goes where nobody calls from.
        assert_eq!(percents(&shares(&unknown, "a", &callers(&[]))), [83, 17]);
        let zones = zones(&[("a", 0), ("b", 0)]);
        assert_eq!(shares(&zones, "a", &callers(&[])).len(), 2);
    }

    proptest! {
        #[test]
        fn every_endpoint_gets_as_much_as_any_other(
            weights in prop::collection::vec((0u64..50, 0u32..50), 2..6),
        ) {
            let names = ["a", "b", "c", "d", "e", "f"];
            prop_assume!(weights.iter().any(|(weight, _)| *weight > 0));
            prop_assume!(weights.iter().any(|(_, calls)| *calls > 0));
            let here: Vec<_> =
                names.iter().zip(&weights).map(|(name, (weight, _))| Zone { name: Some(*name), weight: *weight }).collect();
            let calls: BTreeMap<String, u32> =
                names.iter().zip(&weights).map(|(name, (_, calls))| ((*name).to_owned(), *calls)).collect();
            let total_calls: u32 = calls.values().sum();
            let total: u64 = here.iter().map(|zone| zone.weight).sum();
            let mut load = vec![0.0; here.len()];
            for zone in &here {
                let own = zone.name.unwrap();
                let part = f64::from(calls[own]) / f64::from(total_calls);
                let shares = shares(&here, own, &calls);
                prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{own}: {shares:?}");
                for (load, share) in load.iter_mut().zip(&shares) {
                    *load += part * share;
                }
            }
            for (load, zone) in load.iter().zip(&here) {
                let expected = zone.weight as f64 / total as f64;
                prop_assert!((load - expected).abs() < 1e-9, "{load} {expected}");
            }
        }
    }
}
