//! Servers for tests of sinks: threads on loopback.

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

/// Accepts connections until the test ends, each on a thread of its own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (counter, serve) = (Arc::clone(&accepted), Arc::new(serve));
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                counter.fetch_add(1, Ordering::SeqCst);
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(stream));
            }
        });
        Server { address, accepted }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// One HTTP/1.1 request with `Content-Length`, as text; `None` when the client is gone.
pub(crate) fn read_request(stream: &mut impl Read) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let mut some = [0; 4096];
        let count = stream.read(&mut some).ok()?;
        if count == 0 {
            return None;
        }
        bytes.extend_from_slice(&some[..count]);
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .split_once("\r\ncontent-length: ")
            .map_or(0, |(_, rest)| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
        if bytes.len() >= head.len() + 4 + length {
            return Some(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}

/// What an HTTP/2 server is asked.
pub(crate) struct Asked {
    pub(crate) head: http::request::Parts,
    pub(crate) body: Bytes,
}

/// What it answers.
#[derive(Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(&'static str, String)>,
}

/// The content of a reply: at most data and trailers.
pub(crate) struct Frames(VecDeque<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().0.pop_front().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

fn headers(fields: &[(&'static str, String)]) -> http::HeaderMap {
    fields
        .iter()
        .map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap()))
        .collect()
}

fn response(reply: Reply) -> http::Response<Frames> {
    let mut frames = VecDeque::new();
    if !reply.body.is_empty() {
        frames.push_back(Frame::data(Bytes::from(reply.body)));
    }
    if !reply.trailers.is_empty() {
        frames.push_back(Frame::trailers(headers(&reply.trailers)));
    }
    let mut response = http::Response::new(Frames(frames));
    *response.status_mut() = http::StatusCode::from_u16(reply.status).unwrap();
    *response.headers_mut() = headers(&reply.headers);
    response
}

async fn whole(mut body: Incoming) -> Bytes {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    bytes.into()
}

/// Serves one connection of HTTP/2 to its end; for [`Server::start`].
pub(crate) fn serve_h2(stream: TcpStream, answer: impl Fn(Asked) -> Reply + Send + Sync + 'static) {
    let answer = Arc::new(answer);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    stream.set_nonblocking(true).unwrap();
    runtime.block_on(async {
        let io = TokioIo::new(tokio::net::TcpStream::from_std(stream).unwrap());
        let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
            let answer = Arc::clone(&answer);
            async move {
                let (head, body) = request.into_parts();
                let body = whole(body).await;
                Ok::<_, Infallible>(response(answer(Asked { head, body })))
            }
        });
        // A client that goes away is no failure of the test.
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, service)
            .await;
    });
}
