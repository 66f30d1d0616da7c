//! Endpoints that are left out and come back, panic, priorities, slow start.

use super::*;
use crate::cluster::config::SlowStart;

/// `healthy` of `total` endpoints of each priority can be used.
fn levels(levels: &[(u32, u32)], panic_threshold: u32) -> Cluster {
    let mut targets = targets(levels.iter().map(|(_, total)| total).sum());
    let mut at = 0;
    for (priority, (_, total)) in (0..).zip(levels) {
        for target in &mut targets[at..at + *total as usize] {
            target.priority = priority;
        }
        at += *total as usize;
    }
    let cluster = cluster_with(|balance| balance.panic_threshold = panic_threshold, &targets);
    let mut at = 0;
    for (healthy, total) in levels {
        for number in *healthy..*total {
            cluster.leave_out(&endpoint(&cluster, at + number as usize), Reason::CheckFailed);
        }
        at += *total as usize;
    }
    cluster
}

/// Which part of 20,000 picks each priority gets, in whole percents, and how many picks were in panic.
fn loads(cluster: &Cluster, priorities: usize) -> (Vec<u64>, usize) {
    const PICKS: usize = 20_000;
    let mut random = seeded(5);
    let (mut counts, mut panics) = (vec![0; priorities], 0);
    for _ in 0..PICKS {
        let choice = pick(cluster, &anyone(), &mut random, SECOND).unwrap();
        counts[choice.priority as usize] += 1;
        panics += usize::from(choice.is_panic);
        assert!(choice.is_panic || choice.endpoint().health.is_usable());
    }
    (counts.iter().map(|count| (*count as f64 / PICKS as f64 * 100.0).round() as u64).collect(), panics)
}

#[test]
fn load_spills_to_the_next_priority() {
    for (levels_are, expected) in [
        (&[(100, 100), (100, 100)][..], &[100, 0][..]),
        (&[(72, 100), (100, 100)], &[100, 0]),
        (&[(50, 100), (100, 100)], &[70, 30]),
        (&[(0, 100), (100, 100)], &[0, 100]),
        (&[(25, 100), (25, 100), (100, 100)], &[35, 35, 30]),
    ] {
        let (loads, panics) = loads(&levels(levels_are, 50), levels_are.len());
        let is_close = loads.iter().zip(expected).all(|(load, expected)| load.abs_diff(*expected) <= 1);
        assert!(is_close && panics == 0, "{levels_are:?}: {loads:?}");
    }
}

#[test]
fn with_too_few_healthy_endpoints_all_are_used() {
    let cluster = levels(&[(4, 10)], 50);
    let (_, panics) = loads(&cluster, 1);
    assert_eq!(panics, 20_000);
    let used = shares(&cluster, &anyone(), 10_000, SECOND);
    assert_eq!(used.len(), 10);
    cluster.restore(&endpoint(&cluster, 4), Reason::CheckFailed, SECOND);
    assert_eq!(shares(&cluster, &anyone(), 10_000, SECOND).len(), 5, "enough are healthy again");
}

#[test]
fn without_a_panic_threshold_nothing_unhealthy_is_used() {
    let cluster = levels(&[(1, 10)], 0);
    assert_eq!(shares(&cluster, &anyone(), 1000, SECOND).len(), 1);
    cluster.leave_out(&endpoint(&cluster, 0), Reason::Ejected);
    assert_eq!(pick(&cluster, &anyone(), &mut || 0, SECOND).unwrap_err(), Why::NoneUsable);
    cluster.restore(&endpoint(&cluster, 7), Reason::CheckFailed, SECOND);
    assert_eq!(shares(&cluster, &anyone(), 1000, SECOND).len(), 1);
}

#[test]
fn an_endpoint_that_is_left_out_gets_nothing_from_that_moment_on() {
    for policy in [Policy::RingHash, Policy::Maglev].into_iter().chain(DRAWN) {
        // So many that the plan is not made anew at once.
        let cluster = cluster_with(|balance| balance.policy = policy, &targets(1000));
        let mut random = seeded(3);
        let mut out = Vec::new();
        for at in 0..400 {
            let endpoint = endpoint(&cluster, at * 2);
            cluster.leave_out(&endpoint, Reason::Ejected);
            out.push(endpoint.id);
            for key in 0..20 {
                let hash = policy.is_hash().then(|| mix(at as u64 * 20 + key));
                let wish = Wish { hash, ..anyone() };
                let choice = pick(&cluster, &wish, &mut random, SECOND).unwrap();
                assert!(!out.contains(&choice.endpoint().id), "{policy:?}");
            }
        }
    }
}

