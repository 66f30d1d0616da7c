use super::*;
use crate::cluster::{Config, Journal, Picked, Settings, Target};
use crate::error::Kind;
use tokio::sync::mpsc::Receiver;

mod rates;

const SECOND_NS: u64 = 1_000_000_000;

/// A cluster, its journal, and a clock.
struct World {
    cluster: Cluster,
    changes: Receiver<Change>,
    now_ns: u64,
}

fn world(endpoints: u16, edit: impl FnOnce(&mut OutlierDetection)) -> World {
    let mut config = Config::default();
    edit(&mut config.outlier_detection);
    let (journal, changes) = Journal::new();
    let cluster = Cluster::new("c", Settings::of(&config, ""), None, journal);
    let world = World { cluster, changes, now_ns: SECOND_NS };
    world.update(1..=endpoints);
    world
}

impl World {
    fn update(&self, ports: impl Iterator<Item = u16>) {
        let targets: Vec<Target> = ports.map(|port| Target::new(([127, 0, 0, 1], port).into())).collect();
        self.cluster.update(&targets);
    }

    fn endpoint(&self, index: usize) -> Arc<Endpoint> {
        Arc::clone(&self.cluster.endpoints().endpoints[index])
    }

    /// One attempt on the endpoint, from pick to end.
    fn attempt(&self, index: usize, outcome: Outcome) {
        let picked = Picked::new(self.endpoint(index));
        self.cluster.learn(picked.endpoint(), outcome, Duration::from_millis(1), self.now_ns);
    }

    fn attempts(&self, index: usize, outcome: Outcome, times: usize) {
        for _ in 0..times {
            self.attempt(index, outcome);
        }
    }

    /// Time passes, with a sweep each second.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now_ns += SECOND_NS;
            self.cluster.sweep_outliers(self.now_ns);
        }
    }

    fn ejected(&self) -> Vec<usize> {
        let set = self.cluster.endpoints();
        (0..set.endpoints.len()).filter(|index| set.endpoints[*index].health.has(Reason::Ejected)).collect()
    }

    fn changes(&mut self) -> Vec<What> {
        std::iter::from_fn(|| self.changes.try_recv().ok()).map(|change| change.what).collect()
    }

    /// Detector and reason of each ejection that was told of, and of each that was prevented.
    fn told(&mut self) -> Vec<(&'static str, String)> {
        let told = |what| match what {
            What::Ejected { detector, why, .. } | What::EjectionPrevented { detector, why } => {
                Some((detector, why))
            }
            _ => None,
        };
        self.changes().into_iter().filter_map(told).collect()
    }
}

fn status(status: u16) -> Outcome {
    Outcome::Answered { status, grpc: None, retry_after: None }
}

fn grpc(code: u8) -> Outcome {
    Outcome::Answered { status: 200, grpc: Some(code), retry_after: None }
}

const REFUSED: Outcome = Outcome::Failed(Kind::ConnectFailed);

#[test]
fn failures_in_a_row_eject_and_nothing_else_does() {
    let ok = status(200);
    let bad = status(500);
    let table: &[(&str, &[Outcome], bool)] = &[
        ("five 5xx", &[bad, bad, bad, bad, bad], true),
        ("four", &[bad, bad, bad, bad], false),
        ("a success between", &[bad, bad, bad, bad, ok, bad, bad, bad, bad], false),
        ("five after a success", &[bad, ok, bad, bad, bad, bad, bad], true),
        ("any mixture of 5xx and no answer", &[bad, REFUSED, status(503), REFUSED, status(599)], true),
        ("a 4xx is an answer", &[bad, bad, bad, bad, status(404), bad], false),
        ("so is a 429", &[bad, bad, bad, bad, status(429), bad], false),
        ("one that nobody waited for says nothing", &[bad, bad, Outcome::Abandoned, bad, bad, bad], true),
        (
            "nor does a deadline of the caller",
            &[bad, bad, bad, bad, Outcome::Failed(Kind::DeadlineExceeded)],
            false,
        ),
        ("gRPC's failures", &[grpc(14), grpc(4), grpc(13), grpc(15), grpc(14)], true),
        ("gRPC's answers", &[grpc(5), grpc(7), grpc(8), grpc(3), grpc(16), grpc(12)], false),
        ("a slow endpoint", &[Outcome::Failed(Kind::PerTryTimeout); 5], true),
        ("our own limit is not its fault", &[Outcome::Failed(Kind::Overflow); 9], false),
    ];
    for (what, outcomes, is_ejected) in table {
        let world = world(3, |_| {});
        for outcome in *outcomes {
            world.attempt(1, *outcome);
        }
        assert_eq!(world.ejected(), if *is_ejected { vec![1] } else { vec![] }, "{what}");
    }
}

