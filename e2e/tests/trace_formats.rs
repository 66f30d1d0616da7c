//! Traces of those who know another format than W3C's: continued, written again for the app, and told in the event.

use e2e::{RawClient, Setup, Sidelight, StrictBackend, wait_for};
use serde_json::Value;

const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
const PARENT: &str = "e457b5a2e4d86bd1";

fn event(proxy: &Sidelight, path: &str) -> Value {
    wait_for(path, || proxy.events().exchanges().into_iter().find(|event| event["url.path"] == path))
}

#[test]
fn a_trace_in_any_format_is_continued_in_that_format_and_in_w3cs() {
    let app = StrictBackend::start();
    let proxy = Sidelight::start(&Setup::app(app.address()));
    let decimal = |hex: &str| u64::from_str_radix(hex, 16).expect("hex").to_string();
    let (left, right) = TRACE.split_at(16);
    // What comes, and what the app gets: `SPAN` is our own span, `DECIMAL` the same as a number.
    let (zipkin, xray) = (format!("{TRACE}-{PARENT}-1"), format!("Root=1-{}-{}", &TRACE[..8], &TRACE[8..]));
    let datadog = format!(
        "x-datadog-trace-id: {}\r\nx-datadog-parent-id: {}\r\nx-datadog-sampling-priority: 1\r\nx-datadog-tags: _dd.p.tid={left}\r\n",
        decimal(right),
        decimal(PARENT)
    );
    let multi = format!("X-B3-TraceId: {TRACE}\r\nX-B3-SpanId: {PARENT}\r\nX-B3-Sampled: 1\r\n");
    let rows = [
        ("b3", format!("b3: {zipkin}\r\n"), "b3", format!("{TRACE}-SPAN-1-{PARENT}")),
        ("b3_multi", multi, "x-b3-spanid", "SPAN".to_owned()),
        (
            "xray",
            format!("X-Amzn-Trace-Id: {xray};Parent={PARENT};Sampled=1\r\n"),
            "x-amzn-trace-id",
            format!("{xray};Parent=SPAN;Sampled=1"),
        ),
        (
            "cloud_trace",
            format!("X-Cloud-Trace-Context: {TRACE}/{};o=1\r\n", decimal(PARENT)),
            "x-cloud-trace-context",
            format!("{TRACE}/DECIMAL;o=1"),
        ),
        (
            "jaeger",
            format!("uber-trace-id: {TRACE}:{PARENT}:0:1\r\n"),
            "uber-trace-id",
            format!("{TRACE}:SPAN:{PARENT}:1"),
        ),
        ("datadog", datadog, "x-datadog-parent-id", "DECIMAL".to_owned()),
    ];
    for (format, fields, name, expected) in rows {
        let path = format!("/{format}");
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(RawClient::connect(proxy.inbound()).ask(request).expect("an answer").status, 200);
        let event = event(&proxy, &path);
        assert_eq!((&event["trace_id"], &event["parent_id"]), (&TRACE.into(), &PARENT.into()), "{event}");
        assert_eq!(event["sidelight.parent.source"], format, "{event}");
        let span = event["span_id"].as_str().expect("a span");
        let received = app.take().whole.remove(0);
        assert_eq!(received.fields.get("traceparent"), Some(&*format!("00-{TRACE}-{span}-01")));
        let expected = expected.replace("SPAN", span).replace("DECIMAL", &decimal(span));
        assert_eq!(received.fields.get(name), Some(&*expected), "{format}");
    }
}

#[test]
fn a_peer_may_not_have_them_removed_and_w3c_wins() {
    let app = StrictBackend::start();
    let proxy = Sidelight::start(&Setup::app(app.address()));
    let ask = |fields: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        RawClient::connect(proxy.inbound()).ask(request).expect("an answer").status
    };
    assert_eq!(ask(&format!("Connection: b3\r\nb3: {TRACE}-{PARENT}-1\r\n")), 400);
    let other = "0af7651916cd43dd8448eb211c80319c";
    assert_eq!(
        ask(&format!("traceparent: 00-{other}-b7ad6b7169203331-01\r\nb3: {TRACE}-{PARENT}-1\r\n")),
        200
    );
    let received = app.take().whole.remove(0);
    let b3 = received.fields.get("b3").unwrap_or_default();
    assert!(b3.starts_with(other), "one trace in all formats: {b3}");
    let event = proxy.events().find("the conflict", |event| event["sidelight.context.disagreed"] == 1);
    assert_eq!(
        (&event["trace_id"], &event["sidelight.parent.source"]),
        (&other.into(), &"header".into()),
        "{event}"
    );
}
