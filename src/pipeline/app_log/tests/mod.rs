//! What becomes of lines.

mod exchanges;

use super::*;
use crate::pipeline::spool::Class;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn observed() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_735_689_600)
}

fn event_of(line: &[u8], cut: u64, context: Option<&Context>) -> Value {
    let told = Told { stream: Stream::Stdout, observed: observed(), context };
    let json = parse(line, cut).event(&told);
    assert!(json.starts_with(b"{\"timestamp\":\""), "{}", String::from_utf8_lossy(&json));
    let mut event: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(event["observed_timestamp"], "2025-01-01T00:00:00.000000Z");
    assert_eq!(event["log.iostream"], "stdout");
    for name in ["observed_timestamp", "log.iostream"] {
        event.as_object_mut().unwrap().remove(name);
    }
    event
}

/// The event without what is the same for all, as text; `timestamp` is left out where it is when the line was read.
fn event(line: &[u8]) -> Value {
    let mut event = event_of(line, 0, None);
    if event["timestamp"] == "2025-01-01T00:00:00.000000Z" {
        event.as_object_mut().unwrap().remove("timestamp");
    }
    event
}

#[test]
fn lines_of_the_usual_loggers_are_understood() {
    let pino = r#"{"level":30,"time":1700000000123,"pid":1,"msg":"listening"}"#;
    let zap = r#"{"level":"warn","ts":1700000000.25,"caller":"a.go:1","msg":"slow","n":1.50}"#;
    let slog = r#"{"time":"2023-11-14T23:13:20.5+01:00","level":"DEBUG","msg":"x"}"#;
    let python = r#"{"levelname":"CRITICAL","message":"gone","asctime":"2023-11-14 22:13:20,123"}"#;
    let ecs = r#"{"@timestamp":"2023-11-14T22:13:20.000Z","log.level":"error","message":"m","trace.id":"0af7651916cd43dd8448eb211c80319c","log":{"logger":"x"}}"#;
    let nested = r#"{"log":{"level":"info"},"message":"m","trace":{"id":"0af7651916cd43dd8448eb211c80319c"},"span":{"id":"b7ad6b7169203331"}}"#;
    let datadog = r#"{"dd":{"trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"123"},"message":"m"}"#;
    let datadog_short = r#"{"dd":{"trace_id":"1234567890","span_id":"123"},"message":"m"}"#;
    let docker = r#"{"log":"plain\n","stream":"stdout","time":"2023-11-14T22:13:20.123456789Z"}"#;
    let otel = r#"{"severity_number":18,"severity_text":"ERROR2","body":"b","traceId":"0AF7651916CD43DD8448EB211C80319C","spanId":"b7ad6b7169203331"}"#;
    let nanos = r#"{"timestamp":1700000000123456789,"severity":"NOTICE","event":"e","requestId":"r-1"}"#;
    let colour = r#"{"level":"\u001b[32minfo\u001b[0m","msg":"\u001b[1mbold\u001b[0m"}"#;
    let at = |text: &str| format!("2023-11-14T22:13:20.{text}Z");
    let cases = [
        (
            pino,
            json!({"timestamp": at("123000"), "severity_text": "INFO", "severity_number": 9, "body": "listening"}),
        ),
        (
            zap,
            json!({"timestamp": at("250000"), "severity_text": "warn", "severity_number": 13, "body": "slow"}),
        ),
        (
            slog,
            json!({"timestamp": at("500000"), "severity_text": "DEBUG", "severity_number": 5, "body": "x"}),
        ),
        (python, json!({"severity_text": "CRITICAL", "severity_number": 21, "body": "gone"})),
        (
            ecs,
            json!({"timestamp": at("000000"), "severity_text": "error", "severity_number": 17, "body": "m", "trace_id": TRACE}),
        ),
        (
            nested,
            json!({"severity_text": "info", "severity_number": 9, "body": "m", "trace_id": TRACE, "span_id": SPAN}),
        ),
        (datadog, json!({"body": "m", "trace_id": TRACE})),
        (datadog_short, json!({"body": "m"})),
        (docker, json!({"timestamp": at("123456"), "body": "plain\n"})),
        (
            otel,
            json!({"severity_text": "ERROR2", "severity_number": 18, "body": "b", "trace_id": TRACE, "span_id": SPAN}),
        ),
        (
            nanos,
            json!({"timestamp": at("123456"), "severity_text": "NOTICE", "severity_number": 10, "body": "e", "request_id": "r-1"}),
        ),
        (colour, json!({"severity_text": "info", "severity_number": 9, "body": "bold"})),
        (r#"{"level":60}"#, json!({"severity_text": "FATAL", "severity_number": 21})),
        (r#"{"level":"50","message":{"a":1}}"#, json!({"severity_text": "50", "severity_number": 17})),
        (r#"{"level":"loud","time":12.5,"request_id":"two words"}"#, json!({"severity_text": "loud"})),
        (r#"{"message":"first","msg":"second","level":null}"#, json!({"body": "first"})),
        (
            r#"{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}"#,
            json!({"trace_id": TRACE, "span_id": SPAN}),
        ),
        ("{}", json!({})),
    ];
    for (line, mut want) in cases {
        want["attributes"] = serde_json::from_str(line).unwrap();
        assert_eq!(event(line.as_bytes()), want, "{line}");
    }
    let json =
        parse(zap.as_bytes(), 0).event(&Told { stream: Stream::Stderr, observed: observed(), context: None });
    let json = String::from_utf8(json).unwrap();
    assert!(
        json.ends_with(&format!("\"log.iostream\":\"stderr\",\"attributes\":{zap}}}")),
        "as it was: {json}"
    );
}

#[test]
fn plain_lines_are_their_own_body() {
    let with = |line: &str, text: &str, number: u8| json!({"body": line, "severity_text": text, "severity_number": number});
    for (line, text, number) in [
        ("INFO started", "INFO", 9),
        ("[ERROR] no", "ERROR", 17),
        ("[error] no", "error", 17),
        ("2025-01-01 12:00:00,123 WARNING foo", "WARNING", 13),
        ("2025-01-01 12:00:00.123  INFO 1 --- [main] c.e.App : up", "INFO", 9),
        ("2025/01/01 12:00:00 [crit] 7#7: no", "crit", 21),
        ("ERROR:root:boom", "ERROR", 17),
        ("error: cannot", "error", 17),
        ("time=2025-01-01T00:00:00Z level=debug msg=x", "debug", 5),
        ("2025-01-01 | WARN | x", "WARN", 13),
        ("[12:00:00 INF] started", "INF", 9),
    ] {
        let got = event(line.as_bytes());
        assert_eq!(got, with(line, text, number), "{line}");
    }
    for line in [
        "",
        "information is free",
        "ERROR_COUNT 3",
        "error-free",
        "config: loaded",
        "a b c d e f ERROR",
        "Traceback (most recent call last):",
        "{not json",
        "[1,2]",
        "\"text\"",
        "{\"a\":1} trailing",
        "{\"a\":1e999}",
        r#"{"a":"\ud800"}"#,
    ] {
        assert_eq!(event(line.as_bytes()), json!({ "body": line }), "{line}");
    }
}

#[test]
fn ids_in_plain_text_are_found() {
    let traceparent = format!("00-{TRACE}-{SPAN}-01");
    for (line, trace, span, request) in [
        (format!("got {traceparent}"), Some(TRACE), Some(SPAN), None),
        (format!("tp=\"{traceparent}\" x"), Some(TRACE), Some(SPAN), None),
        (format!("x{traceparent}"), None, None, None),
        (format!("{traceparent}0"), None, None, None),
        (format!("trace_id={TRACE} span_id={SPAN} request_id=r-1"), Some(TRACE), Some(SPAN), Some("r-1")),
        (format!("[traceId: {TRACE}, requestId: \"r-2\"]"), Some(TRACE), None, Some("r-2")),
        (format!("dd.trace_id={TRACE} X-Request-Id: r-3"), Some(TRACE), None, Some("r-3")),
        (format!("\"trace.id\":\"{TRACE}\",\"x-request-id\":\"r-4\"}}"), Some(TRACE), None, Some("r-4")),
        (format!("traceid='{TRACE}'"), Some(TRACE), None, None),
        ("trace_id=0123 request_id= request_id:".into(), None, None, None),
        (format!("trace_id={}", "0".repeat(32)), None, None, None),
        (format!("trace_id={TRACE}ab"), None, None, None),
        (format!("span_id={SPAN}"), None, None, None),
    ] {
        let got = event(line.as_bytes());
        let found = (got["trace_id"].as_str(), got["span_id"].as_str(), got["request_id"].as_str());
        assert_eq!(found, (trace, span, request), "{line}");
        assert_eq!(got["body"], line.as_str());
    }
}

#[test]
fn what_is_no_text_is_said_to_be_none() {
    let lossy = event(b"caf\xe9");
    assert_eq!(lossy, json!({"body": "caf\u{fffd}", "sidelight.encoding": "lossy"}));
    let binary = event(b"\x00\x01\xff");
    assert_eq!(binary, json!({"body": "\u{0}\u{1}\u{fffd}", "sidelight.encoding": "binary"}));
    assert_eq!(event(b"a\x00b")["sidelight.encoding"], "binary");
    assert_eq!(
        event(b"\x1b[1;31mERROR\x1b[0m \x1b]0;title\x07red\x1b[K"),
        json!({"body": "ERROR red", "severity_text": "ERROR", "severity_number": 17})
    );
    assert_eq!(event(b"a\x1bb\x1b[12")["body"], "a\u{1b}b");
    assert_eq!(event(b"line\r"), json!({"body": "line"}));
    let cut = event_of("abcé".as_bytes().get(..4).unwrap(), 17, None);
    assert_eq!((&cut["body"], &cut["sidelight.truncated_bytes"]), (&json!("abc"), &json!(17)));
    // A terminal is not given orders by what is written through.
    let json = parse("{\t\"a\":\"\u{202e}\u{7f}é\"}".as_bytes(), 0).event(&Told {
        stream: Stream::Stdout,
        observed: observed(),
        context: None,
    });
    let json = String::from_utf8(json).unwrap();
    assert!(json.ends_with(r#""attributes":{ "a":"\u202e\u007fé"}}"#), "{json}");
}

#[test]
fn what_is_below_info_goes_first() {
    for (line, class) in [
        ("DEBUG x", Class::Debug),
        (r#"{"level":10}"#, Class::Debug),
        ("INFO x", Class::Event),
        ("x", Class::Event),
        (r#"{"level":"error"}"#, Class::Event),
    ] {
        assert_eq!(parse(line.as_bytes(), 0).class(), class, "{line}");
    }
}

#[test]
fn a_line_that_is_nested_too_deeply_is_text() {
    let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    assert!(event(nested(60).as_bytes()).get("attributes").is_some());
    for depth in [65, 200, 20_000] {
        assert_eq!(event(nested(depth).as_bytes())["body"], nested(depth).as_str());
    }
}

proptest! {
    #[test]
    fn no_bytes_whatever_make_it_panic_or_break_the_event(line: Vec<u8>, cut in 0_u64..3) {
        let _ = event_of(&line, cut, None);
    }

    #[test]
    fn every_character_of_a_plain_line_is_preserved(line in "[^\u{1b}\n\r]{0,80}") {
        prop_assume!(serde_json::from_str::<Value>(&line).is_err());
        prop_assert_eq!(&event_of(line.as_bytes(), 0, None)["body"], &json!(line));
    }

    #[test]
    fn whatever_json_comes_is_the_same_in_the_event(
        members in prop::collection::btree_map("level|msg|time|trace_id|[a-z]{1,4}", "\\PC{0,12}|[0-9]{1,19}", 0..5),
        numbers in prop::collection::btree_map("level|ts|[a-z]{1,4}", any::<f64>().prop_filter("finite", |it| it.is_finite()), 0..3),
    ) {
        let mut line = serde_json::Map::new();
        line.extend(members.into_iter().map(|(name, value)| (name, value.into())));
        line.extend(numbers.into_iter().map(|(name, value)| (name, value.into())));
        let line = Value::Object(line).to_string();
        let want: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(&event_of(line.as_bytes(), 0, None)["attributes"], &want);
    }

    #[test]
    fn times_are_read_or_left(text in "[0-9]{1,20}|[0-9.]{1,20}|\\PC{0,30}", number: i64, float: f64) {
        let _ = (super::time::of_text(&text), super::time::of_int(number), super::time::of_float(float));
    }
}
