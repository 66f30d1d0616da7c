use super::*;
use crate::pipeline::encode::rfc3339;
use serde_json::{Value, json};
use std::io::Cursor;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

mod hostile;
mod listing;
mod lookup;
mod output;

/// The trace of most tests.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// 2025-01-01, in microseconds since 1970.
const NEW_YEAR: u64 = 1_735_689_600_000_000;

/// A narrow page without colours: no bars.
const NARROW: Look = Look { columns: 80, is_color: false };

/// Room for bars of 20.
const WIDE: Look = Look { columns: 120, is_color: false };

/// An exchange of [`TRACE`] as its event, `at` microseconds into the new year; `more` is put over it.
fn exchange(service: &str, direction: &str, ids: (&str, &str), times: (u64, f64), more: Value) -> Value {
    let mut event = json!({
        "schema": "sidelight/exchange/1",
        "timestamp": rfc3339(UNIX_EPOCH + Duration::from_micros(NEW_YEAR + times.0)),
        "trace_id": TRACE,
        "span_id": ids.0,
        "request_id": "r-1",
        "account_id": "a1",
        "user_id": "u1",
        "license": "gold",
        "request_type": "STANDARD",
        "flags": ["beta", "x"],
        "service.name": service,
        "http.request.method": "GET",
        "url.path": "/orders/42",
        "http.response.status_code": 200,
        "sidelight.direction": direction,
        "sidelight.attempts": 1,
        "sidelight.outcome": "complete",
        "sidelight.parent.source": if ids.1.is_empty() { "root" } else { "header" },
        "sidelight.duration_ms": times.1,
    });
    if !ids.1.is_empty() {
        event["parent_id"] = ids.1.into();
    }
    put(&mut event, more);
    event
}

/// Puts members over those of an object; null takes one away.
fn put(event: &mut Value, more: Value) {
    let (Value::Object(event), Value::Object(more)) = (event, more) else { return };
    for (name, value) in more {
        if value.is_null() {
            event.remove(&name);
        } else {
            event.insert(name, value);
        }
    }
}

/// A trace over the sidecars of three services, the call to the last made twice.
fn shop() -> [Vec<Value>; 3] {
    let routed = json!({ "http.route": "/orders/{id}" });
    let call = |path: &str, to: &str, endpoint: &str| json!({ "http.request.method": "POST", "url.path": path, "sidelight.cluster": to, "sidelight.endpoint": endpoint });
    let mut charge = call("/charge", "payments", "10.0.0.8:8080");
    put(&mut charge, json!({ "sidelight.attempts": 2 }));
    let attempt = json!({
        "schema": "sidelight/span/1",
        "timestamp": rfc3339(UNIX_EPOCH + Duration::from_micros(NEW_YEAR + 6_000)),
        "trace_id": TRACE, "span_id": "00000000000000b3", "parent_id": "00000000000000b2",
        "name": "POST /charge", "kind": "CLIENT", "http.request.resend_count": 1, "duration_ms": 3.0,
        "service.name": "checkout", "server.address": "10.0.0.8", "server.port": 8080,
    });
    let posted = json!({ "http.request.method": "POST", "url.path": "/charge" });
    [
        vec![
            exchange(
                "storefront",
                "outbound",
                ("00000000000000a2", "00000000000000a1"),
                (1_000, 10.5),
                call("/checkout", "checkout", "10.0.0.5:15006"),
            ),
            exchange("storefront", "inbound", ("00000000000000a1", ""), (0, 12.345), routed),
        ],
        vec![
            attempt,
            exchange("checkout", "outbound", ("00000000000000b2", "00000000000000b1"), (2_500, 6.6), charge),
            exchange(
                "checkout",
                "inbound",
                ("00000000000000b1", "00000000000000a2"),
                (1_500, 9.0),
                json!({ "http.request.method": "POST", "url.path": "/checkout" }),
            ),
        ],
        vec![exchange("payments", "inbound", ("00000000000000c1", "00000000000000b3"), (6_400, 2.0), posted)],
    ]
}

/// Files of these events.
fn files<'a>(files: impl IntoIterator<Item = &'a [Value]>) -> Vec<Source> {
    let texts = files.into_iter().map(|events| events.iter().map(|event| format!("{event}\n")).collect());
    sources(texts.collect::<Vec<String>>())
}

/// Files of these texts, named a.ndjson, b.ndjson and so on.
fn sources(texts: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Vec<Source> {
    let named = texts.into_iter().zip('a'..='z');
    named
        .map(|(text, name)| Source::stream(&format!("{name}.ndjson"), Box::new(Cursor::new(text.into()))))
        .collect()
}

/// The one trace that `id` means in `sources`.
fn trace(id: &str, mut sources: Vec<Source>) -> Trace {
    match find(&Id::parse(id).unwrap(), &mut sources).unwrap() {
        (Answer::Trace(trace), _) => *trace,
        (Answer::Several(list, _), _) => panic!("{id} means {list:?}"),
        (Answer::Nothing, reading) => panic!("{id} is not in {reading:?}"),
    }
}

/// The span ids of a trace in the order of its tree, each with its depth.
fn outline(trace: &Trace) -> Vec<(String, usize)> {
    let id = |node: &Node| trace.span(node).map(|span| format!("{:x}", u64::from_be_bytes(span.span_id)));
    trace.nodes.iter().map(|node| (id(node).unwrap(), node.depth)).collect()
}

/// The same, expected.
fn outlined(list: &[(&str, usize)]) -> Vec<(String, usize)> {
    list.iter().map(|(id, depth)| ((*id).to_owned(), *depth)).collect()
}
