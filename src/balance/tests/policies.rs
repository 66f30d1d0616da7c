//! What each policy does with endpoints that are all usable.

use super::*;
use proptest::prelude::*;

fn observe_index(cluster: &Cluster, index: usize, ms: u64) {
    observe(&endpoint(cluster, index), Duration::from_millis(ms), 0);
}

#[test]
fn no_endpoint_no_pick_and_one_is_always_picked() {
    for policy in [Policy::RingHash, Policy::Maglev].into_iter().chain(DRAWN) {
        let none = cluster(policy, &[]);
        assert_eq!(pick(&none, &anyone(), &mut || 0, 0).unwrap_err(), Why::NoEndpoint);
        let one = cluster(policy, &[1]);
        let tried = ids(&one);
        for hash in [None, Some(0), Some(u64::MAX)] {
            let wish = Wish { tried: &tried, hash, values: &[] };
            assert_eq!(index(&pick(&one, &wish, &mut || 0, 0).unwrap()), 0, "{policy:?}: better than none");
        }
    }
}

#[test]
fn a_pick_is_in_flight_until_it_is_dropped() {
    let cluster = cluster(Policy::PeakEwma, &[1, 1]);
    let choice = pick(&cluster, &anyone(), &mut || 0, 0).unwrap();
    let endpoint = Arc::clone(choice.endpoint());
    assert_eq!(endpoint.load.in_flight.load(Relaxed), 1);
    drop(choice);
    assert_eq!(endpoint.load.in_flight.load(Relaxed), 0);
}

#[test]
fn of_two_the_faster_or_less_loaded_is_picked() {
    // (weights, averages in ms, in flight) → picked, whichever is drawn first
    let table = [
        ([1, 1], [10, 20], [0, 0], 0),
        ([1, 1], [20, 10], [0, 0], 1),
        ([1, 1], [10, 10], [3, 1], 1),
        ([1, 1], [10, 25], [1, 0], 0),
        ([1, 1], [10, 25], [2, 0], 1),
        ([1, 4], [10, 30], [0, 0], 0),
        ([1, 4], [10, 30], [3, 0], 1),
    ];
    for (weights, averages, in_flight, expected) in table {
        for random in [0, u64::MAX] {
            let cluster = cluster(Policy::PeakEwma, &weights);
            for (index, (ms, in_flight)) in averages.into_iter().zip(in_flight).enumerate() {
                observe_index(&cluster, index, ms);
                endpoint(&cluster, index).load.in_flight.store(in_flight, Relaxed);
            }
            let choice = pick(&cluster, &anyone(), &mut || random, 0).unwrap();
            assert_eq!(index(&choice), expected, "{weights:?} {averages:?} {in_flight:?}");
        }
    }
}

#[test]
fn of_two_the_one_with_fewer_requests_for_its_weight_is_picked() {
    // (weights, in flight) → picked, whichever is drawn first
    let table = [
        ([1, 1], [0, 1], 0),
        ([1, 1], [5, 4], 1),
        ([1, 3], [0, 1], 0),
        ([1, 3], [1, 1], 1),
        ([2, 5], [3, 7], 1),
        ([2, 5], [3, 8], 0),
    ];
    for (weights, in_flight, expected) in table {
        for random in [0, u64::MAX] {
            let cluster = cluster(Policy::LeastRequest, &weights);
            for (index, in_flight) in in_flight.into_iter().enumerate() {
                endpoint(&cluster, index).load.in_flight.store(in_flight, Relaxed);
                observe_index(&cluster, index, 1000 * index as u64);
            }
            let choice = pick(&cluster, &anyone(), &mut || random, 0).unwrap();
            assert_eq!(index(&choice), expected, "{weights:?} {in_flight:?}");
        }
    }
}

/// One request after the other: nothing is in flight when the next one comes.
#[test]
fn weights_count_also_where_nobody_waits_and_who_is_slow_is_left_all_the_same() {
    for policy in [Policy::PeakEwma, Policy::LeastRequest, Policy::Random] {
        for (weights, slow_ms) in [([4, 1], 13), ([99, 1], 13), ([4, 1], 100)] {
            let cluster = cluster(policy, &weights);
            let mut random = seeded(3);
            let mut light = 0;
            for turn in 0..10_000 {
                let now_ns = turn * SECOND / 100;
                let at = index(&pick(&cluster, &anyone(), &mut random, now_ns).unwrap());
                light += usize::from(at == 1);
                let ms = if at == 0 { slow_ms } else { 10 } + turn % 3;
                observe(&endpoint(&cluster, at), Duration::from_millis(ms), now_ns);
            }
            let share = light as f64 / 10_000.0;
            let about = format!("{policy:?} {weights:?} {slow_ms} ms: {share}");
            if policy == Policy::PeakEwma && slow_ms == 100 {
                assert!(share > 0.97, "{about}");
            } else {
                let wanted = 1.0 / f64::from(weights[0] + weights[1]);
                assert!((share - wanted).abs() < 0.3 * wanted, "{about}");
            }
        }
    }
}

#[test]
fn a_new_endpoint_is_tried_at_once_but_not_stormed() {
    let cluster = cluster(Policy::PeakEwma, &[1, 1]);
    observe_index(&cluster, 0, 1);
    let first = pick(&cluster, &anyone(), &mut || 0, 0).unwrap();
    assert_eq!(index(&first), 1);
    for _ in 0..20 {
        assert_eq!(
            index(&pick(&cluster, &anyone(), &mut || 0, 0).unwrap()),
            0,
            "no answer from the new one yet"
        );
    }
}

