//! The graph out of events: of any number of sidecars, in any order.
//!
//! What: each exchange is counted into the report of the process that wrote it, as its sidecar does; an event that is there
//! twice (delivery is at least once, files overlap) is counted once, by its sequence number. How it fails: numbers that are
//! absent are events that were lost or are in another file; there is a number of them for each process.

use super::document::CLIENTS;
use super::document::{About, Edge, Latency, Part, Protocol, Report, SCHEMA, Way, ratio};
use super::histogram::millis;
use super::moment::Moment;
use super::stats::{Outcome, Stats};
use crate::pipeline::encode::{CONNECTION, EXCHANGE, GRPC_STATUS};
use crate::pipeline::event::{self, Text, Value};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Runs of sequence numbers that are remembered for a process; beyond them an event may be counted twice.
const RUNS_MAX: usize = 1 << 20;
/// Ways to end that are told apart for an edge, and edges of a process: what a file of somebody else could make large.
const OUTCOMES_MAX: usize = 64;
/// Edges of one process that are told apart.
const EDGES_MAX: usize = 100_000;

/// See the module.
#[derive(Default)]
pub struct Events {
    processes: BTreeMap<ProcessId, Process>,
    /// Lines that are no events.
    pub faults: u64,
    /// Events that were there before.
    pub duplicates: u64,
}

type ProcessId = (String, String, String, u64);

#[derive(Default)]
struct Process {
    about: About,
    runs: Runs,
    first: Moment,
    last: Moment,
    sides: BTreeMap<(Way, Option<String>), BTreeMap<PartKey, Part>>,
    parents: BTreeMap<Option<String>, BTreeMap<String, u64>>,
    edges: usize,
}

type PartKey = (Option<String>, Protocol, Option<String>, Option<String>, bool);

/// What an event says, as far as the graph wants to know.
#[derive(Default)]
struct Exchange<'a> {
    schema: Option<Text<'a>>,
    id: Option<&'a [u8]>,
    timestamp: Option<Text<'a>>,
    service: [Option<Text<'a>>; 5],
    direction: Option<Text<'a>>,
    cluster: Option<Text<'a>>,
    route: Option<Text<'a>>,
    identity: Option<Text<'a>>,
    license: Option<Text<'a>>,
    request_type: Option<Text<'a>>,
    version: Option<Text<'a>>,
    upstream_version: Option<Text<'a>>,
    cause: Option<Text<'a>>,
    parent_source: Option<Text<'a>>,
    grpc_status: Option<Text<'a>>,
    is_grpc: bool,
    status: u16,
    attempts: u64,
    retries: u64,
    request_bytes: u64,
    response_bytes: u64,
    duration_ms: f64,
}

fn whole(value: Value<'_>) -> u64 {
    match value {
        Value::Int(number) => u64::try_from(number).unwrap_or_default(),
        _ => 0,
    }
}

impl<'a> Exchange<'a> {
    /// `None` where the line is no JSON object.
    fn read(line: &'a [u8]) -> Option<Exchange<'a>> {
        let mut read = Exchange::default();
        let mut members = event::members(line);
        for (name, value) in members.by_ref() {
            let text = value.text();
            match name.raw() {
                b"schema" => read.schema = text,
                b"id" => {
                    if let Value::Object(object) = value {
                        read.id = Some(object);
                    }
                }
                b"timestamp" => read.timestamp = text,
                b"service.name" => read.service[0] = text,
                b"service.version" => read.service[1] = text,
                b"service.namespace" => read.service[2] = text,
                b"deployment.environment.name" => read.service[3] = text,
                b"cloud.availability_zone" => read.service[4] = text,
                b"sidelight.direction" => read.direction = text,
                b"sidelight.cluster" => read.cluster = text,
                b"sidelight.route" => read.route = text,
                b"sidelight.client.identity" => read.identity = text,
                b"license" => read.license = text,
                b"request_type" => read.request_type = text,
                b"network.protocol.version" => read.version = text,
                b"sidelight.upstream.protocol.version" => read.upstream_version = text,
                b"sidelight.cause" => read.cause = text,
                b"sidelight.parent.source" => read.parent_source = text,
                b"rpc.response.status_code" => read.grpc_status = text,
                b"rpc.system.name" => read.is_grpc = true,
                b"http.response.status_code" => read.status = whole(value).try_into().unwrap_or_default(),
                b"sidelight.attempts" => read.attempts = whole(value),
                b"sidelight.retries" => read.retries = whole(value),
                b"http.request.body.size" | b"sidelight.received_bytes" => read.request_bytes = whole(value),
                b"http.response.body.size" | b"sidelight.sent_bytes" => read.response_bytes = whole(value),
                b"sidelight.duration_ms" => read.duration_ms = value.number().unwrap_or_default(),
                _ => {}
            }
        }
        members.is_whole().then_some(read)
    }
}

fn owned(text: Option<Text<'_>>) -> Option<String> {
    text.map(|text| text.get().into_owned()).filter(|text| !text.is_empty())
}

impl Events {
    /// Takes a line: an event, whatever its schema.
    pub fn line(&mut self, line: &[u8]) {
        let Some(read) = Exchange::read(line).filter(|read| read.schema.is_some()) else {
            self.faults += 1;
            return;
        };
        let id = read.id.unwrap_or_default();
        let number = |name| event::member(id, name).map(whole);
        let instance = owned(event::member(id, "instance").and_then(Value::text)).unwrap_or_default();
        let [name, version, namespace, environment, zone] =
            read.service.map(|text| owned(text).unwrap_or_default());
        let about = About { name, version, namespace, environment, zone, instance };
        let epoch = number("epoch").unwrap_or_default();
        let key = (about.namespace.clone(), about.name.clone(), about.instance.clone(), epoch);
        let process = self.processes.entry(key).or_default();
        if let Some(sequence) = number("sequence")
            && !process.runs.insert(sequence)
        {
            self.duplicates += 1;
            return;
        }
        process.about = about;
        process.take(&read);
    }

