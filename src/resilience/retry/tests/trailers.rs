//! gRPC: the status in the head, or in trailers that are looked at before anything is passed on.

use super::super::super::mock::{grpc_answer, trailers};
use super::*;

fn unavailable() -> Policy {
    let mut policy = policy(RetryOn { grpc_unavailable: true, ..RetryOn::default() });
    policy.retry.is_idempotent = true;
    policy
}

async fn call(world: &Rc<World>, policy: Policy) -> (Asked, Response) {
    let mut asked = Asked::new(world, policy, Method::Post).grpc().body(Body::from("call"));
    let response = asked.send(&mut retry(world)).await.unwrap();
    (asked, response)
}

#[tokio::test(start_paused = true)]
async fn a_status_in_the_head_or_in_trailers_without_data_is_tried_again() {
    let in_head = || answer_with(200, &[("grpc-status", "14")]);
    let in_trailers = || grpc_answer(vec![(MS, trailers(&[("grpc-status", "14")]))]);
    for first in [in_head(), in_trailers()] {
        let world = World::new(&Config::default(), 2);
        let good = grpc_answer(vec![(MS, data("reply")), (MS, trailers(&[("grpc-status", "0")]))]);
        world.script(vec![first, good]);
        let (asked, response) = call(&world, unavailable()).await;
        assert_eq!((asked.reasons().as_str(), world.ports()), ("grpc-14", vec![1, 2]));
        assert_eq!(world.seen.borrow()[1].content, "call");
        assert_eq!(
            read(response.body).await,
            ("reply".to_owned(), Some(0), None),
            "what was looked at is put back"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_not_retried_comes_through_with_its_trailers() {
    let world = World::new(&Config::default(), 2);
    world.script(vec![grpc_answer(vec![(MS, trailers(&[("grpc-status", "5")]))])]);
    let (asked, response) = call(&world, unavailable()).await;
    assert_eq!((asked.reasons().as_str(), world.attempts()), ("", 1));
    assert_eq!(read(response.body).await, (String::new(), Some(5), None));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_repeated_once_data_came() {
    let world = World::new(&Config::default(), 2);
    world.script(vec![grpc_answer(vec![(MS, data("reply")), (MS, trailers(&[("grpc-status", "14")]))])]);
    let (_asked, response) = call(&world, unavailable()).await;
    assert_eq!(world.attempts(), 1);
    assert_eq!(read(response.body).await, ("reply".to_owned(), Some(14), None));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_before_data_is_tried_again() {
    struct Broken;
    impl crate::svc::Source for Broken {
        fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<crate::svc::Frame>>> {
            Poll::Ready(Some(Err(Kind::ResponseIncomplete.into())))
        }
        fn length(&self) -> Option<u64> {
            None
        }
    }
    let world = World::new(&Config::default(), 2);
    let mut step = grpc_answer(Vec::new());
    step.play =
        super::super::super::mock::Play::Answer(crate::svc::ResponseHead::new(200), Body::stream(Broken));
    world.script(vec![step]);
    let (asked, response) = call(&world, unavailable()).await;
    assert_eq!((response.head.status, asked.reasons().as_str()), (200, "response_incomplete"));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_says_nothing_is_passed_on_soon() {
    let world = World::new(&Config::default(), 2);
    let frames = vec![(Duration::from_secs(3600), data("event")), (MS, trailers(&[("grpc-status", "14")]))];
    world.script(vec![grpc_answer(frames)]);
    let start = Instant::now();
    let (_asked, response) = call(&world, unavailable()).await;
    assert_eq!(start.elapsed(), PEEK_TIME_MAX);
    assert_eq!(read(response.body).await, ("event".to_owned(), Some(14), None));
}

#[tokio::test(start_paused = true)]
async fn the_head_is_not_held_back_while_the_request_is_still_sent() {
    let world = World::new(&Config::default(), 2);
    let mut step = grpc_answer(vec![(Duration::from_secs(1), data("reply"))]);
    step.reads = false;
    world.script(vec![step]);
    let body = Body::stream(Frames::endless(vec![(MS, data("first"))]));
    let mut asked = Asked::new(&world, unavailable(), Method::Post).grpc().body(body);
    let start = Instant::now();
    asked.send(&mut retry(&world)).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO, "the client may wait for the head before it says more");
}

#[tokio::test(start_paused = true)]
async fn calls_that_may_not_be_repeated_are_not_looked_into() {
    let world = World::new(&Config::default(), 2);
    let later = || grpc_answer(vec![(50 * MS, trailers(&[("grpc-status", "14")]))]);
    world.script(vec![later(), answer_with(200, &[("grpc-status", "14")])]);
    let mut policy = unavailable();
    policy.retry.is_idempotent = false;
    let start = Instant::now();
    let (_asked, response) = call(&world, policy).await;
    assert_eq!((start.elapsed(), world.attempts()), (Duration::ZERO, 1));
    assert_eq!(read(response.body).await.1, Some(14));
    let mut policy = unavailable();
    policy.retry.is_idempotent = false;
    let (asked, _response) = call(&world, policy).await;
    assert_eq!(asked.denied(), Some("not_idempotent"), "where the head tells, it is said why not");
}

#[tokio::test(start_paused = true)]
async fn a_pushback_is_obeyed() {
    for (value, waited_ms, denied) in
        [("700", Some(700), None), ("-1", None, Some("retry_after")), ("400000", None, Some("retry_after"))]
    {
        let world = World::new(&Config::default(), 2);
        let list = [("grpc-status", "14"), ("grpc-retry-pushback-ms", value)];
        world.script(vec![grpc_answer(vec![(Duration::ZERO, trailers(&list))])]);
        let (asked, _response) = call(&world, unavailable()).await;
        let waited = world.seen.borrow().get(1).map(|seen| seen.at.as_millis());
        assert_eq!((waited, asked.denied()), (waited_ms, denied), "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_fails_is_unavailable_to_a_grpc_caller() {
    let world = World::new(&Config::default(), 2);
    world.script(vec![failure(Kind::UpstreamReset, Replay::Never)]);
    let (asked, response) = call(&world, unavailable()).await;
    assert_eq!((response.head.status, asked.reasons().as_str()), (200, "upstream_reset"));
}
