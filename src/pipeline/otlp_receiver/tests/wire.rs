use super::*;
use crate::pipeline::sinks::http::{Answer, HttpClient, Protocol};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::prelude::*;
use prost::Message;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

fn config() -> Config {
    serde_json::from_str(r#"{"address":"127.0.0.1:0","grpc_address":"127.0.0.1:0"}"#).unwrap()
}

fn traces(count: u8) -> Vec<u8> {
    let span = |number| Span { trace_id: vec![1; 16], span_id: vec![number + 1; 8], ..Span::default() };
    let scope_spans = vec![ScopeSpans { spans: (0..count).map(span).collect(), ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn client(address: SocketAddr, protocol: Protocol) -> HttpClient {
    HttpClient::new(&format!("http://{address}"), None, Path::new("/"), protocol).unwrap()
}

fn within() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn http(receiver: &Receiver, target: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let mut client = client(receiver.http_address().unwrap(), Protocol::Http1);
    client.request("POST", target, headers, Bytes::from(body), within()).unwrap()
}

const PROTOBUF: [(&str, &str); 1] = [("content-type", "application/x-protobuf")];
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

fn prefixed(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

/// The status, and the rest of the answer.
fn grpc(receiver: &Receiver, target: &str, body: Vec<u8>) -> (String, Answer) {
    let mut client = client(receiver.grpc_address().unwrap(), Protocol::Http2);
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let answer = client.request("POST", target, &headers, Bytes::from(body), within()).unwrap();
    let of = answer.trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
    let status = of.or_else(|| answer.headers.get("grpc-status")).unwrap().to_str().unwrap().to_owned();
    (status, answer)
}

fn rejected(message: &[u8]) -> (i64, String) {
    let partial = ExportTraceServiceResponse::decode(message).unwrap().partial_success.unwrap_or_default();
    (partial.rejected_spans, partial.error_message)
}

#[test]
fn an_sdk_is_answered_over_http_and_grpc_and_each_span_is_an_event() {
    let (store, take) = Store::new(100);
    let receiver = Receiver::start(&config(), take).unwrap();
    let answer = http(&receiver, "/v1/traces", &PROTOBUF, traces(2));
    assert_eq!((answer.status, rejected(&answer.body)), (200, (0, String::new())));
    assert_eq!(answer.headers["content-type"], "application/x-protobuf");
    let (status, answer) = grpc(&receiver, EXPORT, prefixed(0, &traces(3)));
    assert_eq!((&*status, answer.status, rejected(&answer.body[5..])), ("0", 200, (0, String::new())));
    let events = store.take();
    assert_eq!(events.len(), 5);
    for event in &events {
        assert_eq!(event.schema, "sidelight/app_span/1");
        let json: serde_json::Value = serde_json::from_slice(&event.json).unwrap();
        assert_eq!((&json["trace_id"], &json["sampled"]), (&"01".repeat(16).into(), &true.into()));
        serde_json::from_slice::<serde_json::Value>(&with_head(event)).unwrap();
    }
    for path in ["logs.v1.LogsService", "metrics.v1.MetricsService"] {
        let path = format!("/opentelemetry.proto.collector.{path}/Export");
        assert_eq!(grpc(&receiver, &path, prefixed(0, b"")).0, "0");
    }
    assert_eq!(http(&receiver, "/v1/metrics", &PROTOBUF, Vec::new()).status, 200);
    assert_eq!(http(&receiver, "/v1/logs", &PROTOBUF, Vec::new()).status, 200);
    receiver.stop();
}

#[test]
fn a_full_pipeline_takes_nothing_and_says_when_to_come_again() {
    let (store, take) = Store::new(0);
    let receiver = Receiver::start(&config(), take).unwrap();
    let answer = http(&receiver, "/v1/traces", &PROTOBUF, traces(2));
    assert_eq!(
        (answer.status, &answer.headers["retry-after"]),
        (503, &"1".parse::<http::HeaderValue>().unwrap())
    );
    let (status, answer) = grpc(&receiver, EXPORT, prefixed(0, &traces(2)));
    assert_eq!(status, "14");
    assert!(answer.headers.contains_key("grpc-status-details-bin"));
    assert_eq!(store.take().len(), 0);
}

#[test]
fn a_pipeline_that_fills_in_the_middle_rejects_the_rest_and_counts_it() {
    let (store, take) = Store::new(3);
    let receiver = Receiver::start(&config(), take).unwrap();
    let answer = http(&receiver, "/v1/traces", &PROTOBUF, traces(10));
    assert_eq!((answer.status, rejected(&answer.body)), (200, (7, "the pipeline is full".into())));
    assert_eq!(store.take().len(), 3);
}

#[test]
fn a_pipeline_that_has_room_again_soon_takes_all() {
    let (store, take) = Store::new(3);
    let receiver = Receiver::start(&config(), take).unwrap();
    let events = Arc::clone(&store.events);
    let mut taken = 0;
    let drains = std::thread::spawn(move || {
        let limit = within();
        while taken < 10 && Instant::now() < limit {
            taken += std::mem::take(&mut *events.lock().unwrap()).len();
            std::thread::yield_now();
        }
        taken
    });
    let answer = http(&receiver, "/v1/traces", &PROTOBUF, traces(10));
    assert_eq!((answer.status, rejected(&answer.body).0), (200, 0));
    assert_eq!(drains.join().unwrap(), 10);
}

#[test]
fn spans_without_ids_are_rejected_and_the_others_taken() {
    let (store, take) = Store::new(100);
    let receiver = Receiver::start(&config(), take).unwrap();
    let mut request = ExportTraceServiceRequest::decode(&*traces(5)).unwrap();
    let spans = &mut request.resource_spans[0].scope_spans[0].spans;
    spans[0].trace_id = vec![0; 16];
    spans[1].span_id = vec![1; 7];
    spans[2].parent_span_id = vec![1; 3];
    let answer = http(&receiver, "/v1/traces", &PROTOBUF, request.encode_to_vec());
    let (count, why) = rejected(&answer.body);
    assert_eq!((answer.status, count, store.take().len()), (200, 3, 2));
    assert!(why.contains("trace id"), "{why}");
}

#[test]
fn what_is_not_understood_is_refused_in_words_and_in_whole() {
    let (store, take) = Store::new(100);
    let receiver = Receiver::start(&config(), take).unwrap();
    let json = [("content-type", "application/json")];
    let gzip = [PROTOBUF[0], ("content-encoding", "gzip")];
    let mut half = traces(2);
    half.truncate(half.len() - 1);
    let large = vec![0; (4 << 20) + 6];
    for (target, headers, body, status, says) in [
        ("/v1/traces", &json[..], b"{}".to_vec(), 415, "http/protobuf"),
        ("/v1/traces", &gzip, traces(1), 415, "OTEL_EXPORTER_OTLP_COMPRESSION=none"),
        ("/v1/traces", &PROTOBUF, half.clone(), 400, "OTLP message"),
        ("/v1/traces", &PROTOBUF, large.clone(), 413, "4 MiB"),
        ("/v2/traces", &PROTOBUF, traces(1), 404, "/v1/traces"),
    ] {
        let answer = http(&receiver, target, headers, body);
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == status && said.contains(says), "{} {said}", answer.status);
    }
    let mut client = client(receiver.http_address().unwrap(), Protocol::Http1);
    assert_eq!(client.request("GET", "/v1/traces", &[], Bytes::new(), within()).unwrap().status, 405);
    for (target, body, status) in [
        (EXPORT, prefixed(1, &traces(1)), "12"),
        (EXPORT, prefixed(0, &half), "3"),
        (EXPORT, b"ab".to_vec(), "3"),
        (EXPORT, [prefixed(0, b""), prefixed(0, b"")].concat(), "3"),
        (EXPORT, large, "8"),
        ("/a.B/C", prefixed(0, b""), "12"),
    ] {
        assert_eq!(grpc(&receiver, target, body).0, status, "{target}");
    }
    assert_eq!(store.take().len(), 0);
}

#[test]
fn an_address_that_is_taken_or_open_to_others_is_an_error() {
    let (_, take) = Store::new(1);
    let receiver = Receiver::start(&config(), Arc::clone(&take)).unwrap();
    let taken = Config { address: receiver.http_address(), grpc_address: None };
    assert!(Receiver::start(&taken, Arc::clone(&take)).err().unwrap().contains("listened on"));
    let open = Config { address: Some("0.0.0.0:0".parse().unwrap()), grpc_address: None };
    assert!(Receiver::start(&open, Arc::clone(&take)).err().unwrap().contains("127.0.0.1"));
    // After its end the place is free.
    receiver.stop();
    assert!(Receiver::start(&taken, take).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_bytes_on_the_wire_end_it(raw in prop::collection::vec(any::<u8>(), 0..300), is_http: bool) {
        use std::io::{Read, Write};
        let (_, take) = Store::new(10);
        let receiver = Receiver::start(&config(), take).unwrap();
        let address = if is_http { receiver.http_address() } else { receiver.grpc_address() }.unwrap();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let _ = stream.write_all(&raw);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
        prop_assert_eq!(http(&receiver, "/v1/traces", &PROTOBUF, traces(1)).status, 200);
        let status = http(&receiver, "/v1/logs", &PROTOBUF, raw).status;
        prop_assert!(status == 200 || status == 400, "{}", status);
    }
}
