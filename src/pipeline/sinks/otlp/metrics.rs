//! The proxy's own metrics: what `/metrics` shows, at an interval, cumulative.
//!
//! What: every family of the registry under OpenTelemetry's name, or under `sidelight.…`; counters since the process
//! started. Names that Prometheus' rules turn back into those of `/metrics`. How it fails: a snapshot that is not taken is
//! warned of once a minute, and the next one has everything; nothing is kept for it.

use super::call::{Caller, PREFIX_BYTES, Signal, Verdict};
use super::resource::{self, SCOPE};
use crate::pipeline::Service;
use crate::pipeline::metrics::Registry;
use crate::pipeline::metrics::collect::{Family, Kind, Number, Point};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Most bytes of one message, but for one family: below what gRPC servers take (4 MiB).
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// How often a failure is told.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Names that OpenTelemetry has: family, name, unit.
const KNOWN: [(&str, &str, &str); 9] = [
    ("http_server_request_duration_seconds", "http.server.request.duration", "s"),
    ("http_client_request_duration_seconds", "http.client.request.duration", "s"),
    ("http_server_request_body_size_bytes", "http.server.request.body.size", "By"),
    ("http_server_response_body_size_bytes", "http.server.response.body.size", "By"),
    ("http_client_request_body_size_bytes", "http.client.request.body.size", "By"),
    ("http_client_response_body_size_bytes", "http.client.response.body.size", "By"),
    ("process_cpu_seconds", "process.cpu.time", "s"),
    ("process_resident_memory_bytes", "process.memory.usage", "By"),
    ("process_open_fds", "process.unix.file_descriptor.count", "{file_descriptor}"),
];

/// What is said by the resource, and by the start time of every point.
const LEFT_OUT: [&str; 2] = ["target", "process_start_time_seconds"];

/// First parts of names that are namespaces.
const NAMESPACES: [&str; 18] = [
    "admission",
    "balance",
    "circuit_breaker",
    "cluster",
    "concurrency",
    "config",
    "connections",
    "context",
    "endpoint",
    "exchanges",
    "health_checks",
    "metrics",
    "mirror",
    "outlier",
    "overload",
    "pipeline",
    "rate_limit",
    "tunnel",
];

/// Sends what the registry has.
pub(super) struct Snapshots {
    registry: Arc<Registry>,
    resource: Resource,
    interval: Duration,
    due_at: Instant,
    warned_at: Option<Instant>,
}

impl Snapshots {
    pub(super) fn new(registry: Arc<Registry>, service: &Service, interval: Duration) -> Snapshots {
        let attributes =
            resource::attributes(service).into_iter().map(|(name, value)| text(name, value)).collect();
        let resource = Resource { attributes, ..Resource::default() };
        Snapshots { registry, resource, interval, due_at: Instant::now() + interval, warned_at: None }
    }

    pub(super) fn make_due(&mut self) {
        self.due_at = Instant::now();
    }

    /// Sends a snapshot, if it is time.
    pub(super) fn send(&mut self, caller: &mut Caller, deadline: Instant) {
        let now = Instant::now();
        if now < self.due_at || now >= deadline {
            return;
        }
        self.due_at = now + self.interval;
        let at = nanos(SystemTime::now());
        let started_at = nanos(self.registry.started_at());
        let families = self.registry.collect();
        let (mut metrics, mut bytes) = (Vec::new(), 0);
        let last = families.len().saturating_sub(1);
        for (index, family) in families.into_iter().enumerate() {
            if let Some(metric) = metric(family, started_at, at) {
                bytes += metric.encoded_len();
                metrics.push(metric);
            }
            if (bytes >= MESSAGE_BYTES_MAX || index == last) && !metrics.is_empty() {
                bytes = 0;
                let why = match self.export(std::mem::take(&mut metrics), caller, deadline) {
                    Verdict::Taken { rejected: 0, .. } => continue,
                    Verdict::Taken { rejected, message } => format!("{rejected} points rejected: {message}"),
                    Verdict::Unknown(why) => why,
                    Verdict::Failed(failure) => failure.reason().to_owned(),
                };
                return self.warn(now, &why);
            }
        }
    }

    fn export(&self, metrics: Vec<Metric>, caller: &mut Caller, deadline: Instant) -> Verdict {
        let scope = InstrumentationScope {
            name: SCOPE.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            ..InstrumentationScope::default()
        };
        let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }];
        let resource = Some(self.resource.clone());
        let resource_metrics =
            vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
        let mut out = vec![0; PREFIX_BYTES];
        // Writing into memory does not fail.
        let _ = ExportMetricsServiceRequest { resource_metrics }.encode(&mut out);
        caller.export(Signal::Metrics, &mut out, deadline)
    }

    fn warn(&mut self, now: Instant, why: &str) {
        if self.warned_at.is_none_or(|at| now.duration_since(at) >= WARN_INTERVAL) {
            self.warned_at = Some(now);
            tracing::warn!(
                why,
                "the proxy's metrics were not taken by the OTLP receiver; the next snapshot has them too"
            );
        }
    }
}

