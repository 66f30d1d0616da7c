//! An event as a span of a trace.
//!
//! What: of `sidelight/exchange/1` and `sidelight/span/1`, the fields that a tree shows (see docs/events.md). Other
//! schemas, and exchanges that were refused before they had a trace, are no spans. How it fails: an event without the ids
//! and the time that make it a span, or with a field of another type, is refused with the reason; fields that this version
//! does not know are passed over.

use super::moment;
use serde::Deserialize;
use serde_json::Value;

/// Microseconds in a millisecond.
const MICROS_A_MILLI: f64 = 1000.0;

/// The longest duration that is believed: a hundred years, in microseconds.
const DURATION_MAX: f64 = 3.2e15;

/// Which side of a call a span tells of (OpenTelemetry's span kinds).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A request that was served: an inbound exchange.
    Server,
    /// A request that was made: an outbound exchange, or one attempt of it.
    Client,
    /// Neither.
    #[default]
    Internal,
}

impl Kind {
    /// OpenTelemetry's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Server => "SERVER",
            Kind::Client => "CLIENT",
            Kind::Internal => "INTERNAL",
        }
    }
}

/// A span that may have been the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its trace; absent: this one.
    pub trace_id: Option<[u8; 16]>,
    /// The span.
    pub span_id: [u8; 8],
}

/// Who a request is for. Absent fields are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// `request_id`.
    pub request_id: String,
    /// `account_id`.
    pub account_id: String,
    /// `user_id`.
    pub user_id: String,
    /// `license`.
    pub license: String,
    /// `request_type`.
    pub request_type: String,
    /// `flags`, with commas between.
    pub flags: String,
}

impl Context {
    /// The fields with the words that name them.
    pub fn fields(&self) -> [(&'static str, &str); 6] {
        [
            ("request", &self.request_id),
            ("account", &self.account_id),
            ("user", &self.user_id),
            ("license", &self.license),
            ("type", &self.request_type),
            ("flags", &self.flags),
        ]
    }
}

/// How a child's clock contradicts its parent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// It began so many microseconds before its parent.
    Before(i64),
    /// It was received so many microseconds after the call that it answers had ended.
    After(i64),
}

/// An event's own id, by which a second copy of it is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub(super) struct EventId {
    instance: String,
    epoch: u64,
    sequence: u64,
}

/// A span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    pub(super) event: Option<EventId>,
    /// The file it is in, by its place among those given.
    pub file: usize,
    /// Its line there, from 1.
    pub line: u64,
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span itself.
    pub span_id: [u8; 8],
    /// The span that asked.
    pub parent_id: Option<[u8; 8]>,
    /// How that is known, where it was not said by the caller.
    pub parent_source: Option<String>,
    /// Candidates for a parent.
    pub links: Vec<Link>,
    /// When it began, in microseconds since 1970, by the clock of its machine.
    pub start: i64,
    /// How long it took, in microseconds.
    pub duration: Option<i64>,
    /// Which side it tells of.
    pub kind: Kind,
    /// `service.name`.
    pub service: String,
    /// `{method} {route}`, with the path where no route has a pattern; the name of a span that has one.
    pub name: String,
    /// `url.path`.
    pub path: String,
    /// The HTTP status.
    pub status: Option<u16>,
    /// The gRPC status, where it is not `OK`.
    pub grpc_status: Option<String>,
    /// `error.type`.
    pub error: Option<String>,
    /// `sidelight.cause`.
    pub cause: Option<String>,
    /// `sidelight.detail`.
    pub detail: Option<String>,
    /// Whether the answer ended after its head.
    pub is_cut: bool,
    /// `sidelight.cluster`.
    pub cluster: String,
    /// `sidelight.endpoint`, or the address of an attempt.
    pub endpoint: String,
    /// `sidelight.attempts`.
    pub attempts: u64,
    /// How many attempts were made before this one.
    pub resend: u64,
    /// The context; absent in the span of an attempt.
    pub context: Option<Context>,
    /// `sidelight.context.dropped`.
    pub context_dropped: u64,
}

impl Span {
    /// Whether something went wrong.
    pub fn is_error(&self) -> bool {
        self.cause.is_some() || self.error.is_some() || self.is_cut || self.status.is_some_and(|s| s >= 500)
    }

