//! What is recorded of one exchange.
//!
//! An entry is events, not a blob: heads with their fields in order, pieces of content with the time of each, trailers,
//! what a tunnel carried, and how it ended. So a replay can send the same bytes in the same rhythm, and what streams is not
//! taken for what was whole. gRPC messages and WebSocket frames are found in the pieces by [`super::messages`].

use super::wire::{self, Malformed, Value};
pub use crate::exchange::Side;
use crate::exchange::{Direction, Outcome};
use crate::svc::Version;
use bytes::Bytes;

/// One exchange as it was recorded. Texts are empty and numbers 0 where nothing was known.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The entry's number in its recording: 1, 2, 3 … in the order in which exchanges ended. A gap is a loss.
    pub sequence: u64,
    /// Which side of the application it was on.
    pub direction: Direction,
    /// The client's connection, a number that no other connection of this recording has.
    pub connection: u64,
    /// The how-manieth exchange on that connection, from 1.
    pub stream: u64,
    /// When the request's head was there: nanoseconds since 1970, by the monotonic clock of the process set to the wall
    /// clock once for each segment, so that differences are exact.
    pub started_ns: u64,
    /// Until the last byte was out, or it was given up.
    pub duration_ns: u64,
    /// Until the head of the upstream's answer was there; 0 without one.
    pub first_byte_ns: u64,
    /// The protocol that the client spoke.
    pub version: Version,
    /// Whether TLS protected it.
    pub is_tls: bool,
    /// The client's address, `host:port`.
    pub peer: String,
    /// The client's verified identity.
    pub identity: String,
    /// The trace; zeros without one.
    pub trace_id: [u8; 16],
    /// The span of this exchange.
    pub span_id: [u8; 8],
    /// The span that it was part of; zeros for a root.
    pub parent_id: [u8; 8],
    /// `x-request-id`.
    pub request_id: String,
    /// Who.
    pub user_id: String,
    /// Which customer.
    pub account_id: String,
    /// What they bought.
    pub license: String,
    /// `STANDARD` or `TRACE`; empty is `STANDARD`.
    pub request_type: String,
    /// Feature flags that were on, comma-separated.
    pub flags: String,
    /// The route that matched.
    pub route: String,
    /// The cluster that it was sent to.
    pub cluster: String,
    /// The endpoint that answered.
    pub endpoint: String,
    /// How often it was sent.
    pub attempts: u32,
    /// The status that the client got; 0 without one.
    pub status: u16,
    /// The status of a gRPC call.
    pub grpc_status: Option<u8>,
    /// What went wrong, as in events; empty if nothing did.
    pub cause: String,
    /// How it ended.
    pub outcome: Outcome,
    /// How many of a million such exchanges were sampled: 1,000,000 is all.
    pub sampled_millionths: u32,
    /// Why it was written though no rule asked for it: `error`, `slow` or `demand` (the flight recorder).
    pub kept_by: String,
    /// The request's content.
    pub request: Content,
    /// The answer's content.
    pub response: Content,
    /// How many values were redacted.
    pub redactions: u32,
    /// A number that the parts of this entry have, if it has any.
    pub token: u64,
    /// How many parts came before: their events are before these. Read them with `Recording::events`.
    pub parts: u32,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// Content as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// How long it was, whatever of it was recorded.
    pub bytes: u64,
    /// XXH3 (64 bits) of all of it, before redaction, seeded by the recording's key: equal content has equal sums within
    /// recordings of one key.
    pub hash: u64,
    /// Whether it is not all there: longer than the limit, or withheld. Such an exchange is never replayed as if whole.
    pub is_truncated: bool,
}

/// Something that happened during an exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Nanoseconds since [`Entry::started_ns`].
    pub at_ns: u64,
    /// What.
    pub what: What,
}

