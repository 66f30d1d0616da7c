//! One `Export` call, over gRPC or HTTP, and what its answer means
//! (<https://opentelemetry.io/docs/specs/otlp/#otlpgrpc-response>).
//!
//! Why gRPC by hand: a unary call is a request whose message has five bytes before it, and an answer with a status in its
//! trailers; a framework for that is larger than the sink.

use crate::pipeline::sinks::http::{Answer, HttpClient};
use crate::pipeline::sinks::sink::Failure;
use crate::svc::base64;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use std::time::{Duration, Instant};

/// The bytes before a gRPC message: not compressed, and its length.
pub(super) const PREFIX_BYTES: usize = 5;

/// The longest wait that is believed.
const AFTER_MAX: Duration = Duration::from_secs(3600);

/// A kind of telemetry, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Logs,
    Metrics,
}

impl Signal {
    pub(super) const ALL: [Signal; 3] = [Signal::Traces, Signal::Logs, Signal::Metrics];

    pub(super) fn name(self) -> &'static str {
        match self {
            Signal::Traces => "traces",
            Signal::Logs => "logs",
            Signal::Metrics => "metrics",
        }
    }

    fn method(self) -> &'static str {
        match self {
            Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was taken, but for so many of its parts, and why.
    Taken { rejected: u64, message: String },
    /// The other side does not know this kind of telemetry.
    Unknown(String),
    /// It was not taken.
    Failed(Failure),
}

/// Calls one endpoint.
pub(super) struct Caller {
    client: HttpClient,
    is_grpc: bool,
    headers: Vec<(String, String)>,
}

impl Caller {
    pub(super) fn new(client: HttpClient, is_grpc: bool, headers: Vec<(String, String)>) -> Caller {
        Caller { client, is_grpc, headers }
    }

    pub(super) fn idle(&mut self) {
        self.client.idle();
    }

    /// Sends a message that has [`PREFIX_BYTES`] free before it, and gives the buffer back.
    pub(super) fn export(&mut self, signal: Signal, message: &mut Vec<u8>, deadline: Instant) -> Verdict {
        let len = u32::try_from(message.len().saturating_sub(PREFIX_BYTES)).unwrap_or(u32::MAX);
        if let Some(place) = message.get_mut(1..PREFIX_BYTES) {
            place.copy_from_slice(&len.to_be_bytes());
        }
        let whole = Bytes::from(std::mem::take(message));
        let own = match self.is_grpc {
            true => [("content-type", "application/grpc+proto"), ("te", "trailers")],
            false => [("content-type", "application/x-protobuf"), ("accept", "application/x-protobuf")],
        };
        let given = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let headers: Vec<(&str, &str)> = own.into_iter().chain(given).collect();
        let (target, body) = match self.is_grpc {
            true => (format!("{}{}", self.client.base_path(), signal.method()), whole.clone()),
            false => {
                let body = whole.slice(PREFIX_BYTES.min(whole.len())..);
                (format!("{}/v1/{}", self.client.base_path(), signal.name()), body)
            }
        };
        let answer = self.client.request("POST", &target, &headers, body, deadline);
        // Nobody else has it any more, unless the connection broke in the middle.
        if whole.is_unique() {
            *message = Vec::from(whole);
            message.clear();
        }
        match answer {
            Err(failure) => Verdict::Failed(named(signal, failure)),
            Ok(answer) if self.is_grpc => of_grpc(signal, &answer),
            Ok(answer) => of_http(signal, &answer),
        }
    }
}

fn named(signal: Signal, failure: Failure) -> Failure {
    let name = signal.name();
    match failure {
        Failure::Retry { reason, after } => Failure::Retry { reason: format!("{name}: {reason}"), after },
        Failure::Refused { reason } => Failure::Refused { reason: format!("{name}: {reason}") },
    }
}

fn of_http(signal: Signal, answer: &Answer) -> Verdict {
    let reason = || answer.reason();
    Verdict::Failed(named(
        signal,
        match answer.status {
            200..=299 => return taken(&answer.body),
            404 | 405 | 501 => return Verdict::Unknown(format!("{}: {}", signal.name(), reason())),
            408 | 429 | 502..=504 => Failure::Retry { reason: reason(), after: answer.retry_after() },
            // Not about these events: they wait until somebody has put the credentials right.
            401 | 403 | 407 => Failure::retry(reason()),
            _ => Failure::Refused { reason: reason() },
        },
    ))
}

/// Status codes (<https://grpc.io/docs/guides/status-codes/>).
mod code {
    pub(super) const OK: u32 = 0;
    pub(super) const CANCELLED: u32 = 1;
    pub(super) const DEADLINE_EXCEEDED: u32 = 4;
    pub(super) const PERMISSION_DENIED: u32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: u32 = 8;
    pub(super) const ABORTED: u32 = 10;
    pub(super) const OUT_OF_RANGE: u32 = 11;
    pub(super) const UNIMPLEMENTED: u32 = 12;
    pub(super) const UNAVAILABLE: u32 = 14;
    pub(super) const DATA_LOSS: u32 = 15;
    pub(super) const UNAUTHENTICATED: u32 = 16;
}

