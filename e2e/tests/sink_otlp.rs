//! OTLP to collectors of others: rotel, which passes on what it understood to a receiver with OpenTelemetry's own messages,
//! and Datadog's test agent.

use e2e::app::Reserved;
use e2e::{App, RawClient, Script, Setup, Sidelight, StrictBackend, wait_for};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;

const REQUESTS: usize = 10;

/// A receiver of OTLP over both transports.
struct Receiver {
    app: App,
    http: SocketAddr,
    grpc: Reserved,
}

impl Receiver {
    fn start(script: &str, next: SocketAddr, settings: &[(&str, &str)]) -> Receiver {
        Receiver::start_at(script, [App::reserve(), App::reserve()], next, settings)
    }

    fn start_at(
        script: &str,
        [http, grpc]: [Reserved; 2],
        next: SocketAddr,
        settings: &[(&str, &str)],
    ) -> Receiver {
        let (address, port) = (http.address(), grpc.address().port().to_string());
        let settings = [settings, &[("GRPC_PORT", port.as_str())]].concat();
        Receiver { app: App::start(script, http, next, &settings), http: address, grpc }
    }

    /// Where it speaks the sink's `protocol`.
    fn endpoint(&self, protocol: &str) -> SocketAddr {
        if protocol == "grpc" { self.grpc.address() } else { self.http }
    }

    /// What the lines of a signal say.
    fn items(&self, signal: &str) -> Vec<Value> {
        let mut lines = self.app.lines();
        lines.retain(|line| line["signal"] == signal);
        lines
    }
}

fn collector() -> Receiver {
    Receiver::start("otlp_collector.py", ([127, 0, 0, 1], 9).into(), &[])
}

/// The value of an attribute, of whatever type.
fn attribute(owner: &Value, name: &str) -> Value {
    let all = owner["attributes"].as_array().into_iter().flatten();
    let found = all.into_iter().find(|each| each["key"] == name);
    let value = found.and_then(|each| each["value"].as_object()?.values().next().cloned());
    value.unwrap_or_default()
}

fn sidecar(
    app: &StrictBackend,
    payments: &[&StrictBackend],
    endpoint: SocketAddr,
    protocol: &str,
) -> Sidelight {
    let endpoints: Vec<String> = payments.iter().map(|each| each.address().to_string()).collect();
    let clusters = format!("payments:\n  endpoints: {endpoints:?}\n  balance: {{ policy: round_robin }}");
    let route = "routes:\n  - name: all\n    match: { path: { prefix: /pay } }\n    cluster: payments\n    \
                 retry: { limit: 2, on: [gateway_error], backoff: { base: 1ms, max: 2ms } }";
    let sink = format!("endpoint: \"http://{endpoint}\"\nprotocol: {protocol}\nmetrics_interval: 200ms");
    let setup = Setup::app(app.address()).section("clusters", &clusters).section("outbound", route);
    Sidelight::start(&setup.sink("otlp", &sink))
}

fn get(path: &str, number: usize) -> String {
    let trace = format!("00-{:032x}-{:016x}-01", number + 1, number + 1);
    format!("GET {path} HTTP/1.1\r\nHost: payments\r\nx-account-id: gold-1\r\ntraceparent: {trace}\r\n\r\n")
}

/// Requests in both directions, with further attempts where an endpoint fails; the events that are spans.
fn exchange(proxy: &Sidelight) -> Vec<Value> {
    let before = proxy.events().exchanges().len();
    let mut inbound = RawClient::connect(proxy.inbound());
    let mut outbound = RawClient::connect(proxy.outbound());
    for number in 0..REQUESTS {
        assert_eq!(inbound.ask(get("/in", number)).expect("an answer").status, 200);
        assert_eq!(outbound.ask(get("/pay", number)).expect("an answer").status, 200);
    }
    let failing = get("/nowhere", REQUESTS).replace("Host: payments", "Host: nowhere.test");
    assert!(outbound.ask(failing).expect("an answer").status >= 400);
    let events = proxy.events().wait(before + 2 * REQUESTS + 1).split_off(before);
    assert!(events.iter().any(|event| event["error.type"].is_string()), "one has failed");
    [events, proxy.events().all("sidelight/span/1")].concat()
}

