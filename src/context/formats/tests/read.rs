//! Reading, format by format.

use super::*;
use Reading::{Absent, Decision, Invalid};
use Sampling::{Accept, Debug, Defer, Deny};

#[track_caller]
fn single(format: Format, name: &str, cases: &[(&str, Reading)]) {
    for (value, want) in cases {
        assert_eq!(reading(format, &[(name, value)]), *want, "{name}: {value}");
    }
    // Whatever it says: twice is ambiguous, with whitespace around it is the same, and empty is not there.
    for (value, want) in cases.iter().filter(|(_, want)| *want != Absent) {
        assert_eq!(reading(format, &[(name, value), (name, value)]), Invalid);
        assert_eq!(reading(format, &[(name, &format!(" \t{value} "))]), *want);
    }
    assert_eq!(reading(format, &[]), Absent);
    assert_eq!(reading(format, &[(name, "")]), Absent);
    assert_eq!(reading(format, &[(name, " \t")]), Absent);
    assert_eq!(reading(format, &[(name, &"a".repeat(100_000))]), Invalid);
}

#[test]
fn b3_in_one_header() {
    let cases = [
        // The forms of the specification.
        (&*format!("{WIDE_HEX}-{SPAN_HEX}-1-{PARENT_HEX}"), valid(WIDE, Accept)),
        (&*format!("{WIDE_HEX}-{SPAN_HEX}-1"), valid(WIDE, Accept)),
        (&*format!("{WIDE_HEX}-{SPAN_HEX}-0"), valid(WIDE, Deny)),
        (&*format!("{WIDE_HEX}-{SPAN_HEX}-d"), valid(WIDE, Debug)),
        (&*format!("{WIDE_HEX}-{SPAN_HEX}"), valid(WIDE, Defer)),
        (&*format!("{SHORT_HEX}-{SPAN_HEX}-1"), valid(SHORT, Accept)),
        ("0", Decision(Deny)),
        ("1", Decision(Accept)),
        ("d", Decision(Debug)),
        // Brave's: a child that is not decided about.
        (&*format!("{WIDE_HEX}-{SPAN_HEX}-{PARENT_HEX}"), valid(WIDE, Defer)),
        // The parent is not used, zeros in it harm nobody.
        (&*format!("{WIDE_HEX}-{SPAN_HEX}-1-{}", &ZEROS[16..]), valid(WIDE, Accept)),
        (&*format!("{}-{SPAN_HEX}-1", WIDE_HEX.to_uppercase()), valid(WIDE, Accept)),
        // Neither ids nor a decision.
        ("2", Invalid),
        ("D", Invalid),
        ("-", Invalid),
        ("true", Invalid),
        (WIDE_HEX, Invalid),
        (&*format!("{WIDE_HEX}-"), Invalid),
        (&*format!("{WIDE_HEX}-1"), Invalid),
        (&*format!("-{SPAN_HEX}-1"), Invalid),
        (&*format!("{WIDE_HEX}-{SPAN_HEX}-"), Invalid),
        (&*format!("{WIDE_HEX}-{SPAN_HEX}-x"), Invalid),
        (&*format!("{WIDE_HEX}-{SPAN_HEX}-11"), Invalid),
        (&*format!("{WIDE_HEX}-{SPAN_HEX}-1-"), Invalid),
        (&*format!("{WIDE_HEX}-{SPAN_HEX}-1-{}", &PARENT_HEX[1..]), Invalid),
        (&*format!("{WIDE_HEX}-{SPAN_HEX}-1-{PARENT_HEX}-1"), Invalid),
        (&*format!("{WIDE_HEX}-{SPAN_HEX}-{PARENT_HEX}-1"), Invalid),
        // Lengths and alphabet.
        (&*format!("{}-{SPAN_HEX}-1", &WIDE_HEX[1..]), Invalid),
        (&*format!("0{WIDE_HEX}-{SPAN_HEX}-1"), Invalid),
        (&*format!("{}-{SPAN_HEX}-1", &SHORT_HEX[1..]), Invalid),
        (&*format!("{WIDE_HEX}-{}-1", &SPAN_HEX[1..]), Invalid),
        (&*format!("g{}-{SPAN_HEX}-1", &WIDE_HEX[1..]), Invalid),
        // Zeros are no ids.
        (&*format!("{ZEROS}-{SPAN_HEX}-1"), Invalid),
        (&*format!("{}-{SPAN_HEX}-1", &ZEROS[16..]), Invalid),
        (&*format!("{WIDE_HEX}-{}-1", &ZEROS[16..]), Invalid),
        // Two headers that somebody joined.
        (&*format!("{WIDE_HEX}-{SPAN_HEX}-1,{WIDE_HEX}-{SPAN_HEX}-1"), Invalid),
    ];
    single(Format::B3, "b3", &cases);
}