fn of_grpc(signal: Signal, answer: &Answer) -> Verdict {
    let field = |name: &str| {
        let of = |headers: &http::HeaderMap| Some(headers.get(name)?.to_str().ok()?.to_owned());
        answer.trailers.as_ref().and_then(of).or_else(|| of(&answer.headers))
    };
    let Some(status) = field("grpc-status").and_then(|status| status.trim().parse::<u32>().ok()) else {
        // Something in between answered, by HTTP's rules.
        let failure = match answer.status {
            200 => Failure::retry("the answer has no grpc-status: is it gRPC that is spoken there?"),
            404 => Failure::retry(format!("{}: is it gRPC that is spoken there?", answer.reason())),
            401 | 403 | 407 => Failure::retry(answer.reason()),
            _ => answer.failure(),
        };
        return Verdict::Failed(named(signal, failure));
    };
    if status == code::OK {
        return taken(answer.body.get(PREFIX_BYTES..).unwrap_or_default());
    }
    let said = percent_decoded(&field("grpc-message").unwrap_or_default());
    let reason = crate::pipeline::sinks::http::clean(&format!("grpc status {status}: {said}"));
    let after = field("grpc-status-details-bin").and_then(|details| retry_delay(&details));
    Verdict::Failed(named(
        signal,
        match status {
            code::CANCELLED
            | code::DEADLINE_EXCEEDED
            | code::ABORTED
            | code::OUT_OF_RANGE
            | code::UNAVAILABLE
            | code::DATA_LOSS => Failure::Retry { reason, after },
            code::RESOURCE_EXHAUSTED if after.is_some() => Failure::Retry { reason, after },
            code::PERMISSION_DENIED | code::UNAUTHENTICATED => Failure::retry(reason),
            code::UNIMPLEMENTED => return Verdict::Unknown(format!("{}: {reason}", signal.name())),
            _ => Failure::Refused { reason },
        },
    ))
}

/// What an answer of success says beyond that. The three kinds of answers have the same fields; one that cannot be read
/// is as good as an empty one.
fn taken(message: &[u8]) -> Verdict {
    let partial = ExportTraceServiceResponse::decode(message).ok().and_then(|answer| answer.partial_success);
    let partial = partial.unwrap_or_default();
    Verdict::Taken {
        rejected: u64::try_from(partial.rejected_spans).unwrap_or(0),
        message: crate::pipeline::sinks::http::clean(&partial.error_message),
    }
}

