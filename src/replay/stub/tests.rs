//! Calls over real sockets.

use super::*;
use crate::exchange::Direction;
use crate::record::{Entry, Event, Field, RequestHead, ResponseHead, Side, What};
use bytes::Bytes;
use http_body::Body;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

fn entry(started: u64, call: &str, body: &str, answer: &str) -> Entry {
    let mut parts = call.splitn(3, ' ');
    let mut part = || Bytes::copy_from_slice(parts.next().unwrap().as_bytes());
    let head = RequestHead { method: part(), authority: part(), target: part(), ..RequestHead::default() };
    let fields = vec![
        Field::new("content-type", "text/plain"),
        Field::new("connection", "close"),
        Field::new("x-from", "recording"),
    ];
    let what = [
        (0, What::Request(head)),
        (0, What::Data(Side::Request, Bytes::copy_from_slice(body.as_bytes()))),
        (80, What::Response(ResponseHead { status: 200, fields })),
        (160, What::Data(Side::Response, Bytes::copy_from_slice(answer.as_bytes()))),
    ];
    let events = what.map(|(at_ms, what)| Event { at_ns: at_ms * 1_000_000, what }).to_vec();
    Entry { direction: Direction::Outbound, started_ns: started, events, ..Entry::default() }
}

struct Stub {
    at: SocketAddr,
    answers: Arc<Answers>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Stub {
    async fn start(entries: Vec<Entry>, latency: Latency) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let answers = Arc::new(Answers::load(entries));
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = serve(listener, Arc::clone(&answers), Options { latency }, async move {
            let _ = stopped.await;
        });
        Stub { at, answers, stop, task: tokio::spawn(serving) }
    }

    /// One call on a connection of its own; all that comes back.
    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut out = Vec::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut out)).await.unwrap().unwrap();
        String::from_utf8(out).unwrap()
    }

    async fn get(&self, target: &str, host: &str, more: &str) -> String {
        self.ask(&format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{more}\r\n")).await
    }

    async fn end(self) -> Report {
        self.stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(10), self.task).await.unwrap().unwrap();
        self.answers.report()
    }
}

/// The content of a raw answer.
fn content(answer: &str) -> &str {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("x-from: recording"), "{answer}");
    if head.contains("chunked") { body.split("\r\n").nth(1).unwrap() } else { body }
}

#[tokio::test]
async fn the_nth_call_gets_the_nth_answer_and_the_last_one_again() {
    let entries = vec![
        entry(20, "GET stock:80 /a?x=1&y=2", "", "second"),
        entry(10, "GET stock:80 /a?x=1&y=2", "", "first"),
        entry(30, "GET price /a?x=1&y=2", "", "price"),
        entry(40, "GET stock /never", "", "never"),
    ];
    let stub = Stub::start(entries, Latency::None).await;
    for want in ["first", "second", "second"] {
        assert_eq!(content(&stub.get("/a?y=2&x=1", "STOCK:8080", "").await), want);
    }
    assert_eq!(content(&stub.get("/a?x=1&y=2", "price", "").await), "price");
    let unknown = stub.get("/b", "stock", "").await;
    let (head, body) = unknown.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 502 ") && head.contains("application/problem+json"), "{unknown}");
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(problem["nearest"][0], "GET stock/never");
    let report = stub.end().await;
    assert_eq!((report.served, report.repeated, report.unmatched, report.unused), (4, 1, 1, 1));
    assert_eq!(report.unmatched_calls.keys().collect::<Vec<_>>(), ["GET stock/b"]);
    assert_eq!(report.unused_calls.keys().collect::<Vec<_>>(), ["GET stock/never"]);
    assert!(report.to_string().contains("unused: GET stock/never (1×)"));
}

#[tokio::test]
async fn content_account_and_trace_choose_and_hosts_do_not_count_when_unknown() {
    let mut ours = entry(1, "POST pay /charge", "10", "ten of ours");
    ours.account_id = "ours".into();
    let mut traced = entry(4, "POST pay /charge", "10", "of the trace");
    traced.trace_id = [0xab; 16];
    let entries = vec![
        ours,
        entry(2, "POST pay /charge", "10", "ten"),
        entry(3, "POST pay /charge", "20", "twenty"),
        traced,
    ];
    let stub = Stub::start(entries, Latency::None).await;
    let ask = async |body: &str, more: &str, host: &str| {
        let request = format!(
            "POST /charge HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n{more}\r\n{body}",
            body.len()
        );
        content(&stub.ask(&request).await).to_owned()
    };
    assert_eq!(ask("20", "", "pay").await, "twenty");
    assert_eq!(ask("10", "x-account-id: ours\r\n", "pay").await, "ten of ours");
    assert_eq!(
        ask("10", &format!("x-sidelight-replay: run=1;trace={}\r\n", "ab".repeat(16)), "pay").await,
        "of the trace"
    );
    assert_eq!(
        ask("20", "", "127.0.0.1:9").await,
        "twenty",
        "the service was told to use the stub as its host"
    );
    assert_eq!(ask("99", "", "pay").await, "ten", "other content: in the order of the recording");
    stub.end().await;
}

