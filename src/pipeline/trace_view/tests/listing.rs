//! Which traces there are.

use super::super::listing::list_within;
use super::*;

const ALL: Filter = Filter { account: None, errors: false, slower_than: None, limit: 20 };

/// Three traces: the second of another account and slow, the third failed.
fn three() -> Vec<Value> {
    let of = |digit: &str| json!({ "trace_id": digit.repeat(32) });
    let mut slow = of("2");
    put(&mut slow, json!({ "account_id": "a2", "url.path": "/slow" }));
    let mut failed = of("3");
    put(
        &mut failed,
        json!({ "http.response.status_code": 503, "error.type": "overflow", "sidelight.cause": "overflow" }),
    );
    vec![
        exchange("shop", "outbound", ("00000000000000a2", "00000000000000a1"), (10, 2.0), of("1")),
        exchange("shop", "inbound", ("00000000000000a1", ""), (20, 3.0), of("1")),
        exchange("pay", "inbound", ("00000000000000a3", "00000000000000a2"), (30, 1.0), of("1")),
        exchange("shop", "inbound", ("00000000000000b1", ""), (1_000, 1_500.0), slow),
        exchange("shop", "inbound", ("00000000000000c1", ""), (2_000, 0.5), failed),
    ]
}

fn listed(filter: &Filter) -> Vec<String> {
    let (listing, _) = list(filter, &mut files([&three()[..]])).unwrap();
    assert_eq!(listing.total, 3);
    listing.traces.iter().map(|summary| format!("{:x}", summary.trace_id[0] & 15)).collect()
}

#[test]
fn traces_are_a_table_with_the_newest_first() {
    let (listing, reading) = list(&ALL, &mut files([&three()[..]])).unwrap();
    let want = "\
start                        longest     spans  services  errors  trace                             account  root
2025-01-01T00:00:00.002000Z    0.500 ms  1      1         1       33333333333333333333333333333333  a1       shop GET /orders/42 503 overflow
2025-01-01T00:00:00.001000Z     1.500 s  1      1         0       22222222222222222222222222222222  a2       shop GET /slow 200
2025-01-01T00:00:00.000010Z    3.000 ms  3      2         0       11111111111111111111111111111111  a1       shop GET /orders/42 200
";
    assert_eq!(Summary::table(&listing.traces, NARROW), want);
    assert_eq!((listing.wanted, listing.total, listing.forgotten, reading.faults_total), (3, 3, 0, 0));
    let first = json!({
        "trace_id": "3".repeat(32), "start": "2025-01-01T00:00:00.002000Z", "duration_ms": 0.5, "spans": 1, "services": 1,
        "errors": 1, "service": "shop", "name": "GET /orders/42", "status": 503, "cause": "overflow", "account_id": "a1",
    });
    assert_eq!(listing.traces[0].document(), first);
}

#[test]
fn filters_leave_what_is_wanted() {
    assert_eq!(listed(&ALL), ["3", "2", "1"]);
    assert_eq!(listed(&Filter { limit: 2, ..ALL }), ["3", "2"]);
    assert_eq!(listed(&Filter { account: Some("a2".into()), ..ALL }), ["2"]);
    assert_eq!(listed(&Filter { account: Some("a".into()), ..ALL }), [""; 0]);
    assert_eq!(listed(&Filter { errors: true, ..ALL }), ["3"]);
    assert_eq!(listed(&Filter { slower_than: Some(Duration::from_secs(1)), ..ALL }), ["2"]);
    assert_eq!(listed(&Filter { slower_than: Some(Duration::from_millis(2)), ..ALL }), ["2", "1"]);
    assert_eq!(listed(&Filter { errors: true, account: Some("a2".into()), ..ALL }), [""; 0]);
}

#[test]
fn of_too_many_traces_the_oldest_are_forgotten_and_counted() {
    let event = |n: u64| {
        exchange(
            "shop",
            "inbound",
            ("00000000000000a1", ""),
            (n, 1.0),
            json!({ "trace_id": format!("{n:032x}") }),
        )
    };
    let mut events: Vec<Value> = (1..=95).map(event).collect();
    events.push(event(3)); // of a trace that is forgotten by now
    let filter = Filter { limit: 100, ..ALL };
    let (listing, _) = list_within(10, &filter, &mut files([&events[..]])).unwrap();
    let kept: Vec<u8> = listing.traces.iter().map(|summary| summary.trace_id[15]).collect();
    assert_eq!(kept, (86..=95).rev().collect::<Vec<u8>>());
    assert_eq!((listing.total, listing.forgotten), (10, 86));
}

#[test]
fn bad_lines_are_named_here_too() {
    let good = three().remove(0);
    let (listing, reading) = list(&ALL, &mut sources([format!("{good}\n{{\n")])).unwrap();
    assert_eq!(
        (listing.total, reading.complaint().as_str()),
        (1, "a.ndjson:2: cut: it does not end with }\n")
    );
}
