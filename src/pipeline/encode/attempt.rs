//! A further attempt at an exchange as a span of its own (`sidelight/span/1`).

use super::{Encoder, address::host_and_port, json, keys, millis, number, text, word};
use crate::context::ids::{span_id_hex, trace_id_hex};
use crate::exchange::{Record, Resend};
use crate::pipeline::metrics::block::{METHOD_OTHER, method_class};

/// The schema of such an event.
pub const SPAN: &str = "sidelight/span/1";

impl Encoder {
    /// Appends the event of one of the record's further attempts, without a line end.
    pub fn resend(&mut self, sequence: u64, record: &Record, resend: &Resend, out: &mut Vec<u8>) {
        self.head(sequence, SPAN, record.started_at + resend.started, out);
        out.extend_from_slice(br#","trace_id":""#);
        out.extend_from_slice(&trace_id_hex(&record.trace.trace_id));
        out.extend_from_slice(br#"","span_id":""#);
        out.extend_from_slice(&span_id_hex(&resend.span_id));
        out.extend_from_slice(br#"","parent_id":""#);
        out.extend_from_slice(&span_id_hex(&record.trace.parent_id));
        out.extend_from_slice(match record.trace.is_sampled() {
            true => br#"","sampled":true,"kind":"client","name":""#.as_slice(),
            false => br#"","sampled":false,"kind":"client","name":""#,
        });
        let method = record.text(record.method);
        let is_known = method_class(method) != METHOD_OTHER;
        // Semantic conventions for HTTP spans: `{method} {route}`, `HTTP` for a method that is not known.
        json::text(out, if is_known { method } else { b"HTTP" });
        if let Some(pattern) = &record.pattern {
            out.push(b' ');
            json::text(out, pattern.as_bytes());
        }
        out.push(b'"');
        out.extend_from_slice(&self.service);
        word(out, keys::METHOD, if is_known { str::from_utf8(method).unwrap_or("_OTHER") } else { "_OTHER" });
        number(out, br#","http.request.resend_count":"#, u64::from(resend.count));
        if let Some(endpoint) = &resend.endpoint {
            let (host, port) = host_and_port(endpoint.as_bytes());
            text(out, keys::SERVER_ADDRESS, host);
            if let Some(port) = port {
                number(out, keys::SERVER_PORT, u64::from(port));
            }
        }
        if let Some(status) = resend.status {
            number(out, keys::STATUS, u64::from(status));
        }
        match (resend.cause, resend.status) {
            (Some(kind), _) => word(out, keys::ERROR_TYPE, kind.cause()),
            (None, Some(status)) if status >= 400 => {
                number(out, keys::ERROR_TYPE, u64::from(status));
                out.push(b'"');
            }
            // It was given up: the other one had answered, or nobody waited any longer.
            (None, None) => {
                word(out, keys::ERROR_TYPE, record.cause.map_or("cancelled", |kind| kind.cause()))
            }
            _ => {}
        }
        if resend.is_hedge {
            out.extend_from_slice(br#","sidelight.hedge":true"#);
        }
        let rest = record.duration.saturating_sub(resend.started);
        millis(out, br#","duration_ms":"#, resend.duration.unwrap_or(rest));
        out.push(b'}');
    }
}
