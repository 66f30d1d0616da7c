//! Zones and subsets.

use super::*;
use crate::cluster::config::{ContextField, SubsetFallback, SubsetFrom, SubsetValue};
use proptest::prelude::*;

/// So many endpoints in each zone.
fn zoned(zones: &[(&str, u32)]) -> Vec<Target> {
    let mut targets = targets(zones.iter().map(|(_, count)| count).sum());
    let names = zones.iter().flat_map(|(name, count)| std::iter::repeat_n(*name, *count as usize));
    for (target, name) in targets.iter_mut().zip(names) {
        target.zone = Some(name.into());
    }
    targets
}

/// Which part of the picks stays in the zone `a`, in whole percents; `None` if zones do not matter.
fn local_percent(cluster: &Cluster) -> Option<u64> {
    let mut random = seeded(8);
    let mut local = 0;
    for _ in 0..20_000 {
        let choice = pick(cluster, &anyone(), &mut random, SECOND).unwrap();
        let is_local = choice.is_local_zone?;
        assert_eq!(is_local, choice.endpoint().zone.as_deref() == Some("a"));
        local += u64::from(is_local);
    }
    Some((local as f64 / 200.0).round() as u64)
}

#[test]
fn the_own_zone_is_preferred_as_far_as_its_endpoints_can_take_it() {
    let table = [
        (&[("a", 3), ("b", 3)][..], Some(100)),
        (&[("a", 5), ("b", 1)], Some(100)),
        (&[("a", 2), ("b", 6)], Some(50)),
        (&[("a", 1), ("b", 4), ("c", 5)], Some(30)),
        (&[("b", 4), ("c", 5)], Some(0)),
        (&[("a", 2), ("b", 3)], None), // fewer than six
    ];
    for policy in DRAWN {
        for (zones, expected) in table {
            let cluster = cluster_with(|balance| balance.policy = policy, &zoned(zones));
            let percent = local_percent(&cluster);
            let is_close = match (percent, expected) {
                (Some(percent), Some(expected)) => percent.abs_diff(expected) <= 1,
                (percent, expected) => percent == expected,
            };
            assert!(is_close, "{policy:?} {zones:?}: {percent:?}");
        }
    }
}

#[test]
fn zones_do_not_matter_where_they_are_not_known_or_not_wanted() {
    let zones = zoned(&[("a", 5), ("b", 5)]);
    let off = |balance: &mut Balance| balance.locality.prefer_zone = false;
    assert_eq!(local_percent(&cluster_with(off, &zones)), None);
    let hash = |balance: &mut Balance| balance.policy = Policy::Maglev;
    assert_eq!(
        local_percent(&cluster_with(hash, &zones)),
        None,
        "a key has its place, wherever it comes from"
    );
    assert_eq!(local_percent(&cluster_with(|_| {}, &targets(10))), None, "no endpoint has a zone");
    let nowhere = Cluster::plain("c", &Config::default());
    nowhere.update(&zones);
    assert_eq!(local_percent(&nowhere), None, "the service has no zone");
}

#[test]
fn a_zone_that_fails_gives_its_calls_to_the_others() {
    let cluster = cluster_with(|_| {}, &zoned(&[("a", 5), ("b", 5)]));
    assert_eq!(local_percent(&cluster), Some(100));
    for at in 0..2 {
        cluster.leave_out(&endpoint(&cluster, at), Reason::Ejected);
    }
    // Three of eight are here, half of the calls come from here: 75 % of them stay.
    assert!(local_percent(&cluster).unwrap().abs_diff(75) <= 1);
    for at in 2..4 {
        cluster.leave_out(&endpoint(&cluster, at), Reason::Ejected);
    }
    assert!(local_percent(&cluster).unwrap().abs_diff(33) <= 1);
    cluster.leave_out(&endpoint(&cluster, 5), Reason::Ejected);
    assert_eq!(local_percent(&cluster), None, "only five are left");
}

