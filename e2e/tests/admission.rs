//! What a listener lets in as memory runs out, and what the adaptive limit learns: seen by clients, in events and metrics.

use e2e::frames::{Peer, request};
use e2e::{RawClient, Response, Script, Setup, Sidelight, Step, StrictBackend, wait_for};
use serde_json::Value;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

fn metric(proxy: &Sidelight, sample: &str) -> Option<f64> {
    let page = RawClient::get(proxy.address("telemetry"), "/metrics").expect("metrics").text();
    let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ').map(str::to_owned));
    line.map(|value| value.parse().expect("a number"))
}

fn ask(address: SocketAddr, fields: &str) -> Response {
    RawClient::connect(address).ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).expect("an answer")
}

fn memory(proxy: &Sidelight) -> Value {
    let shown: Value = serde_json::from_str(&proxy.admin("/breakers").text()).expect("JSON");
    shown["memory"].clone()
}

/// Memory is that of the machine or of its cgroup, so the limit is made to fit what is used.
#[test]
fn as_memory_runs_out_requests_are_shed_connections_closed_and_all_refused() {
    let app = StrictBackend::start();
    let with = |limit: u64, steps: &str| {
        let overload = format!("overload: {{ memory: {limit}, interval: 50ms, {steps} }}");
        Setup::app(app.address())
            .section("inbound", "load_shed: { tiers: [free, gold] }")
            .section("limits", &overload)
    };
    let proxy = Sidelight::start(&with(1 << 44, "shed_percent: 85"));
    let used =
        wait_for("a look at the memory", || memory(&proxy)["used_bytes"].as_u64().filter(|used| *used > 0));
    assert_eq!(memory(&proxy)["step"], "normal");
    let reach = |steps: &str, step: &str| {
        proxy.rewrite(&with(used * 2, steps));
        proxy.signal(libc::SIGHUP);
        wait_for(step, || (memory(&proxy)["step"] == step).then_some(()));
    };
    let mut client = RawClient::connect(proxy.inbound());
    let mut peer = Peer::connect(proxy.inbound());
    assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("an answer").status, 200);
    assert_eq!(peer.ask(1, &request("GET", "/")).expect("an answer").status(), 200);

    // About half of it is used: from 10 % on, tracer bullets go, and those without a license.
    reach("shed_percent: 10, keepalive_percent: 98, refuse_percent: 99", "shed");
    let shed = ask(proxy.inbound(), "x-request-type: TRACE\r\nx-license: gold\r\n");
    assert_eq!(shed.status, 503);
    assert!(shed.fields.get("proxy-status").unwrap_or_default().contains("load_shed"), "{:?}", shed.fields);
    assert_eq!(ask(proxy.inbound(), "").status, 503);
    assert_eq!(ask(proxy.inbound(), "x-license: gold\r\n").status, 200);
    assert_eq!(metric(&proxy, "sidelight_overload_step"), Some(1.0));
    let refused =
        "sidelight_admission_refused_total{listener=\"inbound\",tier=\"_trace\",reason=\"memory_shed\"}";
    assert_eq!(metric(&proxy, refused), Some(1.0));

    // Connections that were open are closed after their next answer, which is a good one.
    reach("shed_percent: 10, keepalive_percent: 11, refuse_percent: 99", "close_connections");
    let last = client.ask("GET / HTTP/1.1\r\nHost: a\r\nx-license: gold\r\n\r\n").expect("an answer");
    assert_eq!((last.status, last.fields.get("connection")), (200, Some("close")), "{:?}", last.fields);
    let gold: Vec<_> = request("GET", "/").into_iter().chain([("x-license", "gold")]).collect();
    assert_eq!(peer.ask(3, &gold).expect("an answer").status(), 200);
    peer.read_until(|peer| peer.goaway.is_some()).expect("GOAWAY");

    reach("shed_percent: 10, keepalive_percent: 11, refuse_percent: 12", "refuse");
    let refused = ask(proxy.inbound(), "x-license: gold\r\n");
    assert_eq!(refused.status, 503);
    assert!(
        refused.fields.get("proxy-status").unwrap_or_default().contains("overloaded"),
        "{:?}",
        refused.fields
    );
    let event = proxy.events().find("the refusal", |event| event["sidelight.cause"] == "overloaded");
    assert_eq!(event["sidelight.breaker"], "memory", "{event}");

    proxy.rewrite(&with(1 << 44, "shed_percent: 85"));
    proxy.signal(libc::SIGHUP);
    wait_for("memory to be enough", || (memory(&proxy)["step"] == "normal").then_some(()));
    assert_eq!(ask(proxy.inbound(), "").status, 200);
    let steps = wait_for("the last event", || {
        let events = proxy.events().all("sidelight/overload/1");
        let steps: Vec<Value> = events.iter().map(|event| event["sidelight.overload.step"].clone()).collect();
        (steps.len() > 3).then_some(steps)
    });
    assert_eq!(steps, ["shed", "close_connections", "refuse", "normal"], "{steps:?}");
}

/// Work for two at once, eight clients: the limit is learned, nobody is refused for it, and the page says what it is.
#[test]
fn an_adaptive_limit_learns_the_latency_of_the_app() {
    let app = StrictBackend::start();
    let answer = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 2\r\n\r\nok";
    let work = vec![Step::ReadBody, Step::Pause(Duration::from_millis(20)), Step::Send(answer.into())];
    app.script("/", Script(work));
    let proxy = Sidelight::start(
        &Setup::app(app.address()).section("inbound", "concurrency: { limit: auto, max: 6 }"),
    );
    let limit = "sidelight_concurrency_limit{listener=\"inbound\"}";
    assert_eq!(metric(&proxy, limit), Some(6.0));
    let address = proxy.inbound();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            thread::spawn(move || {
                let mut client = RawClient::connect(address);
                (0..60).all(|_| {
                    client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("an answer").status == 200
                })
            })
        })
        .collect();
    assert!(clients.into_iter().all(|client| client.join().expect("a client")), "a request was refused");
    let best = metric(&proxy, "sidelight_concurrency_min_rtt_seconds{listener=\"inbound\"}");
    assert!(best >= Some(0.02), "the best latency is what the app needs: {best:?}");
    let learned = metric(&proxy, limit).expect("a limit");
    assert!((3.0..=6.0).contains(&learned), "{learned}");
    let waited = metric(&proxy, "sidelight_admission_waited_total{listener=\"inbound\",tier=\"_none\"}");
    assert!(waited > Some(0.0), "eight clients and six places: {waited:?}");
}
