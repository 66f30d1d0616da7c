//! A scrape: every number of the [`Registry`] under its name.
//!
//! Names: OpenTelemetry's with underscores and the unit at the end, as its Prometheus exporters write them; sidelight's
//! begin with `sidelight_`; the process's are Prometheus' own. How it fails: what cannot be read is left out.

use super::block::{Key, METHODS};
use super::exemplars::{Row, Table};
use super::histogram::Totals;
use super::process::Usage;
use super::registry::{Cells, ConfigState, Registry, lock};
use super::text::{Format, Kind, Label, Page};
use super::{SERIES_MAX, connections::Detected};
use crate::cluster::{Cluster, Endpoint};
use crate::exchange::Direction;
use crate::pipeline::Account;
use crate::pipeline::spool::Reason;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

const NANOS: f64 = 1e9;

const DIRECTIONS: [Direction; 2] = [Direction::Inbound, Direction::Outbound];

impl Registry {
    /// Everything, as text.
    pub fn render(&self, format: Format) -> String {
        let mut page = Page::new(format);
        self.walk(&mut page);
        page.finish()
    }

    /// Everything, onto a page.
    pub(super) fn walk(&self, page: &mut Page) {
        self.render_exchanges(page);
        self.render_causes(page);
        self.render_context(page);
        self.render_connections(page);
        self.render_clusters(page);
        self.render_resilience(page);
        self.render_admission(page);
        self.render_graph(page);
        self.render_pipeline(page);
        self.render_app_output(page);
        self.render_recording(page);
        self.render_config(page);
        self.render_process(page);
    }

    fn render_exchanges(&self, page: &mut Page) {
        let series = Snapshot::of(self);
        for (direction, side) in [(Direction::Inbound, "server"), (Direction::Outbound, "client")] {
            let name = format!("http_{side}_request_duration_seconds");
            page.family(&name, Kind::Histogram, "Duration of exchanges, to the last byte of the answer.");
            for (key, durations) in series.durations.iter().filter(|(key, _)| key.direction == direction) {
                render_duration(page, key, durations, series.exemplars.get(key));
            }
            let sizes = [("request", &series.request_bodies), ("response", &series.response_bodies)];
            for (what, sums) in sizes {
                let name = format!("http_{side}_{what}_body_size_bytes");
                page.family(&name, Kind::Histogram, "Size of content.");
                for ((_, cluster), totals) in sums.iter().filter(|((of, _), _)| *of == direction as u8) {
                    page.histogram(&[("sidelight_cluster", cluster)], totals, 1.0);
                }
            }
        }
        page.family("sidelight_retries", Kind::Counter, "Attempts beyond the first of an exchange.");
        for (cluster, retries) in &series.retries {
            page.number(&[("sidelight_cluster", cluster)], *retries);
        }
        page.family("sidelight_exchanges_active", Kind::Gauge, "Exchanges that are under way.");
        page.number(&[], self.active());
        page.family(
            "sidelight_metrics_overflow",
            Kind::Counter,
            "Exchanges counted into _other because there are too many series.",
        );
        page.number(&[], self.overflow.load(Ordering::Relaxed));
    }

    fn render_causes(&self, page: &mut Page) {
        page.family(
            "sidelight_exchanges",
            Kind::Counter,
            "Exchanges that ended, by cause; none: nothing went wrong.",
        );
        for direction in DIRECTIONS {
            let labels = |cause| [("direction", direction.as_str()), ("cause", cause)];
            page.number(&labels("none"), self.exchanges(direction, None));
            for kind in crate::error::Kind::ALL {
                page.number(&labels(kind.cause()), self.exchanges(direction, Some(kind)));
            }
        }
    }