#[test]
fn gateway_failures_have_a_detector_of_their_own_where_it_is_switched_on() {
    let table: &[(u32, &[Outcome], Option<&str>)] = &[
        (100, &[status(502), status(503), status(504)], Some("consecutive_gateway_failure")),
        (100, &[REFUSED, REFUSED, status(503)], Some("consecutive_gateway_failure")),
        (100, &[status(503), status(500), status(503), status(503)], None),
        (0, &[status(503), status(503), status(503), status(503)], None),
        (0, &[status(503), status(503), status(503), status(503), status(503)], Some("consecutive_5xx")),
    ];
    for (enforcing, outcomes, detector) in table {
        let mut world = world(3, |terms| {
            terms.consecutive_gateway_failure = 3;
            terms.enforcing_consecutive_gateway_failure = *enforcing;
        });
        for outcome in *outcomes {
            world.attempt(0, *outcome);
        }
        let told: Vec<_> = world.told().into_iter().map(|(detector, _)| detector).collect();
        assert_eq!(told, Vec::from_iter(*detector), "{enforcing} % {outcomes:?}");
    }
}

#[test]
fn an_ejection_says_which_endpoint_why_and_how_long() {
    let mut world = world(3, |_| {});
    world.attempts(2, status(503), 5);
    let change = world.changes.try_recv().unwrap();
    let endpoint = world.endpoint(2);
    assert_eq!(&*change.cluster, "c");
    assert_eq!(change.endpoint, Some((Arc::clone(&endpoint.name), endpoint.address)));
    assert_eq!(
        change.what,
        What::Ejected {
            detector: "consecutive_5xx",
            time: Duration::from_secs(30),
            times: 1,
            why: "5 failures in a row, the last: 503".into(),
        }
    );
    assert_eq!(world.cluster.stats.ejections.get(), 1);
    world.attempts(2, status(503), 20);
    assert_eq!(world.changes(), [], "what comes back late changes nothing");
}

#[test]
fn an_ejection_ends_within_a_second_of_its_time_with_clean_counters() {
    let mut world = world(2, |terms| {
        terms.consecutive_gateway_failure = 4;
        terms.enforcing_consecutive_gateway_failure = 100;
    });
    world.attempts(0, status(503), 4);
    world.attempts(0, status(503), 9); // late answers
    world.changes();
    world.wait(29);
    assert_eq!(world.ejected(), [0]);
    world.wait(1);
    assert_eq!(world.ejected(), [] as [usize; 0]);
    assert_eq!(world.changes(), [What::Unejected { by: "time" }]);
    assert_eq!(world.cluster.stats.unejections.get(), 1);
    world.attempts(0, status(500), 4);
    assert_eq!(world.ejected(), [] as [usize; 0], "the four 5xx before do not count again");
    world.attempt(0, status(500));
    assert_eq!(world.ejected(), [0]);
}

