//! The layer over endpoints that do what a script says; which conditions there are is in [`table`].

mod limits;
mod table;
mod trailers;

use super::super::mock::{Asked, Frames, MS, World, answer, answer_with, data, failure, read, refused};
use super::super::timeout::{Scope, TimeoutLayer};
use super::*;
use crate::cluster::Config;
use crate::error::{Kind, Refusal, Replay};
use crate::exchange::{Policy, RetryOn, RetryPolicy};
use crate::svc::Method;
use std::rc::Rc;
use std::time::Duration;

/// What a route without `retry` has.
pub(super) fn default_policy() -> RetryPolicy {
    RetryPolicy {
        retries_max: 2,
        on: RetryOn { connect_failure: true, refused_stream: true, ..RetryOn::default() },
        backoff_base: 25 * MS,
        backoff_max: 250 * MS,
        retry_after_max: Duration::from_secs(300),
        ..RetryPolicy::default()
    }
}

pub(super) fn policy(on: RetryOn) -> Policy {
    Policy { retry: RetryPolicy { on, ..default_policy() }, ..Policy::default() }
}

const GATEWAY: RetryOn = RetryOn {
    gateway_error: true,
    connect_failure: false,
    refused_stream: false,
    server_error: false,
    reset: false,
    retriable_4xx: false,
    rate_limited: false,
    grpc_cancelled: false,
    grpc_deadline_exceeded: false,
    grpc_internal: false,
    grpc_resource_exhausted: false,
    grpc_unavailable: false,
};

