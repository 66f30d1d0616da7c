//! The graph: what is counted, what is merged, and what is written.

mod counting;
mod declaring;
mod formats;
mod merging;
mod reading;

use super::document::{About, Part, Protocol, Report, SCHEMA, Way};
use super::*;
use crate::error::Kind;
use crate::exchange::{Direction, Record};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECOND_US: u64 = 1_000_000;
/// 2025-01-01T00:00:00Z.
const START_US: u64 = 1_735_689_600 * SECOND_US;

/// An exchange that ended, `ended` after the start.
fn record(direction: Direction, end: Option<&str>, status: u16, ended: Duration) -> Record {
    let mut record = Record::new();
    let end = end.map(Arc::from);
    match direction {
        Direction::Inbound => record.identity = end,
        Direction::Outbound => record.cluster = end,
    }
    record.direction = direction;
    record.status = status;
    record.attempts = 1;
    record.duration = Duration::from_millis(10);
    record.started_at = UNIX_EPOCH + Duration::from_micros(START_US) + ended - record.duration;
    record
}

fn licensed(mut record: Record, license: &str) -> Record {
    record.license = record.store(license.as_bytes());
    record
}

fn at(after: Duration) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(START_US) + after
}

/// A report with one part for each row: which way, the other side, license, status, calls.
fn report(service: &str, epoch: u64, rows: &[(Way, Option<&str>, &str, u16, u64)]) -> Report {
    let mut events = events::Events::default();
    let mut sequence = 0;
    for (way, end, license, status, calls) in rows {
        for _ in 0..*calls {
            sequence += 1;
            let mut event = serde_json::json!({
                "schema": "sidelight/exchange/1",
                "id": { "instance": "i", "epoch": epoch, "sequence": sequence },
                "timestamp": "2025-01-01T00:00:00.000000Z",
                "license": license,
                "request_type": "STANDARD",
                "service.name": service,
                "network.protocol.version": "1.1",
                "http.response.status_code": status,
                "sidelight.attempts": 1,
                "sidelight.duration_ms": 10.0,
                "http.request.body.size": 5,
                "http.response.body.size": 7,
            });
            let (direction, name) = match way {
                Way::Inbound => ("inbound", "sidelight.client.identity"),
                Way::Outbound => ("outbound", "sidelight.cluster"),
            };
            event["sidelight.direction"] = direction.into();
            if let Some(end) = end {
                event[name] = (*end).into();
            }
            events.line(event.to_string().as_bytes());
        }
    }
    let mut report = events.reports().next().unwrap_or_default();
    report.service = About { name: service.into(), instance: "i".into(), ..About::default() };
    report.schema = SCHEMA.into();
    report.epoch = epoch;
    report.since = Moment(START_US);
    report.at = Moment(START_US + 10 * SECOND_US);
    report
}

fn graph(reports: impl IntoIterator<Item = Report>) -> Graph {
    let mut graph = Graph::default();
    reports.into_iter().for_each(|report| graph.add(report));
    graph
}

/// Who calls whom how often.
fn calls(map: &Map<'_>) -> Vec<(String, String, u64)> {
    map.links
        .iter()
        .map(|link| (map.name(link.from).into(), map.name(link.to).into(), link.total.calls))
        .collect()
}

fn call(from: &str, to: &str, calls: u64) -> (String, String, u64) {
    (from.into(), to.into(), calls)
}
