//! `/graph`, in its three forms.

use super::*;
use crate::exchange::{Direction, ParentSource};

fn send(proxy: &Proxy, direction: Direction, cluster: Option<&str>, status: u16, source: ParentSource) {
    let mut record: Box<Record> = proxy.worker.spare();
    record.direction = direction;
    record.cluster = cluster.map(Into::into);
    record.status = status;
    record.duration = Duration::from_millis(60);
    record.parent_source = source;
    proxy.worker.exchange(record);
}

async fn text(proxy: &Proxy, format: &str) -> String {
    let (status, head, content) = proxy.ask("GET", &format!("/graph?format={format}"), "", "").await;
    assert_eq!(status, 200, "{content}");
    assert!(head.contains("content-type: text/plain; charset=utf-8"), "{head}");
    content
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
    let mut graph = proxy.get("/graph").await;
    for moment in ["since", "at"] {
        assert!(graph[moment].take().as_str().is_some_and(|text| text.ends_with('Z')), "{moment}");
    }
    let latency = json!({ "mean": 60.0, "p50": 62.5, "p99": 74.75 });
    assert_eq!(
        graph,
        json!({
            "schema": "sidelight/graph/1",
            "service": { "name": "checkout" },
            "since": null,
            "at": null,
            "lost_context": 1,
            "lost_ratio": 0.3333,
            "edges": [
                {
                    "direction": "inbound", "from": "clients", "to": "checkout",
                    "calls": 1, "failures": 0, "failure_ratio": 0.0, "latency_ms": latency,
                },
                {
                    "direction": "outbound", "from": "checkout", "to": null,
                    "calls": 1, "failures": 0, "failure_ratio": 0.0, "latency_ms": latency,
                    "parents": { "root": 1 }, "lost_context": 0, "lost_ratio": null,
                },
                {
                    "direction": "outbound", "from": "checkout", "to": "payments",
                    "calls": 4, "failures": 2, "failure_ratio": 0.5, "latency_ms": latency,
                    "parents": { "sole": 2, "lost": 1, "root": 1 }, "lost_context": 1, "lost_ratio": 0.3333,
                },
            ],
        })
    );
}

#[tokio::test]
async fn before_the_first_exchange_there_are_only_the_clients() {
    let proxy = start(Role::Admin, None).await;
    let graph = proxy.get("/graph?format=json").await;
    let nothing = json!({ "mean": null, "p50": null, "p99": null });
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
    let told = ["2 calls", "1 failed", "p50 62.5 ms, p99 74.8 ms", "1 lost their context"];
    assert_eq!(
        text(&proxy, "dot").await,
        format!(
            "digraph sidelight {{\n  rankdir=LR;\n  node [shape=box];\n  service [label=\"checkout\", style=bold];\n  \
             clients [label=\"clients\"];\n  clients -> service [label=\"0 calls\"];\n  \
             cluster1 [label=\"payments\"];\n  service -> cluster1 [label=\"{}\"];\n}}\n",
            told.join("\\n"),
        )
    );
    assert_eq!(
        text(&proxy, "mermaid").await,
        format!(
            "flowchart LR\n  service[\"checkout\"]\n  clients[\"clients\"]\n  clients -->|\"0 calls\"| service\n  \
             cluster1[\"payments\"]\n  service -->|\"{}\"| cluster1\n",
            told.join("<br>"),
        )
    );
}

#[tokio::test]
async fn a_name_stays_a_name_whatever_is_in_it() {
    let proxy = start(Role::Admin, None).await;
    for name in ["clients", "service", "a\"];b\\", "<script>&#\n`x`"] {
        send(&proxy, Direction::Outbound, Some(name), 200, ParentSource::Root);
    }
    let dot = text(&proxy, "dot").await;
    let mermaid = text(&proxy, "mermaid").await;
    // One line for each node and edge, whatever it is called.
    assert_eq!((dot.lines().count(), mermaid.lines().count()), (4 + 2 * 5 + 1, 2 + 2 * 5));
    assert!(dot.contains(r#"[label="a\"];b\\"];"#), "{dot}");
    assert!(dot.contains(r#"[label="<script>&# `x`"];"#), "{dot}");
    assert!(mermaid.contains(r#"["a#quot;];b\"]"#), "{mermaid}");
    assert!(mermaid.contains("[\"#lt;script#gt;#amp;#35; #96;x#96;\"]"), "{mermaid}");
    for name in ["clients", "service"] {
        assert!(
            dot.lines().any(|line| line.starts_with("  cluster") && line.contains(&format!("\"{name}\"")))
        );
    }
}

#[tokio::test]
async fn an_unknown_format_is_told_those_that_there_are() {
    let proxy = start(Role::Admin, None).await;
    for query in ["format=svg", "format=", "format", "format=JSON"] {
        let (status, _, content) = proxy.ask("GET", &format!("/graph?{query}"), "", "").await;
        assert_eq!(status, 400, "{query}");
        let content: Value = serde_json::from_str(&content).unwrap();
        assert_eq!(content["formats"], json!(["json", "dot", "mermaid"]), "{query}");
    }
    assert_eq!(proxy.ask("POST", "/graph", "", "").await.0, 405);
    assert_eq!(proxy.get("/graph?colour=red").await["schema"], "sidelight/graph/1");
    let (_, _, page) = proxy.ask("GET", "/", "accept: text/html\r\n", "").await;
    assert!(page.contains("<a href=\"/graph\">"), "{page}");
}