    fn render_connections(&self, page: &mut Page) {
        let all = lock(&self.connections).clone();
        let counters = [
            ("sidelight_connections_accepted", "Connections that were accepted."),
            ("sidelight_connections_refused", "Connections that were closed at once."),
            ("sidelight_detect_timeouts", "Connections whose protocol was not known in time."),
            ("sidelight_tls_handshake_failures", "TLS handshakes with clients that failed."),
        ];
        for (index, (name, help)) in counters.into_iter().enumerate() {
            page.family(name, Kind::Counter, help);
            for stats in &all {
                let counters =
                    [&stats.accepted, &stats.refused, &stats.detect_timeouts, &stats.handshake_failures];
                let value = counters.get(index).map_or(0, |counter| counter.load(Ordering::Relaxed));
                page.number(&[("listener", &stats.listener)], value);
            }
        }
        page.family(
            "sidelight_connections_detected",
            Kind::Counter,
            "Connections by the protocol they speak.",
        );
        for stats in &all {
            for (protocol, count) in Detected::ALL.iter().zip(&stats.detected) {
                let labels = [("listener", &*stats.listener), ("protocol", protocol.as_str())];
                page.number(&labels, count.load(Ordering::Relaxed));
            }
        }
        page.family("sidelight_connections_active", Kind::Gauge, "Connections that are open.");
        for stats in &all {
            let protocols =
                std::iter::once("unknown").chain(Detected::ALL.iter().map(|known| known.as_str()));
            for (protocol, count) in protocols.zip(&stats.active) {
                let labels = [("listener", &*stats.listener), ("protocol", protocol)];
                page.number(&labels, count.load(Ordering::Relaxed));
            }
        }
        page.family(
            "sidelight_tunnel_received_bytes",
            Kind::Counter,
            "Bytes that tunnels received from clients.",
        );
        page.number(&[], self.sum(|block| &block.received_bytes));
        page.family("sidelight_tunnel_sent_bytes", Kind::Counter, "Bytes that tunnels sent to clients.");
        page.number(&[], self.sum(|block| &block.sent_bytes));
    }

    fn render_clusters(&self, page: &mut Page) {
        let clusters = self.clusters.load();
        page.family("sidelight_cluster_endpoints", Kind::Gauge, "Endpoints of the cluster.");
        for cluster in clusters.iter() {
            page.number(&[("sidelight_cluster", &cluster.name)], cluster.endpoints().endpoints.len() as u64);
        }
        page.family("sidelight_cluster_stale", Kind::Gauge, "1 while the source of the endpoints fails.");
        for cluster in clusters.iter() {
            page.number(
                &[("sidelight_cluster", &cluster.name)],
                u64::from(cluster.endpoints().stale.is_some()),
            );
        }
        let rows = endpoints(&clusters);
        for (index, (name, kind, help)) in ENDPOINT_FAMILIES.into_iter().enumerate() {
            page.family(name, kind, help);
            for row in &rows {
                let labels = [("sidelight_cluster", &*row.cluster), ("endpoint", &*row.endpoint)];
                page.number(&labels, row.values.get(index).copied().unwrap_or_default());
            }
        }
    }

    fn render_pipeline(&self, page: &mut Page) {
        let accounts = self.accounts().read();
        let mut family = |name: &str, kind, help: &str, value: fn(&Account) -> u64| {
            page.family(name, kind, help);
            for account in &accounts {
                page.number(&[("sink", &account.sink)], value(account));
            }
        };
        family("sidelight_pipeline_produced", Kind::Counter, "Events that came into being.", |a| a.produced);
        let help = "Events that the sink has settled.";
        family("sidelight_pipeline_delivered", Kind::Counter, help, |account| account.delivered);
        let help = "Of the delivered ones: events that the sink has no form for.";
        family("sidelight_pipeline_passed_over", Kind::Counter, help, |account| account.passed_over);
        let help = "Events on their way to the sink.";
        family("sidelight_pipeline_queued", Kind::Gauge, help, |account| account.queued);
        let help = "1 while the sink takes events.";
        family("sidelight_sink_up", Kind::Gauge, help, |account| u64::from(account.is_up));
        let help = "Attempts that failed and were made again.";
        family("sidelight_sink_retries", Kind::Counter, help, |account| account.retries);
        let help = "Events that the sink refused for good; they are in the file of dead letters.";
        family("sidelight_sink_dead_letters", Kind::Counter, help, |account| {
            account.dropped.get(Reason::Rejected as usize).copied().unwrap_or_default()
        });
        page.family("sidelight_pipeline_dropped", Kind::Counter, "Events that the sink did not get.");
        for account in &accounts {
            for (reason, count) in Reason::ALL.iter().zip(account.dropped) {
                page.number(&[("sink", &account.sink), ("reason", reason.name())], count);
            }
        }
        let Some(spool) = self.accounts().spool() else { return };
        let gauges = [
            ("sidelight_spool_disk_bytes", spool.disk_bytes, "Bytes of the spool on disk."),
            ("sidelight_spool_memory_bytes", spool.memory_bytes, "Bytes of the spool in memory."),
            ("sidelight_spool_segments", spool.segments as u64, "Segments that some sink has not had."),
            (
                "sidelight_spool_in_memory",
                u64::from(self.accounts().is_disk_refusing()),
                "1 while events wait in memory because the disk refuses them.",
            ),
        ];
        for (name, value, help) in gauges {
            page.family(name, Kind::Gauge, help);
            page.number(&[], value);
        }
        let counters = [
            ("sidelight_spool_write_errors", spool.write_errors, "Times that the disk refused bytes."),
            (
                "sidelight_spool_damaged_ranges",
                spool.damaged_ranges,
                "Ranges of damaged bytes that were met.",
            ),
            ("sidelight_spool_damaged_bytes", spool.damaged_bytes, "Damaged bytes that were met."),
        ];
        for (name, value, help) in counters {
            page.family(name, Kind::Counter, help);
            page.number(&[], value);
        }
    }