    /// When it ended.
    pub fn end(&self) -> i64 {
        self.start.saturating_add(self.duration.unwrap_or(0))
    }
}

/// The fields as they stand in the line.
#[derive(Deserialize)]
struct Line {
    id: Option<EventId>,
    timestamp: Option<String>,
    trace_id: Option<String>,
    span_id: Option<String>,
    parent_id: Option<String>,
    request_id: Option<String>,
    user_id: Option<String>,
    account_id: Option<String>,
    license: Option<String>,
    request_type: Option<String>,
    flags: Option<Vec<String>>,
    name: Option<String>,
    kind: Option<String>,
    duration_ms: Option<f64>,
    #[serde(rename = "service.name")]
    service: Option<String>,
    #[serde(rename = "http.request.method")]
    method: Option<String>,
    #[serde(rename = "http.request.method_original")]
    method_original: Option<String>,
    #[serde(rename = "http.request.resend_count")]
    resend: Option<u64>,
    #[serde(rename = "url.path")]
    path: Option<String>,
    #[serde(rename = "http.route")]
    route: Option<String>,
    #[serde(rename = "http.response.status_code")]
    status: Option<u16>,
    #[serde(rename = "rpc.response.status_code")]
    grpc_status: Option<String>,
    #[serde(rename = "error.type")]
    error: Option<String>,
    #[serde(rename = "server.address")]
    address: Option<String>,
    #[serde(rename = "server.port")]
    port: Option<u16>,
    #[serde(rename = "sidelight.direction")]
    direction: Option<String>,
    #[serde(rename = "sidelight.cluster")]
    cluster: Option<String>,
    #[serde(rename = "sidelight.endpoint")]
    endpoint: Option<String>,
    #[serde(rename = "sidelight.attempts")]
    attempts: Option<u64>,
    #[serde(rename = "sidelight.outcome")]
    outcome: Option<String>,
    #[serde(rename = "sidelight.cause")]
    cause: Option<String>,
    #[serde(rename = "sidelight.detail")]
    detail: Option<String>,
    #[serde(rename = "sidelight.parent.source")]
    parent_source: Option<String>,
    #[serde(rename = "sidelight.links")]
    links: Option<Value>,
    #[serde(rename = "sidelight.context.dropped")]
    context_dropped: Option<u64>,
    #[serde(rename = "sidelight.duration_ms")]
    own_duration_ms: Option<f64>,
}

/// Which schema a line has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Schema {
    Exchange,
    Span,
    Other,
}

