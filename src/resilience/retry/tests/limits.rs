//! What bounds retries: their number, the deadline, the caps, the budget.

use super::*;
use crate::cluster::config::{CircuitBreaker, RetryBudget};
use crate::cluster::{Breakers, Journal};
use proptest::prelude::*;
use std::cell::Cell;

fn config(retry_budget: RetryBudget, retries: Option<usize>) -> Config {
    let circuit_breaker = CircuitBreaker { retries, ..CircuitBreaker::NONE };
    Config { retry_budget, circuit_breaker, ..Config::default() }
}

fn budget(percent: u32, per_second_min: u32) -> RetryBudget {
    RetryBudget { percent, per_second_min, ttl: Duration::from_secs(10) }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_waited_for_that_comes_after_the_deadline() {
    for (retry_after, deadline_s, attempts, denied) in [
        ("3", 5, 2, None),
        ("5", 5, 1, Some("deadline")),
        ("301", 400, 1, Some("retry_after")),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 400, 1, Some("retry_after")),
        ("0", 5, 2, None),
        ("nonsense", 5, 2, None),
    ] {
        let world = World::new(&Config::default(), 2);
        world.script(vec![answer_with(503, &[("retry-after", retry_after)])]);
        let mut asked =
            Asked::new(&world, policy(GATEWAY), Method::Get).deadline(Duration::from_secs(deadline_s));
        asked.send(&mut retry(&world)).await.unwrap();
        assert_eq!((world.attempts(), asked.denied()), (attempts, denied), "{retry_after}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_stream_timeout_is_a_deadline_too() {
    let world = World::new(&Config::default(), 2);
    world.script(vec![answer_with(503, &[("retry-after", "3")])]);
    let policy = Policy { stream_timeout: Some(Duration::from_secs(2)), ..policy(GATEWAY) };
    let mut asked = Asked::new(&world, policy, Method::Get);
    asked.send(&mut retry(&world)).await.unwrap();
    assert_eq!((world.attempts(), asked.denied()), (1, Some("deadline")));
}

#[tokio::test(start_paused = true)]
async fn an_empty_budget_ends_it() {
    let world = World::new(&config(budget(0, 0), None), 2);
    world.script(vec![refused()]);
    let mut asked =
        Asked::new(&world, policy(RetryOn { connect_failure: true, ..RetryOn::default() }), Method::Get);
    assert!(asked.send(&mut retry(&world)).await.is_err());
    assert_eq!((asked.denied(), world.cluster.stats.budget_exhausted.get()), (Some("budget"), 1));
    assert_eq!(world.cluster.breakers.retries.active(), 0, "the place is given back");
}

#[tokio::test(start_paused = true)]
async fn a_retry_counts_under_the_cap_until_its_content_has_ended() {
    let world = World::new(&config(RetryBudget::default(), Some(1)), 2);
    world.script(vec![refused()]);
    let on = RetryOn { connect_failure: true, ..RetryOn::default() };
    let mut first = Asked::new(&world, policy(on), Method::Get);
    let response = first.send(&mut retry(&world)).await.unwrap();
    assert_eq!(world.cluster.breakers.retries.active(), 1);
    world.script(vec![refused()]);
    let mut second = Asked::new(&world, policy(on), Method::Get);
    assert!(second.send(&mut retry(&world)).await.is_err());
    assert_eq!(second.denied(), Some("cap"));
    drop((first, response));
    assert_eq!(world.cluster.breakers.retries.active(), 0);
    world.script(vec![refused()]);
    assert!(Asked::new(&world, policy(on), Method::Get).send(&mut retry(&world)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_cap_of_the_route_counts_too() {
    let world = World::new(&Config::default(), 2);
    world.script(vec![refused()]);
    let none = CircuitBreaker { retries: Some(0), ..CircuitBreaker::NONE };
    let breakers = Arc::new(Breakers::new("route", &"r".into(), &none, &Journal::none()));
    let policy = Policy { breakers: Some(breakers), retry: default_policy(), ..Policy::default() };
    let mut asked = Asked::new(&world, policy, Method::Get);
    assert!(asked.send(&mut retry(&world)).await.is_err());
    assert_eq!((asked.denied(), world.cluster.breakers.retries.active()), (Some("cap"), 0));
}

#[tokio::test(start_paused = true)]
async fn an_exchange_that_is_given_up_while_it_waits_leaves_nothing_behind() {
    let world = World::new(&Config::default(), 2);
    world.script(vec![answer_with(503, &[("retry-after", "60")])]);
    let mut asked = Asked::new(&world, policy(GATEWAY), Method::Get);
    let mut service = retry(&world);
    assert!(tokio::time::timeout(Duration::from_secs(1), asked.send(&mut service)).await.is_err());
    assert_eq!((world.attempts(), world.cluster.breakers.retries.active(), world.in_flight(1)), (1, 0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// However requests fail and whenever they come: what was sent is at most what was asked and the budget.
    #[test]
    fn attempts_are_bounded_by_the_budget(
        percent in 0u32..60,
        per_second_min in 0u32..3,
        limit in 0u32..6,
        requests in proptest::collection::vec((0u64..400, 0u8..4), 1..150),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let world = World::new(&config(budget(percent, per_second_min), None), 3);
            let mut retry_policy = RetryPolicy { retries_max: limit, ..policy(GATEWAY).retry };
            retry_policy.backoff_base = Duration::ZERO;
            let begun = Cell::new(0);
            for (pause_ms, failures) in requests {
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                for _ in 0..failures {
                    world.script(vec![answer(503, Duration::ZERO)]);
                }
                begun.set(begun.get() + 1u64);
                let policy = Policy { retry: retry_policy.clone(), ..Policy::default() };
                let before = world.attempts();
                Asked::new(&world, policy, Method::Get).send(&mut retry(&world)).await.unwrap();
                assert!(world.attempts() - before <= 1 + limit as usize);
            }
            let windows = 1 + world.seen.borrow().last().unwrap().at.as_secs() / 10;
            let reserve = u64::from(per_second_min) * 10 * (windows + 1);
            let allowed = begun.get() + begun.get() * u64::from(percent) / 100 + reserve;
            assert!(world.attempts() as u64 <= allowed, "{} of {allowed}", world.attempts());
            assert_eq!(world.attempts() as u64 - begun.get(), world.cluster.stats.retries.get());
        });
    }
}
