//! An event as one of Zipkin's spans.

use crate::pipeline::event::{Text, Value, members};
use crate::pipeline::trace_view::moment;
use serde_json::Value as Json;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

/// What a span is made of.
#[derive(Default)]
struct Span<'a> {
    trace_id: Option<Text<'a>>,
    span_id: Option<Text<'a>>,
    parent_id: Option<Text<'a>>,
    name: Option<Text<'a>>,
    kind: Option<Text<'a>>,
    method: Option<Text<'a>>,
    route: Option<Text<'a>>,
    service: Option<Text<'a>>,
    cluster: Option<Text<'a>>,
    endpoint: Option<Text<'a>>,
    client: (Option<Text<'a>>, Option<i64>),
    server: (Option<Text<'a>>, Option<i64>),
    error: Option<Text<'a>>,
    is_outbound: bool,
    is_kept: bool,
    started_at: Option<i64>,
    duration_ms: Option<f64>,
}

/// Appends the span of an event. Returns `false` if it has none, or its trace is not recorded; `out` has a piece of it then.
pub(super) fn write(out: &mut Vec<u8>, event: &[u8], service: &str) -> bool {
    let mut span = Span::default();
    let mut is_span = false;
    let mut tags = Tags::default();
    for (name, value) in members(event) {
        if name.raw() == b"schema" {
            is_span = matches!(value, Value::Text(schema)
                if matches!(schema.raw(), b"sidelight/exchange/1" | b"sidelight/span/1" | b"sidelight/app_span/1"));
            if !is_span {
                return false;
            }
        } else if !span.take(name, value) {
            tags.add(name, value);
        }
    }
    let ids = span.trace_id.filter(|id| is_id(*id, 32)).zip(span.span_id.filter(|id| is_id(*id, 16)));
    match ids {
        Some(ids) if is_span && span.is_kept => {
            span.put(out, ids, &tags, service);
            true
        }
        _ => false,
    }
}

impl<'a> Span<'a> {
    /// Keeps a member; `false`: it is a tag, and nothing else.
    fn take(&mut self, name: Text<'a>, value: Value<'a>) -> bool {
        let text = value.text();
        let int = match value {
            Value::Int(number) => Some(number),
            _ => None,
        };
        match name.raw() {
            b"trace_id" => self.trace_id = text,
            b"span_id" => self.span_id = text,
            b"parent_id" => self.parent_id = text.filter(|id| is_id(*id, 16)),
            b"sampled" => self.is_kept |= value == Value::Bool(true),
            b"timestamp" => self.started_at = text.and_then(|text| moment::parse(&text.get())),
            b"sidelight.duration_ms" | b"duration_ms" => self.duration_ms = value.number(),
            b"name" => self.name = text,
            b"kind" => self.kind = text,
            b"service.name" => self.service = text,
            b"id" => {}
            other => {
                match other {
                    b"sidelight.kept.by" => self.is_kept = true,
                    b"sidelight.direction" => {
                        self.is_outbound = text.is_some_and(|text| text.raw() == b"outbound")
                    }
                    b"http.request.method" => self.method = text,
                    b"http.route" => self.route = text,
                    b"sidelight.cluster" => self.cluster = text,
                    b"sidelight.endpoint" => self.endpoint = text,
                    b"client.address" => self.client.0 = text,
                    b"client.port" => self.client.1 = int,
                    b"server.address" => self.server.0 = text,
                    b"server.port" => self.server.1 = int,
                    b"error.type" => self.error = text,
                    _ => {}
                }
                return false;
            }
        }
        true
    }

    fn kind(&self) -> Option<&'static str> {
        let Some(kind) = self.kind else {
            return Some(if self.is_outbound { "CLIENT" } else { "SERVER" });
        };
        ["CLIENT", "SERVER", "PRODUCER", "CONSUMER"]
            .into_iter()
            .find(|known| kind.raw().eq_ignore_ascii_case(known.as_bytes()))
    }

    /// Writing into memory does not fail.
    fn put(
        &self,
        out: &mut Vec<u8>,
        (trace_id, span_id): (Text<'_>, Text<'_>),
        tags: &Tags<'_>,
        service: &str,
    ) {
        out.extend_from_slice(br#"{"traceId":""#);
        out.extend_from_slice(trace_id.raw());
        out.extend_from_slice(br#"","id":""#);
        out.extend_from_slice(span_id.raw());
        out.push(b'"');
        if let Some(parent) = self.parent_id {
            out.extend_from_slice(br#","parentId":""#);
            out.extend_from_slice(parent.raw());
            out.push(b'"');
        }
        let kind = self.kind();
        if let Some(kind) = kind {
            let _ = write!(out, r#","kind":"{kind}""#);
        }
        out.extend_from_slice(br#","name":""#);
        match (self.name, self.method, self.route) {
            (Some(name), _, _) => out.extend_from_slice(name.raw()),
            (None, method, route) => {
                // OpenTelemetry's rule: `{method} {route}`, `HTTP` for a method that is not known.
                let method = method.map_or(b"HTTP".as_slice(), Text::raw);
                out.extend_from_slice(if method == b"_OTHER" { b"HTTP" } else { method });
                if let Some(route) = route {
                    out.push(b' ');
                    out.extend_from_slice(route.raw());
                }
            }
        }
        out.push(b'"');
        if let Some(micros) = self.started_at {
            let _ = write!(out, r#","timestamp":{micros}"#);
        }
        if let Some(millis) = self.duration_ms {
            // Zipkin takes 0 for a duration that is not known.
            let micros = (millis * 1000.0).round().max(1.0);
            let _ = write!(out, r#","duration":{}"#, micros as u64);
        }
        out.extend_from_slice(br#","localEndpoint":{"serviceName":"#);
        match self.service {
            Some(name) => quoted(out, name),
            None => out.extend_from_slice(Json::from(service).to_string().as_bytes()),
        }
        out.push(b'}');
        self.put_remote(out, kind);
        out.extend_from_slice(br#","shared":false,"tags":{"#);
        out.extend_from_slice(&tags.json);
        // Zipkin's own tag: whatever its value, the span failed.
        if let Some(error) = self.error.filter(|_| !tags.names.contains(&b"error".as_slice())) {
            out.extend_from_slice(br#","error":"#);
            quoted(out, error);
        }
        out.extend_from_slice(b"}}");
    }

    /// The other side: the peer that asked, or the endpoint that was asked.
    fn put_remote(&self, out: &mut Vec<u8>, kind: Option<&str>) {
        let is_client = kind == Some("CLIENT");
        let (name, (host, port)) = match self.endpoint.filter(|_| is_client) {
            Some(endpoint) => (self.cluster, host_and_port(&endpoint.get())),
            None => {
                let (host, port) = if is_client { self.server } else { self.client };
                let address = host.and_then(|host| host.get().parse::<IpAddr>().ok());
                (self.cluster.filter(|_| is_client), (address, port))
            }
        };
        if name.is_none() && host.is_none() {
            return;
        }
        let mut between = "";
        out.extend_from_slice(br#","remoteEndpoint":{"#);
        if let Some(name) = name {
            out.extend_from_slice(br#""serviceName":"#);
            quoted(out, name);
            between = ",";
        }
        if let Some(address) = host {
            let form = if address.is_ipv4() { "ipv4" } else { "ipv6" };
            let _ = write!(out, r#"{between}"{form}":"{address}""#);
            if let Some(port) = port.filter(|port| (1..=65_535).contains(port)) {
                let _ = write!(out, r#","port":{port}"#);
            }
        }
        out.push(b'}');
    }
}

/// Tags as they are written; each name once, or Zipkin has none of the batch.
#[derive(Default)]
struct Tags<'a> {
    json: Vec<u8>,
    names: Vec<&'a [u8]>,
}

impl<'a> Tags<'a> {
    /// Adds a tag: a text, whatever the value is.
    fn add(&mut self, name: Text<'a>, value: Value<'a>) {
        // What the application wrote about its span stands in an object of its own.
        if let (b"attributes", Value::Object(attributes)) = (name.raw(), value) {
            members(attributes).for_each(|(name, value)| self.add_plain(name, value));
        } else {
            self.add_plain(name, value);
        }
    }

    fn add_plain(&mut self, name: Text<'a>, value: Value<'a>) {
        if self.names.contains(&name.raw()) {
            return;
        }
        self.names.push(name.raw());
        let json = &mut self.json;
        if !json.is_empty() {
            json.push(b',');
        }
        quoted(json, name);
        json.push(b':');
        // Writing into memory does not fail.
        let _ = match value {
            Value::Text(text) => {
                quoted(json, text);
                Ok(())
            }
            Value::Int(number) => write!(json, "\"{number}\""),
            Value::Double(number) => write!(json, "\"{number}\""),
            Value::Bool(flag) => write!(json, "\"{flag}\""),
            Value::Null => write!(json, "\"\""),
            Value::Array(raw) | Value::Object(raw) => {
                write!(json, "{}", Json::from(String::from_utf8_lossy(raw)))
            }
        };
    }
}

/// A text as it stands, with its quotes.
fn quoted(out: &mut Vec<u8>, text: Text<'_>) {
    out.push(b'"');
    out.extend_from_slice(text.raw());
    out.push(b'"');
}

/// An id, or half of one, in hex digits.
fn is_id(id: Text<'_>, digits: usize) -> bool {
    id.raw().len() == digits && id.raw().iter().all(u8::is_ascii_hexdigit)
}

fn host_and_port(endpoint: &str) -> (Option<IpAddr>, Option<i64>) {
    let address = endpoint.parse::<SocketAddr>().ok();
    (address.map(|address| address.ip()), address.map(|address| address.port().into()))
}
