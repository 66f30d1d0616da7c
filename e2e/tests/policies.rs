//! What routes say about patience, repetition and rates, seen from both sides: deadlines, retries, hedges, rate limits,
//! concurrency, shedding.

use e2e::frames::{Peer, headers};
use e2e::{
    Http2Server, RawClient, Response, Script, Setup, Sidelight, Step, StrictBackend, to_other, wait_for,
};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const ENVOY_TIMEOUT: &str = "x-envoy-expected-rq-timeout-ms";
const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT";

fn setup(backends: &[&StrictBackend], route: &str) -> Setup {
    let endpoints: Vec<String> = backends.iter().map(|each| each.address().to_string()).collect();
    Setup::bare()
        .section(
            "clusters",
            &format!("payments:\n  endpoints: {endpoints:?}\n  balance: {{ policy: round_robin }}"),
        )
        .section("outbound", &format!("routes:\n  - name: all\n    cluster: payments\n{route}"))
}

fn ask(proxy: &Sidelight, path: &str, fields: &str) -> Response {
    let request = format!("GET {path} HTTP/1.1\r\nHost: payments\r\n{fields}\r\n");
    RawClient::connect(proxy.outbound()).ask(request).expect("an answer")
}

fn reply(status: &str, lines: &str) -> Script {
    Script::reply(format!("HTTP/1.1 {status}\r\n{DATE}\r\n{lines}Content-Length: 0\r\n\r\n"))
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.fields.get(name).unwrap_or_default()
}

#[test]
fn a_callers_deadline_is_passed_on_less_what_has_passed_and_ends_the_exchange() {
    let backend = StrictBackend::start();
    backend.script("/slow", Script(vec![Step::ReadBody, Step::AwaitHangUp]));
    let proxy = Sidelight::start(&setup(&[&backend], ""));
    assert_eq!(ask(&proxy, "/", &format!("{ENVOY_TIMEOUT}: 5000\r\n")).status, 200);
    let received = backend.take().whole.remove(0);
    let left: u64 = received.fields.get(ENVOY_TIMEOUT).expect("the deadline").parse().expect("milliseconds");
    assert!((4000..=5000).contains(&left), "{left}");

    let started = Instant::now();
    let answer = ask(&proxy, "/slow", &format!("{ENVOY_TIMEOUT}: 150\r\n"));
    assert_eq!(answer.status, 504);
    assert!(header(&answer, "proxy-status").contains("deadline_exceeded"), "{:?}", answer.fields);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let event = proxy.events().find("the event", |event| event["sidelight.cause"] == "deadline_exceeded");
    assert_eq!(event["sidelight.deadline.source"], ENVOY_TIMEOUT, "{event}");
    let left = event["sidelight.deadline_ms"].as_f64().unwrap_or_default();
    assert!((100.0..=150.0).contains(&left), "{event}");
}

#[test]
fn a_deadline_goes_through_the_app_to_the_next_hop() {
    let (app, next) = (StrictBackend::start(), StrictBackend::start());
    app.script("/work", reply_after(Duration::from_millis(600)));
    let setup = Setup::app(app.address())
        .section("clusters", &format!("payments: {{ endpoints: [\"{}\"] }}", next.address()));
    let proxy = Sidelight::start(&setup);
    let trace = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
    let mut client = RawClient::connect(proxy.inbound());
    client.send(format!("GET /work HTTP/1.1\r\nHost: checkout\r\n{trace}{ENVOY_TIMEOUT}: 3000\r\n\r\n"));
    wait_for("the app to be at work", || (app.connections() > 0).then_some(()));
    // As the app would ask while it works: it forwards the trace, and knows nothing of a deadline.
    let event_of_work = || {
        assert_eq!(ask(&proxy, "/", trace).status, 200);
        let received = next.take().whole.remove(0);
        received.fields.get(ENVOY_TIMEOUT).map(|text| text.parse::<u64>().expect("milliseconds"))
    };
    let left = wait_for("a deadline on the outbound request", event_of_work);
    assert!((1..=3000).contains(&left), "{left}");
    let event = proxy.events().find("the outbound event", |event| {
        event["sidelight.direction"] == "outbound" && event["sidelight.deadline.source"] == "inbound"
    });
    assert!(event["sidelight.deadline_ms"].as_f64().is_some(), "{event}");
    assert_eq!(client.read("GET", 1).expect("the app's answer").status, 200);
    // The inbound request is over, and so is its deadline.
    assert_eq!(event_of_work(), None);
}

