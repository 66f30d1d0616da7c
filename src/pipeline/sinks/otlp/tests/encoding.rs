use super::*;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use proptest::prelude::*;
use prost::Message;

fn spans(events: &[&str]) -> Vec<Span> {
    let mut encoder = Encoder::new(&service());
    for event in events {
        encoder.span(event.as_bytes());
    }
    let request = ExportTraceServiceRequest::decode(encoder.finish()).unwrap();
    request.resource_spans.into_iter().flat_map(|of| of.scope_spans).flat_map(|of| of.spans).collect()
}

fn span(event: &str) -> Span {
    spans(&[event]).pop().unwrap()
}

fn log(event: &str) -> LogRecord {
    let mut encoder = Encoder::new(&service());
    assert_eq!(encoder.log(event.as_bytes()), Became::Written);
    let mut request = ExportLogsServiceRequest::decode(encoder.finish()).unwrap();
    request.resource_logs[0].scope_logs[0].log_records.pop().unwrap()
}

fn text(value: &str) -> Any {
    Any::StringValue(value.into())
}

const START: u64 = 1_735_689_600_123_456_000;

#[test]
fn an_exchange_is_a_span_with_everything_it_says() {
    let mut encoder = Encoder::new(&service());
    assert_eq!(encoder.span(exchange(true, "").as_bytes()), Became::Written);
    let request = ExportTraceServiceRequest::decode(encoder.finish()).unwrap();
    let [of] = &request.resource_spans[..] else { panic!("one resource") };
    let resource = attributes(&of.resource.as_ref().unwrap().attributes);
    let version = env!("CARGO_PKG_VERSION");
    for (name, value) in [
        ("service.name", "checkout"),
        ("service.version", "1.2"),
        ("service.instance.id", "host-1"),
        ("deployment.environment.name", "prod"),
        ("sidelight.labels.team", "pay"),
        ("telemetry.distro.name", "sidelight"),
        ("telemetry.distro.version", version),
    ] {
        assert_eq!(resource.get(name), Some(&text(value)), "{name}");
    }
    assert_eq!(resource.len(), 7);
    let [of] = &of.scope_spans[..] else { panic!("one scope") };
    let scope = of.scope.as_ref().unwrap();
    assert_eq!((&*scope.name, &*scope.version), ("sidelight", version));
    let [span] = &of.spans[..] else { panic!("one span") };
    assert_eq!(span.trace_id[..2], [0x4b, 0xf9]);
    assert_eq!(span.span_id, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(span.parent_span_id, [0xaa; 8]);
    // Sampled; the parent is known to be remote.
    assert_eq!(span.flags, 0x301);
    assert_eq!((&*span.name, span.kind()), ("GET /orders/{id}", SpanKind::Server));
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (START, START + 12_345_000));
    let status = span.status.as_ref().unwrap();
    assert_eq!((status.code, &*status.message), (2, "10.0.0.7:8080: \"refused\""));
    assert_eq!((span.links.len(), span.links[0].span_id[0], span.links[0].trace_id[0]), (1, 0xb7, 0x0a));
    let found = attributes(&span.attributes);
    let list = |texts: &[&str]| {
        let values = texts.iter().map(|value| AnyValue { value: Some(text(value)) }).collect();
        Any::ArrayValue(opentelemetry_proto::tonic::common::v1::ArrayValue { values })
    };
    let want = [
        ("request_id", text("0190-abc")),
        ("user.id", text("u1")),
        ("account.id", text("a1")),
        ("license", text("gold")),
        ("request_type", text("TRACE")),
        ("user_agent.synthetic.type", text("test")),
        ("flags", list(&["beta", "x"])),
        ("tenant", text("t")),
        // The event was written by an earlier process than the sink's.
        ("service.version", text("1.1")),
        ("http.request.method", text("GET")),
        ("url.scheme", text("https")),
        ("network.protocol.version", text("2")),
        ("url.path", text("/orders/42 \"é")),
        ("http.route", text("/orders/{id}")),
        ("server.address", text("shop.example")),
        ("server.port", Any::IntValue(8443)),
        ("client.address", text("127.0.0.1")),
        ("client.port", Any::IntValue(40000)),
        ("http.request.body.size", Any::IntValue(0)),
        ("http.response.status_code", Any::IntValue(503)),
        ("error.type", text("503")),
        ("http.response.body.size", Any::IntValue(1024)),
        ("sidelight.direction", text("inbound")),
        ("sidelight.route", text("gold")),
        ("sidelight.cluster", text("app")),
        ("sidelight.attempts", Any::IntValue(2)),
        ("sidelight.outcome", text("complete")),
        ("sidelight.detail", text("10.0.0.7:8080: \"refused\"")),
        ("sidelight.duration_ms", Any::DoubleValue(12.345)),
        ("sidelight.queue_ms", Any::DoubleValue(0.25)),
    ];
    let want: BTreeMap<String, Any> =
        want.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(found, want);
}