/// See [`Event`].
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The request's head.
    Request(RequestHead),
    /// A head of the answer; interim ones (1xx) come before the last.
    Response(ResponseHead),
    /// A piece of content, or of what a tunnel carried.
    Data(Side, Bytes),
    /// Trailers.
    Trailers(Side, Vec<Field>),
    /// One side said all that it had to say.
    End(Side),
    /// It was given up before its end; by whom, and the cause.
    Reset(Side, String),
}

/// The head of a request, as the client sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// The method.
    pub method: Bytes,
    /// `http` or `https`.
    pub scheme: Bytes,
    /// Host and port.
    pub authority: Bytes,
    /// Path and query.
    pub target: Bytes,
    /// What it wants to switch to (`websocket`); empty otherwise.
    pub upgrade: Bytes,
    /// Fields in their order, names as they came; without `host`.
    pub fields: Vec<Field>,
}

/// The head of an answer, as the client got it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status.
    pub status: u16,
    /// Fields in their order.
    pub fields: Vec<Field>,
}

/// A header or trailer field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// As it came.
    pub name: Bytes,
    /// As it came, or as it was redacted.
    pub value: Bytes,
}

impl Field {
    /// A field of this name and value.
    pub fn new(name: impl Into<Bytes>, value: impl Into<Bytes>) -> Field {
        Field { name: name.into(), value: value.into() }
    }

    /// Whether this is its name, in any case.
    pub fn is(&self, name: &[u8]) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// The first value of the field of this name.
pub fn field<'a>(fields: &'a [Field], name: &[u8]) -> Option<&'a [u8]> {
    fields.iter().find(|field| field.is(name)).map(|field| &*field.value)
}

impl Default for Entry {
    fn default() -> Self {
        Entry {
            sequence: 0,
            direction: Direction::Inbound,
            connection: 0,
            stream: 0,
            started_ns: 0,
            duration_ns: 0,
            first_byte_ns: 0,
            version: Version::Http11,
            is_tls: false,
            peer: String::new(),
            identity: String::new(),
            trace_id: [0; 16],
            span_id: [0; 8],
            parent_id: [0; 8],
            request_id: String::new(),
            user_id: String::new(),
            account_id: String::new(),
            license: String::new(),
            request_type: String::new(),
            flags: String::new(),
            route: String::new(),
            cluster: String::new(),
            endpoint: String::new(),
            attempts: 0,
            status: 0,
            grpc_status: None,
            cause: String::new(),
            outcome: Outcome::Complete,
            sampled_millionths: 1_000_000,
            kept_by: String::new(),
            request: Content::default(),
            response: Content::default(),
            redactions: 0,
            token: 0,
            parts: 0,
            events: Vec::new(),
        }
    }
}

impl Entry {
    /// The request's head, if it came that far.
    pub fn request_head(&self) -> Option<&RequestHead> {
        self.events.iter().find_map(|event| match &event.what {
            What::Request(head) => Some(head),
            _ => None,
        })
    }

    /// The head of the last answer, which is the one that counts.
    pub fn response_head(&self) -> Option<&ResponseHead> {
        self.events.iter().rev().find_map(|event| match &event.what {
            What::Response(head) => Some(head),
            _ => None,
        })
    }

    /// The recorded content of one side, put together. Parts that came before are not in it.
    pub fn body(&self, side: Side) -> Bytes {
        let mut pieces = self.events.iter().filter_map(|event| match &event.what {
            What::Data(of, bytes) if *of == side => Some(bytes),
            _ => None,
        });
        let Some(first) = pieces.next() else { return Bytes::new() };
        let Some(second) = pieces.next() else { return first.clone() };
        let mut body = [&**first, &**second].concat();
        pieces.for_each(|piece| body.extend_from_slice(piece));
        body.into()
    }

    /// The trailers of one side.
    pub fn trailers(&self, side: Side) -> &[Field] {
        let trailers = self.events.iter().find_map(|event| match &event.what {
            What::Trailers(of, fields) if *of == side => Some(&**fields),
            _ => None,
        });
        trailers.unwrap_or_default()
    }

