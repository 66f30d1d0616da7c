//! What nobody sends by accident: each has one outcome, and an event that tells.

use e2e::wait_for;

use crate::world::{BOTH, Hop, Protocol, World, same, shared};
use crate::{SAMPLED, TRACE};

/// A request of usual size is still served, on a connection of its own.
fn is_well(world: &World) {
    for hop in world.hops(&[("traceparent", SAMPLED), ("x-account-id", "7")]) {
        assert_eq!((&*hop.parent().trace_id, &*hop.list("x-account-id")), (TRACE, "7"));
    }
}

/// The head is over `limits.request_head_bytes_max` of HTTP/1 (64 KiB) and `limits.http2.header_list_bytes_max` (32 KiB).
#[test]
fn a_hundred_kilobytes_of_baggage_are_refused_with_431_and_the_cause() {
    let world = World::with(|setup| setup);
    let list: Vec<_> = (0..1000).map(|at| format!("key{at:04}={}", "v".repeat(91))).collect();
    assert_eq!(list.join(",").len(), 100_000 - 1);
    for (at, protocol) in BOTH.into_iter().enumerate() {
        let hop = world.send(protocol, &[("baggage", list.join(","))]);
        assert_eq!(hop.status, 431, "{protocol:?}");
        let event = wait_for("its event", || {
            let events = world.proxy.events().exchanges();
            events.into_iter().filter(|event| event["http.response.status_code"] == 431).nth(at)
        });
        assert_eq!(event["sidelight.cause"], "request_head_too_large", "{protocol:?}: {event}");
    }
    is_well(&world);
}

#[test]
fn a_hundred_kilobytes_of_baggage_that_the_head_may_have_lose_whole_members() {
    let world = World::with(|setup| {
        setup.section(
            "limits",
            "request_head_bytes_max: 256KiB\nhttp2:\n  header_list_bytes_max: 256KiB\n  frame_bytes_max: 16KiB",
        )
    });
    let list: Vec<_> = (0..1000).map(|at| format!("key{at:04}={}", "v".repeat(91))).collect();
    for protocol in BOTH {
        let hop = world.pass(protocol, &[("baggage", list.join(",").as_str()), ("x-account-id", "7")]);
        same(&hop.list("baggage"), &format!("account.id=7,{}", list[..63].join(",")), protocol);
        assert_eq!(world.dropped(&hop), 1000 - 63, "{protocol:?}");
        let hop = world.pass(protocol, &[("baggage", list.join(","))]);
        same(&hop.list("baggage"), &list[..64].join(","), protocol);
        assert_eq!(world.dropped(&hop), 1000 - 64, "{protocol:?}");
        let one = world.pass(protocol, &[("baggage", format!("a=1,long={}", "v".repeat(100_000)))]);
        assert_eq!((one.list("baggage"), world.dropped(&one)), ("a=1".into(), 1), "{protocol:?}");
    }
}

/// The field is dropped from both carriers, the request is served, and the event counts.
#[track_caller]
fn loses(fields: &[(&str, &[u8])], name: &str) {
    let world = shared();
    for hop in world.hops(fields) {
        assert_eq!(hop.lines(name), [""; 0], "{:?}", hop.protocol);
        assert!(!hop.list("baggage").contains(".id="), "{:?}", hop.protocol);
        let event = world.event(&hop);
        assert!(event["account_id"].is_null() && event["user_id"].is_null(), "{event}");
        assert_eq!(world.dropped(&hop), 1, "{event}");
    }
}

#[test]
fn a_field_of_ten_kilobytes_is_dropped_and_counted() {
    let long = "x".repeat(10_000);
    loses(&[("x-account-id", long.as_bytes())], "x-account-id");
    loses(&[("x-user-id", long.as_bytes())], "x-user-id");
    loses(&[("baggage", format!("account.id={long}").as_bytes())], "x-account-id");
    loses(&[("x-feature-flags", long.as_bytes())], "x-feature-flags");
}