#[test]
fn ejections_grow_with_their_number_up_to_the_longest_and_shrink_again() {
    let mut world = world(2, |terms| terms.max_ejection_time = Duration::from_secs(100));
    let mut times = Vec::new();
    for _ in 0..5 {
        world.attempts(0, status(500), 5);
        let [What::Ejected { time, times: count, .. }] = world.changes()[..] else {
            panic!("not ejected");
        };
        times.push((count, time.as_secs()));
        world.wait(time.as_secs());
        assert_eq!(world.ejected(), [] as [usize; 0]);
        world.changes();
    }
    assert_eq!(times, [(1, 30), (2, 60), (3, 90), (4, 100), (4, 100)]);
    // Each whole interval without an ejection takes one off: 4 of them, at most 10 s after the last unejection begun.
    world.wait(30);
    assert!(world.endpoint(0).health.ejections.load(Relaxed) > 0);
    world.wait(20);
    assert_eq!(world.endpoint(0).health.ejections.load(Relaxed), 0);
    world.attempts(0, status(500), 5);
    assert!(matches!(world.changes()[..], [What::Ejected { times: 1, .. }]));
}

#[test]
fn jitter_is_added_up_to_its_bound() {
    let mut world = world(2, |terms| {
        terms.base_ejection_time = Duration::from_secs(1);
        terms.max_ejection_time = Duration::from_secs(1);
        terms.max_ejection_time_jitter = Duration::from_secs(4);
    });
    let mut times = Vec::new();
    for _ in 0..50 {
        world.attempts(0, status(500), 5);
        let [What::Ejected { time, .. }] = world.changes()[..] else { panic!("not ejected") };
        times.push(time);
        world.wait(5);
        world.changes();
    }
    assert!(times.iter().all(|time| (1..=5).contains(&time.as_secs())));
    assert!(
        times.iter().min() < Some(&Duration::from_secs(2))
            && times.iter().max() > Some(&Duration::from_secs(4))
    );
}

#[test]
fn one_may_always_be_ejected_and_no_more_than_the_percentage() {
    // (endpoints, max_ejection_percent, failing) → ejected
    let table = [
        (1, 100, 1, 0),
        (2, 10, 2, 1),
        (5, 10, 5, 1),
        (5, 0, 5, 1),
        (10, 10, 10, 1),
        (10, 30, 10, 3),
        (10, 35, 10, 3),
        (20, 10, 1, 1),
        (4, 100, 4, 3), // the last one is not an outlier
    ];
    for (endpoints, percent, failing, expected) in table {
        let world = world(endpoints, |terms| terms.max_ejection_percent = percent);
        for index in 0..failing {
            world.attempts(index, status(500), 5);
        }
        assert_eq!(world.ejected().len(), expected, "{failing} of {endpoints} fail, {percent} %");
        let counted = &world.cluster.stats;
        assert_eq!(counted.ejections.get(), expected as u64);
        let prevented = if endpoints < 2 { 0 } else { failing - expected };
        assert_eq!(counted.ejections_prevented.get(), prevented as u64);
    }
}

#[test]
fn that_an_endpoint_is_not_ejected_is_told_once_in_an_interval() {
    let mut world = world(5, |_| {});
    world.attempts(0, status(500), 5);
    world.changes();
    world.wait(1);
    world.attempts(1, REFUSED, 500);
    assert_eq!(
        world.told(),
        [(
            "consecutive_5xx",
            "1 of 5 are ejected, at most 10 % may be; 5 failures in a row, the last: connect_failed"
                .to_owned()
        )]
    );
    assert_eq!(world.cluster.stats.ejections_prevented.get(), 100);
    world.wait(10);
    world.attempts(1, REFUSED, 500);
    assert_eq!(world.told().len(), 1);
}

#[test]
fn the_last_usable_endpoint_stays() {
    let mut world = world(3, |terms| terms.max_ejection_percent = 100);
    world.endpoint(0).health.set(Reason::CheckFailed);
    world.attempts(1, status(500), 5);
    world.attempts(2, status(500), 5);
    assert_eq!(world.ejected(), [1]);
    assert_eq!(
        world.told()[1].1,
        "no other endpoint is usable; 5 failures in a row, the last: 500",
        "the other two are out for two reasons"
    );
}

