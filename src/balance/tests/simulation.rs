//! Endpoints that serve, slow down and recover: does load go where it is served?

use super::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A closed loop of `clients` over endpoints that serve `servers` at once, each in `service_ms`. Returns what each
/// endpoint served and the mean time to an answer in nanoseconds.
fn simulate(cluster: &Cluster, clients: usize, model: &[(usize, u64)], requests: usize) -> (Vec<usize>, u64) {
    let mut random = seeded(42);
    let mut free_at: Vec<BinaryHeap<Reverse<u64>>> =
        model.iter().map(|(servers, _)| (0..*servers).map(|_| Reverse(0)).collect()).collect();
    let mut running: HashMap<usize, (u64, Choice)> = HashMap::new();
    let mut events: BinaryHeap<Reverse<(u64, usize)>> =
        (0..clients).map(|id| Reverse((id as u64, id))).collect();
    let (mut served, mut waited) = (vec![0; model.len()], 0);
    while served.iter().sum::<usize>() < requests {
        let Reverse((now, client)) = events.pop().unwrap();
        if let Some((start, choice)) = running.remove(&client) {
            observe(choice.endpoint(), Duration::from_nanos(now - start), now);
            served[index(&choice)] += 1;
            waited += now - start;
        }
        let choice = pick(cluster, &anyone(), &mut random, now).unwrap();
        let at = index(&choice);
        let Reverse(free) = free_at[at].pop().unwrap();
        let done = free.max(now) + model[at].1 * MS;
        free_at[at].push(Reverse(done));
        running.insert(client, (now, choice));
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
    let (_, least_request_mean) = simulate(&cluster(Policy::LeastRequest, &equal), 12, &model, 20_000);
    assert!(least_request_mean * 2 < round_robin_mean, "{least_request_mean} {round_robin_mean}");
}

#[test]
fn load_follows_capacity_and_weight() {
    // The same speed, but one can do three times as much: queues tell.
    let (served, _) = simulate(&cluster(Policy::PeakEwma, &[1, 1]), 24, &[(12, 10), (4, 10)], 20_000);
    assert!(served[0] > 2 * served[1] && served[1] > served[0] / 5, "{served:?}");
    // Endpoints that never queue share by weight when there is something in flight.
    for policy in [Policy::PeakEwma, Policy::LeastRequest] {
        let (served, _) = simulate(&cluster(policy, &[3, 1]), 40, &[(64, 10), (64, 10)], 20_000);
        assert!(served[0] > 2 * served[1] && served[0] < 4 * served[1], "{policy:?} {served:?}");
    }
}

/// Requests that come `per_second` times, at random, to ten endpoints; the first takes ten times as long from `SLOW_FROM`
/// on. Returns how many requests the first, and all, were given in each half second.
fn one_of_ten_slows_down(seed: u64, per_second: u64, seconds: u64) -> Vec<(u32, u32)> {
    let cluster = cluster(Policy::PeakEwma, &[1; 10]);
    let mut random = seeded(seed);
    let mut counts = vec![(0, 0); 2 * seconds as usize];
    let mut running: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
    let mut choices: HashMap<u64, (u64, Choice)> = HashMap::new();
    let (mut now, mut number) = (0, 0);
    while now < seconds * SECOND {
        // Exponential times between arrivals: as from many independent callers.
        let uniform = (random() >> 11) as f64 / (1u64 << 53) as f64;
        now += (-(1.0 - uniform).ln() / per_second as f64 * SECOND as f64) as u64;
        while let Some(Reverse((done, id))) =
            running.peek().copied().filter(|Reverse((done, _))| *done <= now)
        {
            running.pop();
            let (start, choice) = choices.remove(&id).unwrap();
            observe(choice.endpoint(), Duration::from_nanos(done - start), done);
        }
        let Some(count) = counts.get_mut((now / (SECOND / 2)) as usize) else { break };
        let choice = pick(&cluster, &anyone(), &mut random, now).unwrap();
        let is_slow = index(&choice) == 0 && now >= SLOW_FROM;
        count.0 += u32::from(index(&choice) == 0);
        count.1 += 1;
        // 5 to 15 ms, or ten times that.
        let time = (5 * MS + random() % (10 * MS)) * if is_slow { 10 } else { 1 };
        running.push(Reverse((now + time, number)));
        choices.insert(number, (now, choice));
        number += 1;
    }
    counts
}

const SLOW_FROM: u64 = 5 * SECOND;

#[test]
fn one_of_ten_that_gets_ten_times_slower_falls_below_three_percent_within_two_seconds() {
    for (per_second, seeds) in [(100, 20), (1000, 20), (5000, 4)] {
        for seed in 1..=seeds {
            let counts = one_of_ten_slows_down(seed, per_second, 15);
            let percent = |range: std::ops::Range<usize>| {
                let (own, all) = counts[range].iter().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
                100.0 * f64::from(own) / f64::from(all)
            };
            let before = percent(4..10);
            assert!((5.0..15.0).contains(&before), "seed {seed}: {before} %");
            // From two seconds after it got slow to the end, and in each second of that where there is enough to count.
            let after = percent(14..30);
            assert!(after < 3.0, "seed {seed}, {per_second}/s: {after} %");
            for half in (14..29).filter(|_| per_second >= 1000) {
                let second = percent(half..half + 2);
                assert!(second < 3.0, "seed {seed}, {per_second}/s, half second {half}: {second} %");
            }
        }
    }
}
