//! Connections of the stubs: HTTP/1.1 and HTTP/2 without TLS on one port, told apart by the first bytes (RFC 9113 §3.4).

use super::answers::{Answers, Call, Stored, host, trace};
use super::body::{Pieces, headers};
use super::{Latency, Options};
use crate::context::Field;
use crate::record::What;
use bytes::{Bytes, BytesMut};
use http::{HeaderName, Request, Response, StatusCode, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// Connections at once; a service under test has tens.
const CONNECTIONS_MAX: usize = 4_096;
/// Calls at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 1_000;
/// A call's content beyond it is read and not compared.
const BODY_BYTES_MAX: usize = 16 << 20;
/// How long a connection may take to say its first bytes, a head to come, and an ending connection to end.
const TIMEOUT: Duration = Duration::from_secs(20);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to rest when no connection can be accepted, or its first bytes come in pieces.
const REST: Duration = Duration::from_millis(20);
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Answers calls until `shutdown`, then ends what is under way, within 5 s.
pub async fn serve(
    listener: TcpListener,
    answers: Arc<Answers>,
    options: Options,
    shutdown: impl Future<Output = ()>,
) {
    let (stop, stopped) = watch::channel(false);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut shutdown = pin!(shutdown);
    loop {
        let accepting = async {
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepting => accepted,
            () = &mut shutdown => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(REST).await;
            continue;
        };
        let (answers, stopped) = (Arc::clone(&answers), stopped.clone());
        tokio::spawn(async move {
            let _place = place;
            connection(stream, answers, options, stopped).await;
        });
    }
    drop(listener);
    let _ = stop.send(true);
    // All places are free when all connections have ended.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, places.acquire_many(CONNECTIONS_MAX as u32)).await;
}

async fn connection(
    stream: TcpStream,
    answers: Arc<Answers>,
    options: Options,
    mut stopped: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let told = tokio::select! {
        told = tokio::time::timeout(TIMEOUT, is_http2(&stream)) => told,
        () = stopping(&mut stopped) => return,
    };
    let Ok(Some(is_http2)) = told else { return };
    let service = service_fn(move |request| {
        let answers = Arc::clone(&answers);
        async move { Ok::<_, Infallible>(answer(request, &answers, options).await) }
    });
    let io = TokioIo::new(stream);
    let ended = if is_http2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX);
        let mut serving = pin!(builder.serve_connection(io, service));
        tokio::select! {
            ended = serving.as_mut() => ended,
            () = stopping(&mut stopped) => {
                serving.as_mut().graceful_shutdown();
                tokio::time::timeout(DRAIN_TIMEOUT, serving).await.unwrap_or(Ok(()))
            }
        }
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(TIMEOUT);
        let mut serving = pin!(builder.serve_connection(io, service));
        tokio::select! {
            ended = serving.as_mut() => ended,
            () = stopping(&mut stopped) => {
                serving.as_mut().graceful_shutdown();
                tokio::time::timeout(DRAIN_TIMEOUT, serving).await.unwrap_or(Ok(()))
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the stubs ended");
    }
}

async fn stopping(stopped: &mut watch::Receiver<bool>) {
    // What it gives is a guard, which must not be held.
    drop(stopped.wait_for(|is_stopped| *is_stopped).await);
}

/// `None`: it ended before it said anything.
async fn is_http2(stream: &TcpStream) -> Option<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        let len = stream.peek(&mut first).await.ok().filter(|len| *len > 0)?;
        let said = first.get(..len)?;
        if !PREFACE.starts_with(said) {
            return Some(false);
        }
        if said.len() == PREFACE.len() {
            return Some(true);
        }
        tokio::time::sleep(REST).await;
    }
}

async fn answer(request: Request<Incoming>, answers: &Answers, options: Options) -> Response<Pieces> {
    let asked = Instant::now();
    let (head, body) = request.into_parts();
    let of = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let authority =
        head.uri.authority().map_or_else(|| of("host").to_owned(), |authority| authority.as_str().to_owned());
    let target =
        head.uri.path_and_query().map_or_else(|| "/".to_owned(), |target| target.as_str().to_owned());
    let call = Call {
        method: head.method.as_str().to_owned(),
        host: host(&authority),
        target,
        account: of(Field::AccountId.header()).to_owned(),
        trace: trace(of("x-sidelight-replay")),
        body: read(body).await,
    };
    match answers.next(&call) {
        Some(stored) => replayed(stored, asked, options).await,
        None => unknown(&call, answers),
    }
}

/// The content; `None`: it is too long, or did not come whole.
async fn read(body: Incoming) -> Option<Bytes> {
    let mut body = pin!(body);
    let mut out = BytesMut::new();
    let mut is_whole = true;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).as_mut().poll_frame(cx)).await {
        if let Ok(data) = frame.ok()?.into_data() {
            is_whole &= out.len() + data.len() <= BODY_BYTES_MAX;
            if is_whole {
                out.extend_from_slice(&data);
            }
        }
    }
    is_whole.then(|| out.freeze())
}

async fn replayed(stored: &Stored, asked: Instant, options: Options) -> Response<Pieces> {
    let asked = (options.latency == Latency::Recorded).then_some(asked);
    let mut response = Response::new(Pieces::recorded(&stored.events, asked));
    *response.status_mut() = StatusCode::from_u16(stored.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let head = stored.events.iter().find_map(|event| match &event.what {
        What::Response(head) => Some((event.at_ns, head)),
        _ => None,
    });
    let Some((at_ns, head)) = head else { return response };
    let mut fields = headers(&head.fields);
    for hop in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        fields.remove(hop);
    }
    // A redacted answer may have another length than the one that it tells; an answer to HEAD has none.
    let data: usize = stored
        .events
        .iter()
        .map(|event| if let What::Data(_, bytes) = &event.what { bytes.len() } else { 0 })
        .sum();
    let is_reset = stored.events.iter().any(|event| matches!(event.what, What::Reset(..)));
    if data > 0 && !is_reset && stored.content_length().is_some_and(|length| length != data as u64) {
        fields.remove(header::CONTENT_LENGTH);
    }
    *response.headers_mut() = fields;
    if let Some(at) = asked.and_then(|asked| asked.checked_add(Duration::from_nanos(at_ns))) {
        tokio::time::sleep_until(at).await;
    }
    response
}

/// RFC 9457, with the recorded calls that are most like it.
fn unknown(call: &Call, answers: &Answers) -> Response<Pieces> {
    let problem = serde_json::json!({
        "type": "about:blank",
        "title": "This call is not in the recording",
        "status": 502,
        "detail": format!("No recorded answer to {} {}{}", call.method, call.host, call.target),
        "nearest": answers.nearest(call),
    });
    let mut response = Response::new(Pieces::whole(problem.to_string()));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/problem+json"));
    fields.insert(HeaderName::from_static("x-sidelight-stub"), header::HeaderValue::from_static("unmatched"));
    response
}
