//! Times of the whole, of a try, of the content, and of the caller.

use super::super::deadline::{Deadlines, Table};
use super::super::mock::{Asked, Frames, MS, Play, World, answer, data, grpc_answer, read};
use super::*;
use crate::cluster::Config;
use crate::error::Kind;
use crate::exchange::{Hook, Policy, Tunnel};
use crate::svc::{Body, Method, ResponseHead};
use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt;

const SECOND: Duration = Duration::from_secs(1);

fn failures(world: &World) -> u64 {
    world.cluster.endpoints().endpoints[0].stats.failures.load(Ordering::Relaxed)
}

/// A world whose only endpoint takes a minute.
fn slow() -> Rc<World> {
    let world = World::new(&Config::default(), 1);
    world.usual.set((200, 60 * SECOND));
    world
}

async fn send(scope: Scope, world: &Rc<World>, asked: &mut Asked) -> (Result<Response>, Duration) {
    let start = Instant::now();
    let result = asked.send(&mut TimeoutLayer(scope).layer(world.service())).await;
    (result, start.elapsed())
}

fn kind(result: Result<Response>) -> Option<Kind> {
    result.err().map(|error| error.kind())
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_lets_the_time_pass_is_blamed() {
    let world = slow();
    let mut asked = Asked::new(&world, Policy::default(), Method::Get).deadline(15 * SECOND);
    let (result, time) = send(Scope::Request, &world, &mut asked).await;
    assert_eq!((kind(result), time), (Some(Kind::RequestTimeout), 15 * SECOND));
    assert_eq!((failures(&world), world.cancelled.get()), (1, 1));

    let world = slow();
    let policy = Policy { per_try_timeout: Some(2 * SECOND), ..Policy::default() };
    let (result, time) = send(Scope::Try, &world, &mut Asked::new(&world, policy, Method::Get)).await;
    let error = result.err().unwrap();
    assert_eq!((error.kind(), error.replay(), time), (Kind::PerTryTimeout, Replay::IfIdempotent, 2 * SECOND));
    assert_eq!(failures(&world), 1);
}

#[tokio::test(start_paused = true)]
async fn the_callers_own_deadline_says_nothing_of_the_endpoint() {
    let world = slow();
    let mut asked = Asked::new(&world, Policy::default(), Method::Get).deadline(3 * SECOND);
    asked.ctx.is_callers_deadline.set(true);
    let (result, time) = send(Scope::Request, &world, &mut asked).await;
    assert_eq!((kind(result), time, failures(&world)), (Some(Kind::DeadlineExceeded), 3 * SECOND, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_bounded_has_no_timer() {
    let world = World::new(&Config::default(), 1);
    let mut service = TimeoutLayer(Scope::Request).layer(world.service());
    assert!(service.call(Asked::new(&world, Policy::default(), Method::Get).take()).armed.is_none());
    let mut service = TimeoutLayer(Scope::Try).layer(world.service());
    let mut asked = Asked::new(&world, Policy::default(), Method::Get).deadline(SECOND);
    assert!(service.call(asked.take()).armed.is_none(), "that is the other one's matter");
}

fn stream_policy() -> Policy {
    Policy { stream_timeout: Some(5 * SECOND), ..Policy::default() }
}

#[tokio::test(start_paused = true)]
async fn the_stream_timeout_bounds_head_and_content() {
    let world = slow();
    let mut asked = Asked::new(&world, stream_policy(), Method::Get).deadline(15 * SECOND);
    let (result, time) = send(Scope::Request, &world, &mut asked).await;
    assert_eq!((kind(result), time), (Some(Kind::StreamTimeout), 5 * SECOND));
    assert_eq!(failures(&world), 0, "how long a stream lasts is not the endpoint's fault");

    let world = World::new(&Config::default(), 1);
    let frames = (0..20).map(|_| (SECOND, data("x"))).collect();
    let frames = Frames::new(frames);
    let dropped = Rc::clone(&frames.dropped);
    let mut step = answer(200, 500 * MS);
    step.play = Play::Answer(ResponseHead::new(200), Body::stream(frames));
    world.script(vec![step]);
    let start = Instant::now();
    let mut asked = Asked::new(&world, stream_policy(), Method::Get);
    let (result, _) = send(Scope::Request, &world, &mut asked).await;
    assert_eq!(read(result.unwrap().body).await, ("xxxx".to_owned(), None, Some(Kind::StreamTimeout)));
    assert_eq!((start.elapsed(), dropped.get()), (5 * SECOND, true));
}

#[tokio::test(start_paused = true)]
async fn a_grpc_call_that_is_cut_is_told_so_in_its_trailers() {
    let world = World::new(&Config::default(), 1);
    world.script(vec![grpc_answer(vec![(SECOND, data("x")), (60 * SECOND, data("y"))])]);
    let mut asked = Asked::new(&world, stream_policy(), Method::Post).grpc();
    let (result, _) = send(Scope::Request, &world, &mut asked).await;
    assert_eq!(read(result.unwrap().body).await, ("x".to_owned(), Some(4), None));
    assert_eq!(asked.ctx.recorder.edit().cause, Some(Kind::StreamTimeout), "the event says why all the same");
}

#[tokio::test(start_paused = true)]
async fn content_from_the_client_is_bounded_too() {
    let world = World::new(&Config::default(), 1);
    let body = Body::stream(Frames::endless(vec![(SECOND, data("x"))]));
    let mut asked = Asked::new(&world, stream_policy(), Method::Put).body(body);
    let (result, time) = send(Scope::Request, &world, &mut asked).await;
    // The mock answers once the content has ended, which it does with an error.
    assert!(result.is_ok() || kind(result) == Some(Kind::StreamTimeout));
    assert_eq!((time, world.seen.borrow()[0].content.as_str()), (5 * SECOND, "x"));
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_is_bounded_too() {
    let world = World::new(&Config::default(), 1);
    let asked = Asked::new(&world, stream_policy(), Method::Get);
    let whole = Bound::of_whole(&asked.ctx).unwrap();
    let (near, _far) = tokio::io::duplex(64);
    let mut response = Response::new(ResponseHead::new(101), Body::empty());
    response.tunnel = Some(Tunnel { io: Box::new(near), ahead: Bytes::new() });
    bound_response(&mut response, whole, &asked.ctx);
    let start = Instant::now();
    let mut byte = [0];
    assert!(response.tunnel.unwrap().io.read(&mut byte).await.is_err());
    assert_eq!((start.elapsed(), asked.ctx.recorder.edit().cause), (5 * SECOND, Some(Kind::StreamTimeout)));
}

#[tokio::test(start_paused = true)]
async fn a_grpc_deadline_bounds_the_content_and_the_routes_timeout_does_not() {
    let world = World::new(&Config::default(), 1);
    let frames = || (0..20).map(|_| (SECOND, data("x"))).collect();
    for (timeout, expected) in [
        (None, ("x".repeat(20), None, None)),
        (Some("8S"), ("xxxxxxxx".to_owned(), Some(4), None)),
        (Some("1M"), ("x".repeat(20), None, None)),
    ] {
        world.script(vec![grpc_answer(frames())]);
        let mut asked = Asked::new(&world, Policy::default(), Method::Post).grpc().deadline(3 * SECOND);
        if let Some(timeout) = timeout {
            asked = asked.field("grpc-timeout", timeout);
        }
        let mut exchange = asked.take();
        Deadlines::new(Arc::new(Table::default())).before(&mut exchange).unwrap();
        asked.exchange = Some(exchange);
        let (result, _) = send(Scope::Request, &world, &mut asked).await;
        // 8 s are up just as the eighth piece comes; the timer is looked at first.
        let found = read(result.unwrap().body).await;
        assert_eq!((found.1, found.2), (expected.1, expected.2), "{timeout:?}");
        assert!(expected.0.len() - found.0.len() <= 1, "{timeout:?} {}", found.0);
    }
}
