use super::*;
use crate::context::{RequestType, TraceParent};
use crate::error::Kind;
use crate::exchange::ParentSource;
use crate::exchange::{Direction, Phase};
use crate::svc::Version;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

fn encoder() -> Encoder {
    let service = Service {
        name: "checkout".into(),
        version: "1.2".into(),
        environment: "prod \"eu\"".into(),
        instance: "host-1".into(),
        labels: BTreeMap::from([("team".into(), "pay".into())]),
        ..Service::default()
    };
    Encoder::new(&service, 1_700_000_000_000_000)
}

pub(crate) fn full() -> Record {
    let mut record = Record::new();
    record.direction = Direction::Outbound;
    record.started_at = UNIX_EPOCH + Duration::from_micros(1_735_689_600_123_456);
    record.duration = Duration::from_micros(12_345);
    record.trace = TraceParent {
        version: 0,
        trace_id: [
            0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36,
        ],
        parent_id: [1, 2, 3, 4, 5, 6, 7, 8],
        flags: 1,
    };
    record.parent_id = Some([0xaa; 8]);
    record.parent_source = ParentSource::Header;
    record.request_id = record.store(b"0190-abc");
    record.user_id = record.store(b"u1");
    record.account_id = record.store(b"a1");
    record.license = record.store(b"gold");
    record.request_type = RequestType::Trace;
    record.flags = record.store(b"beta, x");
    record.method = record.store(b"GET");
    record.authority = record.store(b"shop.example:8443");
    record.path = record.store(b"/orders/42");
    record.version = Version::Http2;
    record.is_tls = true;
    record.peer = Some("127.0.0.1:40000".parse().unwrap());
    record.identity = Some("spiffe://mesh/ns/shop".into());
    record.route = Some("gold".into());
    record.pattern = Some("/orders".into());
    record.cluster = Some("payments".into());
    record.endpoint = Some("10.0.0.7:8080".into());
    record.endpoint_zone = Some("a".into());
    record.upstream_version = Some(Version::Http11);
    record.attempts = 2;
    record.status = 200;
    record.request_bytes = 0;
    record.response_bytes = 1024;
    record.phase = Phase::Done;
    record.queue = Some(Duration::from_micros(90));
    record.connect = Some(Duration::from_millis(1));
    record.upstream_first_byte = Some(Duration::from_micros(10_001));
    record.revision = Some("r7".into());
    record
}

