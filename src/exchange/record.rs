//! The record of an exchange: everything that any consumer derives something from, in one object with one owner.
//!
//! Its ancestors are Envoy's StreamInfo and ztunnel's ConnectionResult. It is plain data, so that it can be moved to
//! the pipeline's thread and be encoded there; texts lie in one buffer of its own and are named by [`Text`].

use super::in_flight::Place;
use crate::cluster::clock_ns;
use crate::context::formats::Format;
use crate::context::sampling::{Ended, Keep, KeptBy, SampledBy};
use crate::context::{RequestType, TraceParent};
use crate::error::Kind;
use crate::svc::fields::Span;
use crate::svc::{Known, RequestHead, Version};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Which side of the application an exchange is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the application.
    Inbound,
    /// From the application.
    Outbound,
}

impl Direction {
    /// `inbound` or `outbound`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        }
    }
}

/// How far an exchange came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// The request's head was not complete.
    #[default]
    Head,
    /// Being routed, balanced, connected; waiting for the answer.
    Request,
    /// The answer's head was sent to the client.
    Response,
    /// Everything was sent.
    Done,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The answer was complete, whatever its status.
    Complete,
    /// The answer was cut after its head.
    Cut,
    /// No answer was given.
    None,
}

/// How the parent of an exchange was found. Only outbound exchanges have the methods from [`ParentSource::RequestId`] on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ParentSource {
    /// There is none: a new trace.
    #[default]
    Root,
    /// The request's own `traceparent`.
    Header,
    /// The request's own header in another format.
    Format(Format),
    /// It has the request id of one inbound exchange under way.
    RequestId,
    /// It has the field, configured to be echoed, of one inbound exchange under way.
    Echo,
    /// Only one inbound exchange is under way.
    Sole,
    /// Inbound exchanges are under way, and which one it serves is not known: a new trace, with links to those.
    Lost,
}

impl ParentSource {
    /// The stable name in events, metrics and the graph.
    pub const fn as_str(self) -> &'static str {
        match self {
            ParentSource::Root => "root",
            ParentSource::Header => "header",
            ParentSource::Format(format) => format.name(),
            ParentSource::RequestId => "request_id",
            ParentSource::Echo => "echo",
            ParentSource::Sole => "sole",
            ParentSource::Lost => "lost",
        }
    }
}

/// Room for the texts of a usual request: method, host, path, and the context fields.
const TEXT_BYTES: usize = 512;

/// Where a text lies in [`Record::text`].
pub type Text = Span;

/// What became of the recording of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is on its way to the recording.
    Kept,
    /// It was wanted, and there was no room.
    Dropped,
}

/// All that is known of an exchange.
#[derive(Debug)]
pub struct Record {
    /// Inbound or outbound.
    pub direction: Direction,
    /// When its first byte was seen.
    pub started: Instant,
    /// The same moment on the wall clock.
    pub started_at: SystemTime,
    /// How long it took, to the last byte of the answer.
    pub duration: Duration,
    /// The texts that the spans below point into.
    pub text: Vec<u8>,

    /// The trace that it belongs to: our own span is `parent_id` of this.
    pub trace: TraceParent,
    /// The span that called us.
    pub parent_id: Option<[u8; 8]>,
    /// How the parent was found.
    pub parent_source: ParentSource,
    /// Who decided whether the trace is recorded; `None` where nobody was asked.
    pub sampled_by: Option<SampledBy>,
    /// What is kept of a trace that is not recorded; asked when the exchange ends.
    pub keep: Option<Keep>,
    /// Why it is kept though its trace is not recorded.
    pub kept_by: Option<KeptBy>,
    /// Its place among the inbound exchanges under way.
    pub place: Option<Place>,
    /// The request id.
    pub request_id: Text,
    /// The user.
    pub user_id: Text,
    /// The account.
    pub account_id: Text,
    /// The license.
    pub license: Text,
    /// STANDARD or TRACE.
    pub request_type: RequestType,
    /// The feature flags, comma-separated.
    pub flags: Text,
    /// Context fields that were refused (malformed, or from a peer that is not trusted).
    pub context_dropped: u32,
    /// Context fields whose two carriers disagreed.
    pub context_disagreed: u32,

    /// The method.
    pub method: Text,
    /// Host and port, as asked.
    pub authority: Text,
    /// The path, as asked; the query is not recorded.
    pub path: Text,
    /// The client's protocol version.
    pub version: Version,
    /// Whether the client's connection is TLS.
    pub is_tls: bool,
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// The client's verified identity.
    pub identity: Option<Arc<str>>,
    /// Whether the request speaks gRPC.
    pub is_grpc: bool,

    /// The route.
    pub route: Option<Arc<str>>,
    /// The path pattern of the route.
    pub pattern: Option<Arc<str>>,
    /// The cluster.
    pub cluster: Option<Arc<str>>,
    /// The endpoint of the last attempt, as configured.
    pub endpoint: Option<Arc<str>>,
    /// Its zone.
    pub endpoint_zone: Option<Arc<str>>,
    /// The version that the upstream spoke.
    pub upstream_version: Option<Version>,
    /// How many attempts were made.
    pub attempts: u32,
    /// What is said of the route when none matched: the nearest names.
    pub hint: String,

    /// The status that the client was given; 0 without an answer.
    pub status: u16,
    /// `grpc-status`, from the head or the trailers.
    pub grpc_status: Option<u8>,
    /// Content bytes from the client.
    pub request_bytes: u64,
    /// Content bytes to the client.
    pub response_bytes: u64,
    /// How far it came.
    pub phase: Phase,
    /// What went wrong, if something did.
    pub cause: Option<Kind>,
    /// The detail of it.
    pub detail: String,

