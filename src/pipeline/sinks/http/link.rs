//! One connection of a sink, and the runtime that it lives on.

use super::Protocol;
use super::answer::{Answer, clean};
use super::origin::Origin;
use crate::identity::{ALPN_HTTP2, Alpn, ClientTls};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// Most bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Addresses of a name that are tried; the rest is for the next time.
const ADDRESSES_MAX: usize = 8;

/// Threads that ask the system's resolver, which cannot be interrupted.
const RESOLVERS_MAX: usize = 2;

/// The shortest time that one address of several is given.
const ADDRESS_TIME_MIN: Duration = Duration::from_millis(500);

/// How connections are made.
pub(super) struct Way {
    pub(super) tls: Option<Arc<ClientTls>>,
    pub(super) protocol: Protocol,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Broken {
    /// One line for people, without the place.
    pub(super) reason: String,
    /// Whether the other side had begun to answer, or the time is over: not what a stale connection looks like.
    pub(super) has_begun: bool,
}

impl Broken {
    fn at_once(reason: impl Into<String>) -> Broken {
        Broken { reason: reason.into(), has_begun: false }
    }
}

/// An open connection.
pub(super) struct Link {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    sender: Sender,
    used_at: Instant,
    /// Whether something is left on it that the next request must not meet.
    is_spent: bool,
}

enum Sender {
    Http1(http1::SendRequest<Once>),
    Http2(http2::SendRequest<Once>),
}

/// The content of a request, in one piece.
struct Once(Option<Bytes>);

impl Body for Once {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

impl Link {
    /// Resolves, connects, shakes hands.
    pub(super) fn open(origin: &Origin, way: &Way, deadline: Instant) -> Result<Link, Broken> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(RESOLVERS_MAX)
            .build()
            .map_err(|error| Broken::at_once(format!("no runtime: {error}")))?;
        let stage = Cell::new("its name was not resolved in time");
        let opening = async {
            let limited = tokio::time::timeout_at(deadline.into(), connect(origin, way, deadline, &stage));
            limited.await.unwrap_or_else(|_| Err(Broken::at_once(stage.get())))
        };
        match runtime.block_on(opening) {
            Ok(sender) => {
                Ok(Link { runtime: Some(runtime), sender, used_at: Instant::now(), is_spent: false })
            }
            Err(broken) => {
                runtime.shutdown_background();
                Err(broken)
            }
        }
    }

