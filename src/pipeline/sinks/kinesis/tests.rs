use super::super::fixture::{Asked, Feed, Server, exchange};
use super::*;
use serde_json::json;
use std::path::Path;

fn open(server: &Server, partition_key: PartitionKey) -> (tempfile::TempDir, Kinesis) {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("secret"), "s3cret").unwrap();
    let config = Config {
        name: None,
        stream: "events".into(),
        region: "eu-central-1".into(),
        endpoint: Some(server.url()),
        partition_key,
        access_key_id: Some("AKID".into()),
        secret_access_key_file: Some("secret".into()),
        session_token_file: None,
        tls: None,
    };
    let about = Service { name: "checkout".into(), instance: "host-1".into(), ..Service::default() };
    let sink = Kinesis::new(&config, &about, files.path()).unwrap();
    (files, sink)
}

fn record(body: &[u8]) -> Vec<(String, String)> {
    let call: Json = serde_json::from_slice(body).unwrap();
    assert_eq!(call["StreamName"], "events");
    let text = |value: &Json| value.as_str().unwrap().to_owned();
    let records = call["Records"].as_array().unwrap();
    records.iter().map(|record| (text(&record["PartitionKey"]), decoded(&text(&record["Data"])))).collect()
}

/// By another way than the encoder's: the bits in a row.
fn decoded(text: &str) -> String {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim_end_matches('=').chars().map(|char| DIGITS.find(char).unwrap());
    let bits: String = digits.map(|digit| format!("{digit:06b}")).collect();
    let bytes = bits
        .as_bytes()
        .chunks_exact(8)
        .map(|byte| u8::from_str_radix(str::from_utf8(byte).unwrap(), 2).unwrap());
    String::from_utf8(bytes.collect()).unwrap()
}

