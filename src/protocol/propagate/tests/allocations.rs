//! What the layer costs of the allocator, once a worker is warm.

use super::trust::{KEYS, PSEUDONYMS, TRACE, file, pass, sign};
use super::*;
use crate::context::config::{Config, Pseudonyms, Unsigned};
use crate::context::extra;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is the system's; counting touches a number of the thread, which needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HTTP: [(&str, &str); 6] = [
    ("host", "shop.example"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"),
    ("accept", "application/json"),
    ("accept-encoding", "gzip, deflate, br"),
    ("x-forwarded-for", "203.0.113.7"),
    ("content-type", "application/json"),
];
const FULL: [(&str, &str); 9] = [
    ("x-request-id", "019ab3c2-79b0-7c4e-9f7a-0d2f5b8c6e11"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("tracestate", "vendor=t61rcWkgMzE"),
    ("x-user-id", "user-8f14e45f"),
    ("x-account-id", "account-c9f0f895"),
    ("x-license", "gold"),
    ("x-request-type", "STANDARD"),
    ("x-feature-flags", "beta,checkout-v2"),
    (
        "baggage",
        "user.id=user-8f14e45f,account.id=account-c9f0f895,license=gold,request.type=STANDARD,\
         feature.flags=beta%2Ccheckout-v2,cart.size=3",
    ),
];

/// Allocations of the last of many requests, with `inbound` under way. Storage of fields and records is warm, as in a worker.
fn count(layer: &Propagate, direction: Direction, list: &[(&str, &str)], inbound: &[(&str, &str)]) -> usize {
    let carry = |fields: &mut Fields, record: &mut Record, direction, list: &[(&str, &str)]| {
        for (name, value) in HTTP.iter().chain(list) {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        record.reset();
        record.direction = direction;
        record.started = tokio::time::Instant::now();
        record.started_at = std::time::SystemTime::now();
        let before = COUNT.get();
        layer.state.borrow_mut().carry(fields, record, true).unwrap();
        COUNT.get() - before
    };
    let (mut counts, mut record, mut served) = (0, Record::new(), Record::new());
    for _ in 0..100 {
        if direction == Direction::Outbound {
            carry(&mut Fields::new(), &mut served, Direction::Inbound, inbound);
        }
        counts = carry(&mut Fields::new(), &mut record, direction, list);
        for record in [&mut record, &mut served] {
            (record.phase, record.attempts) = (crate::exchange::Phase::Done, 1);
            record.end(tokio::time::Instant::now());
        }
    }
    counts
}

#[test]
fn the_usual_request_costs_no_allocation() {
    let layer = configured(&Config::default());
    let own = &FULL[1..2];
    for (what, direction, list) in [
        ("everything", Direction::Inbound, &FULL[..]),
        ("only the trace and the id", Direction::Inbound, &FULL[..2]),
        ("only plain headers", Direction::Inbound, &FULL[..8]),
        ("nothing", Direction::Inbound, &[]),
        ("everything", Direction::Outbound, &FULL),
        ("nothing, and the exchange that it serves is known", Direction::Outbound, &[]),
        ("only the request id", Direction::Outbound, &FULL[..1]),
        ("only the trace, which is known", Direction::Outbound, own),
    ] {
        assert_eq!(count(&layer, direction, list, &FULL), 0, "{direction:?}: {what}");
        assert_eq!(count(&layer, direction, list, &FULL[..5]), 0, "{direction:?}, some fields: {what}");
    }
}

/// What is configured beyond that costs a few: the rare part of the record, and what is noted in it.
#[test]
fn what_is_configured_costs_a_bounded_number() {
    let mut further = Config::default();
    further.fields.insert("tenant".into(), extra::Config::default());
    let keys = file("allocations-pseudonyms", PSEUDONYMS);
    let pseudonyms = Some(Pseudonyms { keys, fields: vec!["user_id".into()] });
    let pseudonyms = Config { pseudonyms, ..Config::default() };
    let signs = Config { sign: sign(KEYS, "allocations", Unsigned::Drop), ..Config::default() };
    let mut edge = signs.clone();
    edge.edge.set.insert("license".into(), "gold".into());
    let signed = pass(&configured(&edge), Direction::Inbound, &[("traceparent", TRACE)], false).list();
    let signed: Vec<_> = signed.iter().map(|(name, value)| (&**name, &**value)).collect();
    let tenant: Vec<_> = FULL.into_iter().chain([("x-tenant", "t-1")]).collect();
    for (what, context, list, want) in [
        ("a further field that is configured and does not come", &further, &FULL[..], 0),
        ("a further field: the notes, and a list in them", &further, &tenant, 2),
        ("a pseudonym", &pseudonyms, &FULL, 0),
        ("a signature that is verified: the notes, the key's id and the issuer", &signs, &signed, 3),
    ] {
        for direction in [Direction::Inbound, Direction::Outbound] {
            assert_eq!(count(&configured(context), direction, list, list), want, "{direction:?}: {what}");
        }
    }
    let layer = configured(&signs);
    assert_eq!(
        count(&layer, Direction::Inbound, &FULL[..2], &[]),
        1,
        "what claims nothing is signed: the notes"
    );
}