    /// One request, and its answer in whole. After an error the connection is of no more use.
    pub(super) fn exchange(
        &mut self,
        head: http::Request<()>,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Answer, Broken> {
        let Link { runtime, sender, used_at, is_spent } = self;
        let Some(runtime) = runtime else { return Err(Broken::at_once("it is closed")) };
        let has_begun = Cell::new(false);
        let exchanging = async {
            settle().await;
            let body = Once(Some(body).filter(|body| !body.is_empty()));
            let response =
                sender.send(head.map(|()| body)).await.map_err(|error| Broken::at_once(describe(&error)))?;
            has_begun.set(true);
            let (answer, is_whole) = Answer::read(response).await.map_err(|error| Broken {
                reason: format!("the answer broke off: {}", describe(&error)),
                has_begun: true,
            })?;
            *is_spent = !is_whole;
            // The connection notices now, and not when the next request is on its way, that it is over.
            settle().await;
            Ok(answer)
        };
        let answer = runtime.block_on(async {
            tokio::time::timeout_at(deadline.into(), exchanging).await.unwrap_or_else(|_| {
                let reason =
                    if has_begun.get() { "the answer did not end in time" } else { "no answer in time" };
                Err(Broken { reason: reason.into(), has_begun: true })
            })
        });
        *used_at = Instant::now();
        answer
    }

    /// Lets the connection see what came meanwhile.
    pub(super) fn settle(&mut self) {
        if let Some(runtime) = &self.runtime {
            runtime.block_on(settle());
        }
    }

    /// Whether another request may be sent on it.
    pub(super) fn is_open(&self) -> bool {
        !self.is_spent
            && match &self.sender {
                Sender::Http1(sender) => !sender.is_closed(),
                Sender::Http2(sender) => !sender.is_closed(),
            }
    }

    /// How long nobody has used it.
    pub(super) fn idle(&self) -> Duration {
        self.used_at.elapsed()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Closes the socket now; a look-up that still runs must not hold the sink's thread.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Sender {
    async fn send(&mut self, request: http::Request<Once>) -> hyper::Result<http::Response<Incoming>> {
        match self {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

/// Lets the connection's tasks run, and see what has come over the network.
async fn settle() {
    // Each yield polls the sockets once; what they have is handled in the turn after it.
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
}

async fn connect(
    origin: &Origin,
    way: &Way,
    deadline: Instant,
    stage: &Cell<&'static str>,
) -> Result<Sender, Broken> {
    let found = tokio::net::lookup_host((origin.host.as_str(), origin.port)).await;
    let addresses: Vec<SocketAddr> = found
        .map_err(|error| Broken::at_once(format!("its name is not resolved: {error}")))?
        .take(ADDRESSES_MAX)
        .collect();
    stage.set("it did not accept the connection in time");
    let (stream, address) = dial(&addresses, deadline).await?;
    // A request is one write; to hold its end back for an acknowledgement only costs time.
    let _ = stream.set_nodelay(true);
    let Some(tls) = &way.tls else {
        stage.set("it did not answer in time");
        return handshake(stream, way.protocol).await;
    };
    stage.set("the TLS handshake did not end in time");
    if let Err(error) = tls.reload() {
        tracing::warn!(place = %origin.authority, %error, "TLS files of a sink changed, and are not usable: the old ones stay");
    }
    let alpn = match way.protocol {
        Protocol::Http1 => Alpn::Http1,
        Protocol::Http2 => Alpn::Http2,
    };
    let connector = tokio_rustls::TlsConnector::from(tls.config(alpn));
    let name = tls.server_name_of(&format!("{}:{}", origin.host, origin.port), &address);
    let stream = connector
        .connect(name, stream)
        .await
        .map_err(|error| Broken::at_once(format!("TLS: {}", describe(&error))))?;
    if way.protocol == Protocol::Http2 && stream.get_ref().1.alpn_protocol() != Some(ALPN_HTTP2) {
        return Err(Broken::at_once("TLS: the other side does not offer HTTP/2"));
    }
    stage.set("it did not answer in time");
    handshake(stream, way.protocol).await
}

/// The first address that accepts. Each has its share of the time, so that one that is silent does not use up all of it.
async fn dial(addresses: &[SocketAddr], deadline: Instant) -> Result<(TcpStream, SocketAddr), Broken> {
    let mut reason = "its name has no address".to_owned();
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        match tokio::time::timeout(share.max(ADDRESS_TIME_MIN), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok((stream, *address)),
            // Who is meant is said by the caller, who knows the name.
            Ok(Err(error)) if addresses.len() == 1 => reason = format!("not connected: {error}"),
            Ok(Err(error)) => reason = format!("not connected to {address}: {error}"),
            Err(_) => reason = format!("{address} did not accept the connection in time"),
        }
    }
    Err(Broken::at_once(reason))
}

async fn handshake<S>(stream: S, protocol: Protocol) -> Result<Sender, Broken>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| Broken::at_once(describe(&error));
    let io = TokioIo::new(stream);
    match protocol {
        Protocol::Http1 => {
            let (sender, connection) =
                http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(io).await.map_err(failed)?;
            drive(connection);
            Ok(Sender::Http1(sender))
        }
        Protocol::Http2 => {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_header_list_size(HEAD_BYTES_MAX as u32)
                .handshake(io)
                .await
                .map_err(failed)?;
            drive(connection);
            Ok(Sender::Http2(sender))
        }
    }
}

/// Runs a connection until it ends; whoever waits for an answer is told why.
fn drive(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %describe(&error), "a sink's connection ended");
        }
    });
}

/// An error with its causes, in one line.
fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Many errors repeat what their cause says.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    clean(&text)
}