#[test]
fn b3_in_several_headers() {
    let read = |trace: &str, span: &str, parent: &str, sampled: &str, flags: &str| {
        let list = [
            ("X-B3-TraceId", trace),
            ("X-B3-SpanId", span),
            ("X-B3-ParentSpanId", parent),
            ("X-B3-Sampled", sampled),
            ("X-B3-Flags", flags),
        ];
        // An empty header is as good as none.
        let all = reading(Format::B3Multi, &list);
        let filled: Vec<_> = list.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        assert_eq!(reading(Format::B3Multi, &filled), all);
        for repeated in &filled {
            let twice: Vec<_> = filled.iter().chain([repeated]).copied().collect();
            assert_eq!(reading(Format::B3Multi, &twice), Invalid);
        }
        all
    };
    for (sampled, flags, want) in [
        ("1", "", Accept),
        ("0", "", Deny),
        ("true", "", Accept),
        ("False", "", Deny),
        ("", "", Defer),
        ("", "1", Debug),
        // Debug implies sampled, whatever the other header says.
        ("0", "1", Debug),
        ("nonsense", "1", Debug),
        ("1", "0", Accept),
        ("", "0", Defer),
        ("0", "true", Deny),
    ] {
        let without_ids = if want == Defer { Absent } else { Decision(want) };
        assert_eq!(read("", "", "", sampled, flags), without_ids);
        assert_eq!(read(WIDE_HEX, SPAN_HEX, "", sampled, flags), valid(WIDE, want));
        assert_eq!(read(SHORT_HEX, SPAN_HEX, PARENT_HEX, sampled, flags), valid(SHORT, want));
    }
    for (trace, span, parent, sampled) in [
        (WIDE_HEX, "", "", "1"),
        ("", SPAN_HEX, "", "1"),
        ("", "", PARENT_HEX, "1"),
        (ZEROS, SPAN_HEX, "", "1"),
        (WIDE_HEX, &ZEROS[16..], "", "1"),
        (WIDE_HEX, SPAN_HEX, "1", "1"),
        (WIDE_HEX, SPAN_HEX, "", "2"),
        (WIDE_HEX, SPAN_HEX, "", "d"),
        (&WIDE_HEX[1..], SPAN_HEX, "", "1"),
        (WIDE_HEX, &SPAN_HEX[1..], "", "1"),
        ("", "", "", "nonsense"),
    ] {
        assert_eq!(read(trace, span, parent, sampled, ""), Invalid, "{trace} {span} {parent} {sampled}");
    }
}

#[test]
fn xray() {
    let root = "Root=1-463ac35c-9f6413ad48485a3953bb6124";
    let cases = [
        (&*format!("{root};Parent={SPAN_HEX};Sampled=1"), valid(WIDE, Accept)),
        (&*format!("{root};Parent={SPAN_HEX};Sampled=0"), valid(WIDE, Deny)),
        (&*format!("{root};Parent={SPAN_HEX};Sampled=?"), valid(WIDE, Defer)),
        (&*format!("{root};Parent={SPAN_HEX}"), valid(WIDE, Defer)),
        // In any order, with room around, among keys of others.
        (&*format!("Sampled=1;Parent={SPAN_HEX};{root}"), valid(WIDE, Accept)),
        (&*format!("Self=1-2-3; {root}; Parent={SPAN_HEX} ;Sampled=1;"), valid(WIDE, Accept)),
        (&*format!("{root};Parent={SPAN_HEX};Sampled=1;Lineage=a:1|b:2"), valid(WIDE, Accept)),
        // What a load balancer sends.
        (root, valid_without_parent(WIDE, Defer)),
        (&*format!("{root};Parent=;Sampled=1"), valid_without_parent(WIDE, Accept)),
        ("Sampled=1", Decision(Accept)),
        ("Sampled=0;Root=", Decision(Deny)),
        ("Sampled=?", Absent),
        ("Self=1-2-3", Absent),
        // Keys are case-sensitive and whole.
        (&*format!("root=1-463ac35c-9f6413ad48485a3953bb6124;Parent={SPAN_HEX}"), Invalid),
        (&*format!("RootX=1;{root}"), valid_without_parent(WIDE, Defer)),
        // Bad ids, and keys that come twice.
        (&*format!("Parent={SPAN_HEX}"), Invalid),
        (&*format!("{root};Parent={}", &SPAN_HEX[1..]), Invalid),
        (&*format!("{root};Parent={}", &ZEROS[16..]), Invalid),
        (&*format!("{root};{root}"), Invalid),
        (&*format!("{root};Sampled=1;Sampled=1"), Invalid),
        ("Root=2-463ac35c-9f6413ad48485a3953bb6124", Invalid),
        ("Root=1-463ac35c-9f6413ad48485a3953bb612", Invalid),
        ("Root=1-463ac35c-9f6413ad48485a3953bb61240", Invalid),
        ("Root=1-463ac35c9-f6413ad48485a3953bb6124", Invalid),
        ("Root=1-463ac35x-9f6413ad48485a3953bb6124", Invalid),
        ("Root=1-00000000-000000000000000000000000", Invalid),
        ("Root=1", Invalid),
    ];
    let name = "X-Amzn-Trace-Id";
    single(Format::Xray, name, &cases);
    assert_eq!(reading(Format::Xray, &[(name, &format!("{root};k={}", "v".repeat(1024)))]), Invalid);
}

