//! A line that is a JSON object: checked, and what is known in it found, in one pass that copies nothing but escaped texts.
//!
//! Why checked to the last byte: the object goes into the event as it is written, and a reader of the event must not
//! stumble over it. How it fails: nested deeper than [`DEPTH_MAX`], a number that no double holds, half a surrogate: then the
//! line is plain text.

use super::line::{Ids, hex_id};
use super::{ansi, severity, time};
use crate::context::{Field, TraceParent};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::time::SystemTime;

/// Objects and arrays within each other; readers of events take 128 with what is around them.
const DEPTH_MAX: usize = 64;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Known<'a> {
    level: Slot<Scalar<'a>>,
    number: Option<u8>,
    body: Slot<Cow<'a, str>>,
    time: Slot<SystemTime>,
    trace_id: Slot<[u8; 16]>,
    span_id: Slot<[u8; 8]>,
    request_id: Slot<Cow<'a, str>>,
}

/// A value, and how far in front its name stands in the list of names.
type Slot<T> = Option<(usize, T)>;

#[derive(Debug)]
enum Scalar<'a> {
    Text(Cow<'a, str>),
    Int(i64),
    Float(f64),
    Other,
}

/// Objects whose members have a name of two parts.
const PREFIXES: [&str; 5] = ["log", "trace", "span", "dd", "request"];

const LEVELS: &[&str] =
    &["level", "severity", "severity_text", "severityText", "levelname", "lvl", "log.level", "@level"];
const NUMBERS: &[&str] = &["severity_number", "severityNumber"];
const BODIES: &[&str] = &["message", "msg", "body", "event", "log", "@message"];
const TIMES: &[&str] = &["timestamp", "time", "ts", "@timestamp"];
const TRACES: &[&str] = &["trace_id", "traceId", "traceid", "traceID", "trace.id", "dd.trace_id"];
const SPANS: &[&str] = &["span_id", "spanId", "spanid", "spanID", "span.id"];
const REQUESTS: &[&str] = &["request_id", "requestId", "requestID", "x-request-id", "request.id"];

/// The known members of a line that is one whole JSON object; `None` for any other.
pub(super) fn read(line: &str) -> Option<Known<'_>> {
    let mut known = Known::default();
    let mut reader = serde_json::Deserializer::from_str(line);
    let is_object = matches!(line.trim_ascii_start().as_bytes().first(), Some(b'{'));
    let whole = Value { known: Some((&mut known, "")), depth: 0 };
    (is_object && whole.deserialize(&mut reader).is_ok() && reader.end().is_ok()).then_some(known)
}

impl<'a> Known<'a> {
    fn take(&mut self, name: &str, value: Scalar<'a>) {
        let rank = |names: &[&str]| names.iter().position(|known| *known == name);
        if let Some(rank) = rank(LEVELS) {
            put(&mut self.level, rank, Some(value));
        } else if let Some(rank) = rank(BODIES) {
            put(&mut self.body, rank, value.text());
        } else if let Some(rank) = rank(TIMES) {
            put(&mut self.time, rank, value.time());
        } else if let Some(rank) = rank(TRACES) {
            put(&mut self.trace_id, rank, value.text().and_then(|text| hex_id(text.as_bytes())));
        } else if let Some(rank) = rank(SPANS) {
            put(&mut self.span_id, rank, value.text().and_then(|text| hex_id(text.as_bytes())));
        } else if let Some(rank) = rank(REQUESTS) {
            let valid = value.text().filter(|text| Field::RequestId.is_valid(text.as_bytes()));
            put(&mut self.request_id, rank, valid);
        } else if rank(NUMBERS).is_some() {
            self.number = value.int().and_then(severity::of_number).or(self.number);
        } else if name == "traceparent"
            && let Some(trace) = value.text().and_then(|text| TraceParent::parse(text.as_bytes()))
        {
            put(&mut self.trace_id, 0, Some(trace.trace_id));
            put(&mut self.span_id, 0, Some(trace.parent_id));
        }
    }

