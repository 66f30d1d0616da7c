//! What receives sidelight's telemetry in the otlp row: a process of its own, whose CPU time counts for nobody.
//!
//! What: OTLP over gRPC, as small as a receiver can be that says truly what arrived: it answers OK, and counts spans and
//! log records without decoding what is in them. It is this same program, started once more. With
//! `--otlp-receiver` rotel (<https://github.com/streamfold/rotel>) receives instead, a collector that decodes everything, and
//! keeps nothing; it does not say what it counted, so only sidelight's books are judged then. How it fails: a message that
//! is no OTLP is answered with INVALID_ARGUMENT, which sidelight tells as dropped, and the row does not count.

use crate::{
    Result,
    process::{Process, free_ports},
};
use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    pin::Pin,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{io::AsyncWriteExt, net::TcpListener};

/// The argument that makes this program the receiver; its ports follow.
pub const FLAG: &str = "--receive-otlp";
/// How long it may take to listen, and to say what it counted.
const PATIENCE: Duration = Duration::from_secs(10);
/// Flow control: a message of sidelight is some hundred KiB.
const WINDOW_BYTES: u32 = 4 << 20;
/// Field numbers from an export request to what is counted, alike for traces and logs
/// (`resource_spans`, `scope_spans`, `spans`).
const PATH: [u64; 3] = [1, 2, 2];
/// gRPC's status codes.
const OK: &str = "0";
const INVALID_ARGUMENT: &str = "3";
const UNIMPLEMENTED: &str = "12";

/// What arrived since it was started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Spans.
    pub spans: u64,
    /// Log records.
    pub logs: u64,
}

/// The receiver, while this lives.
pub struct Receiver {
    /// Where OTLP over gRPC is taken.
    pub port: u16,
    /// Who takes it there.
    pub name: &'static str,
    /// Where it tells what it counted; rotel does not.
    counts: Option<u16>,
    _process: Process,
}

impl Receiver {
    /// Starts it on `cores`, or `rotel` instead.
    ///
    /// Errors: one of them does not start or listen.
    pub fn start(directory: &Path, cores: &[usize], rotel: Option<&Path>) -> Result<Self> {
        let [own, counts] = free_ports()?;
        if let Some(rotel) = rotel {
            let mut command = Command::new(rotel);
            command.args(["start", "--exporter=blackhole"]);
            command.arg(format!("--otlp-grpc-endpoint=127.0.0.1:{own}"));
            command.arg(format!("--otlp-http-endpoint=127.0.0.1:{counts}"));
            command.arg(format!("--pid-file={}", directory.join("rotel.pid").display()));
            let mut process = Process::start("rotel", command, cores, directory.join("rotel.log"))?;
            process.wait_for_port(own, PATIENCE)?;
            return Ok(Self { port: own, name: "rotel", counts: None, _process: process });
        }
        let program = std::env::current_exe().map_err(|error| format!("where this program is: {error}"))?;
        let mut command = Command::new(program);
        command.arg(FLAG).arg(own.to_string()).arg(counts.to_string());
        let mut process = Process::start("OTLP receiver", command, cores, directory.join("receiver.log"))?;
        process.wait_for_port(own, PATIENCE)?;
        process.wait_for_port(counts, PATIENCE)?;
        Ok(Self { port: own, name: "this program", counts: Some(counts), _process: process })
    }

    /// What arrived by now; `None`: it does not count.
    ///
    /// Errors: it has ended.
    pub fn counts(&self) -> Result<Option<Counts>> {
        let Some(port) = self.counts else { return Ok(None) };
        let failed = |error: std::io::Error| format!("the OTLP receiver does not answer: {error}");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(failed)?;
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [spans, logs] => Ok(Some(Counts { spans, logs })),
            _ => Err(format!("the OTLP receiver answered {text:?}")),
        }
    }
}

/// What sidelight says itself of the events, on its admin port.
///
/// Errors: it does not answer, or its answer is not understood.
pub fn overview(port: u16) -> Result<serde_json::Value> {
    document(port, "/")
}

/// What sidelight's admin port has at `path`.
///
/// Errors: it does not answer, or its answer is not understood.
pub fn document(port: u16, path: &str) -> Result<serde_json::Value> {
    let failed = |error: std::io::Error| format!("the admin port does not answer: {error}");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: application/json\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    let (_, content) = answer.split_once("\r\n\r\n").ok_or("the admin port's answer has no end")?;
    serde_json::from_str(content).map_err(|error| format!("the admin port's answer: {error}"))
}

