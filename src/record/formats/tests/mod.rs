mod gor;
mod har;
mod hostile;
mod scripts;
mod tap;

use super::*;
use crate::exchange::{Direction, Outcome};
use crate::record::entry::field;
use crate::record::messages::{self, Opcode};
use crate::record::{Content, Event, Field, RequestHead, ResponseHead, Side, What, wire};
use crate::svc::Version;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

pub(super) const STARTED: u64 = 1_795_442_400_123_456_789;

fn event(at_ns: u64, what: What) -> Event {
    Event { at_ns, what }
}

/// An exchange with everything that an entry can hold.
pub(super) fn full() -> Entry {
    let pieces: [&'static [u8]; 3] = [b"{\"items\":", b"[1,2,", b"3]}"];
    let mut events = vec![
        event(
            0,
            What::Request(RequestHead {
                method: "POST".into(),
                scheme: "https".into(),
                authority: "shop:8443".into(),
                target: "/cart?a=1&b=%41+c".into(),
                upgrade: Bytes::new(),
                fields: vec![
                    Field::new("content-type", "application/json"),
                    Field::new("Cookie", "sid=1; theme=dark"),
                    Field::new("x-twice", "1"),
                    Field::new("x-twice", "2"),
                ],
            }),
        ),
        event(10, What::Data(Side::Request, Bytes::from_static(b"\x00\xff binary"))),
        event(20, What::End(Side::Request)),
        event(25, What::Response(ResponseHead { status: 103, fields: vec![Field::new("link", "</a.css>")] })),
        event(
            1_000_030,
            What::Response(ResponseHead {
                status: 201,
                fields: vec![
                    Field::new("content-type", "application/json"),
                    Field::new("set-cookie", "a=b; Path=/; HttpOnly"),
                ],
            }),
        ),
    ];
    events.extend(
        pieces
            .iter()
            .zip(1_000_040..)
            .map(|(piece, at)| event(at, What::Data(Side::Response, Bytes::from_static(piece)))),
    );
    events.push(event(1_000_050, What::Trailers(Side::Response, vec![Field::new("x-sum", "7")])));
    events.push(event(1_000_051, What::End(Side::Response)));
    Entry {
        sequence: 9,
        direction: Direction::Outbound,
        connection: u64::MAX - 1,
        stream: 3,
        started_ns: STARTED,
        duration_ns: 1_000_051,
        first_byte_ns: 1_000_030,
        version: Version::Http2,
        is_tls: true,
        peer: "10.0.0.1:999".into(),
        identity: "spiffe://a/b".into(),
        trace_id: [1; 16],
        span_id: [2; 8],
        parent_id: [3; 8],
        request_id: "r1".into(),
        user_id: "u1".into(),
        account_id: "a1".into(),
        license: "gold".into(),
        request_type: "TRACE".into(),
        flags: "x,y".into(),
        route: "cart".into(),
        cluster: "carts".into(),
        endpoint: "10.0.0.2:80".into(),
        attempts: 2,
        status: 201,
        cause: "none".into(),
        sampled_millionths: 500_000,
        kept_by: "slow".into(),
        request: Content { bytes: 9, hash: u64::MAX, is_truncated: false },
        response: Content { bytes: 17, hash: 5, is_truncated: false },
        redactions: 1,
        events,
        ..Entry::default()
    }
}

/// A WebSocket with a message each way and a close.
pub(super) fn socket() -> Entry {
    let mut sent = Vec::new();
    messages::put_frame(&mut sent, Opcode::Text, Some([1, 2, 3, 4]), b"hello");
    let mut received = b"\x01\x03wor".to_vec();
    received.extend_from_slice(b"\x80\x02ld");
    messages::put_frame(&mut received, Opcode::Close, None, &1000u16.to_be_bytes());
    Entry {
        sequence: 10,
        connection: 1,
        stream: 1,
        started_ns: STARTED,
        duration_ns: 9_000_000,
        status: 101,
        request: Content { bytes: sent.len() as u64, ..Content::default() },
        response: Content { bytes: received.len() as u64, ..Content::default() },
        events: vec![
            event(
                0,
                What::Request(RequestHead {
                    method: "GET".into(),
                    scheme: "http".into(),
                    authority: "chat".into(),
                    target: "/ws".into(),
                    upgrade: "websocket".into(),
                    fields: vec![Field::new("connection", "upgrade"), Field::new("upgrade", "websocket")],
                }),
            ),
            event(5, What::Response(ResponseHead { status: 101, fields: Vec::new() })),
            event(1_000_000, What::Data(Side::Request, sent.into())),
            event(2_000_000, What::Data(Side::Response, received.into())),
            event(3_000_000, What::Reset(Side::Request, "gone".into())),
        ],
        ..Entry::default()
    }
}

pub(super) fn get(target: &str, body: &[u8]) -> Entry {
    let head = RequestHead {
        method: "POST".into(),
        scheme: "http".into(),
        authority: "shop".into(),
        target: target.to_owned().into(),
        fields: vec![Field::new("x-a", "it's; $(touch /tmp/x) `x` \"q\" \\")],
        ..RequestHead::default()
    };
    let request = make::Message { head, body: Bytes::copy_from_slice(body), ..make::Message::default() };
    let response = make::Message {
        head: ResponseHead { status: 200, fields: vec![Field::new("content-length", "2")] },
        body: "ok".into(),
        head_ns: 40,
        end_ns: 50,
        ..make::Message::default()
    };
    let known = Entry { sequence: 1, connection: 1, stream: 1, started_ns: STARTED, ..Entry::default() };
    make::entry(known, &request, Some(&response))
}

pub(super) fn written(format: Format, coding: TapCoding, entries: &[Entry]) -> (Vec<u8>, Notes) {
    let mut out = Vec::new();
    let mut export = export(format, coding, &mut out).unwrap();
    entries.iter().for_each(|entry| export.write(entry).unwrap());
    let notes = export.finish().unwrap();
    (out, notes)
}

pub(super) fn read(format: Format, bytes: &[u8]) -> (Vec<Entry>, Vec<Problem>) {
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    for entry in import(format, bytes).unwrap() {
        match entry {
            Ok(entry) => entries.push(entry),
            Err(problem) => problems.push(problem),
        }
    }
    (entries, problems)
}

pub(super) fn whole(format: Format, bytes: &[u8]) -> Vec<Entry> {
    let (entries, problems) = read(format, bytes);
    assert_eq!(problems, [], "{}", String::from_utf8_lossy(bytes));
    entries
}

/// A request without an answer.
pub(super) fn lonely() -> Entry {
    let head = RequestHead {
        method: "GET".into(),
        scheme: "http".into(),
        authority: "a".into(),
        target: "/".into(),
        ..RequestHead::default()
    };
    let request = make::Message { head, ..make::Message::default() };
    make::entry(
        Entry { sequence: 11, connection: 2, stream: 1, started_ns: STARTED, ..Entry::default() },
        &request,
        None,
    )
}

pub(super) fn browser_entry(url: &str) -> Value {
    json!({
        "startedDateTime": "2026-11-23T14:00:00.500+01:00",
        "time": 30.5,
        "connection": "443",
        "request": {
            "method": "GET", "url": url, "httpVersion": "h2",
            "headers": [
                { "name": ":authority", "value": "shop.example" }, { "name": ":method", "value": "GET" },
                { "name": "x-account-id", "value": "acme" },
                { "name": "traceparent", "value": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" },
            ],
            "queryString": [], "cookies": [], "headersSize": -1, "bodySize": 0,
        },
        "response": {
            "status": 200, "statusText": "OK", "httpVersion": "h2",
            "headers": [
                { "name": "content-encoding", "value": "gzip" }, { "name": "content-length", "value": "20" },
                { "name": "set-cookie", "value": "a=1\nb=2" },
            ],
            "content": { "size": 5, "mimeType": "text/plain", "text": "aGVsbG8=", "encoding": "base64" },
            "cookies": [], "redirectURL": "", "headersSize": -1, "bodySize": 20,
        },
        "cache": {},
        "timings": { "blocked": 1.5, "dns": -1, "connect": 4, "ssl": 2, "send": 0.5, "wait": 20, "receive": 4.5 },
    })
}

pub(super) fn har_of(entries: &[Value]) -> Vec<u8> {
    let mut text =
        String::from("\u{feff}{\"log\":{\"pages\":[{\"entries\":[]}],\"version\":\"1.2\",\"entries\":[");
    text.push_str(&entries.iter().map(Value::to_string).collect::<Vec<_>>().join(",\n"));
    text.push_str("]}}");
    text.into_bytes()
}

pub(super) const GOR: &str = "\
1 932079936fa4306fc308d675 1439818823587396305\n\
POST /a HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\nx-account-id: acme\r\n\r\nhello\n🐵🙈🙉\n\
1 8e091765ae902fef8a2b7d9d 1439818823587996305 0\n\
GET http://other:81/b?c HTTP/1.0\r\n\r\n\n🐵🙈🙉\n\
2 8e091765ae902fef8a2b7d9d 1439818823597996305 2000000\n\
HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nx-sum: 1\r\n\r\n\n🐵🙈🙉\n\
3 932079936fa4306fc308d675 1539818823587396305 7000000\n\
HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno\n🐵🙈🙉\n\
1 aaaa91765ae902fef8a2b7d9 1439818823687996305 0\n\
GET /alone HTTP/1.1\r\nHost: shop\r\n\r\n\n🐵🙈🙉\n";

pub(super) fn tap_json() -> String {
    json!({ "http_buffered_trace": {
        "request": {
            "headers": [
                { "key": ":authority", "value": "shop" }, { "key": ":path", "value": "/a" },
                { "key": ":method", "value": "POST" }, { "key": ":scheme", "value": "https" },
                { "key": "x-user-id", "value": "u7" },
            ],
            "body": { "truncated": true, "as_bytes": "aGVsbG8=" },
            "trailers": [],
            "headers_received_time": "2026-11-23T14:00:00.5Z",
        },
        "response": {
            "headers": [{ "key": ":status", "value": "503" }],
            "body": { "truncated": false, "as_string": "busy" },
            "trailers": [{ "key": "x-t", "value": "1" }],
            "headers_received_time": "2026-11-23T14:00:00.75Z",
        },
        "downstream_connection": { "remote_address": { "socket_address": { "address": "10.0.0.9", "port_value": 5 } } },
    } })
    .to_string()
}

#[test]
fn formats_are_told_by_their_first_bytes() {
    for (start, want) in [
        (&b"{\"log\": {"[..], Some(Format::Har)),
        (b"\xef\xbb\xbf{\"log\": {", Some(Format::Har)),
        (GOR.as_bytes(), Some(Format::Gor)),
        (b"\x7fELF", None),
        (b"", None),
        // A message that says that it is as long as a number can be.
        (b"\x0c\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", None),
    ] {
        assert_eq!(Format::guess(start), want);
    }
    for format in Format::ALL {
        assert_eq!(Format::named(format.name()), Some(format));
        assert_eq!(import(format, &b""[..]).is_some(), format.is_readable());
    }
}