#[tokio::test]
async fn recorded_latency_is_kept_and_none_is_not() {
    for (latency, least_ms, most_ms) in [(Latency::Recorded, 160, 5_000), (Latency::None, 0, 150)] {
        let stub = Stub::start(vec![entry(1, "GET a /", "", "x")], latency).await;
        // The best of some: a busy machine only adds.
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let began = Instant::now();
            stub.get("/", "a", "").await;
            best = best.min(began.elapsed());
        }
        assert!(
            best >= Duration::from_millis(least_ms) && best < Duration::from_millis(most_ms),
            "{latency:?}: {best:?}"
        );
        stub.end().await;
    }
}

#[tokio::test]
async fn a_recorded_reset_is_a_reset_and_what_is_no_whole_answer_is_left_out() {
    let mut reset = entry(1, "GET a /reset", "", "begin");
    reset.events.push(Event { at_ns: 0, what: What::Reset(Side::Response, "upstream".into()) });
    let mut cut = entry(2, "GET a /cut", "", "x");
    cut.response.is_truncated = true;
    let inbound = Entry { direction: Direction::Inbound, ..entry(3, "GET a /in", "", "x") };
    let stub = Stub::start(
        vec![reset, cut, inbound, Entry { direction: Direction::Outbound, ..Entry::default() }],
        Latency::None,
    )
    .await;
    let answer = stub.get("/reset", "a", "").await;
    assert!(!answer.contains("\r\n0\r\n"), "an answer that was reset must not look whole: {answer}");
    assert!(stub.get("/cut", "a", "").await.starts_with("HTTP/1.1 502 "));
    let skipped: Vec<_> = stub.answers.skipped().iter().map(|(why, count)| (*why, *count)).collect();
    assert_eq!(skipped, [("answer not recorded whole", 1), ("inbound", 1), ("no request", 1)]);
    assert_eq!((stub.answers.len(), stub.answers.is_empty()), (1, false));
    stub.end().await;
}

struct Message(Option<Bytes>);

impl Body for Message {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(self.0.take().map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

#[tokio::test]
async fn grpc_calls_get_their_message_and_trailers_over_http2() {
    let message = |n: u8| Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, n]);
    let call = |started, asked: u8, answered: u8| {
        let mut entry = entry(started, "POST stock:50051 /stock.Stock/Get", "", "");
        let fields = vec![Field::new("content-type", "application/grpc")];
        let trailers = vec![Field::new("grpc-status", "0"), Field::new("grpc-message", "")];
        entry.events[1].what = What::Data(Side::Request, message(asked));
        entry.events[2].what = What::Response(ResponseHead { status: 200, fields });
        entry.events[3].what = What::Data(Side::Response, message(answered));
        entry.events.push(Event { at_ns: 0, what: What::Trailers(Side::Response, trailers) });
        entry
    };
    let stub = Stub::start(vec![call(1, 1, 11), call(2, 2, 22)], Latency::None).await;
    let stream = TcpStream::connect(stub.at).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    for (asked, want) in [(2, 22), (1, 11), (2, 22)] {
        let request = http::Request::post("http://stock:50051/stock.Stock/Get")
            .header("content-type", "application/grpc");
        let request = request.header("te", "trailers").body(Message(Some(message(asked)))).unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/grpc");
        let mut body = pin!(response.into_body());
        let (mut data, mut trailers) = (Vec::new(), None);
        while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            match frame.unwrap().into_data() {
                Ok(bytes) => data.extend_from_slice(&bytes),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        assert_eq!(
            (&*data, &trailers.unwrap()["grpc-status"]),
            (&*message(want), &http::HeaderValue::from_static("0"))
        );
    }
    let report = stub.end().await;
    assert_eq!((report.served, report.unmatched, report.unused), (3, 0, 0));
    drop(client);
    let _ = driver.await;
}
