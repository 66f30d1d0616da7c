//! What the admin and the telemetry port show and change.

use e2e::{RawClient, Response, Setup, Sidelight, StrictBackend, wait_for};
use serde_json::{Value, json};
use std::collections::HashMap;

fn start(backend: &StrictBackend) -> Sidelight {
    let cluster = format!("payments:\n  endpoints: [\"{}\"]", backend.address());
    let routes = "routes:\n  - name: gold\n    match: { context: { license: gold } }\n    cluster: payments";
    Sidelight::start(&Setup::app(backend.address()).section("clusters", &cluster).section("outbound", routes))
}

fn json(answer: &Response) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.text()))
}

fn post(proxy: &Sidelight, path: &str, content: &str) -> Response {
    let length = content.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    RawClient::connect(proxy.address("admin")).ask(head + content).expect("an answer")
}

/// Samples by name and labels. Panics on a line that is no sample of the Prometheus text format.
fn samples(text: &str) -> HashMap<String, f64> {
    let mut samples = HashMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let line = line.split(" # ").next().expect("a line"); // without an exemplar
        let end = line.rfind('}').map_or_else(|| line.find(' ').unwrap_or(0), |brace| brace + 1);
        let (series, value) = line.split_at(end);
        let value = value.split_whitespace().next().and_then(|value| value.parse().ok());
        let value = value.unwrap_or_else(|| panic!("no sample: {line}"));
        assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {series}");
    }
    samples
}

fn sum(samples: &HashMap<String, f64>, name: &str, labels: &[&str]) -> f64 {
    let is_wanted = |series: &str| {
        series.split('{').next() == Some(name) && labels.iter().all(|label| series.contains(label))
    };
    samples.iter().filter(|(series, _)| is_wanted(series)).map(|(_, value)| value).sum()
}

#[test]
fn both_ports_say_whether_it_lives_and_is_ready() {
    let backend = StrictBackend::start();
    let proxy = start(&backend);
    for path in ["/live", "/ready"] {
        assert_eq!(proxy.admin(path).status, 200, "{path}");
        assert_eq!(RawClient::get(proxy.address("telemetry"), path).unwrap().status, 200, "{path}");
    }
    for path in ["/config", "/clusters", "/routes"] {
        assert_eq!(
            RawClient::get(proxy.address("telemetry"), path).unwrap().status,
            404,
            "{path} is not for scrapers"
        );
    }
    assert_eq!(proxy.admin("/nothing").status, 404);
    assert_eq!(post(&proxy, "/config", "").status, 405);
}

#[test]
fn metrics_count_what_happened() {
    let backend = StrictBackend::start();
    let proxy = start(&backend);
    for _ in 0..5 {
        assert_eq!(RawClient::get(proxy.inbound(), "/").unwrap().status, 200);
    }
    assert_eq!(RawClient::get(proxy.outbound(), "/").unwrap().status, 404);
    proxy.events().wait(6);
    let counted = wait_for("six exchanges in the metrics", || {
        let text = RawClient::get(proxy.address("telemetry"), "/metrics").unwrap().text();
        let samples = samples(&text);
        let server = sum(&samples, "http_server_request_duration_seconds_count", &[]);
        (server >= 5.0).then_some((samples, text))
    });
    let (samples, text) = counted;
    let ok =
        sum(&samples, "http_server_request_duration_seconds_count", &["http_response_status_code=\"200\""]);
    assert_eq!(ok, 5.0, "{text}");
    let buckets =
        samples.keys().filter(|series| series.starts_with("http_server_request_duration_seconds_bucket"));
    assert!(buckets.count() >= 15, "{text}");
    assert!(text.contains("route_not_found"), "the cause of the 404: {text}");
    assert!(!text.contains("app.example"), "a host that nobody configured is a label: {text}");
    assert_eq!(self::samples(&proxy.admin("/metrics").text()).len(), samples.len());
}

#[test]
fn documents_show_what_is_in_force() {
    let backend = StrictBackend::start();
    let proxy = start(&backend);
    let config = json(&proxy.admin("/config"));
    assert_eq!(config["config"]["service"]["name"], "checkout", "{config}");
    assert!(config["last_reload_refused"].is_null(), "{config}");
    let clusters = json(&proxy.admin("/clusters")).to_string();
    assert!(clusters.contains("payments") && clusters.contains(&backend.address().to_string()), "{clusters}");
    let routes = json(&proxy.admin("/routes")).to_string();
    assert!(routes.contains("gold"), "{routes}");
    let yaml =
        "GET /config HTTP/1.1\r\nHost: localhost\r\nAccept: application/yaml\r\nConnection: close\r\n\r\n";
    let yaml = RawClient::connect(proxy.address("admin")).ask(yaml).unwrap();
    assert!(yaml.text().contains("payments:"), "{}", yaml.text());
    let page = "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\nConnection: close\r\n\r\n";
    let page = RawClient::connect(proxy.address("admin")).ask(page).unwrap();
    assert!(page.text().contains("<html") && page.text().contains("checkout"), "{}", page.text());
}

