//! A record as one line of JSON.
//!
//! What: `schema`, `id` and `timestamp`, the context fields, OpenTelemetry's attributes under their own names, then
//! sidelight's under `sidelight.`. What is absent is left out. Why by hand: this runs for every exchange, and a
//! general serialiser costs several times as much; the parts that never change are encoded once.
//! The process's CPU and memory are not in each exchange's event but in one of their own (`sidelight/process/1`).
//! How it fails: it cannot; texts from peers are escaped (see [`json`]).

mod address;
mod attempt;
pub(super) mod json;
mod keys;
mod names;
mod notes;
mod timestamp;

pub use attempt::SPAN;

use super::Service;
use super::metrics::block::{METHOD_OTHER, method_class};
use crate::context::RequestType;
use crate::context::fields::flags;
use crate::context::sampling::SampledBy;
use crate::exchange::{Direction, Outcome, Record, Recorded, Text};
use address::{Client, host_and_port};
use names::Names;
use opentelemetry_semantic_conventions::attribute as otel;
use serde_json::Value;
use std::io::Write;
use std::time::{Duration, SystemTime};
use timestamp::Clock;

/// The schema of an exchange's event.
pub const EXCHANGE: &str = "sidelight/exchange/1";

/// The schema of the event of a connection that was carried as bytes, or refused before any HTTP.
pub const CONNECTION: &str = "sidelight/connection/1";

/// Room for an event of usual size, reserved at once so that the pieces do not grow the output one by one.
const EVENT_BYTES: usize = 2048;

/// Names of the gRPC status codes, by number (<https://grpc.io/docs/guides/status-codes/>).
pub(in crate::pipeline) const GRPC_STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Encodes events and numbers them.
pub struct Encoder {
    /// From the schema's closing quote to the sequence number.
    id: Box<[u8]>,
    /// The same for the event of an exchange, from its beginning.
    exchange: Box<[u8]>,
    /// `service.name` and the other attributes of the resource.
    service: Box<[u8]>,
    /// `service` with method, scheme and version behind it, for each of those; empty: not met yet.
    begins: Vec<Vec<u8>>,
    clock: Clock,
    names: Names,
    client: Client,
}

