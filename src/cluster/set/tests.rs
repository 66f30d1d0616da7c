use super::*;
use crate::cluster::{Config, Journal, Settings};
use tokio::sync::mpsc::Receiver;

fn target(port: u16, weight: u32) -> Target {
    Target { weight, ..Target::new(([127, 0, 0, 1], port).into()) }
}

fn targets(ports: std::ops::Range<u16>) -> Vec<Target> {
    ports.map(|port| target(port, 1)).collect()
}

fn watched(config: &Config) -> (Cluster, Receiver<Change>) {
    let (journal, changes) = Journal::new();
    (Cluster::new("c", Settings::of(config, ""), None, journal), changes)
}

fn noted(changes: &mut Receiver<Change>) -> Vec<What> {
    std::iter::from_fn(|| changes.try_recv().ok()).map(|change| change.what).collect()
}

#[test]
fn an_endpoint_that_stays_keeps_its_state() {
    let cluster = Cluster::plain("c", &Config::default());
    cluster.update(&[target(1, 1), target(2, 1)]);
    let before = cluster.endpoints().endpoints.clone();
    before[0].stats.requests.fetch_add(7, Ordering::Relaxed);
    cluster.update(&[target(3, 1), target(1, 1), target(2, 5)]);
    let after = cluster.endpoints().endpoints.clone();
    assert!(Arc::ptr_eq(&before[0], &after[1]));
    assert_eq!(after[2].weight, 5);
    assert_eq!(after[2].id, before[1].id, "a new weight keeps the pooled connections");
}

#[test]
fn a_failing_source_keeps_the_last_good_set_and_both_changes_are_told() {
    let (cluster, mut changes) = watched(&Config::default());
    cluster.update(&targets(1..2));
    cluster.mark_stale("SERVFAIL");
    cluster.mark_stale("SERVFAIL");
    assert_eq!(cluster.endpoints().endpoints.len(), 1);
    assert_eq!(cluster.endpoints().stale.as_deref(), Some("SERVFAIL"));
    assert_eq!(noted(&mut changes), [What::Stale { why: "SERVFAIL".into() }], "once");
    cluster.update(&targets(1..2));
    assert_eq!(cluster.endpoints().stale, None);
    assert_eq!(noted(&mut changes), [What::Fresh]);
}

#[test]
fn a_source_that_fails_in_part_does_not_look_as_if_it_had_worked_for_a_moment() {
    let (cluster, mut changes) = watched(&Config::default());
    cluster.replace(&targets(1..3), Some("b.test: SERVFAIL"), 0);
    cluster.replace(&targets(1..4), Some("b.test: SERVFAIL"), 0);
    let expected = [
        What::Stale { why: "b.test: SERVFAIL".into() },
        What::EndpointsChanged { added: 1, removed: 0, total: 3 },
    ];
    assert_eq!(noted(&mut changes), expected);
}

#[test]
fn changes_of_the_set_are_told_but_not_the_first() {
    let (cluster, mut changes) = watched(&Config::default());
    cluster.update(&targets(1..5));
    assert_eq!(noted(&mut changes), []);
    cluster.update(&targets(3..6));
    assert_eq!(noted(&mut changes), [What::EndpointsChanged { added: 1, removed: 2, total: 3 }]);
    let mut heavier = targets(3..6);
    heavier[0].weight = 7;
    cluster.update(&heavier);
    assert_eq!(noted(&mut changes), [], "the same endpoints");
    cluster.update(&[]);
    assert_eq!(noted(&mut changes), [What::EndpointsChanged { added: 0, removed: 3, total: 0 }]);
}