#[test]
fn a_retry_leaves_the_zone_when_there_is_no_other_endpoint_in_it() {
    let mut zones = zoned(&[("a", 1), ("b", 5)]);
    zones[0].weight = 100;
    let cluster = cluster_with(|_| {}, &zones);
    let tried = [ids(&cluster)[0]];
    assert_eq!(pick(&cluster, &anyone(), &mut || 0, 0).unwrap().is_local_zone, Some(true));
    for random in [0, u64::MAX] {
        let choice = pick(&cluster, &without(&tried), &mut || random, 0).unwrap();
        assert_eq!(choice.is_local_zone, Some(false));
    }
}

#[test]
fn in_panic_zones_do_not_matter() {
    let cluster = cluster_with(|_| {}, &zoned(&[("a", 10), ("b", 10)]));
    for at in 0..11 {
        cluster.leave_out(&endpoint(&cluster, at), Reason::CheckFailed);
    }
    let choice = pick(&cluster, &anyone(), &mut seeded(1), SECOND).unwrap();
    assert!(choice.is_panic && choice.is_local_zone.is_none());
}

/// Endpoints by the value of their label `license`, and of `tier` where it is given.
fn labelled(labels: &[(&str, Option<&str>)]) -> Vec<Target> {
    let mut targets = targets(labels.len() as u32);
    for (target, (license, tier)) in targets.iter_mut().zip(labels) {
        target.labels.insert("license".into(), (*license).into());
        target.labels.extend(tier.map(|tier| ("tier".to_owned(), tier.to_owned())));
    }
    targets
}

fn by_license(balance: &mut Balance) {
    let from = SubsetValue::Request(SubsetFrom::Context(ContextField::License));
    balance.subset.insert("license".into(), from);
}