/// Takes all records but those whose place `is_failed`.
fn answer(asked: &Asked, is_failed: impl Fn(usize) -> bool) -> (u16, String) {
    let count = asked.json()["Records"].as_array().unwrap().len();
    let result = |place: usize| match is_failed(place) {
        true => {
            json!({ "ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "Rate exceeded" })
        }
        false => json!({ "SequenceNumber": "495", "ShardId": "shardId-000000000000" }),
    };
    let results: Vec<Json> = (0..count).map(result).collect();
    let failed = (0..count).filter(|place| is_failed(*place)).count();
    (200, json!({ "FailedRecordCount": failed, "Records": results }).to_string())
}

#[test]
fn events_are_records_under_the_key_of_their_account() {
    let server = Server::start(|_, asked| answer(asked, |_| false));
    let (_files, mut sink) = open(&server, PartitionKey::AccountId);
    let long = "k".repeat(400);
    let rows = [
        (r#""trace_id":"t1","account_id":"acme \"ü\"""#.to_owned(), "acme \"ü\""),
        (r#""trace_id":"t1""#.to_owned(), "t1"),
        (String::new(), "host-1"),
        (format!(r#""account_id":"{long}""#), &long[..256]),
    ];
    let mut feed = Feed::new();
    let events: Vec<String> =
        (1..).zip(&rows).map(|(n, (more, _))| exchange(n, "2025-01-01T00:00:00.000000Z", more)).collect();
    for event in &events {
        feed.push(event);
    }
    feed.drive(&mut sink, 500).unwrap();
    assert_eq!(feed.settled(), 4);
    let asked = server.asked();
    assert_eq!(asked[0].header("x-amz-target"), Some("Kinesis_20131202.PutRecords"));
    assert_eq!(asked[0].header("content-type"), Some("application/x-amz-json-1.1"));
    assert!(asked[0].header("authorization").unwrap().contains("/eu-central-1/kinesis/aws4_request"));
    let want: Vec<(String, String)> =
        rows.iter().zip(events).map(|((_, key), event)| ((*key).to_owned(), event)).collect();
    assert_eq!(record(&asked[0].body), want);

    let (_files, mut sink) = open(&server, PartitionKey::TraceId);
    feed.push(&exchange(5, "2025-01-01T00:00:00.000000Z", r#""trace_id":"t1","account_id":"acme""#));
    feed.drive(&mut sink, 500).unwrap();
    assert_eq!(record(&server.asked()[1].body)[0].0, "t1");
}

#[test]
fn records_that_failed_are_sent_again_alone() {
    // Of six, the places 1 and 4; of those two the second; then none.
    let server = Server::start(|number, asked| {
        answer(asked, |place| [&[1, 4][..], &[1], &[]][number].contains(&place))
    });
    let (_files, mut sink) = open(&server, PartitionKey::AccountId);
    let mut feed = Feed::new();
    for number in 1..=6 {
        feed.push(&exchange(number, "2025-01-01T00:00:00.000000Z", ""));
    }
    feed.drive(&mut sink, 500).unwrap();
    assert_eq!(feed.settled(), 6);
    let numbers = |asked: &Asked| -> Vec<u64> {
        let events =
            record(&asked.body).into_iter().map(|(_, event)| serde_json::from_str::<Json>(&event).unwrap());
        events.map(|event| event["id"]["sequence"].as_u64().unwrap()).collect()
    };
    assert_eq!(
        server.asked().iter().map(numbers).collect::<Vec<_>>(),
        [vec![1, 2, 3, 4, 5, 6], vec![2, 5], vec![5]]
    );
}

#[test]
fn what_was_taken_before_a_deadline_is_not_sent_again_after_it() {
    let server = Server::start(|number, asked| answer(asked, |place| number == 0 && place == 0));
    let (_files, mut sink) = open(&server, PartitionKey::AccountId);
    let mut feed = Feed::new();
    for number in 1..=3 {
        feed.push(&exchange(number, "2025-01-01T00:00:00.000000Z", ""));
    }
    let batch = feed.batch(500);
    // Long enough for a call, too short for a second.
    let failure = sink.send(&batch, Instant::now() + BACKOFF);
    assert!(
        matches!(&failure, Err(Failure::Retry { reason, .. }) if reason.contains("1 of 3 records were not taken: ProvisionedThroughputExceededException: Rate exceeded")),
        "{failure:?}"
    );
    assert!(feed.settle(failure).is_err());
    feed.push(&exchange(4, "2025-01-01T00:00:00.000000Z", ""));
    feed.drive(&mut sink, 500).unwrap();
    assert_eq!(feed.settled(), 4);
    assert_eq!(record(&server.asked()[1].body).len(), 2, "1 and 4");
    assert!(sink.taken.is_empty());
}

#[test]
fn a_record_that_is_too_large_is_rejected_and_the_others_go() {
    let server = Server::start(|_, asked| answer(asked, |_| false));
    let (_files, mut sink) = open(&server, PartitionKey::AccountId);
    let mut feed = Feed::new();
    feed.push(&exchange(1, "2025-01-01T00:00:00.000000Z", ""));
    let mut large = exchange(2, "2025-01-01T00:00:00.000000Z", r#""body":"*""#);
    large = large.replace('*', &"x".repeat((1 << 20) - large.len()));
    feed.push(&large);
    feed.push(&exchange(3, "2025-01-01T00:00:00.000000Z", ""));
    feed.drive(&mut sink, 500).unwrap();
    assert_eq!(feed.rejected.len(), 1);
    assert_eq!(feed.rejected[0].0, 2);
    assert!(feed.rejected[0].1.contains("Kinesis takes 1048576"), "{}", feed.rejected[0].1);
    assert_eq!(server.asked().iter().map(|asked| record(&asked.body).len()).sum::<usize>(), 2);
}

#[test]
fn every_error_is_tried_again_or_refused() {
    let rows = [
        (400, r#"{"__type":"com.amazonaws.kinesis#ValidationException","message":"bad key"}"#, true),
        (400, r#"{"__type":"SerializationException"}"#, true),
        (413, "", true),
        (
            400,
            r#"{"__type":"ResourceNotFoundException","message":"Stream events under account 1 not found."}"#,
            false,
        ),
        (400, r#"{"__type":"ProvisionedThroughputExceededException"}"#, false),
        (400, r#"{"__type":"ExpiredTokenException"}"#, false),
        (403, r#"{"__type":"AccessDeniedException"}"#, false),
        (500, "oh", false),
        (200, "<html>", false),
        (200, r#"{"Records":[]}"#, false),
        (200, r#"{"FailedRecordCount":0,"Records":[{}]}"#, false),
    ];
    let (last, answers) = (rows.len() - 1, rows);
    let server = Server::start(move |number, _| (answers[number].0, answers[number].1.to_owned()));
    let (_files, mut sink) = open(&server, PartitionKey::AccountId);
    let mut feed = Feed::new();
    feed.push(&exchange(1, "2025-01-01T00:00:00.000000Z", ""));
    for (number, (status, body, is_refused)) in rows.into_iter().enumerate() {
        let batch = feed.batch(500);
        let time = if number == last { BACKOFF } else { std::time::Duration::from_secs(20) };
        let failure = sink.send(&batch, Instant::now() + time).unwrap_err();
        assert_eq!(matches!(failure, Failure::Refused { .. }), is_refused, "{status} {body}: {failure:?}");
        if let Some((_, name)) = body.split_once("n events under") {
            assert!(failure.reason().contains(name.split('"').next().unwrap()), "{failure:?}");
        }
        feed.restart();
    }
}

#[test]
fn what_cannot_work_is_said_at_once() {
    let config = |stream: &str, endpoint: &str, id: Option<&str>| Config {
        name: None,
        stream: stream.into(),
        region: "eu-central-1".into(),
        endpoint: Some(endpoint.into()),
        partition_key: PartitionKey::AccountId,
        access_key_id: id.map(str::to_owned),
        secret_access_key_file: Some("/nowhere/secret".into()),
        session_token_file: None,
        tls: None,
    };
    for (config, want) in [
        (config("a \"b\"", "http://localhost:1", Some("A")), "names"),
        (config("events", "http://localhost:1", None), "together"),
        (config("events", "http://localhost:1", Some("A")), "/nowhere/secret"),
    ] {
        let Err(error) = Kinesis::new(&config, &Service::default(), Path::new("/")) else { panic!("{want}") };
        assert!(error.contains(want), "{error}");
    }
}
