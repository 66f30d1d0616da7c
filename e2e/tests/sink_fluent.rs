//! Events at a Fluent forward server of somebody else: `FluentServer` of npm's `@fluent-org/logger`.

use e2e::{App, RawClient, Setup, Sidelight, StrictBackend, get, wait_for};
use serde_json::Value;
use std::net::SocketAddr;

/// Asks for these paths; gives the proxy's own events of them.
fn exchange(proxy: &Sidelight, numbers: std::ops::RangeInclusive<usize>) -> Vec<Value> {
    let last = *numbers.end();
    for number in numbers {
        let answer = RawClient::connect(proxy.inbound()).ask(get(&format!("/{number}"), ""));
        assert_eq!(answer.expect("an answer").status, 200);
    }
    proxy.events().wait(last)
}

/// What the server has of exchanges, in the order of the events' numbers.
fn received(server: &App, count: usize) -> Vec<Value> {
    let mut lines = wait_for(&format!("{count} exchanges at the server"), || {
        let mut lines = server.lines();
        lines.retain(|line| line["tag"] == "sidelight.exchange");
        (lines.len() >= count).then_some(lines)
    });
    lines.sort_by_key(|line| line["record"]["id"]["sequence"].as_u64());
    lines
}

/// As JavaScript writes it: 0.0 and 0 are one number.
fn scripted(value: &Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => (float as i64).into(),
            _ => value.clone(),
        },
        Value::Array(list) => list.iter().map(scripted).collect(),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(name, value)| (name.clone(), scripted(value))).collect())
        }
        _ => value.clone(),
    }
}

/// Every event arrived once, as it stands in the file, under its own time.
fn assert_same(lines: &[Value], events: &[Value]) {
    let records: Vec<Value> = lines.iter().map(|line| scripted(&line["record"])).collect();
    assert_eq!(records, events.iter().map(scripted).collect::<Vec<_>>());
    for line in lines {
        let text = line["record"]["timestamp"].as_str().expect("a time");
        let micros: u64 = text[20..26].parse().expect("microseconds");
        assert_eq!(line["nanos"], micros * 1000, "{line}");
    }
}

fn sidecar(app: &StrictBackend, server: SocketAddr, more: &str) -> Sidelight {
    let sink = format!("address: \"{server}\"\n{more}");
    Sidelight::start(&Setup::app(app.address()).sink("fluent", &sink))
}

#[test]
fn every_event_arrives_once_with_its_types() {
    let (app, at) = (StrictBackend::start(), App::reserve());
    let address = at.address();
    let server = App::start("fluent_server.js", at, address, &[]);
    let proxy = sidecar(&app, address, "");
    let events = exchange(&proxy, 1..=20);
    assert_same(&received(&server, 20), &events);
    assert_eq!(proxy.stop().len(), 20);
    assert_eq!(received(&server, 20).len(), 20, "nothing twice at the end");
}

#[test]
fn a_shared_key_and_a_user_are_proven() {
    let (app, at) = (StrictBackend::start(), App::reserve());
    let address = at.address();
    let server = App::start("fluent_server.js", at, address, &[("SHARED_KEY", "sesame")]);
    let secrets = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = secrets.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let (key, password) = (write("key", "sesame\n"), write("password", "correct horse\n"));
    let more = format!("shared_key_file: {key:?}\nusername: ann\npassword_file: {password:?}");
    let proxy = sidecar(&app, address, &more);
    let events = exchange(&proxy, 1..=3);
    assert_same(&received(&server, 3), &events);
}

#[test]
fn a_server_that_comes_later_gets_everything() {
    let (app, at) = (StrictBackend::start(), App::reserve());
    let address = at.address();
    let proxy = sidecar(&app, address, "");
    let events = exchange(&proxy, 1..=10);
    let server = App::start("fluent_server.js", at, address, &[]);
    assert_same(&received(&server, 10), &events);
}
