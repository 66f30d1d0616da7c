//! Further attempts as spans of their own: in the event file, and in what the endpoints are told.

use e2e::{RawClient, Script, Setup, Sidelight, Step, StrictBackend, wait_for};
use serde_json::Value;
use std::time::Duration;

const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn reply(status: &str) -> Script {
    Script::reply(format!("HTTP/1.1 {status}\r\n{DATE}\r\nContent-Length: 0\r\n\r\n"))
}

fn start(backends: [&StrictBackend; 2], route: &str) -> Sidelight {
    let endpoints = backends.map(|each| each.address().to_string());
    let clusters = format!("payments:\n  endpoints: {endpoints:?}\n  balance: {{ policy: round_robin }}");
    let routes = format!(
        "routes:\n  - name: all\n    match: {{ path: {{ prefix: /orders }} }}\n    cluster: payments\n{route}"
    );
    Sidelight::start(&Setup::bare().section("clusters", &clusters).section("outbound", &routes))
}

fn ask(proxy: &Sidelight) -> u16 {
    let request = format!(
        "GET /orders/42 HTTP/1.1\r\nHost: payments\r\ntraceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n\r\n"
    );
    RawClient::connect(proxy.outbound()).ask(request).expect("an answer").status
}

/// The span that an endpoint was told to hang its own below, by the request `id`.
fn parent(backend: &StrictBackend, id: &Value) -> String {
    let received = backend.take().whole;
    let request = received.iter().find(|request| request.fields.get("x-request-id") == id.as_str());
    let traceparent = request.expect("the request").fields.get("traceparent").expect("a trace").to_owned();
    assert!(traceparent.starts_with(&format!("00-{TRACE}-")), "{traceparent}");
    traceparent[36..52].to_owned()
}

/// The spans below an exchange; they are written together with it.
fn spans(proxy: &Sidelight, exchange: &Value) -> Vec<Value> {
    let mut spans = proxy.events().all("sidelight/span/1");
    spans.retain(|span| span["parent_id"] == exchange["span_id"]);
    spans
}

#[test]
fn each_retry_is_a_span_below_the_exchange_and_the_endpoint_hangs_below_its_own() {
    let (bad, good) = (StrictBackend::start(), StrictBackend::start());
    bad.script("/orders/42", reply("503 Service Unavailable"));
    let route = "    retry: { limit: 2, on: [gateway_error], backoff: { base: 1ms, max: 2ms } }";
    let proxy = start([&bad, &good], route);
    // One of the two meets the bad endpoint first.
    assert_eq!([ask(&proxy), ask(&proxy)], [200, 200]);
    let exchange = proxy.events().find("the retried", |event| event["sidelight.attempts"] == 2);
    let spans = spans(&proxy, &exchange);
    let [span] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!(span["trace_id"], TRACE);
    assert_eq!((&span["kind"], &span["name"]), (&"client".into(), &"GET /orders/*".into()), "{span}");
    assert_eq!(span["http.request.resend_count"], 1, "{span}");
    assert_eq!(span["http.response.status_code"], 200, "{span}");
    assert_eq!(span["server.port"], good.address().port(), "{span}");
    assert!(span["error.type"].is_null() && span["duration_ms"].as_f64() > Some(0.0), "{span}");
    let id = &exchange["request_id"];
    assert_eq!(parent(&bad, id), exchange["span_id"].as_str().unwrap());
    assert_eq!(parent(&good, id), span["span_id"].as_str().unwrap());
    wait_for("the books to balance", || books(&proxy).then_some(()));
}

/// Whether the books of the file sink balance.
fn books(proxy: &Sidelight) -> bool {
    let text = proxy.admin("/metrics").text();
    let sum = |name: &str| -> f64 {
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains("file"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    let produced: f64 = text
        .lines()
        .filter(|line| line.starts_with("sidelight_pipeline_produced_total"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    produced >= 2.0
        && (produced
            - sum("sidelight_pipeline_delivered_total")
            - sum("sidelight_pipeline_dropped_total")
            - sum("sidelight_pipeline_queued"))
        .abs()
            < 0.5
}

#[test]
fn a_hedge_is_a_span_of_its_own() {
    let (slow, fast) = (StrictBackend::start(), StrictBackend::start());
    let late = format!("HTTP/1.1 200 OK\r\n{DATE}\r\nContent-Length: 0\r\n\r\n").into_bytes();
    let script = Script(vec![Step::ReadBody, Step::Pause(Duration::from_secs(4)), Step::Send(late)]);
    slow.script("/orders/42", script);
    let proxy = start([&slow, &fast], "    hedge: { after: 50ms }");
    assert_eq!([ask(&proxy), ask(&proxy)], [200, 200]);
    let exchange = proxy.events().find("the hedged", |event| event["sidelight.hedges"] == 1);
    let spans = spans(&proxy, &exchange);
    let [span] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!(
        (&span["sidelight.hedge"], &span["http.response.status_code"]),
        (&true.into(), &200.into()),
        "{span}"
    );
    assert_eq!(parent(&fast, &exchange["request_id"]), span["span_id"].as_str().unwrap());
}

#[test]
fn what_the_caller_did_wrong_is_an_error_of_the_call_only() {
    let (one, two) = (StrictBackend::start(), StrictBackend::start());
    for backend in [&one, &two] {
        backend.script("/orders/42", reply("404 Not Found"));
    }
    let proxy = start([&one, &two], "");
    assert_eq!(ask(&proxy), 404);
    assert_eq!(proxy.stop()[0]["error.type"], "404");
    let proxy = Sidelight::start(&Setup::app(one.address()));
    let request = "GET /orders/42 HTTP/1.1\r\nHost: checkout\r\n\r\n";
    assert_eq!(RawClient::connect(proxy.inbound()).ask(request).expect("an answer").status, 404);
    let exchange = proxy.events().wait(1).remove(0);
    assert!(exchange["error.type"].is_null() && spans(&proxy, &exchange).is_empty(), "{exchange}");
}
