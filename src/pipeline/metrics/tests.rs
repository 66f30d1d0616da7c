//! A scrape, read by a parser of its own and held to the formats' rules.

mod context;

use super::*;
use crate::cluster::{Cluster, Target};
use crate::error::Kind;
use crate::exchange::{Direction, Record};
use crate::pipeline::{Accounts, Service};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// A scrape that keeps the rules.
pub(crate) struct Scrape {
    kinds: HashMap<String, String>,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Scrape {
    /// The sum of all samples of that name.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.samples.iter().filter(|(of, ..)| of == name).map(|(.., value)| value).sum()
    }

    /// The one sample of that name that has these labels, among others.
    fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut found = self.samples.iter().filter(|(of, has, _)| {
            of == name && labels.iter().all(|(name, value)| has.get(*name).is_some_and(|has| has == value))
        });
        let (.., value) = found.next().unwrap_or_else(|| panic!("no {name} {labels:?}"));
        assert!(found.next().is_none(), "more than one {name} {labels:?}");
        *value
    }
}

fn labels(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").unwrap();
        let (mut value, mut chars) = (String::new(), rest.char_indices());
        let end = loop {
            match chars.next().unwrap() {
                (_, '\\') => value.push(chars.next().unwrap().1),
                (at, '"') => break at,
                (_, char) => value.push(char),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "label {name} twice");
        text = rest[end + 1..].strip_prefix(',').unwrap_or(&rest[end + 1..]);
    }
    labels
}

/// Reads a scrape and checks what holds for every one.
pub(crate) fn parse(text: &str) -> Scrape {
    let mut scrape = Scrape { kinds: HashMap::new(), samples: Vec::new() };
    let (mut family, mut seen) = (String::new(), HashSet::new());
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (what, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            match what {
                "TYPE" => {
                    assert!(scrape.kinds.insert(name.into(), rest.into()).is_none(), "{name} twice");
                    family = name.into();
                }
                "HELP" | "UNIT" => assert!(what == "HELP" || name == family),
                other => panic!("{other}"),
            }
            continue;
        }
        assert!(seen.insert(line.rsplit_once(' ').unwrap().0.to_owned()), "series twice: {line}");
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match series.split_once('{') {
            Some((name, rest)) => (name, labels(rest.strip_suffix('}').unwrap())),
            None => (series, BTreeMap::new()),
        };
        assert!(name.starts_with(family.as_str()), "{name} is not of {family}");
        scrape.samples.push((name.into(), labels, value.parse().unwrap()));
    }
    check_histograms(&scrape);
    scrape
}

fn check_histograms(scrape: &Scrape) {
    for (family, _) in scrape.kinds.iter().filter(|(_, kind)| *kind == "histogram") {
        let mut last: HashMap<BTreeMap<String, String>, (f64, f64)> = HashMap::new();
        let buckets = format!("{family}_bucket");
        for (_, labels, value) in scrape.samples.iter().filter(|(name, ..)| *name == buckets) {
            let mut labels = labels.clone();
            let le: f64 = labels.remove("le").unwrap().replace("+Inf", "inf").parse().unwrap();
            let (before, count) = last.insert(labels, (le, *value)).unwrap_or((f64::NEG_INFINITY, 0.0));
            assert!(le > before && *value >= count, "{family}: buckets grow");
        }
        for (labels, (le, count)) in last {
            assert_eq!(le, f64::INFINITY);
            let labels: Vec<(&str, &str)> =
                labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let exact = |name: &str| {
                scrape
                    .samples
                    .iter()
                    .find(|(of, has, _)| {
                        of == name
                            && has.len() == labels.len()
                            && labels.iter().all(|(name, value)| has[*name] == *value)
                    })
                    .map(|(.., value)| *value)
            };
            assert_eq!(exact(&format!("{family}_count")), Some(count), "+Inf is the count");
            assert!(exact(&format!("{family}_sum")).is_some());
        }
    }
}

fn registry(workers: usize) -> Arc<Registry> {
    let service = Service { name: "checkout".into(), ..Service::default() };
    let blocks: Vec<Arc<block::Block>> = (0..workers).map(|_| Arc::default()).collect();
    Arc::new(Registry::new(service, blocks, Accounts::default()))
}

fn record(direction: Direction, cluster: &Arc<str>, status: u16, millis: u64) -> Record {
    let mut record = Record::new();
    record.direction = direction;
    record.cluster = Some(Arc::clone(cluster));
    record.method = record.store(b"GET");
    record.status = status;
    record.duration = Duration::from_millis(millis);
    record.response_bytes = 1024;
    record
}