    /// What every process says.
    pub fn reports(self) -> impl Iterator<Item = Report> {
        self.processes.into_iter().map(|((.., epoch), process)| process.report(epoch))
    }

    /// Events that were written and are not here, by process: the name of the service, and how many.
    pub fn absent(&self) -> Vec<(&str, u64)> {
        let absent = self.processes.values().map(|it| (it.about.name.as_str(), it.runs.absent()));
        absent.filter(|(_, count)| *count > 0).collect()
    }
}

impl Process {
    fn take(&mut self, read: &Exchange<'_>) {
        let schema = read.schema.map(Text::get).unwrap_or_default();
        let is_opaque = schema == CONNECTION;
        let began = read.timestamp.and_then(|text| Moment::parse(&text.get())).unwrap_or_default();
        if began.0 > 0 {
            self.first = if self.first.0 == 0 { began } else { self.first.min(began) };
        }
        self.last = self.last.max(began);
        let way = match read.direction.map(Text::raw) {
            Some(b"inbound") => Way::Inbound,
            Some(b"outbound") => Way::Outbound,
            _ => return,
        };
        if !is_opaque && schema != EXCHANGE {
            return;
        }
        let duration = Duration::try_from_secs_f64(read.duration_ms / 1000.0).unwrap_or_default();
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let ended = Moment(began.0.saturating_add(micros));
        self.last = self.last.max(ended);
        let upstream = read.upstream_version.filter(|_| way == Way::Outbound);
        let is_http2 = upstream.or(read.version).is_some_and(|text| text.raw() == b"2");
        let protocol = match (is_opaque, read.is_grpc, is_http2) {
            (true, ..) => Protocol::Tcp,
            (_, true, _) => Protocol::Grpc,
            (_, _, true) => Protocol::Http2,
            _ => Protocol::Http1,
        };
        let cluster = owned(read.cluster).filter(|_| way == Way::Outbound);
        if way == Way::Outbound && !is_opaque {
            let source = owned(read.parent_source).unwrap_or_else(|| "root".into());
            let parents = self.parents.entry(cluster.clone()).or_default();
            if parents.len() < OUTCOMES_MAX || parents.contains_key(&source) {
                *parents.entry(source).or_default() += 1;
            }
        }
        let is_trace = read.request_type.is_some_and(|text| text.raw() == b"TRACE");
        let peer = owned(read.identity).filter(|_| way == Way::Inbound);
        let mut key = (peer, protocol, owned(read.route), owned(read.license), is_trace);
        let side = self.sides.entry((way, cluster)).or_default();
        if !side.contains_key(&key) {
            self.edges += 1;
            if self.edges > EDGES_MAX {
                let other = Some(super::table::OTHER.to_owned());
                key = (None, Protocol::Other, other.clone(), other, false);
            }
        }
        let part = side.entry(key).or_insert_with_key(|key| Part {
            peer: key.0.clone(),
            protocol: key.1,
            route: key.2.clone(),
            license: key.3.clone(),
            request_type: if key.4 { "TRACE" } else { "STANDARD" }.into(),
            stats: Stats::default(),
        });
        let grpc_status = read.grpc_status.and_then(|text| {
            let text = text.get();
            let known = GRPC_STATUS.iter().position(|name| *name == text);
            known.map_or_else(|| text.parse().ok(), |at| u8::try_from(at).ok())
        });
        let cause = read.cause.map_or(Cow::Borrowed(""), |text| text.get().into_owned().into());
        let outcome = Outcome { status: read.status, grpc_status, cause, calls: 1 };
        let stats = &mut part.stats;
        stats.calls += 1;
        stats.failures += u64::from(outcome.is_failure(is_opaque));
        stats.attempts = stats.attempts.saturating_add(read.attempts);
        stats.retries = stats.retries.saturating_add(read.retries);
        stats.request_bytes = stats.request_bytes.saturating_add(read.request_bytes);
        stats.response_bytes = stats.response_bytes.saturating_add(read.response_bytes);
        stats.latency_ms.observe_micros(micros);
        stats.ended(&outcome, OUTCOMES_MAX);
        stats.seen(ended);
    }

