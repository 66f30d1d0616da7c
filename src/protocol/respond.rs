//! The answers that sidelight makes itself: beyond this layer there is no error.
//!
//! Every [`Kind`] becomes the row of its table: status, RFC 9209 `Proxy-Status`, an RFC 9457 problem document, and for
//! gRPC a trailers-only answer. Header, event and metric say the same cause because they read the same row. The detail
//! stays in the event: it may name addresses that are none of the caller's business.

use crate::error::{Error, Kind, Refusal};
use crate::exchange::{Answer, Ctx, Exchange, Phase, Recorder, Response};
use crate::svc::{Body, Fields, Known, ResponseHead};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tower::{Layer, Service};

/// Turns errors into answers. Outermost of all layers that can fail.
#[derive(Clone, Copy, Debug, Default)]
pub struct RespondLayer;

impl<S> Layer<S> for RespondLayer {
    type Service = Respond<S>;

    fn layer(&self, inner: S) -> Respond<S> {
        Respond { inner }
    }
}

/// See [`RespondLayer`].
#[derive(Clone, Debug)]
pub struct Respond<S> {
    inner: S,
}

impl<S> Service<Exchange> for Respond<S>
where
    S: Service<Exchange, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = RespondFuture<S::Future>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(())) // inner layers are always ready; load_shed and concurrency stand outside
    }

    fn call(&mut self, exchange: Exchange) -> Self::Future {
        let ctx = exchange.ctx.clone();
        RespondFuture { ctx, inner: self.inner.call(exchange) }
    }
}

/// The future of [`Respond`].
pub struct RespondFuture<F> {
    ctx: Ctx,
    inner: F,
}

impl<F: Future<Output = Answer>> Future for RespondFuture<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: `inner` is structurally pinned: polled in place, never moved; there is no Drop impl.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        let answer = ready!(unsafe { Pin::new_unchecked(&mut this.inner) }.poll(cx));
        Poll::Ready(Ok(finish(answer, &this.ctx.recorder)))
    }
}

fn finish(answer: Answer, recorder: &Recorder) -> Response {
    match answer {
        Ok(mut response) => {
            let mut record = recorder.edit();
            if record.attempts == 0 {
                // A route's own answer: say who gave it, and to which request.
                let fields = &mut response.head.fields;
                fields.set(Known::XRequestId, record.text(record.request_id));
                fields.set(Known::ProxyStatus, b"sidelight");
            }
            record.status = response.head.status;
            record.grpc_status = grpc_status(response.head.fields.get(Known::GrpcStatus));
            response
        }
        Err(error) => answer_error(&error, recorder),
    }
}

/// The number of a `grpc-status` field.
pub fn grpc_status(value: Option<&[u8]>) -> Option<u8> {
    std::str::from_utf8(value?).ok()?.parse().ok()
}

/// The answer to an error; notes it in the record.
pub fn answer_error(error: &Error, recorder: &Recorder) -> Response {
    recorder.fail(error);
    let mut record = recorder.edit();
    let answer = error.kind().answer();
    let is_grpc = record.is_grpc;
    let mut head = ResponseHead::new(if is_grpc { 200 } else { answer.status });
    let fields = &mut head.fields;
    if record.phase == Phase::Head {
        record.phase = Phase::Request;
    }
    record.status = head.status;
    if !record.request_id.is_empty() {
        fields.set(Known::XRequestId, record.text(record.request_id));
    }
    let mut proxy_status = format!("sidelight; error={}; details=\"{}\"", answer.token, answer.cause);
    if let Some(refusal) = error.refusal() {
        name_limit(&mut proxy_status, refusal);
        refusal_fields(fields, refusal, is_grpc);
    }
    fields.set(Known::ProxyStatus, proxy_status.as_bytes());
    if error.kind() == Kind::MethodRefused {
        fields.push(b"allow", b"GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS");
    }
    if is_grpc {
        record.grpc_status = Some(answer.grpc);
        fields.set(Known::ContentType, b"application/grpc");
        fields.set(Known::GrpcStatus, answer.grpc.to_string().as_bytes());
        fields.set(Known::GrpcMessage, percent_encode(&message(&answer, error)).as_bytes());
        return Response::new(head, Body::empty());
    }
    fields.set(Known::ContentType, b"application/problem+json");
    let problem = problem(&answer, error.refusal(), head.status, record.text(record.request_id));
    Response::new(head, Body::from(problem))
}

/// What a gRPC caller is told.
fn message(answer: &crate::error::Answer, error: &Error) -> String {
    match error.refusal() {
        Some(Refusal { breaker, scope, limit, .. }) => {
            format!("sidelight: {} ({breaker} of the {scope}, limit {limit})", answer.title)
        }
        None => format!("sidelight: {}", answer.title),
    }
}

/// Adds the limit to `Proxy-Status`, as parameters beside those of RFC 9209.
fn name_limit(proxy_status: &mut String, refusal: &Refusal) {
    use std::fmt::Write;
    let Refusal { breaker, scope, limit, current, .. } = refusal;
    let _ = write!(proxy_status, "; breaker=\"{breaker}\"; scope=\"{scope}\"; name=\"");
    // A string of RFC 9651 has visible ASCII; names of accounts may have anything.
    for byte in refusal.name.bytes() {
        match byte {
            b'"' | b'\\' => proxy_status.extend(['\\', char::from(byte)]),
            0x20..=0x7e => proxy_status.push(char::from(byte)),
            _ => proxy_status.push('?'),
        }
    }
    let _ = write!(proxy_status, "\"; limit={limit}; current={current}");
}

/// When to come again, and what the limit itself says.
fn refusal_fields(fields: &mut Fields, refusal: &Refusal, is_grpc: bool) {
    if let Some(time) = refusal.retry_after {
        // Whole seconds, rounded up: who comes at that time is not too early.
        let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        fields.set(Known::RetryAfter, seconds.max(1).to_string().as_bytes());
        if is_grpc {
            fields.push(
                b"grpc-retry-pushback-ms",
                time.as_nanos().div_ceil(1_000_000).max(1).to_string().as_bytes(),
            );
        }
    }
    for (name, value) in &refusal.fields {
        fields.push(name.as_bytes(), value.as_bytes());
    }
}

fn problem(
    answer: &crate::error::Answer,
    refusal: Option<&Refusal>,
    status: u16,
    request_id: &[u8],
) -> Vec<u8> {
    let mut document = serde_json::json!({
        "type": format!("urn:sidelight:problem:{}", answer.cause),
        "title": answer.title,
        "status": status,
        "detail": format!("sidelight answered in place of the service: {}.", answer.cause.replace('_', " ")),
        "cause": answer.cause,
        "instance": String::from_utf8_lossy(request_id),
    });
    if let Some(refusal) = refusal {
        document["limit"] = serde_json::json!({
            "breaker": refusal.breaker,
            "scope": refusal.scope,
            "name": &*refusal.name,
            "limit": refusal.limit,
            "current": refusal.current,
            "retry_after_ms": refusal.retry_after.map(|time| time.as_millis() as u64),
        });
    }
    let mut text = document.to_string().into_bytes();
    text.push(b'\n');
    text
}

/// Percent-encoding of `grpc-message` (gRPC over HTTP/2, "Responses").
fn percent_encode(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..=0x7e).contains(&byte) && byte != b'%' {
            out.push(byte as char);
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
