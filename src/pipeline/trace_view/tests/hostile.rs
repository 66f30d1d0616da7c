//! Traces that are no trees, and files that are no events.

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

fn ids(list: &[(&str, &str)]) -> Vec<Value> {
    let event = |(at, (span, parent)): (usize, &(&str, &str))| {
        exchange(
            "s",
            "inbound",
            (
                &format!("{span:0>16}"),
                &if parent.is_empty() { String::new() } else { format!("{parent:0>16}") },
            ),
            (at as u64, 1.0),
            json!({}),
        )
    };
    list.iter().enumerate().map(event).collect()
}

fn roots(trace: &Trace) -> Vec<Option<Root>> {
    trace.nodes.iter().map(|node| node.root).collect()
}

#[test]
fn parents_that_are_no_tree_make_roots_that_say_so() {
    let id = |last: u8| [0, 0, 0, 0, 0, 0, 0, last];
    let whole = trace(TRACE, files([&ids(&[("a", "a")])[..]]));
    assert_eq!(roots(&whole), [Some(Root::Itself)]);
    assert!(text(&whole, NARROW).contains("· names itself as its parent\n"));

    let whole = trace(TRACE, files([&ids(&[("d", "c"), ("a", "c"), ("b", "a"), ("c", "b")])[..]]));
    assert_eq!(outline(&whole), outlined(&[("a", 0), ("b", 1), ("c", 2), ("d", 3)]));
    assert_eq!(whole.nodes[0].root, Some(Root::Circle(id(0xc))));
    assert!(
        text(&whole, NARROW).contains("· parent 000000000000000c: the parents form a circle, cut here\n")
    );

    let whole = trace(TRACE, files([&ids(&[("a", "f"), ("b", "a"), ("c", "e")])[..]]));
    assert_eq!(roots(&whole), [Some(Root::NotInFiles(id(0xf))), None, Some(Root::NotInFiles(id(0xe)))]);

    // Two spans with one id: what hangs below it hangs below the first, and both are shown.
    let whole = trace(TRACE, files([&ids(&[("a", ""), ("a", ""), ("b", "a")])[..]]));
    assert_eq!(outline(&whole), outlined(&[("a", 0), ("b", 1), ("a", 0)]));
}

#[test]
fn a_chain_of_ten_thousand_spans_is_printed_in_bounded_space() {
    let event = |n: u32| {
        exchange(
            "s",
            "inbound",
            (&format!("{n:016x}"), &if n == 1 { String::new() } else { format!("{:016x}", n - 1) }),
            (n.into(), 1.0),
            json!({}),
        )
    };
    let events: Vec<Value> = (1..=10_000).rev().map(event).collect();
    let whole = trace(TRACE, files([&events[..]]));
    assert_eq!(whole.nodes.last().map(|node| node.depth), Some(9_999));
    let printed = text(&whole, WIDE);
    assert!(printed.contains("⋯9999 └ s SERVER"), "{}", printed.lines().last().unwrap());
    assert!(printed.lines().all(|line| line.chars().count() < 150));
    let document = document(&whole).to_string();
    let read: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(read["spans"].as_array().map(Vec::len), Some(10_000));
}

/// Events whose ids are few, so that every shape of a graph comes up.
fn event() -> impl Strategy<Value = Value> {
    let id = (0..12_u64).prop_map(|id| format!("{id:016x}"));
    let times = (0..40_u64, prop_oneof![-5.0..50.0, Just(1e300), Just(-0.0)]);
    let odd = prop_oneof![
        8 => Just(json!({})),
        1 => Just(json!({ "timestamp": "0000-01-01T00:00:00Z" })),
        1 => Just(json!({ "timestamp": "9999-12-31T23:59:60.999999+00:00" })),
        1 => Just(json!({ "sidelight.duration_ms": null, "request_id": "" })),
        1 => Just(json!({ "schema": "sidelight/span/1", "name": "", "kind": "?", "http.request.resend_count": u64::MAX })),
        1 => Just(json!({ "sidelight.links": [{ "span_id": "000000000000000a" }, []], "id": { "instance": "i", "epoch": 1, "sequence": 1 } })),
    ];
    let direction = prop_oneof![Just("inbound"), Just("outbound")];
    (id.clone(), prop_oneof![Just(String::new()), id], times, direction, odd).prop_map(
        |(span, parent, times, direction, more)| exchange("s", direction, (&span, &parent), times, more),
    )
}

proptest! {
    #[test]
    fn any_set_of_events_is_a_forest_of_all_of_them(events in proptest::collection::vec(event(), 1..40), columns in 0..200_usize) {
        let whole = trace(TRACE, files([&events[..]]));
        prop_assert_eq!(whole.spans.len() + whole.duplicates, events.len());
        let places: HashSet<usize> = whole.nodes.iter().map(|node| node.span).collect();
        prop_assert_eq!((places.len(), whole.nodes.len()), (whole.spans.len(), whole.spans.len()));
        for (before, node) in whole.nodes.iter().zip(whole.nodes.iter().skip(1)) {
            prop_assert!(node.depth <= before.depth + 1);
        }
        for node in &whole.nodes {
            prop_assert_eq!(node.root.is_some(), node.depth == 0);
        }
        let printed = text(&whole, Look { columns, is_color: columns % 2 == 0 });
        prop_assert!(printed.lines().count() >= whole.spans.len() + 4);
        prop_assert_eq!(document(&whole)["spans"].as_array().map(Vec::len), Some(whole.spans.len()));
        let (listing, _) = list(&Filter { account: None, errors: false, slower_than: None, limit: 1 }, &mut files([&events[..]])).unwrap();
        prop_assert_eq!(listing.traces[0].spans, events.len() as u64);
    }

    #[test]
    fn no_bytes_are_fatal(
        parts in proptest::collection::vec(prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            Just(b"\n".to_vec()),
            Just(format!("{{\"schema\":\"sidelight/exchange/1\",\"trace_id\":\"{TRACE}\"").into_bytes()),
            Just(b",\"span_id\":\"00000000000000a1\",\"timestamp\":\"2025-01-01T00:00:00Z\"}\n".to_vec()),
            Just(b",\"sidelight.links\":[[[[\"a\"]]]],\"flags\":[1]".to_vec()),
        ], 0..12),
        id in "[!-~]{1,40}|4bf92f[0-9a-f]{2,4}",
    ) {
        let bytes = parts.concat();
        let id = Id::parse(&id).unwrap();
        if let (Answer::Trace(trace), _) = find(&id, &mut sources([bytes.clone()])).unwrap() {
            text(&trace, WIDE);
        }
        find(&Id::parse(TRACE).unwrap(), &mut sources([bytes.clone()])).unwrap();
        list(&Filter { account: Some("a".into()), errors: true, slower_than: None, limit: 1 }, &mut sources([bytes])).unwrap();
    }
}
