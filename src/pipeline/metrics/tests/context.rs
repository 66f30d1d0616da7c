//! Whether contexts are carried, in a scrape and as edges.

use super::*;
use crate::context::formats::Format as TraceFormat;
use crate::exchange::ParentSource;
use crate::pipeline::metrics::context::{SOURCES, position};

fn call(cluster: &Arc<str>, source: ParentSource) -> Record {
    let mut record = record(Direction::Outbound, cluster, 200, 1);
    record.parent_source = source;
    record
}

#[test]
fn every_source_has_a_place_and_a_name_of_its_own() {
    let names: HashSet<&str> = SOURCES.iter().map(|source| source.as_str()).collect();
    assert_eq!(names.len(), SOURCES.len());
    for (index, source) in SOURCES.into_iter().enumerate() {
        assert_eq!(position(source), index, "{source:?}");
    }
    for format in TraceFormat::ALL {
        assert!(SOURCES.contains(&ParentSource::Format(format)), "{format:?}");
    }
}

#[test]
fn outbound_calls_are_counted_by_how_their_parent_was_found() {
    let registry = registry(2);
    let (payments, search): (Arc<str>, Arc<str>) = ("payments".into(), "search".into());
    for worker in 0..2 {
        let mut writer = registry.writer(worker);
        for (source, times) in [
            (ParentSource::Header, 5),
            (ParentSource::Format(TraceFormat::B3), 1),
            (ParentSource::RequestId, 2),
            (ParentSource::Sole, 3),
            (ParentSource::Lost, 4),
            (ParentSource::Root, 6),
        ] {
            for _ in 0..times {
                writer.count(&call(&payments, source));
            }
        }
        writer.count(&call(&search, ParentSource::Echo));
        // Only calls of the application have a parent to lose.
        writer.count(&record(Direction::Inbound, &payments, 200, 1));
        let mut opaque = call(&search, ParentSource::Root);
        opaque.is_opaque = true;
        writer.count(&opaque);
    }
    let scrape = parse(&registry.render(Format::Prometheus));
    let get = |cluster, source| {
        scrape.get(
            "sidelight_outbound_calls_total",
            &[("sidelight_cluster", cluster), ("parent_source", source)],
        )
    };
    for (source, count) in
        [("header", 10.0), ("b3", 2.0), ("request_id", 4.0), ("sole", 6.0), ("lost", 8.0), ("root", 12.0)]
    {
        assert_eq!(get("payments", source), count, "{source}");
    }
    assert_eq!((get("search", "echo"), get("search", "lost")), (2.0, 0.0));
    assert_eq!(scrape.sum("sidelight_outbound_calls_total"), 44.0);
}

#[test]
fn calls_beyond_the_cap_are_still_counted() {
    let registry = registry(1);
    let mut writer = registry.writer(0);
    for number in 0..SERIES_MAX + 50 {
        writer.count(&call(&format!("c{number}").into(), ParentSource::Lost));
    }
    let scrape = parse(&registry.render(Format::Prometheus));
    assert_eq!(scrape.sum("sidelight_outbound_calls_total"), (SERIES_MAX + 50) as f64);
    let other = [("sidelight_cluster", "_other"), ("parent_source", "lost")];
    assert_eq!(scrape.get("sidelight_outbound_calls_total", &other), 50.0);
}

#[test]
fn fields_that_were_not_believed_are_counted_by_direction() {
    let registry = registry(1);
    let mut writer = registry.writer(0);
    let mut inbound = record(Direction::Inbound, &"app".into(), 200, 1);
    (inbound.context_dropped, inbound.context_disagreed) = (3, 1);
    writer.count(&inbound);
    writer.count(&inbound);
    let mut outbound = record(Direction::Outbound, &"payments".into(), 200, 1);
    outbound.context_disagreed = 2;
    writer.count(&outbound);
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let scrape = parse(&registry.render(format));
        for (name, direction, count) in [
            ("sidelight_context_dropped_total", "inbound", 6.0),
            ("sidelight_context_dropped_total", "outbound", 0.0),
            ("sidelight_context_disagreed_total", "inbound", 2.0),
            ("sidelight_context_disagreed_total", "outbound", 2.0),
        ] {
            assert_eq!(scrape.get(name, &[("direction", direction)]), count, "{name} {direction}");
        }
    }
}

#[test]
fn edges_sum_what_the_series_of_a_cluster_say() {
    let registry = registry(2);
    let payments: Arc<str> = "payments".into();
    for worker in 0..2 {
        let mut writer = registry.writer(worker);
        // No answer is a failure, and so is a 5xx; what the client did wrong is not.
        for status in [200, 404, 499, 500, 503, 0] {
            let mut record = record(Direction::Outbound, &payments, status, 10);
            record.route = Some(format!("r{status}").into());
            record.parent_source = if status == 200 { ParentSource::Lost } else { ParentSource::Sole };
            writer.count(&record);
        }
        let mut unrouted = call(&payments, ParentSource::Root);
        (unrouted.cluster, unrouted.status) = (None, 404);
        writer.count(&unrouted);
        writer.count(&record(Direction::Inbound, &"app".into(), 200, 20));
        writer.count(&record(Direction::Inbound, &"other".into(), 502, 40));
    }
    let edges = registry.edges();
    let seen: Vec<_> = edges
        .iter()
        .map(|edge| {
            (edge.direction, edge.cluster.as_deref(), edge.calls, edge.failures, edge.lost(), edge.served())
        })
        .collect();
    assert_eq!(
        seen,
        [
            (Direction::Inbound, None, 4, 2, 0, 0),
            (Direction::Outbound, None, 2, 0, 0, 0),
            (Direction::Outbound, Some("payments"), 12, 6, 2, 12),
        ]
    );
    assert_eq!(edges[0].mean(), Some(Duration::from_millis(30)));
    assert_eq!(edges[2].mean(), Some(Duration::from_millis(10)));
}

#[test]
fn quantiles_lie_in_the_bucket_that_holds_them() {
    let rows: [(&[u64], f64, Option<u64>); 8] = [
        (&[], 0.5, None),
        // Both between 0 and 5 ms: half of the way.
        (&[1, 2], 0.5, Some(2_500)),
        (&[1, 2], 1.0, Some(5_000)),
        (&[60], 0.5, Some(62_500)),
        (&[1, 1, 1, 60], 0.75, Some(5_000)),
        (&[1, 1, 1, 60], 0.99, Some(74_000)),
        // Beyond the last bound nothing is known but that.
        (&[20_000], 0.5, Some(10_000_000)),
        (&[1, 20_000], 0.99, Some(10_000_000)),
    ];
    for (millis, share, wanted_micros) in rows {
        let registry = registry(1);
        let mut writer = registry.writer(0);
        for millis in millis {
            writer.count(&record(Direction::Inbound, &"app".into(), 200, *millis));
        }
        let found = registry.edges()[0].quantile(share).map(|time| time.as_micros() as u64);
        assert_eq!(found, wanted_micros, "{millis:?} {share}");
    }
}