fn reply_after(time: Duration) -> Script {
    let ok = format!("HTTP/1.1 200 OK\r\n{DATE}\r\nContent-Length: 0\r\n\r\n");
    Script(vec![Step::ReadBody, Step::Pause(time), Step::Send(ok.into_bytes())])
}

#[test]
fn a_retry_goes_elsewhere_waits_as_asked_and_is_told() {
    let (bad, good) = (StrictBackend::start(), StrictBackend::start());
    bad.script("/", reply("503 Service Unavailable", "Retry-After: 1\r\n"));
    let proxy = Sidelight::start(&setup(&[&bad, &good], "    retry: { limit: 1, on: [gateway_error] }"));
    let mut waited = Duration::ZERO;
    for _ in 0..2 {
        let started = Instant::now();
        assert_eq!(ask(&proxy, "/", "").status, 200);
        waited = waited.max(started.elapsed());
    }
    assert!(waited >= Duration::from_secs(1), "Retry-After was not waited for: {waited:?}");
    let event = proxy.events().find("the retried", |event| event["sidelight.retries"] == 1);
    assert_eq!(event["sidelight.retry.reasons"], serde_json::json!(["503"]), "{event}");
    assert!(event["sidelight.retry.backoff_ms"].as_f64() >= Some(1000.0), "{event}");
}

#[test]
fn an_endpoint_that_says_nothing_is_left_after_the_time_of_a_try() {
    let (silent, good) = (StrictBackend::start(), StrictBackend::start());
    silent.script("/", Script(vec![Step::ReadBody, Step::AwaitHangUp]));
    let route = "    timeout: { per_try: 200ms, request: 10s }\n    retry: { limit: 1, on: [gateway_error] }";
    let proxy = Sidelight::start(&setup(&[&silent, &good], route));
    for _ in 0..2 {
        assert_eq!(ask(&proxy, "/", "").status, 200);
    }
    let event = proxy.events().find("the retried", |event| event["sidelight.retries"] == 1);
    assert_eq!(event["sidelight.endpoint"], good.address().to_string(), "{event}");
    assert!(
        event["duration_ms"].as_f64().or(event["sidelight.duration_ms"].as_f64()) >= Some(200.0),
        "{event}"
    );
    silent.wait_for_hang_up(1);
}

#[test]
fn a_wait_that_would_outlast_the_deadline_is_not_begun() {
    let (bad, good) = (StrictBackend::start(), StrictBackend::start());
    for backend in [&bad, &good] {
        backend.script("/", reply("503 Service Unavailable", "Retry-After: 30\r\n"));
    }
    let proxy = Sidelight::start(&setup(&[&bad, &good], "    retry: { limit: 3, on: [gateway_error] }"));
    let started = Instant::now();
    let answer = ask(&proxy, "/", &format!("{ENVOY_TIMEOUT}: 5000\r\n"));
    assert_eq!((answer.status, header(&answer, "retry-after")), (503, "30"));
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    let event = proxy.events().find("the answer", |event| event["http.response.status_code"] == 503);
    assert_eq!(event["sidelight.attempts"], 1, "{event}");
    assert!(event["sidelight.retry.denied"].is_string(), "{event}");
}

