//! What an HTTP/2 target gets.

use super::*;
use crate::svc::Version;
use http_body::Frame;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

/// A request as it came: connection, method, uri, its content, its trailers' names.
#[derive(Clone, Debug)]
struct Got {
    connection: usize,
    uri: String,
    content_type: String,
    body: Vec<u8>,
    trailers: Vec<String>,
    is_cut: bool,
}

struct Frames(VecDeque<Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

fn serve() -> (SocketAddr, Arc<Mutex<Vec<Got>>>) {
    let seen = Arc::<Mutex<Vec<Got>>>::default();
    let (shared, listener) = (Arc::clone(&seen), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(&shared);
                let service = hyper::service::service_fn(move |request| {
                    answer(connection, request, Arc::clone(&shared))
                });
                tokio::spawn(
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
    });
    (address, seen)
}

/// Notes a request also where hyper drops what serves it, which it does when the stream is reset.
struct Watch {
    got: Option<Got>,
    seen: Arc<Mutex<Vec<Got>>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.seen.lock().unwrap().extend(self.got.take());
    }
}

async fn answer(
    connection: usize,
    request: http::Request<Incoming>,
    seen: Arc<Mutex<Vec<Got>>>,
) -> Result<http::Response<Frames>, Infallible> {
    let (parts, mut incoming) = request.into_parts();
    let uri = parts.uri.to_string();
    let is_slow = uri.ends_with("/slow");
    let content_type = parts.headers.get("content-type").map(|value| value.to_str().unwrap().to_owned());
    let content_type = content_type.unwrap_or_default();
    let got = Got { connection, uri, content_type, body: Vec::new(), trailers: Vec::new(), is_cut: true };
    let mut watch = Watch { got: Some(got), seen };
    let got = watch.got.as_mut().unwrap();
    while let Some(frame) =
        std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut incoming), cx)).await
    {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => got.body.extend_from_slice(&data),
            Ok(Err(frame)) => {
                let map = frame.into_trailers().unwrap();
                got.trailers.extend(map.keys().map(|name| name.to_string()));
            }
            Err(_) => std::future::pending().await,
        }
    }
    got.is_cut = false;
    drop(watch);
    if is_slow {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let mut end = http::HeaderMap::new();
    end.insert("grpc-status", http::HeaderValue::from_static("0"));
    let frames = Frames(VecDeque::from([Frame::data(Bytes::from_static(b"pong")), Frame::trailers(end)]));
    Ok(http::Response::new(frames))
}

fn http2(mut entry: Entry) -> Entry {
    entry.version = Version::Http2;
    entry
}

#[test]
fn streams_of_one_connection_keep_their_order_and_overlap() {
    let (address, seen) = serve();
    // Three accounts on one connection, at once; the fourth began when all were over.
    let mut entries: Vec<Entry> = ["/slow", "/b", "/c"]
        .iter()
        .enumerate()
        .map(|(n, target)| {
            let mut entry =
                entry(n as u64 + 1, n as u64, 1, &format!("a{n}"), &format!("GET {target} HTTP/2"));
            entry.duration_ns = 20 * MS;
            http2(entry)
        })
        .collect();
    entries.push(http2(entry(4, 50, 1, "a9", "GET /d HTTP/2")));
    let run = replay(entries, &options(address));
    assert_eq!((run.targets[0].answered, run.connections), (4, 1), "{run:#?}");
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|got| got.connection == seen[0].connection));
    let uris: Vec<&str> = seen.iter().map(|got| got.uri.as_str()).collect();
    assert_eq!(uris, ["/slow", "/b", "/c", "/d"].map(|path| format!("http://shop.example{path}")));
    // `/d` waited for `/slow`, which took longer than when it was recorded.
    assert!(run.targets[0].latency_actual.max_us >= 300_000);
    assert!(run.seconds < 3.0, "they overlap");
}

#[test]
fn a_grpc_stream_is_sent_with_its_pieces_and_trailers_and_rhythm() {
    let (address, seen) = serve();
    let mut call = http2(entry(
        1,
        0,
        1,
        "a",
        "POST /pkg.Service/Chat HTTP/2\ncontent-type: application/grpc\nte: trailers\ncontent-length: 14",
    ));
    let data = |at_ms, text: &'static [u8]| Event {
        at_ns: at_ms * MS,
        what: What::Data(Side::Request, Bytes::from_static(text)),
    };
    let trailers = What::Trailers(Side::Request, vec![Field::new("x-end", "1")]);
    call.events.splice(
        1..1,
        [data(0, b"\0\0\0\0\x02hi"), data(150, b"\0\0\0\0\x02yo"), Event { at_ns: 150 * MS, what: trailers }],
    );
    let mut options = options(address);
    let run = replay(vec![call.clone()], &options);
    assert_eq!((run.targets[0].answered, run.targets[0].bytes), (1, 4), "{run:#?}");
    options.piece_timing = true;
    let timed = replay(vec![call], &options);
    assert!(timed.targets[0].latency_actual.max_us >= 150_000, "{timed:#?}");
    for got in seen.lock().unwrap().iter() {
        assert_eq!(got.body, b"\0\0\0\0\x02hi\0\0\0\0\x02yo");
        assert_eq!((&*got.content_type, &got.trailers[..]), ("application/grpc", &["x-end".to_owned()][..]));
    }
}

#[test]
fn a_stream_that_the_client_reset_is_reset() {
    let (address, seen) = serve();
    let mut call = with_body(http2(entry(1, 0, 1, "a", "POST /x HTTP/2")), b"part");
    call.events.truncate(2);
    call.events.push(Event { at_ns: 200 * MS, what: What::Reset(Side::Request, "cancelled".into()) });
    let run = replay(vec![call], &options(address));
    assert_eq!((run.targets[0].cancelled, run.targets[0].failed), (1, 0), "{run:#?}");
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while seen.lock().unwrap().is_empty() && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(seen.lock().unwrap()[0].is_cut);
}