#[test]
fn cloud_trace() {
    let cases = [
        (&*format!("{WIDE_HEX}/{SPAN_DECIMAL};o=1"), valid(WIDE, Accept)),
        (&*format!("{WIDE_HEX}/{SPAN_DECIMAL};o=0"), valid(WIDE, Deny)),
        (&*format!("{WIDE_HEX}/{SPAN_DECIMAL};o=3"), valid(WIDE, Accept)),
        // App Engine's nine forms.
        (&*format!("{WIDE_HEX}/{SPAN_DECIMAL};o="), valid(WIDE, Defer)),
        (&*format!("{WIDE_HEX}/{SPAN_DECIMAL}"), valid(WIDE, Defer)),
        (&*format!("{WIDE_HEX}/;o=1"), valid_without_parent(WIDE, Accept)),
        (&*format!("{WIDE_HEX}/;o="), valid_without_parent(WIDE, Defer)),
        (&*format!("{WIDE_HEX}/"), valid_without_parent(WIDE, Defer)),
        (&*format!("{WIDE_HEX};o=1"), valid_without_parent(WIDE, Accept)),
        (&*format!("{WIDE_HEX};o="), valid_without_parent(WIDE, Defer)),
        (WIDE_HEX, valid_without_parent(WIDE, Defer)),
        // The root has no parent.
        (&*format!("{WIDE_HEX}/0;o=1"), valid_without_parent(WIDE, Accept)),
        (&*format!("{WIDE_HEX}/{SPAN_HEX};o=1"), Invalid),
        (&*format!("{WIDE_HEX}/18446744073709551616;o=1"), Invalid),
        (&*format!("{WIDE_HEX}/-1;o=1"), Invalid),
        (&*format!("{WIDE_HEX}/{SPAN_DECIMAL};o=x"), Invalid),
        (&*format!("{WIDE_HEX}/{SPAN_DECIMAL};p=1"), Invalid),
        (&*format!("{WIDE_HEX}/{SPAN_DECIMAL};"), Invalid),
        (&*format!("{WIDE_HEX}:{SPAN_DECIMAL}"), Invalid),
        (&*format!("{SHORT_HEX}/{SPAN_DECIMAL};o=1"), Invalid),
        (&*format!("{ZEROS}/{SPAN_DECIMAL};o=1"), Invalid),
    ];
    single(Format::CloudTrace, "X-Cloud-Trace-Context", &cases);
}

