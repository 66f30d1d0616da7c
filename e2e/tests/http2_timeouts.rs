//! Clients of HTTP/2 that are slow, silent or gone: each is let go in its time, with a cause.

use e2e::frames::{self, Peer, code, data, frame, headers, request, request_with};
use e2e::{FrameBench, Script, Step, get_with, hpack, post_with};
use std::time::{Duration, Instant};

const LIMITS: &str = "header_timeout: 700ms\nbody_timeout: 700ms\nidle_timeout: 700ms\n\
                      http2: { keepalive_interval: 300ms, keepalive_timeout: 300ms }";

fn bench() -> FrameBench {
    FrameBench::with(|setup| setup.section("limits", LIMITS))
}

/// Reads to the end of the connection; how long it took.
fn ended(bench: &FrameBench, name: &str, client: &mut Peer) -> Duration {
    let at = Instant::now();
    let read = client.read_until(|_| false);
    bench.check(name, read.is_ok() && client.is_closed, format!("{read:?}, goaway {:?}", client.goaway));
    let took = at.elapsed();
    bench.check(name, took < Duration::from_secs(4), format!("took {took:?}"));
    took
}

#[test]
fn a_connection_without_a_request_is_closed() {
    let bench = bench();
    let mut client = bench.client();
    ended(&bench, "idle from the start", &mut client);
    bench.check(
        "idle from the start",
        client.goaway.is_some_and(|(_, code)| code == 0),
        "no GOAWAY(NO_ERROR)",
    );
    let mut client = bench.client();
    bench.clean_request_on("idle after a request", &mut client, 1);
    ended(&bench, "idle after a request", &mut client);
    bench.check(
        "idle after a request",
        client.goaway.is_some_and(|(_, code)| code == 0),
        "no GOAWAY(NO_ERROR)",
    );
    bench.finish();
}

#[test]
fn a_preface_that_never_ends_is_let_go() {
    let bench = bench();
    for part in [&b"PRI"[..], &frames::PREFACE[..20], frames::PREFACE] {
        let name = format!("{} bytes of the preface", part.len());
        let mut client = Peer::raw(bench.proxy().inbound());
        client.send(part);
        let mut rest = Vec::new();
        let ended = client.wire().to_end("the end", &mut rest);
        bench.check(&name, ended.is_ok(), format!("{ended:?}"));
    }
    bench.clean_request("prefaces");
    bench.finish();
}

#[test]
fn a_header_block_that_never_ends_is_let_go() {
    let bench = bench();
    let block = hpack::block(&request("GET", "/c"));
    let mut client = bench.client();
    client.acknowledges = false; // nothing may come between the parts of a header block
    client.send(frame(frames::HEADERS, frames::END_STREAM, 1, &block));
    ended(&bench, "HEADERS without an end", &mut client);
    bench.clean_request("HEADERS without an end");
    bench.check("the app", bench.backend().take().cut.is_empty(), "a part reached the app");
    bench.finish();
}

#[test]
fn a_client_that_answers_no_ping_is_gone() {
    let bench = bench();
    bench.backend().script("/slow", Script(vec![Step::ReadBody, Step::AwaitHangUp]));
    let mut client = bench.client();
    client.acknowledges = false;
    client.send(headers(1, &request_with("GET", "/slow", &[("x-request-id", "deaf")]), true));
    ended(&bench, "no answer to PING", &mut client);
    bench.backend().wait_for_hang_up(1);
    let event = bench.proxy().events().of("deaf");
    bench.check("no answer to PING", event["sidelight.cause"] == "client_gone", format!("{event}"));
    // One that does answer is waited for.
    let late = Script(vec![
        Step::ReadBody,
        Step::Pause(Duration::from_millis(1200)),
        Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()),
    ]);
    bench.backend().script("/late", late);
    let mut client = bench.client();
    let answer = client.ask(1, &request("GET", "/late"));
    bench.check("an answer to PING", answer.as_ref().is_ok_and(|a| a.status() == 200), format!("{answer:?}"));
    drop(client);
    bench.finish();
}

#[test]
fn content_that_stalls_is_cut() {
    let bench = bench();
    let mut client = bench.client();
    client.send(
        [post_with(&[("x-request-id", "stalls"), ("content-length", "10")]), data(1, "abc", false)].concat(),
    );
    let answer = client.finish(1);
    let is_told = answer.as_ref().is_ok_and(|answer| answer.status() == 408 || answer.reset.is_some());
    bench.check("stalled upload", is_told, format!("{answer:?}"));
    let event = bench.proxy().events().of("stalls");
    bench.check("stalled upload", event["sidelight.cause"] == "request_body_timeout", format!("{event}"));
    let whole = bench.backend().take().whole;
    bench.check("stalled upload", whole.is_empty(), format!("{whole:?}"));
    drop(client);
    bench.finish();
}

#[test]
fn an_answer_that_nobody_reads_is_cut() {
    let bench = bench();
    let body = vec![b'x'; 1 << 20];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    bench.backend().script("/c", Script::reply([head.as_bytes(), &body].concat()));
    let mut client = bench.client();
    client.gives_credit = false;
    client.send(get_with(&[("x-request-id", "unread")]));
    let answer = client.finish(1);
    let is_cut = answer.as_ref().is_ok_and(|answer| answer.reset.is_some() && !answer.is_ended);
    bench.check("unread answer", is_cut, format!("{:?}", answer.map(|answer| answer.reset)));
    let event = bench.proxy().events().of("unread");
    bench.check("unread answer", !event["sidelight.cause"].is_null(), format!("{event}"));
    bench.clean_request("unread answer");
    drop(client);
    bench.finish();
}

#[test]
fn a_request_that_takes_too_long_is_answered_in_time() {
    let bench = FrameBench::with(|setup| setup.section("limits", "request_timeout: 500ms"));
    bench.backend().script("/never", Script(vec![Step::ReadBody, Step::AwaitHangUp]));
    let mut client = bench.client();
    let at = Instant::now();
    let answer = client.ask(1, &request_with("GET", "/never", &[("x-request-id", "late")]));
    bench.check("504", answer.as_ref().is_ok_and(|answer| answer.status() == 504), format!("{answer:?}"));
    bench.check("504", at.elapsed() < Duration::from_secs(2), format!("took {:?}", at.elapsed()));
    bench.backend().wait_for_hang_up(1);
    bench.expect_event("504", "late", 504);
    // The connection serves on.
    bench.clean_request_on("504", &mut client, 3);
    bench.check(
        "504",
        client.goaway.is_none_or(|(_, code)| code == code::NO_ERROR),
        "the connection was given up",
    );
    drop(client);
    bench.finish();
}