#[test]
fn names_kinds_and_status_follow_the_conventions() {
    let head = r#""schema":"sidelight/exchange/1","timestamp":"2025-01-01T00:00:00.123456Z","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"0102030405060708","sampled":true"#;
    let server = SpanKind::Server;
    for (members, name, kind, flags, is_error) in [
        (r#""http.request.method":"GET","sidelight.direction":"inbound""#, "GET", server, 0x101, false),
        (
            r#""http.request.method":"_OTHER","http.route":"/a","sidelight.direction":"inbound""#,
            "HTTP /a",
            server,
            0x101,
            false,
        ),
        (
            r#""sidelight.direction":"outbound","error.type":"connect_failed""#,
            "HTTP",
            SpanKind::Client,
            0x101,
            true,
        ),
        (
            r#""http.request.method":"POST","url.path":"/pay.v1.Cards/Charge","rpc.system.name":"grpc","parent_id":"0102030405060709","sidelight.direction":"outbound""#,
            "pay.v1.Cards/Charge",
            SpanKind::Client,
            0x301,
            false,
        ),
        (
            r#""http.request.method":"POST","url.path":"/","rpc.system.name":"grpc","sidelight.direction":"inbound""#,
            "POST",
            server,
            0x101,
            false,
        ),
    ] {
        let span = span(&format!("{{{head},{members}}}"));
        assert_eq!(
            (&*span.name, span.kind(), span.flags, span.status.is_some()),
            (name, kind, flags, is_error),
            "{members}"
        );
    }
    let attempt = format!(
        r#"{{{},"parent_id":"0102030405060709","kind":"client","name":"GET /a","error.type":"503","duration_ms":1.5}}"#,
        head.replace("exchange", "span")
    );
    let span = span(&attempt);
    assert_eq!((&*span.name, span.kind(), span.flags), ("GET /a", SpanKind::Client, 0x101));
    assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 1_500_000);
    assert_eq!(attributes(&span.attributes).into_keys().collect::<Vec<_>>(), ["error.type"]);
}

