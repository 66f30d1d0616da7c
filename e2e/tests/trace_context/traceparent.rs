//! `traceparent`, Trace Context §3.2 and §4.3.

use crate::world::{Hop, Protocol, shared};
use crate::{PARENT, SAMPLED, TRACE};

/// Asserts that the trace of this header goes on below a span of ours, over both protocols.
#[track_caller]
fn continued(value: &str) {
    for hop in shared().hops(&[("traceparent", value)]) {
        is_continued(&hop, value);
    }
}

#[track_caller]
fn is_continued(hop: &Hop, value: &str) {
    let parent = hop.parent();
    assert_eq!(parent.trace_id, TRACE, "{value:?} over {:?}", hop.protocol);
    assert_ne!(parent.parent_id, PARENT, "{value:?} over {:?}", hop.protocol);
}

/// Asserts that each of these starts a new trace, that `tracestate` goes with the old one, and that the event tells.
#[track_caller]
fn restarted(values: &[String]) {
    for value in values {
        let world = shared();
        for hop in world.hops(&[("traceparent", value.as_str()), ("tracestate", "foo=1")]) {
            let parent = hop.parent();
            assert_ne!(parent.trace_id, TRACE, "{value:?} over {:?}", hop.protocol);
            assert_ne!(parent.parent_id, PARENT, "{value:?} over {:?}", hop.protocol);
            assert_eq!(hop.lines("tracestate"), [""; 0], "{value:?} over {:?}", hop.protocol);
            let event = world.event(&hop);
            assert_eq!(event["sidelight.parent.source"], "root", "{value:?}: {event}");
            assert_eq!(event["trace_id"], *parent.trace_id, "{value:?}: {event}");
            assert!(event["parent_id"].is_null() && world.dropped(&hop) > 0, "{value:?}: {event}");
        }
    }
}

#[test]
fn both_traceparent_and_tracestate_missing() {
    let world = shared();
    for hop in world.hops(&[("accept", "*/*")]) {
        assert_eq!(
            hop.parent().flags,
            "03",
            "a new trace is sampled, and its id is random throughout (§3.2.2.5)"
        );
        assert_eq!(world.dropped(&hop), 0, "nothing came, so nothing was dropped");
    }
}

#[test]
fn traceparent_included_tracestate_missing() {
    for hop in shared().hops(&[("traceparent", SAMPLED)]) {
        is_continued(&hop, SAMPLED);
        assert_eq!(hop.lines("tracestate"), [""; 0]);
    }
}

#[test]
fn traceparent_duplicated() {
    let world = shared();
    let other = SAMPLED.replacen('1', "2", 1);
    for second in [SAMPLED, &other, "nonsense", ""] {
        for (one, two) in [(SAMPLED, second), (second, SAMPLED)] {
            for hop in world.hops(&[("traceparent", one), ("traceparent", two), ("tracestate", "foo=1")]) {
                let parent = hop.parent();
                assert!(
                    !SAMPLED.contains(&parent.trace_id) && !other.contains(&parent.trace_id),
                    "{parent:?}"
                );
                assert_eq!(hop.lines("tracestate"), [""; 0], "{second:?}");
                assert!(world.dropped(&hop) > 0, "{second:?}");
            }
        }
    }
    restarted(&[format!("{SAMPLED},{SAMPLED}"), format!("{SAMPLED}, {other}")]);
}

#[test]
fn traceparent_header_name() {
    for name in ["trace-parent", "trace.parent", "x-traceparent", "traceparent2"] {
        for hop in shared().hops(&[(name, SAMPLED)]) {
            assert_ne!(hop.parent().trace_id, TRACE, "{name}");
            assert_eq!(hop.lines(name), [SAMPLED], "what is no trace goes on as it came");
        }
    }
}

#[test]
fn traceparent_header_name_valid_casing() {
    for name in ["TraceParent", "TrAcEpArEnT", "TRACEPARENT"] {
        is_continued(&shared().pass(Protocol::Http1, &[(name, SAMPLED)]), name);
    }
}

#[test]
fn traceparent_version_0x00() {
    restarted(&[
        format!("{SAMPLED}."),
        format!("{SAMPLED}-"),
        format!("{SAMPLED}-extra"),
        format!("{SAMPLED}-what-the-future-will-be-like"),
    ]);
}

#[test]
fn traceparent_version_0xcc() {
    for version in ["cc", "01", "fe"] {
        continued(&format!("{version}-{TRACE}-{PARENT}-01"));
        continued(&format!("{version}-{TRACE}-{PARENT}-01-"));
        continued(&format!("{version}-{TRACE}-{PARENT}-01-what-the-future-will-be-like"));
        restarted(&[
            format!("{version}-{TRACE}-{PARENT}-01.what-the-future-will-be-like"),
            format!("{version}-{TRACE}-{PARENT}-011"),
            format!("{version}-{TRACE}-{PARENT}-0"),
        ]);
    }
}

#[test]
fn traceparent_version_0xff() {
    restarted(&[format!("ff-{TRACE}-{PARENT}-01"), format!("ff-{TRACE}-{PARENT}-01-more")]);
}

#[test]
fn traceparent_version_illegal_characters() {
    restarted(&[".0", "0.", "CC", "0x"].map(|version| format!("{version}-{TRACE}-{PARENT}-01")));
}

#[test]
fn traceparent_version_too_long() {
    restarted(&["000", "0000"].map(|version| format!("{version}-{TRACE}-{PARENT}-01")));
}