    /// Whether both sides' content is there as it was, so that it can be replayed as a whole.
    pub fn is_whole(&self) -> bool {
        !self.request.is_truncated && !self.response.is_truncated
    }

    /// Whether it became a tunnel (WebSocket).
    pub fn is_tunnel(&self) -> bool {
        self.request_head().is_some_and(|head| !head.upgrade.is_empty())
            && self.response_head().is_some_and(|head| head.status == 101 || head.status == 200)
    }

    /// Whether the request is a gRPC call.
    pub fn is_grpc(&self) -> bool {
        self.request_head()
            .and_then(|head| field(&head.fields, b"content-type"))
            .is_some_and(|value| value.get(..16).is_some_and(|v| v.eq_ignore_ascii_case(b"application/grpc")))
    }
}

/// Numbers of the fields of an entry; see `docs/recording-format.md`.
pub(super) mod number {
    #![allow(missing_docs)] // the names are those of `Entry`
    pub const SEQUENCE: u32 = 1;
    pub const DIRECTION: u32 = 2;
    pub const CONNECTION: u32 = 3;
    pub const STREAM: u32 = 4;
    pub const STARTED: u32 = 5;
    pub const DURATION: u32 = 6;
    pub const FIRST_BYTE: u32 = 7;
    pub const VERSION: u32 = 8;
    pub const TLS: u32 = 9;
    pub const PEER: u32 = 10;
    pub const IDENTITY: u32 = 11;
    pub const TRACE_ID: u32 = 12;
    pub const SPAN_ID: u32 = 13;
    pub const PARENT_ID: u32 = 14;
    pub const REQUEST_ID: u32 = 15;
    pub const USER_ID: u32 = 16;
    pub const ACCOUNT_ID: u32 = 17;
    pub const LICENSE: u32 = 18;
    pub const REQUEST_TYPE: u32 = 19;
    pub const FLAGS: u32 = 20;
    pub const ROUTE: u32 = 21;
    pub const CLUSTER: u32 = 22;
    pub const ENDPOINT: u32 = 23;
    pub const ATTEMPTS: u32 = 24;
    pub const STATUS: u32 = 25;
    pub const GRPC_STATUS: u32 = 26;
    pub const CAUSE: u32 = 27;
    pub const OUTCOME: u32 = 28;
    pub const SAMPLED: u32 = 29;
    pub const KEPT_BY: u32 = 30;
    pub const REQUEST: u32 = 31;
    pub const RESPONSE: u32 = 32;
    pub const REDACTIONS: u32 = 33;
    pub const TOKEN: u32 = 34;
    pub const PARTS: u32 = 35;
    pub const EVENT: u32 = 36;
    pub const PEER_ADDRESS: u32 = 37;
    /// Of [`super::Content`].
    pub const CONTENT_BYTES: u32 = 1;
    pub const CONTENT_HASH: u32 = 2;
    pub const CONTENT_TRUNCATED: u32 = 3;
    /// Of [`super::Event`].
    pub const AT: u32 = 1;
    pub const KIND: u32 = 2;
    pub const SIDE: u32 = 3;
    pub const DATA: u32 = 4;
    pub const FIELD: u32 = 5;
    pub const METHOD: u32 = 6;
    pub const SCHEME: u32 = 7;
    pub const AUTHORITY: u32 = 8;
    pub const TARGET: u32 = 9;
    pub const UPGRADE: u32 = 10;
    pub const HEAD_STATUS: u32 = 11;
    pub const RESET_CAUSE: u32 = 12;
    /// Of [`super::Field`].
    pub const NAME: u32 = 1;
    pub const VALUE: u32 = 2;
    /// Values of [`KIND`].
    pub const KIND_REQUEST: u64 = 1;
    pub const KIND_RESPONSE: u64 = 2;
    pub const KIND_DATA: u64 = 3;
    pub const KIND_TRAILERS: u64 = 4;
    pub const KIND_END: u64 = 5;
    pub const KIND_RESET: u64 = 6;
}

use number as n;

