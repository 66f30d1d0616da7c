//! A request and its answer (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>,
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use super::Take;
use super::intake::{self, Outcome, Signal};
use crate::svc::base64;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Longest message: what gRPC servers take by default.
pub(super) const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// How much of a message that is too long is read before it is cut off.
const DISCARDED_BYTES_MAX: usize = 64 << 20;

/// How long a message may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// When to come again with what was not taken, in seconds.
const RETRY_AFTER: u8 = 1;

/// The bytes before a gRPC message.
const PREFIX_BYTES: usize = 5;

const PROTOBUF: &str = "application/x-protobuf";

/// gRPC's status codes.
mod code {
    pub(super) const INVALID_ARGUMENT: u8 = 3;
    pub(super) const DEADLINE_EXCEEDED: u8 = 4;
    pub(super) const RESOURCE_EXHAUSTED: u8 = 8;
    pub(super) const UNIMPLEMENTED: u8 = 12;
    pub(super) const UNAVAILABLE: u8 = 14;
}

/// What all requests share.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) take: Take,
    /// Messages that are in memory at once.
    pub(super) places: Arc<Semaphore>,
}

/// The content of an answer: data and trailers at most.
pub(super) struct Content(VecDeque<Frame<Bytes>>, u64);

impl Content {
    fn of(data: Vec<u8>, trailers: Option<HeaderMap>) -> Content {
        let len = data.len() as u64;
        let data = (!data.is_empty()).then(|| Frame::data(Bytes::from(data)));
        Content(data.into_iter().chain(trailers.map(Frame::trailers)).collect(), len)
    }
}

impl Body for Content {
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

    fn size_hint(&self) -> SizeHint {
        if self.0.is_empty() { SizeHint::with_exact(0) } else { SizeHint::with_exact(self.1) }
    }
}

/// Why a message cannot be read.
enum Unread {
    TooLarge,
    TooSlow,
    Gone,
}

impl Service {
    async fn message(&self, body: Incoming) -> Result<Bytes, Unread> {
        let reading = whole(body);
        tokio::time::timeout(BODY_TIMEOUT, reading).await.unwrap_or(Err(Unread::TooSlow))
    }

    /// OTLP/HTTP.
    pub(super) async fn http(self, request: Request<Incoming>) -> Result<Response<Content>, Infallible> {
        let signal = match request.uri().path() {
            "/v1/traces" => Signal::Traces,
            "/v1/logs" => Signal::Logs,
            "/v1/metrics" => Signal::Metrics,
            _ => {
                return Ok(plain(
                    StatusCode::NOT_FOUND,
                    "OTLP is taken at /v1/traces, /v1/logs and /v1/metrics",
                ));
            }
        };
        if request.method() != Method::POST {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "OTLP is sent with POST");
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return Ok(answer);
        }
        if let Some(why) = unsupported(request.headers()) {
            return Ok(plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        }
        // Nothing fails: the semaphore is never closed.
        let _place = self.places.acquire().await.ok();
        let message = match self.message(request.into_body()).await {
            Ok(message) => message,
            Err(Unread::TooLarge) => {
                return Ok(status(StatusCode::PAYLOAD_TOO_LARGE, "a message has at most 4 MiB"));
            }
            Err(Unread::TooSlow) => {
                return Ok(status(StatusCode::REQUEST_TIMEOUT, "the message did not arrive in time"));
            }
            Err(Unread::Gone) => return Ok(status(StatusCode::BAD_REQUEST, "the message broke off")),
        };
        Ok(match intake::take(signal, &message, &self.take).await {
            Outcome::Taken { rejected, message } => {
                answer(StatusCode::OK, PROTOBUF, success(rejected, message))
            }
            Outcome::Broken(why) => status(StatusCode::BAD_REQUEST, &why),
            Outcome::Full => {
                let mut answer = status(StatusCode::SERVICE_UNAVAILABLE, "the pipeline is full: try again");
                answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(u16::from(RETRY_AFTER)));
                answer
            }
        })
    }

    /// OTLP/gRPC.
    pub(super) async fn grpc(self, request: Request<Incoming>) -> Result<Response<Content>, Infallible> {
        let field = |name| request.headers().get(name).map(HeaderValue::as_bytes);
        let is_grpc = field(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with(b"application/grpc"));
        if request.method() != Method::POST || !is_grpc {
            return Ok(plain(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "this port speaks gRPC; OTLP/HTTP has one of its own",
            ));
        }
        let signal = match request.uri().path() {
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Signal::Traces,
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Signal::Logs,
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Signal::Metrics,
            _ => return Ok(failed(code::UNIMPLEMENTED, "there are traces, logs and metrics", None)),
        };
        let _place = self.places.acquire().await.ok();
        let body = match self.message(request.into_body()).await {
            Ok(body) => body,
            Err(Unread::TooLarge) => {
                return Ok(failed(code::RESOURCE_EXHAUSTED, "a message has at most 4 MiB", None));
            }
            Err(Unread::TooSlow) => {
                return Ok(failed(code::DEADLINE_EXCEEDED, "the message did not arrive in time", None));
            }
            Err(Unread::Gone) => return Ok(failed(code::INVALID_ARGUMENT, "the message broke off", None)),
        };
        let message = match body.split_at_checked(PREFIX_BYTES) {
            Some(([0, len @ ..], message)) if len == (message.len() as u32).to_be_bytes() => message,
            Some(([1, ..], _)) => {
                return Ok(failed(code::UNIMPLEMENTED, "messages are taken without compression only", None));
            }
            _ => {
                return Ok(failed(
                    code::INVALID_ARGUMENT,
                    "one message with its length before it was expected",
                    None,
                ));
            }
        };
        Ok(match intake::take(signal, message, &self.take).await {
            Outcome::Taken { rejected, message } => {
                let message = success(rejected, message);
                let mut data = vec![0];
                data.extend_from_slice(&(message.len() as u32).to_be_bytes());
                data.extend_from_slice(&message);
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                let mut response = Response::new(Content::of(data, Some(trailers)));
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                response
            }
            Outcome::Broken(why) => failed(code::INVALID_ARGUMENT, &why, None),
            Outcome::Full => failed(code::UNAVAILABLE, "the pipeline is full: try again", Some(RETRY_AFTER)),
        })
    }
}