fn wanting<'a>(values: &'a [Option<&'a [u8]>]) -> Wish<'a> {
    Wish { values, ..Wish::default() }
}

#[test]
fn a_request_goes_to_the_endpoints_that_have_its_labels() {
    let targets = labelled(&[("gold", None), ("free", None), ("gold", None), ("free", None), ("free", None)]);
    let cluster = cluster_with(by_license, &targets);
    let gold = shares(&cluster, &wanting(&[Some(b"gold")]), 1000, 0);
    assert_eq!(gold.len(), 2);
    assert!(gold.contains_key(&targets[0].address) && gold.contains_key(&targets[2].address));
    let missing = [&[Some(&b"silver"[..])][..], &[Some(b"")], &[None], &[]];
    for values in missing {
        let why = pick(&cluster, &wanting(values), &mut || 0, 0).unwrap_err();
        assert_eq!(why, Why::NoSubset);
    }
    let error = Why::NoSubset.error(&cluster, &wanting(&[Some(b"silver")]));
    assert_eq!(error.detail(), "cluster c: no endpoint has license silver");
    let error = Why::NoSubset.error(&cluster, &wanting(&[None]));
    assert_eq!(error.detail(), "cluster c: no endpoint has license, which the request does not say");
}

#[test]
fn fixed_labels_and_those_of_the_request_are_all_wanted() {
    let targets =
        labelled(&[("gold", Some("v1")), ("gold", Some("v2")), ("gold", None), ("free", Some("v2"))]);
    let set = |balance: &mut Balance| {
        by_license(balance);
        balance.subset.insert("tier".into(), SubsetValue::Text("v2".into()));
    };
    let cluster = cluster_with(set, &targets);
    for _ in 0..20 {
        let choice = pick(&cluster, &wanting(&[Some(b"gold")]), &mut || 0, 0).unwrap();
        assert_eq!(choice.endpoint().address, targets[1].address);
    }
    let fixed = |balance: &mut Balance| {
        balance.subset.insert("tier".into(), SubsetValue::Text("v2".into()));
    };
    let cluster = cluster_with(fixed, &targets);
    assert_eq!(shares(&cluster, &anyone(), 1000, 0).len(), 2);
}

#[test]
fn with_a_fallback_any_endpoint_is_used_and_that_is_told() {
    let set = |balance: &mut Balance| {
        by_license(balance);
        balance.subset_fallback = SubsetFallback::Any;
    };
    let cluster = cluster_with(set, &labelled(&[("gold", None), ("free", None)]));
    let choice = pick(&cluster, &wanting(&[Some(b"silver")]), &mut || 0, 0).unwrap();
    assert!(choice.is_subset_fallback);
    drop(choice);
    assert_eq!(shares(&cluster, &wanting(&[Some(b"silver")]), 100, 0).len(), 2);
    assert!(!pick(&cluster, &wanting(&[Some(b"gold")]), &mut || 0, 0).unwrap().is_subset_fallback);
}

#[test]
fn health_counts_within_the_subset() {
    let cluster = cluster_with(
        by_license,
        &labelled(&[("gold", None), ("gold", None), ("gold", None), ("free", None)]),
    );
    for at in 0..2 {
        cluster.leave_out(&endpoint(&cluster, at), Reason::CheckFailed);
    }
    let gold = pick(&cluster, &wanting(&[Some(b"gold")]), &mut || 0, SECOND).unwrap();
    assert!(gold.is_panic, "one of three");
    assert!(!pick(&cluster, &wanting(&[Some(b"free")]), &mut || 0, SECOND).unwrap().is_panic);
}

#[test]
fn a_hash_has_its_place_within_the_subset() {
    for policy in [Policy::RingHash, Policy::Maglev] {
        let set = |balance: &mut Balance| {
            by_license(balance);
            balance.policy = policy;
        };
        let labels: Vec<(&str, Option<&str>)> =
            (0..40).map(|at| (if at % 4 == 0 { "gold" } else { "free" }, None)).collect();
        let cluster = cluster_with(set, &labelled(&labels));
        let mut used = HashMap::new();
        for key in 0..5000 {
            let wish = Wish { hash: Some(mix(key)), values: &[Some(b"gold")], tried: &[] };
            let choice = pick(&cluster, &wish, &mut || 0, 0).unwrap();
            assert_eq!(choice.endpoint().labels["license"], "gold");
            *used.entry(choice.endpoint().address).or_insert(0) += 1;
        }
        assert_eq!(used.len(), 10);
        assert!(used.values().all(|count| (250..1000).contains(count)), "{policy:?}: {used:?}");
    }
}

proptest! {
    #[test]
    fn a_subset_never_leaks(
        labels in prop::collection::vec((0u8..4, 0u8..4), 1..30),
        wanted in (0u8..5, 0u8..5), out in any::<u32>(), tried in any::<u32>(), seed in any::<u64>(),
        policy in prop::sample::select(&[Policy::PeakEwma, Policy::RoundRobin, Policy::Random, Policy::RingHash, Policy::Maglev][..]),
    ) {
        let mut targets = targets(labels.len() as u32);
        for (target, (x, y)) in targets.iter_mut().zip(&labels) {
            target.labels = [("x".to_owned(), x.to_string()), ("y".to_owned(), y.to_string())].into();
            target.priority = u32::from(target.address.port() % 2);
        }
        let set = |balance: &mut Balance| {
            balance.policy = policy;
            balance.maglev_table_size = 101;
            for label in ["x", "y"] {
                let from = SubsetValue::Request(SubsetFrom::Header(label.into()));
                balance.subset.insert(label.into(), from);
            }
        };
        let cluster = cluster_with(set, &targets);
        for at in (0..labels.len()).filter(|at| out & (1 << (at % 32)) != 0) {
            cluster.leave_out(&endpoint(&cluster, at), Reason::Ejected);
        }
        let all = ids(&cluster);
        let tried: Vec<u64> =
            all.iter().enumerate().filter(|(at, _)| tried & (1 << (at % 32)) != 0).map(|(_, id)| *id).collect();
        let (x, y) = (wanted.0.to_string(), wanted.1.to_string());
        let values = [Some(x.as_bytes()), Some(y.as_bytes())];
        let hash = policy.is_hash().then_some(seed);
        let mut random = seeded(seed);
        match pick(&cluster, &Wish { tried: &tried, hash, values: &values }, &mut random, SECOND) {
            Ok(choice) => {
                prop_assert_eq!(&choice.endpoint().labels["x"], &x);
                prop_assert_eq!(&choice.endpoint().labels["y"], &y);
            }
            Err(why) => {
                prop_assert_eq!(why, Why::NoSubset);
                prop_assert!(!labels.contains(&wanted));
            }
        }
    }
}