    /// From the start to the first attempt's pick of a connection.
    pub queue: Option<Duration>,
    /// How long connecting took, TLS included; `None` on a pooled connection.
    pub connect: Option<Duration>,
    /// From the start to the head of the upstream's answer.
    pub upstream_first_byte: Option<Duration>,
    /// Whether it became a tunnel (upgrade).
    pub is_tunnel: bool,
    /// Whether it is a connection that was carried as bytes, not an exchange of HTTP.
    pub is_opaque: bool,
    /// The configuration that it was served by.
    pub revision: Option<Arc<str>>,
    /// What became of its recording; `None`: nothing was to be recorded.
    pub recorded: Option<Recorded>,
    /// What is noted only now and then.
    pub notes: Option<Box<super::Notes>>,
}

impl Record {
    /// An empty record. Records are recycled; see [`Record::reset`].
    pub fn new() -> Record {
        Record::with_text(Vec::with_capacity(TEXT_BYTES))
    }

    fn with_text(text: Vec<u8>) -> Record {
        Record {
            direction: Direction::Inbound,
            started: Instant::now(),
            started_at: SystemTime::UNIX_EPOCH,
            duration: Duration::ZERO,
            text,
            trace: TraceParent { version: 0, trace_id: [0; 16], parent_id: [0; 8], flags: 0 },
            parent_id: None,
            parent_source: ParentSource::Root,
            sampled_by: None,
            keep: None,
            kept_by: None,
            place: None,
            request_id: Text::default(),
            user_id: Text::default(),
            account_id: Text::default(),
            license: Text::default(),
            request_type: RequestType::default(),
            flags: Text::default(),
            context_dropped: 0,
            context_disagreed: 0,
            method: Text::default(),
            authority: Text::default(),
            path: Text::default(),
            version: Version::Http11,
            is_tls: false,
            peer: None,
            identity: None,
            is_grpc: false,
            route: None,
            pattern: None,
            cluster: None,
            endpoint: None,
            endpoint_zone: None,
            upstream_version: None,
            attempts: 0,
            hint: String::new(),
            status: 0,
            grpc_status: None,
            request_bytes: 0,
            response_bytes: 0,
            phase: Phase::Head,
            cause: None,
            detail: String::new(),
            queue: None,
            connect: None,
            upstream_first_byte: None,
            is_tunnel: false,
            is_opaque: false,
            revision: None,
            recorded: None,
            notes: None,
        }
    }

    /// Makes a used record a new one; keeps its buffers.
    pub fn reset(&mut self) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        *self = Record::with_text(text);
    }

    /// Notes what was asked.
    pub fn note_request(&mut self, head: &RequestHead) {
        self.phase = Phase::Request;
        self.version = head.version;
        self.method = self.store(head.method_bytes());
        self.authority = self.store(head.authority());
        self.path = self.store(head.path());
        self.is_grpc = head.fields.get(Known::ContentType).is_some_and(is_grpc);
    }

    /// Copies `bytes` into the record's texts.
    pub fn store(&mut self, bytes: &[u8]) -> Text {
        let span = Span::new(self.text.len(), bytes.len());
        self.text.extend_from_slice(bytes);
        span
    }

    /// Overwrites a text that nobody may read any more.
    pub fn erase(&mut self, span: Text) {
        let range = span.start as usize..(span.start + span.len) as usize;
        self.text.get_mut(range).unwrap_or_default().fill(b'*');
    }

    /// The text at `span`.
    pub fn text(&self, span: Text) -> &[u8] {
        self.text.get(span.start as usize..(span.start + span.len) as usize).unwrap_or_default()
    }

    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        match self.phase {
            Phase::Done => Outcome::Complete,
            Phase::Response => Outcome::Cut,
            Phase::Head | Phase::Request => Outcome::None,
        }
    }

    /// The exchange is over: whether it is kept, and the application is done with it. `now` is the end.
    pub fn end(&mut self, now: Instant) {
        self.duration = now.saturating_duration_since(self.started);
        if let Some(keep) = self.keep {
            // Streams and tunnels are long because they are used: what they took is the time to their head.
            let streams = self.is_tunnel || self.is_grpc;
            let duration = self.upstream_first_byte.filter(|_| streams).unwrap_or(self.duration);
            let (status, grpc_status, is_failed) = (self.status, self.grpc_status, self.cause.is_some());
            self.kept_by = keep.keeps(&Ended { status, grpc_status, is_failed, duration });
        }
        if let Some(place) = self.place.take() {
            // What was never given to the application, or was answered by it to the end, leaves nothing behind; attempts
            // that were given up may still be at work.
            let is_answered = self.phase == Phase::Done && self.cause.is_none() && self.attempts == 1;
            let is_whole = self.attempts == 0 || is_answered;
            // When it was is asked only of those that ended early.
            place.leave(is_whole, if is_whole { 0 } else { clock_ns(now) });
        }
    }

    /// The rare part of the record, to write to.
    pub fn note(&mut self) -> &mut super::Notes {
        self.notes.get_or_insert_default()
    }

    /// Attempts beyond the first that were no hedges.
    pub fn retries(&self) -> u32 {
        let hedges = self.notes.as_ref().map_or(0, |notes| notes.hedges);
        self.attempts.saturating_sub(1 + hedges)
    }
}

/// Whether a content type is one of gRPC's: `application/grpc`, perhaps with `+proto` or parameters.
fn is_grpc(content_type: &[u8]) -> bool {
    let rest = content_type.get(..16).filter(|start| start.eq_ignore_ascii_case(b"application/grpc"));
    rest.is_some() && matches!(content_type.get(16), None | Some(b'+' | b';' | b' '))
}

impl Default for Record {
    fn default() -> Self {
        Record::new()
    }
}
