use super::*;
use crate::error::Kind;

const SECOND_NS: u64 = 1_000_000_000;
const OK: Outcome = Outcome::Answered { status: 200, grpc: None, retry_after: None };
const BAD: Outcome = Outcome::Answered { status: 503, grpc: None, retry_after: None };
const THROTTLED: Outcome = Outcome::Answered { status: 429, grpc: None, retry_after: None };

fn breaker(edit: impl FnOnce(&mut config::Breaker)) -> Arc<Breaker> {
    let mut terms = config::Breaker { jitter_percent: 0, ..Default::default() };
    edit(&mut terms);
    Arc::new(Breaker::new(terms))
}

/// An attempt that took no time.
fn observe(breaker: &Breaker, outcome: Outcome, now_ns: u64) -> Option<Transition> {
    breaker.observe(outcome, now_ns, now_ns, || 0)
}

/// Feeds outcomes; how many it took to open it, and why it did.
fn opened_after(breaker: &Breaker, outcomes: &[Outcome]) -> Option<(usize, &'static str)> {
    outcomes.iter().enumerate().find_map(|(index, outcome)| match observe(breaker, *outcome, 0) {
        Some(Transition::Opened { reason, .. }) => Some((index + 1, reason)),
        _ => None,
    })
}

#[test]
fn it_opens_on_what_the_terms_say() {
    let grpc = |code| Outcome::Answered { status: 200, grpc: Some(code), retry_after: None };
    let failed = Outcome::Failed(Kind::ConnectFailed);
    let in_a_row = Some("consecutive_failures");
    let rate = Some("success_rate");
    // What opens it → after which outcome.
    let table: &[(&str, Vec<Outcome>, Option<&str>, usize)] = &[
        ("less than five requests", vec![BAD; 4], None, 0),
        ("the ratio, from five requests on", vec![BAD; 7], rate, 5),
        ("just enough succeed", [vec![OK; 80], vec![BAD; 6], vec![OK; 14], vec![BAD; 5]].concat(), None, 0),
        ("seven in a row", [vec![OK; 1000], vec![BAD; 9]].concat(), in_a_row, 1007),
        ("no answer is a failure", [vec![OK; 1000], vec![failed; 9]].concat(), in_a_row, 1007),
        ("so is UNAVAILABLE", [vec![OK; 1000], vec![grpc(14); 9]].concat(), in_a_row, 1007),
        ("NOT_FOUND is none", vec![grpc(5); 50], None, 0),
        (
            "a 404 is none",
            vec![Outcome::Answered { status: 404, grpc: None, retry_after: None }; 50],
            None,
            0,
        ),
        ("429 lowers the ratio", vec![THROTTLED; 9], rate, 5),
        ("as RESOURCE_EXHAUSTED does", vec![grpc(8); 9], rate, 5),
        ("but is no failure in a row", [vec![OK; 1000], vec![THROTTLED; 50]].concat(), None, 0),
        ("and ends one", [vec![OK; 1000], vec![BAD; 6], vec![THROTTLED], vec![BAD; 6]].concat(), None, 0),
        ("what nobody waited for says nothing", vec![Outcome::Abandoned; 50], None, 0),
        ("nor what we refused ourselves", vec![Outcome::Failed(Kind::Overflow); 50], None, 0),
        ("a success opens nothing", vec![BAD, BAD, BAD, BAD, OK], None, 0),
        ("the failure after it does", vec![BAD, BAD, BAD, BAD, OK, BAD], rate, 6),
    ];
    for (what, outcomes, reason, count) in table {
        let expected = reason.map(|reason| (*count, reason));
        assert_eq!(opened_after(&breaker(|_| {}), outcomes), expected, "{what}");
    }
}