fn text(value: Value<'_>) -> String {
    String::from_utf8_lossy(value.bytes()).into_owned()
}

/// An address and a port, packed.
fn address(packed: &[u8]) -> String {
    let Some((ip, port)) = packed.split_last_chunk::<2>() else { return String::new() };
    let ip: Option<std::net::IpAddr> = match ip.len() {
        4 => ip.first_chunk::<4>().map(|ip| (*ip).into()),
        16 => ip.first_chunk::<16>().map(|ip| (*ip).into()),
        _ => None,
    };
    ip.map_or_else(String::new, |ip| std::net::SocketAddr::new(ip, u16::from_be_bytes(*port)).to_string())
}

fn array<const N: usize>(value: Value<'_>) -> [u8; N] {
    value.bytes().try_into().unwrap_or([0; N])
}

fn version(code: u64) -> Version {
    match code {
        1 => Version::Http10,
        3 => Version::Http2,
        _ => Version::Http11,
    }
}

pub(super) fn version_code(version: Version) -> u64 {
    match version {
        Version::Http10 => 1,
        Version::Http11 => 2,
        Version::Http2 => 3,
    }
}

pub(super) fn outcome_code(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Complete => 0,
        Outcome::Cut => 1,
        Outcome::None => 2,
    }
}

impl Entry {
    /// Reads an entry. Its texts are copies; content and fields share `message`.
    pub fn decode(message: &Bytes) -> Result<Entry, Malformed> {
        let mut entry = Entry { sampled_millionths: 0, ..Entry::default() };
        for field in wire::Fields::new(message) {
            let (number, value) = field?;
            match number {
                n::SEQUENCE => entry.sequence = value.number(),
                n::DIRECTION if value.number() == 1 => entry.direction = Direction::Outbound,
                n::CONNECTION => entry.connection = value.number(),
                n::STREAM => entry.stream = value.number(),
                n::STARTED => entry.started_ns = value.number(),
                n::DURATION => entry.duration_ns = value.number(),
                n::FIRST_BYTE => entry.first_byte_ns = value.number(),
                n::VERSION => entry.version = version(value.number()),
                n::TLS => entry.is_tls = value.number() != 0,
                n::PEER => entry.peer = text(value),
                n::PEER_ADDRESS => entry.peer = address(value.bytes()),
                n::IDENTITY => entry.identity = text(value),
                n::TRACE_ID => entry.trace_id = array(value),
                n::SPAN_ID => entry.span_id = array(value),
                n::PARENT_ID => entry.parent_id = array(value),
                n::REQUEST_ID => entry.request_id = text(value),
                n::USER_ID => entry.user_id = text(value),
                n::ACCOUNT_ID => entry.account_id = text(value),
                n::LICENSE => entry.license = text(value),
                n::REQUEST_TYPE => entry.request_type = text(value),
                n::FLAGS => entry.flags = text(value),
                n::ROUTE => entry.route = text(value),
                n::CLUSTER => entry.cluster = text(value),
                n::ENDPOINT => entry.endpoint = text(value),
                n::ATTEMPTS => entry.attempts = value.number() as u32,
                n::STATUS => entry.status = value.number() as u16,
                n::GRPC_STATUS => {
                    entry.grpc_status = value.number().checked_sub(1).map(|status| status as u8)
                }
                n::CAUSE => entry.cause = text(value),
                n::OUTCOME => {
                    entry.outcome = match value.number() {
                        0 => Outcome::Complete,
                        1 => Outcome::Cut,
                        _ => Outcome::None,
                    }
                }
                n::SAMPLED => entry.sampled_millionths = value.number() as u32,
                n::KEPT_BY => entry.kept_by = text(value),
                n::REQUEST => entry.request = Content::decode(value.bytes())?,
                n::RESPONSE => entry.response = Content::decode(value.bytes())?,
                n::REDACTIONS => entry.redactions = value.number() as u32,
                n::TOKEN => entry.token = value.number(),
                n::PARTS => entry.parts = value.number() as u32,
                n::EVENT => entry.events.extend(Event::decode(message, value.bytes())?),
                _ => {}
            }
        }
        Ok(entry)
    }