impl Encoder {
    /// An encoder for events of `service`, whose sequence begins anew in `epoch` (microseconds since 1970).
    pub fn new(service: &Service, epoch: u64) -> Encoder {
        let mut id = br#"","id":{"instance":"#.to_vec();
        json::quoted(&mut id, service.instance.as_bytes());
        // Writing into memory does not fail.
        let _ = write!(id, r#","epoch":{epoch},"sequence":"#);
        let mut head = Vec::new();
        let attributes = [
            (otel::SERVICE_NAME, &service.name),
            (otel::SERVICE_VERSION, &service.version),
            (otel::SERVICE_NAMESPACE, &service.namespace),
            (otel::DEPLOYMENT_ENVIRONMENT_NAME, &service.environment),
            (otel::CLOUD_AVAILABILITY_ZONE, &service.zone),
        ];
        for (name, value) in attributes {
            if !value.is_empty() {
                member(&mut head, name, &Value::from(value.as_str()));
            }
        }
        if !service.labels.is_empty() {
            let labels =
                service.labels.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
            member(&mut head, keys::LABELS, &Value::Object(labels.collect()));
        }
        let begin = [br#"{"schema":""#.as_slice(), EXCHANGE.as_bytes(), &id].concat();
        Encoder {
            id: id.into(),
            exchange: begin.into(),
            service: head.into(),
            begins: Vec::new(),
            clock: Clock::new(),
            names: Names::default(),
            client: Client::new(),
        }
    }

    /// Appends the event of an exchange, without a line end.
    pub fn exchange(&mut self, sequence: u64, record: &Record, out: &mut Vec<u8>) {
        out.reserve(EVENT_BYTES);
        if record.is_opaque {
            self.id(sequence, CONNECTION, out);
        } else {
            out.extend_from_slice(&self.exchange);
            json::number(out, sequence);
            out.push(b'}');
        }
        self.timestamp(record.started_at, out);
        // All texts of a record lie in one buffer, so one look tells whether any needs escaping.
        let is_plain = json::is_plain(&record.text);
        context(record, is_plain, out);
        self.begin(record, out);
        request(record, is_plain, &mut self.client, out);
        response(record, out);
        self.names.write(record, out);
        timing(record, out);
        out.push(b'}');
    }

    /// Appends another event, without a line end. Members of `attributes` that are named as in the head are left out;
    /// anything but an object becomes `body`.
    pub fn event(
        &mut self,
        sequence: u64,
        (schema, at): (&str, SystemTime),
        attributes: &Value,
        out: &mut Vec<u8>,
    ) {
        self.head(sequence, schema, at, out);
        out.extend_from_slice(&self.service);
        match attributes {
            Value::Object(members) => {
                for (name, value) in members.iter().filter(|(name, _)| !keys::is_head(name)) {
                    member(out, name, value);
                }
            }
            Value::Null => {}
            other => member(out, "body", other),
        }
        out.push(b'}');
    }

    /// Appends an event whose members somebody else encoded, as one JSON object: it is believed to be one. Where it begins
    /// with a `timestamp`, that is the event's.
    pub fn members(
        &mut self,
        sequence: u64,
        (schema, at): (&str, SystemTime),
        object: &[u8],
        out: &mut Vec<u8>,
    ) {
        let inner = object.trim_ascii().strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
        let inner = inner.map(<[u8]>::trim_ascii);
        if inner.is_some_and(|inner| inner.starts_with(br#""timestamp":"#)) {
            self.id(sequence, schema, out);
        } else {
            self.head(sequence, schema, at, out);
        }
        match inner {
            Some(b"") => {}
            Some(inner) => {
                out.push(b',');
                out.extend_from_slice(inner);
            }
            None => member(out, "body", &Value::from(String::from_utf8_lossy(object))),
        }
        out.extend_from_slice(&self.service);
        out.push(b'}');
    }

    /// The resource, then method, scheme and version.
    #[inline]
    fn begin(&mut self, record: &Record, out: &mut Vec<u8>) {
        let class = method_class(record.text(record.method));
        if class == 0 || class == METHOD_OTHER {
            out.extend_from_slice(&self.service);
            return method(record, class, out);
        }
        let place = usize::from(class) * 8 + usize::from(record.is_tls) * 4 + record.version as usize;
        match self.begins.get(place) {
            Some(begin) if !begin.is_empty() => out.extend_from_slice(begin),
            _ => self.learn_begin(place, record, class, out),
        }
    }

    #[cold]
    fn learn_begin(&mut self, place: usize, record: &Record, class: u8, out: &mut Vec<u8>) {
        let mut begin = self.service.to_vec();
        method(record, class, &mut begin);
        out.extend_from_slice(&begin);
        if self.begins.len() <= place {
            self.begins.resize_with(place + 1, Vec::new);
        }
        if let Some(has) = self.begins.get_mut(place) {
            *has = begin;
        }
    }

    #[inline]
    fn head(&mut self, sequence: u64, schema: &str, at: SystemTime, out: &mut Vec<u8>) {
        self.id(sequence, schema, out);
        self.timestamp(at, out);
    }

    #[inline]
    fn timestamp(&mut self, at: SystemTime, out: &mut Vec<u8>) {
        out.extend_from_slice(br#","timestamp":""#);
        out.extend_from_slice(self.clock.text(at));
        out.push(b'"');
    }

    #[inline]
    fn id(&self, sequence: u64, schema: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"schema":""#);
        out.extend_from_slice(schema.as_bytes());
        out.extend_from_slice(&self.id);
        json::number(out, sequence);
        out.push(b'}');
    }
}

/// A moment as events write it.
pub fn rfc3339(at: SystemTime) -> String {
    String::from_utf8_lossy(Clock::new().text(at)).into_owned()
}

fn member(out: &mut Vec<u8>, name: &str, value: &Value) {
    out.push(b',');
    json::quoted(out, name.as_bytes());
    out.push(b':');
    json::value(out, value);
}

/// A text that a peer may have written; nothing when it is empty. `key` ends with the opening quote.
#[inline(always)]
fn text(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    if !value.is_empty() {
        out.extend_from_slice(key);
        json::text(out, value);
        out.push(b'"');
    }
}

/// The record's text at `span`; nothing when it is empty. In place, so that the key's length is known where it is copied.
#[inline(always)]
fn stored(out: &mut Vec<u8>, key: &[u8], (record, span, is_plain): (&Record, Text, bool)) {
    if !span.is_empty() {
        out.extend_from_slice(key);
        json::text_known(out, record.text(span), is_plain);
        out.push(b'"');
    }
}

/// A text of our own that needs no escaping.
#[inline]
fn word(out: &mut Vec<u8>, key: &[u8], value: &str) {
    out.extend_from_slice(key);
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

/// In place, as [`stored`].
#[inline(always)]
fn number(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    json::number(out, value);
}

/// Milliseconds, to the microsecond. In place, as [`stored`].
#[inline(always)]
fn millis(out: &mut Vec<u8>, key: &[u8], value: Duration) {
    out.extend_from_slice(key);
    let micros = value.subsec_micros();
    let (millis, micros) = (micros / 1000, micros % 1000);
    json::number(out, value.as_secs() * 1000 + u64::from(millis));
    let [tens, ones] = json::pair(u64::from(micros));
    out.extend_from_slice(&[b'.', b'0' + (micros / 100) as u8, tens, ones]);
}

/// The context fields. A request that failed before its context was read has none.
fn context(record: &Record, is_plain: bool, out: &mut Vec<u8>) {
    if record.trace.trace_id == [0; 16] {
        return;
    }
    out.extend_from_slice(br#","trace_id":""#);
    let (halves, _) = record.trace.trace_id.as_chunks::<8>();
    for half in halves {
        out.extend_from_slice(json::hex(half).as_flattened());
    }
    out.extend_from_slice(br#"","span_id":""#);
    out.extend_from_slice(json::hex(&record.trace.parent_id).as_flattened());
    if let Some(parent) = &record.parent_id {
        out.extend_from_slice(br#"","parent_id":""#);
        out.extend_from_slice(json::hex(parent).as_flattened());
    }
    out.extend_from_slice(match record.trace.is_sampled() {
        true => br#"","sampled":true"#.as_slice(),
        false => br#"","sampled":false"#,
    });
    stored(out, br#","request_id":""#, (record, record.request_id, is_plain));
    stored(out, br#","user_id":""#, (record, record.user_id, is_plain));
    stored(out, br#","account_id":""#, (record, record.account_id, is_plain));
    stored(out, br#","license":""#, (record, record.license, is_plain));
    out.extend_from_slice(match record.request_type {
        RequestType::Standard => br#","request_type":"STANDARD""#.as_slice(),
        RequestType::Trace => br#","request_type":"TRACE""#,
    });
    if !record.flags.is_empty() {
        let mut between = br#","flags":["#.as_slice();
        for flag in flags(record.text(record.flags)) {
            out.extend_from_slice(between);
            out.push(b'"');
            json::text_known(out, flag, is_plain);
            out.push(b'"');
            between = b",";
        }
        if between.len() == 1 {
            out.push(b']');
        }
    }
    if let Some(notes) = &record.notes {
        for (name, value) in &notes.extra {
            out.extend_from_slice(br#",""#);
            out.extend_from_slice(name.as_bytes());
            stored(out, br#"":""#, (record, *value, is_plain));
        }
    }
}

/// Method, scheme and version; nothing without a method.
fn method(record: &Record, class: u8, out: &mut Vec<u8>) {
    let method = record.text(record.method);
    if method.is_empty() {
        return;
    }
    if class == METHOD_OTHER {
        word(out, keys::METHOD, "_OTHER");
        text(out, keys::METHOD_ORIGINAL, method);
    } else {
        out.extend_from_slice(keys::METHOD);
        out.extend_from_slice(method);
        out.push(b'"');
    }
    out.extend_from_slice(if record.is_tls { keys::SCHEME_HTTPS } else { keys::SCHEME_HTTP });
    word(out, keys::PROTOCOL_VERSION, record.version.as_str());
}

fn request(record: &Record, is_plain: bool, client: &mut Client, out: &mut Vec<u8>) {
    stored(out, keys::PATH, (record, record.path, is_plain));
    if let Some(pattern) = &record.pattern {
        text(out, keys::ROUTE, pattern.as_bytes());
    }
    let (host, port) = host_and_port(record.text(record.authority));
    if !host.is_empty() {
        out.extend_from_slice(keys::SERVER_ADDRESS);
        json::text_known(out, host, is_plain);
        out.push(b'"');
    }
    if let Some(port) = port {
        number(out, keys::SERVER_PORT, u64::from(port));
    }
    if let Some(peer) = record.peer {
        client.write(out, peer);
    }
    if let Some(identity) = &record.identity {
        text(out, br#","sidelight.client.identity":""#, identity.as_bytes());
    }
    if record.is_opaque {
        out.extend_from_slice(br#","network.transport":"tcp""#);
        number(out, br#","sidelight.received_bytes":"#, record.request_bytes);
        number(out, br#","sidelight.sent_bytes":"#, record.response_bytes);
    } else {
        number(out, keys::REQUEST_BODY, record.request_bytes);
    }
}

fn response(record: &Record, out: &mut Vec<u8>) {
    if record.status != 0 {
        number(out, keys::STATUS, u64::from(record.status));
    }
    match record.cause {
        Some(kind) => word(out, keys::ERROR_TYPE, kind.cause()),
        // OpenTelemetry's rule: what the caller did wrong is an error of the call, not of the service that says so.
        None if record.status >= 500 || (record.status >= 400 && record.direction == Direction::Outbound) => {
            number(out, keys::ERROR_TYPE, u64::from(record.status));
            out.push(b'"');
        }
        None => {}
    }
    if record.is_grpc {
        word(out, keys::RPC_SYSTEM, "grpc");
    }
    if let Some(status) = record.grpc_status {
        match GRPC_STATUS.get(usize::from(status)) {
            Some(name) => word(out, keys::RPC_STATUS, name),
            None => {
                number(out, keys::RPC_STATUS, u64::from(status));
                out.push(b'"');
            }
        }
    }
    if !record.is_opaque {
        number(out, keys::RESPONSE_BODY, record.response_bytes);
    }
}

fn decisions(record: &Record, out: &mut Vec<u8>) {
    out.extend_from_slice(match record.direction {
        Direction::Inbound => br#","sidelight.direction":"inbound""#.as_slice(),
        Direction::Outbound => br#","sidelight.direction":"outbound""#,
    });
    if let Some(version) = record.upstream_version {
        word(out, br#","sidelight.upstream.protocol.version":""#, version.as_str());
    }
    if record.attempts == 1 {
        out.extend_from_slice(br#","sidelight.attempts":1,"sidelight.retries":0"#);
    } else if record.attempts > 1 {
        number(out, br#","sidelight.attempts":"#, u64::from(record.attempts));
        number(out, br#","sidelight.retries":"#, u64::from(record.retries()));
    }
    out.extend_from_slice(match record.outcome() {
        Outcome::Complete => br#","sidelight.outcome":"complete""#.as_slice(),
        Outcome::Cut => br#","sidelight.outcome":"cut""#,
        Outcome::None => br#","sidelight.outcome":"none""#,
    });
    if let Some(kind) = record.cause {
        let answer = kind.answer();
        text(out, br#","sidelight.response_flags":""#, answer.flag.0.as_bytes());
        word(out, br#","sidelight.cause":""#, answer.cause);
        text(out, br#","sidelight.detail":""#, record.detail.as_bytes());
    }
    text(out, br#","sidelight.hint":""#, record.hint.as_bytes());
    if record.trace.trace_id != [0; 16] {
        word(out, br#","sidelight.parent.source":""#, record.parent_source.as_str());
        // What the caller decided is said by `sampled`.
        if let Some(by) = record.sampled_by.filter(|by| *by != SampledBy::Parent) {
            word(out, br#","sidelight.sampled.by":""#, by.as_str());
        }
        if let Some(by) = record.kept_by {
            word(out, br#","sidelight.kept.by":""#, by.as_str());
        }
    }
    if record.context_dropped > 0 {
        number(out, br#","sidelight.context.dropped":"#, u64::from(record.context_dropped));
    }
    if record.context_disagreed > 0 {
        number(out, br#","sidelight.context.disagreed":"#, u64::from(record.context_disagreed));
    }
    match record.recorded {
        Some(Recorded::Kept) => out.extend_from_slice(br#","sidelight.recorded":true"#),
        Some(Recorded::Dropped) => out.extend_from_slice(br#","sidelight.recorded":false"#),
        None => {}
    }
    if record.is_tunnel {
        out.extend_from_slice(br#","sidelight.tunnel":true"#);
    }
    if let Some(notes) = &record.notes {
        notes::write(notes, out);
    }
}

fn timing(record: &Record, out: &mut Vec<u8>) {
    millis(out, br#","sidelight.duration_ms":"#, record.duration);
    if let Some(queue) = record.queue {
        millis(out, br#","sidelight.queue_ms":"#, queue);
    }
    if let Some(connect) = record.connect {
        millis(out, br#","sidelight.connect_ms":"#, connect);
    }
    if let Some(first_byte) = record.upstream_first_byte {
        millis(out, br#","sidelight.upstream_first_byte_ms":"#, first_byte);
    }
}

#[cfg(test)]
mod tests;