#[test]
fn explain_answers_as_the_router_does() {
    let backend = StrictBackend::start();
    let proxy = start(&backend);
    let question = json!({ "method": "GET", "url": "http://anything/", "headers": ["x-license: gold"] });
    let answer = json(&post(&proxy, "/explain", &question.to_string()));
    assert!(answer.to_string().contains("gold"), "{answer}");
    let asked = "GET / HTTP/1.1\r\nHost: anything\r\nx-license: gold\r\nx-request-id: explained\r\n\r\n";
    assert_eq!(RawClient::connect(proxy.outbound()).ask(asked).unwrap().status, 200);
    assert_eq!(proxy.events().of("explained")["sidelight.route"], "gold");
    for wrong in ["", "[]", "{", r#"{"url":"http://a/","colour":1}"#, r#"{"method":"G T","url":"http://a/"}"#]
    {
        assert_eq!(post(&proxy, "/explain", wrong).status, 400, "{wrong}");
    }
}

#[test]
fn the_level_of_the_log_can_be_changed() {
    let backend = StrictBackend::start();
    let proxy = start(&backend);
    assert_eq!(post(&proxy, "/log-level", "no such level!").status, 400);
    let answer =
        post(&proxy, "/log-level", r#"{"level":"sidelight=debug","by":"somebody","reason":"to see"}"#);
    let answer = if answer.status == 400 { post(&proxy, "/log-level", "sidelight=debug") } else { answer };
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(RawClient::get(proxy.inbound(), "/").unwrap().status, 200);
}

#[test]
fn changes_need_the_token_where_there_is_one() {
    let backend = StrictBackend::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "secret-of-sixteen-bytes\n").unwrap();
    let setup = Setup::app(backend.address()).section("admin", &format!("token_file: {file:?}"));
    let mut proxy = Sidelight::start(&setup);
    let ask = |field: &str| {
        let head = format!(
            "POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{field}Connection: close\r\n\r\n"
        );
        RawClient::connect(proxy.address("admin")).ask(head).unwrap().status
    };
    assert_eq!(ask(""), 401);
    assert_eq!(ask("Authorization: Bearer wrong\r\n"), 401);
    assert_eq!(proxy.admin("/ready").status, 200, "reading needs none");
    assert_eq!(ask("Authorization: Bearer secret-of-sixteen-bytes\r\n"), 200);
    assert!(proxy.wait().success());
}

#[test]
fn pages_of_other_sites_cannot_ask() {
    let backend = StrictBackend::start();
    let proxy = start(&backend);
    for field in ["Host: evil.example\r\n", "Host: localhost\r\nOrigin: http://evil.example\r\n"] {
        let head = format!("POST /drain HTTP/1.1\r\n{field}Content-Length: 0\r\nConnection: close\r\n\r\n");
        let answer = RawClient::connect(proxy.address("admin")).ask(head).unwrap();
        assert!((400..500).contains(&answer.status), "{field}: {answer:?}");
    }
    assert_eq!(proxy.admin("/ready").status, 200);
}

#[test]
fn the_graph_shows_whom_the_service_calls() {
    let backend = StrictBackend::start();
    let proxy = start(&backend);
    let call = "GET / HTTP/1.1\r\nHost: payments\r\nConnection: close\r\n";
    let parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    assert_eq!(RawClient::get(proxy.inbound(), "/").unwrap().status, 200);
    for field in ["", parent, parent] {
        assert_eq!(
            RawClient::connect(proxy.outbound()).ask(format!("{call}{field}\r\n")).unwrap().status,
            200
        );
    }
    proxy.events().wait(4);
    let graph = wait_for("four exchanges in the graph", || {
        let graph = json(&proxy.admin("/graph"));
        let calls = graph["edges"].as_array()?.iter().filter_map(|edge| edge["calls"].as_u64()).sum::<u64>();
        (calls == 4).then_some(graph)
    });
    assert_eq!(
        (&graph["schema"], &graph["service"]["name"]),
        (&json!("sidelight/graph/1"), &json!("checkout"))
    );
    let edges = &graph["edges"];
    assert_eq!((&edges[0]["from"], &edges[0]["calls"]), (&json!("clients"), &json!(1)), "{graph}");
    assert_eq!((&edges[1]["to"], &edges[1]["failures"]), (&json!("payments"), &json!(0)), "{graph}");
    assert_eq!(edges[1]["parents"]["header"], 2, "{graph}");
    assert!(edges[1]["latency_ms"]["p99"].as_f64().is_some_and(|millis| millis > 0.0), "{graph}");
    let text = RawClient::get(proxy.address("telemetry"), "/metrics").unwrap().text();
    let header = ["sidelight_cluster=\"payments\"", "parent_source=\"header\""];
    assert_eq!(sum(&samples(&text), "sidelight_outbound_calls_total", &header), 2.0, "{text}");
    assert!(proxy.admin("/graph?format=dot").text().starts_with("digraph"));
    assert!(proxy.admin("/graph?format=mermaid").text().starts_with("flowchart"));
    assert_eq!(proxy.admin("/graph?format=svg").status, 400);
    assert_eq!(RawClient::get(proxy.address("telemetry"), "/graph").unwrap().status, 404);
}