#[test]
fn panic_is_told_when_it_begins_and_when_it_ends() {
    let (cluster, mut changes) = watched(&Config::default());
    cluster.update(&targets(1..5));
    let all = cluster.endpoints().endpoints.clone();
    for endpoint in &all[..2] {
        cluster.leave_out(endpoint, Reason::Ejected);
        drop(cluster.planned(1));
    }
    assert_eq!(noted(&mut changes), []);
    cluster.leave_out(&all[2], Reason::CheckFailed);
    drop(cluster.planned(1));
    assert_eq!(noted(&mut changes), [What::PanicEntered { priority: 0, healthy: 1, total: 4 }]);
    cluster.leave_out(&all[3], Reason::CheckFailed);
    drop(cluster.planned(1));
    assert_eq!(noted(&mut changes), [], "it goes on");
    for endpoint in &all[2..] {
        cluster.restore(endpoint, Reason::CheckFailed, 1);
    }
    drop(cluster.planned(1));
    assert_eq!(noted(&mut changes), [What::PanicLeft { priority: 0 }]);
    for endpoint in &all {
        cluster.leave_out(endpoint, Reason::CheckFailed);
    }
    drop(cluster.planned(1));
    assert_eq!(noted(&mut changes).len(), 1);
    cluster.update(&[]);
    assert!(noted(&mut changes).contains(&What::PanicLeft { priority: 0 }), "with the endpoints");
}

#[test]
fn endpoints_wait_for_their_first_check_without_panic() {
    let config = Config { health: Some(crate::cluster::config::HealthCheck::default()), ..Config::default() };
    let (cluster, mut changes) = watched(&config);
    cluster.update(&targets(1..5));
    assert!(cluster.endpoints().endpoints.iter().all(|endpoint| endpoint.health.has(Reason::CheckPending)));
    for endpoint in &cluster.endpoints().endpoints {
        cluster.restore(endpoint, Reason::CheckPending, 1);
        drop(cluster.planned(1));
    }
    assert_eq!(noted(&mut changes), []);
    cluster.update(&targets(1..6));
    let waiting = cluster.endpoints().endpoints[4].health.has(Reason::CheckPending);
    assert!(waiting && cluster.endpoints().endpoints[0].health.is_usable());
}

#[test]
fn slow_start_is_for_those_who_join_others_or_come_back() {
    let mut config = Config::default();
    config.balance.slow_start = Some(Default::default());
    config.health = Some(crate::cluster::config::HealthCheck::default());
    let cluster = Cluster::plain("c", &config);
    let since = |cluster: &Cluster, at: usize| {
        cluster.endpoints().endpoints[at].health.warming_since_ns.load(Ordering::Relaxed)
    };
    let first = |cluster: &Cluster, at: usize| Arc::clone(&cluster.endpoints().endpoints[at]);
    cluster.replace(&targets(1..3), None, 10);
    cluster.restore(&first(&cluster, 0), Reason::CheckPending, 20);
    assert_eq!(since(&cluster, 0), 0, "of the first set");
    cluster.replace(&targets(1..4), None, 30);
    assert_eq!(since(&cluster, 2), 30);
    cluster.restore(&first(&cluster, 2), Reason::CheckPending, 40);
    assert_eq!(since(&cluster, 2), 40, "it is used from its first check on");
    cluster.leave_out(&first(&cluster, 0), Reason::Ejected);
    cluster.restore(&first(&cluster, 0), Reason::Ejected, 50);
    assert_eq!(since(&cluster, 0), 50);
    cluster.replace(&targets(10..12), None, 60);
    assert_eq!(since(&cluster, 0), 0, "a whole new set");
}

#[test]
fn workers_that_pick_while_endpoints_change_see_whole_sets() {
    let cluster = Arc::new(Cluster::plain("c", &Config::default()));
    cluster.update(&targets(1..300));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut now_ns = 0;
                while !is_over.load(Ordering::Relaxed) {
                    now_ns += 1_000_000;
                    let set = cluster.planned(now_ns);
                    let group = set.plan.whole().levels()[0].group(|| 0).unwrap();
                    assert!(group.member(group.len() - 1).unwrap() < set.endpoints.len());
                    let endpoint = &set.endpoints[now_ns as usize % set.endpoints.len()];
                    cluster.leave_out(endpoint, Reason::Ejected);
                    cluster.restore(endpoint, Reason::Ejected, now_ns);
                }
            });
        }
        for last in (100..300).chain(100..300) {
            cluster.update(&targets(1..last));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let total = cluster.planned(u64::MAX).plan.whole().levels()[0].total;
    assert_eq!(total, cluster.endpoints().endpoints.len());
}
