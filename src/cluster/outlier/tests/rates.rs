//! The detectors that compare: success rate and failure percentage.

use super::*;

/// Requests and failures of each endpoint.
type Counts = [(usize, usize)];

/// Endpoints that each answered so many requests in an interval, so many of them with a 500 (one in a row at a time).
fn after_an_interval(edit: impl FnOnce(&mut OutlierDetection), counts: &Counts) -> World {
    let mut world = world(counts.len() as u16, |terms| {
        terms.enforcing_consecutive_5xx = 0;
        edit(terms);
    });
    world.wait(1);
    for (index, (requests, failures)) in counts.iter().enumerate() {
        world.attempts(index, status(200), requests - failures);
        world.attempts(index, status(500), *failures);
    }
    world.wait(10);
    world
}

#[test]
fn a_success_rate_far_below_the_others_ejects() {
    let good = (100, 0);
    // Envoy's example: rates of 50, 100, 100, 100, 100 have the mean 90, the deviation 20, the floor 52.
    let table: &[(&str, &Counts, &[usize])] = &[
        ("Envoy's example", &[(100, 50), good, good, good, good], &[0]),
        ("two bad ones of five move the mean", &[(100, 47), (100, 40), good, good, good], &[]),
        ("all alike", &[(100, 50); 6], &[]),
        ("too few requests", &[(99, 99), good, good, good, good], &[]),
        ("too few endpoints", &[(100, 90), good, good, good], &[]),
        ("too few endpoints with enough requests", &[(100, 90), good, good, good, (50, 0), (50, 0)], &[]),
        ("a large cluster", &[&[(100, 3); 9][..], &[(100, 20)]].concat(), &[9]),
    ];
    for (what, counts, expected) in table {
        let world = after_an_interval(|_| {}, counts);
        assert_eq!(world.ejected(), *expected, "{what}");
    }
    let mut world = after_an_interval(|_| {}, table[0].1);
    assert_eq!(
        world.told(),
        [(
            "success_rate",
            "50.0 % of 100 requests succeeded, less than 52.0 % (mean 90.0 %, standard deviation 20.0 %, 5 endpoints)"
                .to_owned()
        )]
    );
}

#[test]
fn endpoints_that_are_alike_are_no_outliers_whatever_the_factor() {
    let counts = [(1000, 333); 7];
    let world = after_an_interval(|terms| terms.success_rate_stdev_factor = 0, &counts);
    assert_eq!(world.ejected(), [] as [usize; 0]);
}

#[test]
fn the_worst_is_ejected_first() {
    let mut counts = [(1000, 1); 18].to_vec();
    counts[3] = (1000, 300);
    counts[7] = (1000, 400);
    let world = after_an_interval(|terms| terms.max_ejection_percent = 5, &counts);
    assert_eq!(world.ejected(), [7]);
    assert_eq!(world.cluster.stats.ejections_prevented.get(), 1);
    let world = after_an_interval(|terms| terms.max_ejection_percent = 20, &counts);
    assert_eq!(world.ejected(), [3, 7]);
}

#[test]
fn a_high_percentage_of_failures_ejects_where_it_is_switched_on() {
    let half = (60, 30);
    let table: &[(u32, &Counts, &[usize])] = &[
        (100, &[(60, 51), half, half, half, half], &[0]),
        (100, &[(60, 50), half, half, half, half], &[]),
        (0, &[(60, 60), half, half, half, half], &[]),
        (100, &[(49, 49), half, half, half, half, half], &[]),
        (100, &[(60, 60), half, half, half], &[]),
        (100, &[(60, 55); 5], &[0]), // all are bad: one may be ejected
    ];
    for (enforcing, counts, expected) in table {
        let mut world = after_an_interval(|terms| terms.enforcing_failure_percentage = *enforcing, counts);
        assert_eq!(world.ejected(), *expected, "{enforcing} % {counts:?}");
        assert!(world.told().iter().all(|(detector, _)| *detector == "failure_percentage"));
    }
}

#[test]
fn each_interval_is_judged_by_itself() {
    let mut world = after_an_interval(|_| {}, &[(100, 0); 5]);
    // Another ten seconds, in which one fails half: in sum it would be a quarter.
    for index in 0..5 {
        world.attempts(index, status(200), 50);
        world.attempts(index, if index == 4 { status(500) } else { status(200) }, 50);
    }
    assert_eq!(world.ejected(), [] as [usize; 0]);
    world.wait(10);
    assert_eq!(world.ejected(), [4]);
    // After the ejection the interval before it does not count again.
    world.wait(60);
    assert_eq!(world.ejected(), [] as [usize; 0]);
    assert_eq!(world.cluster.stats.ejections.get(), 1);
}

#[test]
fn requests_without_a_verdict_have_not_succeeded() {
    let mut world = world(5, |terms| terms.enforcing_consecutive_5xx = 0);
    world.wait(1);
    // 100 that failed, 1000 that hang, and 1000 that nobody waited for: a rate of 0 and not of 95 %.
    let hanging: Vec<Picked> = (0..1000).map(|_| Picked::new(world.endpoint(0))).collect();
    world.attempts(0, Outcome::Abandoned, 500);
    world.attempts(0, Outcome::Failed(Kind::DeadlineExceeded), 500);
    for index in 0..5 {
        world.attempts(index, if index == 0 { status(500) } else { status(200) }, 100);
    }
    world.wait(10);
    assert_eq!(world.ejected(), [0]);
    assert!(world.told()[0].1.starts_with("0.0 % of 100 requests succeeded"));
    drop(hanging);
}
