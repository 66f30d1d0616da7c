//! Tests of content that stands still: the listener's time, and that of a route, in both servers and both directions.

use super::respond::{Respond, RespondLayer};
use super::{http1, http2};
use crate::drain::Watch;
use crate::error::{Error, Result};
use crate::exchange::{Answer, Connection, Direction, Exchange, NoSink, Policy, Response, Sink};
use crate::http1::{HeadLimits, chunked};
use crate::svc::{Body, Frame, Io, ResponseHead, Socket, Source};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;
use tower::{Layer, Service};

const SECOND: Duration = Duration::from_secs(1);

/// Content that says something and then nothing.
struct Stalling(bool);

impl Source for Stalling {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::Data(Bytes::from_static(b"ab")))))
    }

    fn length(&self) -> Option<u64> {
        None
    }
}

/// Routes, then reads the request's content to its end, then answers with content that stalls.
#[derive(Clone)]
struct Stack(Option<Arc<Policy>>);

impl Service<Exchange> for Stack {
    type Response = Response;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Answer>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, exchange: Exchange) -> Self::Future {
        let Exchange { mut body, ctx, .. } = exchange;
        *ctx.policy.borrow_mut() = self.0.clone();
        Box::pin(async move {
            while let Some(frame) = body.frame().await {
                frame?;
            }
            Ok(Response::new(ResponseHead::new(200), Body::stream(Stalling(false))))
        })
    }
}

fn stack(idle_timeout: Option<Option<Duration>>) -> Respond<Stack> {
    RespondLayer.layer(Stack(Some(Arc::new(Policy { idle_timeout, ..Policy::default() }))))
}

fn connection() -> Rc<Connection> {
    Rc::new(Connection {
        direction: Direction::Inbound,
        peer: ([127, 0, 0, 1], 1).into(),
        local: ([127, 0, 0, 1], 2).into(),
        is_tls: false,
        identity: None,
        is_trusted: true,
        serial: Default::default(),
    })
}

fn io() -> (DuplexStream, Io) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    (near, Io::Plain(Socket::other(Box::new(far))))
}

const CHUNKED: chunked::Limits =
    chunked::Limits { extension_bytes_max: 1024, trailer_bytes_max: 1024, trailers_max: 10 };

/// A client whose exchange with a server ends when something stalls: when that was.
async fn http1_client(request: &str, body_timeout: Duration, idle: Option<Option<Duration>>) -> Duration {
    let (mut near, far) = io();
    let settings = http1::Settings {
        head: HeadLimits { head_bytes_max: 8192, fields_max: 10, target_bytes_max: 1024 },
        chunked: CHUNKED,
        body_bytes_max: None,
        buffer_bytes_max: 8192,
        header_timeout: 10 * SECOND,
        idle_timeout: 10 * SECOND,
        body_timeout: Some(body_timeout),
        half_close_grace: Duration::ZERO,
        requests_max: None,
        tunnel_idle_timeout: None,
    };
    let sink: Rc<dyn Sink> = Rc::new(NoSink);
    let served =
        http1::serve(far, Bytes::new(), stack(idle), connection(), Rc::new(settings), sink, Watch::default());
    let served = tokio::task::spawn_local(served);
    let start = Instant::now();
    near.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let end = tokio::time::timeout(3600 * SECOND, async {
        // What follows 408 is the end of the connection; a client that has it closes its own side.
        while !String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 408")
            && near.read_buf(&mut answer).await.is_ok_and(|read| read > 0)
        {}
    });
    let _ = end.await;
    served.abort();
    start.elapsed()
}

async fn http2_client(body: Body, body_timeout: Duration, idle: Option<Option<Duration>>) -> Duration {
    let (near, far) = io();
    let settings = http2::Settings {
        concurrent_streams_max: 10,
        header_list_bytes_max: 8192,
        target_bytes_max: 1024,
        fields_max: 10,
        stream_window_bytes: 65_536,
        connection_window_bytes: 65_536,
        frame_bytes_max: 16_384,
        send_buffer_bytes_max: 65_536,
        keepalive_interval: None,
        keepalive_timeout: SECOND,
        pending_resets_max: 10,
        local_resets_max: 10,
        guard: http2::GuardLimits {
            window: SECOND,
            settings_max: 100,
            ping_max: 100,
            priority_max: 100,
            empty_data_max: 100,
            reset_requests_min: 100,
            reset_percent_max: 50,
        },
        idle_timeout: 10 * SECOND,
        body_timeout: Some(body_timeout),
        body_bytes_max: None,
        tunnel_idle_timeout: None,
    };
    let sink: Rc<dyn Sink> = Rc::new(NoSink);
    let served = http2::serve(far, stack(idle), connection(), Rc::new(settings), sink, Watch::default());
    let served = tokio::task::spawn_local(served);
    let io = hyper_util::rt::TokioIo::new(near);
    let builder = hyper::client::conn::http2::Builder::new(Here);
    let (mut send, client) = builder.handshake(io).await.unwrap();
    let client = tokio::task::spawn_local(client);
    let start = Instant::now();
    let mut request = http::Request::new(body);
    *request.uri_mut() = "http://a/".parse().unwrap();
    *request.method_mut() = http::Method::PUT;
    let end = tokio::time::timeout(3600 * SECOND, async {
        let response = send.send_request(request).await.unwrap();
        if response.status() == 200 {
            let mut incoming = response.into_body();
            while let Some(Ok(_)) =
                std::future::poll_fn(|cx| hyper::body::Body::poll_frame(Pin::new(&mut incoming), cx)).await
            {
            }
        }
    });
    let _ = end.await;
    let elapsed = start.elapsed();
    served.abort();
    client.abort();
    elapsed
}

#[derive(Clone)]
struct Here;

impl<F: Future + 'static> hyper::rt::Executor<F> for Here {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// Listener, route, and when what stalls is cut.
type Case = (Duration, Option<Option<Duration>>, Duration);

fn cases() -> [Case; 4] {
    [
        (300 * SECOND, None, 300 * SECOND),
        (300 * SECOND, Some(Some(2 * SECOND)), 2 * SECOND),
        (2 * SECOND, Some(Some(300 * SECOND)), 300 * SECOND),
        // For ever, as far as the clients of this test can tell.
        (2 * SECOND, Some(None), 3600 * SECOND),
    ]
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_that_stalls_is_cut_when_its_route_says() {
    for (listeners, route, expected) in cases() {
        let request = "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab";
        assert_eq!(http1_client(request, listeners, route).await.as_secs(), expected.as_secs(), "{route:?}");
        let elapsed = http2_client(Body::stream(Stalling(false)), listeners, route).await;
        assert_eq!(elapsed.as_secs(), expected.as_secs(), "HTTP/2 {route:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_answer_that_stalls_is_cut_when_its_route_says() {
    for (listeners, route, expected) in cases() {
        let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        assert_eq!(http1_client(request, listeners, route).await.as_secs(), expected.as_secs(), "{route:?}");
        let elapsed = http2_client(Body::empty(), listeners, route).await;
        assert_eq!(elapsed.as_secs(), expected.as_secs(), "HTTP/2 {route:?}");
    }
}