/// What OpenTelemetry's model says of an event, as the collector tells it.
fn wanted(event: &Value) -> Value {
    let is_attempt = event["schema"] == "sidelight/span/1";
    let is_inbound = event["sidelight.direction"] == "inbound";
    let name = match (is_attempt, &event["http.route"]) {
        (true, _) => event["name"].clone(),
        (false, Value::String(route)) => format!("GET {route}").into(),
        (false, _) => "GET".into(),
    };
    json!({
        "traceId": event["trace_id"],
        "spanId": event["span_id"],
        "parentSpanId": event["parent_id"],
        "kind": if is_inbound { "SPAN_KIND_SERVER" } else { "SPAN_KIND_CLIENT" },
        "name": name,
        "status": if event["error.type"].is_string() { json!("STATUS_CODE_ERROR") } else { Value::Null },
    })
}

fn assert_spans(lines: &[Value], events: &[Value]) {
    let by_id: HashMap<&str, &Value> =
        lines.iter().filter_map(|line| Some((line["item"]["spanId"].as_str()?, line))).collect();
    assert_eq!((lines.len(), by_id.len()), (events.len(), events.len()), "each once");
    for event in events {
        let line =
            by_id.get(event["span_id"].as_str().expect("an id")).unwrap_or_else(|| panic!("no {event}"));
        let span = &line["item"];
        let found = json!({
            "traceId": span["traceId"],
            "spanId": span["spanId"],
            "parentSpanId": span["parentSpanId"],
            "kind": span["kind"],
            "name": span["name"],
            "status": span["status"]["code"],
        });
        assert_eq!(found, wanted(event), "{span}");
        let time =
            |name: &str| span[name].as_str().and_then(|nanos| nanos.parse::<u64>().ok()).expect("a time");
        let micros = event["timestamp"].as_str().and_then(|text| text[20..26].parse().ok());
        assert_eq!(Some(time("startTimeUnixNano") / 1000 % 1_000_000), micros, "{event}");
        assert!(time("endTimeUnixNano") >= time("startTimeUnixNano"));
        // Numbers of 64 bits are texts in protobuf's JSON.
        for name in ["http.request.method", "http.response.status_code", "url.path", "server.port"] {
            let value = attribute(span, name);
            let told = value.as_str().map(str::to_owned);
            let should =
                event[name].as_str().map(str::to_owned).or(event[name].as_u64().map(|it| it.to_string()));
            assert_eq!(told, should, "{name} of {span}");
        }
        if event["schema"] == "sidelight/exchange/1" {
            assert_eq!(attribute(span, "account.id"), "gold-1", "{span}");
        }
        assert_eq!(
            (attribute(&line["resource"], "service.name"), &line["scope"]["name"]),
            ("checkout".into(), &"sidelight".into())
        );
    }
}

/// Everything that a sidecar tells, over one transport.
fn arrives_at_rotel(protocol: &str) {
    let (app, bad, good) = (StrictBackend::start(), StrictBackend::start(), StrictBackend::start());
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT";
    bad.script(
        "/pay",
        Script::reply(format!("HTTP/1.1 503 Service Unavailable\r\n{date}\r\nContent-Length: 0\r\n\r\n")),
    );
    let collector = collector();
    let rotel = Receiver::start("rotel_agent.py", collector.http, &[]);
    let proxy = sidecar(&app, &[&bad, &good], rotel.endpoint(protocol), protocol);
    let events = exchange(&proxy);
    assert!(events.len() > 2 * REQUESTS, "further attempts have spans of their own");
    let spans = wait_for("every span", || {
        let lines = collector.items("traces");
        (lines.len() >= events.len()).then_some(lines)
    });
    assert_spans(&spans, &events);
    // Metrics: the proxy's own, under OpenTelemetry's names; the last snapshot has all exchanges.
    wait_for("the count of exchanges", || {
        let mut points = collector.items("metrics");
        points.retain(|line| line["metric"]["name"] == "http.server.request.duration");
        let last = points.last()?;
        assert_eq!(
            (&last["metric"]["unit"], attribute(&last["resource"], "service.name")),
            (&"s".into(), "checkout".into())
        );
        assert_eq!(
            last["metric"]["histogram"]["aggregationTemporality"],
            "AGGREGATION_TEMPORALITY_CUMULATIVE"
        );
        assert_eq!(attribute(&last["item"], "http.request.method"), "GET");
        (last["item"]["count"].as_str() == Some("10")).then_some(())
    });
    for name in ["http.client.request.duration", "process.cpu.time", "sidelight.retries"] {
        wait_for(name, || collector.items("metrics").into_iter().find(|line| line["metric"]["name"] == name));
    }
    // Log records: every other event, under its id.
    let uid = |event: &Value| {
        let id = &event["id"];
        format!("{}/{}/{}", id["instance"].as_str().expect("an instance"), id["epoch"], id["sequence"])
    };
    let is_span =
        |event: &Value| event["schema"] == "sidelight/exchange/1" || event["schema"] == "sidelight/span/1";
    let mut others = proxy.events().everything();
    others.retain(|event| !is_span(event));
    assert!(!others.is_empty());
    for event in others {
        let line = wait_for(&format!("a record of {event}"), || {
            collector
                .items("logs")
                .into_iter()
                .find(|line| attribute(&line["item"], "log.record.uid") == uid(&event))
        });
        assert_eq!(line["item"]["eventName"], event["schema"], "{line}");
    }
}