#[test]
fn jaeger() {
    let one = |flags: &str| format!("{WIDE_HEX}:{SPAN_HEX}:0:{flags}");
    let low = Reading::Valid(Foreign {
        trace_id: 0x1ab_u128.to_be_bytes(),
        parent_id: Some(0xc_u64.to_be_bytes()),
        sampling: Accept,
    });
    let cases = [
        (&*one("1"), valid(WIDE, Accept)),
        (&*one("01"), valid(WIDE, Accept)),
        (&*one("0"), valid(WIDE, Deny)),
        (&*one("3"), valid(WIDE, Debug)),
        (&*one("2"), valid(WIDE, Debug)),
        (&*one("9"), valid(WIDE, Accept)),
        (&*one("f8"), valid(WIDE, Deny)),
        (&*format!("{SHORT_HEX}:{SPAN_HEX}:{PARENT_HEX}:1"), valid(SHORT, Accept)),
        // Digits that are not there are zeros.
        ("1ab:c:0:1", low),
        ("000001ab:0000c::1", low),
        // As in a URL.
        ("1ab%3Ac%3a0:1", low),
        ("1ab%3ac%3A0%3A1", low),
        (&*one(""), Invalid),
        (&*one("g"), Invalid),
        (&*one("001"), Invalid),
        (&*one("1:"), Invalid),
        (&*one("1%3A"), Invalid),
        ("1ab:c:0", Invalid),
        ("1ab:c:0:1:1", Invalid),
        ("1ab%3Bc:0:1", Invalid),
        ("1ab%3", Invalid),
        ("1ab:c:x:1", Invalid),
        ("0:c:0:1", Invalid),
        ("1ab:0:0:1", Invalid),
        (":c:0:1", Invalid),
        (&*format!("0{WIDE_HEX}:{SPAN_HEX}:0:1"), Invalid),
        (&*format!("{WIDE_HEX}:0{SPAN_HEX}:0:1"), Invalid),
    ];
    single(Format::Jaeger, "Uber-Trace-Id", &cases);
}

#[test]
fn datadog() {
    let read = |trace: &str, parent: &str, priority: &str, tags: &str| {
        let list = [
            ("x-datadog-trace-id", trace),
            ("x-datadog-parent-id", parent),
            ("x-datadog-sampling-priority", priority),
            ("x-datadog-tags", tags),
            ("x-datadog-origin", "rum"),
        ];
        for name in ["x-datadog-trace-id", "x-datadog-sampling-priority", "x-datadog-tags"] {
            let twice: Vec<_> = list.into_iter().chain([(name, "1")]).collect();
            assert_eq!(reading(Format::Datadog, &twice), Invalid);
        }
        reading(Format::Datadog, &list)
    };
    for (priority, want) in [("-1", Deny), ("0", Deny), ("1", Accept), ("2", Accept), ("", Defer)] {
        assert_eq!(read(SHORT_DECIMAL, SPAN_DECIMAL, priority, ""), valid(SHORT, want), "{priority}");
        let without_ids = if want == Defer { Absent } else { Decision(want) };
        assert_eq!(read("", "", priority, ""), without_ids);
    }
    for (tags, want) in [
        ("_dd.p.tid=463ac35c9f6413ad", WIDE),
        ("_dd.p.dm=-4,_dd.p.tid=463ac35c9f6413ad,_dd.p.usr=x=y", WIDE),
        ("_dd.p.dm=-4", SHORT),
        ("_dd.p.tid=0000000000000000", SHORT),
        // As Datadog's tracers do, without the left half where it cannot be read.
        ("_dd.p.tid=463ac35c9f6413a", SHORT),
        ("_dd.p.tid=463ac35c9f6413ad0", SHORT),
        ("_dd.p.tid=463ac35c9f6413ax", SHORT),
        ("_dd.p.tid=463ac35c9f6413ad,_dd.p.tid=463ac35c9f6413ad", SHORT),
        (&*format!("_dd.p.tid=463ac35c9f6413ad,_dd.p.x={}", "x".repeat(512)), SHORT),
    ] {
        assert_eq!(read(SHORT_DECIMAL, SPAN_DECIMAL, "1", tags), valid(want, Accept), "{tags}");
    }
    // Without a parent: a browser, a synthetic test.
    for parent in ["", "0"] {
        assert_eq!(read(SHORT_DECIMAL, parent, "1", ""), valid_without_parent(SHORT, Accept));
    }
    for (trace, parent, priority) in [
        ("0", SPAN_DECIMAL, "1"),
        ("", SPAN_DECIMAL, "1"),
        (SHORT_HEX, SPAN_DECIMAL, "1"),
        ("18446744073709551616", SPAN_DECIMAL, "1"),
        ("000000000000000000001", SPAN_DECIMAL, "1"),
        (SHORT_DECIMAL, "-1", "1"),
        (SHORT_DECIMAL, SPAN_DECIMAL, "3"),
        (SHORT_DECIMAL, SPAN_DECIMAL, "1.0"),
    ] {
        assert_eq!(read(trace, parent, priority, ""), Invalid, "{trace} {parent} {priority}");
    }
    let origins = [("x-datadog-origin", "a"), ("x-datadog-origin", "b"), ("x-datadog-trace-id", "7")];
    assert!(
        matches!(reading(Format::Datadog, &origins), Reading::Valid(_)),
        "the origin is not ours to judge"
    );
    // The left half alone is no id, and an origin alone is nothing.
    assert_eq!(read("", "", "", "_dd.p.tid=463ac35c9f6413ad"), Absent);
}