    /// Appends the entry's message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_as(out, self.sequence);
    }

    /// As [`Entry::encode`], under another number.
    pub(super) fn encode_as(&self, out: &mut Vec<u8>, sequence: u64) {
        self.events.iter().for_each(|event| event.encode(out));
        wire::put_number(out, n::SEQUENCE, sequence);
        wire::put_number(out, n::DIRECTION, u64::from(self.direction == Direction::Outbound));
        wire::put_number(out, n::CONNECTION, self.connection);
        wire::put_number(out, n::STREAM, self.stream);
        wire::put_fixed(out, n::STARTED, self.started_ns);
        wire::put_number(out, n::DURATION, self.duration_ns);
        wire::put_number(out, n::FIRST_BYTE, self.first_byte_ns);
        wire::put_number(out, n::VERSION, version_code(self.version));
        wire::put_number(out, n::TLS, u64::from(self.is_tls));
        wire::put_bytes(out, n::PEER, self.peer.as_bytes());
        wire::put_bytes(out, n::IDENTITY, self.identity.as_bytes());
        let ids: [(u32, &[u8]); 3] =
            [(n::TRACE_ID, &self.trace_id), (n::SPAN_ID, &self.span_id), (n::PARENT_ID, &self.parent_id)];
        for (number, id) in ids {
            if id.iter().any(|byte| *byte != 0) {
                wire::put_bytes(out, number, id);
            }
        }
        let texts = [
            (n::REQUEST_ID, &self.request_id),
            (n::USER_ID, &self.user_id),
            (n::ACCOUNT_ID, &self.account_id),
            (n::LICENSE, &self.license),
            (n::REQUEST_TYPE, &self.request_type),
            (n::FLAGS, &self.flags),
            (n::ROUTE, &self.route),
            (n::CLUSTER, &self.cluster),
            (n::ENDPOINT, &self.endpoint),
            (n::CAUSE, &self.cause),
            (n::KEPT_BY, &self.kept_by),
        ];
        texts.iter().for_each(|(number, text)| wire::put_bytes(out, *number, text.as_bytes()));
        wire::put_number(out, n::ATTEMPTS, self.attempts.into());
        wire::put_number(out, n::STATUS, self.status.into());
        wire::put_number(out, n::GRPC_STATUS, self.grpc_status.map_or(0, |status| u64::from(status) + 1));
        wire::put_number(out, n::OUTCOME, outcome_code(self.outcome));
        wire::put_number(out, n::SAMPLED, self.sampled_millionths.into());
        self.request.encode(out, n::REQUEST);
        self.response.encode(out, n::RESPONSE);
        wire::put_number(out, n::REDACTIONS, self.redactions.into());
        wire::put_number(out, n::TOKEN, self.token);
        wire::put_number(out, n::PARTS, self.parts.into());
    }
}

impl Content {
    fn decode(message: &[u8]) -> Result<Content, Malformed> {
        let mut content = Content::default();
        for field in wire::Fields::new(message) {
            let (number, value) = field?;
            match number {
                n::CONTENT_BYTES => content.bytes = value.number(),
                n::CONTENT_HASH => content.hash = value.number(),
                n::CONTENT_TRUNCATED => content.is_truncated = value.number() != 0,
                _ => {}
            }
        }
        Ok(content)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>, number: u32) {
        if *self == Content::default() {
            return;
        }
        let start = wire::begin(out, number);
        wire::put_number(out, n::CONTENT_BYTES, self.bytes);
        wire::put_fixed(out, n::CONTENT_HASH, self.hash);
        wire::put_number(out, n::CONTENT_TRUNCATED, u64::from(self.is_truncated));
        wire::end(out, start);
    }
}