fn nanos(at: SystemTime) -> u64 {
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

fn text(key: String, value: String) -> KeyValue {
    KeyValue { key, value: Some(AnyValue { value: Some(Value::StringValue(value)) }), ..KeyValue::default() }
}

/// Name and unit of a family.
fn named(family: &str) -> Option<(String, &'static str)> {
    if LEFT_OUT.contains(&family) {
        return None;
    }
    if let Some((_, name, unit)) = KNOWN.iter().find(|(known, ..)| *known == family) {
        return Some(((*name).to_owned(), unit));
    }
    let (stem, unit) = match (family.strip_suffix("_seconds"), family.strip_suffix("_bytes")) {
        (Some(stem), _) => (stem, "s"),
        (_, Some(stem)) => (stem, "By"),
        _ => (family, ""),
    };
    let rest = stem.strip_prefix("sidelight_").unwrap_or(stem);
    let space =
        NAMESPACES.iter().find_map(|space| Some((space, rest.strip_prefix(space)?.strip_prefix('_')?)));
    let name = match space {
        Some((space, rest)) => format!("sidelight.{space}.{rest}"),
        None => format!("sidelight.{rest}"),
    };
    Some((name, unit))
}

/// A label as an attribute: OpenTelemetry's and sidelight's names have dots.
fn attribute(name: &str, value: &str) -> KeyValue {
    let key = match name {
        "http_request_method" => "http.request.method",
        "http_response_status_code" => "http.response.status_code",
        "http_route" => "http.route",
        "network_protocol_version" => "network.protocol.version",
        "url_scheme" => "url.scheme",
        "error_type" => "error.type",
        "sidelight_cluster" => "sidelight.cluster",
        "sidelight_route" => "sidelight.route",
        other => other,
    };
    match (key, value.parse()) {
        ("http.response.status_code", Ok(status)) => KeyValue {
            key: key.into(),
            value: Some(AnyValue { value: Some(Value::IntValue(status)) }),
            ..KeyValue::default()
        },
        _ => text(key.into(), value.into()),
    }
}

fn metric(family: Family, start: u64, at: u64) -> Option<Metric> {
    let (name, unit) = named(&family.name)?;
    if family.points.is_empty() {
        return None;
    }
    let aggregation_temporality = AggregationTemporality::Cumulative as i32;
    let data = match family.kind {
        Kind::Histogram => {
            let data_points = family.points.iter().filter_map(|point| histogram(point, start, at)).collect();
            Data::Histogram(Histogram { data_points, aggregation_temporality })
        }
        Kind::Counter => {
            let data_points = family.points.iter().filter_map(|point| number(point, start, at)).collect();
            Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true })
        }
        // A gauge has no beginning.
        Kind::Gauge | Kind::Info => Data::Gauge(Gauge {
            data_points: family.points.iter().filter_map(|point| number(point, 0, at)).collect(),
        }),
    };
    Some(Metric { name, description: family.help, unit: unit.into(), data: Some(data), ..Metric::default() })
}

fn attributes(point: &Point) -> Vec<KeyValue> {
    point.labels.iter().map(|(name, value)| attribute(name, value)).collect()
}

fn number(point: &Point, start: u64, at: u64) -> Option<NumberDataPoint> {
    let value = match point.number {
        Number::Int(number) => number_data_point::Value::AsInt(i64::try_from(number).unwrap_or(i64::MAX)),
        Number::Double(number) => number_data_point::Value::AsDouble(number),
        Number::Histogram { .. } => return None,
    };
    Some(NumberDataPoint {
        attributes: attributes(point),
        start_time_unix_nano: start,
        time_unix_nano: at,
        value: Some(value),
        ..NumberDataPoint::default()
    })
}

fn histogram(point: &Point, start: u64, at: u64) -> Option<HistogramDataPoint> {
    let Number::Histogram { bounds, counts, sum } = &point.number else { return None };
    Some(HistogramDataPoint {
        attributes: attributes(point),
        start_time_unix_nano: start,
        time_unix_nano: at,
        count: counts.iter().sum(),
        sum: Some(*sum),
        bucket_counts: counts.clone(),
        explicit_bounds: bounds.clone(),
        ..HistogramDataPoint::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_opentelemetrys_or_begin_with_ours() {
        for (family, want) in [
            ("http_server_request_duration_seconds", Some(("http.server.request.duration", "s"))),
            ("http_client_response_body_size_bytes", Some(("http.client.response.body.size", "By"))),
            ("sidelight_pipeline_dropped", Some(("sidelight.pipeline.dropped", ""))),
            ("sidelight_circuit_breaker_open", Some(("sidelight.circuit_breaker.open", ""))),
            ("sidelight_concurrency_min_rtt_seconds", Some(("sidelight.concurrency.min_rtt", "s"))),
            ("sidelight_overload_memory_used_bytes", Some(("sidelight.overload.memory_used", "By"))),
            ("sidelight_retries", Some(("sidelight.retries", ""))),
            ("sidelight_exchanges", Some(("sidelight.exchanges", ""))),
            ("process_cpu_seconds", Some(("process.cpu.time", "s"))),
            ("process_max_fds", Some(("sidelight.process_max_fds", ""))),
            ("target", None),
        ] {
            assert_eq!(named(family), want.map(|(name, unit)| (name.to_owned(), unit)), "{family}");
        }
    }
}
