//! Two attempts at once, over endpoints that do what a script says.

use super::super::mock::{
    Asked, Frames, Inner, MS, World, answer, answer_with, data, failure, read, refused,
};
use super::super::retry::{Retry, RetryLayer};
use super::super::timeout::{Scope, TimeoutLayer};
use crate::cluster::config::{CircuitBreaker, RetryBudget};
use crate::cluster::{Config, clock_ns};
use crate::error::{Kind, Replay};
use crate::exchange::{Hedge, Policy, RetryOn, RetryPolicy};
use crate::svc::{Body, Method};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;
use tower::{Layer, Service};

/// A hedge after 10 ms, and no retries.
fn policy() -> Policy {
    Policy { hedge: Some(Hedge { quantile: None, time: 10 * MS }), ..Policy::default() }
}

fn with_retries() -> Policy {
    let on = RetryOn { gateway_error: true, connect_failure: true, ..RetryOn::default() };
    let retry_after_max = Duration::from_secs(300);
    let retry = RetryPolicy { retries_max: 2, on, retry_after_max, ..RetryPolicy::default() };
    Policy { retry, ..policy() }
}

fn service(world: &Rc<World>) -> Retry<Inner> {
    RetryLayer { body_bytes_max: 64 }.layer(world.service())
}

fn hedges(asked: &Asked) -> (u32, bool) {
    let record = asked.ctx.recorder.edit();
    record.notes.as_ref().map_or((0, false), |notes| (notes.hedges, notes.is_hedge_answer))
}