#[test]
fn an_outage_that_the_plan_does_not_know_of_yet_is_found() {
    // All but one of 1,000 go between two picks, right after the plan was made.
    let cluster = cluster_with(|balance| balance.panic_threshold = 0, &targets(1000));
    cluster.leave_out(&endpoint(&cluster, 0), Reason::Ejected);
    let mut random = seeded(3);
    pick(&cluster, &anyone(), &mut random, SECOND).unwrap();
    for at in 1..999 {
        cluster.leave_out(&endpoint(&cluster, at), Reason::Ejected);
    }
    for _ in 0..100 {
        let choice = pick(&cluster, &anyone(), &mut random, SECOND).unwrap();
        assert_eq!(choice.endpoint().id, ids(&cluster)[999]);
    }
    // And of 10,000, more than are searched.
    let cluster = cluster_with(|balance| balance.panic_threshold = 0, &targets(10_000));
    cluster.leave_out(&endpoint(&cluster, 0), Reason::Ejected);
    pick(&cluster, &anyone(), &mut random, SECOND).unwrap();
    for at in 1..9_999 {
        cluster.leave_out(&endpoint(&cluster, at), Reason::Ejected);
    }
    for _ in 0..100 {
        assert_eq!(
            pick(&cluster, &anyone(), &mut random, SECOND).unwrap().endpoint().id,
            ids(&cluster)[9_999]
        );
    }
}

#[test]
fn with_many_endpoints_the_plan_is_not_made_anew_all_the_time() {
    let cluster = cluster_with(|_| {}, &targets(10_000));
    let mut random = seeded(1);
    let mut sets = vec![Arc::clone(&cluster.endpoints())];
    for now in 0..100u64 {
        cluster.leave_out(&endpoint(&cluster, now as usize), Reason::Ejected);
        pick(&cluster, &anyone(), &mut random, SECOND + now * MS).unwrap();
        let set = Arc::clone(&cluster.endpoints());
        if sets.last().is_some_and(|last| !Arc::ptr_eq(last, &set)) {
            sets.push(set);
        }
    }
    // A plan of so many endpoints counts as 1 ms of work, and 20 ms lie between two.
    assert_eq!(sets.len() - 1, 5);
}

#[test]
fn a_retry_goes_to_another_priority_rather_than_to_the_same_endpoint() {
    let mut targets = targets(3);
    targets[1].priority = 1;
    targets[2].priority = 2;
    let cluster = cluster_with(|_| {}, &targets);
    let all = ids(&cluster);
    for tried in 0..3 {
        let choice = pick(&cluster, &without(&all[..tried]), &mut || 0, 0).unwrap();
        assert_eq!((choice.endpoint().id, choice.priority), (all[tried], tried as u32));
    }
    assert_eq!(pick(&cluster, &without(&all), &mut || 0, 0).unwrap().endpoint().id, all[0]);
}

#[test]
fn endpoints_that_were_not_checked_yet_are_used_only_while_there_are_too_few_others() {
    let mut config = Config::default();
    config.health = Some(crate::cluster::config::HealthCheck::default());
    let cluster = Cluster::plain("c", &config);
    cluster.update(&targets(10));
    let used = |cluster: &Cluster| {
        let mut random = seeded(9);
        let mut used = std::collections::BTreeSet::new();
        for _ in 0..2000 {
            let choice = pick(cluster, &anyone(), &mut random, SECOND).unwrap();
            assert!(!choice.is_panic, "this is a start, and no panic");
            used.insert(choice.endpoint().address);
        }
        used.len()
    };
    assert_eq!(used(&cluster), 10, "nothing was checked: all are used");
    for at in 0..4 {
        cluster.restore(&endpoint(&cluster, at), Reason::CheckPending, SECOND);
    }
    assert_eq!(used(&cluster), 10);
    cluster.leave_out(&endpoint(&cluster, 9), Reason::CheckFailed);
    cluster.restore(&endpoint(&cluster, 9), Reason::CheckPending, SECOND);
    assert_eq!(used(&cluster), 9, "but not one that failed its check");
    cluster.restore(&endpoint(&cluster, 4), Reason::CheckPending, SECOND);
    assert_eq!(used(&cluster), 5, "enough were checked");
    let mut more = targets(12);
    more.swap(0, 11);
    cluster.update(&more);
    let pending =
        cluster.endpoints().endpoints.iter().filter(|it| it.health.has(Reason::CheckPending)).count();
    assert_eq!(pending, 6, "new ones wait for their first check");
}