impl Event {
    /// Reads an event; `None`: of a kind that is not known. `message` holds its bytes.
    pub(super) fn decode(message: &Bytes, event: &[u8]) -> Result<Option<Event>, Malformed> {
        let shared = |value: Value<'_>| match value.bytes() {
            [] => Bytes::new(),
            bytes => message.slice_ref(bytes),
        };
        let (mut at_ns, mut kind, mut side) = (0, 0, Side::Request);
        let (mut data, mut cause, mut status) = (Bytes::new(), String::new(), 0);
        let mut head = RequestHead::default();
        for field in wire::Fields::new(event) {
            let (number, value) = field?;
            match number {
                n::AT => at_ns = value.number(),
                n::KIND => kind = value.number(),
                n::SIDE if value.number() == 1 => side = Side::Response,
                n::DATA => data = shared(value),
                n::FIELD => {
                    let mut field = Field::default();
                    for part in wire::Fields::new(value.bytes()) {
                        match part? {
                            (n::NAME, value) => field.name = shared(value),
                            (n::VALUE, value) => field.value = shared(value),
                            _ => {}
                        }
                    }
                    head.fields.push(field);
                }
                n::METHOD => head.method = shared(value),
                n::SCHEME => head.scheme = shared(value),
                n::AUTHORITY => head.authority = shared(value),
                n::TARGET => head.target = shared(value),
                n::UPGRADE => head.upgrade = shared(value),
                n::HEAD_STATUS => status = value.number() as u16,
                n::RESET_CAUSE => cause = text(value),
                _ => {}
            }
        }
        let what = match kind {
            n::KIND_REQUEST => What::Request(head),
            n::KIND_RESPONSE => What::Response(ResponseHead { status, fields: head.fields }),
            n::KIND_DATA => What::Data(side, data),
            n::KIND_TRAILERS => What::Trailers(side, head.fields),
            n::KIND_END => What::End(side),
            n::KIND_RESET => What::Reset(side, cause),
            _ => return Ok(None),
        };
        Ok(Some(Event { at_ns, what }))
    }

    /// Appends the event as a field of an entry.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = wire::begin(out, n::EVENT);
        wire::put_number(out, n::AT, self.at_ns);
        let kind = |out: &mut Vec<u8>, kind, side| {
            wire::put_number(out, n::KIND, kind);
            wire::put_number(out, n::SIDE, u64::from(side == Side::Response));
        };
        match &self.what {
            What::Request(head) => {
                kind(out, n::KIND_REQUEST, Side::Request);
                wire::put_bytes(out, n::METHOD, &head.method);
                wire::put_bytes(out, n::SCHEME, &head.scheme);
                wire::put_bytes(out, n::AUTHORITY, &head.authority);
                wire::put_bytes(out, n::TARGET, &head.target);
                wire::put_bytes(out, n::UPGRADE, &head.upgrade);
                head.fields.iter().for_each(|field| put_field(out, &field.name, &field.value));
            }
            What::Response(head) => {
                kind(out, n::KIND_RESPONSE, Side::Response);
                wire::put_number(out, n::HEAD_STATUS, head.status.into());
                head.fields.iter().for_each(|field| put_field(out, &field.name, &field.value));
            }
            What::Data(side, bytes) => {
                kind(out, n::KIND_DATA, *side);
                wire::put_bytes(out, n::DATA, bytes);
            }
            What::Trailers(side, fields) => {
                kind(out, n::KIND_TRAILERS, *side);
                fields.iter().for_each(|field| put_field(out, &field.name, &field.value));
            }
            What::End(side) => kind(out, n::KIND_END, *side),
            What::Reset(side, cause) => {
                kind(out, n::KIND_RESET, *side);
                wire::put_bytes(out, n::RESET_CAUSE, cause.as_bytes());
            }
        }
        wire::end(out, start);
    }
}

/// Appends a field to an event.
#[inline]
pub(super) fn put_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let start = wire::begin(out, n::FIELD);
    wire::put_bytes(out, n::NAME, name);
    wire::put_bytes(out, n::VALUE, value);
    wire::end(out, start);
}
