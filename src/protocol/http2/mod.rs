//! The HTTP/2 server: hyper's, bounded, behind a guard that counts the frames hyper does not.
//!
//! Each stream becomes an exchange in a task of its own on the worker's thread. A stream that the client resets drops
//! its task, and with it the upstream's stream: cancellation is passed on at once.

mod guard;
mod stream;
mod task;

pub use guard::GuardLimits;

use crate::drain;
use crate::exchange::{Connection, Exchange, Response, Sink};
use crate::svc::{Io, Timer};
use guard::Guarded;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use stream::Streams;
use task::Tasks;
use tokio::time::Instant;
use tower::Service;

/// Bounds of an HTTP/2 connection; every one is set explicitly, h2's defaults are not for a proxy.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Streams at once.
    pub concurrent_streams_max: u32,
    /// Decoded bytes of a header section, 32 for each field included (RFC 9113 §6.5.2).
    pub header_list_bytes_max: u32,
    /// Bytes of a target.
    pub target_bytes_max: usize,
    /// Fields of a header section.
    pub fields_max: usize,
    /// Flow-control window of a stream.
    pub stream_window_bytes: u32,
    /// Flow-control window of the connection.
    pub connection_window_bytes: u32,
    /// The largest frame that is accepted.
    pub frame_bytes_max: u32,
    /// What is buffered for a stream that the client does not read.
    pub send_buffer_bytes_max: usize,
    /// How often to ask whether the client is still there.
    pub keepalive_interval: Option<Duration>,
    /// How long it may take to say so.
    pub keepalive_timeout: Duration,
    /// Streams that the client reset before they were accepted.
    pub pending_resets_max: usize,
    /// Streams that we reset and still remember.
    pub local_resets_max: usize,
    /// Frames that cost the client nothing.
    pub guard: GuardLimits,
    /// How long a connection may have no stream.
    pub idle_timeout: Duration,
    /// How long content may stall, either way.
    pub body_timeout: Option<Duration>,
    /// The request's content.
    pub body_bytes_max: Option<u64>,
    /// How long a tunnel may be silent.
    pub tunnel_idle_timeout: Option<Duration>,
}

/// Serves a connection until it ends; the limit of the guard that ended it, if one did.
pub async fn serve<S>(
    io: Io,
    stack: S,
    connection: Rc<Connection>,
    settings: Rc<Settings>,
    sink: Rc<dyn Sink>,
    watch: drain::Watch,
) -> Option<&'static str>
where
    S: Service<Exchange, Response = Response, Error = Infallible> + 'static,
    S::Future: 'static,
{
    let place = poll_fn(|cx| Poll::Ready(watch.register(cx.waker()))).await;
    let active = Rc::new(Cell::new(0usize));
    let tasks = Tasks::new(settings.body_timeout);
    let streams =
        Streams::new(stack, connection, Rc::clone(&settings), sink, Rc::clone(&active), tasks.clone());
    let mut builder = hyper::server::conn::http2::Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.concurrent_streams_max)
        // Beyond it h2 answers by itself, and no event tells of it; so up to there we refuse.
        .max_header_list_size(settings.header_list_bytes_max.saturating_mul(2).max(256 << 10))
        .initial_stream_window_size(settings.stream_window_bytes)
        .initial_connection_window_size(settings.connection_window_bytes)
        .max_frame_size(settings.frame_bytes_max)
        .max_send_buf_size(settings.send_buffer_bytes_max)
        .keep_alive_interval(settings.keepalive_interval)
        .keep_alive_timeout(settings.keepalive_timeout)
        .max_pending_accept_reset_streams(settings.pending_resets_max)
        .max_local_error_reset_streams(settings.local_resets_max)
        .enable_connect_protocol()
        .auto_date_header(true);
    let abuse = Rc::new(Cell::new(None));
    let guarded = Guarded::new(io, settings.guard, Rc::clone(&abuse));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(guarded), streams));
    let mut timer = Timer::new();
    let mut idle_until = None;
    let mut is_ending = false;
    poll_fn(|cx| {
        if connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !is_ending && place.is_closing() {
            is_ending = true;
            idle_until = None;
            connection.as_mut().graceful_shutdown();
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
        }
        if active.get() > 0 {
            idle_until = None;
            return Poll::Pending;
        }
        // After GOAWAY a client without a stream has no reason to stay, but it may be frozen: hyper would wait for the
        // answer to its last PING for ever.
        let timeout = if is_ending { settings.keepalive_timeout } else { settings.idle_timeout };
        let deadline = *idle_until.get_or_insert_with(|| Instant::now() + timeout);
        if timer.poll(cx, deadline).is_ready() {
            if is_ending {
                return Poll::Ready(());
            }
            is_ending = true;
            idle_until = None;
            connection.as_mut().graceful_shutdown();
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
    abuse.get()
}