fn slow_start() -> Option<SlowStart> {
    Some(SlowStart { window: Duration::from_secs(10), aggression: 1.0, min_weight_percent: 10 })
}

#[test]
fn an_endpoint_that_joins_gets_its_share_little_by_little() {
    for policy in [Policy::Random, Policy::RoundRobin] {
        let set = |balance: &mut Balance| {
            balance.policy = policy;
            balance.slow_start = slow_start();
        };
        let cluster = cluster_with(set, &targets(9));
        assert_eq!(percent(&cluster, 0, SECOND), 11, "in the first set all are new, and none is slow");
        cluster.replace(&targets(10), None, 100 * SECOND);
        // Share f of a full one beside nine: f ÷ (9 + f).
        for (seconds, expected) in [(0, 1), (1, 1), (3, 3), (5, 5), (8, 8), (10, 10), (60, 10)] {
            let percent = percent(&cluster, 9, (100 + seconds) * SECOND);
            assert!(percent.abs_diff(expected) <= 1, "{policy:?} after {seconds} s: {percent} %");
        }
        cluster.replace(&targets(30)[20..], None, 200 * SECOND);
        assert_eq!(percent(&cluster, 0, 200 * SECOND), 10, "a whole new set is not slow");
    }
}

#[test]
fn of_two_choices_a_new_endpoint_gets_few_as_well() {
    for policy in [Policy::PeakEwma, Policy::LeastRequest] {
        let set = |balance: &mut Balance| {
            balance.policy = policy;
            balance.slow_start = slow_start();
        };
        let cluster = cluster_with(set, &targets(9));
        for at in 0..9 {
            observe(&endpoint(&cluster, at), Duration::from_millis(10), 100 * SECOND);
        }
        cluster.replace(&targets(10), None, 100 * SECOND);
        // It has no average yet and wins each time it takes part: with slow start that is a tenth as often.
        let start = percent(&cluster, 9, 100 * SECOND);
        assert!(start <= 2, "{policy:?}: {start} %");
        assert!(percent(&cluster, 9, 111 * SECOND) >= 10);
    }
}

#[test]
fn an_endpoint_that_recovers_starts_slowly_again() {
    let set = |balance: &mut Balance| {
        balance.policy = Policy::Random;
        balance.slow_start = slow_start();
    };
    let cluster = cluster_with(set, &targets(10));
    let first = endpoint(&cluster, 0);
    for reason in [Reason::Ejected, Reason::CheckFailed] {
        assert!(cluster.leave_out(&first, reason) && !cluster.leave_out(&first, reason));
        assert_eq!(percent(&cluster, 0, 50 * SECOND), 0);
        assert!(
            cluster.restore(&first, reason, 50 * SECOND) && !cluster.restore(&first, reason, 50 * SECOND)
        );
        assert_eq!(percent(&cluster, 0, 50 * SECOND), 1);
        assert_eq!(percent(&cluster, 0, 60 * SECOND), 10);
    }
    let hashed = cluster_with(|balance| balance.policy = Policy::Maglev, &targets(10));
    hashed.leave_out(&endpoint(&hashed, 0), Reason::Ejected);
    hashed.restore(&endpoint(&hashed, 0), Reason::Ejected, SECOND);
    assert_eq!(endpoint(&hashed, 0).health.warming_since_ns.load(Relaxed), 0, "a hash has no share to grow");
}