#[test]
fn an_endpoint_that_fails_fast_is_avoided_and_tried_again_later() {
    let cluster = cluster(Policy::PeakEwma, &[1, 1]);
    observe_index(&cluster, 0, 5);
    observe(&endpoint(&cluster, 1), crate::cluster::PENALTY, 0);
    let mut random = seeded(1);
    let mut at = |now_ns| index(&pick(&cluster, &anyone(), &mut random, now_ns).unwrap());
    assert!((0..100).all(|_| at(0) == 0));
    let late_ns = 90 * SECOND;
    observe(&endpoint(&cluster, 0), Duration::from_millis(5), late_ns);
    assert_eq!(at(late_ns), 1, "after a minute and a half its failure has faded");
}

#[test]
fn tried_endpoints_are_avoided_while_there_is_another() {
    for policy in [Policy::RingHash, Policy::Maglev].into_iter().chain(DRAWN) {
        for weights in [[1, 1, 1], [5, 1, 2], [10_000, 1, 1]] {
            let cluster = cluster(policy, &weights);
            let all = ids(&cluster);
            let mut random = seeded(7);
            for key in 0..200 {
                let hash = policy.is_hash().then(|| mix(key));
                let mut pick_without = |tried: &[u64]| {
                    index(&pick(&cluster, &Wish { tried, hash, values: &[] }, &mut random, 0).unwrap())
                };
                assert_ne!(pick_without(&all[..1]), 0);
                assert_eq!(pick_without(&[all[0], all[2]]), 1, "{policy:?} {weights:?}");
                pick_without(&all); // all tried: any is better than none
            }
        }
    }
}

#[test]
fn round_robin_spreads_the_turns_of_a_heavy_endpoint() {
    let cluster = cluster(Policy::RoundRobin, &[4, 2, 2]);
    let order: Vec<usize> =
        (0..16).map(|_| index(&pick(&cluster, &anyone(), &mut || 0, 0).unwrap())).collect();
    assert!(order.windows(3).all(|three| three != [0, 0, 0]), "{order:?}");
    let equal = self::cluster(Policy::RoundRobin, &[1, 1, 1]);
    let order: Vec<usize> = (0..6).map(|_| index(&pick(&equal, &anyone(), &mut || 0, 0).unwrap())).collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn round_robin_goes_on_where_it_was_when_endpoints_change() {
    let cluster = cluster(Policy::RoundRobin, &[1; 10]);
    let mut turns = [0; 10];
    for round in 0..50 {
        for _ in 0..3 {
            turns[index(&pick(&cluster, &anyone(), &mut || 0, 0).unwrap())] += 1;
        }
        // Something changes before the round is over, each time.
        cluster.mark_stale(&round.to_string());
    }
    assert_eq!(turns, [15; 10]);
}

#[test]
fn ten_thousand_endpoints_are_all_used() {
    for policy in DRAWN {
        let cluster = cluster_with(|balance| balance.policy = policy, &targets(10_000));
        let shares = shares(&cluster, &anyone(), 60_000, 0);
        assert!(shares.len() > 9_900, "{policy:?}: {}", shares.len());
        assert!(shares.values().all(|count| *count < 30), "{policy:?}: none is stormed");
    }
}

proptest! {
    #[test]
    fn round_robin_gives_each_endpoint_exactly_its_weight(weights in prop::collection::vec(1u32..50, 1..12)) {
        let cluster = cluster(Policy::RoundRobin, &weights);
        let total: u32 = weights.iter().sum();
        let mut turns = vec![0u32; weights.len()];
        for _ in 0..total {
            turns[index(&pick(&cluster, &anyone(), &mut || 0, 0).unwrap())] += 1;
        }
        let is_equal = weights.iter().all(|weight| *weight == weights[0]);
        let expected = if is_equal { vec![total / weights.len() as u32; weights.len()] } else { weights };
        prop_assert_eq!(turns, expected);
    }

    #[test]
    fn random_gives_each_endpoint_about_its_weight(
        weights in prop::collection::vec(1u32..50, 1..8), seed in any::<u64>(),
    ) {
        const PICKS: usize = 2_000;
        let cluster = cluster(Policy::Random, &weights);
        let mut random = seeded(seed);
        let total: u32 = weights.iter().sum();
        let mut counts = vec![0; weights.len()];
        for _ in 0..PICKS {
            counts[index(&pick(&cluster, &anyone(), &mut random, 0).unwrap())] += 1;
        }
        for (count, weight) in counts.iter().zip(&weights) {
            let part = f64::from(*weight) / f64::from(total);
            let expected = PICKS as f64 * part;
            let deviation = (expected * (1.0 - part)).sqrt();
            prop_assert!((f64::from(*count) - expected).abs() < 6.0 * deviation + 1.0, "{count} {expected}");
        }
    }

    #[test]
    fn any_random_number_picks_an_endpoint_that_was_not_tried(
        weights in prop::collection::vec(1u32..10_000, 2..12), tried in any::<u16>(), seed in any::<u64>(),
        policy in prop::sample::select(&DRAWN[..]),
    ) {
        let cluster = cluster(policy, &weights);
        let all = ids(&cluster);
        let tried: Vec<u64> =
            all.iter().enumerate().filter(|(i, _)| tried & (1 << i) != 0).map(|(_, id)| *id).collect();
        let mut random = seeded(seed);
        for extreme in [0, u64::MAX, seed, random()] {
            let choice = pick(&cluster, &without(&tried), &mut || extreme, 0).unwrap();
            prop_assert!(tried.len() == all.len() || !tried.contains(&choice.endpoint().id));
        }
    }
}