    fn report(mut self, epoch: u64) -> Report {
        let mut edges: Vec<Edge> = Vec::new();
        let (mut lost_all, mut served_all) = (0, 0);
        for ((way, cluster), parts) in std::mem::take(&mut self.sides) {
            let parts: Vec<Part> = parts.into_values().collect();
            let mut sum = Stats::default();
            parts.iter().for_each(|part| sum.merge(&part.stats));
            let name = |name: &str| Some(name.to_owned());
            let is_outbound = way == Way::Outbound;
            let (from, to) = match is_outbound {
                true => (name(&self.about.name), cluster.clone()),
                false => (name(CLIENTS), name(&self.about.name)),
            };
            let parents = is_outbound.then(|| self.parents.remove(&cluster).unwrap_or_default());
            let of = |source| parents.as_ref().and_then(|it| it.get(source)).copied().unwrap_or_default();
            let all: u64 = parents.iter().flat_map(BTreeMap::values).sum();
            let (lost, served) = (of("lost"), all - of("root"));
            (lost_all, served_all) = (lost_all + lost, served_all + served);
            let quantile = |share| sum.latency_ms.quantile(share).map(millis);
            edges.push(Edge {
                direction: way,
                from,
                to,
                service: None,
                calls: sum.calls,
                failures: sum.failures,
                failure_ratio: ratio(sum.failures, sum.calls),
                latency_ms: Latency {
                    mean: sum.latency_ms.mean().map(millis),
                    p50: quantile(0.5),
                    p90: quantile(0.9),
                    p99: quantile(0.99),
                },
                parents,
                lost_context: is_outbound.then_some(lost),
                lost_ratio: is_outbound.then(|| ratio(lost, served)),
                missed: 0,
                parts,
            });
        }
        Report {
            schema: SCHEMA.into(),
            service: self.about,
            epoch,
            since: self.first,
            at: self.last,
            lost_context: lost_all,
            lost_ratio: ratio(lost_all, served_all),
            overflow: 0,
            depends_on: Vec::new(),
            edges,
        }
    }
}

/// Which numbers were met, as runs: from the first to the last of each.
#[derive(Default)]
pub(super) struct Runs(BTreeMap<u64, u64>);

impl Runs {
    /// Notes a number; `false` if it was met before.
    pub(super) fn insert(&mut self, number: u64) -> bool {
        let before = self.0.range(..=number).next_back().map(|(from, to)| (*from, *to));
        if before.is_some_and(|(_, to)| number <= to) {
            return false;
        }
        let after = number.checked_add(1).and_then(|next| self.0.remove(&next));
        let to = after.unwrap_or(number);
        match before.filter(|(_, last)| last.checked_add(1) == Some(number)) {
            Some((from, _)) => {
                self.0.insert(from, to);
            }
            None if self.0.len() < RUNS_MAX => {
                self.0.insert(number, to);
            }
            None => {}
        }
        true
    }

    /// How many numbers between the first and the last were not met.
    pub(super) fn absent(&self) -> u64 {
        let starts: BTreeSet<u64> = self.0.keys().copied().skip(1).collect();
        let ends = self.0.values();
        starts.into_iter().zip(ends).fold(0, |sum, (start, end)| sum.saturating_add(start - end - 1))
    }
}
