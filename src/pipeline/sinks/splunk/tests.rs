use super::super::fixture::{Asked, Feed, Server, exchange, soon};
use super::*;
use serde_json::json;

fn open(server: &Server, ack: bool) -> (tempfile::TempDir, Splunk) {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("token"), "t0ken\n").unwrap();
    let config = Config {
        name: None,
        url: server.url(),
        token_file: "token".into(),
        index: Some("mesh".into()),
        source: None,
        sourcetype: None,
        host: None,
        ack,
        tls: None,
    };
    let about = Service { name: "check \"out\"".into(), instance: "host-1".into(), ..Service::default() };
    let sink = Splunk::new(&config, &about, files.path()).unwrap();
    (files, sink)
}

fn objects(asked: &Asked) -> Vec<Json> {
    serde_json::Deserializer::from_slice(&asked.body).into_iter().map(Result::unwrap).collect()
}

fn numbers(asked: &Asked) -> Vec<u64> {
    objects(asked).iter().map(|object| object["event"]["id"]["sequence"].as_u64().unwrap()).collect()
}

fn feed(events: u64) -> Feed {
    let mut feed = Feed::new();
    for number in 1..=events {
        feed.push(&exchange(number, "2025-01-01T00:00:00.123456Z", ""));
    }
    feed
}