#[test]
fn only_what_is_sampled_or_kept_and_has_ids_is_a_span() {
    let became = |event: &str| Encoder::new(&service()).span(event.as_bytes());
    assert_eq!(became(&exchange(true, "")), Became::Written);
    assert_eq!(became(&exchange(false, "")), Became::Nothing);
    assert_eq!(became(&exchange(false, r#","sidelight.kept.by":"slow""#)), Became::Written);
    // A peer's text is no member.
    assert_eq!(became(&exchange(false, r#","http.x":"\"sidelight.kept.by\"""#)), Became::Nothing);
    assert_eq!(
        became(&exchange(true, "").replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32))),
        Became::Nothing
    );
    assert_eq!(
        became(&exchange(true, "").replace(r#""span_id":"0102"#, r#""span_id":"01"#)),
        Became::Nothing
    );
    assert_eq!(became(&exchange(true, "").replace("2025-01", "yesterday")), Became::Nothing);
    assert_eq!(became("{}"), Became::Nothing);
    assert_eq!(became("[]"), Became::Malformed);
    let whole = exchange(true, "");
    assert_eq!(became(&whole[..whole.len() - 1]), Became::Malformed);
    // What is not written leaves no trace.
    let kept = [&exchange(true, ""), "nonsense", &exchange(false, ""), &exchange(true, "")];
    assert_eq!(spans(&kept).len(), 2);
}

#[test]
fn other_events_are_log_records() {
    let record = log(
        r#"{"schema":"sidelight/breaker/1","id":{"instance":"host-1","epoch":5,"sequence":9},"timestamp":"2025-01-01T00:00:00.123456Z","service.name":"checkout","sidelight.labels":{"team":"pay"},"sidelight.cluster":"payments","sidelight.breaker.state":"open","sidelight.open":true,"n":-1,"m":{"a":[1.5,null]},"z":null}"#,
    );
    assert_eq!((record.time_unix_nano, record.observed_time_unix_nano), (START, START));
    assert_eq!((&*record.event_name, record.severity_number, record.body), ("sidelight/breaker/1", 9, None));
    let found = attributes(&record.attributes);
    assert_eq!(found["log.record.uid"], text("host-1/5/9"));
    assert_eq!(found["sidelight.cluster"], text("payments"));
    assert_eq!((&found["sidelight.open"], &found["n"]), (&Any::BoolValue(true), &Any::IntValue(-1)));
    let names: Vec<&String> = found.keys().collect();
    assert_eq!(
        names,
        ["log.record.uid", "m", "n", "sidelight.breaker.state", "sidelight.cluster", "sidelight.open"]
    );
}

#[test]
fn lines_of_the_application_keep_level_body_and_members() {
    let head = r#"{"schema":"sidelight/app_log/1","id":{"instance":"h","epoch":1,"sequence":2},"timestamp":"2025-01-01T00:00:00.123456Z""#;
    let record = log(&format!(
        r#"{head},"severity_text":"Warning","body":"caf\u00e9","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"0102030405060708","attributes":{{"user":"u","n":1}}}}"#
    ));
    assert_eq!((record.severity_number, &*record.severity_text), (13, "Warning"));
    assert_eq!(record.body.unwrap().value, Some(text("café")));
    assert_eq!((record.trace_id.len(), record.span_id.len()), (16, 8));
    assert_eq!(attributes(&record.attributes).len(), 3);
    for (level, number) in [
        (r#""severity_text":"TRACE""#, 1),
        (r#""severity_text":"debug""#, 5),
        (r#""severity_text":"err""#, 17),
        (r#""severity_text":"CRITICAL""#, 21),
        (r#""severity_text":"info","severity_number":12"#, 12),
        (r#""severity_number":99"#, 9),
        (r#""severity_text":"whatever""#, 9),
    ] {
        assert_eq!(log(&format!("{head},{level}}}")).severity_number, number, "{level}");
    }
}

#[test]
fn what_is_not_utf8_and_what_is_nested_too_deep_can_be_read_all_the_same() {
    let mut broken = exchange(true, "").into_bytes();
    let at = broken.windows(5).position(|bytes| bytes == b"0190-").unwrap();
    broken[at] = 0xff;
    let mut encoder = Encoder::new(&service());
    assert_eq!(encoder.span(&broken), Became::Written);
    let deep =
        |depth: usize| exchange(true, &format!(r#","deep":{}{}"#, "[".repeat(depth), "]".repeat(depth)));
    assert_eq!(encoder.span(deep(40).as_bytes()), Became::Written);
    assert_eq!(encoder.span(deep(200_000).as_bytes()), Became::Written);
    assert!(ExportTraceServiceRequest::decode(encoder.finish()).is_ok());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_what_is_written_can_be_read(
        given: Vec<u8>,
        name in "[a-z_.]{1,24}|sampled|timestamp|trace_id|body|attributes|sidelight\\.[a-z._]{1,12}|rpc\\.system\\.name",
        text: String,
        numbers in prop::collection::vec(any::<f64>().prop_filter("finite", |number| number.is_finite()), 0..4),
        cut in 0_usize..1400,
    ) {
        let mut encoder = Encoder::new(&service());
        let more = format!(",{}:{}", serde_json::json!(name), serde_json::json!({ "a": text, "n": numbers }));
        let (whole, odd) = (exchange(true, ""), exchange(true, &more));
        let cut = whole.as_bytes().get(..cut).unwrap_or_default();
        for event in [&given[..], odd.as_bytes(), cut] {
            encoder.span(event);
        }
        prop_assert!(ExportTraceServiceRequest::decode(encoder.finish()).is_ok());
        encoder.clear();
        for event in [&given[..], odd.as_bytes(), cut] {
            encoder.log(event);
        }
        prop_assert!(ExportLogsServiceRequest::decode(encoder.finish()).is_ok());
    }
}
