//! HAR.

use super::*;

#[test]
fn a_har_of_ours_is_read_as_it_was_written() {
    let entries = [full(), socket(), Entry { outcome: Outcome::None, cause: "timeout".into(), ..lonely() }];
    let (bytes, notes) = written(Format::Har, TapCoding::Json, &entries);
    assert_eq!(whole(Format::Har, &bytes), entries);
    assert_eq!((notes.count("trailers"), notes.count("resets")), (1, 1));
    let har: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(har["log"]["version"], "1.2");
    let first = &har["log"]["entries"][0];
    assert_eq!(first["startedDateTime"], "2026-11-23T14:00:00.123456789Z");
    assert_eq!(first["time"], 1.000051);
    let total =
        ["send", "wait", "receive"].map(|name| first["timings"][name].as_f64().unwrap()).iter().sum::<f64>();
    assert!((total - 1.000051).abs() < 1e-9, "{total}");
    assert_eq!(first["request"]["url"], "https://shop:8443/cart?a=1&b=%41+c");
    assert_eq!(first["request"]["queryString"][1], json!({ "name": "b", "value": "A c" }));
    assert_eq!(first["request"]["cookies"][1], json!({ "name": "theme", "value": "dark" }));
    assert_eq!(first["request"]["postData"]["text"], "AP8gYmluYXJ5");
    assert_eq!(first["response"]["content"]["text"], "{\"items\":[1,2,3]}");
    assert_eq!(first["response"]["cookies"][0]["httpOnly"], true);
    assert_eq!(first["serverIPAddress"], "10.0.0.2");
    let messages = &har["log"]["entries"][1]["_webSocketMessages"];
    assert_eq!((&messages[0]["type"], &messages[0]["data"]), (&json!("send"), &json!("hello")));
    assert_eq!((&messages[1]["type"], &messages[1]["data"]), (&json!("receive"), &json!("world")));
    assert_eq!(messages.as_array().unwrap().len(), 2);
}

#[test]
fn a_har_of_a_browser_is_read() {
    let [entry] = &whole(Format::Har, &har_of(&[browser_entry("https://shop.example/a?b#part")]))[..] else {
        panic!()
    };
    assert_eq!(
        (entry.started_ns, entry.duration_ns, entry.first_byte_ns),
        (1_795_438_800_500_000_000, 30_500_000, 26_000_000)
    );
    assert_eq!(
        (entry.version, entry.is_tls, entry.connection, entry.status),
        (Version::Http2, true, 443, 200)
    );
    assert_eq!((&*entry.account_id, entry.trace_id[0], entry.parent_id[0]), ("acme", 0x4b, 0));
    let head = entry.request_head().unwrap();
    assert_eq!(
        (&head.authority[..], &head.target[..], head.fields.len()),
        (&b"shop.example"[..], &b"/a?b"[..], 2)
    );
    assert_eq!(&entry.body(Side::Response)[..], b"hello");
    // The content is not packed any more: what says so would be a lie.
    let fields = &entry.response_head().unwrap().fields;
    assert_eq!(field(fields, b"content-encoding"), None);
    assert_eq!(field(fields, b"content-length"), Some(&b"5"[..]));
    assert_eq!(fields.iter().filter(|field| field.is(b"set-cookie")).count(), 2);
    assert!(entry.is_whole());
}

#[test]
fn a_har_without_contents_is_marked_truncated() {
    let mut value = browser_entry("http://a/");
    value["response"]["content"] = json!({ "size": 500, "mimeType": "text/html" });
    value["request"]["bodySize"] = json!(7);
    let [entry] = &whole(Format::Har, &har_of(&[value]))[..] else { panic!() };
    assert_eq!(entry.response, Content { bytes: 500, hash: 0, is_truncated: true });
    assert_eq!(entry.request, Content { bytes: 7, hash: 0, is_truncated: true });
}

