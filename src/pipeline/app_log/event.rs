//! A line, as the members of its event.

use super::context::Context;
use super::line::Parsed;
use super::severity::DEBUG_END;
use super::stats::Stream;
use crate::context::ids::{span_id_hex, trace_id_hex};
use crate::context::{Field, fields};
use crate::pipeline::encode::{json, rfc3339};
use crate::pipeline::spool::Class;
use std::io::Write;
use std::time::SystemTime;

/// What is said of a line beside what is in it.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Where it was written.
    pub stream: Stream,
    /// When it was read.
    pub observed: SystemTime,
    /// The exchange that it belongs to.
    pub context: Option<&'a Context>,
}

impl Parsed<'_> {
    /// How much it matters: what is below INFO goes first.
    pub fn class(&self) -> Class {
        if self.severity.is_some_and(|number| number < DEBUG_END) { Class::Debug } else { Class::Event }
    }

    /// The event's own members as one JSON object. The first is always `timestamp`: the line's own time, or without one when
    /// it was read.
    pub fn event(&self, told: &Told<'_>) -> Vec<u8> {
        let sizes = self.body.as_ref().map_or(0, |body| body.len()) + self.attributes.map_or(0, str::len);
        let mut out = Vec::with_capacity(512 + sizes + sizes / 8);
        out.extend_from_slice(b"{\"timestamp\":\"");
        let observed = rfc3339(told.observed);
        match self.timestamp {
            Some(at) => out.extend_from_slice(rfc3339(at).as_bytes()),
            None => out.extend_from_slice(observed.as_bytes()),
        }
        out.extend_from_slice(b"\",\"observed_timestamp\":\"");
        out.extend_from_slice(observed.as_bytes());
        out.push(b'"');
        self.write_context(told.context, &mut out);
        if let Some(text) = &self.severity_text {
            member(&mut out, "severity_text", text.as_bytes());
        }
        // Writing into memory does not fail, here and below.
        if let Some(number) = self.severity {
            let _ = write!(out, ",\"severity_number\":{number}");
        }
        if let Some(body) = &self.body {
            member(&mut out, "body", body.as_bytes());
        }
        member(&mut out, "log.iostream", told.stream.as_str().as_bytes());
        if let Some(encoding) = self.encoding {
            member(&mut out, "sidelight.encoding", encoding.as_bytes());
        }
        if self.truncated_bytes > 0 {
            let _ = write!(out, ",\"sidelight.truncated_bytes\":{}", self.truncated_bytes);
        }
        if let Some(attributes) = self.attributes {
            out.extend_from_slice(b",\"attributes\":");
            json::raw(&mut out, attributes);
        }
        out.push(b'}');
        out
    }

    /// Ids that the line brought stand as it brought them; all else is the exchange's.
    fn write_context(&self, context: Option<&Context>, out: &mut Vec<u8>) {
        let trace_id = self.ids.trace_id.or(context.and_then(|context| context.trace_id));
        if let Some(trace_id) = trace_id {
            member(out, "trace_id", &trace_id_hex(&trace_id));
        }
        let own = context.filter(|context| context.trace_id == trace_id);
        if let Some(span_id) = self.ids.span_id.or(own.and_then(|context| context.span_id)) {
            member(out, "span_id", &span_id_hex(&span_id));
        }
        let request_id = self.ids.request_id.as_ref().map(|id| id.as_bytes());
        let text = |field| context.map_or(&[][..], |context| context.text(field));
        for field in Field::ALL {
            let value = match field {
                Field::RequestId => request_id.unwrap_or_else(|| text(field)),
                field => text(field),
            };
            match field {
                _ if value.is_empty() => {}
                Field::Flags => write_flags(out, value),
                field => member(out, field.name(), value),
            }
        }
    }
}

fn member(out: &mut Vec<u8>, name: &str, text: &[u8]) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    json::quoted(out, text);
}

fn write_flags(out: &mut Vec<u8>, list: &[u8]) {
    let mut between = b",\"flags\":[".as_slice();
    for flag in fields::flags(list) {
        out.extend_from_slice(between);
        json::quoted(out, flag);
        between = b",";
    }
    if between.len() == 1 {
        out.push(b']');
    }
}