fn ok() -> (u16, String) {
    (200, r#"{"text":"Success","code":0}"#.to_owned())
}

#[test]
fn events_arrive_with_what_splunk_wants_to_know() {
    let server = Server::start(|_, _| ok());
    let (_files, mut sink) = open(&server, false);
    let mut feed = feed(1);
    feed.push(r#"{"schema":"sidelight/app_log/1"}"#);
    feed.drive(&mut sink, 100).unwrap();
    assert_eq!(feed.settled(), 2);
    let asked = server.asked();
    assert_eq!((asked[0].method.as_str(), asked[0].target.as_str()), ("POST", "/services/collector/event"));
    assert_eq!(asked[0].header("authorization"), Some("Splunk t0ken"));
    assert_eq!(asked[0].header("x-splunk-request-channel"), None);
    let event: Json = serde_json::from_str(&exchange(1, "2025-01-01T00:00:00.123456Z", "")).unwrap();
    assert_eq!(
        objects(&asked[0]),
        [
            json!({
                "time": "1735689600.123456", "host": "host-1", "source": "sidelight", "sourcetype": "_json",
                "index": "mesh", "event": event, "fields": { "service": "check \"out\"", "schema": "exchange" },
            }),
            json!({
                "host": "host-1", "source": "sidelight", "sourcetype": "_json", "index": "mesh",
                "event": { "schema": "sidelight/app_log/1" },
                "fields": { "service": "check \"out\"", "schema": "app_log" },
            }),
        ]
    );
}

#[test]
fn an_event_that_is_named_as_invalid_is_rejected_and_the_others_go() {
    let server = Server::start(|number, _| match number {
        0 => (400, r#"{"text":"Invalid data format","code":6,"invalid-event-number":1}"#.to_owned()),
        1 => (400, r#"{"text":"Event field cannot be blank","code":13,"invalid-event-number":2}"#.to_owned()),
        _ => ok(),
    });
    let (_files, mut sink) = open(&server, false);
    let mut feed = feed(4);
    feed.drive(&mut sink, 100).unwrap();
    let rejected: Vec<u64> = feed.rejected.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(rejected, [2, 4]);
    assert!(feed.rejected[0].1.contains("Invalid data format"), "{}", feed.rejected[0].1);
    assert_eq!(
        server.asked().iter().map(numbers).collect::<Vec<_>>(),
        [vec![1, 2, 3, 4], vec![1, 3, 4], vec![1, 3]]
    );
    assert_eq!(feed.settled(), 4);
}

#[test]
fn every_error_is_tried_again_or_refused() {
    let rows = [
        (400, r#"{"text":"Invalid data format","code":6}"#, true),
        (400, r#"{"text":"Invalid data format","code":6,"invalid-event-number":99}"#, true),
        (413, "too large", true),
        (400, r#"{"text":"Incorrect index","code":7,"invalid-event-number":0}"#, false),
        (403, r#"{"text":"Invalid token","code":4}"#, false),
        (401, r#"{"text":"Token is required","code":2}"#, false),
        (404, r#"{"text":"The requested URL was not found on this server.","code":404}"#, false),
        (503, r#"{"text":"Server is busy","code":9}"#, false),
        (200, r#"{"text":"Server is busy","code":9}"#, false),
    ];
    let server = Server::start(move |number, _| (rows[number].0, rows[number].1.to_owned()));
    let (_files, mut sink) = open(&server, false);
    let mut feed = feed(2);
    for (status, body, is_refused) in rows {
        let failure = feed.drive(&mut sink, 100).unwrap_err();
        assert_eq!(matches!(failure, Failure::Refused { .. }), is_refused, "{status} {body}: {failure:?}");
        assert!(failure.reason().contains(&format!("status {status}")), "{failure:?}");
    }
    assert_eq!(feed.settled(), 0);
}

#[test]
fn a_token_that_was_replaced_is_read_again() {
    let server = Server::start(|_, asked| match asked.header("authorization") {
        Some("Splunk new") => ok(),
        _ => (403, r#"{"text":"Invalid token","code":4}"#.to_owned()),
    });
    let (files, mut sink) = open(&server, false);
    let mut feed = feed(1);
    std::fs::write(files.path().join("token"), "new").unwrap();
    let failure = feed.drive(&mut sink, 100).unwrap_err();
    assert!(failure.reason().contains("Invalid token") && !failure.reason().contains("t0ken"), "{failure:?}");
    feed.drive(&mut sink, 100).unwrap();
    assert_eq!(feed.settled(), 1);
}

#[test]
fn with_acknowledgements_an_event_is_delivered_when_it_is_indexed() {
    let server =
        Server::start(|number, asked| match (number, asked.target.starts_with("/services/collector/ack")) {
            (0, false) => (200, r#"{"text":"Success","code":0,"ackId":7}"#.to_owned()),
            (1 | 2, true) => (200, r#"{"acks":{"7":false}}"#.to_owned()),
            (3, true) => (200, r#"{"acks":{"7":true}}"#.to_owned()),
            _ => (400, String::new()),
        });
    let (_files, mut sink) = open(&server, true);
    let mut feed = feed(3);
    feed.drive(&mut sink, 100).unwrap();
    assert_eq!(feed.settled(), 3);
    let asked = server.asked();
    assert_eq!(asked.len(), 4);
    let channel = asked[0].header("x-splunk-request-channel").unwrap();
    assert_eq!(channel.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "a GUID");
    for ack in &asked[1..] {
        assert_eq!(ack.target, format!("/services/collector/ack?channel={channel}"));
        assert_eq!(ack.json(), json!({ "acks": [7] }));
    }
}

#[test]
fn an_acknowledgement_that_is_late_is_waited_for_and_nothing_is_sent_twice() {
    let server = Server::start(|number, asked| match asked.target.starts_with("/services/collector/ack") {
        // The first send ends without an answer.
        true => (200, format!(r#"{{"acks":{{"7":{},"8":true}}}}"#, number > 1)),
        false => {
            (200, format!(r#"{{"text":"Success","code":0,"ackId":{}}}"#, if number == 0 { 7 } else { 8 }))
        }
    });
    let (_files, mut sink) = open(&server, true);
    let mut feed = feed(2);
    let batch = feed.batch(100);
    let failure = sink.send(&batch, Instant::now() + ACK_WAIT);
    assert!(
        matches!(&failure, Err(Failure::Retry { reason, .. }) if reason.contains("not acknowledged")),
        "{failure:?}"
    );
    assert!(feed.settle(failure).is_err());
    feed.push(&exchange(3, "2025-01-01T00:00:00.123456Z", ""));
    feed.drive(&mut sink, 100).unwrap();
    assert_eq!(feed.settled(), 3);
    let sent: Vec<Vec<u64>> =
        server.asked().iter().filter(|asked| !asked.target.contains("/ack")).map(numbers).collect();
    assert_eq!(sent, [vec![1, 2], vec![3]]);
}

#[test]
fn a_token_without_acknowledgements_is_said() {
    let server = Server::start(|_, _| ok());
    let (_files, mut sink) = open(&server, true);
    let mut feed = feed(1);
    let batch = feed.batch(100);
    let failure = sink.send(&batch, soon()).unwrap_err();
    assert!(failure.reason().contains("ack: false"), "{failure:?}");
}
