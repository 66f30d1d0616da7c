//! The dependency graph alone: a record counted, and a large mesh merged and written. Bars: 300 ns for a record; 2,000
//! services with 20,000 edges merged and written in any format but Prometheus' within 100 ms and 64 MiB (the figures are
//! printed; the asserted bound is ten times that, for machines that are busy). Prometheus' text is some 10 KB for an edge.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use sidelight::exchange::{Direction, Record};
use sidelight::pipeline::graph::{Aliases, Config, Format, Graph, Live, Map, merge};
use std::{hint::black_box, time::Instant};

const SERVICES: usize = 2_000;
const EDGES: usize = 20_000;

fn record(cluster: usize, license: usize) -> Record {
    let mut record = Record::new();
    record.direction = Direction::Outbound;
    record.cluster = Some(format!("cluster-{cluster}").into());
    record.route = Some("checkout".into());
    record.license = record.store(["gold", "silver", "free"][license % 3].as_bytes());
    (record.status, record.attempts) = (200, 1);
    record.started_at = std::time::SystemTime::now();
    record.duration = std::time::Duration::from_micros(900 + 37 * cluster as u64);
    record
}

fn count(criterion: &mut Criterion) {
    let records: Vec<Record> = (0..300).map(|number| record(number / 3, number)).collect();
    let live = Live::new(&Config::default(), 1);
    let mut group = criterion.benchmark_group("graph");
    group.throughput(Throughput::Elements(records.len() as u64));
    group.bench_function("count", |bencher| {
        bencher.iter(|| live.count_all(black_box(&records)));
    });
    group.finish();
}

/// A document of each service, as its sidecar would give it: ten edges with some thirty buckets each.
fn mesh() -> Graph {
    let mut graph = Graph::default();
    for service in 0..SERVICES {
        let edge = |number: usize| {
            let buckets: Vec<_> = (100..130).map(|bucket| json!([bucket, 7 + number])).collect();
            let calls = 30 * (7 + number);
            json!({
                "direction": "outbound", "from": format!("service-{service}"),
                "to": format!("service-{}", (service * 7 + number * 131) % SERVICES), "calls": calls, "failures": 1,
                "parts": [{
                    "protocol": "http1", "route": "checkout", "license": "gold", "request_type": "STANDARD",
                    "calls": calls, "failures": 1, "attempts": calls,
                    "latency_ms": { "sum_us": 900 * calls, "min_us": 400, "max_us": 2000, "buckets": buckets },
                    "outcomes": [{ "status": 200, "calls": calls - 1 }, { "status": 503, "cause": "overflow", "calls": 1 }],
                    "first_seen": "2025-01-01T00:00:00Z", "last_seen": "2025-01-01T01:00:00Z",
                }],
            })
        };
        let document = json!({
            "schema": "sidelight/graph/1", "service": { "name": format!("service-{service}"), "instance": "a" },
            "epoch": 1, "since": "2025-01-01T00:00:00Z", "at": "2025-01-01T01:00:00Z",
            "edges": (0..EDGES / SERVICES).map(edge).collect::<Vec<_>>(),
        });
        let read = merge::read(document.to_string().as_bytes()).expect("a document");
        read.into_iter().for_each(|report| graph.add(report));
    }
    graph
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or_default()
}

fn render(criterion: &mut Criterion) {
    let before = resident_kib();
    let (graph, aliases) = (mesh(), Aliases::new());
    let mut group = criterion.benchmark_group("graph, 20,000 edges");
    group.sample_size(10);
    for format in Format::ALL {
        let began = Instant::now();
        let bytes = format.render(&Map::of(&graph, &aliases), &graph).len();
        let took = began.elapsed();
        eprintln!(
            "{}: {took:?}, {bytes} bytes, {} MiB resident more",
            format.name(),
            (resident_kib() - before) >> 10
        );
        // Twenty buckets with twenty labels for each edge: what is long is what is written.
        let is_bounded = format != Format::Prometheus;
        assert!(!is_bounded || took.as_millis() < 1_000, "{}: {took:?}", format.name());
        group.bench_function(format.name(), |bencher| {
            bencher.iter(|| format.render(&Map::of(&graph, &aliases), black_box(&graph)).len());
        });
    }
    group.finish();
}

criterion_group!(benches, count, render);
criterion_main!(benches);
