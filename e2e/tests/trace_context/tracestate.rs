//! `tracestate`, Trace Context §3.3 and §4.3: a valid list goes through byte for byte, another goes whole.

use crate::world::{Protocol, World, shared};
use crate::{PARENT, SAMPLED, TRACE};

/// What the app receives when these are the lines, over one protocol. The trace goes on in any case.
#[track_caller]
fn crossed(protocol: Protocol, lines: &[&str]) -> Option<String> {
    let fields: Vec<(&str, &str)> = [("traceparent", SAMPLED)]
        .into_iter()
        .chain(lines.iter().map(|line| ("tracestate", *line)))
        .collect();
    let hop = shared().pass(protocol, &fields);
    assert_eq!(hop.parent().trace_id, TRACE, "a list never takes its trace along: {lines:?}");
    let received = hop.lines("tracestate");
    assert!(received.len() < 2, "{lines:?} became {received:?}");
    received.first().map(|line| (*line).to_owned())
}

#[track_caller]
fn becomes(lines: &[&str], wanted: Option<&str>) {
    for protocol in crate::world::BOTH {
        assert_eq!(crossed(protocol, lines).as_deref(), wanted, "{lines:?} over {protocol:?}");
    }
}

/// Asserts that the app gets these bytes.
#[track_caller]
fn kept(list: &str) {
    becomes(&[list], Some(list));
}

/// Asserts that the app gets no list, neither when the bad member is the first nor when it is the last.
#[track_caller]
fn discarded(member: &str) {
    becomes(&[&format!("{member},before=1")], None);
    becomes(&[&format!("after=1,{member}")], None);
    becomes(&["after=1", member], None);
}

fn numbered(from: usize, to: usize) -> String {
    (from..=to).map(|at| format!("bar{at:02}={at:02}")).collect::<Vec<_>>().join(",")
}

#[test]
fn tracestate_included_traceparent_missing() {
    for state in ["foo=1", "foo=1,bar=2"] {
        for hop in shared().hops(&[("tracestate", state)]) {
            hop.parent();
            assert_eq!(hop.lines("tracestate"), [""; 0]);
        }
    }
}

#[test]
fn tracestate_included_traceparent_included() {
    kept("foo=1,bar=2");
    for flags in ["00", "02"] {
        let parent = format!("00-{TRACE}-{PARENT}-{flags}");
        for hop in shared().hops(&[("traceparent", parent.as_str()), ("tracestate", "foo=1,bar=2")]) {
            assert_eq!(hop.lines("tracestate"), ["foo=1,bar=2"], "{flags}");
        }
    }
}

#[test]
fn tracestate_header_name() {
    for name in ["trace-state", "trace.state"] {
        for hop in shared().hops(&[("traceparent", SAMPLED), (name, "foo=1")]) {
            assert_eq!(hop.lines("tracestate"), [""; 0], "{name}");
        }
    }
}

#[test]
fn tracestate_header_name_valid_casing() {
    for name in ["TraceState", "TrAcEsTaTe", "TRACESTATE"] {
        let hop = shared().pass(Protocol::Http1, &[("traceparent", SAMPLED), (name, "foo=1")]);
        assert_eq!(hop.lines("tracestate"), ["foo=1"], "{name}");
    }
}

#[test]
fn tracestate_empty_header() {
    becomes(&[""], None);
    becomes(&["", ""], None);
    becomes(&["foo=1", ""], Some("foo=1"));
    becomes(&["", "foo=1"], Some("foo=1"));
    becomes(&["foo=1", "", "bar=2"], Some("foo=1,bar=2"));
}

/// §3.3.1.2: empty members are allowed, and so they stay.
#[test]
fn tracestate_empty_members() {
    kept("foo=1,,bar=2,");
    kept(",foo=1");
    becomes(&[","], None);
}

#[test]
fn tracestate_multiple_headers_different_keys() {
    becomes(&["foo=1,bar=2", "rojo=1,congo=2", "baz=3"], Some("foo=1,bar=2,rojo=1,congo=2,baz=3"));
}

/// §3.3.1.4: duplicates may be dropped; the left-most is the most recent one.
#[test]
fn tracestate_duplicated_keys() {
    becomes(&["foo=1,foo=1"], Some("foo=1"));
    becomes(&["foo=1,foo=2"], Some("foo=1"));
    becomes(&["foo=1", "foo=1"], Some("foo=1"));
    becomes(&["foo=1", "foo=2"], Some("foo=1"));
    becomes(&["foo=1,bar=2,foo=3,baz=4"], Some("foo=1,bar=2,baz=4"));
}

#[test]
fn tracestate_all_allowed_characters() {
    let key: String = ('a'..='z').chain('0'..='9').chain("_-*/".chars()).collect();
    let value: String = (' '..='~').filter(|char| !",=".contains(*char)).collect();
    kept(&format!("{key}={value}"));
    kept(&format!("{key}@a-z0-9_-*/={value}"));
    kept(&format!("0{key}={value}"));
}

