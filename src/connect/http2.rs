//! The HTTP/2 client: hyper's, with its errors read for what may be repeated.

use super::held::Held;
use super::http1::{Open, hand_back};
use super::pool::EndpointPool;
use super::slot;
use crate::cluster::Cluster;
use crate::error::{Error, Kind, Replay, Result};
use crate::exchange::{Exchange, Response, Tunnel};
use crate::http1::chunked::is_allowed_trailer;
use crate::svc::{Body, Frame, Io, Known, RequestHead, Scheme, Source, http2};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// Bounds of an upstream HTTP/2 connection.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Streams at once on one connection; beyond them another connection is opened.
    pub streams_max: usize,
    /// Decoded bytes of a header section.
    pub header_list_bytes_max: u32,
    /// Flow-control window of a stream.
    pub stream_window_bytes: u32,
    /// Flow-control window of the connection.
    pub connection_window_bytes: u32,
    /// The largest frame that is accepted.
    pub frame_bytes_max: u32,
    /// What is buffered for a stream that the upstream does not read.
    pub send_buffer_bytes_max: usize,
    /// How often to ask whether the upstream is still there.
    pub keepalive_interval: Option<Duration>,
    /// How long it may take to say so.
    pub keepalive_timeout: Duration,
    /// Streams that we reset and still remember.
    pub local_resets_max: usize,
}

/// Runs hyper's tasks on the worker's own thread.
#[derive(Clone, Copy, Debug)]
struct Here;

impl<F: Future + 'static> hyper::rt::Executor<F> for Here {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// A connection that carries many exchanges.
pub struct Multiplexed {
    send: SendRequest<Body>,
    active: Cell<usize>,
    streams_max: usize,
    idle_since: Cell<Instant>,
    scheme: Scheme,
    /// When its place was taken.
    since: Instant,
    cluster: Arc<Cluster>,
    home: Weak<EndpointPool>,
}

impl Multiplexed {
    /// Speaks HTTP/2 on a connection that was just made.
    ///
    /// # Errors
    /// [`Kind::UpstreamProtocol`] when the upstream does not.
    pub(super) async fn handshake(
        io: Io,
        settings: Settings,
        open: Open,
        cluster: &Arc<Cluster>,
        home: &Rc<EndpointPool>,
    ) -> Result<Multiplexed> {
        let since = open.since();
        let scheme = if io.is_tls() { Scheme::Https } else { Scheme::Http };
        let mut builder = hyper::client::conn::http2::Builder::new(Here);
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(settings.header_list_bytes_max)
            .initial_stream_window_size(settings.stream_window_bytes)
            .initial_connection_window_size(settings.connection_window_bytes)
            .max_frame_size(settings.frame_bytes_max)
            .max_send_buf_size(settings.send_buffer_bytes_max)
            .keep_alive_interval(settings.keepalive_interval)
            .keep_alive_timeout(settings.keepalive_timeout)
            .max_concurrent_reset_streams(settings.local_resets_max);
        let (send, connection) = builder
            // Counted where its socket is: hyper lets go of that in a task of its own, later than of anything else.
            .handshake(TokioIo::new(Held::new(io, open)))
            .await
            .map_err(|error| Error::new(Kind::UpstreamProtocol, describe(&error)))?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %describe(&error), "an upstream HTTP/2 connection ended");
            }
        });
        Ok(Multiplexed {
            send,
            active: Cell::new(0),
            streams_max: settings.streams_max,
            idle_since: Cell::new(Instant::now()),
            scheme,
            since,
            cluster: Arc::clone(cluster),
            home: Rc::downgrade(home),
        })
    }

    /// Streams that are under way.
    pub fn active(&self) -> usize {
        self.active.get()
    }

    /// Whether another stream may be opened.
    pub fn has_room(&self) -> bool {
        self.active.get() < self.streams_max && !self.send.is_closed()
    }

    /// Whether others who wait for its place may have it.
    pub(super) fn had_its_turn(&self) -> bool {
        slot::had_its_turn(self.since)
    }

    /// Whether it is closed, or was idle for `timeout`.
    pub fn is_over(&self, now: Instant, timeout: Duration) -> bool {
        self.send.is_closed()
            || (self.active.get() == 0 && now.duration_since(self.idle_since.get()) >= timeout)
    }
}

/// Counts a stream of a connection, and keeps the connection open.
pub(super) struct Stream(Rc<Multiplexed>);

impl Stream {
    /// One more stream of `connection`.
    pub(super) fn new(connection: &Rc<Multiplexed>) -> Stream {
        connection.active.set(connection.active.get() + 1);
        Stream(Rc::clone(connection))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
        self.0.idle_since.set(Instant::now());
        if !self.0.cluster.line.is_empty()
            && let Some(pool) = self.0.home.upgrade()
        {
            pool.stream_ended(&self.0);
        }
    }
}

/// Sends the exchange's request and waits for the head of the answer.
///
/// # Errors
/// What the upstream did wrong. Where it may be repeated and the content is still whole, head and content are left in
/// `ctx.unsent`.
pub(super) async fn send(stream: Stream, exchange: Exchange) -> Result<Response> {
    let Exchange { mut head, body, ctx } = exchange;
    // hyper's client has no way to show an interim response: the expectation is met here.
    if head.fields.remove(Known::Expect) && ctx.expects_continue.get() {
        ctx.expects_continue.set(false);
        ctx.interim.borrow_mut().push(crate::svc::ResponseHead::new(100));
    }
    let replay_body = body.replay();
    let is_tunnel = head.upgrade().is_some();
    let request = if is_tunnel {
        tunnel_request(&head, stream.0.scheme)?
    } else {
        http2::request_to(&head, stream.0.scheme, body)?
    };
    let mut send = stream.0.send.clone();
    let sent = send.try_send_request(request).await;
    let response = match sent {
        Ok(response) => response,
        Err(mut error) => {
            let unsent = error.take_message();
            let error = grade(error.error(), unsent.is_some());
            if error.replay() != Replay::Never {
                hand_back(&ctx, head, unsent.map(http::Request::into_body).or(replay_body));
            }
            return Err(error);
        }
    };
    ctx.note_answer(crate::svc::Version::Http2);
    if is_tunnel && response.status().is_success() {
        return tunnel_response(&head, response, stream).await;
    }
    let (parts, incoming) = response.into_parts();
    let response_head = http2::response_from(&parts);
    if response_head.is_gateway_error() {
        hand_back(&ctx, head, replay_body);
    }
    Ok(Response::new(response_head, content(incoming, stream)))
}