    fn render_config(&self, page: &mut Page) {
        let ConfigState { revision, loaded_at, applied, refused, is_last_refused } =
            lock(&self.config).clone();
        page.family("sidelight_config", Kind::Info, "The configuration in force.");
        page.number(&[("revision", &revision)], 1);
        page.family("sidelight_config_reloads", Kind::Counter, "Configurations that were given.");
        page.number(&[("result", "applied")], applied);
        page.number(&[("result", "refused")], refused);
        page.family(
            "sidelight_config_last_reload_successful",
            Kind::Gauge,
            "1 unless the last one was refused.",
        );
        page.number(&[], u64::from(!is_last_refused));
        if let Some(at) = loaded_at {
            page.family("sidelight_config_loaded_timestamp_seconds", Kind::Gauge, "When it came into force.");
            page.fraction(&[], unix_seconds(at));
        }
    }

    fn render_process(&self, page: &mut Page) {
        let service = &self.service;
        page.family("sidelight_build", Kind::Info, "The program.");
        page.number(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        page.family("target", Kind::Info, "The service, as OpenTelemetry's resource.");
        let labels: [Label<'_>; 6] = [
            ("service_name", &service.name),
            ("service_version", &service.version),
            ("service_namespace", &service.namespace),
            ("service_instance_id", &service.instance),
            ("deployment_environment_name", &service.environment),
            ("cloud_availability_zone", &service.zone),
        ];
        page.number(&labels, 1);
        let usage = Usage::read_all();
        if let Some(cpu) = usage.cpu {
            page.family("process_cpu_seconds", Kind::Counter, "CPU time, user and system.");
            page.fraction(&[], cpu.as_secs_f64());
        }
        let gauges = [
            ("process_resident_memory_bytes", usage.resident_bytes, "Resident memory."),
            ("process_open_fds", usage.open_fds, "Open file descriptors."),
            ("process_max_fds", usage.max_fds, "File descriptors that may be open."),
        ];
        for (name, value, help) in gauges {
            if let Some(value) = value {
                page.family(name, Kind::Gauge, help);
                page.number(&[], value);
            }
        }
        page.family("process_start_time_seconds", Kind::Gauge, "When the proxy started.");
        page.fraction(&[], unix_seconds(self.started_at));
    }
}

fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn render_duration(page: &mut Page, key: &Key, durations: &Totals, exemplars: Option<&Row>) {
    let status = if key.status == 0 { String::new() } else { key.status.to_string() };
    let error_type = match key.cause {
        Some(kind) => kind.cause(),
        None if key.status >= 500 || (key.status >= 400 && key.direction == Direction::Outbound) => {
            status.as_str()
        }
        None => "",
    };
    let method = METHODS.get(usize::from(key.method)).copied().unwrap_or("_OTHER");
    let labels: [Label<'_>; 8] = [
        ("http_request_method", method),
        ("http_response_status_code", &status),
        ("http_route", key.pattern.as_deref().unwrap_or_default()),
        ("network_protocol_version", key.version.as_str()),
        ("url_scheme", if key.is_tls { "https" } else { "http" }),
        ("error_type", error_type),
        ("sidelight_cluster", key.cluster.as_deref().unwrap_or_default()),
        ("sidelight_route", key.route.as_deref().unwrap_or_default()),
    ];
    page.histogram_with(&labels, durations, NANOS, exemplars.map_or(&[], |row| row));
}

/// The cells, summed over the workers; sizes and retries over everything but direction and cluster, because a
/// histogram for each status of each route would be most of the scrape.
#[derive(Default)]
struct Snapshot {
    durations: Vec<(Key, Totals)>,
    request_bodies: BTreeMap<(u8, String), Totals>,
    response_bodies: BTreeMap<(u8, String), Totals>,
    retries: BTreeMap<String, u64>,
    exemplars: Table,
}

impl Snapshot {
    fn of(registry: &Registry) -> Snapshot {
        // Cells are copied out first, so that no shard is locked while texts are made: a worker may wait for one.
        let series: Vec<(Key, Cells)> =
            registry.series.iter().map(|entry| (entry.key().clone(), entry.value().clone())).collect();
        let mut snapshot = Snapshot { exemplars: lock(&registry.exemplars).clone(), ..Snapshot::default() };
        for (key, cells) in series {
            let cluster = key.cluster.as_deref().unwrap_or_default().to_owned();
            let place = (key.direction as u8, cluster.clone());
            let (mut durations, mut requests, mut responses) = <(Totals, Totals, Totals)>::default();
            let mut retries = 0;
            for (_, cell) in &cells {
                cell.duration.collect(&mut durations);
                cell.request_body.collect(&mut requests);
                cell.response_body.collect(&mut responses);
                retries += cell.retries.load(Ordering::Relaxed);
            }
            snapshot.request_bodies.entry(place.clone()).or_default().merge(&requests);
            snapshot.response_bodies.entry(place).or_default().merge(&responses);
            *snapshot.retries.entry(cluster).or_default() += retries;
            snapshot.durations.push((key, durations));
        }
        snapshot
    }
}

const ENDPOINT_FAMILIES: [(&str, Kind, &str); 6] = [
    ("sidelight_endpoint_in_flight", Kind::Gauge, "Exchanges under way."),
    ("sidelight_endpoint_requests", Kind::Counter, "Attempts."),
    ("sidelight_endpoint_failures", Kind::Counter, "Attempts without an answer, or with a 5xx."),
    ("sidelight_endpoint_connects", Kind::Counter, "Connections that were made."),
    ("sidelight_endpoint_connect_failures", Kind::Counter, "Connections that could not be made."),
    ("sidelight_endpoint_connections", Kind::Gauge, "Connections that are open."),
];

struct EndpointRow {
    cluster: String,
    endpoint: String,
    values: [u64; ENDPOINT_FAMILIES.len()],
}

/// The endpoints of all clusters; those beyond the cap in one row.
fn endpoints(clusters: &[std::sync::Arc<Cluster>]) -> Vec<EndpointRow> {
    let mut rows: Vec<EndpointRow> = Vec::new();
    let mut other =
        EndpointRow { cluster: "_other".into(), endpoint: "_other".into(), values: Default::default() };
    let mut is_over = false;
    for cluster in clusters {
        for endpoint in &cluster.endpoints().endpoints {
            let values = endpoint_values(endpoint);
            if rows.len() < SERIES_MAX {
                let (cluster, endpoint) = ((*cluster.name).into(), endpoint.address.to_string());
                rows.push(EndpointRow { cluster, endpoint, values });
                continue;
            }
            for (sum, value) in other.values.iter_mut().zip(values) {
                *sum += value;
            }
            is_over = true;
        }
    }
    if is_over {
        rows.push(other);
    }
    rows
}

fn endpoint_values(endpoint: &Endpoint) -> [u64; ENDPOINT_FAMILIES.len()] {
    let stats = &endpoint.stats;
    [
        u64::from(endpoint.load.in_flight.load(Ordering::Relaxed)),
        stats.requests.load(Ordering::Relaxed),
        stats.failures.load(Ordering::Relaxed),
        stats.connects.load(Ordering::Relaxed),
        stats.connect_failures.load(Ordering::Relaxed),
        stats.connections.load(Ordering::Relaxed),
    ]
}