#[test]
fn traceparent_version_too_short() {
    restarted(&["", "0"].map(|version| format!("{version}-{TRACE}-{PARENT}-01")));
}

#[test]
fn traceparent_trace_id_all_zero() {
    restarted(&["00", "cc"].map(|version| format!("{version}-{}-{PARENT}-01", "0".repeat(32))));
}

#[test]
fn traceparent_trace_id_illegal_characters() {
    let [first, last, capital] = [format!(".{}", &TRACE[1..]), format!("{}.", &TRACE[1..]), "A".repeat(32)];
    restarted(&[first, last, capital].map(|id| format!("00-{id}-{PARENT}-01")));
}

#[test]
fn traceparent_trace_id_too_long() {
    restarted(&[format!("00-{TRACE}3-{PARENT}-01"), format!("00-0{TRACE}-{PARENT}-01")]);
}

#[test]
fn traceparent_trace_id_too_short() {
    restarted(&[format!("00-{}-{PARENT}-01", &TRACE[1..]), format!("00-{}-{PARENT}-01", &TRACE[..16])]);
}

#[test]
fn traceparent_parent_id_all_zero() {
    restarted(&["00", "cc"].map(|version| format!("{version}-{TRACE}-{}-01", "0".repeat(16))));
}

#[test]
fn traceparent_parent_id_illegal_characters() {
    let [first, last, capital] = [format!(".{}", &PARENT[1..]), format!("{}.", &PARENT[1..]), "A".repeat(16)];
    restarted(&[first, last, capital].map(|id| format!("00-{TRACE}-{id}-01")));
}

#[test]
fn traceparent_parent_id_too_long() {
    restarted(&[format!("00-{TRACE}-{PARENT}7-01")]);
}

#[test]
fn traceparent_parent_id_too_short() {
    restarted(&[format!("00-{TRACE}-{}-01", &PARENT[1..])]);
}

#[test]
fn traceparent_trace_flags_illegal_characters() {
    restarted(&[".0", "0.", "0A", "xx"].map(|flags| format!("00-{TRACE}-{PARENT}-{flags}")));
}

#[test]
fn traceparent_trace_flags_too_long() {
    restarted(&[format!("00-{TRACE}-{PARENT}-001")]);
}

#[test]
fn traceparent_trace_flags_too_short() {
    restarted(&["1", ""].map(|flags| format!("00-{TRACE}-{PARENT}-{flags}")));
}

/// Only HTTP/1: a value with whitespace around it makes a request of HTTP/2 malformed (RFC 9113 §8.2.1).
#[test]
fn traceparent_ows_handling() {
    for (before, after) in [(" ", ""), ("\t", ""), ("", " "), ("", "\t"), ("\t ", " \t")] {
        let value = format!("{before}{SAMPLED}{after}");
        is_continued(&shared().pass(Protocol::Http1, &[("traceparent", &value)]), &value);
    }
}

/// Level 2, §3.2.2.5.2.
#[test]
fn propagates_random_flag() {
    for (version, flags) in [("00", "02"), ("00", "03"), ("cc", "02"), ("cc", "03")] {
        for hop in shared().hops(&[("traceparent", format!("{version}-{TRACE}-{PARENT}-{flags}"))]) {
            assert_eq!((&*hop.parent().trace_id, &*hop.parent().flags), (TRACE, flags), "{version} {flags}");
        }
    }
}

/// Level 2, §3.2.2.5.2: the flag is not set for an id of somebody else.
#[test]
fn the_random_flag_is_not_added_to_a_trace_that_goes_on() {
    for flags in ["00", "01"] {
        for hop in shared().hops(&[("traceparent", format!("00-{TRACE}-{PARENT}-{flags}"))]) {
            assert_eq!(hop.parent().flags, flags);
        }
    }
}

/// §3.2.2.5.1: bits and not a number, and the caller's decision stays.
#[test]
fn the_sampled_flag_is_a_bit_and_goes_on_as_it_came() {
    for (flags, sent) in [("00", "00"), ("01", "01"), ("05", "01"), ("fc", "00"), ("fd", "01"), ("ff", "03")]
    {
        for version in ["00", "cc"] {
            for hop in shared().hops(&[("traceparent", format!("{version}-{TRACE}-{PARENT}-{flags}"))]) {
                assert_eq!(hop.parent().flags, sent, "unknown flags are written as 0: {version} {flags}");
            }
        }
    }
}

/// §3.2.2: only lowercase.
#[test]
fn a_traceparent_in_upper_case_is_invalid() {
    let (trace, parent) = ("abcdefabcdefabcdefabcdefabcdefab", "abcdefabcdefabcd");
    for hop in shared().hops(&[("traceparent", format!("00-{trace}-{parent}-01"))]) {
        assert_eq!(hop.parent().trace_id, trace);
    }
    for hop in shared().hops(&[("traceparent", format!("00-{}-{parent}-01", trace.to_uppercase()))]) {
        assert_ne!(hop.parent().trace_id.to_lowercase(), trace);
    }
}

#[test]
fn separators_other_than_hyphens_are_invalid() {
    restarted(&[2, 35, 52].map(|at| {
        let mut value = SAMPLED.to_owned();
        value.replace_range(at..=at, "_");
        value
    }));
}

#[test]
fn an_empty_traceparent_is_invalid() {
    restarted(&[String::new()]);
}