fn line(record: &Record) -> String {
    let mut out = Vec::new();
    encoder().exchange(1, record, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_full_exchange_is_this_line() {
    let want = concat!(
        r#"{"schema":"sidelight/exchange/1","id":{"instance":"host-1","epoch":1700000000000000,"sequence":1},"#,
        r#""timestamp":"2025-01-01T00:00:00.123456Z","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","#,
        r#""span_id":"0102030405060708","parent_id":"aaaaaaaaaaaaaaaa","sampled":true,"request_id":"0190-abc","user_id":"u1","#,
        r#""account_id":"a1","license":"gold","request_type":"TRACE","flags":["beta","x"],"service.name":"checkout","#,
        r#""service.version":"1.2","deployment.environment.name":"prod \"eu\"","sidelight.labels":{"team":"pay"},"#,
        r#""http.request.method":"GET","url.scheme":"https","network.protocol.version":"2","url.path":"/orders/42","#,
        r#""http.route":"/orders","server.address":"shop.example","server.port":8443,"client.address":"127.0.0.1","#,
        r#""client.port":40000,"sidelight.client.identity":"spiffe://mesh/ns/shop","http.request.body.size":0,"#,
        r#""http.response.status_code":200,"http.response.body.size":1024,"sidelight.route":"gold","#,
        r#""sidelight.cluster":"payments","sidelight.endpoint":"10.0.0.7:8080","#,
        r#""sidelight.endpoint.zone":"a","sidelight.config.revision":"r7","sidelight.direction":"outbound","#,
        r#""sidelight.upstream.protocol.version":"1.1","sidelight.attempts":2,"sidelight.retries":1,"#,
        r#""sidelight.outcome":"complete","sidelight.parent.source":"header","sidelight.duration_ms":12.345,"#,
        r#""sidelight.queue_ms":0.090,"sidelight.connect_ms":1.000,"sidelight.upstream_first_byte_ms":10.001}"#,
    );
    assert_eq!(line(&full()), want);
    serde_json::from_str::<Value>(want).unwrap();
}

#[test]
fn a_connection_that_never_became_a_request_has_only_what_is_known() {
    let mut record = Record::new();
    record.cause = Some(Kind::HeaderTimeout);
    record.status = 408;
    let want = concat!(
        r#"{"schema":"sidelight/exchange/1","id":{"instance":"host-1","epoch":1700000000000000,"sequence":1},"#,
        r#""timestamp":"1970-01-01T00:00:00.000000Z","service.name":"checkout","service.version":"1.2","#,
        r#""deployment.environment.name":"prod \"eu\"","sidelight.labels":{"team":"pay"},"http.request.body.size":0,"#,
        r#""http.response.status_code":408,"error.type":"header_timeout","http.response.body.size":0,"#,
        r#""sidelight.direction":"inbound","sidelight.outcome":"none","sidelight.response_flags":"DT","#,
        r#""sidelight.cause":"header_timeout","sidelight.duration_ms":0.000}"#,
    );
    assert_eq!(line(&record), want);
}

#[test]
fn every_cause_names_its_flag_and_error_type() {
    for kind in Kind::ALL {
        let mut record = full();
        record.cause = Some(kind);
        record.detail = "10.0.0.7:8080: \u{1b}[2Jrefused\n".into();
        let event: Value = serde_json::from_str(&line(&record)).unwrap();
        assert_eq!(event["error.type"], kind.cause());
        assert_eq!(event["sidelight.cause"], kind.cause());
        assert_eq!(event["sidelight.detail"], "10.0.0.7:8080: \u{1b}[2Jrefused\n");
        let flag = kind.answer().flag.0;
        assert_eq!(event.get("sidelight.response_flags"), (!flag.is_empty()).then(|| json!(flag)).as_ref());
    }
}

#[test]
fn an_upstreams_own_failure_is_typed_by_its_status() {
    let mut record = full();
    for (direction, status, want) in [
        (Direction::Inbound, 404, None),
        (Direction::Inbound, 500, Some("500")),
        (Direction::Outbound, 399, None),
        (Direction::Outbound, 404, Some("404")),
        (Direction::Outbound, 503, Some("503")),
    ] {
        (record.direction, record.status) = (direction, status);
        let event: Value = serde_json::from_str(&line(&record)).unwrap();
        assert_eq!(event.get("error.type").and_then(Value::as_str), want);
    }
}

#[test]
fn what_a_peer_sent_stays_inside_its_text() {
    let mut record = full();
    record.path = record.store(b"/\"},{\"forged\":1}\n\xff\x00");
    record.method = record.store(b"BREW");
    record.authority = record.store(b"a\r\nb");
    record.hint = "did you mean \u{202e}x?".into();
    let line = line(&record);
    assert!(!line.chars().any(char::is_control));
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["url.path"], "/\"},{\"forged\":1}\n\u{fffd}\u{0}");
    assert_eq!(
        (&event["http.request.method"], &event["http.request.method_original"]),
        (&json!("_OTHER"), &json!("BREW"))
    );
    assert_eq!(event.get("forged"), None);
}

#[test]
fn grpc_statuses_have_their_names() {
    let mut record = full();
    record.is_grpc = true;
    for (status, want) in [(0, "OK"), (14, "UNAVAILABLE"), (16, "UNAUTHENTICATED"), (200, "200")] {
        record.grpc_status = Some(status);
        let event: Value = serde_json::from_str(&line(&record)).unwrap();
        assert_eq!(event["rpc.response.status_code"], want);
        assert_eq!(event["rpc.system.name"], "grpc");
    }
}

#[test]
fn other_events_have_the_same_head() {
    let mut encoder = encoder();
    let mut out = Vec::new();
    encoder.event(
        1,
        ("sidelight/config/1", UNIX_EPOCH),
        &json!({ "id": 7, "x": [1, null, {"y": "\n"}], "service.name": "z" }),
        &mut out,
    );
    out.push(b'\n');
    encoder.event(7, ("sidelight/app_log/1", UNIX_EPOCH), &json!("a line"), &mut out);
    out.push(b'\n');
    encoder.members(8, ("sidelight/app_log/1", UNIX_EPOCH), b" { \"a\": [1] } ", &mut out);
    out.push(b'\n');
    encoder.members(9, ("sidelight/app_log/1", UNIX_EPOCH), b"{}", &mut out);
    let text = String::from_utf8(out).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["schema"], "sidelight/config/1");
    assert_eq!(
        events[0]["id"],
        json!({ "instance": "host-1", "epoch": 1_700_000_000_000_000_u64, "sequence": 1 })
    );
    assert_eq!(events[0]["x"], json!([1, null, {"y": "\n"}]));
    assert_eq!(events[0]["service.name"], "checkout", "the head cannot be forged");
    assert_eq!(events[1]["id"]["sequence"], 7);
    assert_eq!(events[1]["body"], "a line");
    assert_eq!((&events[2]["a"], &events[3]["id"]["sequence"]), (&json!([1]), &json!(9)));
    assert_eq!(text.matches("service.name").count(), 4);
}
