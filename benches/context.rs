//! The context alone: trace and business fields, read from what a request inside the mesh carries and written for the
//! next hop. It is done for every request, so each part here has to stay far below a microsecond: the trace of a usual
//! hop within 300 ns, and with at most one allocation. The latter is counted before anything is measured.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use sidelight::context::{
    Field, Rng, TraceParent, baggage,
    fields::{Merged, merge},
    formats::{self, Format, FormatSet, Headers, Outgoing},
    ids,
    traceparent::Received,
    tracestate,
};
use sidelight::svc::{Fields, Known};
use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

/// The proxy's allocator, counted.
struct Counted(mimalloc::MiMalloc);

#[global_allocator]
static ALLOCATOR: Counted = Counted(mimalloc::MiMalloc);

/// How often memory was asked for, growing included.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes on, as it came, to an allocator that keeps the contract.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { self.0.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { self.0.realloc(pointer, layout, bytes) }
    }
}

/// Repeats `hop` on sections like `came`.
///
/// # Panics
/// When one of them allocates more than once.
fn allocates_at_most_once(name: &str, came: &Fields, mut hop: impl FnMut(&mut Fields)) {
    const HOPS: u64 = 1000;
    let mut most = 0;
    let mut sum = 0;
    for at in 0..HOPS + 10 {
        let mut fields = came.clone();
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        hop(&mut fields);
        let made = ALLOCATIONS.load(Ordering::Relaxed) - before;
        if at >= 10 {
            // The first ones grow the buffers that are kept.
            (most, sum) = (most.max(made), sum + made);
        }
    }
    assert!(most <= 1, "{name}: {most} allocations in one hop");
    println!("{name}: {sum} allocations in {HOPS} hops");
}

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

/// What OpenTelemetry, Datadog and a vendor of one's own put there.
const THREE_MEMBERS: &str = "dd=s:2;o:rum;t.dm:-4,vendor=t61rcWkgMzE,other@system=00f067aa0ba902b7";
const FIELDS: [(Field, Known); 5] = [
    (Field::UserId, Known::XUserId),
    (Field::AccountId, Known::XAccountId),
    (Field::License, Known::XLicense),
    (Field::RequestType, Known::XRequestType),
    (Field::Flags, Known::XFeatureFlags),
];

/// The trace of one hop, as the proxy does it: both headers judged, the parent replaced by our span, both written.
fn next_trace(fields: &mut Fields, rng: &mut Rng, scratch: &mut Vec<u8>) -> TraceParent {
    let count = if fields.is_repeated(Known::Traceparent) { 2 } else { 1 };
    let span_id = ids::span_id(rng);
    let Received::Valid(parent) = Received::from_headers(fields.get(Known::Traceparent), count) else {
        return TraceParent::root(rng, span_id, true);
    };
    scratch.clear();
    let outcome = tracestate::accept(fields.all(Known::Tracestate), scratch);
    if !matches!(outcome, tracestate::Outcome::Accepted { .. }) {
        fields.remove(Known::Tracestate);
    } else if fields.is_repeated(Known::Tracestate) || fields.get(Known::Tracestate) != Some(scratch) {
        fields.set(Known::Tracestate, scratch);
    }
    let ours = parent.child(span_id);
    fields.overwrite(Known::Traceparent, &ours.to_bytes());
    ours
}

/// The business fields of one hop, from baggage into both carriers. `text` has their values afterwards, as an event needs.
fn next_fields(fields: &mut Fields, text: &mut Vec<u8>, scratch: &mut Vec<u8>, decoded: &mut Vec<u8>) {
    text.clear();
    scratch.clear();
    let found = baggage::find(fields.all(Known::Baggage));
    let values = FIELDS.map(|(field, known)| {
        let in_baggage = found.raw(field).map(|raw| baggage::decode(raw, decoded));
        let merged = merge(field, fields.get(known), in_baggage);
        let start = text.len();
        text.extend_from_slice(merged.value.map_or(&[][..], |(value, _)| value));
        start..text.len()
    });
    let ours = FIELDS.iter().zip(&values).map(|((field, _), at)| (*field, &text[at.clone()]));
    baggage::write(fields.all(Known::Baggage), ours, scratch);
    fields.set(Known::Baggage, scratch);
    for ((_, known), at) in FIELDS.iter().zip(values) {
        fields.set(*known, &text[at]);
    }
}

fn hop(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hop");
    let mut rng = Rng::new(1);
    let (mut scratch, mut text, mut decoded) = <(Vec<u8>, Vec<u8>, Vec<u8>)>::default();

    let came = section(&[("tracestate", THREE_MEMBERS)]);
    let name = "trace: traceparent and 3 members of tracestate";
    allocates_at_most_once(name, &came, |fields| {
        let ours = next_trace(fields, &mut rng, &mut scratch);
        assert_eq!(ours.trace_id, 0x4bf92f3577b34da6a3ce929d0e0e4736_u128.to_be_bytes());
        assert_eq!(fields.get(Known::Tracestate), Some(THREE_MEMBERS.as_bytes()));
    });
    let mut fields = came.clone();
    group.bench_function(name, |bencher| {
        bencher.iter(|| next_trace(black_box(&mut fields), &mut rng, &mut scratch));
    });

    let with_baggage =
        [("tracestate", THREE_MEMBERS), ("baggage", std::str::from_utf8(BAGGAGE).unwrap_or_default())];
    let came = section(&with_baggage);
    let name = "trace, and 6 members of baggage into both carriers";
    let mut both = |fields: &mut Fields| {
        let trace = next_trace(fields, &mut rng, &mut scratch);
        next_fields(fields, &mut text, &mut scratch, &mut decoded);
        trace
    };
    allocates_at_most_once(name, &came, |fields| {
        both(fields);
        assert_eq!(fields.get(Known::XFeatureFlags), Some(&b"beta,checkout-v2"[..]));
        assert_eq!(fields.get(Known::Baggage), Some(BAGGAGE));
    });
    group.bench_function(name, |bencher| {
        bencher.iter_batched_ref(|| came.clone(), |fields| both(black_box(fields)), BatchSize::SmallInput);
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

criterion_group!(benches, hop, trace, business_fields, foreign_formats);
criterion_main!(benches);
