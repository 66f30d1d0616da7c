//! A HAR of entries.

use super::super::make;
use super::super::{Export, Notes, moment};
use super::{EXTENSION, MESSAGES, base64, context, websocket};
use crate::record::entry::field;
use crate::record::{Entry, Field, Side, What};
use crate::svc::Version;
use serde_json::{Map, Value, json};
use std::io::{self, Write};

/// Writes a HAR.
pub(in super::super) struct Writer<W> {
    out: W,
    is_first: bool,
    notes: Notes,
}

impl<W: Write> Writer<W> {
    pub fn new(mut out: W) -> io::Result<Writer<W>> {
        let creator = json!({ "name": "sidelight", "version": env!("CARGO_PKG_VERSION") });
        write!(out, "{{\"log\":{{\"version\":\"1.2\",\"creator\":{creator},\"pages\":[],\"entries\":[")?;
        Ok(Writer { out, is_first: true, notes: Notes::default() })
    }
}

impl<W: Write> Export for Writer<W> {
    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let Some(value) = har_entry(entry, &mut self.notes) else {
            self.notes.add("exchanges without a request's head are left out");
            return Ok(());
        };
        self.out.write_all(if self.is_first { b"\n" } else { b",\n" })?;
        self.is_first = false;
        serde_json::to_writer(&mut self.out, &value)?;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<Notes> {
        self.out.write_all(b"\n]}}\n")?;
        self.out.flush()?;
        Ok(self.notes)
    }
}

fn millis(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn http_version(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => "HTTP/2",
    }
}

fn headers(fields: &[Field], notes: &mut Notes) -> Vec<Value> {
    let mut one = |field: &Field| json!({ "name": make::text_of(&field.name, notes), "value": make::text_of(&field.value, notes) });
    fields.iter().map(&mut one).collect()
}

/// The pairs of `cookie` fields.
fn cookies(fields: &[Field]) -> Vec<Value> {
    let mut out = Vec::new();
    for field in fields.iter().filter(|field| field.is(b"cookie")) {
        for pair in String::from_utf8_lossy(&field.value).split(';') {
            if let Some((name, value)) = pair.trim().split_once('=') {
                out.push(json!({ "name": name, "value": value }));
            }
        }
    }
    out
}

/// What `set-cookie` fields set.
fn set_cookies(fields: &[Field]) -> Vec<Value> {
    let mut out = Vec::new();
    for field in fields.iter().filter(|field| field.is(b"set-cookie")) {
        let text = String::from_utf8_lossy(&field.value).into_owned();
        let mut parts = text.split(';');
        let Some((name, value)) = parts.next().and_then(|pair| pair.trim().split_once('=')) else { continue };
        let mut cookie = Map::new();
        cookie.insert("name".into(), name.into());
        cookie.insert("value".into(), value.into());
        for part in parts {
            let (name, value) = part.trim().split_once('=').unwrap_or((part.trim(), ""));
            match name.to_ascii_lowercase().as_str() {
                "path" => cookie.insert("path".into(), value.into()),
                "domain" => cookie.insert("domain".into(), value.into()),
                "httponly" => cookie.insert("httpOnly".into(), true.into()),
                "secure" => cookie.insert("secure".into(), true.into()),
                _ => None,
            };
        }
        out.push(cookie.into());
    }
    out
}

/// `%41` and `+` as they are meant; what is no UTF-8 then stays as it is.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let hex = text
            .get(at + 1..at + 3)
            .filter(|hex| *byte == b'%' && hex.bytes().all(|d| d.is_ascii_hexdigit()));
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(if *byte == b'+' { b' ' } else { *byte });
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// The parameters of a query or a form.
fn parameters(query: &str) -> Vec<Value> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            json!({ "name": decoded(name), "value": decoded(value) })
        })
        .collect()
}

/// Content as a text where it is one; else as Base64, and `true`.
fn text(body: &[u8]) -> (String, bool) {
    match std::str::from_utf8(body) {
        Ok(text) => (text.to_owned(), false),
        Err(_) => (base64::encode(body), true),
    }
}

fn mime(fields: &[Field]) -> String {
    field(fields, b"content-type")
        .map_or_else(String::new, |value| String::from_utf8_lossy(value).into_owned())
}

