//! Any other event as an OTLP `LogRecord`.
//!
//! Field numbers are those of `opentelemetry/proto/logs/v1/logs.proto`. How it fails: what is not a JSON object is
//! malformed; everything else is a record.

use super::proto;
use super::resource::Known;
use super::span::{Became, Tools, hex, renamed};
use crate::pipeline::event::{self, Text, Value};

/// `LogRecord`'s fields.
mod field {
    pub(super) const TIME: u8 = 1;
    pub(super) const SEVERITY_NUMBER: u8 = 2;
    pub(super) const SEVERITY_TEXT: u8 = 3;
    pub(super) const BODY: u8 = 5;
    pub(super) const ATTRIBUTES: u8 = 6;
    pub(super) const FLAGS: u8 = 8;
    pub(super) const TRACE_ID: u8 = 9;
    pub(super) const SPAN_ID: u8 = 10;
    pub(super) const OBSERVED_TIME: u8 = 11;
    pub(super) const EVENT_NAME: u8 = 12;
}

/// `SEVERITY_NUMBER_INFO`, for what does not say how bad it is.
const INFO: u64 = 9;

/// Appends the event as field `log_records` of `ScopeLogs`. What is not written leaves `out` as it was.
pub(super) fn write(out: &mut Vec<u8>, tools: &mut Tools, known: &Known, payload: &[u8]) -> Became {
    let before = out.len();
    let record = proto::open(out, 2);
    let (mut time, mut observed, mut severity, mut level) = (0, 0, None, None);
    let (mut trace_id, mut span_id, mut is_sampled) = (None, None, false);
    let Tools { clock, scratch } = tools;
    let mut members = event::members(payload);
    for (key, value) in members.by_ref() {
        let name = key.raw();
        match (name, value) {
            (b"schema", Value::Text(schema)) => {
                proto::bytes(out, field::EVENT_NAME, proto::plain(schema, scratch))
            }
            (b"id", Value::Object(id)) => write_id(out, scratch, id),
            (b"timestamp", Value::Text(text)) => time = clock.nanos(text.raw()),
            (b"observed_timestamp", Value::Text(text)) => observed = clock.nanos(text.raw()),
            (b"trace_id", _) => trace_id = hex::<16>(value),
            (b"span_id", _) => span_id = hex::<8>(value),
            (b"sampled", Value::Bool(flag)) => is_sampled = flag,
            (b"severity_number", Value::Int(number @ 1..=24)) => severity = u64::try_from(number).ok(),
            (b"severity_text", Value::Text(text)) => {
                level = Some(text);
                proto::bytes(out, field::SEVERITY_TEXT, proto::plain(text, scratch));
            }
            (b"body", _) => proto::any_value(out, scratch, field::BODY, value, 0),
            (b"attributes", Value::Object(attributes)) => {
                for (key, value) in event::members(attributes) {
                    // A key with escapes is written as it stands: its text would need a second scratch.
                    proto::attribute(out, scratch, field::ATTRIBUTES, key.raw(), value);
                }
            }
            (b"sidelight.labels", _) => {}
            (_, Value::Text(text)) if known.has(name, proto::plain(text, scratch)) => {}
            _ => proto::attribute(out, scratch, field::ATTRIBUTES, renamed(name), value),
        }
    }
    if !members.is_whole() {
        out.truncate(before);
        return Became::Malformed;
    }
    proto::fixed64(out, field::TIME, time);
    proto::fixed64(out, field::OBSERVED_TIME, if observed == 0 { time } else { observed });
    let severity = severity.or_else(|| level.map(severity_of));
    proto::number(out, field::SEVERITY_NUMBER, severity.unwrap_or(INFO));
    if let Some(trace_id) = trace_id {
        proto::bytes(out, field::TRACE_ID, &trace_id);
        proto::fixed32(out, field::FLAGS, u32::from(is_sampled));
        if let Some(span_id) = span_id {
            proto::bytes(out, field::SPAN_ID, &span_id);
        }
    }
    proto::close(out, record);
    Became::Written
}

/// The event's id as `log.record.uid`: records with the same one are the same.
fn write_id(out: &mut Vec<u8>, scratch: &mut Vec<u8>, id: &[u8]) {
    scratch.clear();
    for (index, (_, value)) in event::members(id).enumerate() {
        if index > 0 {
            scratch.push(b'/');
        }
        match value {
            Value::Text(text) => proto::append_plain(text, scratch),
            Value::Int(number) => append_number(scratch, number.unsigned_abs()),
            _ => {}
        }
    }
    proto::text_attribute(out, field::ATTRIBUTES, b"log.record.uid", scratch);
}

fn append_number(out: &mut Vec<u8>, number: u64) {
    let (mut digits, mut at, mut rest) = ([0; 20], 20, number);
    loop {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
        if rest == 0 || at == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// The number of a level's usual names (the first of its four, as OpenTelemetry maps other systems' levels).
fn severity_of(text: Text<'_>) -> u64 {
    let is = |names: &[&str]| names.iter().any(|name| text.raw().eq_ignore_ascii_case(name.as_bytes()));
    match () {
        () if is(&["trace", "verbose"]) => 1,
        () if is(&["debug"]) => 5,
        () if is(&["notice"]) => 10,
        () if is(&["warn", "warning"]) => 13,
        () if is(&["error", "err", "severe"]) => 17,
        () if is(&["fatal", "critical", "crit", "alert", "emergency", "emerg", "panic"]) => 21,
        () => INFO,
    }
}
