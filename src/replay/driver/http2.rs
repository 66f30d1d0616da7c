//! HTTP/2: hyper's client, one connection for each that was recorded.

use super::exchange::{Content, Cut, Failure, Kept, Outgoing, Place};
use super::upload::{self, Piece};
use super::websocket;
use crate::record::Field;
use crate::replay::Answer;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// Opens streams on a connection.
pub(super) type Sender = hyper::client::conn::http2::SendRequest<Upload>;

/// Bytes that a stream, and a connection, may have under way: answers are read at once, so that this bounds memory alone.
const WINDOW_BYTES: u32 = 1 << 20;

/// Runs hyper's tasks on the driver's own thread.
#[derive(Clone, Copy)]
struct Here;

impl<F: Future + 'static> hyper::rt::Executor<F> for Here {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// Opens a connection.
pub(super) async fn connect(place: &Rc<Place>) -> Result<Sender, Failure> {
    let target = place.settings.targets.get(place.target as usize).ok_or("connect")?;
    let opening = async {
        let io = target.connect(true).await?;
        let handshake = hyper::client::conn::http2::Builder::new(Here)
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES * 8)
            .max_header_list_size(256 << 10)
            .handshake(TokioIo::new(io));
        let (mut send, connection) = handshake.await.map_err(|_| "protocol")?;
        let place = Rc::clone(place);
        tokio::task::spawn_local(async move {
            tokio::select! {
                _ = connection => {}
                () = place.abandon.notified() => {}
            }
        });
        send.ready().await.map_err(|_| "protocol")?;
        Ok(send)
    };
    match tokio::time::timeout(place.settings.timeout, opening).await {
        Ok(result) => result,
        Err(_) => Err("connect_timeout"),
    }
}

/// Sends a request as a stream, and reads its answer.
pub(super) async fn exchange(
    place: &Rc<Place>,
    mut send: Sender,
    out: &mut Outgoing,
    answer: &mut Answer,
) -> Result<(), Failure> {
    let is_tunnel = !out.head.upgrade.is_empty();
    let stopped = Rc::new(Cell::new(None));
    let body = match &out.content {
        _ if is_tunnel => Upload::Whole(None, None),
        Content::Whole(body, trailers) => {
            let trailers = (!trailers.is_empty()).then(|| map(trailers, false));
            Upload::Whole((!body.is_empty()).then(|| body.clone()), trailers)
        }
        Content::Pieces => Upload::Pieces(upload::pieces(place, &out.entry, out.cut), Rc::clone(&stopped)),
    };
    let request = request(place, out, body).ok_or("malformed_head")?;
    send.ready().await.map_err(|_| "closed")?;
    answer.sent_ns = place.now_ns();
    let response = send.send_request(request);
    let early = out.cut.filter(|cut| cut.request_bytes.is_none() && cut.response_bytes.is_none());
    let response = match early {
        Some(cut) => tokio::select! {
            biased;
            response = response => response,
            () = tokio::time::sleep(Duration::from_nanos(cut.at_ns)) => return Err("cancelled"),
        },
        None => response.await,
    };
    // hyper tells of a reset, not of whose content ended early.
    let response = response.map_err(|error| stopped.get().unwrap_or_else(|| failure(&error)))?;
    answer.status = response.status().as_u16();
    answer.first_byte_ns = place.now_ns();
    let wants = place.settings.wants_content;
    if wants {
        answer.fields = list(response.headers());
    }
    if is_tunnel && response.status().is_success() {
        let io = hyper::upgrade::on(response).await.map_err(|error| failure(&error))?;
        return websocket::replay(place, &mut TokioIo::new(io), Bytes::new(), &out.entry, answer).await;
    }
    let mut kept = Kept::new(if wants { place.settings.keep_body_bytes } else { 0 });
    let result = content(response.into_body(), out.cut, answer, &mut kept).await;
    kept.into_answer(answer);
    result.map_err(|failure| stopped.get().unwrap_or(failure))
}

async fn content(
    mut body: Incoming,
    cut: Option<Cut>,
    answer: &mut Answer,
    kept: &mut Kept,
) -> Result<(), Failure> {
    use hyper::body::Body as _;
    let until = cut.and_then(|cut| cut.response_bytes);
    loop {
        if until.is_some_and(|until| answer.body_bytes >= until) {
            return Err("cancelled");
        }
        match std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            None => return Ok(()),
            Some(Err(error)) => return Err(failure(&error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => kept.push(answer, &data),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        answer.trailers = list(&trailers);
                    }
                }
            },
        }
    }
}

