//! The context alone: trace and business fields, read from what a request inside the mesh carries and written for the
//! next hop. It is done for every request, so each part here has to stay far below a microsecond.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use sidelight::context::{
    Field, Rng, TraceParent, baggage,
    fields::{Merged, merge},
    formats::{self, Format, FormatSet, Headers, Outgoing},
    ids, tracestate,
};
use sidelight::svc::Fields;
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

/// What a browser's request through a gateway has besides its trace: nothing here belongs to a trace format.
const USUAL: [(&str, &str); 14] = [
    ("host", "shop.example"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"),
    ("accept", "application/json"),
    ("accept-language", "en-GB,en;q=0.7"),
    ("accept-encoding", "gzip, deflate, br"),
    ("referer", "https://shop.example/cart"),
    ("cache-control", "no-cache"),
    ("sec-fetch-mode", "cors"),
    ("sec-fetch-site", "same-origin"),
    ("x-forwarded-for", "203.0.113.7"),
    ("x-forwarded-host", "shop.example"),
    ("x-forwarded-proto", "https"),
    ("x-request-id", "019ab3c2-79b0-7c4e-9f7a-0d2f5b8c6e11"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
];
const B3: [(&str, &str); 1] = [("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1")];
const DATADOG: [(&str, &str); 4] = [
    ("x-datadog-trace-id", "11803532876627986230"),
    ("x-datadog-parent-id", "67667974448284343"),
    ("x-datadog-sampling-priority", "1"),
    ("x-datadog-tags", "_dd.p.dm=-1,_dd.p.tid=4bf92f3577b34da6"),
];

fn section(more: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in USUAL.iter().chain(more) {
        fields.push(name.as_bytes(), value.as_bytes());
    }
    fields
}

fn foreign_formats(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("formats");
    let usual = section(&[]);
    group.bench_function("scan 14 fields, none of a trace format", |bencher| {
        bencher.iter(|| Headers::scan(black_box(&usual)).is_empty());
    });
    let mut scratch = Vec::with_capacity(512);
    for (name, format, headers) in [("b3", Format::B3, &B3[..]), ("datadog", Format::Datadog, &DATADOG)] {
        let came = section(headers);
        let mut next_hop = |fields: &mut Fields| {
            let headers = Headers::scan(fields);
            let extracted = formats::extract(&headers, fields, FormatSet::ALL, None);
            if let Some((found, foreign)) = extracted.found {
                let trace = foreign.child([7; 8], true);
                let outgoing = Outgoing { trace, parent_id: foreign.parent_id, is_debug: false };
                formats::write(found, &outgoing, &headers, fields, &mut scratch);
            }
            extracted
        };
        let mut once = came.clone();
        assert_eq!(next_hop(&mut once).found.map(|(found, _)| found), Some(format), "the header is read");
        group.bench_function(format!("scan, read and write {name} among 14 fields"), |bencher| {
            bencher.iter_batched_ref(
                || came.clone(),
                |fields| next_hop(black_box(fields)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, trace, business_fields, foreign_formats);
criterion_main!(benches);