#[test]
fn a_download_ends_at_its_stream_timeout_and_says_so() {
    let backend = StrictBackend::start();
    let head = format!("HTTP/1.1 200 OK\r\n{DATE}\r\nContent-Length: 10\r\n\r\nhello");
    backend.script("/", Script(vec![Step::ReadBody, Step::Send(head.into_bytes()), Step::AwaitHangUp]));
    let proxy = Sidelight::start(&setup(&[&backend], "    timeout: { stream: 300ms }"));
    let started = Instant::now();
    let request = "GET / HTTP/1.1\r\nHost: payments\r\n\r\n";
    let cut = RawClient::connect(proxy.outbound()).ask(request);
    assert!(cut.is_err(), "half of the content is no answer: {cut:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let event = proxy.events().find("the cut", |event| event["sidelight.cause"] == "stream_timeout");
    assert_eq!(event["http.response.body.size"], 5, "{event}");
    backend.wait_for_hang_up(1);
}

#[test]
fn a_grpc_call_whose_trailers_say_unavailable_is_sent_again_before_anything_went_on() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let upstream = Http2Server::answering(move |peer, stream, _| {
        let status = if seen.fetch_add(1, Ordering::SeqCst) == 0 { "14" } else { "0" };
        let head = [(":status", "200"), ("content-type", "application/grpc")];
        let trailers = [("grpc-status", status)];
        peer.send([headers(stream, &head, false), headers(stream, &trailers, true)].concat());
    });
    let cluster = format!("other:\n  endpoints: [\"{}\"]\n  protocol: http2", upstream.address());
    let route = "routes:\n  - name: all\n    cluster: other\n    retry: { limit: 1, on: [unavailable], idempotent: true }";
    let proxy = Sidelight::start(&Setup::bare().section("clusters", &cluster).section("outbound", route));
    let mut peer = Peer::connect(proxy.outbound());
    let call =
        to_other("POST", "/shop.Prices/Get", &[("content-type", "application/grpc"), ("te", "trailers")]);
    let answer = peer.ask(1, &call).expect("an answer");
    let status = answer.trailer("grpc-status").or(answer.get("grpc-status"));
    assert_eq!((status, calls.load(Ordering::SeqCst)), (Some("0"), 2), "{answer:?}");
    let event = proxy.events().find("the call", |event| event["sidelight.attempts"] == 2);
    assert_eq!(event["sidelight.retry.reasons"], serde_json::json!(["grpc-14"]), "{event}");
}

#[test]
fn what_could_happen_twice_is_not_retried_unless_the_client_says_so() {
    let (bad, good) = (StrictBackend::start(), StrictBackend::start());
    bad.script("/", reply("503 Service Unavailable", ""));
    let proxy = Sidelight::start(&setup(&[&bad, &good], "    retry: { limit: 2, on: [gateway_error] }"));
    let post = |fields: &str| {
        let request = format!("POST / HTTP/1.1\r\nHost: payments\r\n{fields}Content-Length: 2\r\n\r\nhi");
        RawClient::connect(proxy.outbound()).ask(request).expect("an answer").status
    };
    let statuses = [post(""), post("")];
    assert!(statuses.contains(&503) && statuses.contains(&200), "{statuses:?}");
    let event = proxy.events().find("the denied", |event| event["http.response.status_code"] == 503);
    assert_eq!(event["sidelight.retry.denied"], "not_idempotent", "{event}");
    assert_eq!(event["sidelight.attempts"], 1, "{event}");
    assert_eq!([post("Idempotency-Key: \"1\"\r\n"), post("Idempotency-Key: \"2\"\r\n")], [200, 200]);
    let tracer = "X-Request-Type: TRACE\r\nIdempotency-Key: \"3\"\r\n";
    let statuses = [post(tracer), post(tracer)];
    assert!(statuses.contains(&503), "a TRACE request was repeated: {statuses:?}");
}

#[test]
fn a_hedge_answers_when_the_first_endpoint_is_slow() {
    let (slow, fast) = (StrictBackend::start(), StrictBackend::start());
    slow.script("/", reply_after(Duration::from_secs(4)));
    let proxy = Sidelight::start(&setup(&[&slow, &fast], "    hedge: { after: 50ms }"));
    for _ in 0..2 {
        let started = Instant::now();
        assert_eq!(ask(&proxy, "/", "").status, 200);
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    }
    let event = proxy.events().find("the hedged", |event| event["sidelight.hedges"] == 1);
    assert_eq!(event["sidelight.hedged"], true, "{event}");
    assert_eq!(event["sidelight.endpoint"], fast.address().to_string(), "{event}");
}

