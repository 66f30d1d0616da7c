use super::*;
use crate::cluster::{Config, Settings, Target};
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

const MS: u64 = 1_000_000;

fn cluster(policy: Policy, weights: &[u32]) -> Cluster {
    let config = Config::default();
    let settings = Settings {
        protocol: config.protocol,
        policy,
        connect_timeout: config.connect_timeout,
        idle_timeout: config.idle_timeout,
    };
    let cluster = Cluster::new("c", settings, None);
    let targets: Vec<Target> = (1u16..)
        .zip(weights)
        .map(|(port, weight)| Target { weight: *weight, ..Target::new(([127, 0, 0, 1], port).into()) })
        .collect();
    cluster.update(&targets);
    cluster
}

/// xorshift64*: enough for choices, and the same in every run.
fn seeded(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed | 1;
    move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

fn index(picked: &Picked) -> usize {
    usize::from(picked.endpoint().address.port()) - 1
}

fn ids(cluster: &Cluster) -> Vec<u64> {
    cluster.endpoints().endpoints.iter().map(|endpoint| endpoint.id).collect()
}

fn observe_index(cluster: &Cluster, index: usize, ms: u64) {
    observe(&cluster.endpoints().endpoints[index], Duration::from_millis(ms), 0);
}

#[test]
fn no_endpoint_no_pick_and_one_is_always_picked() {
    for policy in [Policy::PeakEwma, Policy::RoundRobin] {
        assert!(pick(&cluster(policy, &[]), &[], &mut || 0, 0).is_none());
        let one = cluster(policy, &[1]);
        let tried = ids(&one);
        assert_eq!(index(&pick(&one, &tried, &mut || 0, 0).unwrap()), 0, "{policy:?}: better than none");
    }
}

#[test]
fn a_pick_is_in_flight_until_it_is_dropped() {
    let cluster = cluster(Policy::PeakEwma, &[1, 1]);
    let picked = pick(&cluster, &[], &mut || 0, 0).unwrap();
    let endpoint = Arc::clone(picked.endpoint());
    assert_eq!(endpoint.load.in_flight.load(std::sync::atomic::Ordering::Relaxed), 1);
    drop(picked);
    assert_eq!(endpoint.load.in_flight.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn of_two_the_faster_or_less_loaded_or_heavier_is_picked() {
    // (weights, averages in ms, in flight) → picked, whichever is drawn first
    let table = [
        ([1, 1], [10, 20], [0, 0], 0),
        ([1, 1], [20, 10], [0, 0], 1),
        ([1, 1], [10, 10], [3, 1], 1),
        ([1, 1], [10, 25], [1, 0], 0),
        ([1, 1], [10, 25], [2, 0], 1),
        ([1, 4], [10, 30], [0, 0], 1),
    ];
    for (weights, averages, in_flight, expected) in table {
        for random in [0, u64::MAX] {
            let cluster = cluster(Policy::PeakEwma, &weights);
            for (index, (ms, in_flight)) in averages.into_iter().zip(in_flight).enumerate() {
                observe_index(&cluster, index, ms);
                let set = cluster.endpoints();
                set.endpoints[index].load.in_flight.store(in_flight, std::sync::atomic::Ordering::Relaxed);
            }
            let picked = pick(&cluster, &[], &mut || random, 0).unwrap();
            assert_eq!(index(&picked), expected, "{weights:?} {averages:?} {in_flight:?}");
        }
    }
}

#[test]
fn a_new_endpoint_is_tried_at_once_but_not_stormed() {
    let cluster = cluster(Policy::PeakEwma, &[1, 1]);
    observe_index(&cluster, 0, 1);
    let first = pick(&cluster, &[], &mut || 0, 0).unwrap();
    assert_eq!(index(&first), 1);
    for _ in 0..20 {
        assert_eq!(index(&pick(&cluster, &[], &mut || 0, 0).unwrap()), 0, "no answer from the new one yet");
    }
}

#[test]
fn an_endpoint_that_fails_fast_is_avoided_and_tried_again_later() {
    let cluster = cluster(Policy::PeakEwma, &[1, 1]);
    observe_index(&cluster, 0, 5);
    observe_failure(&cluster.endpoints().endpoints[1], Duration::from_micros(50), 0);
    let mut random = seeded(1);
    let mut at = |now_ns| index(&pick(&cluster, &[], &mut random, now_ns).unwrap());
    assert!((0..100).all(|_| at(0) == 0));
    let late_ns = 60_000 * MS;
    observe(&cluster.endpoints().endpoints[0], Duration::from_millis(5), late_ns);
    assert_eq!(at(late_ns), 1, "after a minute its failure has faded");
}

#[test]
fn tried_endpoints_are_avoided_while_there_is_another() {
    for policy in [Policy::PeakEwma, Policy::RoundRobin] {
        for weights in [[1, 1, 1], [5, 1, 2]] {
            let cluster = cluster(policy, &weights);
            let all = ids(&cluster);
            let mut random = seeded(7);
            for _ in 0..200 {
                let one = pick(&cluster, &all[..1], &mut random, 0).unwrap();
                assert_ne!(index(&one), 0);
                let two = pick(&cluster, &[all[0], all[2]], &mut random, 0).unwrap();
                assert_eq!(index(&two), 1);
                assert!(pick(&cluster, &all, &mut random, 0).is_some(), "all tried: any is better than none");
            }
        }
    }
}

#[test]
fn round_robin_spreads_the_turns_of_a_heavy_endpoint() {
    let cluster = cluster(Policy::RoundRobin, &[4, 2, 2]);
    let order: Vec<usize> = (0..16).map(|_| index(&pick(&cluster, &[], &mut || 0, 0).unwrap())).collect();
    assert!(order.windows(3).all(|three| three != [0, 0, 0]), "{order:?}");
    let equal = self::cluster(Policy::RoundRobin, &[1, 1, 1]);
    let order: Vec<usize> = (0..6).map(|_| index(&pick(&equal, &[], &mut || 0, 0).unwrap())).collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
}

proptest! {
    #[test]
    fn round_robin_gives_each_endpoint_exactly_its_weight(weights in prop::collection::vec(1u32..50, 1..12)) {
        let cluster = cluster(Policy::RoundRobin, &weights);
        let total: u32 = weights.iter().sum();
        let mut turns = vec![0u32; weights.len()];
        for _ in 0..total {
            turns[index(&pick(&cluster, &[], &mut || 0, 0).unwrap())] += 1;
        }
        let is_equal = weights.iter().all(|weight| *weight == weights[0]);
        let expected = if is_equal { vec![total / weights.len() as u32; weights.len()] } else { weights };
        prop_assert_eq!(turns, expected);
    }

    #[test]
    fn any_random_number_picks_an_endpoint_that_was_not_tried(
        weights in prop::collection::vec(1u32..10_000, 2..12), tried in any::<u16>(), seed in any::<u64>(),
    ) {
        let cluster = cluster(Policy::PeakEwma, &weights);
        let all = ids(&cluster);
        let tried: Vec<u64> =
            all.iter().enumerate().filter(|(i, _)| tried & (1 << i) != 0).map(|(_, id)| *id).collect();
        let mut random = seeded(seed);
        for extreme in [0, u64::MAX, seed, random()] {
            let picked = pick(&cluster, &tried, &mut || extreme, 0).unwrap();
            prop_assert!(tried.len() == all.len() || !tried.contains(&picked.endpoint().id));
        }
    }
}

/// A closed loop of `clients` over endpoints that serve `servers` at once, each in `service_ms`. Returns what each
/// endpoint served and the mean time to an answer in nanoseconds.
fn simulate(cluster: &Cluster, clients: usize, model: &[(usize, u64)], requests: usize) -> (Vec<usize>, u64) {
    let mut random = seeded(42);
    let mut free_at: Vec<BinaryHeap<Reverse<u64>>> =
        model.iter().map(|(servers, _)| (0..*servers).map(|_| Reverse(0)).collect()).collect();
    let mut running: HashMap<usize, (u64, Picked)> = HashMap::new();
    let mut events: BinaryHeap<Reverse<(u64, usize)>> =
        (0..clients).map(|id| Reverse((id as u64, id))).collect();
    let (mut served, mut waited) = (vec![0; model.len()], 0);
    while served.iter().sum::<usize>() < requests {
        let Reverse((now, client)) = events.pop().unwrap();
        if let Some((start, picked)) = running.remove(&client) {
            observe(picked.endpoint(), Duration::from_nanos(now - start), now);
            served[index(&picked)] += 1;
            waited += now - start;
        }
        let picked = pick(cluster, &[], &mut random, now).unwrap();
        let at = index(&picked);
        let Reverse(free) = free_at[at].pop().unwrap();
        let done = free.max(now) + model[at].1 * MS;
        free_at[at].push(Reverse(done));
        running.insert(client, (now, picked));
        events.push(Reverse((done, client)));
    }
    (served, waited / requests as u64)
}

#[test]
fn load_follows_speed() {
    let model = [(4, 5), (4, 5), (4, 5), (4, 200)];
    let equal = [1, 1, 1, 1];
    let (served, mean) = simulate(&cluster(Policy::PeakEwma, &equal), 12, &model, 20_000);
    let (_, round_robin_mean) = simulate(&cluster(Policy::RoundRobin, &equal), 12, &model, 20_000);
    assert!(served[..3].iter().all(|fast| *fast > 20 * served[3]), "{served:?}");
    assert!(served[3] > 0, "a slow endpoint is still tried: {served:?}");
    assert!(mean * 5 < round_robin_mean, "{mean} {round_robin_mean}");
}

#[test]
fn load_follows_capacity_and_weight() {
    // The same speed, but one can do three times as much: queues tell.
    let (served, _) = simulate(&cluster(Policy::PeakEwma, &[1, 1]), 24, &[(12, 10), (4, 10)], 20_000);
    assert!(served[0] > 2 * served[1] && served[1] > served[0] / 5, "{served:?}");
    // Endpoints that never queue share by weight when there is something in flight.
    let (served, _) = simulate(&cluster(Policy::PeakEwma, &[3, 1]), 40, &[(64, 10), (64, 10)], 20_000);
    assert!(served[0] > 2 * served[1] && served[0] < 4 * served[1], "{served:?}");
}
