//! The HTTP/1.1 client: one connection, one exchange at a time, no task, no channel.
//!
//! Why our own: hyper's client costs about as much as everything else in the proxy together (its header map, its
//! state machine and its channel), and hands back a request only by value. Here the head is written from the flat
//! [`RequestHead`] into the connection's buffer, and stays with the exchange until an answer is there, so that a
//! retry needs no copy. The connection is driven by whoever polls the answer: the client's own task.
//!
//! How it fails: an error says whether the request may be sent again ([`Replay`]). Once a byte was written on a reused
//! connection that turns out to be closed, only an idempotent request may: nothing that the kernel knows tells whether
//! the upstream saw it (with delayed acknowledgements, not even what was acknowledged).

mod content;
mod upload;

use super::held::Held;
use super::slot::{self, Slot};
use crate::error::{Error, Kind, Replay, Result};
use crate::exchange::{Ctx, Exchange, Response, Tunnel};
use crate::http1::chunked::{self, Decoder};
use crate::http1::{self, Content, Framing, HeadLimits};
use crate::svc::{Body, Input, Io, Known, Output, RequestHead};
use bytes::{Buf, Bytes};
use content::{Content as Answering, State, settle};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use upload::Upload;

pub use super::slot::Open;

/// Bounds of the upstream's side of an exchange.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The answer's head.
    pub head: HeadLimits,
    /// The answer's chunks and trailers.
    pub chunked: chunked::Limits,
    /// The most that is read at once.
    pub buffer_bytes_max: usize,
}

/// How many interim responses one exchange may have.
const INTERIM_MAX: usize = 16;

/// An upstream connection.
pub struct Connection {
    io: Io,
    input: Input,
    output: Output,
    /// Whether it carried an exchange before.
    pub is_reused: bool,
    /// Counted as open for as long as this lives.
    open: Open,
}

/// Where a connection goes when it can carry another exchange.
pub trait Home {
    /// Keeps the connection for the next exchange.
    fn check_in(&self, connection: Connection);
}

impl Connection {
    /// A connection that was just made.
    pub fn new(io: Io, open: Open) -> Connection {
        Connection { io, input: Input::new(Bytes::new()), output: Output::default(), is_reused: false, open }
    }

    /// Whether others who wait for its place may have it.
    pub(super) fn had_its_turn(&self) -> bool {
        slot::had_its_turn(self.open.since())
    }

    /// Closes it; its place is for another in its stead.
    pub(super) fn into_slot(self) -> Slot {
        self.open.into_slot()
    }

    /// Whether an idle connection is still usable: open, and the upstream said nothing out of turn.
    pub fn is_usable(&mut self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.input.bytes.is_empty() && self.input.poll_fill(&mut self.io, &mut cx, 0).is_pending()
    }
}

/// Sends the exchange's request and waits for the head of the answer.
///
/// On an error that may be repeated, head and content are left in `ctx.unsent`.
///
/// # Errors
/// What the upstream did wrong, or the client's own failure to send its content.
pub async fn send(
    mut connection: Connection,
    exchange: Exchange,
    settings: Settings,
    home: Rc<dyn Home>,
) -> Result<Response> {
    let Exchange { head, body, ctx } = exchange;
    let before = connection.output.written_bytes;
    let replay_body = body.replay();
    let content = content_of(&body);
    http1::write_request(connection.output.small(), &head, content);
    let is_done = body.is_end() && content != Content::Chunked;
    let mut upload = Upload { body, is_chunked: content == Content::Chunked, is_done, is_refused: false };
    let answer = poll_fn(|cx| poll_head(&mut connection, &mut upload, &head, &ctx, &settings, cx)).await;
    match answer {
        Ok(answer) if answer.head.status == 101 && !is_switch(&head, &answer.head) => {
            Err(Error::new(Kind::UpgradeFailed, "101 to a request that did not ask for this protocol"))
        }
        Ok(answer) => {
            let is_gateway_error = answer.head.is_gateway_error();
            let response = respond(connection, upload, answer, &head, &ctx, settings, home);
            if is_gateway_error {
                hand_back(&ctx, head, replay_body);
            }
            Ok(response)
        }
        Err(error) => {
            let error = grade(error, &connection, before);
            if error.replay() != Replay::Never {
                hand_back(&ctx, head, replay_body);
            }
            Err(error)
        }
    }
}

/// Leaves head and content for another try, where the content is still whole.
pub(super) fn hand_back(ctx: &Ctx, head: Box<RequestHead>, body: Option<Body>) {
    if let Some(body) = body.filter(Body::is_intact) {
        *ctx.unsent.borrow_mut() = Some((head, body));
    }
}

/// Whether a 101 switches to the protocol that was asked for. One that nobody asked for would let the upstream take over
/// the client's connection.
fn is_switch(request: &RequestHead, answer: &crate::svc::ResponseHead) -> bool {
    match (request.upgrade(), answer.fields.get(Known::Upgrade)) {
        (Some(asked), Some(given)) => asked.eq_ignore_ascii_case(given),
        _ => false,
    }
}