#[test]
fn a_request_id_of_ten_kilobytes_is_replaced_and_counted() {
    let world = shared();
    for hop in world.hops(&[("x-request-id", "x".repeat(10_000))]) {
        assert_eq!((hop.request_id.len(), world.dropped(&hop)), (36, 1), "{}", hop.request_id);
    }
}

#[test]
fn a_trace_of_ten_kilobytes_restarts_and_is_counted() {
    let world = shared();
    for value in [format!("{SAMPLED}-{}", "x".repeat(10_000)), "0".repeat(10_000), "-".repeat(10_000)] {
        for hop in world.hops(&[("traceparent", value.as_str())]) {
            assert_ne!(hop.parent().trace_id, TRACE);
            assert!(world.dropped(&hop) > 0);
        }
    }
    // A later version may have more: all of it goes, the trace stays.
    for hop in world.hops(&[("traceparent", format!("cc-{}-{}", &SAMPLED[3..], "x".repeat(10_000)))]) {
        assert_eq!(hop.parent().trace_id, TRACE);
    }
}

#[test]
fn a_tracestate_member_of_ten_kilobytes_takes_the_list_and_not_the_trace() {
    for hop in
        shared().hops(&[("traceparent", SAMPLED), ("tracestate", &format!("a=1,b={}", "x".repeat(10_000)))])
    {
        assert_eq!(hop.parent().trace_id, TRACE);
        assert_eq!(hop.lines("tracestate"), [""; 0]);
    }
}

#[test]
fn bytes_that_are_no_utf8_are_dropped_from_fields_and_counted() {
    for bytes in [&b"\xff"[..], b"a\xc3", b"\xed\xa0\x80", b"\xc0\xaf"] {
        loses(&[("x-account-id", bytes)], "x-account-id");
        loses(&[("x-user-id", bytes)], "x-user-id");
        loses(&[("baggage", &[b"account.id=", bytes].concat())], "x-account-id");
    }
}

#[test]
fn a_trace_with_bytes_that_are_no_utf8_restarts() {
    let world = shared();
    for at in [0, 3, 36, 54] {
        let mut value = SAMPLED.as_bytes().to_vec();
        value[at] = 0xff;
        let fields: [(&str, &[u8]); 2] = [("traceparent", &value), ("tracestate", b"foo=1")];
        for hop in world.hops(&fields) {
            assert_ne!(hop.parent().trace_id, TRACE, "byte {at}");
            assert_eq!((hop.lines("tracestate").len(), world.dropped(&hop) > 0), (0, true), "byte {at}");
        }
    }
    let fields: [(&str, &[u8]); 2] = [("traceparent", SAMPLED.as_bytes()), ("tracestate", b"foo=\xff")];
    for hop in world.hops(&fields) {
        assert_eq!((&*hop.parent().trace_id, hop.lines("tracestate").len()), (TRACE, 0));
    }
}

/// Of what is not ours every byte goes on, also where it is no UTF-8.
#[test]
fn bytes_that_are_no_utf8_in_members_of_others_go_on() {
    for hop in shared().hops(&[("baggage", b"theirs=\xff\xc3,account.id=7")]) {
        assert_eq!(hop.list("baggage"), "theirs=\u{ff}\u{c3},account.id=7", "{:?}", hop.protocol);
    }
}

/// NUL and line ends never come this far.
#[test]
fn control_characters_in_a_trace_are_refused() {
    let world = shared();
    for byte in [0, b'\n', b'\r'] {
        let value = [SAMPLED.as_bytes(), &[byte], b"x"].concat();
        for protocol in BOTH {
            let Hop { status, .. } = world.send(protocol, &[("traceparent", &value)]);
            let is_refused = match protocol {
                Protocol::Http1 => status == 400,
                Protocol::Http2 => status != 200, // an answer or a reset: RFC 9113 §8.1.1
            };
            assert!(is_refused, "{byte} over {protocol:?}: {status}");
        }
    }
}
