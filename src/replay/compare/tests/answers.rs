//! Two answers and what differs in them.

use super::super::*;
use crate::record::{Entry, Event, Field, ResponseHead, Side, What};
use crate::replay::Answer;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn answer(content_type: &str, body: impl Into<Bytes>) -> Answer {
    let body = body.into();
    let fields = vec![Field::new(b"Content-Type".to_vec(), content_type.as_bytes().to_vec())];
    Answer { status: 200, fields, body_bytes: body.len() as u64, body, ..Answer::default() }
}

fn paths(rules: &Rules, left: &Answer, right: &Answer) -> Vec<String> {
    let found = differences(rules, &Seen::answered(left), &Seen::answered(right));
    found.iter().map(|d| format!("{} {}", d.path, d.kind.as_str())).collect()
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn json_differs_by_path_and_not_by_order_of_members() {
    let left = r#"{"a":1,"b":{"c":"x","d":[1,2]},"items":[{"id":1,"price":10},{"id":2,"price":20}],"gone":null,"n":1.0}"#;
    let right = r#"{"n":1,"b":{"d":[2,1],"c":"y"},"items":[{"id":1,"price":11},{"id":2,"price":"20"}],"a":1,"new":true}"#;
    let got = paths(
        &Rules::default(),
        &answer("application/json", left),
        &answer("application/json; charset=utf-8", right),
    );
    let want = [
        "header:content-type value",
        "/b/c value",
        "/b/d/* value",
        "/items/*/price value",
        "/items/*/price type",
        "/gone missing",
        "/new added",
    ];
    assert_eq!(got, want);
}

#[test]
fn rules_take_differences_away_and_nothing_else() {
    let left = r#"{"id":"a1","meta":{"at":5,"by":"x"},"price":10.00,"total":100,"tags":["a","b","c"],"ref":"ord_12-eu","token":"t","n":1}"#;
    let right = r#"{"id":"b2","meta":{"at":6,"by":"y"},"price":10.01,"total":102,"tags":["c","a","b"],"ref":"ord_99-eu","token":"u","n":2}"#;
    let mut config = rules::Config {
        ignore: vec!["/id".into(), "/meta/**".into()],
        tolerances: map(&[("/price", "± 0.01"), ("/total", "2%")]),
        sets: vec!["/tags".into()],
        matches: map(&[("/ref", r"^ord_\d+-(\w+)$")]),
        presence: vec!["/token".into()],
        ..rules::Config::default()
    };
    let (left, right) = (answer("application/json", left), answer("application/json", right));
    assert_eq!(paths(&Rules::new(&config).unwrap(), &left, &right), ["/n value"]);
    config.tolerances = map(&[("/price", "0.001"), ("/total", "1.9%")]);
    config.matches = map(&[("/ref", r"^ord_(\d+)")]);
    config.sets.clear();
    assert_eq!(
        paths(&Rules::new(&config).unwrap(), &left, &right),
        ["/price value", "/total value", "/tags/* value", "/ref value", "/n value"]
    );
    for (field, text) in [("tolerances", "x"), ("matches", "("), ("tolerances", "-1%")] {
        let mut config = rules::Config::default();
        if field == "tolerances" {
            config.tolerances = map(&[("/p", text)])
        } else {
            config.matches = map(&[("/p", text)])
        }
        let problem = Rules::new(&config).unwrap_err();
        assert!(problem.contains("`/p`") && problem.contains(text) && !problem.contains("\n\n"), "{problem}");
    }
}

#[test]
fn fields_that_tell_of_the_way_are_not_compared_and_cookies_without_values() {
    let with = |fields: &[(&str, &str)]| {
        let fields =
            fields.iter().map(|(name, value)| Field::new(name.to_string(), value.to_string())).collect();
        Answer { status: 200, fields, ..Answer::default() }
    };
    let left = with(&[
        ("Date", "Mon, 23 Nov 2026 20:16:48 GMT"),
        ("Server", "a"),
        ("X-Sidelight-Run", "1"),
        ("ETag", "\"1\""),
        ("Set-Cookie", "sid=abc; Path=/; HttpOnly; Expires=Mon, 23 Nov 2026 20:16:48 GMT"),
        ("Vary", "a"),
        ("Vary", "b"),
    ]);
    let right = with(&[
        ("date", "Mon, 23 Nov 2026 20:16:49 GMT"),
        ("vary", "a, b"),
        ("etag", "\"2\""),
        ("set-cookie", "sid=def; Path=/"),
        ("cache-control", "no-store"),
    ]);
    let got = paths(&Rules::default(), &left, &right);
    assert_eq!(got, ["header:etag value", "header:set-cookie/sid value", "header:cache-control added"]);
    let config = rules::Config {
        ignore: vec!["header:ETag".into(), "header:cache-*".into(), "header:set-cookie/*".into()],
        compared_headers: vec!["Server".into()],
        ..rules::Config::default()
    };
    assert_eq!(paths(&Rules::new(&config).unwrap(), &left, &right), ["header:server missing"]);
}

#[test]
fn text_forms_and_bytes_are_compared_by_their_type() {
    let rules = Rules::default();
    for (kind, left, right, want) in [
        ("text/plain", "a\nb\nc", "a\nB\nc", "text value"),
        ("text/plain", "a\nb", "a\nb\nc", "text added"),
        ("application/x-www-form-urlencoded", "a=1&b=2", "b=3&a=1", "/b value"),
        ("application/json", "{broken", "{broker", "text value"),
        ("application/octet-stream", "\u{1}\u{2}", "\u{1}\u{3}", "text value"),
    ] {
        assert_eq!(paths(&rules, &answer(kind, left), &answer(kind, right)), [want], "{kind}");
    }
    let bytes = |tail: u8| answer("image/png", vec![0xff, 0xd8, tail]);
    let found = differences(&rules, &Seen::answered(&bytes(1)), &Seen::answered(&bytes(2)));
    assert_eq!((&*found[0].path, &*found[0].left), ("bytes", "3 bytes, from 2: 01"));
}

fn grpc(messages: &[&[u8]], status: &str) -> Answer {
    let body: Vec<u8> =
        messages.iter().flat_map(|m| [&[0u8][..], &(m.len() as u32).to_be_bytes(), m].concat()).collect();
    let trailers = vec![Field::new("grpc-status", status.to_owned())];
    Answer { trailers, ..answer("application/grpc", body) }
}

#[test]
fn grpc_messages_are_compared_field_by_field() {
    // 1: { 3: "ab" }, 2: 7
    let one: &[u8] = &[0x0a, 4, 0x1a, 2, b'a', b'b', 0x10, 7];
    let two: &[u8] = &[0x10, 7, 0x0a, 4, 0x1a, 2, b'a', b'c', 0x22, 1, b'z'];
    let rules = Rules::default();
    let text = |number| vec![format!("{number} value")];
    assert_eq!(paths(&rules, &grpc(&[one, one], "0"), &grpc(&[one, two], "0")), ["/1/3 value", "/4 added"]);
    assert_eq!(
        paths(&rules, &grpc(&[one], "0"), &grpc(&[one, one], "5")),
        ["trailer:grpc-status value", "messages count"]
    );
    let config = rules::Config { ignore: vec!["/1/3".into(), "/4".into()], ..rules::Config::default() };
    assert!(paths(&Rules::new(&config).unwrap(), &grpc(&[one], "0"), &grpc(&[two], "0")).is_empty());
    // What is not a message is bytes; an answer of a head alone has its status in the same place.
    assert_eq!(paths(&rules, &grpc(&[b"\xff\xff"], "0"), &grpc(&[b"\xff\xfe"], "0")), text("bytes"));
    let mut head_only = grpc(&[], "0");
    head_only.fields.append(&mut head_only.trailers);
    assert!(paths(&rules, &head_only, &grpc(&[], "0")).is_empty());
}

#[test]
fn what_is_not_all_there_is_not_compared_and_no_answer_is_one_difference() {
    let recorded = Entry {
        status: 200,
        events: vec![
            Event { at_ns: 0, what: What::Response(ResponseHead { status: 200, fields: Vec::new() }) },
            Event { at_ns: 1, what: What::Data(Side::Response, Bytes::from_static(b"begin")) },
        ],
        ..Entry::default()
    };
    let mut cut = recorded.clone();
    cut.response.is_truncated = true;
    let answered =
        Answer { status: 200, body: Bytes::from_static(b"other"), body_bytes: 5, ..Answer::default() };
    let rules = Rules::default();
    let of =
        |entry: &Entry, answer: &Answer| differences(&rules, &Seen::recorded(entry), &Seen::answered(answer));
    assert_eq!(of(&recorded, &answered).len(), 1);
    assert!(of(&cut, &answered).is_empty());
    let none = Answer { error: Some("timeout".into()), ..Answer::default() };
    let found = of(&recorded, &none);
    assert_eq!(found.iter().map(|d| &*d.path).collect::<Vec<_>>(), ["error", "status"]);
}

#[test]
fn downstream_calls_are_compared_as_sets() {
    let call = |method: &str, target: &str| Call::new(method, "stock:8080", target);
    let recorded = [call("GET", "/items/1042"), call("GET", "/items/77"), call("POST", "/holds")];
    let observed = [call("GET", "/items/9?x=1"), call("POST", "/holds"), call("DELETE", "/holds/0b1f3d52")];
    let found = calls::compare(&Rules::default(), &recorded, &observed);
    let got: Vec<_> = found.iter().map(|d| format!("{} {}", d.path, d.kind.as_str())).collect();
    assert_eq!(got, ["call:DELETE stock/holds/* added", "call:GET stock/items/* count"]);
    assert!(
        calls::compare(&Rules::default(), &recorded, &[&recorded[1..], &recorded[..1]].concat()).is_empty()
    );
}

proptest! {
    #[test]
    fn no_content_panics_and_equal_content_never_differs(
        kind in "(application/json|application/grpc|text/html|application/x-www-form-urlencoded|)",
        left: Vec<u8>, right: Vec<u8>,
    ) {
        let (left, right) = (answer(&kind, left), answer(&kind, right));
        let rules = Rules::default();
        prop_assert!(paths(&rules, &left, &left.clone()).is_empty());
        prop_assert!(paths(&rules, &left, &right).len() <= 257);
    }

    #[test]
    fn grpc_of_any_bytes_differs_if_and_only_if_it_is_not_equal(left: Vec<u8>, right: Vec<u8>) {
        let _ = paths(&Rules::default(), &grpc(&[&left], "0"), &grpc(&[&right], "0"));
        prop_assert!(paths(&Rules::default(), &grpc(&[&left], "0"), &grpc(&[&left], "0")).is_empty());
    }
}