/// How the request's content is framed.
fn content_of(body: &Body) -> Content {
    match body.length() {
        Some(length) => Content::Length(length),
        None => Content::Chunked,
    }
}

/// Whether an error on this connection may be repeated.
fn grade(error: Error, connection: &Connection, before: u64) -> Error {
    if error.kind() != Kind::UpstreamClosed {
        return error;
    }
    let replay = if connection.output.written_bytes == before {
        Replay::Safe
    } else if connection.is_reused {
        Replay::IfIdempotent
    } else {
        Replay::Never
    };
    error.with_replay(replay)
}

fn poll_head(
    connection: &mut Connection,
    upload: &mut Upload,
    head: &RequestHead,
    ctx: &Ctx,
    settings: &Settings,
    cx: &mut Context<'_>,
) -> Poll<Result<http1::Response>> {
    let Connection { io, input, output, .. } = connection;
    if let Poll::Ready(Err(error)) = upload.poll(io, output, cx) {
        return Poll::Ready(Err(error));
    }
    let mut parsed_len = 0;
    loop {
        if !input.bytes.is_empty() && (parsed_len == 0 || http1::may_be_complete(&input.bytes, parsed_len)) {
            parsed_len = input.bytes.len();
            match http1::parse_interim_or_final(&input.bytes, &settings.head, head.method)? {
                Some(answer) if matches!(answer.head.status, 100 | 102..=199) => {
                    input.bytes.advance(answer.head_bytes);
                    relay(ctx, answer.head)?;
                    parsed_len = 0;
                    continue;
                }
                Some(answer) => {
                    input.bytes.advance(answer.head_bytes);
                    return Poll::Ready(Ok(answer));
                }
                None => {}
            }
        } else if input.bytes.len() >= settings.head.head_bytes_max {
            return Poll::Ready(Err(Kind::ResponseHeadTooLarge.into()));
        }
        match ready!(input.poll_fill(io, cx, settings.buffer_bytes_max)) {
            Ok(0) if input.bytes.is_empty() => {
                let error = Error::new(Kind::UpstreamClosed, "closed before it answered");
                return Poll::Ready(Err(error));
            }
            Ok(0) => {
                let error = Error::new(Kind::UpstreamProtocol, "closed in the middle of the answer's head");
                return Poll::Ready(Err(error));
            }
            Ok(_) => {}
            Err(error) if input.bytes.is_empty() => return Poll::Ready(Err(closed(&error))),
            Err(error) => return Poll::Ready(Err(Error::new(Kind::UpstreamProtocol, error.to_string()))),
        }
    }
}

fn closed(error: &std::io::Error) -> Error {
    // In TLS 1.3 an upstream refuses our certificate after the handshake is over for us.
    let is_tls = error.get_ref().is_some_and(|source| source.is::<rustls::Error>());
    let kind = if is_tls { Kind::TlsFailed } else { Kind::UpstreamClosed };
    Error::new(kind, error.to_string())
}

/// Hands an interim response to the server that the client is connected to.
fn relay(ctx: &Ctx, head: crate::svc::ResponseHead) -> Result<()> {
    let mut interim = ctx.interim.borrow_mut();
    if interim.len() >= INTERIM_MAX {
        return Err(Error::new(Kind::UpstreamProtocol, "too many interim responses"));
    }
    interim.push(head);
    Ok(())
}

/// Makes the response: content that is here already ends the exchange with this connection at once.
fn respond(
    mut connection: Connection,
    upload: Upload,
    answer: http1::Response,
    request: &RequestHead,
    ctx: &Ctx,
    settings: Settings,
    home: Rc<dyn Home>,
) -> Response {
    ctx.note_answer(answer.head.version);
    let http1::Response { head, framing, is_keep_alive, .. } = answer;
    let head = Box::new(head);
    if head.status == 101 {
        let ahead = connection.input.bytes.split().freeze();
        let Connection { io, open, .. } = connection;
        let tunnel = Tunnel { io: Box::new(Held::new(io, open)), ahead };
        return Response { head, body: Body::empty(), tunnel: Some(tunnel) };
    }
    let input = &mut connection.input.bytes;
    let whole = match framing {
        Framing::None => Some(Bytes::new()),
        Framing::Length(length) if length <= input.len() as u64 => {
            Some(input.split_to(length as usize).freeze())
        }
        _ => None,
    };
    // A request that is still being sent keeps the connection busy, even when nobody needs the rest.
    let is_keep_alive = is_keep_alive && !upload.is_refused && request.upgrade.is_none();
    match whole {
        Some(bytes) if upload.is_done && connection.output.is_empty() => {
            settle(connection, is_keep_alive, &*home);
            Response { head, body: Body::full(bytes), tunnel: None }
        }
        whole => {
            let state = match (whole, framing) {
                (Some(bytes), _) => State::Whole(bytes),
                (None, Framing::Chunked) => State::Chunked(Decoder::new(settings.chunked)),
                (None, Framing::Length(length)) => State::Length(length),
                (None, _) => State::Close,
            };
            let body =
                Answering { connection: Some(connection), upload, state, is_keep_alive, home, settings };
            Response { head, body: Body::stream(body), tunnel: None }
        }
    }
}