fn endpoint(asked: &Asked) -> String {
    asked.ctx.recorder.edit().endpoint.as_deref().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn the_answer_that_comes_first_counts_and_the_other_is_cancelled() {
    let world = World::new(&Config::default(), 3);
    world.script(vec![answer(200, Duration::from_secs(5)), answer(201, 20 * MS)]);
    let mut asked = Asked::new(&world, policy(), Method::Put).body(Body::from("x")).field("x-kept", "1");
    let start = Instant::now();
    let response = asked.send(&mut service(&world)).await.unwrap();
    assert_eq!((response.head.status, start.elapsed(), world.cancelled.get()), (201, 30 * MS, 1));
    assert_eq!((world.ports(), hedges(&asked)), (vec![1, 2], (1, true)));
    assert_eq!((endpoint(&asked).as_str(), asked.ctx.recorder.edit().attempts), ("127.0.0.1:2", 2));
    {
        let seen = &world.seen.borrow()[1];
        let (content, field) = (seen.content.as_str(), seen.field("x-kept"));
        assert_eq!((content, field, seen.at), ("x", Some("1"), 10 * MS));
    }
    let stats = &world.cluster.stats;
    assert_eq!((stats.hedges.get(), stats.hedges_won.get(), stats.retries.get()), (1, 1, 0));
    // What the winner holds it holds until its content has ended; the loser holds nothing any more.
    assert_eq!((world.in_flight(1), world.in_flight(2)), (0, 1));
    let breakers = &world.cluster.breakers;
    assert_eq!((breakers.requests.active(), breakers.retries.active()), (1, 1));
    assert_eq!(read(response.body).await.0, "content");
    drop(asked);
    assert_eq!((world.in_flight(2), breakers.requests.active(), breakers.retries.active()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_first_attempt_that_comes_in_after_all_counts_too() {
    let world = World::new(&Config::default(), 2);
    world.script(vec![answer(200, 25 * MS), answer(201, 60 * MS)]);
    let mut asked = Asked::new(&world, policy(), Method::Get);
    let response = asked.send(&mut service(&world)).await.unwrap();
    assert_eq!((response.head.status, world.cancelled.get(), hedges(&asked)), (200, 1, (1, false)));
    assert_eq!(endpoint(&asked), "127.0.0.1:1", "though the other one was picked last");
    assert_eq!((world.in_flight(1), world.in_flight(2)), (1, 0));
    assert_eq!((world.cluster.breakers.retries.active(), world.cluster.stats.hedges_won.get()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_learned_with_the_last_byte_is_learned_of_the_winner() {
    let world = World::new(&Config::default(), 2);
    world.learns_early.set(false);
    world.script(vec![answer(200, Duration::from_secs(5)), answer(200, 20 * MS)]);
    let mut asked = Asked::new(&world, policy(), Method::Get);
    let response = asked.send(&mut service(&world)).await.unwrap();
    assert_eq!((world.in_flight(1), world.in_flight(2)), (0, 1));
    let set = world.cluster.endpoints();
    let average = |index: usize| set.endpoints[index].load.average(clock_ns(Instant::now()));
    assert_eq!(average(1), None, "nothing is known of it before its content has ended");
    drop((asked, response));
    assert_eq!((world.in_flight(2), world.cluster.breakers.requests.active()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_fast_answer_is_not_hedged() {
    let world = World::new(&Config::default(), 2);
    let mut asked = Asked::new(&world, policy(), Method::Get);
    asked.send(&mut service(&world)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((world.attempts(), hedges(&asked)), (1, (0, false)));
}

#[tokio::test(start_paused = true)]
async fn of_two_attempts_the_one_that_fails_leaves_the_other_alone() {
    for (first, second, expected, ports) in [
        // The hedge fails first.
        (answer(200, 50 * MS), answer(503, MS), (200, false), vec![1, 2]),
        (answer(200, 50 * MS), refused(), (200, false), vec![1, 2]),
        // The first attempt fails while the hedge is under way.
        (answer(502, 20 * MS), answer(200, 50 * MS), (200, true), vec![1, 2]),
        (answer(429, 20 * MS), answer(200, 50 * MS), (200, true), vec![1, 2]),
        // Both fail, in either order: then the route's retries have their turn.
        (answer(502, 20 * MS), answer(503, 50 * MS), (200, false), vec![1, 2, 3]),
        (answer(502, 60 * MS), answer(503, 20 * MS), (200, false), vec![1, 2, 3]),
    ] {
        let world = World::new(&Config::default(), 3);
        world.script(vec![first, second]);
        let mut asked = Asked::new(&world, with_retries(), Method::Get);
        let response = asked.send(&mut service(&world)).await.unwrap();
        assert_eq!((response.head.status, hedges(&asked).1), expected);
        assert_eq!(world.ports(), ports);
        drop((asked, response));
        let breakers = &world.cluster.breakers;
        let left = (1..=3).map(|port| world.in_flight(port)).sum::<u32>();
        assert_eq!((left, breakers.requests.active(), breakers.retries.active()), (0, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn without_retries_the_failure_that_came_last_counts() {
    let world = World::new(&Config::default(), 3);
    world.script(vec![answer(502, 20 * MS), failure(Kind::UpstreamReset, Replay::Never)]);
    let mut asked = Asked::new(&world, policy(), Method::Get);
    let response = asked.send(&mut service(&world)).await.unwrap();
    assert_eq!((response.head.status, world.attempts()), (502, 2));
}

#[tokio::test(start_paused = true)]
async fn only_what_may_be_repeated_is_hedged() {
    for (asked, expected) in [
        (Asked::new(&World::new(&Config::default(), 2), policy(), Method::Get), 2),
        (Asked::new(&World::new(&Config::default(), 2), policy(), Method::Post), 1),
        (
            Asked::new(&World::new(&Config::default(), 2), policy(), Method::Post)
                .field("idempotency-key", "k"),
            2,
        ),
        (Asked::new(&World::new(&Config::default(), 2), policy(), Method::Get).trace(), 1),
    ] {
        let world = World::new(&Config::default(), 2);
        *asked.ctx.cluster.borrow_mut() = Some(std::sync::Arc::clone(&world.cluster));
        let mut asked = asked;
        world.usual.set((200, 50 * MS));
        asked.send(&mut service(&world)).await.unwrap();
        assert_eq!(world.attempts(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_and_a_cluster_of_one_are_not_hedged() {
    let world = World::new(&Config::default(), 2);
    world.usual.set((200, 50 * MS));
    let mut asked = Asked::new(&world, policy(), Method::Get);
    let mut exchange = asked.take();
    exchange.head.upgrade = Some(exchange.head.fields.store(b"websocket"));
    service(&world).call(exchange).await.unwrap();
    assert_eq!(world.attempts(), 1);

    let world = World::new(&Config::default(), 1);
    world.usual.set((200, 50 * MS));
    Asked::new(&world, policy(), Method::Get).send(&mut service(&world)).await.unwrap();
    assert_eq!(world.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_slow_to_send_is_not_the_endpoints_fault() {
    for (time, expected) in [(2 * MS, 2), (30 * MS, 1)] {
        let world = World::new(&Config::default(), 2);
        world.usual.set((200, 50 * MS));
        let body = Body::stream(Frames::new(vec![(time, data("x"))]));
        let mut asked = Asked::new(&world, policy(), Method::Put).body(body);
        asked.send(&mut service(&world)).await.unwrap();
        assert_eq!(world.attempts(), expected);
        assert!(world.seen.borrow().iter().all(|seen| seen.content == "x"));
    }
}

#[tokio::test(start_paused = true)]
async fn hedges_are_paid_for_and_counted_like_retries() {
    let budget = RetryBudget { percent: 0, per_second_min: 0, ttl: Duration::from_secs(10) };
    let world = World::new(&Config { retry_budget: budget, ..Config::default() }, 2);
    world.usual.set((200, 50 * MS));
    let mut asked = Asked::new(&world, policy(), Method::Get);
    asked.send(&mut service(&world)).await.unwrap();
    assert_eq!((world.attempts(), world.cluster.stats.budget_exhausted.get()), (1, 1));

    let circuit_breaker = CircuitBreaker { retries: Some(0), ..CircuitBreaker::NONE };
    let world = World::new(&Config { circuit_breaker, ..Config::default() }, 2);
    world.usual.set((200, 50 * MS));
    Asked::new(&world, policy(), Method::Get).send(&mut service(&world)).await.unwrap();
    assert_eq!(world.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_quantile_is_that_of_the_cluster() {
    let world = World::new(&Config::default(), 2);
    let by_quantile = || Policy { hedge: Some(Hedge { quantile: Some(950), time: MS }), ..Policy::default() };
    world.usual.set((200, 40 * MS));
    for _ in 0..30 {
        Asked::new(&world, by_quantile(), Method::Get).send(&mut service(&world)).await.unwrap();
    }
    assert_eq!(world.attempts(), 30, "40 ms are usual here");
    world.script(vec![answer(200, Duration::from_secs(5)), answer(200, MS)]);
    let start = Instant::now();
    let mut asked = Asked::new(&world, by_quantile(), Method::Get);
    asked.send(&mut service(&world)).await.unwrap();
    assert_eq!(hedges(&asked), (1, true));
    assert!((40 * MS..48 * MS).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_wins_does_not_hide_how_long_the_first_attempt_took() {
    let world = World::new(&Config::default(), 2);
    let by_quantile = || Policy { hedge: Some(Hedge { quantile: Some(900), time: MS }), ..Policy::default() };
    for index in 0..400 {
        // One of five takes long: more than are beyond the quantile, so it should settle at what these take.
        let time = if index % 5 == 0 { 500 * MS } else { 10 * MS };
        world.script(vec![answer(200, time)]);
        world.usual.set((200, 10 * MS));
        Asked::new(&world, by_quantile(), Method::Get).send(&mut service(&world)).await.unwrap();
        world.script(Vec::new());
    }
    let sent = world.cluster.stats.hedges.get();
    assert!(sent <= 80, "{sent} hedges for 400 requests");
    let quantile = world.cluster.latency.quantile(900, clock_ns(Instant::now())).unwrap();
    assert!(quantile > 10 * MS, "it does not shrink to what is fast: {quantile:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_measured_where_no_route_wants_a_quantile() {
    let world = World::new(&Config::default(), 2);
    Asked::new(&world, policy(), Method::Get).send(&mut service(&world)).await.unwrap();
    Asked::new(&world, Policy::default(), Method::Get).send(&mut service(&world)).await.unwrap();
    assert!(!world.cluster.latency.is_used());
}

#[tokio::test(start_paused = true)]
async fn each_of_the_two_has_its_own_time() {
    let world = World::new(&Config::default(), 3);
    world.script(vec![answer(200, Duration::from_secs(60)), answer(201, 90 * MS)]);
    let mut service =
        RetryLayer { body_bytes_max: 64 }.layer(TimeoutLayer(Scope::Try).layer(world.service()));
    let policy = Policy { per_try_timeout: Some(95 * MS), ..policy() };
    let mut asked = Asked::new(&world, policy, Method::Get);
    let response = asked.send(&mut service).await.unwrap();
    assert_eq!(
        (response.head.status, hedges(&asked)),
        (201, (1, true)),
        "the first one was given up at 95 ms"
    );
}

#[tokio::test(start_paused = true)]
async fn both_are_given_up_when_nobody_waits_any_longer() {
    let world = World::new(&Config::default(), 2);
    world.usual.set((200, Duration::from_secs(60)));
    let mut asked = Asked::new(&world, policy(), Method::Get);
    let mut service = service(&world);
    assert!(tokio::time::timeout(Duration::from_secs(1), asked.send(&mut service)).await.is_err());
    assert_eq!((world.attempts(), world.cancelled.get()), (2, 2));
    drop(asked);
    let breakers = &world.cluster.breakers;
    assert_eq!((breakers.requests.active(), breakers.retries.active()), (0, 0));
    assert_eq!((world.in_flight(1), world.in_flight(2)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_says_to_wait_is_not_hedged_again() {
    let world = World::new(&Config::default(), 3);
    world.script(vec![answer_with(503, &[("retry-after", "1")])]);
    world.usual.set((200, 50 * MS));
    let mut asked = Asked::new(&world, with_retries(), Method::Get);
    asked.send(&mut service(&world)).await.unwrap();
    assert_eq!((world.attempts(), hedges(&asked)), (2, (0, false)), "a retry is not hedged");
}