fn request(entry: &Entry, notes: &mut Notes) -> Option<Value> {
    let head = entry.request_head()?;
    let mut fields = headers(&head.fields, notes);
    fields.insert(0, json!({ "name": "host", "value": make::text_of(&head.authority, notes) }));
    let url = make::text_of(make::url(head).as_bytes(), notes);
    let query = url.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let mut request = json!({
        "method": make::text_of(&head.method, notes),
        "url": url,
        "httpVersion": http_version(entry.version),
        "cookies": cookies(&head.fields),
        "headers": fields,
        "queryString": parameters(query),
        "headersSize": -1,
        "bodySize": if entry.is_tunnel() { 0 } else { entry.request.bytes },
    });
    let body = if entry.is_tunnel() { Default::default() } else { entry.body(Side::Request) };
    if !body.is_empty() {
        let (text, is_base64) = text(&body);
        let mime = mime(&head.fields);
        let is_form = mime.starts_with("application/x-www-form-urlencoded") && !is_base64;
        let mut data = json!({
            "mimeType": mime,
            "params": if is_form { parameters(&text) } else { Vec::new() },
            "text": text,
        });
        if is_base64 {
            notes.add("HAR has no place for binary content of requests: it is Base64, and postData._encoding says so");
            insert(&mut data, "_encoding", "base64".into());
        }
        insert(&mut request, "postData", data);
    }
    Some(request)
}

fn insert(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(members) = object {
        members.insert(name.into(), value);
    }
}

fn response(entry: &Entry, notes: &mut Notes) -> Value {
    let empty = crate::record::ResponseHead::default();
    let head = entry.response_head().unwrap_or(&empty);
    let reason = http::StatusCode::from_u16(head.status).ok().and_then(|status| status.canonical_reason());
    let location = field(&head.fields, b"location").unwrap_or_default();
    let body = if entry.is_tunnel() { Default::default() } else { entry.body(Side::Response) };
    let bytes = if entry.is_tunnel() { 0 } else { entry.response.bytes };
    let mut content = json!({ "size": bytes, "mimeType": mime(&head.fields) });
    // The format lets it be left out, and readers fail without it.
    let (text, is_base64) = text(&body);
    insert(&mut content, "text", text.into());
    if is_base64 {
        insert(&mut content, "encoding", "base64".into());
    }
    let coding = field(&head.fields, b"content-encoding");
    if !body.is_empty() && coding.is_some_and(|value| !value.eq_ignore_ascii_case(b"identity")) {
        notes.add("content with a content-encoding is written as it was sent, not decoded");
    }
    let mut response = json!({
        "status": head.status,
        "statusText": reason.unwrap_or_default(),
        "httpVersion": http_version(entry.version),
        "cookies": set_cookies(&head.fields),
        "headers": headers(&head.fields, notes),
        "content": content,
        "redirectURL": make::text_of(location, notes),
        "headersSize": -1,
        "bodySize": bytes,
    });
    if entry.response_head().is_none() {
        insert(&mut response, "_error", entry.cause.clone().into());
    }
    response
}

fn har_entry(entry: &Entry, notes: &mut Notes) -> Option<Value> {
    let request = request(entry, notes)?;
    let has = |is: fn(&What) -> bool| entry.events.iter().any(|event| is(&event.what));
    notes.add_if(has(|what| matches!(what, What::Trailers(..))), "trailers are in _sidelight only");
    notes.add_if(
        has(|what| matches!(what, What::Reset(..))),
        "resets and cancellations are in _sidelight only",
    );
    notes.add_if(
        !entry.is_whole(),
        "truncated content is written as far as it was recorded; _sidelight says so",
    );
    let first_ns =
        if entry.first_byte_ns == 0 { entry.duration_ns } else { entry.first_byte_ns.min(entry.duration_ns) };
    let sent = entry.events.iter().find(|event| matches!(event.what, What::End(Side::Request)));
    let sent_ns = sent.map_or(0, |event| event.at_ns).min(first_ns);
    let mut out = json!({
        "startedDateTime": moment::text(entry.started_ns),
        "time": millis(entry.duration_ns),
        "request": request,
        "response": response(entry, notes),
        "cache": {},
        "timings": {
            "blocked": -1, "dns": -1, "connect": -1, "ssl": -1,
            "send": millis(sent_ns),
            "wait": millis(first_ns - sent_ns),
            "receive": millis(entry.duration_ns - first_ns),
        },
        "connection": entry.connection.to_string(),
    });
    // An address without its port, as the format has it.
    let is_address = entry.endpoint.parse::<std::net::IpAddr>().is_ok();
    let host =
        entry.endpoint.rsplit_once(':').filter(|_| !is_address).map_or(&*entry.endpoint, |(host, _)| host);
    if !host.is_empty() {
        insert(&mut out, "serverIPAddress", host.trim_matches(['[', ']']).into());
    }
    if entry.is_tunnel() {
        insert(&mut out, "_resourceType", "websocket".into());
        insert(&mut out, MESSAGES, websocket::write(entry, notes));
    }
    insert(&mut out, EXTENSION, context::write(entry));
    Some(out)
}