#[test]
fn an_opening_says_why_with_the_numbers() {
    let rate = breaker(|_| {});
    let opening = [OK, BAD, BAD, BAD, BAD].map(|outcome| observe(&rate, outcome, 0));
    assert_eq!(
        opening[4],
        Some(Transition::Opened {
            reason: "success_rate",
            time: Duration::from_secs(1),
            why: "1 of 5 requests succeeded within 10s, less than 80 %; the last: 503".into(),
        })
    );
    let shut = rate.try_enter(true, SECOND_NS / 4).unwrap_err();
    assert_eq!(shut, Shut { limit: 80, current: 20, left: Some(Duration::from_millis(750)) });
    let in_a_row = breaker(|terms| terms.requests_min = 100);
    let opening = [BAD; 7].map(|outcome| observe(&in_a_row, outcome, 0));
    let Some(Transition::Opened { why, .. }) = &opening[6] else { panic!("it is closed") };
    assert_eq!(why, "7 failures in a row, the last: 503");
    assert_eq!(in_a_row.try_enter(true, 0).unwrap_err().current, 7);
}

#[test]
fn what_is_older_than_the_window_does_not_count() {
    let breaker = breaker(|terms| terms.consecutive_failures = 100);
    for second in 0..100 {
        // Three a second would be too many; so are four in ten seconds, were they not forgotten.
        let outcome = if second % 12 == 0 { BAD } else { OK };
        assert_eq!(observe(&breaker, outcome, second * SECOND_NS), None);
        assert_eq!(breaker.try_enter(true, second * SECOND_NS).unwrap().1, None);
    }
    // A burst is not hidden by the requests before the window.
    for _ in 0..1000 {
        observe(&breaker, OK, 100 * SECOND_NS);
    }
    let opened = (0..20).find(|_| observe(&breaker, BAD, 111 * SECOND_NS).is_some());
    assert_eq!(opened, Some(4), "the fifth");
}

#[test]
fn the_time_doubles_with_each_probe_that_fails_up_to_the_longest_and_begins_anew_after_success() {
    let breaker = breaker(|terms| terms.backoff_max = Duration::from_secs(7));
    let mut now_ns = 0;
    let mut open = |breaker: &Arc<Breaker>| {
        for _ in 0..5 {
            observe(breaker, BAD, now_ns);
        }
        let mut times = Vec::new();
        for _ in 0..6 {
            let left = breaker.try_enter(true, now_ns).unwrap_err().left.unwrap();
            times.push(left.as_secs());
            now_ns += left.as_nanos() as u64;
            let _probe = breaker.try_enter(true, now_ns).unwrap().0.unwrap();
            observe(breaker, BAD, now_ns);
        }
        now_ns += 7 * SECOND_NS;
        let (probe, _) = breaker.try_enter(true, now_ns).unwrap();
        assert_eq!(observe(breaker, OK, now_ns), Some(Transition::Closed));
        drop(probe);
        assert!(breaker.is_closed(), "a guard that is dropped after the verdict changes nothing");
        times
    };
    assert_eq!(open(&breaker), [1, 2, 4, 7, 7, 7]);
    assert_eq!(open(&breaker), [1, 2, 4, 7, 7, 7]);
    assert_eq!(breaker.read(now_ns).opened, 14);
}

#[test]
fn jitter_is_added_to_the_time_and_the_time_that_the_upstream_asks_for_is_kept() {
    let asking = |seconds| Outcome::Answered {
        status: 503,
        grpc: None,
        retry_after: Some(Duration::from_secs(seconds)),
    };
    for (random, asked, expected_ms) in [
        (0, 0, 1000),
        (u64::MAX / 2, 0, 1250),
        (u64::MAX, 0, 1500),
        (0, 20, 20_000),
        (0, 3600, 60_000), // the longest time is the operator's
    ] {
        let breaker = breaker(|terms| terms.jitter_percent = 50);
        let mut time = Duration::ZERO;
        for _ in 0..5 {
            if let Some(Transition::Opened { time: open, .. }) =
                breaker.observe(asking(asked), 0, 0, || random)
            {
                time = open;
            }
        }
        assert!(time.as_millis().abs_diff(expected_ms) <= 1, "{random} {asked}: {time:?}");
    }
}

