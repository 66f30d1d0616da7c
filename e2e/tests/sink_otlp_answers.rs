//! An OTLP receiver that answers what it should not, or nothing: what it takes in the end is what the events say, once.

use e2e::{Intake, RawClient, Reply, Setup, Sidelight, StrictBackend, wait_for};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use prost::Message;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const REQUESTS: usize = 20;

/// The empty answer of success.
fn taken() -> Reply {
    Reply::ok("application/x-protobuf", b"")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An event's id as one text, as a log record has it.
fn uid(event: &Value) -> String {
    let id = &event["id"];
    format!("{}/{}/{}", id["instance"].as_str().expect("an instance"), id["epoch"], id["sequence"])
}

/// Which spans the intake has taken, sorted: as often as they came.
fn spans(intake: &Intake) -> Vec<String> {
    let mut ids: Vec<String> = intake
        .taken("/v1/traces")
        .iter()
        .flat_map(|request| {
            ExportTraceServiceRequest::decode(&*request.body).expect("a message").resource_spans
        })
        .flat_map(|of_resource| of_resource.scope_spans)
        .flat_map(|of_scope| of_scope.spans)
        .map(|span| format!("{} {}", hex(&span.trace_id), hex(&span.span_id)))
        .collect();
    ids.sort();
    ids
}

/// Which log records it has taken, sorted.
fn records(intake: &Intake) -> Vec<String> {
    let mut ids: Vec<String> = intake
        .taken("/v1/logs")
        .iter()
        .flat_map(|request| {
            ExportLogsServiceRequest::decode(&*request.body).expect("a message").resource_logs
        })
        .flat_map(|of_resource| of_resource.scope_logs)
        .flat_map(|of_scope| of_scope.log_records)
        .map(|record| {
            let uid = record.attributes.into_iter().find(|each| each.key == "log.record.uid");
            match uid.and_then(|uid| uid.value?.value) {
                Some(any_value::Value::StringValue(uid)) => uid,
                other => panic!("no uid: {other:?}"),
            }
        })
        .collect();
    ids.sort();
    ids
}

/// The same of the events in the file.
fn told(events: &[Value]) -> (Vec<String>, Vec<String>) {
    let (exchanges, others): (Vec<&Value>, Vec<&Value>) =
        events.iter().partition(|event| event["schema"] == "sidelight/exchange/1");
    let text = |event: &Value, name: &str| event[name].as_str().expect("an id").to_owned();
    let mut spans: Vec<String> = exchanges
        .iter()
        .map(|event| format!("{} {}", text(event, "trace_id"), text(event, "span_id")))
        .collect();
    let mut records: Vec<String> = others.into_iter().map(uid).collect();
    spans.sort();
    records.sort();
    (spans, records)
}

fn sidecar(app: &StrictBackend, intake: &Intake) -> Sidelight {
    let sink = format!("endpoint: \"http://{}\"\nprotocol: http_protobuf\ntimeout: 300ms", intake.address());
    let setup = Setup::app(app.address()).sink("otlp", &sink);
    Sidelight::start(&setup.section("pipeline", "spool:\n  directory: spool"))
}

/// Asks for these paths, in traces that are sampled.
fn ask(proxy: &Sidelight, paths: impl Iterator<Item = String>) {
    let mut client = RawClient::connect(proxy.inbound());
    for (number, path) in paths.enumerate() {
        let trace = format!("00-{:032x}-{:016x}-01", number + 1, number + 1);
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\ntraceparent: {trace}\r\n\r\n");
        assert_eq!(client.ask(request).expect("an answer").status, 200);
    }
}

fn state(proxy: &Sidelight, state: &str) -> Value {
    wait_for(&format!("the event that the sink is {state}"), || {
        let events = proxy.events().all("sidelight/sink/1");
        events
            .into_iter()
            .find(|event| event["sidelight.sink"] == "otlp" && event["sidelight.sink.state"] == state)
    })
}

/// Waits until the sink owes nothing; the books.
fn settled(proxy: &Sidelight) -> [u64; 4] {
    wait_for("everything to be settled", || proxy.books("otlp").filter(|[.., queued]| *queued == 0))
}

/// What fails so for a while gets everything afterwards, once. `says`: what the event gives as the cause.
fn fails_for_a_while(failure: Reply, says: &str) -> Intake {
    let is_failing = Arc::new(AtomicBool::new(true));
    let flag = is_failing.clone();
    let intake = Intake::start(move |_| if flag.load(Ordering::SeqCst) { failure.clone() } else { taken() });
    let app = StrictBackend::start();
    let proxy = sidecar(&app, &intake);
    ask(&proxy, (0..REQUESTS).map(|number| format!("/{number}")));
    let down = state(&proxy, "down");
    assert!(down["sidelight.cause"].as_str().is_some_and(|cause| cause.contains(says)), "{down}");
    wait_for("the books to have every exchange", || {
        let [produced, delivered, dropped, queued] = proxy.books("otlp")?;
        assert_eq!((delivered, dropped, queued), (0, 0, produced), "all of it waits");
        (produced > REQUESTS as u64).then_some(())
    });
    assert_eq!(proxy.metric("sidelight_sink_up{sink=\"otlp\"}"), Some(0.0));
    is_failing.store(false, Ordering::SeqCst);
    state(&proxy, "up");
    let [produced, delivered, dropped, _] = settled(&proxy);
    assert_eq!((produced, dropped), (delivered, 0), "nothing is lost");
    assert_eq!(proxy.metric("sidelight_sink_up{sink=\"otlp\"}"), Some(1.0));
    // Exactly what the file has, and each once; an event that comes meanwhile may be at one of the two places only.
    wait_for("the same events as in the file", || {
        let arrived = (spans(&intake), records(&intake));
        (arrived == told(&proxy.events().everything())).then_some(())
    });
    assert_eq!(spans(&intake).len(), REQUESTS);
    intake
}

#[test]
fn what_is_unavailable_gets_everything_later() {
    fails_for_a_while(Reply::status("503 Service Unavailable", ""), "503");
}

#[test]
fn what_is_overloaded_is_left_alone_for_as_long_as_it_says() {
    let wait = Duration::from_secs(1);
    let intake = fails_for_a_while(Reply::status("429 Too Many Requests", "Retry-After: 1\r\n"), "429");
    let posts = intake.posts();
    for pair in posts.windows(2).filter(|pair| !pair[0].is_taken) {
        let pause = pair[1].at.duration_since(pair[0].at);
        assert!(pause >= wait, "came again after {pause:?}");
    }
    assert!(!posts[0].is_taken);
}

#[test]
fn what_hangs_gets_everything_later() {
    fails_for_a_while(Reply::Hang, "no answer in time");
}

#[test]
fn what_answers_garbage_gets_everything_later() {
    fails_for_a_while(Reply::Fail(b"\x16\x03\x01\0\xff\xfe no HTTP\r\n\r\n".to_vec()), "");
}

#[test]
fn what_hangs_up_gets_everything_later() {
    fails_for_a_while(Reply::Fail(Vec::new()), "");
}

/// Where one event is not taken whatever happens, it alone is put aside.
#[test]
fn an_event_that_is_refused_for_good_does_not_hold_up_the_others() {
    let intake = Intake::start(|request| {
        let has_poison = request.body.windows(7).any(|bytes| bytes == b"/poison");
        if has_poison { Reply::status("400 Bad Request", "") } else { taken() }
    });
    let app = StrictBackend::start();
    let proxy = sidecar(&app, &intake);
    let path = |number| if number == 7 { "/poison".to_owned() } else { format!("/{number}") };
    ask(&proxy, (0..REQUESTS).map(path));
    let events = proxy.events().wait(REQUESTS);
    wait_for("the books to have every exchange", || {
        proxy.books("otlp").filter(|[produced, ..]| *produced >= REQUESTS as u64)
    });
    let [produced, delivered, dropped, _] = settled(&proxy);
    assert_eq!((produced, dropped), (delivered + 1, 1));
    let rejected = "sidelight_pipeline_dropped_total{sink=\"otlp\",reason=\"rejected\"}";
    assert_eq!(proxy.metric(rejected), Some(1.0));
    let letters = std::fs::read_to_string(proxy.directory().join("spool/dead-letters.ndjson"));
    let letters: Vec<Value> = letters
        .expect("dead letters")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!((&letter["sink"], &letter["event"]["url.path"]), (&"otlp".into(), &"/poison".into()));
    assert!(letter["reason"].as_str().is_some_and(|reason| reason.contains("400")), "{letter}");
    let good: Vec<Value> = events.into_iter().filter(|event| event["url.path"] != "/poison").collect();
    assert_eq!(spans(&intake), told(&good).0, "every other one, once");
}
