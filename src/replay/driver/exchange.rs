//! One exchange with one target: what is sent, when it is given up, and what came back.

use super::{Settings, http1, http2};
use crate::record::{Entry, Field, RequestHead, Side, What};
use crate::replay::Answer;
use crate::replay::plan::is_request_whole;
use crate::replay::source::Source;
use crate::svc::Version;
use bytes::{Bytes, BytesMut};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Why an exchange did not come to its end; the word in [`Answer::error`].
pub(super) type Failure = &'static str;

/// What is sent.
pub(super) struct Outgoing {
    pub entry: Arc<Entry>,
    pub head: RequestHead,
    pub content: Content,
    pub cut: Option<Cut>,
}

/// The request's content.
pub(super) enum Content {
    /// All of it, and trailers.
    Whole(Bytes, Vec<Field>),
    /// In pieces: it is large, or its rhythm is kept, or it is cut.
    Pieces,
}

/// Where the client gave up when it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// After so much of the request; `None`: after all of it.
    pub request_bytes: Option<u64>,
    /// After so much of the answer's content; `None`: before its head.
    pub response_bytes: Option<u64>,
    /// After so long.
    pub at_ns: u64,
}

impl Cut {
    /// Out of what was recorded; `None` when the client stayed to the end.
    pub(super) fn of(entry: &Entry) -> Option<Cut> {
        let (mut sent, mut got, mut is_sent, mut has_head) = (0, 0, false, false);
        for event in &entry.events {
            match &event.what {
                What::Data(Side::Request, bytes) => sent += bytes.len() as u64,
                What::Data(Side::Response, bytes) => got += bytes.len() as u64,
                What::End(Side::Request) => is_sent = true,
                What::Response(head) => has_head |= head.status >= 200,
                What::Reset(Side::Request, _) => {
                    // What parts hold came before the entry's own events.
                    if entry.parts > 0 {
                        (sent, got) = (sent.max(entry.request.bytes), got.max(entry.response.bytes));
                    }
                    return Some(Cut {
                        request_bytes: (!is_sent && (sent > 0 || !has_head)).then_some(sent),
                        response_bytes: has_head.then_some(got),
                        at_ns: event.at_ns,
                    });
                }
                _ => {}
            }
        }
        None
    }
}

/// What an exchange needs of its surroundings.
pub(super) struct Place {
    pub settings: Arc<Settings>,
    pub source: Arc<dyn Source>,
    pub shared: Arc<crate::replay::pace::Shared>,
    pub target: u32,
    /// Wakes when the run gives up what is under way.
    pub abandon: tokio::sync::Notify,
    pub is_abandoned: std::cell::Cell<bool>,
}

impl Place {
    pub(super) fn now_ns(&self) -> u64 {
        self.shared.now_ns()
    }
}

/// What came of it.
pub(super) struct Exchanged {
    pub answer: Answer,
    /// Connecting took so long: the target's time, not the replayer's.
    pub connect_ns: u64,
    /// The connection, where another exchange may follow on it.
    pub connection: Option<http1::Connection>,
}

/// How long it may take: the timeout, and where the recorded rhythm is kept, or content is large, what it took then.
pub(super) fn bound(entry: &Entry, settings: &Settings) -> Duration {
    let is_long = entry.parts > 0 || entry.is_tunnel() || settings.piece_speed.is_some();
    let recorded = if is_long { Duration::from_nanos(entry.duration_ns) } else { Duration::ZERO };
    let speed = settings.piece_speed.unwrap_or(1.0).clamp(0.01, 1.0);
    settings.timeout + recorded.div_f64(speed)
}

/// Whether the request goes in pieces.
pub(super) fn is_piecewise(entry: &Entry, cut: Option<Cut>, settings: &Settings) -> bool {
    !is_request_whole(entry)
        || settings.piece_speed.is_some()
        || cut.is_some_and(|cut| cut.request_bytes.is_some())
}

/// Over HTTP/1; `idle` is the connection of the exchange before.
pub(super) async fn over_http1(
    place: Rc<Place>,
    idle: Option<http1::Connection>,
    mut out: Outgoing,
    intended_ns: u64,
) -> Exchanged {
    let limit = bound(&out.entry, &place.settings);
    let mut answer = Answer { intended_ns, ..Answer::default() };
    let mut connect_ns = 0;
    let mut connection = idle.filter(http1::Connection::is_usable);
    let result = {
        let exchange = async {
            // Bounded: a second turn only when the target closed a connection that had been idle.
            loop {
                let was_used = connection.is_some();
                if connection.is_none() {
                    let since = place.now_ns();
                    let target = place.settings.targets.get(place.target as usize).ok_or("connect")?;
                    connection = Some(http1::Connection::new(target.connect(false).await?));
                    connect_ns += place.now_ns().saturating_sub(since);
                }
                let Some(open) = connection.as_mut() else { return Err("connect") };
                let result = http1::exchange(&place, open, &mut out, &mut answer).await;
                let is_safe = crate::replay::safety::is_safe_method(&out.head.method);
                if was_used && is_safe && result == Err("closed") && answer.status == 0 {
                    connection = None;
                    continue;
                }
                return result;
            }
        };
        bounded(&place, limit, exchange).await
    };
    finish(&place, &mut answer, result.as_ref().err().copied());
    let connection = connection.filter(|_| result == Ok(true));
    Exchanged { answer, connect_ns, connection }
}

/// Over HTTP/2, as one stream of a connection.
pub(super) async fn over_http2(
    place: Rc<Place>,
    send: http2::Sender,
    mut out: Outgoing,
    intended_ns: u64,
) -> Exchanged {
    let limit = bound(&out.entry, &place.settings);
    let mut answer = Answer { intended_ns, ..Answer::default() };
    let result = bounded(&place, limit, http2::exchange(&place, send, &mut out, &mut answer)).await;
    finish(&place, &mut answer, result.err());
    Exchanged { answer, connect_ns: 0, connection: None }
}

async fn bounded<T>(
    place: &Place,
    limit: Duration,
    exchange: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    if place.is_abandoned.get() {
        return Err("abandoned");
    }
    tokio::select! {
        biased;
        result = exchange => result,
        () = place.abandon.notified() => Err("abandoned"),
        () = tokio::time::sleep(limit) => Err("timeout"),
    }
}

fn finish(place: &Place, answer: &mut Answer, failure: Option<Failure>) {
    answer.ended_ns = place.now_ns();
    answer.error = failure.map(str::to_owned);
}

/// Keeps the first bytes of an answer's content, and counts all.
pub(super) struct Kept {
    limit: usize,
    kept: BytesMut,
}

impl Kept {
    pub(super) fn new(limit: usize) -> Kept {
        Kept { limit, kept: BytesMut::new() }
    }

    pub(super) fn push(&mut self, answer: &mut Answer, bytes: &[u8]) {
        answer.body_bytes += bytes.len() as u64;
        let room = self.limit.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
    }

    pub(super) fn into_answer(self, answer: &mut Answer) {
        answer.body = self.kept.freeze();
    }
}

/// Whether an entry is sent by HTTP/2.
pub(super) fn is_http2(entry: &Entry) -> bool {
    entry.version == Version::Http2
}