    /// Severity: its number, and the text as it was written, or the number's name.
    pub(super) fn severity(&mut self) -> (Option<u8>, Option<Cow<'a, str>>) {
        let (number, text) = match self.level.take() {
            Some((_, Scalar::Text(text))) => {
                let text = ansi::stripped(text);
                let number = severity::of_word(&text);
                let number = number.or_else(|| text.parse().ok().and_then(severity::of_level));
                (number, Some(text).filter(|text| !text.is_empty() && text.len() <= 32))
            }
            Some((_, Scalar::Int(level))) => (severity::of_level(level), None),
            _ => (None, None),
        };
        let number = self.number.or(number);
        (number, text.or_else(|| number.map(|number| severity::name(number).into())))
    }

    /// What the line says.
    pub(super) fn body(&mut self) -> Option<Cow<'a, str>> {
        self.body.take().map(|(_, body)| body)
    }

    /// When, by its own account.
    pub(super) fn time(&self) -> Option<SystemTime> {
        self.time.map(|(_, time)| time)
    }

    /// Which trace and request it belongs to.
    pub(super) fn ids(&mut self) -> Ids<'a> {
        Ids {
            trace_id: self.trace_id.map(|(_, id)| id),
            span_id: self.span_id.map(|(_, id)| id),
            request_id: self.request_id.take().map(|(_, id)| id),
        }
    }
}

fn put<T>(slot: &mut Slot<T>, rank: usize, value: Option<T>) {
    if let Some(value) = value
        && slot.as_ref().is_none_or(|(known, _)| rank < *known)
    {
        *slot = Some((rank, value));
    }
}

impl<'a> Scalar<'a> {
    fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Scalar::Text(text) => Some(text),
            _ => None,
        }
    }

    fn int(&self) -> Option<i64> {
        match self {
            Scalar::Int(number) => Some(*number),
            Scalar::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn time(&self) -> Option<SystemTime> {
        match self {
            Scalar::Text(text) => time::of_text(text),
            Scalar::Int(number) => time::of_int(*number),
            Scalar::Float(number) => time::of_float(*number),
            Scalar::Other => None,
        }
    }
}

/// Reads any value; the members of an object go into `known`, where there is one, with the prefix of their names.
struct Value<'s, 'a> {
    known: Option<(&'s mut Known<'a>, &'static str)>,
    depth: usize,
}

impl<'a> DeserializeSeed<'a> for Value<'_, 'a> {
    type Value = Scalar<'a>;

    fn deserialize<D: Deserializer<'a>>(self, from: D) -> Result<Scalar<'a>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Value<'_, 'a> {
    type Value = Scalar<'a>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Scalar<'a>, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar<'a>, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Scalar<'a>, E> {
        Ok(Scalar::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Scalar<'a>, E> {
        Ok(i64::try_from(number).map_or(Scalar::Other, Scalar::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Scalar<'a>, E> {
        Ok(Scalar::Float(number))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Scalar<'a>, E> {
        Ok(Scalar::Other)
    }

    fn visit_unit<E>(self) -> Result<Scalar<'a>, E> {
        Ok(Scalar::Other)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<Scalar<'a>, A::Error> {
        let depth = deeper(self.depth)?;
        while items.next_element_seed(Value { known: None, depth })?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut members: A) -> Result<Scalar<'a>, A::Error> {
        let depth = deeper(self.depth)?;
        while let Some(name) = members.next_key_seed(Value { known: None, depth })? {
            let Some((known, prefix)) = &mut self.known else {
                members.next_value_seed(Value { known: None, depth })?;
                continue;
            };
            let name = name.text().unwrap_or_default();
            if prefix.is_empty() {
                let inner = PREFIXES.iter().find(|prefix| **prefix == name);
                let known_inner = inner.map(|prefix| (&mut **known, *prefix));
                let value = members.next_value_seed(Value { known: known_inner, depth })?;
                known.take(&name, value);
            } else {
                let value = members.next_value_seed(Value { known: None, depth })?;
                known.take(&format!("{prefix}.{name}"), value);
            }
        }
        Ok(Scalar::Other)
    }
}

fn deeper<E: serde::de::Error>(depth: usize) -> Result<usize, E> {
    if depth < DEPTH_MAX { Ok(depth + 1) } else { Err(E::custom("nested too deeply")) }
}