fn request(place: &Place, out: &Outgoing, body: Upload) -> Option<http::Request<Upload>> {
    let head = &out.head;
    let scheme = place.settings.targets.get(place.target as usize)?.scheme();
    let authority = std::str::from_utf8(&head.authority).ok()?;
    let target = std::str::from_utf8(&head.target).ok()?;
    let is_tunnel = !head.upgrade.is_empty();
    let uri: http::Uri =
        format!("{scheme}://{authority}{}", if target.starts_with('/') { target } else { "/" })
            .parse()
            .ok()?;
    let mut request = http::Request::new(body);
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_2;
    *request.method_mut() =
        if is_tunnel { http::Method::CONNECT } else { http::Method::from_bytes(&head.method).ok()? };
    *request.headers_mut() = map(&head.fields, true);
    if let Content::Whole(body, _) = &out.content {
        if request.headers().contains_key("content-length") {
            request.headers_mut().insert("content-length", HeaderValue::from(body.len() as u64));
        }
    } else if out.cut.is_none() && request.headers().contains_key("content-length") {
        if out.entry.request.is_truncated {
            request.headers_mut().remove("content-length");
        } else {
            let length = upload::length(&out.entry);
            request.headers_mut().insert("content-length", HeaderValue::from(length));
        }
    }
    if is_tunnel {
        for name in ["sec-websocket-key", "content-length"] {
            request.headers_mut().remove(name);
        }
        if !head.upgrade.eq_ignore_ascii_case(b"websocket") {
            return None;
        }
        request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    }
    Some(request)
}

/// Fields as hyper wants them, without those that HTTP/2 forbids (RFC 9113 §8.2.2).
fn map(fields: &[Field], is_head: bool) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let is_forbidden =
            [&b"connection"[..], b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"]
                .iter()
                .any(|name| field.is(name))
                || (field.is(b"te") && &*field.value != b"trailers")
                || (!is_head && field.is(b"content-length"));
        if is_forbidden {
            continue;
        }
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(&field.name), HeaderValue::from_maybe_shared(field.value.clone()))
        {
            map.append(name, value);
        }
    }
    map
}

fn list(map: &HeaderMap) -> Vec<Field> {
    map.iter()
        .map(|(name, value)| {
            Field::new(
                Bytes::copy_from_slice(name.as_str().as_bytes()),
                Bytes::copy_from_slice(value.as_bytes()),
            )
        })
        .collect()
}

fn failure(error: &hyper::Error) -> Failure {
    let mut next = std::error::Error::source(error);
    while let Some(inner) = next {
        if let Some(h2) = inner.downcast_ref::<h2::Error>() {
            return match h2.reason() {
                _ if h2.is_io() => "closed",
                Some(h2::Reason::REFUSED_STREAM) => "refused",
                _ if h2.is_go_away() && h2.is_remote() => "closed",
                _ if h2.is_reset() => "reset",
                _ => "protocol",
            };
        }
        next = inner.source();
    }
    if error.is_canceled() || error.is_closed() || error.is_incomplete_message() {
        "closed"
    } else {
        "protocol"
    }
}

/// A request's content ends early, and its stream is reset as a client does that gives up.
#[derive(Debug)]
pub(super) struct Stopped(h2::Error);

impl Stopped {
    fn new() -> Stopped {
        Stopped(h2::Error::from(h2::Reason::CANCEL))
    }
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("given up")
    }
}

impl std::error::Error for Stopped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// A request's content, for hyper.
pub(super) enum Upload {
    /// In one piece, and trailers.
    Whole(Option<Bytes>, Option<HeaderMap>),
    /// In pieces, and why they ended early.
    Pieces(mpsc::Receiver<Piece>, Rc<Cell<Option<Failure>>>),
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = Stopped;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Stopped>>> {
        match self.get_mut() {
            Upload::Whole(body, trailers) => Poll::Ready(match body.take() {
                Some(body) => Some(Ok(Frame::data(body))),
                None => trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
            }),
            Upload::Pieces(pieces, stopped) => pieces.poll_recv(cx).map(|piece| {
                let why = match piece? {
                    Piece::Data(bytes) => return Some(Ok(Frame::data(bytes))),
                    Piece::Trailers(fields) => return Some(Ok(Frame::trailers(map(&fields, false)))),
                    Piece::Cut => "cancelled",
                    Piece::Unreadable => "recording",
                };
                stopped.set(Some(why));
                Some(Err(Stopped::new()))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Upload::Whole(None, None))
    }
}