#[test]
fn what_began_before_the_breaker_opened_says_nothing_about_the_probe() {
    let breaker = breaker(|_| {});
    for _ in 0..5 {
        observe(&breaker, BAD, SECOND_NS);
    }
    let late = |outcome, now_ns| breaker.observe(outcome, SECOND_NS / 2, now_ns, || 0);
    assert_eq!(late(OK, SECOND_NS), None, "open: a late success closes nothing");
    let (probe, _) = breaker.try_enter(true, 3 * SECOND_NS).unwrap();
    assert_eq!(late(OK, 3 * SECOND_NS), None, "half-open: it is not the probe's");
    assert_eq!(late(BAD, 3 * SECOND_NS), None);
    assert_eq!(breaker.try_enter(true, 3 * SECOND_NS).unwrap_err().left, None);
    assert_eq!(breaker.observe(OK, 3 * SECOND_NS, 4 * SECOND_NS, || 0), Some(Transition::Closed));
    for _ in 0..50 {
        assert_eq!(late(BAD, 5 * SECOND_NS), None, "closed: late failures open it not again");
    }
    drop(probe);
    assert!(breaker.is_closed());
}

#[test]
fn a_probe_that_is_dropped_hands_its_part_to_the_next_request() {
    let breaker = breaker(|_| {});
    for _ in 0..5 {
        observe(&breaker, BAD, 0);
    }
    assert!(breaker.try_enter(false, SECOND_NS).is_err(), "a TRACE request is not the probe");
    assert_eq!(breaker.read(SECOND_NS).state, "open");
    let (first, transition) = breaker.try_enter(true, SECOND_NS).unwrap();
    assert_eq!(transition, Some(Transition::HalfOpen));
    assert!(breaker.try_enter(true, SECOND_NS).is_err(), "one at a time");
    drop(first);
    assert!(breaker.try_enter(false, SECOND_NS).is_err());
    let (second, transition) = breaker.try_enter(true, 2 * SECOND_NS).unwrap();
    assert_eq!(transition, None, "it was half-open before");
    assert_eq!(observe(&breaker, Outcome::Abandoned, 2 * SECOND_NS), None);
    assert!(breaker.try_enter(true, 2 * SECOND_NS).is_err(), "its guard is still held");
    assert!(matches!(
        observe(&breaker, THROTTLED, 2 * SECOND_NS),
        Some(Transition::Opened { reason: "probe_failed", time, .. }) if time.as_secs() == 2
    ));
    drop(second);
    assert_eq!(breaker.read(2 * SECOND_NS).state, "open");
    assert_eq!(breaker.read(2 * SECOND_NS).refused, 4);
}

/// What four workers get that do the same at the same time.
fn together<T: Send>(work: impl Fn() -> T + Sync) -> [T; 4] {
    let start = std::sync::Barrier::new(4);
    let work = || {
        start.wait();
        work()
    };
    std::thread::scope(|scope| [(); 4].map(|()| scope.spawn(work)).map(|worker| worker.join().unwrap()))
}

#[test]
fn workers_together_let_one_probe_through() {
    for round in 0..200 {
        let breaker = breaker(|_| {});
        for _ in 0..5 {
            observe(&breaker, BAD, 0);
        }
        let entered = together(|| breaker.try_enter(true, SECOND_NS).ok());
        let probes = entered.into_iter().flatten().filter_map(|(probe, _)| probe);
        assert_eq!(probes.collect::<Vec<_>>().len(), 1, "round {round}");
    }
}

#[test]
fn workers_together_open_it_once() {
    for _ in 0..200 {
        let breaker = breaker(|_| {});
        let opened = together(|| (0..10).filter(|_| observe(&breaker, BAD, 0).is_some()).count());
        assert_eq!((opened.iter().sum(), breaker.read(0).opened), (1usize, 1));
    }
}
