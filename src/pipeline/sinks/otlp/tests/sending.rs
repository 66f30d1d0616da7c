use super::*;
use crate::error::Kind;
use crate::exchange::{Direction, Record};
use crate::pipeline::Accounts;
use crate::pipeline::metrics::block::Block;
use crate::pipeline::sinks::http::tests::server::{Asked, Reply, Server, read_request, serve_h2};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message;
use std::io::Write;
use std::sync::Mutex;

const LOG: &str =
    r#"{"schema":"sidelight/health/1","timestamp":"2025-01-01T00:00:00.000000Z","sidelight.cluster":"a"}"#;

fn within(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

fn sink(server: &Server, edit: impl FnOnce(&mut Config)) -> OtlpSink {
    let mut config = Config::to(&server.url());
    edit(&mut config);
    OtlpSink::new(&config, &service(), Path::new("/"), None).unwrap()
}

/// What a collector was asked: path, `authorization`, message.
type Seen = Arc<Mutex<Vec<(String, String, Vec<u8>)>>>;

/// A collector of gRPC that answers by path; [`Reply::trailers`] and so on.
fn collector(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> (Server, Seen) {
    let seen = Seen::default();
    let (store, answer) = (Arc::clone(&seen), Arc::new(answer));
    let server = Server::start(move |stream| {
        let (store, answer) = (Arc::clone(&store), Arc::clone(&answer));
        serve_h2(stream, move |Asked { head, body }| {
            assert_eq!((head.method.as_str(), head.headers["te"].to_str().unwrap()), ("POST", "trailers"));
            assert!(head.headers["content-type"].as_bytes().starts_with(b"application/grpc"));
            assert_eq!((body[0], &body[1..5]), (0, &(body.len() as u32 - 5).to_be_bytes()[..]));
            let path = head.uri.path().to_owned();
            let secret = head.headers.get("authorization").map_or("", |value| value.to_str().unwrap());
            store.lock().unwrap().push((path.clone(), secret.to_owned(), body[5..].to_vec()));
            answer(&path)
        });
    });
    (server, seen)
}

fn grpc(message: &[u8], status: u32, said: &str) -> Reply {
    let mut body = vec![0];
    body.extend_from_slice(&(message.len() as u32).to_be_bytes());
    body.extend_from_slice(message);
    Reply {
        status: 200,
        headers: vec![("content-type", "application/grpc".into())],
        body: if status == 0 { body } else { Vec::new() },
        trailers: vec![("grpc-status", status.to_string()), ("grpc-message", said.into())],
    }
}

fn partial(rejected: i64, message: &str) -> Reply {
    let partial_success =
        Some(ExportTracePartialSuccess { rejected_spans: rejected, error_message: message.into() });
    grpc(&ExportTraceServiceResponse { partial_success }.encode_to_vec(), 0, "")
}

fn paths(seen: &Seen) -> Vec<String> {
    seen.lock().unwrap().iter().map(|(path, ..)| path.rsplit('.').next().unwrap().to_owned()).collect()
}

#[test]
fn spans_and_records_arrive_at_a_collector_over_grpc() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("headers"), "authorization: Bearer s3cret\n").unwrap();
    let (server, seen) = collector(|_| grpc(b"", 0, ""));
    let config = Config { headers_file: Some("headers".into()), ..Config::to(&server.url()) };
    let mut sink = OtlpSink::new(&config, &service(), directory.path(), None).unwrap();
    let mut source = Source::new();
    let (sampled, not) = (exchange(true, ""), exchange(false, ""));
    let first = source.batch(&[&*sampled, LOG, &not, "nonsense", &sampled]);
    let sent = sink.send(&first, within(10)).unwrap();
    assert_eq!((sent.through, sent.passed_over), (Some(5), 1));
    assert!(matches!(&sent.rejected[..], [(4, _)]), "{:?}", sent.rejected);
    let second = source.batch(&[LOG]);
    assert_eq!(sink.send(&second, within(10)), Ok(Sent { through: Some(6), ..Sent::default() }));
    assert_eq!(paths(&seen), ["TraceService/Export", "LogsService/Export", "LogsService/Export"]);
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].0, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    assert!(seen.iter().all(|(_, secret, _)| secret == "Bearer s3cret"));
    let traces = ExportTraceServiceRequest::decode(&*seen[0].2).unwrap();
    assert_eq!(traces.resource_spans[0].scope_spans[0].spans.len(), 2);
    for (index, count) in [(1, 1), (2, 1)] {
        let logs = ExportLogsServiceRequest::decode(&*seen[index].2).unwrap();
        assert_eq!(logs.resource_logs[0].scope_logs[0].log_records.len(), count);
    }
    assert_eq!(server.accepted(), 1, "one connection is kept");
}