#[test]
fn a_rate_limit_answers_429_with_what_there_is_to_know() {
    let backend = StrictBackend::start();
    let limit = "    rate_limit:\n      - { key: [account_id], requests: 2, per: 1m, overrides: { vip: { requests: 4 } } }";
    let proxy = Sidelight::start(&setup(&[&backend], limit));
    let statuses = |account: &str, count: usize| -> Vec<u16> {
        (0..count).map(|_| ask(&proxy, "/", &format!("x-account-id: {account}\r\n")).status).collect()
    };
    assert_eq!(statuses("a", 4), [200, 200, 429, 429]);
    assert_eq!(statuses("vip", 6), [200, 200, 200, 200, 429, 429]);
    assert_eq!(statuses("b", 2), [200, 200], "another account has a bucket of its own");
    let refused = ask(&proxy, "/", "x-account-id: a\r\n");
    let retry_after: u64 = header(&refused, "retry-after").parse().expect("seconds");
    assert!((1..=60).contains(&retry_after), "{retry_after}");
    assert!(header(&refused, "ratelimit-policy").contains("q=2;w=60"), "{:?}", refused.fields);
    assert!(header(&refused, "ratelimit").contains("r=0"), "{:?}", refused.fields);
    let status = header(&refused, "proxy-status");
    assert!(
        status.contains("details=\"rate_limited\"") && status.contains("breaker=\"rate_limit\""),
        "{status}"
    );
    let event = proxy.events().find("the refusal", |event| event["sidelight.cause"] == "rate_limited");
    assert_eq!(event["sidelight.rate_limit"], "account_id", "{event}");
    assert_eq!(backend.take().whole.len(), 2 + 4 + 2, "what is refused never reaches the upstream");
}

#[test]
fn beyond_its_concurrency_a_listener_lets_wait_and_turns_the_lowest_tier_away() {
    let app = StrictBackend::start();
    for number in 0..6 {
        app.script(&format!("/{number}"), reply_after(Duration::from_millis(500)));
    }
    let inbound =
        "concurrency: { limit: 1, queue_max: 1, queue_timeout: 5s }\nload_shed: { tiers: [free, gold] }";
    let proxy = Sidelight::start(&Setup::app(app.address()).section("inbound", inbound));
    let send = |number: usize, license: &str| {
        let mut client = RawClient::connect(proxy.inbound());
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: a\r\nx-license: {license}\r\n\r\n"));
        client
    };
    let mut first = send(0, "free");
    wait_for("the first to be at work", || (app.connections() > 0).then_some(()));
    let mut waiting = send(1, "free");
    let waits = || {
        let shown: Value = serde_json::from_str(&proxy.admin("/breakers").text()).expect("JSON");
        shown.to_string().contains("\"waiting\":1").then_some(())
    };
    wait_for("the second to wait", waits);
    let mut gold = send(2, "gold");
    let shed = waiting.read("GET", 1).expect("an answer");
    assert_eq!(shed.status, 503);
    assert!(header(&shed, "proxy-status").contains("load_shed"), "{:?}", shed.fields);
    assert_eq!(first.read("GET", 1).expect("an answer").status, 200);
    assert_eq!(gold.read("GET", 1).expect("an answer").status, 200);
    let event = proxy.events().find("who waited", |event| event["license"] == "gold");
    assert!(event["sidelight.admission_wait_ms"].as_f64() > Some(0.0), "{event}");
}

#[test]
fn requests_wait_for_a_connection_when_all_are_in_use() {
    let backend = StrictBackend::start();
    backend.script("/slow", reply_after(Duration::from_millis(400)));
    let cluster = format!(
        "payments:\n  endpoints: [\"{}\"]\n  connect_timeout: 5s\n  circuit_breaker: {{ connections: 1, pending: 1 }}",
        backend.address()
    );
    let proxy = Sidelight::start(&Setup::bare().section("clusters", &cluster));
    let send = || {
        let mut client = RawClient::connect(proxy.outbound());
        client.send("GET /slow HTTP/1.1\r\nHost: payments\r\n\r\n");
        client
    };
    let mut first = send();
    wait_for("the connection", || (backend.connections() == 1).then_some(()));
    let mut second = send();
    let refused = wait_for("the line to be full", || {
        let answer = ask(&proxy, "/", "");
        (answer.status == 503).then_some(answer)
    });
    assert!(header(&refused, "proxy-status").contains("breaker=\"pending\""), "{:?}", refused.fields);
    assert_eq!(first.read("GET", 1).expect("an answer").status, 200);
    assert_eq!(second.read("GET", 1).expect("an answer").status, 200);
    assert_eq!(backend.connections(), 1, "no connection beyond the cap");
    let waited =
        proxy.events().find("who waited", |event| event["sidelight.pool_wait_ms"].as_f64() > Some(0.0));
    assert_eq!(waited["http.response.status_code"], 200, "{waited}");
}