pub(super) fn retry(world: &Rc<World>) -> Retry<super::super::mock::Inner> {
    RetryLayer { body_bytes_max: 64 }.layer(world.service())
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_is_tried_elsewhere_whatever_the_method() {
    let world = World::new(&Config::default(), 3);
    world.script(vec![refused(), failure(Kind::UpstreamRefused, Replay::Safe)]);
    let policy = Policy { retry: default_policy(), ..Policy::default() };
    let mut asked = Asked::new(&world, policy, Method::Post).body(Body::from("order"));
    let response = asked.send(&mut retry(&world)).await.unwrap();
    assert_eq!((response.head.status, world.ports()), (200, vec![1, 2, 3]));
    assert_eq!(world.seen.borrow()[2].content, "order");
    assert_eq!((asked.reasons().as_str(), asked.denied()), ("connect_failed,upstream_refused", None));
    let waited = world.seen.borrow()[2].at;
    assert!(waited <= 100 * MS, "25 ms and 75 ms at most, not {waited:?}");
    let noted = asked.ctx.recorder.edit().note().backoff;
    assert!(noted <= waited && waited - noted <= 3 * MS, "{noted:?} of {waited:?}: timers have milliseconds");
    assert_eq!((world.cluster.stats.retries.get(), asked.ctx.recorder.edit().attempts), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn waits_are_random_and_below_their_ceilings() {
    let mut waits = Vec::new();
    for seed in 0..50 {
        let world = World::new(&Config::default(), 2);
        for _ in 0..seed {
            world.cluster.random();
        }
        world.script(vec![refused(), refused()]);
        let policy = Policy { retry: default_policy(), ..Policy::default() };
        Asked::new(&world, policy, Method::Get).send(&mut retry(&world)).await.unwrap();
        let seen = world.seen.borrow();
        waits.push((seen[1].at, seen[2].at - seen[1].at));
    }
    assert!(waits.iter().all(|(first, second)| *first <= 25 * MS && *second <= 76 * MS), "{waits:?}");
    assert!(
        waits.iter().any(|(first, _)| *first < 8 * MS) && waits.iter().any(|(first, _)| *first > 17 * MS)
    );
    assert!(waits.iter().any(|(_, second)| *second > 50 * MS), "the second ceiling is three times the first");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_repeated_only_where_nothing_can_happen_twice() {
    for (method, key, is_idempotent, is_trace, expected, denied) in [
        (Method::Get, false, false, false, 200, None),
        (Method::Put, false, false, false, 200, None),
        (Method::Post, false, false, false, 503, Some("not_idempotent")),
        (Method::Patch, false, false, false, 503, Some("not_idempotent")),
        (Method::Post, true, false, false, 200, None),
        (Method::Post, false, true, false, 200, None),
        (Method::Get, false, false, true, 503, Some("trace")),
        (Method::Post, true, true, true, 503, Some("trace")),
    ] {
        let world = World::new(&Config::default(), 2);
        world.script(vec![answer(503, MS)]);
        let mut policy = policy(GATEWAY);
        policy.retry.is_idempotent = is_idempotent;
        let mut asked = Asked::new(&world, policy, method);
        if key {
            asked = asked.field("idempotency-key", "k");
        }
        if is_trace {
            asked = asked.trace();
        }
        let response = asked.send(&mut retry(&world)).await.unwrap();
        assert_eq!((response.head.status, asked.denied()), (expected, denied), "{method:?} {key} {is_trace}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tracer_bullet_is_sent_once_even_if_nothing_was_sent() {
    let world = World::new(&Config::default(), 2);
    world.script(vec![refused()]);
    let policy = Policy { retry: default_policy(), ..Policy::default() };
    let mut asked = Asked::new(&world, policy, Method::Get).trace();
    assert_eq!(asked.send(&mut retry(&world)).await.err().unwrap().kind(), Kind::ConnectFailed);
    assert_eq!((world.attempts(), asked.denied()), (1, Some("trace")));
}

#[tokio::test(start_paused = true)]
async fn a_try_that_takes_too_long_is_repeated_and_its_endpoint_is_blamed() {
    // With the timeout outside of what learns, and inside of it: here the mock does not learn of what is cancelled.
    let world = World::new(&Config::default(), 2);
    world.script(vec![answer(200, Duration::from_secs(60))]);
    let timeout = TimeoutLayer(Scope::Try).layer(world.service());
    let mut service = RetryLayer { body_bytes_max: 64 }.layer(timeout);
    let policy = Policy { per_try_timeout: Some(Duration::from_secs(1)), ..policy(GATEWAY) };
    let mut asked =
        Asked::new(&world, policy, Method::Put).body(Body::stream(Frames::new(vec![(MS, data("x"))])));
    let response = asked.send(&mut service).await.unwrap();
    assert_eq!((response.head.status, world.ports(), world.cancelled.get()), (200, vec![1, 2], 1));
    assert_eq!(world.seen.borrow()[1].content, "x", "the content is sent again");
    assert_eq!(asked.reasons(), "per_try_timeout");
    let failures = |index: usize| {
        world.cluster.endpoints().endpoints[index].stats.failures.load(std::sync::atomic::Ordering::Relaxed)
    };
    assert_eq!((failures(0), failures(1)), (1, 0));
    assert_eq!((world.in_flight(1), world.in_flight(2)), (0, 1), "until the content has ended");
    drop((asked, response));
    assert_eq!((world.in_flight(2), world.cluster.breakers.requests.active()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_broke_is_repeated_though_the_client_keeps_the_head() {
    let on = RetryOn { reset: true, ..RetryOn::default() };
    for (method, expected) in [(Method::Get, Ok(200)), (Method::Post, Err(Kind::UpstreamReset))] {
        let world = World::new(&Config::default(), 2);
        world.script(vec![failure(Kind::UpstreamReset, Replay::Never)]);
        let mut asked = Asked::new(&world, policy(on), method).field("x-kept", "1");
        let result = asked.send(&mut retry(&world)).await;
        assert_eq!(result.map(|response| response.head.status).map_err(|error| error.kind()), expected);
        if expected.is_ok() {
            assert_eq!(world.seen.borrow()[1].field("x-kept"), Some("1"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_default_configuration_copies_nothing() {
    let world = World::new(&Config::default(), 2);
    let has_copy = |policy: Policy, method: Method, is_trace: bool| {
        let mut asked = Asked::new(&world, policy, method);
        if is_trace {
            asked = asked.trace();
        }
        retry(&world).call(asked.take()).plan.is_some_and(|plan| plan.copy.is_some())
    };
    assert!(!has_copy(Policy { retry: default_policy(), ..Policy::default() }, Method::Get, false));
    assert!(!has_copy(Policy::default(), Method::Get, false));
    assert!(has_copy(policy(GATEWAY), Method::Get, false));
    assert!(!has_copy(policy(GATEWAY), Method::Post, false), "it would not be repeated anyway");
    assert!(!has_copy(policy(GATEWAY), Method::Get, true));
    assert!(retry(&world).call(Asked::new(&world, Policy::default(), Method::Get).take()).plan.is_none());
}

#[tokio::test(start_paused = true)]
async fn content_that_is_too_long_to_be_kept_is_sent_once() {
    let long: &'static str = "0123456789012345678901234567890123456789";
    for (pieces, expected, denied) in [(1, 200, None), (2, 503, Some("body"))] {
        let world = World::new(&Config::default(), 2);
        world.script(vec![answer(503, MS)]);
        let frames = (0..pieces).map(|_| (MS, data(long))).collect();
        let body = Body::stream(Frames::new(frames));
        let mut asked = Asked::new(&world, policy(GATEWAY), Method::Put).body(body);
        let response = asked.send(&mut retry(&world)).await.unwrap();
        assert_eq!((response.head.status, asked.denied()), (expected, denied));
        assert_eq!(world.seen.borrow().last().unwrap().content.len(), pieces * long.len());
    }
}

#[tokio::test(start_paused = true)]
async fn the_content_of_an_answer_that_is_not_used_is_cancelled() {
    let world = World::new(&Config::default(), 2);
    let frames = Frames::endless(vec![(Duration::ZERO, data("x"))]);
    let dropped = Rc::clone(&frames.dropped);
    let mut step = answer(502, MS);
    step.play = super::super::mock::Play::Answer(crate::svc::ResponseHead::new(502), Body::stream(frames));
    world.script(vec![step, answer(200, 5 * MS)]);
    let mut asked = Asked::new(&world, policy(GATEWAY), Method::Get);
    assert_eq!(asked.send(&mut retry(&world)).await.unwrap().head.status, 200);
    assert!(dropped.get());
    assert_eq!(world.in_flight(1), 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_proxy_refuses_itself_is_not_tried_again() {
    let all = RetryOn { connect_failure: true, server_error: true, reset: true, ..GATEWAY };
    let refusal = |scope| Refusal::new("connections", scope, &"c".into(), 1, 2);
    for (error, attempts) in [
        (Error::from(Kind::NoEndpoint), 1),
        (Error::from(Kind::NoHealthyEndpoint), 1),
        (Error::from(Kind::DnsFailed), 1),
        (Error::from(Kind::BreakerOpen), 1),
        (Error::from(Kind::Overflow).with_refusal(refusal("cluster")), 1),
        (Error::from(Kind::Overflow).with_refusal(refusal("endpoint")), 2),
        (Error::from(Kind::LoopDetected), 1),
        (Error::from(Kind::Draining), 1),
        (Error::from(Kind::RequestBodyTimeout), 1),
    ] {
        let kind = error.kind();
        let world = World::new(&Config::default(), 2);
        let mut step = refused();
        step.play = super::super::mock::Play::Fail(error.with_replay(Replay::Safe), true);
        world.script(vec![step]);
        let _ = Asked::new(&world, policy(all), Method::Get).send(&mut retry(&world)).await;
        assert_eq!(world.attempts(), attempts, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_failure_is_the_one_that_counts() {
    let world = World::new(&Config::default(), 3);
    world.script(vec![answer(502, MS), answer(503, MS), answer(504, MS), answer(200, MS)]);
    let mut asked = Asked::new(&world, policy(GATEWAY), Method::Get);
    let response = asked.send(&mut retry(&world)).await.unwrap();
    assert_eq!((response.head.status, asked.reasons().as_str()), (504, "502,503"));
    assert_eq!(asked.denied(), Some("limit"));
    assert_eq!(read(response.body).await.0, "content", "it is passed on as it came");
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_told_what_is_left() {
    let world = World::new(&Config::default(), 3);
    world.script(vec![answer(503, Duration::from_secs(2))]);
    let mut policy = Policy { announces_deadline: true, ..policy(GATEWAY) };
    policy.retry.backoff_base = Duration::ZERO;
    let mut asked = Asked::new(&world, policy, Method::Get).deadline(Duration::from_secs(5));
    asked.send(&mut retry(&world)).await.unwrap();
    let seen = world.seen.borrow();
    let left: Vec<_> = seen.iter().map(|seen| seen.field("x-envoy-expected-rq-timeout-ms")).collect();
    assert_eq!(left, [Some("5000"), Some("3000")]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_what_asks_for_a_wait_is_waited_for() {
    let world = World::new(&Config::default(), 2);
    world.script(vec![answer_with(503, &[("retry-after", "7")])]);
    let mut asked = Asked::new(&world, policy(GATEWAY), Method::Get);
    assert_eq!(asked.send(&mut retry(&world)).await.unwrap().head.status, 200);
    assert_eq!(world.seen.borrow()[1].at.as_secs(), 7);
}
