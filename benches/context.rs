//! The context alone: trace and business fields, read from what a request inside the mesh carries and written for the
//! next hop. It is done for every request, so each part here has to stay far below a microsecond.

use criterion::{Criterion, criterion_group, criterion_main};
use sidelight::context::{
    Field, Rng, TraceParent, baggage,
    fields::{Merged, merge},
    ids, tracestate,
};
use std::hint::black_box;

const TRACEPARENT: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACESTATE: &[u8] = b"vendor=t61rcWkgMzE,other@system=00f067aa0ba902b7";
/// What an OpenTelemetry SDK carries on: the five fields, and a member of somebody else.
const BAGGAGE: &[u8] =
    b"user.id=user-8f14e45f,account.id=account-c9f0f895,license=gold,request.type=STANDARD,\
    feature.flags=beta%2Ccheckout-v2,cart.size=3";
const PLAIN: [(Field, &[u8]); 5] = [
    (Field::UserId, b"user-8f14e45f"),
    (Field::AccountId, b"account-c9f0f895"),
    (Field::License, b"gold"),
    (Field::RequestType, b"STANDARD"),
    (Field::Flags, b"beta,checkout-v2"),
];
/// 2026-11-23, for the time in a request id.
const UNIX_MS: u64 = 1_795_392_000_000;

fn trace(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("trace");
    group.bench_function("parse traceparent", |bencher| {
        bencher.iter(|| TraceParent::parse(black_box(TRACEPARENT)));
    });
    let mut rng = Rng::new(1);
    let parent = TraceParent::root(&mut rng, [1; 8], true);
    group.bench_function("child span, write traceparent", |bencher| {
        bencher.iter(|| black_box(parent).child(ids::span_id(&mut rng)).to_bytes());
    });
    let mut out = Vec::with_capacity(512);
    group.bench_function("accept tracestate, 2 members", |bencher| {
        bencher.iter(|| {
            out.clear();
            tracestate::accept([black_box(TRACESTATE)], &mut out)
        });
    });
    group.bench_function("new request id", |bencher| {
        let mut id = [0; ids::REQUEST_ID_BYTES];
        bencher.iter(|| {
            ids::write_request_id(&mut id, black_box(UNIX_MS), &mut rng);
            id
        });
    });
    group.finish();
}

/// Reads all fields out of both carriers.
fn read<'a>(plain: &[(Field, &'a [u8])], found: &baggage::Found<'a>) -> [Merged<'a>; Field::COUNT] {
    Field::ALL.map(|field| {
        let value = plain.iter().find(|(of, _)| *of == field).map(|(_, value)| *value);
        merge(field, value, found.raw(field))
    })
}

fn business_fields(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fields");
    group.bench_function("classify 7 header names", |bencher| {
        let names: [&[u8]; 7] = [
            b"host",
            b"traceparent",
            b"x-user-id",
            b"x-account-id",
            b"x-license",
            b"x-request-type",
            b"x-feature-flags",
        ];
        bencher.iter(|| names.map(|name| Field::from_header(black_box(name))));
    });
    group.bench_function("merge, plain headers only", |bencher| {
        bencher.iter(|| read(black_box(&PLAIN), &baggage::Found::default()));
    });
    group.bench_function("find and merge, both carriers", |bencher| {
        bencher.iter(|| read(black_box(&PLAIN), &baggage::find([black_box(BAGGAGE)])));
    });
    let mut out = Vec::with_capacity(1024);
    group.bench_function("write baggage, 5 fields and one foreign member", |bencher| {
        bencher.iter(|| {
            out.clear();
            baggage::write([black_box(BAGGAGE)], PLAIN, &mut out)
        });
    });
    group.finish();
}

criterion_group!(benches, trace, business_fields);
criterion_main!(benches);