/// Whitespace around the whole value only in HTTP/1: RFC 9113 §8.2.1 forbids it in HTTP/2.
#[test]
fn tracestate_ows_handling() {
    kept("foo=1 \t , \t bar=2, \t baz=3");
    kept("foo=1\t \t,\t \tbar=2,\t \tbaz=3");
    for value in [" foo=1", "\tfoo=1", "foo=1 ", "foo=1\t", "\t foo=1 \t"] {
        assert_eq!(crossed(Protocol::Http1, &[value]).as_deref(), Some("foo=1"), "{value:?}");
    }
}

#[test]
fn tracestate_key_illegal_characters() {
    for key in ["foo ", "FOO", "fOo", "foo.bar", "fo o", "fo\to", "foo:", "", "_foo", "-foo", "*foo", "/foo"]
    {
        discarded(&format!("{key}=1"));
    }
}

#[test]
fn tracestate_key_illegal_vendor_format() {
    for key in ["foo@", "foo@bar", "foo@@bar", "foo@bar@baz"] {
        kept(&format!("{key}=1,bar=2"));
    }
    discarded("@foo=1");
}

#[test]
fn tracestate_member_count_limit() {
    kept(&numbered(1, 32));
    let lines = [numbered(1, 10), numbered(11, 20), numbered(21, 30), numbered(31, 32)];
    becomes(&lines.each_ref().map(String::as_str), Some(&numbered(1, 32)));
    becomes(&[&numbered(1, 33)], None);
    let lines = [numbered(1, 10), numbered(11, 20), numbered(21, 30), numbered(31, 33)];
    becomes(&lines.each_ref().map(String::as_str), None);
}

#[test]
fn tracestate_key_length_limit() {
    let longest = "z".repeat(256);
    becomes(&["foo=1", &format!("{longest}=1")], Some(&format!("foo=1,{longest}=1")));
    discarded(&format!("{longest}z=1"));
    for key in [
        format!("{}@{}", "t".repeat(241), "v".repeat(14)),
        format!("{}@v", "t".repeat(242)),
        format!("t@{}", "v".repeat(15)),
    ] {
        becomes(&["foo=1", &format!("{key}=1")], Some(&format!("foo=1,{key}=1")));
    }
}

#[test]
fn tracestate_value_illegal_characters() {
    for value in ["bar=baz", "", "a\tb", "\u{e9}", "=", " "] {
        discarded(&format!("foo={value}"));
    }
    discarded("foo");
}

/// §3.3.1.3.2.
#[test]
fn tracestate_value_length_limit() {
    let longest = "v".repeat(256);
    kept(&format!("foo={longest},bar=1"));
    kept(&format!("foo={longest}  ,bar=1"));
    discarded(&format!("foo={longest}v"));
}

/// §3.3.1.5 asks for 512 bytes; the longest list of the grammar is no shorter here.
#[test]
fn tracestate_of_any_valid_length_goes_on_whole() {
    for bytes in [16, 128, 250] {
        let members: Vec<_> = (10..42).map(|at| format!("k{at}={}", "v".repeat(bytes))).collect();
        kept(&members.join(","));
    }
}

/// §3.3.1: the order is that of the systems on the way, and nobody's but theirs.
#[test]
fn foreign_members_stay_byte_for_byte_and_in_order() {
    kept("zeta=9~!x,alpha@dt=fw4;9;9bf5a8cc;0,42=:;<>?[]{}|,m/n*o=%20%2C,dd=s:2;o:rum;t.dm:-4");
}

/// §3.3.1.5: whole members go, those of more than 128 bytes first, then from the right.
#[test]
fn a_list_over_the_configured_limit_loses_whole_members_the_long_ones_first() {
    let world = World::with(|setup| setup.section("context", "tracestate_bytes_max: 512"));
    let long = format!("long={}", "v".repeat(130));
    let many: Vec<_> = (10..40).map(|at| format!("k{at}={}", "v".repeat(20))).collect();
    let list = format!("{},{long},{}", many[..15].join(","), many[15..].join(","));
    let wanted = many[..20].join(","); // the 21st would end at 524
    for hop in world.hops(&[("traceparent", SAMPLED), ("tracestate", list.as_str())]) {
        assert_eq!(hop.lines("tracestate"), [wanted.as_str()]);
        assert_eq!(world.dropped(&hop), 11);
    }
}

/// What does not reach the app is told in the event: a list counts as one, a member of a list that stays as one.
#[test]
fn what_is_dropped_is_counted() {
    let world = shared();
    let too_many = numbered(1, 33);
    for (state, dropped) in [
        ("foo=1,,bar=2 ", 0),
        ("", 0),
        ("FOO=1,bar=2", 1),
        (too_many.as_str(), 1),
        ("foo=1,foo=2,bar=3,foo=4", 2),
    ] {
        let hop = world.pass(Protocol::Http1, &[("traceparent", SAMPLED), ("tracestate", state)]);
        assert_eq!(world.dropped(&hop), dropped, "{state:?}");
    }
    for hop in world.hops(&[("tracestate", "foo=1")]) {
        assert_eq!(world.dropped(&hop), 1, "without a trace");
    }
}