#[test]
fn an_endpoint_that_discovery_took_away_makes_room() {
    let mut world = world(5, |_| {});
    world.attempts(0, status(500), 5);
    world.update(2..=5);
    world.wait(1);
    world.attempts(0, status(500), 5);
    assert_eq!(world.ejected(), [0]);
    assert_eq!(world.endpoint(0).address.port(), 2);
}

#[test]
fn part_of_the_ejections_can_be_carried_out() {
    let mut world = world(2, |terms| {
        terms.enforcing_consecutive_5xx = 30;
        terms.base_ejection_time = Duration::from_secs(1);
    });
    for _ in 0..1000 {
        world.attempts(0, status(500), 5);
        world.cluster.uneject_by_check(&world.endpoint(0), true, world.now_ns);
        world.changes();
    }
    let carried_out = world.cluster.stats.ejections.get();
    assert!((250..350).contains(&carried_out), "{carried_out}");
    assert_eq!(world.cluster.stats.ejections_prevented.get(), 1000 - carried_out);
}

#[test]
fn switched_off_it_does_nothing() {
    let mut world = world(3, |terms| terms.enabled = false);
    world.attempts(0, status(500), 50);
    world.wait(100);
    assert_eq!(world.ejected(), [] as [usize; 0]);
    assert_eq!(world.changes(), []);
}

#[test]
fn an_active_check_brings_back_before_time() {
    let mut world = world(2, |_| {});
    world.attempts(0, status(500), 5);
    world.changes();
    let endpoint = world.endpoint(0);
    assert!(world.cluster.uneject_by_check(&endpoint, false, world.now_ns));
    assert_eq!(world.changes(), [What::Unejected { by: "health_check" }]);
    assert!(endpoint.health.is_usable());
    assert!(!world.cluster.uneject_by_check(&endpoint, false, world.now_ns), "it is back already");
    world.wait(60);
    assert_eq!(world.changes(), [], "its time being over is no news any more");
}

/// The checks pass and requests fail: the checks are believed once.
#[test]
fn an_endpoint_that_a_check_brought_back_for_nothing_stays_out_for_its_time() {
    let mut world = world(2, |_| {});
    let endpoint = world.endpoint(0);
    world.attempts(0, status(500), 5);
    world.wait(5);
    assert!(world.cluster.uneject_by_check(&endpoint, false, world.now_ns));
    world.changes();
    // The first ejection would have lasted 30 s, and it takes an interval more until it is forgotten.
    world.wait(34);
    world.attempts(0, status(500), 5);
    assert!(matches!(world.changes()[..], [What::Ejected { times: 2, .. }]));
    for _ in 0..59 {
        world.wait(1);
        assert!(!world.cluster.uneject_by_check(&endpoint, false, world.now_ns), "it does not see it");
    }
    world.wait(1);
    assert_eq!(world.changes(), [What::Unejected { by: "time" }]);
    world.attempts(0, status(500), 5);
    assert!(matches!(world.changes()[..], [What::Ejected { times: 3, .. }]));
    assert!(
        world.cluster.uneject_by_check(&endpoint, true, world.now_ns),
        "checks failed too, and pass again"
    );
    // Once all is forgotten, the next one is the first.
    world.wait(200);
    world.attempts(0, status(500), 5);
    assert!(world.cluster.uneject_by_check(&endpoint, false, world.now_ns));
}

#[test]
fn workers_that_find_outliers_at_once_eject_no_more_than_may_be() {
    for _ in 0..50 {
        let world = world(8, |terms| terms.max_ejection_percent = 25);
        std::thread::scope(|scope| {
            for index in 0..8 {
                let world = &world.cluster;
                let endpoint = Arc::clone(&world.endpoints().endpoints[index]);
                scope.spawn(move || {
                    for _ in 0..5 {
                        world.learn(&endpoint, status(500), Duration::from_millis(1), SECOND_NS);
                    }
                });
            }
        });
        assert_eq!(world.ejected().len(), 2);
    }
}
