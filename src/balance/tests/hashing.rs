//! Ring hash and maglev: keys stay where they are, as far as they can.

use super::*;
use proptest::prelude::*;

const KEYS: u64 = 20_000;
const HASHED: [Policy; 2] = [Policy::RingHash, Policy::Maglev];

fn hashed(policy: Policy, targets: &[Target]) -> Cluster {
    cluster_with(|balance| balance.policy = policy, targets)
}

/// Where every key goes.
fn places(cluster: &Cluster) -> Vec<SocketAddr> {
    (0..KEYS).map(|key| pick(cluster, &of(mix(key)), &mut || 0, SECOND).unwrap().endpoint().address).collect()
}

/// Which part of the keys went from one place to another, in percent.
fn moved<'a>(
    before: &'a [SocketAddr],
    after: &'a [SocketAddr],
) -> impl Iterator<Item = (SocketAddr, SocketAddr)> + 'a {
    before.iter().copied().zip(after.iter().copied()).filter(|(before, after)| before != after)
}

fn percent_of(count: usize) -> f64 {
    count as f64 / KEYS as f64 * 100.0
}

#[test]
fn keys_are_spread_by_weight() {
    for policy in HASHED {
        let mut weighted = targets(10);
        weighted[0].weight = 5;
        weighted[1].weight = 5;
        let cluster = hashed(policy, &weighted);
        let places = places(&cluster);
        for target in &weighted {
            let own = percent_of(places.iter().filter(|place| **place == target.address).count());
            let expected = 100.0 * f64::from(target.weight) / 18.0;
            // A ring of 1,024 points and more is even to a fifth or so; a table much better.
            let tolerance = if policy == Policy::Maglev { 0.1 } else { 0.35 };
            assert!((own - expected).abs() < tolerance * expected, "{policy:?}: {own} % {expected} %");
        }
    }
}

#[test]
fn where_a_key_goes_does_not_depend_on_the_order_of_the_source() {
    for policy in HASHED {
        let targets = targets(50);
        let mut turned = targets.clone();
        turned.rotate_left(17);
        turned.swap(3, 40);
        assert_eq!(places(&hashed(policy, &targets)), places(&hashed(policy, &turned)), "{policy:?}");
    }
}

#[test]
fn one_more_endpoint_takes_its_share_and_little_else_moves() {
    for policy in HASHED {
        let targets = targets(101);
        let cluster = hashed(policy, &targets[..100]);
        let before = places(&cluster);
        cluster.update(&targets);
        let after = places(&cluster);
        let new = targets[100].address;
        let (to_new, others): (Vec<_>, Vec<_>) = moved(&before, &after).partition(|(_, after)| *after == new);
        let (to_new, others) = (percent_of(to_new.len()), percent_of(others.len()));
        assert!((0.5..1.6).contains(&to_new), "{policy:?}: {to_new} %");
        // On a ring nothing else moves; a table trades that for speed and evenness.
        let others_max = if policy == Policy::Maglev { 3.0 } else { 0.0 };
        assert!(others <= others_max, "{policy:?}: {others} %");
        // And when it goes, everything is as it was.
        cluster.update(&targets[..100]);
        assert_eq!(places(&cluster), before);
    }
}

#[test]
fn another_weight_moves_keys_of_that_endpoint_only() {
    let mut targets = targets(20);
    let cluster = hashed(Policy::RingHash, &targets);
    let before = places(&cluster);
    targets[7].weight = 2;
    cluster.update(&targets);
    let after = places(&cluster);
    let to_others = moved(&before, &after).filter(|(_, after)| *after != targets[7].address).count();
    assert_eq!(to_others, 0);
    assert!(moved(&before, &after).count() > 0);
}