/// Is the receiver, until it is killed.
///
/// Errors: the arguments are no ports, or a port is taken.
pub fn serve(mut ports: impl Iterator<Item = String>) -> Result<()> {
    let mut port = || ports.next().and_then(|port| port.parse::<u16>().ok());
    let (Some(grpc), Some(counts)) = (port(), port()) else { return Err(format!("{FLAG} needs two ports")) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let failed = |error: std::io::Error| format!("OTLP receiver: {error}");
    runtime.map_err(failed)?.block_on(async {
        let grpc = TcpListener::bind((Ipv4Addr::LOCALHOST, grpc)).await.map_err(failed)?;
        let counts = TcpListener::bind((Ipv4Addr::LOCALHOST, counts)).await.map_err(failed)?;
        let counters = Arc::new(Counters::default());
        loop {
            tokio::select! {
                accepted = grpc.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let counters = Arc::clone(&counters);
                    tokio::spawn(serve_one(stream, counters));
                }
                accepted = counts.accept() => {
                    let Ok((mut stream, _)) = accepted else { continue };
                    let _ = stream.write_all(counters.text().as_bytes()).await;
                }
            }
        }
    })
}

/// Serves a connection to its end.
async fn serve_one(stream: tokio::net::TcpStream, counters: Arc<Counters>) {
    let service = hyper::service::service_fn(move |request| take(request, Arc::clone(&counters)));
    let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    server.initial_stream_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

#[derive(Default)]
struct Counters {
    spans: AtomicU64,
    logs: AtomicU64,
}

impl Counters {
    fn text(&self) -> String {
        let [spans, logs] = [&self.spans, &self.logs].map(|counter| counter.load(Ordering::Relaxed));
        format!("{spans} {logs}\n")
    }
}

/// Counts what one call brings.
async fn take(
    request: Request<Incoming>,
    counters: Arc<Counters>,
) -> std::result::Result<Response<Reply>, Infallible> {
    let (head, mut body) = request.into_parts();
    let mut message = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        match frame {
            Ok(frame) => message.extend_from_slice(frame.data_ref().map(Bytes::as_ref).unwrap_or_default()),
            Err(_) => return Ok(reply(INVALID_ARGUMENT)), // the connection broke: nobody reads it
        }
    }
    let counter = match head.uri.path() {
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => &counters.spans,
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => &counters.logs,
        // Metrics are no events.
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => return Ok(reply(OK)),
        _ => return Ok(reply(UNIMPLEMENTED)),
    };
    // Not compressed, and its length in four bytes.
    let counted = match message.split_first_chunk::<5>() {
        Some(([0, _, _, _, _], content)) => count(content, &PATH),
        _ => None,
    };
    let Some(counted) = counted else { return Ok(reply(INVALID_ARGUMENT)) };
    counter.fetch_add(counted, Ordering::Relaxed);
    Ok(reply(OK))
}

/// How many fields are at the end of `path`, of messages in one another (<https://protobuf.dev/programming-guides/encoding/>).
fn count(mut message: &[u8], path: &[u64]) -> Option<u64> {
    let (wanted, deeper) = path.split_first()?;
    let mut counted = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let length = match key & 7 {
            0 => {
                varint(&mut message)?;
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (field, rest) = message.split_at_checked(length)?;
        message = rest;
        if key >> 3 == *wanted {
            counted += if deeper.is_empty() { 1 } else { count(field, deeper)? };
        }
    }
    Some(counted)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// A gRPC answer: an empty message, by which everything was taken, and the status behind it.
struct Reply {
    message: Option<Bytes>,
    status: Option<&'static str>,
}

fn reply(status: &'static str) -> Response<Reply> {
    let message = (status == OK).then(|| Bytes::from_static(&[0; 5]));
    let mut response = Response::new(Reply { message, status: Some(status) });
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/grpc+proto"));
    response
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        let trailers = self.status.take().map(|status| {
            let status = http::HeaderValue::from_static(status);
            Frame::trailers([(http::HeaderName::from_static("grpc-status"), status)].into_iter().collect())
        });
        Poll::Ready(trailers.map(Ok))
    }
}

/// The program that `--otlp-receiver` names.
///
/// Errors: it is no file.
pub fn rotel(path: &str) -> Result<PathBuf> {
    let path = PathBuf::from(path);
    if path.is_file() { Ok(path) } else { Err(format!("--otlp-receiver: {} is no file", path.display())) }
}