/// Why a content is not understood; `None`: it is.
fn unsupported(headers: &HeaderMap) -> Option<&'static str> {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if !kind.eq_ignore_ascii_case(PROTOBUF.as_bytes()) {
        return Some("only application/x-protobuf is taken: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf");
    }
    match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity" | b"") => None,
        Some(_) => {
            Some("messages are taken without compression only: set OTEL_EXPORTER_OTLP_COMPRESSION=none")
        }
    }
}

/// Reads a message. What is too long is read all the same, up to a bound, and not kept: a client that is still writing
/// when the connection closes never sees the answer, and would send the same again.
async fn whole(mut body: Incoming) -> Result<Bytes, Unread> {
    let mut bytes = BytesMut::new();
    let mut len = 0;
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(data) = frame.map_err(|_| Unread::Gone)?.into_data() else { continue };
        len += data.len();
        if len > DISCARDED_BYTES_MAX {
            return Err(Unread::TooLarge);
        }
        if len > MESSAGE_BYTES_MAX + PREFIX_BYTES {
            bytes = BytesMut::new();
        } else {
            bytes.extend_from_slice(&data);
        }
    }
    if len > MESSAGE_BYTES_MAX + PREFIX_BYTES { Err(Unread::TooLarge) } else { Ok(bytes.freeze()) }
}

/// The answer's message; the three kinds have the same fields.
fn success(rejected: u64, message: &str) -> Vec<u8> {
    let partial_success = (rejected > 0).then(|| ExportTracePartialSuccess {
        rejected_spans: i64::try_from(rejected).unwrap_or(i64::MAX),
        error_message: message.to_owned(),
    });
    ExportTraceServiceResponse { partial_success }.encode_to_vec()
}

fn answer(code: StatusCode, kind: &'static str, data: Vec<u8>) -> Response<Content> {
    let mut response = Response::new(Content::of(data, None));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn plain(code: StatusCode, text: &str) -> Response<Content> {
    answer(code, "text/plain; charset=utf-8", format!("{text}\n").into_bytes())
}

/// A `google.rpc.Status` with a message, as OTLP/HTTP demands.
fn status(code: StatusCode, message: &str) -> Response<Content> {
    answer(code, PROTOBUF, rpc_status(0, message, None))
}

/// `Status { code = 1, message = 2, details = 3: Any { type_url = 1, value = 2: RetryInfo { retry_delay = 1 } } }`.
fn rpc_status(code: u8, message: &str, retry_after: Option<u8>) -> Vec<u8> {
    // Lengths below 128 are one byte, and so are codes.
    let text: String = message.chars().filter(char::is_ascii).take(120).collect();
    let mut out = vec![0x08, code, 0x12, text.len() as u8];
    out.extend_from_slice(text.as_bytes());
    if let Some(seconds) = retry_after {
        const URL: &[u8; 40] = b"type.googleapis.com/google.rpc.RetryInfo";
        let value = [0x0a, 0x02, 0x08, seconds];
        let len = 2 + URL.len() + 2 + value.len();
        out.extend_from_slice(&[0x1a, len as u8, 0x0a, URL.len() as u8]);
        out.extend_from_slice(URL);
        out.extend_from_slice(&[0x12, value.len() as u8]);
        out.extend_from_slice(&value);
    }
    out
}

/// An answer that is a head only.
fn failed(code: u8, message: &str, retry_after: Option<u8>) -> Response<Content> {
    let mut response = Response::new(Content::of(Vec::new(), None));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(u16::from(code)));
    let text: String =
        message.chars().filter(|char| matches!(char, ' '..='~') && *char != '%').take(200).collect();
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert("grpc-message", value);
    }
    if code == code::UNIMPLEMENTED {
        headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity"));
    }
    if retry_after.is_some() {
        let details = base64::text(&rpc_status(code, message, retry_after));
        if let Ok(value) = HeaderValue::from_str(details.trim_end_matches('=')) {
            headers.insert("grpc-status-details-bin", value);
        }
    }
    response
}