/// `grpc-message` is percent-encoded.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = (*first == b'%').then(|| str::from_utf8(after.get(..2)?).ok()).flatten();
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The delay of a `google.rpc.RetryInfo` among the details of a `google.rpc.Status`, in base64.
fn retry_delay(details: &str) -> Option<Duration> {
    let status = base64::decode(details)?;
    // Status { details = 3: Any { type_url = 1, value = 2: RetryInfo { retry_delay = 1: { seconds = 1, nanos = 2 } } } }
    for any in fields(&status, 3) {
        let Some(Part::Bytes(any)) = any else { continue };
        let is_retry_info = fields(any, 1).flatten().any(|url| match url {
            Part::Bytes(url) => url.ends_with(b"google.rpc.RetryInfo"),
            Part::Number(_) => false,
        });
        if !is_retry_info {
            continue;
        }
        let mut delay = Duration::ZERO;
        for value in fields(any, 2).flatten() {
            let Part::Bytes(info) = value else { continue };
            for time in fields(info, 1).flatten() {
                let Part::Bytes(time) = time else { continue };
                let number = |field| match fields(time, field).flatten().last() {
                    Some(Part::Number(number)) if number <= i64::MAX as u64 => number,
                    _ => 0,
                };
                let nanos = u32::try_from(number(2)).unwrap_or(0).min(999_999_999);
                delay = Duration::from_secs(number(1)) + Duration::from_nanos(u64::from(nanos));
            }
        }
        return Some(delay.min(AFTER_MAX));
    }
    None
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The occurrences of a field; the iteration ends where the message is broken. Other fields are `None`.
fn fields(message: &[u8], wanted: u64) -> impl Iterator<Item = Option<Part<'_>>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        let tag = prost::encoding::decode_varint(&mut rest).ok()?;
        let part = match tag & 7 {
            0 => Part::Number(prost::encoding::decode_varint(&mut rest).ok()?),
            1 => {
                rest = rest.get(8..)?;
                return Some(None);
            }
            2 => {
                let len = usize::try_from(prost::encoding::decode_varint(&mut rest).ok()?).ok()?;
                let (bytes, after) = rest.split_at_checked(len)?;
                rest = after;
                Part::Bytes(bytes)
            }
            5 => {
                rest = rest.get(4..)?;
                return Some(None);
            }
            _ => return None,
        };
        Some((tag >> 3 == wanted).then_some(part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    fn answer(status: u16, headers: &[(&'static str, &str)], trailers: &[(&'static str, &str)]) -> Answer {
        let map = |fields: &[(&'static str, &str)]| -> HeaderMap {
            fields
                .iter()
                .map(|(name, value)| {
                    ((*name).parse::<http::HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
                })
                .collect()
        };
        Answer { status, headers: map(headers), trailers: Some(map(trailers)), body: Bytes::new() }
    }

    fn is(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Taken { .. } => "taken",
            Verdict::Unknown(_) => "unknown",
            Verdict::Failed(Failure::Retry { after: None, .. }) => "retry",
            Verdict::Failed(Failure::Retry { after: Some(_), .. }) => "retry after",
            Verdict::Failed(Failure::Refused { .. }) => "refused",
        }
    }

    #[test]
    fn grpc_statuses_mean_what_the_specification_says() {
        for (status, want) in [
            (0, "taken"),
            (1, "retry"),
            (2, "refused"),
            (3, "refused"),
            (4, "retry"),
            (5, "refused"),
            (6, "refused"),
            (7, "retry"),
            (8, "refused"),
            (9, "refused"),
            (10, "retry"),
            (11, "retry"),
            (12, "unknown"),
            (13, "refused"),
            (14, "retry"),
            (15, "retry"),
            (16, "retry"),
            (99, "refused"),
        ] {
            let text = status.to_string();
            assert_eq!(
                is(&of_grpc(Signal::Traces, &answer(200, &[], &[("grpc-status", &text)]))),
                want,
                "{status}"
            );
            // An answer of headers only.
            assert_eq!(
                is(&of_grpc(Signal::Traces, &answer(200, &[("grpc-status", &text)], &[]))),
                want,
                "{status}"
            );
        }
        for (status, want) in
            [(200, "retry"), (404, "retry"), (401, "retry"), (503, "retry"), (400, "refused")]
        {
            assert_eq!(is(&of_grpc(Signal::Logs, &answer(status, &[], &[]))), want, "{status}");
        }
        let said = [("grpc-status", "3"), ("grpc-message", "caf%C3%A9 %zz%")];
        let Verdict::Failed(failure) = of_grpc(Signal::Logs, &answer(200, &[], &said)) else { panic!() };
        assert_eq!(failure.reason(), "logs: grpc status 3: café %zz%");
    }

    #[test]
    fn http_statuses_mean_what_the_specification_says() {
        for (status, want) in [
            (200, "taken"),
            (202, "taken"),
            (400, "refused"),
            (401, "retry"),
            (403, "retry"),
            (404, "unknown"),
            (408, "retry"),
            (413, "refused"),
            (429, "retry after"),
            (500, "refused"),
            (502, "retry after"),
            (503, "retry after"),
            (504, "retry after"),
            (301, "refused"),
        ] {
            let found = of_http(Signal::Traces, &answer(status, &[("retry-after", "3")], &[]));
            let found = if status == 408 { "retry" } else { is(&found) };
            assert_eq!(found, want, "{status}");
        }
    }

    #[test]
    fn exhausted_resources_come_back_only_when_they_say_when() {
        // Status { code: 8, message: "full", details: [Any { RetryInfo { retry_delay: 1.5 s } }] }
        let mut info = Vec::new();
        super::super::proto::bytes(&mut info, 1, b"type.googleapis.com/google.rpc.RetryInfo");
        let delay = [0x0a, 0x08, 0x08, 0x01, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01];
        super::super::proto::bytes(&mut info, 2, &delay);
        let mut status = vec![0x08, 0x08, 0x12, 0x04];
        status.extend_from_slice(b"full");
        super::super::proto::bytes(&mut status, 3, &info);
        let details = base64::text(&status);
        let fields = [("grpc-status", "8"), ("grpc-status-details-bin", &*details)];
        let Verdict::Failed(failure) = of_grpc(Signal::Traces, &answer(200, &[], &fields)) else { panic!() };
        let Failure::Retry { after: Some(after), .. } = failure else { panic!("{failure:?}") };
        assert_eq!(after, Duration::from_millis(1500));
    }

    proptest! {
        #[test]
        fn no_details_make_it_panic(text in "[A-Za-z0-9+/=_-]{0,60}|\\PC{0,20}", message: Vec<u8>) {
            let _ = retry_delay(&text);
            let _ = percent_decoded(&text);
            fields(&message, 3).flatten().for_each(drop);
            let is_taken = matches!(taken(&message), Verdict::Taken { .. });
            prop_assert!(is_taken);
        }
    }
}