fn schema(line: &[u8]) -> Result<Schema, serde_json::Error> {
    #[derive(Deserialize)]
    struct Head {
        schema: Option<String>,
    }
    let is = |text: &str| match text {
        super::super::encode::EXCHANGE => Schema::Exchange,
        "sidelight/span/1" => Schema::Span,
        _ => Schema::Other,
    };
    // Ours begin with it, which saves a look at the whole.
    if let Some(rest) = line.strip_prefix(br#"{"schema":""#)
        && let Some(end) = memchr::memchr(b'"', rest)
        && let Some(text) = rest.get(..end).and_then(|text| std::str::from_utf8(text).ok())
        && is(text) != Schema::Other
    {
        return Ok(is(text));
    }
    let head: Head = serde_json::from_slice(line)?;
    Ok(head.schema.as_deref().map_or(Schema::Other, is))
}

/// The span that a line tells of; `None` for an event that tells of none.
///
/// # Errors
/// What is wrong with the line.
pub(super) fn parse(line: &[u8]) -> Result<Option<Span>, String> {
    let no_json = |error: serde_json::Error| {
        // The text is one line, so what serde says of its number misleads.
        let text = error.to_string();
        format!("no event: {}", text.split(" at line 1").next().unwrap_or(&text))
    };
    let schema = schema(line).map_err(no_json)?;
    if schema == Schema::Other {
        return Ok(None);
    }
    let line: Line = serde_json::from_slice(line).map_err(no_json)?;
    match line.trace_id {
        None => Ok(None),
        Some(_) => line.span(schema == Schema::Exchange).map(Some),
    }
}

impl Line {
    fn span(self, is_exchange: bool) -> Result<Span, String> {
        let trace_id =
            self.trace_id.as_deref().and_then(hex).ok_or("no event: trace_id is not 32 hex digits")?;
        let span_id =
            self.span_id.as_deref().and_then(hex).ok_or("no event: span_id is not 16 hex digits")?;
        let parent_id = match self.parent_id.as_deref() {
            None => None,
            Some(text) => Some(hex(text).ok_or("no event: parent_id is not 16 hex digits")?),
        };
        let start = self.timestamp.as_deref().and_then(moment::parse);
        let start = start.ok_or("no event: timestamp is not a time of RFC 3339")?;
        let kind = match self.direction.as_deref().or(self.kind.as_deref()) {
            Some("inbound" | "SERVER" | "server") => Kind::Server,
            Some("outbound" | "CLIENT" | "client") => Kind::Client,
            _ => Kind::Internal,
        };
        let method =
            self.method.filter(|method| method != "_OTHER").or(self.method_original).unwrap_or_default();
        let path = self.path.unwrap_or_default();
        let name = self.name.filter(|_| !is_exchange).unwrap_or_else(|| {
            let place = self.route.as_deref().filter(|route| !route.is_empty()).unwrap_or(&path);
            format!("{method} {place}").trim().to_owned()
        });
        let context = Context {
            request_id: self.request_id.unwrap_or_default(),
            account_id: self.account_id.unwrap_or_default(),
            user_id: self.user_id.unwrap_or_default(),
            license: self.license.unwrap_or_default(),
            request_type: self.request_type.unwrap_or_default(),
            flags: self.flags.unwrap_or_default().join(","),
        };
        let duration = self.own_duration_ms.or(self.duration_ms);
        let address = match (self.address.unwrap_or_default(), self.port) {
            _ if is_exchange => String::new(), // what was asked for, not where it went
            (address, Some(port)) => format!("{address}:{port}"),
            (address, None) => address,
        };
        Ok(Span {
            event: self.id,
            file: 0,
            line: 0,
            trace_id,
            span_id,
            parent_id,
            parent_source: self.parent_source.filter(|source| !is_usual(source)),
            links: self.links.as_ref().map(links).unwrap_or_default(),
            start,
            duration: duration.map(|ms| (ms * MICROS_A_MILLI).clamp(0.0, DURATION_MAX).round() as i64),
            kind,
            service: self.service.unwrap_or_default(),
            name,
            path,
            status: self.status,
            grpc_status: self.grpc_status.filter(|status| status != "OK"),
            error: self.error,
            cause: self.cause,
            detail: self.detail,
            is_cut: self.outcome.as_deref() == Some("cut"),
            cluster: self.cluster.unwrap_or_default(),
            endpoint: self.endpoint.unwrap_or(address),
            attempts: self.attempts.unwrap_or(0),
            resend: self.resend.unwrap_or(0),
            context: (is_exchange || context != Context::default()).then_some(context),
            context_dropped: self.context_dropped.unwrap_or(0),
        })
    }
}

/// Whether a parent that is known in this way is nothing to speak of: the caller said it, or there is none to say.
fn is_usual(source: &str) -> bool {
    matches!(source, "header" | "traceparent" | "root")
}

/// Bytes from exactly as many hex digits.
pub(super) fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        for digit in pair {
            *byte = (*byte << 4) | char::from(*digit).to_digit(16)? as u8;
        }
    }
    Some(bytes)
}

/// Links as objects (`trace_id`, `span_id`) or as texts that hold both ids; what is neither is passed over.
fn links(list: &Value) -> Vec<Link> {
    let link = |value: &Value| {
        let (trace, span) = match value {
            Value::String(text) => {
                let mut ids = text.split(|c: char| !c.is_ascii_hexdigit());
                (ids.clone().find_map(hex), ids.find_map(hex))
            }
            other => {
                let id = |name| other.get(name).and_then(Value::as_str);
                (id("trace_id").and_then(hex), id("span_id").and_then(hex))
            }
        };
        span.map(|span_id| Link { trace_id: trace, span_id })
    };
    list.as_array().into_iter().flatten().filter_map(link).collect()
}