#[test]
fn health_moves_only_the_keys_of_its_endpoint_and_they_come_back() {
    for policy in HASHED {
        let targets = targets(20);
        let cluster = hashed(policy, &targets);
        let before = places(&cluster);
        let out = endpoint(&cluster, 4);
        cluster.leave_out(&out, Reason::Ejected);
        let after = places(&cluster);
        assert!(moved(&before, &after).all(|(before, _)| before == out.address), "{policy:?}");
        assert!(!after.contains(&out.address));
        if policy == Policy::Maglev {
            let mut takers: Vec<SocketAddr> = moved(&before, &after).map(|(_, after)| after).collect();
            takers.sort_unstable();
            takers.dedup();
            assert_eq!(takers.len(), 19, "all others share them");
        }
        cluster.restore(&out, Reason::Ejected, SECOND);
        assert_eq!(places(&cluster), before, "{policy:?}");
    }
}

#[test]
fn the_tables_are_kept_while_only_health_changes() {
    for policy in HASHED {
        let cluster = hashed(policy, &targets(20));
        let table = |cluster: &Cluster| {
            Arc::as_ptr(cluster.planned(SECOND).plan.whole().levels()[0].table.as_ref().unwrap())
        };
        let before = table(&cluster);
        cluster.leave_out(&endpoint(&cluster, 4), Reason::Ejected);
        assert_eq!(table(&cluster), before);
        cluster.mark_stale("SERVFAIL");
        assert_eq!(table(&cluster), before);
        cluster.update(&targets(20));
        assert_eq!(table(&cluster), before, "the same endpoints again");
        cluster.update(&targets(21));
        assert_ne!(table(&cluster), before);
    }
}

#[test]
fn without_anything_to_hash_any_endpoint_is_picked_and_that_is_told() {
    for policy in HASHED {
        let cluster = hashed(policy, &targets(10));
        assert!(shares(&cluster, &anyone(), 1000, 0).values().all(|count| (50..200).contains(count)));
        assert!(pick(&cluster, &anyone(), &mut || 0, 0).unwrap().is_hash_missing);
        assert!(!pick(&cluster, &of(7), &mut || 0, 0).unwrap().is_hash_missing);
    }
    assert!(!pick(&cluster(Policy::Random, &[1]), &anyone(), &mut || 0, 0).unwrap().is_hash_missing);
}

#[test]
fn a_key_keeps_its_place_within_a_priority_and_spills_as_a_whole() {
    for policy in HASHED {
        let mut targets = targets(20);
        for target in &mut targets[10..] {
            target.priority = 1;
        }
        let cluster = hashed(policy, &targets);
        let before = places(&cluster);
        let first: Vec<SocketAddr> = targets[..10].iter().map(|target| target.address).collect();
        assert!(before.iter().all(|place| first.contains(place)));
        for at in 0..5 {
            cluster.leave_out(&endpoint(&cluster, at), Reason::Ejected);
        }
        let after = places(&cluster);
        let spilled = percent_of(after.iter().filter(|place| !first.contains(place)).count());
        assert!((27.0..33.0).contains(&spilled), "{policy:?}: {spilled} %");
        assert_eq!(places(&cluster), after, "the same keys each time");
    }
}

proptest! {
    #[test]
    fn a_key_always_finds_an_endpoint_that_may_be_used(
        weights in prop::collection::vec(1u32..10_000, 1..20), out in any::<u32>(), key in any::<u64>(),
        policy in prop::sample::select(&HASHED[..]),
    ) {
        let targets: Vec<Target> = (1..).zip(&weights).map(|(port, weight)| weighted(port, *weight)).collect();
        let cluster = cluster_with(
            |balance| {
                balance.policy = policy;
                balance.panic_threshold = 0;
                balance.maglev_table_size = 251;
            },
            &targets,
        );
        for at in (0..weights.len()).filter(|at| out & (1 << at) != 0) {
            cluster.leave_out(&endpoint(&cluster, at), Reason::Ejected);
        }
        let is_any_left = (0..weights.len()).any(|at| out & (1 << at) == 0);
        match pick(&cluster, &of(key), &mut || key, SECOND) {
            Ok(choice) => prop_assert!(choice.endpoint().health.is_usable()),
            Err(why) => prop_assert!(!is_any_left && why == Why::NoneUsable),
        }
    }
}
