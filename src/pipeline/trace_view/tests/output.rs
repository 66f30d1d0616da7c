//! What is printed, to the letter.

use super::*;
use crate::context::TraceParent;
use crate::error::Kind as Cause;
use crate::exchange::{Direction, ParentSource, Record};
use crate::pipeline::Service;
use crate::pipeline::encode::Encoder;

#[test]
fn a_trace_over_three_services_is_one_tree() {
    let shop = shop();
    let trace = trace(TRACE, files(shop.iter().map(Vec::as_slice)));
    let want = "\
trace 4bf92f3577b34da6a3ce929d0e0e4736  12.345 ms  6 spans of 3 services  began 2025-01-01T00:00:00.000000Z
request r-1  account a1  user u1  license gold  type STANDARD  flags beta,x

        start     duration  span
    +0.000 ms    12.345 ms  storefront SERVER GET /orders/{id} 200
    +1.000 ms    10.500 ms  └ storefront CLIENT POST /checkout 200 → checkout 10.0.0.5:15006
    +1.500 ms     9.000 ms    └ checkout SERVER POST /checkout 200
    +2.500 ms     6.600 ms      └ checkout CLIENT POST /charge 200 → payments 10.0.0.8:8080 · 2 attempts
    +6.000 ms     3.000 ms        └ checkout CLIENT POST /charge – → 10.0.0.8:8080 · attempt 2
    +6.400 ms     2.000 ms          └ payments SERVER POST /charge 200
";
    assert_eq!(text(&trace, NARROW), want);
    let want = "
        start     duration                        span
    +0.000 ms    12.345 ms  ▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆  storefront SERVER GET /orders/{id} 200
    +1.000 ms    10.500 ms    ▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆   └ storefront CLIENT POST /checkout 200 → checkout 10.0.0.5:15006
    +1.500 ms     9.000 ms    ▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆       └ checkout SERVER POST /checkout 200
    +2.500 ms     6.600 ms      ▆▆▆▆▆▆▆▆▆▆▆           └ checkout CLIENT POST /charge 200 → payments 10.0.0.8:8080 · 2 attempts
    +6.000 ms     3.000 ms            ▆▆▆▆▆             └ checkout CLIENT POST /charge – → 10.0.0.8:8080 · attempt 2
    +6.400 ms     2.000 ms            ▆▆▆▆                └ payments SERVER POST /charge 200
";
    let wide = text(&trace, WIDE);
    assert_eq!(wide.split_once("\n").unwrap().1.split_once("\n").unwrap().1, want);
    let colored = text(&trace, Look { is_color: true, ..WIDE });
    assert!(
        colored.contains("\x1b[36mstorefront\x1b[0m SERVER GET /orders/{id} \x1b[32m200\x1b[0m"),
        "{colored}"
    );
    assert!(!wide.contains('\x1b'));
}

#[test]
fn what_went_wrong_and_what_is_unusual_is_on_the_line() {
    let spans = [
        exchange("shop", "inbound", ("a1", ""), (0, 20.0), json!({ "span_id": "00000000000000a1" })),
        exchange(
            "shop",
            "outbound",
            ("00000000000000a2", "00000000000000a1"),
            (1_000, 4.0),
            json!({
                "http.response.status_code": 503, "error.type": "overflow", "sidelight.cause": "overflow", "sidelight.cluster": "pay",
                "sidelight.detail": "requests of cluster pay: 1024", "sidelight.parent.source": "request_id", "request_id": "r-2",
            }),
        ),
        exchange(
            "shop",
            "outbound",
            ("00000000000000a3", "00000000000000a1"),
            (2_000, 1.0),
            json!({
                "http.response.status_code": 500, "error.type": "500", "sidelight.outcome": "cut", "sidelight.parent.source": "sole",
            }),
        ),
        exchange(
            "pay",
            "inbound",
            ("00000000000000b1", "00000000000000a2"),
            (500, 1.0),
            json!({
                "account_id": "a2", "user_id": null, "sidelight.context.dropped": 1, "http.response.status_code": 200,
                "rpc.response.status_code": "NOT_FOUND",
            }),
        ),
        exchange(
            "mail",
            "inbound",
            ("00000000000000d1", "00000000000000a3"),
            (4_000, 40_000.0),
            json!({
                "http.response.status_code": null, "sidelight.cause": "client_gone", "error.type": "client_gone",
            }),
        ),
        exchange(
            "late",
            "outbound",
            ("00000000000000e1", "00000000000000e0"),
            (30_000, 1.0),
            json!({ "sidelight.duration_ms": null }),
        ),
    ];
    let want = "\
trace 4bf92f3577b34da6a3ce929d0e0e4736  30.000 ms  6 spans of 4 services  began 2025-01-01T00:00:00.000000Z
request r-1  account a1  user u1  license gold  type STANDARD  flags beta,x

        start     duration                        span
    +0.000 ms    20.000 ms  ▆▆▆▆▆▆▆▆▆▆▆▆▆         shop SERVER GET /orders/42 200
    +1.000 ms     4.000 ms   ▆▆                   ├ shop CLIENT GET /orders/42 503 overflow → pay · requests of cluster pay: 1024 · parent by request_id · request r-2
    +0.500 ms     1.000 ms  ▆                     │ └ pay SERVER GET /orders/42 200 NOT_FOUND · began 0.500 ms before its parent: clocks differ · context fields dropped: 1 · account a2 · no user
    +2.000 ms     1.000 ms   ▆                    └ shop CLIENT GET /orders/42 500 cut · parent by sole
    +4.000 ms     40.000 s     ▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆›    └ mail SERVER GET /orders/42 client_gone · began 1.000 ms after its parent had ended
   +30.000 ms            –                     ▆  late CLIENT GET /orders/42 200 · parent 00000000000000e0 not in these files
";
    assert_eq!(text(&trace(TRACE, files([&spans[..]])), WIDE), want);
}

