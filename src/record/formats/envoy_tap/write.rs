//! Buffered traces of entries.

use super::super::Export;
use super::{Coding, Notes, base64, moment};
use crate::record::{Entry, Field, Side, What, wire};
use bytes::Bytes;
use serde_json::{Value, json};
use std::io::{self, Write};

/// Writes traces.
pub(in super::super) struct Writer<W> {
    out: W,
    coding: Coding,
    notes: Notes,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W, coding: Coding) -> Writer<W> {
        Writer { out, coding, notes: Notes::default() }
    }
}

/// A message of a trace, before it is written.
struct Message<'a> {
    headers: Vec<Field>,
    body: Bytes,
    is_truncated: bool,
    trailers: &'a [Field],
    received_ns: u64,
}

fn request(entry: &Entry) -> Option<Message<'_>> {
    let head = entry.request_head()?;
    let pseudo: [(&'static str, &Bytes); 4] = [
        (":method", &head.method),
        (":scheme", &head.scheme),
        (":authority", &head.authority),
        (":path", &head.target),
    ];
    let headers = pseudo.into_iter().map(|(name, value)| Field::new(name, value.clone()));
    Some(Message {
        headers: headers.chain(head.fields.iter().cloned()).collect(),
        body: entry.body(Side::Request),
        is_truncated: entry.request.is_truncated,
        trailers: entry.trailers(Side::Request),
        received_ns: entry.started_ns,
    })
}

fn response(entry: &Entry) -> Option<Message<'_>> {
    let head = entry.response_head()?;
    let status = Field::new(":status", head.status.to_string());
    Some(Message {
        headers: std::iter::once(status).chain(head.fields.iter().cloned()).collect(),
        body: entry.body(Side::Response),
        is_truncated: entry.response.is_truncated,
        trailers: entry.trailers(Side::Response),
        received_ns: entry.started_ns.saturating_add(entry.first_byte_ns),
    })
}

fn json_fields(fields: &[Field]) -> Value {
    let one = |field: &Field| {
        let name = String::from_utf8_lossy(&field.name);
        match std::str::from_utf8(&field.value) {
            Ok(value) => json!({ "key": name, "value": value }),
            Err(_) => json!({ "key": name, "raw_value": base64::encode(&field.value) }),
        }
    };
    fields.iter().map(one).collect()
}

fn json_message(message: &Message<'_>) -> Value {
    json!({
        "headers": json_fields(&message.headers),
        "body": { "as_bytes": base64::encode(&message.body), "truncated": message.is_truncated },
        "trailers": json_fields(message.trailers),
        "headers_received_time": moment::text(message.received_ns),
    })
}

fn put_field(out: &mut Vec<u8>, number: u32, field: &Field) {
    let start = wire::begin(out, number);
    wire::put_bytes(out, 1, &field.name);
    // `value` is a text; bytes have a field of their own.
    let is_text = std::str::from_utf8(&field.value).is_ok();
    wire::put_bytes(out, if is_text { 2 } else { 3 }, &field.value);
    wire::end(out, start);
}

fn put_message(out: &mut Vec<u8>, number: u32, message: &Message<'_>) {
    let start = wire::begin(out, number);
    message.headers.iter().for_each(|field| put_field(out, 1, field));
    let body = wire::begin(out, 2);
    wire::put_bytes(out, 1, &message.body);
    wire::put_number(out, 3, message.is_truncated.into());
    wire::end(out, body);
    message.trailers.iter().for_each(|field| put_field(out, 3, field));
    let time = wire::begin(out, 4);
    wire::put_number(out, 1, message.received_ns / 1_000_000_000);
    wire::put_number(out, 2, message.received_ns % 1_000_000_000);
    wire::end(out, time);
    wire::end(out, start);
}

impl<W: Write> Export for Writer<W> {
    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let Some(request) = request(entry) else {
            self.notes.add("exchanges without a request's head are left out");
            return Ok(());
        };
        let has = |is: fn(&What) -> bool| entry.events.iter().any(|event| is(&event.what));
        self.notes
            .add_if(has(|what| matches!(what, What::Reset(..))), "resets and cancellations are left out");
        self.notes.add_if(entry.is_tunnel(), "WebSockets: frames are the bodies of the handshake");
        self.notes.add("context, connections and the end's time are left out; pieces are put together");
        let response = response(entry);
        match self.coding {
            Coding::Json => {
                let mut trace = json!({ "request": json_message(&request) });
                if let (Some(response), Value::Object(members)) = (response, &mut trace) {
                    members.insert("response".into(), json_message(&response));
                }
                writeln!(self.out, "{}", json!({ "http_buffered_trace": trace }))
            }
            Coding::Proto => {
                let mut trace = Vec::new();
                put_message(&mut trace, 1, &request);
                if let Some(response) = response {
                    put_message(&mut trace, 2, &response);
                }
                let mut wrapper = Vec::new();
                wire::put_bytes(&mut wrapper, 1, &trace);
                let mut len = Vec::new();
                wire::put_varint(&mut len, wrapper.len() as u64);
                self.out.write_all(&len)?;
                self.out.write_all(&wrapper)
            }
        }
    }

    fn finish(mut self: Box<Self>) -> io::Result<Notes> {
        self.out.flush()?;
        Ok(self.notes)
    }
}