#[test]
fn exchanges_are_summed_over_workers_under_the_standard_names() {
    let registry = registry(2);
    let cluster: Arc<str> = "pay\"ments".into();
    for worker in 0..2 {
        let mut writer = registry.writer(worker);
        for millis in [1, 5, 6, 20_000] {
            writer.count(&record(Direction::Inbound, &cluster, 200, millis));
        }
        let mut failed = record(Direction::Outbound, &cluster, 502, 1);
        failed.cause = Some(Kind::ConnectFailed);
        failed.attempts = 3;
        writer.count(&failed);
    }
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let text = registry.render(format);
        assert_eq!(text.ends_with("# EOF\n"), format == Format::OpenMetrics);
        let scrape = parse(&text);
        let labels = [
            ("http_response_status_code", "200"),
            ("http_request_method", "GET"),
            ("sidelight_cluster", "pay\"ments"),
        ];
        let bucket = |le| {
            let mut labels = labels.to_vec();
            labels.push(("le", le));
            scrape.get("http_server_request_duration_seconds_bucket", &labels)
        };
        assert_eq!((bucket("0.005"), bucket("0.01"), bucket("10.0"), bucket("+Inf")), (4.0, 6.0, 6.0, 8.0));
        assert!((scrape.get("http_server_request_duration_seconds_sum", &labels) - 40.024).abs() < 1e-9);
        let failed = [("error_type", "connect_failed"), ("http_response_status_code", "502")];
        assert_eq!(scrape.get("http_client_request_duration_seconds_count", &failed), 2.0);
        assert_eq!(scrape.get("sidelight_retries_total", &[]), 4.0);
        assert_eq!(scrape.sum("http_server_response_body_size_bytes_sum"), 8.0 * 1024.0);
        let outbound = [("direction", "outbound"), ("cause", "connect_failed")];
        assert_eq!(scrape.get("sidelight_exchanges_total", &outbound), 2.0);
        assert_eq!(
            scrape.get("sidelight_exchanges_total", &[("direction", "inbound"), ("cause", "none")]),
            8.0
        );
        let counter =
            if format == Format::Prometheus { "sidelight_exchanges_total" } else { "sidelight_exchanges" };
        assert_eq!(scrape.kinds[counter], "counter");
    }
}

#[test]
fn series_beyond_the_cap_are_one_and_counted() {
    let registry = registry(1);
    let mut writer = registry.writer(0);
    for number in 0..SERIES_MAX + 50 {
        let cluster: Arc<str> = format!("c{number}").into();
        let record = record(Direction::Inbound, &cluster, 200, 1);
        writer.count(&record);
        writer.count(&record);
    }
    let scrape = parse(&registry.render(Format::Prometheus));
    assert_eq!(scrape.sum("http_server_request_duration_seconds_count"), (2 * (SERIES_MAX + 50)) as f64);
    assert_eq!(
        scrape.get("http_server_request_duration_seconds_count", &[("sidelight_cluster", "_other")]),
        100.0
    );
    assert_eq!(scrape.get("sidelight_metrics_overflow_total", &[]), 100.0);
}

#[test]
fn a_reload_that_makes_the_same_names_again_keeps_the_series() {
    let registry = registry(1);
    let mut writer = registry.writer(0);
    // Far more new texts than the worker's own table holds.
    for _ in 0..10_000 {
        writer.count(&record(Direction::Outbound, &"payments".into(), 200, 1));
    }
    let scrape = parse(&registry.render(Format::Prometheus));
    assert_eq!(
        scrape.get("http_client_request_duration_seconds_count", &[("sidelight_cluster", "payments")]),
        10_000.0
    );
    assert_eq!(scrape.get("sidelight_metrics_overflow_total", &[]), 0.0);
}

#[test]
fn connections_clusters_and_configuration_are_there() {
    let registry = registry(1);
    let stats = registry.connections("inbound");
    let open = stats.accept();
    open.detected(Detected::Http2);
    registry.connections("inbound").refuse();
    let cluster = Arc::new(Cluster::plain("payments", &crate::cluster::Config::default()));
    cluster.update(&[Target::new("127.0.0.1:1".parse().unwrap())]);
    cluster.mark_stale("SERVFAIL");
    registry.config_applied("r1", vec![cluster]);
    registry.config_refused();
    let scrape = parse(&registry.render(Format::Prometheus));
    let inbound = ("listener", "inbound");
    assert_eq!(scrape.get("sidelight_connections_active", &[inbound, ("protocol", "http2")]), 1.0);
    assert_eq!(scrape.get("sidelight_connections_active", &[inbound, ("protocol", "unknown")]), 0.0);
    assert_eq!(scrape.get("sidelight_connections_refused_total", &[inbound]), 1.0);
    assert_eq!(scrape.get("sidelight_cluster_stale", &[("sidelight_cluster", "payments")]), 1.0);
    assert_eq!(scrape.get("sidelight_endpoint_in_flight", &[("endpoint", "127.0.0.1:1")]), 0.0);
    assert_eq!(scrape.get("sidelight_config_info", &[("revision", "r1")]), 1.0);
    assert_eq!(scrape.get("sidelight_config_reloads_total", &[("result", "refused")]), 1.0);
    assert_eq!(scrape.get("sidelight_config_last_reload_successful", &[]), 0.0);
    assert_eq!(scrape.get("target_info", &[("service_name", "checkout")]), 1.0);
    assert!(scrape.get("process_resident_memory_bytes", &[]) > 0.0);
}