#[test]
fn candidates_for_a_parent_are_listed_apart_and_hang_nowhere() {
    let other = "0af7651916cd43dd8448eb211c80319c";
    let spans = [
        exchange("shop", "inbound", ("00000000000000a1", ""), (0, 5.0), json!({})),
        exchange(
            "shop",
            "outbound",
            ("00000000000000a2", ""),
            (1_000, 1.0),
            json!({
                "sidelight.parent.source": "lost",
                "sidelight.links": [
                    { "trace_id": TRACE, "span_id": "00000000000000a1" },
                    { "trace_id": other, "span_id": "00000000000000f1" },
                    format!("00-{other}-00000000000000f2-01"), 17, "nothing", {},
                ],
            }),
        ),
        exchange(
            "shop",
            "outbound",
            ("00000000000000f9", ""),
            (1_000, 1.0),
            json!({
                "trace_id": other, "sidelight.links": [{ "trace_id": TRACE, "span_id": "00000000000000a1" }],
            }),
        ),
    ];
    let want = format!("
    +0.000 ms     5.000 ms  shop SERVER GET /orders/42 200
    +1.000 ms     1.000 ms  shop CLIENT GET /orders/42 200 · its parent is not known

links: candidates for a parent by time alone, none of them taken for it
  shop CLIENT GET /orders/42 00000000000000a2 ← 00000000000000a1, 00000000000000f1 in trace {other}, 00000000000000f2 in trace {other}

spans of other traces that have one of this as a candidate for their parent
  shop CLIENT GET /orders/42 00000000000000f9 in trace {other}
");
    let trace = trace(TRACE, files([&spans[..]]));
    assert_eq!(text(&trace, NARROW).split_once("  span").unwrap().1, want);
    let document = document(&trace);
    assert_eq!(document["spans"][1]["links"].as_array().unwrap().len(), 3);
    assert_eq!(document["linked_from"][0]["trace_id"], other);
}

#[test]
fn the_document_has_the_tree_as_a_list_with_depths() {
    let shop = shop();
    let document = document(&trace(TRACE, files(shop.iter().map(Vec::as_slice))));
    assert_eq!(document["trace_id"], TRACE);
    assert_eq!(document["start"], "2025-01-01T00:00:00.000000Z");
    assert_eq!(
        (&document["duration_ms"], &document["services"]),
        (&json!(12.345), &json!(["storefront", "checkout", "payments"]))
    );
    let context = json!({
        "request_id": "r-1", "account_id": "a1", "user_id": "u1", "license": "gold", "request_type": "STANDARD", "flags": ["beta", "x"],
    });
    assert_eq!(document["context"], context);
    assert_eq!(
        document["spans"][3],
        json!({
            "depth": 3, "span_id": "00000000000000b2", "kind": "CLIENT", "start": "2025-01-01T00:00:00.002500Z", "offset_ms": 2.5,
            "parent_id": "00000000000000b1", "duration_ms": 6.6, "service": "checkout", "name": "POST /charge", "path": "/charge",
            "status": 200, "cluster": "payments", "endpoint": "10.0.0.8:8080", "attempts": 2, "context": context,
            "file": "b.ndjson", "line": 2,
        })
    );
    assert_eq!(
        (&document["spans"][0]["root"], &document["spans"][4]["resend_count"]),
        (&json!("begin"), &json!(1))
    );
    assert_eq!(document["spans"].as_array().unwrap().len(), 6);
    assert_eq!(document.get("duplicates"), None);
}

/// The view reads what the encoder writes.
#[test]
fn an_event_of_the_pipeline_is_a_span() {
    let mut record = Record::new();
    record.direction = Direction::Outbound;
    record.started_at = UNIX_EPOCH + Duration::from_micros(NEW_YEAR);
    record.duration = Duration::from_micros(12_345);
    record.trace =
        TraceParent { version: 0, trace_id: [0x4b; 16], parent_id: [1, 2, 3, 4, 5, 6, 7, 8], flags: 1 };
    record.parent_id = Some([0xaa; 8]);
    record.parent_source = ParentSource::Header;
    record.request_id = record.store(b"r-9");
    record.account_id = record.store(b"a9");
    record.flags = record.store(b"beta, x");
    record.method = record.store(b"BREW");
    record.path = record.store(b"/pot/1");
    record.pattern = Some("/pot".into());
    record.cluster = Some("pots".into());
    record.endpoint = Some("10.0.0.7:8080".into());
    record.attempts = 2;
    record.status = 503;
    record.cause = Some(Cause::Overflow);
    record.detail = "full".into();
    let mut line = Vec::new();
    let service = Service { name: "kitchen".into(), ..Service::default() };
    Encoder::new(&service, 1).exchange(1, &record, &mut line);
    let want = "\
trace 4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b  12.345 ms  1 span of 1 service  began 2025-01-01T00:00:00.000000Z
request r-9  account a9  type STANDARD  flags beta,x

        start     duration  span
    +0.000 ms    12.345 ms  kitchen CLIENT BREW /pot 503 overflow → pots 10.0.0.7:8080 · 2 attempts · full · parent aaaaaaaaaaaaaaaa not in these files
";
    assert_eq!(text(&trace("4b4b4b4b", sources([line])), NARROW), want);
}

#[test]
fn an_event_that_is_there_twice_is_one_span() {
    let id = |sequence: u64| json!({ "id": { "instance": "host", "epoch": 1, "sequence": sequence } });
    let one = exchange("shop", "inbound", ("00000000000000a1", ""), (0, 5.0), id(1));
    let two = exchange("shop", "outbound", ("00000000000000a2", "00000000000000a1"), (1, 1.0), id(2));
    let both = [one.clone(), two];
    let trace = trace(TRACE, files([&both[..], &[one]]));
    assert_eq!(outline(&trace), outlined(&[("a1", 0), ("a2", 1)]));
    assert!(text(&trace, NARROW).ends_with("\n1 event was there more than once, and counted once\n"));
    assert_eq!(document(&trace)["duplicates"], 1);
}

#[test]
fn texts_of_peers_do_not_reach_the_terminal_as_commands() {
    let hostile = "\u{1b}]0;owned\u{7}\u{202e}\n";
    let more = json!({
        "url.path": hostile, "service.name": hostile, "sidelight.cause": hostile, "sidelight.detail": hostile, "error.type": hostile,
        "request_id": hostile, "account_id": hostile, "sidelight.cluster": hostile, "sidelight.parent.source": hostile,
        "rpc.response.status_code": hostile, "sidelight.links": ["00000000000000aa"], "flags": [hostile],
    });
    let spans = [exchange("shop", "outbound", ("00000000000000a1", ""), (0, 5.0), more)];
    let printed = text(&trace(TRACE, files([&spans[..]])), WIDE);
    let is_shown = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
    assert!(printed.chars().all(is_shown) && printed.lines().count() == 8, "{printed}");
    assert!(printed.contains("\\u{1b}]0;owned"));
    let (listing, _) =
        list(&Filter { account: None, errors: false, slower_than: None, limit: 9 }, &mut files([&spans[..]]))
            .unwrap();
    assert!(Summary::table(&listing.traces, WIDE).chars().all(is_shown));
}
