//! The HTTP/1 codec alone: heads parsed and written, chunks decoded. Each figure is a part of every HTTP/1 request's
//! cost, which `benches/proxy` measures as a whole.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sidelight::{
    http1::{self, Content, HeadLimits, Persistence, chunked},
    svc::{Method, Scheme},
};
use std::hint::black_box;

/// Bounds wide enough that none of these heads meets one.
const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 64 * 1024, fields_max: 100, target_bytes_max: 8 * 1024 };
const CHUNKED_LIMITS: chunked::Limits =
    chunked::Limits { extension_bytes_max: 1024, trailer_bytes_max: 4096, trailers_max: 16 };

/// The request of the proxy benchmark: seven fields, five of them the context's.
const REQUEST: &[u8] = b"GET /1k HTTP/1.1\r\nHost: bench.example\r\n\
    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nx-user-id: user-8f14e45f\r\n\
    x-account-id: account-c9f0f895\r\nx-license: gold\r\nx-request-type: STANDARD\r\n\
    x-feature-flags: beta,checkout-v2\r\n\r\n";

/// nginx's answer to it.
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 23 Nov 2026 03:22:26 GMT\r\n\
    Content-Type: text/plain\r\nContent-Length: 1024\r\nLast-Modified: Mon, 23 Nov 2026 03:22:26 GMT\r\n\
    Connection: keep-alive\r\nETag: \"65b1a2c4-400\"\r\nAccept-Ranges: bytes\r\n\r\n";

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("http1");
    group.throughput(Throughput::Bytes(REQUEST.len() as u64));
    group.bench_function("parse request, 7 fields", |bencher| {
        bencher.iter(|| http1::parse_request(black_box(REQUEST), &LIMITS, Scheme::Http));
    });
    if let Ok(Some(request)) = http1::parse_request(REQUEST, &LIMITS, Scheme::Http) {
        let mut out = Vec::with_capacity(1024);
        group.bench_function("write request, 7 fields", |bencher| {
            bencher.iter(|| {
                out.clear();
                http1::write_request(&mut out, black_box(&request.head), Content::Length(0));
            });
        });
    }
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    group.bench_function("parse response, 8 fields", |bencher| {
        bencher.iter(|| http1::parse_interim_or_final(black_box(RESPONSE), &LIMITS, Method::Get));
    });
    if let Ok(Some(response)) = http1::parse_interim_or_final(RESPONSE, &LIMITS, Method::Get) {
        let mut out = Vec::with_capacity(1024);
        group.bench_function("write response, 8 fields", |bencher| {
            bencher.iter(|| {
                out.clear();
                http1::write_response(
                    &mut out,
                    black_box(&response.head),
                    Content::Length(1024),
                    Persistence::Usual,
                    b"",
                );
            });
        });
    }
    group.finish();
}

/// A body of `count` chunks of `bytes` each.
fn chunks(count: usize, bytes: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..count {
        body.extend_from_slice(format!("{bytes:x}\r\n").as_bytes());
        body.resize(body.len() + bytes, b'c');
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    body
}

/// Decodes a whole body and returns its content's length.
fn decode(body: &[u8], decoder: &mut chunked::Decoder) -> usize {
    let mut content_bytes = 0;
    let mut rest = body;
    while let Ok(step) = decoder.step(rest) {
        match step {
            chunked::Step::Data { skip, len } => {
                content_bytes += len;
                rest = rest.get(skip + len..).unwrap_or_default();
            }
            chunked::Step::More(_) | chunked::Step::End(_) => break,
        }
    }
    content_bytes
}

fn bodies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunked");
    for (name, count, bytes) in [("64 KiB in 4 chunks", 4, 16 << 10), ("64 KiB in 1024 chunks", 1024, 64)] {
        let body = chunks(count, bytes);
        assert_eq!(
            decode(&body, &mut chunked::Decoder::new(CHUNKED_LIMITS)),
            count * bytes,
            "the whole body is there"
        );
        group.bench_function(name, |bencher| {
            let new = || chunked::Decoder::new(CHUNKED_LIMITS);
            bencher.iter_batched_ref(new, |decoder| decode(black_box(&body), decoder), BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, heads, bodies);
criterion_main!(benches);
