//! The application's own OpenTelemetry SDK, exporting to its sidecar: a collector gets from there what it gets directly.

use e2e::{App, Setup, Sidelight, StrictBackend, python, wait_for};
use serde_json::Value;
use std::net::SocketAddr;

/// What the collector has of the application, without the transport it came by; sorted.
fn of_the_shop(collector: &App) -> Vec<String> {
    let is_of_shop = |line: &Value| {
        let attributes = line["resource"]["attributes"].as_array().into_iter().flatten();
        attributes
            .into_iter()
            .any(|each| each["key"] == "service.name" && each["value"]["stringValue"] == "shop")
    };
    let mut lines = collector.lines();
    lines.retain(is_of_shop);
    for line in &mut lines {
        line["protocol"] = Value::Null;
    }
    let mut lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    lines.sort();
    lines
}

/// `protocol`: how the application speaks; `onward`: how the sidecar does.
fn arrives_as_it_was(protocol: &str, onward: &str) {
    let start = || {
        let (http, grpc) = (App::reserve(), App::reserve());
        let (addresses, port) = ([http.address(), grpc.address()], grpc.address().port().to_string());
        let nowhere = ([127, 0, 0, 1], 9).into();
        (App::start("otlp_collector.py", http, nowhere, &[("GRPC_PORT", &port)]), addresses, grpc)
    };
    let ((direct, at, _keep), (behind, behind_at, _keep_too)) = (start(), start());
    let of = |addresses: [SocketAddr; 2], protocol: &str| addresses[usize::from(protocol == "grpc")];
    let app = StrictBackend::start();
    let sink = format!("endpoint: \"http://{}\"\nprotocol: {onward}", of(behind_at, onward));
    let receiver = "receiver:\n  otlp: { address: \"127.0.0.1:0\", grpc_address: \"127.0.0.1:0\" }";
    let proxy =
        Sidelight::start(&Setup::app(app.address()).sink("otlp", &sink).section("pipeline", receiver));
    let inlet = proxy.address(if protocol == "grpc" { "otlp-grpc" } else { "otlp" });
    let places = [inlet, of(at, protocol)].map(|place| place.to_string());
    let exports = python::run("otlp_sdk.py", &[protocol, &places[0], &places[1]]);
    let exports: Vec<Value> = exports.iter().map(|case| serde_json::from_str(case).expect("JSON")).collect();
    assert_eq!(exports.len(), 6, "three signals to two places");
    let count: u64 = exports[..3].iter().filter_map(|export| export["count"].as_u64()).sum();
    let wanted = of_the_shop(&direct);
    assert_eq!(wanted.len() as u64, count);
    let arrived = wait_for("everything behind the sidecar", || {
        Some(of_the_shop(&behind)).filter(|arrived| arrived.len() >= wanted.len())
    });
    assert_eq!(arrived, wanted);
    // The same in the file, with the ids that the SDK gave.
    let trace_id = &exports[0]["trace_id"];
    for (schema, count) in [("app_span", 3), ("app_log", 2), ("app_metric", 6)] {
        let events = wait_for(schema, || {
            Some(proxy.events().all(&format!("sidelight/{schema}/1"))).filter(|events| events.len() >= count)
        });
        assert_eq!(events.len(), count);
        let in_trace = events.iter().filter(|event| event["trace_id"] == *trace_id).count();
        let should = match schema {
            "app_span" => 3,
            "app_log" => 1,
            _ => 0,
        };
        assert_eq!(in_trace, should, "{events:?}");
        for event in &events {
            assert_eq!(event["resource"]["attributes"]["service.name"], "shop", "{event}");
        }
    }
}

#[test]
fn what_the_sdk_says_over_grpc_arrives_as_it_was() {
    arrives_as_it_was("grpc", "http_protobuf");
}

#[test]
fn what_the_sdk_says_over_http_arrives_as_it_was() {
    arrives_as_it_was("http", "grpc");
}
