//! Redaction: any message, and any content of any kind, in one part or in several, is taken in time; content that is plain
//! keeps its length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidelight::record::redact::{Config, Part, Redactor};
use sidelight::record::{Content, Entry, Event, Field, RequestHead, ResponseHead, Side, What};

const KINDS: [&str; 10] = [
    "application/json",
    "application/x-ndjson",
    "text/event-stream",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=b",
    "application/grpc",
    "application/x-protobuf",
    "websocket",
    "",
];
const CODINGS: [&str; 4] = ["", "gzip", "deflate", "zstd"];

fuzz_target!(|bytes: &[u8]| {
    let config = Config { json: vec!["/**/a".into()], ..Config::default() };
    let Ok(mut redactor) = Redactor::new(&config, [7; 32]) else { return };
    let mut out = Vec::new();
    redactor.redact(bytes, &mut out);
    let [kind, coding, cut, content @ ..] = bytes else { return };
    let kind = KINDS[usize::from(*kind) % KINDS.len()];
    let coding = CODINGS[usize::from(*coding) % CODINGS.len()];
    let field = |name: &'static str, value: &'static str| Field::new(name, value);
    let name = if kind == "application/grpc" { "grpc-encoding" } else { "content-encoding" };
    let head = RequestHead {
        method: "POST".into(),
        authority: "a.example".into(),
        target: "/".into(),
        upgrade: if kind == "websocket" { kind.into() } else { Default::default() },
        fields: vec![field("content-type", kind), field(name, coding)],
        ..RequestHead::default()
    };
    let answer = ResponseHead { status: if kind == "websocket" { 101 } else { 200 }, fields: Vec::new() };
    let heads = [What::Request(head), What::Response(answer)].map(|what| Event { at_ns: 0, what });
    let data = |content: &[u8]| Event { at_ns: 1, what: What::Data(Side::Request, content.to_vec().into()) };
    let request = Content { bytes: content.len() as u64, ..Content::default() };
    let mut entry = Entry { request, events: heads.to_vec(), ..Entry::default() };
    entry.events.push(data(content));
    let mut message = Vec::new();
    entry.encode(&mut message);
    out.clear();
    let report = redactor.redact(&message, &mut out);
    let redacted = Entry::decode(&out.clone().into()).expect("a message");
    assert!(report.withheld || report.recoded || redacted.body(Side::Request).len() == content.len());
    // The same in two parts.
    let (first, second) = content.split_at(content.len() * usize::from(*cut) / 256);
    let mut part = Part::default();
    for (index, content) in [first, second].into_iter().enumerate() {
        let events = [&heads[..], &[data(content)]].concat();
        message.clear();
        out.clear();
        Entry { token: 1, parts: index as u32, events, ..Entry::default() }.encode(&mut message);
        redactor.redact_part(&mut part, index == 1, &message, &mut out);
        Entry::decode(&out.clone().into()).expect("a message");
    }
});
