//! `/graph`, in its forms.

use super::*;
use crate::exchange::{Direction, ParentSource};

fn send(proxy: &Proxy, direction: Direction, cluster: Option<&str>, status: u16, source: ParentSource) {
    let mut record: Box<Record> = proxy.worker.spare();
    record.direction = direction;
    record.cluster = cluster.map(Into::into);
    record.status = status;
    record.started_at = std::time::SystemTime::now();
    record.duration = Duration::from_millis(60);
    record.parent_source = source;
    proxy.worker.exchange(record);
}

/// What the metrics count is there at once; what the pipeline's thread counts comes soon after.
async fn graph(proxy: &Proxy) -> Value {
    let end = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        let graph = proxy.get("/graph").await;
        let is_behind = graph["edges"].as_array().unwrap().iter().any(|edge| edge.get("missed").is_some());
        if !is_behind {
            return graph;
        }
        assert!(std::time::Instant::now() < end, "{graph}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn text(proxy: &Proxy, format: &str) -> String {
    graph(proxy).await;
    let (status, head, content) = proxy.ask("GET", &format!("/graph?format={format}"), "", "").await;
    assert_eq!(status, 200, "{content}");
    assert!(head.contains("content-type: text/plain; charset=utf-8"), "{head}");
    content
}

/// The fields of an edge that an earlier version had.
fn edge(graph: &Value, at: usize) -> Value {
    let mut edge = graph["edges"][at].clone();
    edge.as_object_mut().unwrap().remove("parts");
    edge
}

#[tokio::test]
async fn the_graph_says_who_is_called_and_which_calls_lost_their_context() {
    let proxy = start(Role::Admin, None).await;
    send(&proxy, Direction::Inbound, Some("app"), 200, ParentSource::Header);
    for (status, source) in [
        (200, ParentSource::Sole),
        (200, ParentSource::Sole),
        (503, ParentSource::Lost),
        (0, ParentSource::Root),
    ] {
        send(&proxy, Direction::Outbound, Some("payments"), status, source);
    }
    send(&proxy, Direction::Outbound, None, 404, ParentSource::Root);
    let graph = graph(&proxy).await;
    for moment in ["since", "at"] {
        assert!(graph[moment].as_str().is_some_and(|text| text.ends_with('Z')), "{moment}");
    }
    let head = ["schema", "lost_context", "lost_ratio"].map(|name| graph[name].clone());
    assert_eq!(head, [json!("sidelight/graph/1"), json!(1), json!(0.3333)]);
    assert_eq!(graph["service"]["name"], "checkout");
    assert!(graph["epoch"].as_u64().is_some_and(|epoch| epoch > 0), "{graph}");
    let latency = json!({ "mean": 60.0, "p50": 60.0, "p90": 60.0, "p99": 60.0 });
    assert_eq!(graph["edges"].as_array().unwrap().len(), 3);
    assert_eq!(
        edge(&graph, 0),
        json!({
            "direction": "inbound", "from": "clients", "to": "checkout",
            "calls": 1, "failures": 0, "failure_ratio": 0.0, "latency_ms": latency,
        })
    );
    assert_eq!(
        edge(&graph, 1),
        json!({
            "direction": "outbound", "from": "checkout", "to": null,
            "calls": 1, "failures": 0, "failure_ratio": 0.0, "latency_ms": latency,
            "parents": { "root": 1 }, "lost_context": 0, "lost_ratio": null,
        })
    );
    assert_eq!(
        edge(&graph, 2),
        json!({
            "direction": "outbound", "from": "checkout", "to": "payments",
            "calls": 4, "failures": 2, "failure_ratio": 0.5, "latency_ms": latency,
            "parents": { "sole": 2, "lost": 1, "root": 1 }, "lost_context": 1, "lost_ratio": 0.3333,
        })
    );
    let part = &graph["edges"][2]["parts"][0];
    let head = ["protocol", "route", "license", "request_type", "calls"].map(|name| part[name].clone());
    assert_eq!(head, [json!("http1"), Value::Null, Value::Null, json!("STANDARD"), json!(4)]);
    let outcomes =
        json!([{ "status": 0, "calls": 1 }, { "status": 200, "calls": 2 }, { "status": 503, "calls": 1 }]);
    assert_eq!(part["outcomes"], outcomes);
}

#[tokio::test]
async fn before_the_first_exchange_there_are_only_the_clients() {
    let proxy = start(Role::Admin, None).await;
    let graph = proxy.get("/graph?format=json").await;
    let nothing = json!({ "mean": null, "p50": null, "p90": null, "p99": null });
    assert_eq!(
        graph["edges"],
        json!([{
            "direction": "inbound", "from": "clients", "to": "checkout",
            "calls": 0, "failures": 0, "failure_ratio": null, "latency_ms": nothing,
        }])
    );
    assert_eq!((&graph["lost_context"], &graph["lost_ratio"]), (&json!(0), &json!(null)));
}

#[tokio::test]
async fn it_is_drawn_by_graphviz_and_by_mermaid() {
    let proxy = start(Role::Admin, None).await;
    send(&proxy, Direction::Outbound, Some("payments"), 200, ParentSource::Header);
    send(&proxy, Direction::Outbound, Some("payments"), 502, ParentSource::Lost);
    let told = ["2 calls", "1 failed", "p50 60.0 ms, p99 60.0 ms", "1 lost their context"];
    let dot = text(&proxy, "dot").await;
    assert!(dot.starts_with("digraph sidelight {\n") && dot.ends_with("}\n"), "{dot}");
    assert!(dot.contains("  n0 [label=\"checkout\", style=bold];\n  n1 [label=\"payments\"];\n"), "{dot}");
    let line = format!("  n0 -> n1 [label=\"{}\", color=red];\n", told.join("\\n"));
    assert!(dot.contains(&line), "{dot}");
    let mermaid = text(&proxy, "mermaid").await;
    let line = format!("  n0 -->|\"{}\"| n1\n", told.join("<br>"));
    assert!(mermaid.starts_with("flowchart LR\n  n0[\"checkout\"]\n  n1[\"payments\"]\n"), "{mermaid}");
    assert!(mermaid.contains(&line), "{mermaid}");
}

#[tokio::test]
async fn every_format_is_served_with_its_type() {
    let proxy = start(Role::Admin, None).await;
    send(&proxy, Direction::Outbound, Some("payments"), 200, ParentSource::Header);
    graph(&proxy).await;
    for (format, content_type, mark) in [
        ("table", "text/plain", "FROM"),
        ("vizceral", "application/json", "INTERNET"),
        ("spigo", "application/json", "spigo-0.4"),
        ("jaeger", "application/json", "\"callCount\": 1"),
        ("zipkin", "application/json", "\"child\": \"payments\""),
        ("prometheus", "text/plain; version=0.0.4", "istio_requests_total{reporter=\"source\""),
        ("declared", "application/yaml", "checkout:"),
    ] {
        let (status, head, content) = proxy.ask("GET", &format!("/graph?format={format}"), "", "").await;
        assert_eq!(status, 200, "{format}");
        assert!(head.contains(&format!("content-type: {content_type}")), "{format}: {head}");
        assert!(content.contains(mark), "{format}: {content}");
    }
}

#[tokio::test]
async fn an_unknown_format_is_told_those_that_there_are() {
    let proxy = start(Role::Admin, None).await;
    for query in ["format=svg", "format=", "format", "format=JSON"] {
        let (status, _, content) = proxy.ask("GET", &format!("/graph?{query}"), "", "").await;
        assert_eq!(status, 400, "{query}");
        let content: Value = serde_json::from_str(&content).unwrap();
        assert_eq!(
            content["formats"],
            json!(crate::pipeline::graph::Format::ALL.map(crate::pipeline::graph::Format::name)),
            "{query}"
        );
    }
    assert_eq!(proxy.ask("POST", "/graph", "", "").await.0, 405);
    assert_eq!(proxy.get("/graph?colour=red").await["schema"], "sidelight/graph/1");
    let (_, _, page) = proxy.ask("GET", "/", "accept: text/html\r\n", "").await;
    assert!(page.contains("<a href=\"/graph\">"), "{page}");
}