#[test]
fn ot_tracer() {
    let read = |trace: &str, span: &str, sampled: &str| {
        let list = [("ot-tracer-traceid", trace), ("ot-tracer-spanid", span), ("Ot-Tracer-Sampled", sampled)];
        for (name, _) in list {
            let twice: Vec<_> = list.into_iter().chain([(name, "1")]).collect();
            assert_eq!(reading(Format::OtTracer, &twice), Invalid);
        }
        reading(Format::OtTracer, &list)
    };
    for (sampled, want) in [("true", Accept), ("FALSE", Deny), ("1", Accept), ("0", Deny), ("", Defer)] {
        assert_eq!(read(SHORT_HEX, SPAN_HEX, sampled), valid(SHORT, want));
        assert_eq!(read(WIDE_HEX, SPAN_HEX, sampled), valid(WIDE, want));
        let without_ids = if want == Defer { Absent } else { Decision(want) };
        assert_eq!(read("", "", sampled), without_ids);
    }
    // Basic tracers write no leading zeros.
    let short = Foreign {
        trace_id: 0xab_u128.to_be_bytes(),
        parent_id: Some(0xc_u64.to_be_bytes()),
        sampling: Defer,
    };
    assert_eq!(read("ab", "c", ""), Reading::Valid(short));
    let long = format!("0{WIDE_HEX}");
    for (trace, span, sampled) in [
        (SHORT_HEX, "", "true"),
        ("", SPAN_HEX, "true"),
        ("0", SPAN_HEX, ""),
        (SHORT_HEX, "0", ""),
        (SHORT_HEX, SPAN_HEX, "yes"),
        (&*long, SPAN_HEX, ""),
        (SHORT_HEX, WIDE_HEX, ""),
        ("ab-", SPAN_HEX, ""),
    ] {
        assert_eq!(read(trace, span, sampled), Invalid, "{trace} {span} {sampled}");
    }
}

#[test]
fn grpc_trace_bin() {
    // The specification's example: 4bf92f35…, 34f067aa…, sampled.
    let example = Reading::Valid(Foreign {
        trace_id: 0x4bf92f3577b34da6a3ce929d000e4736_u128.to_be_bytes(),
        parent_id: Some(0x34f067aa0ba902b7_u64.to_be_bytes()),
        sampling: Accept,
    });
    let id = "AABL+S81d7NNpqPOkp0ADkc2";
    let ids = "AABL+S81d7NNpqPOkp0ADkc2ATTwZ6oLqQK3";
    let with = |sampling| match example {
        Reading::Valid(foreign) => Reading::Valid(Foreign { sampling, ..foreign }),
        other => other,
    };
    let Reading::Valid(foreign) = example else { return };
    let cases = [
        (&*format!("{ids}AgE"), example),
        (&*format!("{ids}AgE="), example),
        (&*format!("{ids}AgA"), with(Deny)),
        (ids, with(Defer)),
        // Fields in another order: options, span, trace.
        ("AAIBATTwZ6oLqQK3AEv5LzV3s02mo86SnQAORzY", example),
        // A field of a later version ends the reading.
        (&*format!("{ids}AgEDBwcH"), example),
        // The span may be missing.
        (id, Reading::Valid(Foreign { parent_id: None, sampling: Defer, ..foreign })),
        ("AA", Invalid),
        ("AQ", Invalid),
        ("A", Invalid),
        // Version 1, trace id of zeros, span id of zeros, the trace id twice, cut in the trace id.
        ("AQBL+S81d7NNpqPOkp0ADkc2ATTwZ6oLqQK3AgE", Invalid),
        ("AAAAAAAAAAAAAAAAAAAAAAAAATTwZ6oLqQK3AgE", Invalid),
        (&*format!("{id}AQAAAAAAAAAA"), Invalid),
        ("AABL+S81d7NNpqPOkp0ADkc2AEv5LzV3s02mo86SnQAORzY", Invalid),
        ("AABL+S81d7NNpqPO", Invalid),
        (&*format!("{ids}Ag"), Invalid),
        // Not base64, and the alphabet of URLs.
        (&*format!("{ids}Ag!"), Invalid),
        ("AABL-S81d7NNpqPOkp0ADkc2ATTwZ6oLqQK3AgE", Invalid),
        (&*format!("{ids}AgE,{ids}AgE"), Invalid),
        (WIDE_HEX, Invalid),
    ];
    single(Format::GrpcTraceBin, "grpc-trace-bin", &cases);
}
