use super::super::fixture::{Feed, Server, exchange};
use super::*;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

fn open(server: &Server, path: &str) -> Zipkin {
    let config = Config { name: None, url: format!("{}{path}", server.url()), tls: None };
    let about = Service { name: "checkout".into(), ..Service::default() };
    Zipkin::new(&config, &about, Path::new("/")).unwrap()
}

const TRACE: &str = r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"0102030405060708""#;

fn span(event: &str) -> Option<Json> {
    let mut out = Vec::new();
    span::write(&mut out, event.as_bytes(), "checkout").then(|| serde_json::from_slice(&out).unwrap())
}

fn event(more: &str) -> String {
    exchange(1, "2025-01-01T00:00:00.123456Z", &format!("{TRACE},{more}"))
}

#[test]
fn an_exchange_is_a_span_with_everything_that_is_known() {
    let outbound = event(concat!(
        r#""parent_id":"aaaaaaaaaaaaaaaa","sampled":true,"service.name":"shop \"eu\"","account_id":"a1","flags":["beta"],"#,
        r#""http.request.method":"GET","http.route":"/orders/{id}","client.address":"10.1.1.1","client.port":4000,"#,
        r#""http.response.status_code":503,"error.type":"503","sidelight.cluster":"payments","#,
        r#""sidelight.endpoint":"10.0.0.7:8080","sidelight.direction":"outbound","sidelight.duration_ms":12.345"#
    ));
    assert_eq!(
        span(&outbound),
        Some(json!({
            "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
            "id": "0102030405060708",
            "parentId": "aaaaaaaaaaaaaaaa",
            "kind": "CLIENT",
            "name": "GET /orders/{id}",
            "timestamp": 1_735_689_600_123_456_u64,
            "duration": 12_345,
            "localEndpoint": { "serviceName": "shop \"eu\"" },
            "remoteEndpoint": { "serviceName": "payments", "ipv4": "10.0.0.7", "port": 8080 },
            "shared": false,
            "tags": {
                "account_id": "a1", "flags": "[\"beta\"]", "http.request.method": "GET", "http.route": "/orders/{id}",
                "client.address": "10.1.1.1", "client.port": "4000", "http.response.status_code": "503",
                "error.type": "503", "sidelight.cluster": "payments", "sidelight.endpoint": "10.0.0.7:8080",
                "sidelight.direction": "outbound", "error": "503",
            },
        }))
    );
}

#[test]
fn kind_name_and_other_side_follow_the_direction() {
    let rows = [
        (
            r#""sampled":true,"http.request.method":"_OTHER","client.address":"::1","client.port":9,"sidelight.direction":"inbound","sidelight.endpoint":"127.0.0.1:80""#,
            ("SERVER", "HTTP", json!({ "ipv6": "::1", "port": 9 })),
        ),
        (
            r#""sampled":true,"http.request.method":"PUT","sidelight.direction":"outbound","sidelight.cluster":"c","sidelight.endpoint":"db.internal:5432""#,
            ("CLIENT", "PUT", json!({ "serviceName": "c" })),
        ),
        (
            r#""sampled":true,"kind":"client","name":"GET /x","server.address":"10.0.0.9","server.port":81,"duration_ms":0.0001"#,
            ("CLIENT", "GET /x", json!({ "ipv4": "10.0.0.9", "port": 81 })),
        ),
        (
            r#""sampled":true,"kind":"PRODUCER","name":"send","client.port":70000,"client.address":"10.0.0.9""#,
            ("PRODUCER", "send", json!({ "ipv4": "10.0.0.9" })),
        ),
        (r#""sidelight.kept.by":"error","sampled":false"#, ("SERVER", "HTTP", Json::Null)),
    ];
    for (more, (kind, name, remote)) in rows {
        let span = span(&event(more)).unwrap();
        assert_eq!(
            (&span["kind"], &span["name"], &span["remoteEndpoint"]),
            (&kind.into(), &name.into(), &remote)
        );
        assert_ne!(span["duration"], 0);
    }
}

#[test]
fn what_is_no_span_of_a_recorded_trace_is_passed_over() {
    let log = event(r#""sampled":true"#).replace("/exchange/", "/app_log/");
    for event in [
        event(r#""sampled":false"#),
        exchange(1, "2025-01-01T00:00:00.000000Z", r#""sampled":true"#),
        log,
        event(r#""sampled":true"#).replace("0102030405060708", "01020304\\u0031"),
        "no event".to_owned(),
    ] {
        assert_eq!(span(&event), None, "{event}");
    }
}

#[test]
fn a_tag_is_there_once() {
    let span = span(&event(
        r#""sampled":true,"attributes":{"a":1,"error":"mine","b":{"c":2.5}},"a":2,"error.type":"x""#,
    ))
    .unwrap();
    assert_eq!(span["tags"], json!({ "a": "1", "error": "mine", "b": "{\"c\":2.5}", "error.type": "x" }));
}

#[test]
fn a_batch_is_one_array_and_every_answer_has_its_meaning() {
    let answers = [
        (500, false),
        (404, false),
        (401, false),
        (429, false),
        (400, true),
        (413, true),
        (202, false),
        (202, false),
    ];
    let server = Server::start(move |number, _| (answers[number].0, String::new()));
    let mut sink = open(&server, "");
    let mut feed = Feed::new();
    feed.push(&event(r#""sampled":false"#));
    feed.push(&event(r#""sampled":true"#));
    feed.push("{}");
    feed.push(&event(r#""sampled":true"#));
    for (status, is_refused) in &answers[..6] {
        let failure = feed.drive(&mut sink, 100).unwrap_err();
        assert_eq!(matches!(failure, Failure::Refused { .. }), *is_refused, "{status}: {failure:?}");
    }
    feed.drive(&mut sink, 100).unwrap();
    assert_eq!((feed.settled(), feed.passed_over), (4, 2));
    feed.push("{}");
    feed.drive(&mut sink, 100).unwrap();
    assert_eq!((feed.settled(), feed.passed_over), (5, 3));
    let asked = server.asked();
    assert_eq!(asked.len(), 7, "nothing is sent for what is no span");
    assert!(asked.iter().all(|asked| asked.target == PATH && asked.method == "POST"));
    assert_eq!(asked[6].json().as_array().unwrap().len(), 2);

    let mut sink = open(&server, "/tracing/api/v2/spans/");
    feed.push(&event(r#""sampled":true"#));
    feed.drive(&mut sink, 100).unwrap();
    assert_eq!(server.asked()[7].target, "/tracing/api/v2/spans");
}

proptest! {
    #[test]
    fn whatever_an_event_says_a_span_is_json(name: String, value: String, number: i64, double: f64) {
        let mut event = json!({
            "schema": "sidelight/app_span/1", "sampled": true, "timestamp": value, "kind": name, "name": value,
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "0102030405060708",
            "duration_ms": double, "client.port": number, "client.address": value, "sidelight.endpoint": value,
        });
        event[&name] = json!({ "x": value });
        prop_assert!(span(&event.to_string()).is_some_and(|span| span.is_object()) || name == "schema" || name == "trace_id" || name == "span_id" || name == "sampled");
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let mut out = Vec::new();
        prop_assert!(!span::write(&mut out, &bytes, "s"));
    }
}
