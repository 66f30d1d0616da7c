//! Spans at something that speaks Zipkin's API, and is not there at first.

use e2e::{Intake, RawClient, Reply, Setup, Sidelight, StrictBackend, wait_for};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const REQUESTS: usize = 10;

#[test]
fn every_sampled_exchange_is_a_span_once() {
    let is_up = Arc::new(AtomicBool::new(false));
    let flag = is_up.clone();
    let intake = Intake::start(move |_| match flag.load(Ordering::SeqCst) {
        true => Reply::Take(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_vec()),
        false => Reply::status("503 Service Unavailable", ""),
    });
    let app = StrictBackend::start();
    let sink = format!("url: \"http://{}\"", intake.address());
    let proxy = Sidelight::start(&Setup::app(app.address()).sink("zipkin", &sink));
    let mut client = RawClient::connect(proxy.inbound());
    for number in 0..2 * REQUESTS {
        // Every second one is in a trace that nobody records.
        let trace = format!("00-{:032x}-{:016x}-0{}", number + 1, number + 1, number % 2);
        let request = format!("GET /{number} HTTP/1.1\r\nHost: a\r\ntraceparent: {trace}\r\n\r\n");
        assert_eq!(client.ask(request).expect("an answer").status, 200);
    }
    let mut events = proxy.events().wait(2 * REQUESTS);
    events.retain(|event| event["sampled"] == true);
    assert_eq!(events.len(), REQUESTS);
    wait_for("a failure", || intake.posts().first().cloned());
    is_up.store(true, Ordering::SeqCst);
    let spans = || -> Vec<Value> {
        let posts = intake.taken("/api/v2/spans");
        assert!(posts.iter().all(|post| post.fields.get("content-type") == Some("application/json")));
        let lists =
            posts.iter().map(|post| serde_json::from_slice::<Vec<Value>>(&post.body).expect("a list"));
        lists.flatten().collect()
    };
    wait_for("every span", || (spans().len() >= REQUESTS).then_some(()));
    proxy.stop();
    let spans = spans();
    assert_eq!(spans.len(), REQUESTS, "each once");
    for event in &events {
        let span =
            spans.iter().find(|span| span["id"] == event["span_id"]).unwrap_or_else(|| panic!("no {event}"));
        assert_eq!((&span["traceId"], &span["parentId"]), (&event["trace_id"], &event["parent_id"]));
        assert_eq!(
            (&span["kind"], &span["localEndpoint"]["serviceName"]),
            (&"SERVER".into(), &"checkout".into())
        );
        assert_eq!(
            (&span["tags"]["url.path"], &span["tags"]["http.response.status_code"]),
            (&event["url.path"], &"200".into())
        );
        let micros = event["timestamp"].as_str().and_then(|text| text[20..26].parse::<u64>().ok());
        assert_eq!(span["timestamp"].as_u64().map(|at| at % 1_000_000), micros, "{span}");
        assert!(span["duration"].as_u64().is_some_and(|micros| micros > 0), "{span}");
    }
}