#[test]
fn rotel_understands_everything_over_grpc() {
    arrives_at_rotel("grpc");
}

#[test]
fn rotel_understands_everything_over_http() {
    arrives_at_rotel("http_protobuf");
}

#[test]
fn a_collector_that_is_away_gets_everything_when_it_comes_and_when_it_comes_back() {
    let app = StrictBackend::start();
    let (http, grpc) = (App::reserve(), App::reserve());
    let proxy = sidecar(&app, &[&app], grpc.address(), "grpc");
    let events = exchange(&proxy);
    let down = wait_for("the event that tells of it", || proxy.events().all("sidelight/sink/1").pop());
    assert_eq!((&down["sidelight.sink"], &down["sidelight.sink.state"]), (&"otlp".into(), &"down".into()));
    let [produced, delivered, dropped, queued] = proxy.books("otlp").expect("books");
    assert_eq!((delivered, dropped, queued), (0, 0, produced));
    let collector = Receiver::start_at("otlp_collector.py", [http, grpc], ([127, 0, 0, 1], 9).into(), &[]);
    let spans = wait_for("every span", || {
        let lines = collector.items("traces");
        (lines.len() >= events.len()).then_some(lines)
    });
    assert_spans(&spans, &events);
    // The same address, after the collector is killed: the sink notices by itself.
    let Receiver { app: killed, grpc, .. } = collector;
    drop(killed);
    let more = exchange(&proxy);
    let collector =
        Receiver::start_at("otlp_collector.py", [App::reserve(), grpc], ([127, 0, 0, 1], 9).into(), &[]);
    let all = [&events[..], &more].concat();
    let missing = || {
        let lines = [&spans[..], &collector.items("traces")].concat();
        all.iter()
            .filter(|event| !lines.iter().any(|line| line["item"]["spanId"] == event["span_id"]))
            .count()
    };
    wait_for("every other span", || (missing() == 0).then_some(()));
    wait_for("the books to be settled", || {
        let [produced, delivered, dropped, queued] = proxy.books("otlp")?;
        assert_eq!((produced, dropped), (delivered + queued, 0));
        (queued == 0).then_some(())
    });
}

#[test]
fn datadogs_agent_takes_the_traces_over_both_transports() {
    let own = App::reserve();
    let port = own.address().port().to_string();
    let agent = Receiver::start("datadog_agent.py", ([127, 0, 0, 1], 9).into(), &[("AGENT_PORT", &port)]);
    let app = StrictBackend::start();
    let mut ids = Vec::new();
    for protocol in ["grpc", "http_protobuf"] {
        let proxy = sidecar(&app, &[&app], agent.endpoint(protocol), protocol);
        ids.extend(exchange(&proxy).iter().map(|event| event["span_id"].as_str().expect("an id").to_owned()));
        let [produced, delivered, dropped, _] = wait_for("everything to be settled", || {
            proxy.books("otlp").filter(|[produced, .., queued]| *produced > 0 && *queued == 0)
        });
        assert_eq!((produced, dropped), (delivered, 0), "the agent rejects what it cannot read");
    }
    ids.sort();
    wait_for("every span at the agent", || {
        let answer = RawClient::get(agent.http, "/test/session/traces").ok()?;
        let whole: Value = serde_json::from_slice(&answer.body).ok()?;
        let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
        let parts = match whole {
            Value::Array(parts) => parts,
            one => vec![one],
        };
        let mut found: Vec<String> = parts
            .iter()
            .flat_map(|part| list(part, "resource_spans"))
            .flat_map(|of_resource| list(&of_resource, "scope_spans"))
            .flat_map(|of_scope| list(&of_scope, "spans"))
            .filter_map(|span| span["span_id"].as_str().map(str::to_owned))
            .collect();
        found.sort();
        (found.len() >= ids.len()).then(|| assert_eq!(found.len(), ids.len(), "each once"))
    });
}