#[test]
fn forms_failures_and_websockets_of_a_browser_are_read() {
    let mut form = browser_entry("http://a/login");
    form["request"]["method"] = json!("POST");
    form["request"]["postData"] = json!({ "mimeType": "application/x-www-form-urlencoded", "params": [{ "name": "a b", "value": "ä" }, { "name": "c" }] });
    let mut failed = browser_entry("http://a/");
    failed["response"] =
        json!({ "status": 0, "statusText": "", "_error": "net::ERR_CONNECTION_REFUSED", "headers": [] });
    let mut socket = browser_entry("wss://a/ws");
    socket["response"]["status"] = json!(101);
    socket["response"]["content"] = json!({ "size": 0 });
    socket["_webSocketMessages"] = json!([
        { "type": "send", "time": 1_795_438_800.75, "opcode": 1, "data": "ping" },
        { "type": "receive", "time": 1_795_438_801.0, "opcode": 2, "data": "AAH/" },
    ]);
    let [form, failed, socket] = &whole(Format::Har, &har_of(&[form, failed, socket]))[..] else { panic!() };
    assert_eq!(&form.body(Side::Request)[..], b"a+b=%C3%A4&c=");
    assert_eq!(
        (failed.status, failed.outcome, &*failed.cause),
        (0, Outcome::None, "net::ERR_CONNECTION_REFUSED")
    );
    assert!(socket.is_tunnel() && socket.is_tls);
    let found = messages::frames(&socket.events, 100);
    let told: Vec<_> = found
        .messages
        .iter()
        .map(|it| (it.side, it.opcode, it.is_masked, it.at_ns / 1_000_000, &it.payload[..]))
        .collect();
    assert_eq!(
        told,
        [
            (Side::Request, Opcode::Text, true, 250, &b"ping"[..]),
            (Side::Response, Opcode::Binary, false, 500, &b"\0\x01\xff"[..])
        ]
    );
}

#[test]
fn behind_a_bad_entry_of_a_har_the_next_is_read() {
    let good = || browser_entry("http://a/").to_string();
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let bad: [(&str, String); 7] = [
        ("no request", "{}".into()),
        ("is no URL", browser_entry("nowhere").to_string()),
        ("control characters", browser_entry("http://a/b c").to_string()),
        ("recursion", deep),
        ("line", good().replace("\"GET\"", "\"GET")),
        ("is no name of a header", good().replace("x-account-id", "x account: id")),
        ("not Base64", good().replace("aGVsbG8=", "?")),
    ];
    for (why, bad) in bad {
        let text = format!("{{\"log\":{{\"entries\":[\n{},\n{bad},\n{}]}}}}", good(), good());
        let (entries, problems) = read(Format::Har, text.as_bytes());
        // A quote that is missing takes what follows with it, as nothing tells where a string should have ended.
        let rest = if why == "line" { 1..=2 } else { 2..=2 };
        assert!(
            rest.contains(&entries.len()) && !problems.is_empty(),
            "{why}: {} entries, {problems:?}",
            entries.len()
        );
        if why != "line" {
            assert!(problems[0].message.contains(why), "{why}: {problems:?}");
            assert_eq!((problems.len(), problems[0].line), (1, Some(3)), "{why}");
            assert_eq!(problems[0].offset as usize, 20 + good().len() + 2, "{why}");
        }
    }
}

#[test]
fn what_is_no_har_is_told() {
    for (text, why) in [
        ("", "no HAR"),
        ("[1]", "no HAR"),
        ("{\"log\":{}}", "`entries`"),
        ("{\"log\":{\"entries\":7}}", "not a list"),
        ("{\"a\":[", "ends"),
        ("{\"log\":{\"entries\":[", "end of the list"),
    ] {
        let (entries, problems) = read(Format::Har, text.as_bytes());
        assert!(
            entries.is_empty() && problems.len() == 1 && problems[0].message.contains(why),
            "{text}: {problems:?}"
        );
    }
}