fn content(incoming: Incoming, stream: Stream) -> Body {
    use hyper::body::Body as _;
    if incoming.is_end_stream() {
        return Body::empty();
    }
    Body::stream(Content { incoming, _stream: stream })
}

/// An HTTP/1.1 upgrade becomes an extended CONNECT (RFC 8441 §5).
fn tunnel_request(head: &RequestHead, scheme: Scheme) -> Result<http::Request<Body>> {
    let mut request = http2::request_to(head, scheme, Body::empty())?;
    *request.method_mut() = http::Method::CONNECT;
    request.headers_mut().remove("sec-websocket-key");
    let protocol = String::from_utf8_lossy(head.upgrade().unwrap_or_default()).into_owned();
    let protocol = hyper::ext::Protocol::from_static(match protocol.as_str() {
        "websocket" => "websocket",
        _ => return Err(Error::new(Kind::UpgradeFailed, "only websocket goes to an HTTP/2 upstream")),
    });
    request.extensions_mut().insert(protocol);
    Ok(request)
}

async fn tunnel_response(
    head: &RequestHead,
    response: http::Response<Incoming>,
    stream: Stream,
) -> Result<Response> {
    let (parts, incoming) = response.into_parts();
    let mut response_head = http2::response_from(&parts);
    response_head.status = 101;
    response_head.fields.push(b"upgrade", head.upgrade().unwrap_or_default());
    if let Some(key) = head.fields.get(Known::SecWebsocketKey) {
        response_head.fields.set(Known::SecWebsocketAccept, &super::websocket::accept(key));
    }
    let response = http::Response::from_parts(parts, incoming);
    let upgraded = hyper::upgrade::on(response)
        .await
        .map_err(|error| Error::new(Kind::UpgradeFailed, describe(&error)))?;
    // The stream's place in the connection is given back when the tunnel's io is dropped.
    let io = Held::new(TokioIo::new(upgraded), stream);
    let tunnel = Tunnel { io: Box::new(io), ahead: Bytes::new() };
    Ok(Response { head: Box::new(response_head), body: Body::empty(), tunnel: Some(tunnel) })
}

/// An answer's content from hyper.
struct Content {
    incoming: Incoming,
    _stream: Stream,
}

impl Source for Content {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        use hyper::body::Body as _;
        loop {
            let frame = match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => {
                    let error = Error::new(Kind::ResponseIncomplete, describe(&error));
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Poll::Ready(Some(Ok(Frame::Data(data)))),
                Err(frame) => {
                    if let Ok(mut map) = frame.into_trailers() {
                        let refused: Vec<_> = map
                            .keys()
                            .filter(|name| !is_allowed_trailer(name.as_str().as_bytes()))
                            .cloned()
                            .collect();
                        for name in refused {
                            map.remove(name);
                        }
                        return Poll::Ready(Some(Ok(Frame::Trailers(http2::fields_from(&map)))));
                    }
                }
            }
        }
    }

    fn length(&self) -> Option<u64> {
        use hyper::body::Body as _;
        self.incoming.size_hint().exact()
    }

    fn is_end(&self) -> bool {
        use hyper::body::Body as _;
        self.incoming.is_end_stream()
    }
}

/// What an error of hyper's means.
fn grade(error: &hyper::Error, is_unsent: bool) -> Error {
    let detail = describe(error);
    if is_unsent {
        return Error::new(Kind::UpstreamClosed, detail).with_replay(Replay::Safe);
    }
    // The request's own content failed: the client left, sent too much, or was too slow.
    if let Some(own) = source::<Error>(error) {
        return Error::new(own.kind(), own.detail().to_owned());
    }
    match source::<h2::Error>(error) {
        Some(h2) if h2.reason() == Some(h2::Reason::REFUSED_STREAM) => {
            Error::new(Kind::UpstreamRefused, detail).with_replay(Replay::Safe)
        }
        // GOAWAY: streams beyond its last id were not processed (RFC 9113 §6.8), and only those fail with it.
        Some(h2) if h2.is_go_away() && h2.is_remote() => {
            Error::new(Kind::UpstreamRefused, detail).with_replay(Replay::Safe)
        }
        Some(h2) if h2.is_reset() => Error::new(Kind::UpstreamReset, detail),
        Some(h2) if h2.is_io() => Error::new(Kind::UpstreamClosed, detail).with_replay(Replay::IfIdempotent),
        Some(_) => Error::new(Kind::UpstreamProtocol, detail),
        None if error.is_canceled() || error.is_closed() => {
            Error::new(Kind::UpstreamClosed, detail).with_replay(Replay::IfIdempotent)
        }
        None => Error::new(Kind::UpstreamClosed, detail),
    }
}

fn source<T: std::error::Error + 'static>(error: &hyper::Error) -> Option<&T> {
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// An error with its sources: hyper's own text alone says little.
fn describe(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}
