//! A small graph with hostile names in every format, as it is written down in `formats/`.
//!
//! To write it down anew, and then read the difference: `SIDELIGHT_GOLDEN=write cargo test --lib graph::tests::formats`.

use super::*;
use Way::{Inbound, Outbound};
use serde_json::Value;
use std::collections::HashSet;

const HOSTILE: &str = "a\"];b\\\n<script>&#`x`";

fn small() -> Graph {
    let rows = [
        (Inbound, None, "gold", 200, 40),
        (Outbound, Some("payments"), "gold", 200, 30),
        (Outbound, Some("payments"), "free", 503, 10),
        (Outbound, Some(HOSTILE), "", 200, 2),
        (Outbound, Some("clients"), "", 404, 1),
        (Outbound, None, "", 404, 3),
    ];
    let mut shop = report("shop", 1, &rows);
    (shop.service.version, shop.service.zone) = ("1.4".into(), "eu-west-1a".into());
    (shop.service.namespace, shop.service.environment) = ("live".into(), "production".into());
    let rows = [
        (Inbound, Some("spiffe://mesh/ns/live/sa/shop"), "gold", 200, 40),
        (Inbound, Some("INTERNET"), "", 200, 5),
    ];
    let mut payments = report("payments", 1, &rows);
    payments.service.namespace = "live".into();
    graph([shop, payments])
}

#[test]
fn each_format_is_as_it_was_written_down() {
    let (graph, none) = (small(), Aliases::new());
    let map = Map::of(&graph, &none);
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/pipeline/graph/tests/formats");
    for format in Format::ALL {
        let text = match format {
            // What it is made of is read again by another test.
            Format::Json => format!("{:#}\n", format::value(&map)),
            // Buckets are many, and another test reads them.
            Format::Prometheus => {
                let text = format.render(&map, &graph);
                let is_shown = |line: &&str| !line.contains("_bucket{") || line.contains("le=\"+Inf\"");
                text.lines().filter(is_shown).map(|line| format!("{line}\n")).collect()
            }
            other => other.render(&map, &graph),
        };
        let path = format!("{directory}/{}.txt", format.name());
        if std::env::var_os("SIDELIGHT_GOLDEN").is_some_and(|what| what == "write") {
            std::fs::create_dir_all(directory).unwrap();
            std::fs::write(&path, text).unwrap();
            continue;
        }
        let want = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, want, "{}", format.name());
    }
}

fn json(format: Format) -> Value {
    let (graph, none) = (small(), Aliases::new());
    serde_json::from_str(&format.render(&Map::of(&graph, &none), &graph)).unwrap()
}

/// <https://github.com/Netflix/vizceral/blob/master/DATAFORMATS.md>: what its component warns of or cannot draw.
#[test]
fn vizceral_finds_all_that_it_asks_for() {
    fn check(level: &Value) {
        let (mut names, nodes) = (HashSet::new(), level["nodes"].as_array().unwrap());
        for node in nodes {
            assert!(names.insert(node["name"].as_str().unwrap()), "twice: {node}");
            assert!(["region", "focusedChild"].contains(&node["renderer"].as_str().unwrap()));
        }
        for connection in level["connections"].as_array().unwrap() {
            for end in ["source", "target"] {
                assert!(names.contains(connection[end].as_str().unwrap()), "{connection}");
            }
            let metrics = connection["metrics"].as_object().unwrap();
            assert!(metrics.keys().all(|name| ["normal", "warning", "danger"].contains(&name.as_str())));
            assert!(metrics.values().any(|rate| rate.as_f64().unwrap() > 0.0), "{connection}");
            assert!(["normal", "warning", "danger"].contains(&connection["class"].as_str().unwrap()));
        }
    }
    let global = json(Format::Vizceral);
    assert_eq!(global["renderer"], "global");
    check(&global);
    let region = &global["nodes"][1];
    assert!(region["maxVolume"].as_f64().is_some_and(|volume| volume >= 0.0) && region["updated"].is_u64());
    check(region);
    let into: Vec<_> =
        region["connections"].as_array().unwrap().iter().filter(|it| it["source"] == "INTERNET").collect();
    assert_eq!(into.len(), 1, "the clients, and not the peer of that name: {into:?}");
    assert_eq!((&into[0]["target"], &into[0]["metrics"]["normal"]), (&"shop".into(), &4.0.into()));
    let failing = region["connections"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["target"] == "payments" && it["source"] == "shop");
    assert_eq!(
        failing.unwrap()["metrics"],
        serde_json::json!({ "normal": 3.0, "warning": 0.0, "danger": 1.0 })
    );
}

