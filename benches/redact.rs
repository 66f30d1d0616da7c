//! What redaction costs the recorder's thread: nanoseconds for an exchange with 10 fields each way and 1 KiB of JSON. The
//! bound is 300 ns where there is nothing to replace. `cargo bench --bench redact`.

use bytes::Bytes;
use sidelight::record::redact::{Config, Redactor};
use sidelight::record::{Content, Entry, Event, Field, RequestHead, ResponseHead, Side, What};
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: usize = 200_000;

fn fields(list: &[(&'static str, &'static str)]) -> Vec<Field> {
    list.iter().map(|(name, value)| Field::new(*name, *value)).collect()
}

fn body() -> String {
    let mut body = String::from(r#"{"items":["#);
    while body.len() < 940 {
        body.push_str(
            r#"{"sku":"A-1031","name":"a thing to buy","quantity":2,"price":12.50,"in_stock":true},"#,
        );
    }
    body.pop();
    body.push_str(r#"],"order_id":"550e8400-e29b-41d4-a716-446655440000"}"#);
    body
}

fn entry(more: &[(&'static str, &'static str)], body: &str) -> Vec<u8> {
    let mut request = fields(&[
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, br"),
        ("accept-language", "en-US,en;q=0.9"),
        ("content-type", "application/json"),
        ("content-length", "1024"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("x-request-id", "550e8400-e29b-41d4-a716-446655440000"),
    ]);
    request.extend(match more {
        [] => fields(&[("x-forwarded-for", "10.1.2.3"), ("origin", "https://shop.example")]),
        more => fields(more),
    });
    let answer = fields(&[
        ("content-type", "application/json"),
        ("content-length", "2"),
        ("date", "Mon, 23 Nov 2026 10:00:00 GMT"),
        ("server", "shop/3.1"),
        ("cache-control", "no-store"),
        ("vary", "accept-encoding"),
        ("x-request-id", "550e8400-e29b-41d4-a716-446655440000"),
        ("etag", "\"33a64df551425fcc55e4d42a148795d9f25f89d4\""),
        ("strict-transport-security", "max-age=31536000"),
        ("x-content-type-options", "nosniff"),
    ]);
    let head = RequestHead {
        method: "POST".into(),
        scheme: "https".into(),
        authority: "shop.example".into(),
        target: "/api/orders?page=2&sort=asc".into(),
        upgrade: Bytes::new(),
        fields: request,
    };
    let events = [
        What::Request(head),
        What::Data(Side::Request, Bytes::copy_from_slice(body.as_bytes())),
        What::End(Side::Request),
        What::Response(ResponseHead { status: 200, fields: answer }),
        What::Data(Side::Response, Bytes::from_static(b"{}")),
        What::End(Side::Response),
    ];
    let events =
        events.into_iter().enumerate().map(|(at, what)| Event { at_ns: at as u64 * 1000, what }).collect();
    let entry = Entry {
        connection: 3,
        stream: 1,
        started_ns: 1_795_392_000_123_456_789,
        duration_ns: 1_000_000,
        request: Content { bytes: 1024, hash: 77, is_truncated: false },
        response: Content { bytes: 2, hash: 78, is_truncated: false },
        route: "orders".into(),
        cluster: "shop".into(),
        account_id: "acme".into(),
        trace_id: [7; 16],
        span_id: [8; 8],
        events,
        ..Entry::default()
    };
    let mut message = Vec::new();
    entry.encode(&mut message);
    message
}

fn main() {
    let plain = body();
    let secret = plain.replacen("\"sku\":\"A-1031\"", "\"token\":\"A1031x\"", 1);
    for (name, message) in [
        ("nothing to replace", entry(&[], &plain)),
        (
            "authorization and a cookie",
            entry(
                &[
                    ("authorization", "Bearer 0123456789abcdefABCDEF"),
                    ("cookie", "sid=0123456789abcdefABCDEF"),
                ],
                &plain,
            ),
        ),
        ("a member", entry(&[], &secret)),
    ] {
        let Ok(mut redactor) = Redactor::new(&Config::default(), [7; 32]) else { return };
        let mut out = Vec::with_capacity(2 * message.len());
        let mut best = f64::MAX;
        for _ in 0..10 {
            let start = Instant::now();
            for _ in 0..ROUNDS / 10 {
                out.clear();
                black_box(redactor.redact(black_box(&message), &mut out));
            }
            best = best.min(start.elapsed().as_nanos() as f64 / (ROUNDS / 10) as f64);
        }
        println!("{name}: {} bytes, {best:.0} ns", message.len());
    }
}
