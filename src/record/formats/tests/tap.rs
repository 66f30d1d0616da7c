//! Envoy's taps.

use super::*;

#[test]
fn taps_in_json_are_read() {
    let pretty = serde_json::to_string_pretty(&serde_json::from_str::<Value>(&tap_json()).unwrap()).unwrap();
    let camel = tap_json().replace("http_buffered_trace", "httpBufferedTrace").replace("as_bytes", "asBytes");
    let text = format!("{pretty}\n{camel}{{\"socket_buffered_trace\":{{}}}}");
    assert_eq!(Format::guess(text.as_bytes()), Some(Format::EnvoyTap));
    let entries = whole(Format::EnvoyTap, text.as_bytes());
    assert_eq!(entries.len(), 2);
    for entry in &entries {
        assert_eq!(
            (entry.started_ns, entry.first_byte_ns, entry.status),
            (1_795_442_400_500_000_000, 250_000_000, 503)
        );
        assert_eq!((&*entry.user_id, &*entry.peer, entry.is_tls), ("u7", "10.0.0.9:5", true));
        assert_eq!(
            (&entry.body(Side::Request)[..], &entry.body(Side::Response)[..]),
            (&b"hello"[..], &b"busy"[..])
        );
        assert_eq!((entry.request.is_truncated, entry.response.is_truncated), (true, false));
        assert_eq!(entry.trailers(Side::Response), [Field::new("x-t", "1")]);
    }
}

#[test]
fn streamed_segments_are_put_together() {
    let segment = |id: u64, name: &str, value: Value| {
        json!({ "http_streamed_trace_segment": { "trace_id": id.to_string(), name: value } }).to_string()
    };
    let head = |path: &str| json!({ "headers": [{ "key": ":method", "value": "GET" }, { "key": ":path", "value": path }, { "key": ":authority", "value": "a" }] });
    let chunk = |text: &str| json!({ "as_string": text });
    let text = [
        segment(u64::MAX, "request_headers", head("/1")),
        segment(2, "request_headers", head("/2")),
        segment(u64::MAX, "response_headers", json!({ "headers": [{ "key": ":status", "value": "200" }] })),
        segment(2, "request_body_chunk", chunk("two")),
        segment(u64::MAX, "response_body_chunk", chunk("on")),
        segment(9, "response_body_chunk", chunk("lost")),
        segment(u64::MAX, "response_body_chunk", chunk("e")),
        segment(
            u64::MAX,
            "response_trailers",
            json!({ "headers": [{ "key": "grpc-status", "value": "0" }] }),
        ),
    ];
    let (entries, problems) = read(Format::EnvoyTap, text.join("\n").as_bytes());
    let [one, two] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((&one.body(Side::Response)[..], one.status, one.response.bytes), (&b"one"[..], 200, 3));
    assert_eq!(one.trailers(Side::Response).len(), 1);
    assert_eq!((&two.body(Side::Request)[..], two.outcome), (&b"two"[..], Outcome::None));
    assert!(problems.len() == 1 && problems[0].message.contains("not before it"), "{problems:?}");
    assert_eq!(problems[0].line, Some(6));
}

#[test]
fn taps_of_ours_are_read_as_far_as_they_go() {
    let mut binary = get("/", b"\xff\0");
    if let Some(What::Request(head)) = binary.events.first_mut().map(|event| &mut event.what) {
        head.fields.push(Field::new("x-latin", Bytes::from_static(b"\xe4")));
    }
    for coding in [TapCoding::Json, TapCoding::Proto] {
        let entries = [get("/x", b"body"), full(), binary.clone()];
        let (bytes, _) = written(Format::EnvoyTap, coding, &entries);
        assert_eq!(Format::guess(&bytes), Some(Format::EnvoyTap), "{coding:?}");
        let read = whole(Format::EnvoyTap, &bytes);
        assert_eq!(read.len(), 3, "{coding:?}");
        for (before, after) in entries.iter().zip(&read) {
            assert_eq!(before.request_head(), after.request_head());
            assert_eq!(before.response_head(), after.response_head());
            assert_eq!(before.body(Side::Request), after.body(Side::Request));
            assert_eq!(before.body(Side::Response), after.body(Side::Response));
            assert_eq!(before.trailers(Side::Response), after.trailers(Side::Response));
            assert_eq!((before.started_ns, before.first_byte_ns), (after.started_ns, after.first_byte_ns));
        }
    }
}

#[test]
fn behind_a_bad_trace_the_next_is_read() {
    let text =
        format!("{}\n{{\"http_buffered_trace\":{{}}}}\n{{\"other\":1}}\nrubbish\n{}", tap_json(), tap_json());
    let (entries, problems) = read(Format::EnvoyTap, text.as_bytes());
    assert_eq!(entries.len(), 2);
    let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [Some(2), Some(3), Some(4)], "{problems:?}");

    let (good, _) = written(Format::EnvoyTap, TapCoding::Proto, &[get("/", b"")]);
    let bad = b"\x05\xff\xff\xff\xff\xff";
    let (entries, problems) = read(Format::EnvoyTap, &[&good[..], bad, &good].concat());
    assert_eq!(
        (entries.len(), problems.len(), problems[0].offset),
        (2, 1, good.len() as u64),
        "{problems:?}"
    );
    let mut huge = good.clone();
    wire::put_varint(&mut huge, u64::MAX);
    let (entries, problems) = read(Format::EnvoyTap, &huge);
    assert_eq!((entries.len(), problems.len()), (1, 1));
    assert!(problems[0].message.contains("18446744073709551615"), "{problems:?}");
}