/// <https://github.com/adrianco/spigo/tree/master/json>.
#[test]
fn spigo_names_have_four_parts_and_edges_follow_their_nodes() {
    let graph = json(Format::Spigo);
    assert_eq!((&graph["arch"], &graph["version"]), (&"sidelight".into(), &"spigo-0.4".into()));
    let mut nodes = HashSet::new();
    for (at, item) in graph["graph"].as_array().unwrap().iter().enumerate() {
        assert!(item["timestamp"].is_string());
        if let Some(name) = item["node"].as_str() {
            assert_eq!(name.split('.').count(), 4, "{name}");
            assert!(nodes.insert(name) && item["package"].is_string() && item["metadata"].is_string());
            continue;
        }
        assert_eq!(item["edge"], format!("e{}", at - nodes.len() + 1));
        for end in ["source", "target"] {
            assert!(nodes.contains(item[end].as_str().unwrap()), "{item}");
        }
    }
}

#[test]
fn jaeger_and_zipkin_have_each_pair_once_with_the_exact_count() {
    let (jaeger, zipkin) = (json(Format::Jaeger), json(Format::Zipkin));
    let mut pairs = HashSet::new();
    for (one, two) in jaeger["data"].as_array().unwrap().iter().zip(zipkin.as_array().unwrap()) {
        assert!(pairs.insert((one["parent"].as_str().unwrap(), one["child"].as_str().unwrap())));
        assert_eq!(
            (&one["parent"], &one["child"], &one["callCount"]),
            (&two["parent"], &two["child"], &two["callCount"])
        );
        assert!(one.get("errorCount").is_none());
    }
    let payments =
        zipkin.as_array().unwrap().iter().find(|it| it["child"] == "payments" && it["parent"] == "shop");
    assert_eq!(
        payments.unwrap(),
        &serde_json::json!({ "parent": "shop", "child": "payments", "callCount": 40, "errorCount": 10 })
    );
    assert_eq!(jaeger["errors"], Value::Null);
    assert!(!pairs.iter().any(|(_, child)| child.contains("no route")), "that is no service");
}

#[test]
fn kiali_and_grafana_find_their_metrics() {
    let (graph, none) = (small(), Aliases::new());
    let text = Format::Prometheus.render(&Map::of(&graph, &none), &graph);
    let scrape = crate::pipeline::metrics::tests::parse(&text);
    // As each side counts: 46 sent, 45 and 40 received.
    assert_eq!(scrape.sum("istio_requests_total"), 46.0 + 45.0 + 40.0);
    assert_eq!(scrape.sum("istio_request_duration_milliseconds_count"), 131.0);
    assert_eq!(scrape.sum("traces_service_graph_request_total"), (46 - 3 + 40 + 5) as f64);
    assert_eq!(scrape.sum("traces_service_graph_request_failed_total"), 10.0);
    for line in text.lines().filter(|line| line.starts_with("istio_requests_total")) {
        for label in [
            "reporter",
            "source_workload",
            "destination_service_name",
            "request_protocol",
            "response_code",
            "response_flags",
        ] {
            assert!(line.contains(&format!("{label}=\"")), "{label}: {line}");
        }
    }
    let mutual = text
        .lines()
        .find(|line| line.contains("reporter=\"destination\"") && line.contains("source_workload=\"shop\""));
    assert!(mutual.unwrap().contains("connection_security_policy=\"mutual_tls\""));
    assert!(
        text.contains(
            "traces_service_graph_request_server_seconds_bucket{client=\"shop\",server=\"payments\""
        ),
        "{text}"
    );
}

#[test]
fn a_name_is_never_more_than_a_name() {
    let (graph, none) = (small(), Aliases::new());
    let map = Map::of(&graph, &none);
    let dot = Format::Dot.render(&map, &graph);
    // A line for each node and link, four around them, whatever they are called.
    assert_eq!(dot.lines().count(), 4 + map.nodes.len() + map.links.len(), "{dot}");
    assert!(dot.contains(r#"[label="a\"];b\\ <script>&#`x`"];"#), "{dot}");
    let mermaid = Format::Mermaid.render(&map, &graph);
    assert!(mermaid.contains("[\"a#quot;];b\\ #lt;script#gt;#amp;#35;#96;x#96;\"]"), "{mermaid}");
    let table = Format::Table.render(&map, &graph);
    assert_eq!(table.lines().count(), 1 + map.links.len() + map.findings.len(), "{table}");
}
