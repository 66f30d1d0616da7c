//! What can go wrong with an exchange, and what is said about it.
//!
//! Goals, in order: a caller learns from the answer alone *who* failed and *in what phase*; the event, the header and
//! the metric name the same cause; an operator finds the detail (address, limit, parser message) in the event, while a
//! peer never learns more than the cause; and a new [`Kind`] does not compile without its row in [`Kind::answer`].
//!
//! One concrete [`Error`] travels through every layer. It is pointer-sized, so `Result`s stay small. Whether an
//! attempt may be repeated is decided where the error is born ([`Error::replay`]), because only that place knows what
//! the upstream has seen.

mod map;

mod refusal;

pub use map::{Answer, ResponseFlags};
pub use refusal::Refusal;

use std::borrow::Cow;
use std::fmt;

/// What happened, exhaustively. The names are stable: [`Kind::cause`] spells them in events, metrics and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is not HTTP, or its framing is ambiguous (RFC 9112 §6.3).
    MalformedRequest,
    /// The request breaks a rule that sidelight enforces beyond syntax: host, path, nominated fields.
    RequestRefused,
    /// A protected field (context, `authorization`, `host`) was named in `Connection`.
    ProtectedFieldNominated,
    /// The signature of the context is required, and missing or wrong.
    ContextRefused,
    /// The request's header section is larger than a limit.
    RequestHeadTooLarge,
    /// The request's target is longer than a limit.
    TargetTooLong,
    /// The request's content is larger than a limit.
    RequestBodyTooLarge,
    /// The head did not arrive in time.
    HeaderTimeout,
    /// The request's content stalled.
    RequestBodyTimeout,
    /// `Expect` names something other than `100-continue`.
    ExpectationFailed,
    /// CONNECT to an arbitrary authority, or a method a sidecar does not carry.
    MethodRefused,
    /// A transfer coding or feature that sidelight does not implement.
    NotImplemented,
    /// The protocol version is not spoken here.
    VersionNotSupported,
    /// `Max-Forwards` reached zero.
    MaxForwards,
    /// The client reset, left, or stopped reading before the answer was complete.
    ClientGone,
    /// The client spoke the protocol in an abusive way (frame floods).
    ClientAbuse,
    /// No route matches.
    RouteNotFound,
    /// The request came back to the listener that sent it.
    LoopDetected,
    /// The cluster has no endpoint at all.
    NoEndpoint,
    /// The cluster has endpoints, but none may be used.
    NoHealthyEndpoint,
    /// A name could not be resolved, and no earlier answer is known.
    DnsFailed,
    /// The endpoint refused or could not be reached.
    ConnectFailed,
    /// The endpoint did not accept in time.
    ConnectTimeout,
    /// The TLS handshake with the endpoint failed.
    TlsFailed,
    /// The endpoint's certificate is not acceptable.
    TlsCertificate,
    /// Connections, pending requests or requests are at their limit.
    Overflow,
    /// The circuit breaker is open: the destination failed lately, and is not asked for now.
    BreakerOpen,
    /// The upstream closed or reset the connection before it answered.
    UpstreamClosed,
    /// The upstream reset the stream (HTTP/2).
    UpstreamReset,
    /// The upstream refused the stream before processing it (GOAWAY, REFUSED_STREAM).
    UpstreamRefused,
    /// The upstream's answer is not HTTP, or its framing is ambiguous.
    UpstreamProtocol,
    /// The upstream's header section is larger than a limit.
    ResponseHeadTooLarge,
    /// The upstream's answer was cut.
    ResponseIncomplete,
    /// The upstream's content stalled.
    ResponseBodyTimeout,
    /// The upstream switched protocols without being asked, or refused an upgrade in a broken way.
    UpgradeFailed,
    /// The request's deadline passed.
    RequestTimeout,
    /// One try's deadline passed.
    PerTryTimeout,
    /// The deadline that the caller set passed; it says nothing about the upstream.
    DeadlineExceeded,
    /// The exchange took longer, with its content, than the route allows.
    StreamTimeout,
    /// The caller asks more often than it may.
    RateLimited,
    /// Too many requests are under way at this listener, and the wait was too long.
    ConcurrencyLimit,
    /// Turned away in favour of requests of a higher tier.
    LoadShed,
    /// Memory has run out.
    Overloaded,
    /// sidelight is shutting down.
    Draining,
    /// Too many connections.
    ConnectionLimit,
    /// A defect in sidelight; the exchange ended, others go on.
    Internal,
}

/// Whether the same request may be sent again without doing anything twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// The upstream has processed it, or might have.
    Never,
    /// Something was sent on a connection that had been idle, and not one byte came back: safe for idempotent methods.
    IfIdempotent,
    /// Nothing was sent, or the upstream says it did nothing.
    Safe,
}

/// The one error of the data path.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    replay: Replay,
    detail: Cow<'static, str>,
    refusal: Option<Box<Refusal>>,
}

/// `Result` with the data path's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error that must not be retried, with the detail that goes into the event (never to the peer).
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Error {
        Error(Box::new(Inner { kind, replay: Replay::Never, detail: detail.into(), refusal: None }))
    }

    /// The same error, saying whether the request may be sent again.
    pub fn with_replay(mut self, replay: Replay) -> Error {
        self.0.replay = replay;
        self
    }

    /// The same error, with the limit that was reached: it goes into answer and event.
    pub fn with_refusal(mut self, refusal: Refusal) -> Error {
        self.0.refusal = Some(Box::new(refusal));
        self
    }

    /// The limit that was reached, if one was.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.0.refusal.as_deref()
    }

    /// What happened.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether the request may be sent again.
    pub fn replay(&self) -> Replay {
        self.0.replay
    }

    /// What an operator needs to know beyond the kind.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Takes the detail out, for the event.
    pub fn into_detail(self) -> Cow<'static, str> {
        self.0.detail
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Error {
        Error::new(kind, "")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.kind.cause())?;
        if !self.0.detail.is_empty() {
            write!(f, ": {}", self.0.detail)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("kind", &self.0.kind).field("detail", &self.0.detail).finish()
    }
}

impl std::error::Error for Error {}