#[test]
fn spans_arrive_over_http() {
    let (seen, requests) = std::sync::mpsc::channel();
    let server = Server::start(move |mut stream| {
        while let Some(request) = read_request(&mut stream) {
            seen.send(request).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
    });
    let mut config =
        Config { protocol: Protocol::HttpProtobuf, ..Config::to(&format!("{}/otlp/", server.url())) };
    config.headers.insert("x-scope-orgid".into(), "team-a".into());
    let mut sink = OtlpSink::new(&config, &service(), Path::new("/"), None).unwrap();
    let batch = Source::new().batch(&[&exchange(true, ""), LOG]);
    assert_eq!(sink.send(&batch, within(10)).unwrap().through, Some(2));
    for path in ["/otlp/v1/traces", "/otlp/v1/logs"] {
        let request = requests.recv().unwrap().to_lowercase();
        assert!(request.starts_with(&format!("post {path} http/1.1\r\n")), "{request}");
        assert!(request.contains("\r\ncontent-type: application/x-protobuf\r\n"), "{request}");
        assert!(request.contains("\r\nx-scope-orgid: team-a\r\n"), "{request}");
    }
}

#[test]
fn what_is_switched_off_is_passed_over() {
    let (server, seen) = collector(|_| grpc(b"", 0, ""));
    let mut sink = sink(&server, |config| config.traces = false);
    let batch = Source::new().batch(&[&*exchange(true, ""), LOG]);
    let sent = sink.send(&batch, within(10)).unwrap();
    assert_eq!(
        (sent.through, sent.passed_over, paths(&seen)),
        (Some(2), 1, vec!["LogsService/Export".to_owned()])
    );
}

#[test]
fn what_was_taken_of_a_batch_is_not_sent_again_when_the_rest_failed() {
    let failures = Arc::new(Mutex::new(vec![(3, "bad record"), (3, "bad record"), (14, "later")]));
    let left = Arc::clone(&failures);
    let (server, seen) = collector(move |path| match path.contains("Logs") {
        true => {
            left.lock().unwrap().pop().map_or_else(|| grpc(b"", 0, ""), |(code, said)| grpc(b"", code, said))
        }
        // Half of what comes first is not wanted.
        false => partial(1, "too old"),
    });
    let mut sink = sink(&server, |_| ());
    let mut source = Source::new();
    let exchange = exchange(true, "");
    let batch = source.batch(&[&*exchange, LOG, &exchange, LOG]);
    let failure = sink.send(&batch, within(10)).unwrap_err();
    assert!(
        matches!(&failure, Failure::Retry { reason, .. } if reason.contains("logs: grpc status 14: later")),
        "{failure:?}"
    );
    let failure = sink.send(&batch, within(10)).unwrap_err();
    assert!(matches!(&failure, Failure::Refused { reason } if reason.contains("bad record")), "{failure:?}");
    // The batch is split: the same events in two parts, of which one is refused again.
    let mut again = Source::new();
    let (first, second) = (again.batch(&[&*exchange, LOG]), again.batch(&[&*exchange, LOG]));
    assert!(matches!(sink.send(&first, within(10)), Err(Failure::Refused { .. })));
    let sent = sink.send(&second, within(10)).unwrap();
    assert_eq!(sent.through, Some(4));
    // What was rejected of the first call is told when it is settled, and once: which one is a guess.
    assert!(
        matches!(&sent.rejected[..], [(3, reason)] if reason.contains("1 of 2") && reason.contains("too old")),
        "{sent:?}"
    );
    let spans = paths(&seen).iter().filter(|path| path.starts_with("Trace")).count();
    assert_eq!(spans, 1, "spans were sent once: {:?}", paths(&seen));
    // From then on spans are sent again.
    let next = source.batch(&[&*exchange, &*exchange]);
    assert_eq!(sink.send(&next, within(10)).unwrap().rejected.len(), 1);
}

#[test]
fn a_batch_that_is_rejected_in_whole_is_refused() {
    let (server, _) = collector(|_| partial(2, "no"));
    let exchange = exchange(true, "");
    let batch = Source::new().batch(&[&*exchange, &exchange]);
    let failure = sink(&server, |_| ()).send(&batch, within(10)).unwrap_err();
    assert!(matches!(&failure, Failure::Refused { reason } if reason.contains("no")), "{failure:?}");
}

#[test]
fn telemetry_that_is_not_known_there_does_not_hold_up_the_rest() {
    let (server, seen) = collector(|path| match path.contains("Logs") {
        true => grpc(b"", 12, "unknown service"),
        false => grpc(b"", 0, ""),
    });
    let batch = Source::new().batch(&[LOG, &*exchange(true, "")]);
    let sent = sink(&server, |_| ()).send(&batch, within(10)).unwrap();
    assert_eq!(sent.through, Some(2));
    assert!(matches!(&sent.rejected[..], [(1, reason)] if reason.contains("unknown service")), "{sent:?}");
    assert_eq!(paths(&seen).len(), 2);
}

#[test]
fn where_nothing_is_known_events_wait_for_somebody_to_put_the_endpoint_right() {
    let (server, _) = collector(|_| grpc(b"", 12, "unknown service"));
    let mut source = Source::new();
    let failure = sink(&server, |_| ()).send(&source.batch(&[LOG]), within(10)).unwrap_err();
    let is_told = |failure: &Failure| failure.reason().contains("endpoint");
    assert!(matches!(&failure, Failure::Retry { .. }) && is_told(&failure), "{failure:?}");

    // Traces are known, which is asked once before the first span comes: a log record does not hold it up.
    let (server, seen) = collector(|path| match path.contains("Logs") {
        true => grpc(b"", 12, "unknown service"),
        false => grpc(b"", 0, ""),
    });
    let mut sink = sink(&server, |_| ());
    for _ in 0..2 {
        assert_eq!(sink.send(&source.batch(&[LOG]), within(10)).unwrap().rejected.len(), 1);
    }
    assert_eq!(paths(&seen).iter().filter(|path| path.starts_with("Trace")).count(), 1);
}

#[test]
fn a_collector_that_is_silent_or_away_costs_the_deadline_at_most() {
    let silent = Server::start(|stream| {
        let _ = std::io::Read::read_to_end(&mut &stream, &mut Vec::new());
    });
    let batch = Source::new().batch(&[LOG]);
    let begin = Instant::now();
    let deadline = begin + Duration::from_millis(200);
    assert!(matches!(sink(&silent, |_| ()).send(&batch, deadline), Err(Failure::Retry { .. })));
    assert!(begin.elapsed() < Duration::from_secs(3));
}

#[test]
fn the_registry_is_sent_as_cumulative_metrics() {
    let block = Arc::<Block>::default();
    let registry = Arc::new(Registry::new(service(), vec![block], Accounts::default()));
    let mut writer = registry.writer(0);
    for millis in [1, 20_000] {
        let mut record = Record::new();
        record.direction = Direction::Inbound;
        record.method = record.store(b"GET");
        record.status = 200;
        record.cause = (millis > 1).then_some(Kind::UpstreamReset);
        record.duration = Duration::from_millis(millis);
        writer.count(&record);
    }
    let (server, seen) = collector(|_| grpc(b"", 0, ""));
    let config = Config { metrics_interval: Duration::from_millis(1), ..Config::to(&server.url()) };
    let mut sink = OtlpSink::new(&config, &service(), Path::new("/"), Some(Arc::clone(&registry))).unwrap();
    let limit = within(10);
    while seen.lock().unwrap().is_empty() && Instant::now() < limit {
        assert_eq!(sink.idle(within(10)), Ok(Sent::nothing()));
    }
    let message = ExportMetricsServiceRequest::decode(&*seen.lock().unwrap()[0].2).unwrap();
    let of = &message.resource_metrics[0];
    assert_eq!(
        attributes(&of.resource.as_ref().unwrap().attributes)["service.name"],
        Any::StringValue("checkout".into())
    );
    let metrics = &of.scope_metrics[0].metrics;
    let metric =
        |name: &str| metrics.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("no {name}"));
    let durations = metric("http.server.request.duration");
    assert_eq!(durations.unit, "s");
    let Some(Data::Histogram(durations)) = &durations.data else { panic!("a histogram") };
    assert_eq!(durations.aggregation_temporality, 2);
    let mut counts = [0; 15];
    let mut sum = 0.0;
    for point in &durations.data_points {
        assert_eq!(point.explicit_bounds.len(), 14);
        assert_eq!((point.explicit_bounds[0], point.explicit_bounds[13]), (0.005, 10.0));
        assert!(point.start_time_unix_nano > 0 && point.time_unix_nano >= point.start_time_unix_nano);
        assert_eq!(attributes(&point.attributes)["http.response.status_code"], Any::IntValue(200));
        assert_eq!(attributes(&point.attributes)["http.request.method"], Any::StringValue("GET".into()));
        point.bucket_counts.iter().zip(&mut counts).for_each(|(count, sum)| *sum += count);
        assert_eq!(point.bucket_counts.len(), 15);
        sum += point.sum.unwrap();
    }
    assert_eq!((counts[0], counts[14], counts.iter().sum::<u64>()), (1, 1, 2));
    assert!((sum - 20.001).abs() < 1e-9, "{sum}");
    let Some(Data::Sum(ended)) = &metric("sidelight.exchanges").data else { panic!("a sum") };
    assert!(ended.is_monotonic && ended.data_points.len() > 10);
    assert_eq!(metric("process.memory.usage").unit, "By");
    assert!(metrics.iter().all(|metric| metric.name != "target" && !metric.name.contains("start_time")));
    // Nothing of it is an event, and nothing of it fails the sink.
    drop(server);
}

#[test]
fn a_configuration_that_cannot_work_is_said_at_once() {
    let new = |config: &Config| OtlpSink::new(config, &service(), Path::new("/"), None).err().unwrap();
    assert!(new(&Config::to("collector:4317")).contains("`endpoint`"));
    assert!(new(&Config { batch_events_max: 0, ..Config::to("http://a") }).contains("batch_events_max"));
    assert!(new(&Config { timeout: Duration::ZERO, ..Config::to("http://a") }).contains("timeout"));
    assert!(
        new(&Config { headers_file: Some("none".into()), ..Config::to("http://a") }).contains("headers_file")
    );
}
