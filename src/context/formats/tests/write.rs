//! Writing, format by format, over nothing and over what came.

use super::*;

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn each_format_is_written_as_its_own_libraries_write_it() {
    let outgoing = Outgoing { parent_id: Some(PARENT), ..outgoing(WIDE, true) };
    let want: [(Format, Vec<(&str, String)>); Format::COUNT] = [
        (Format::B3, vec![("b3", format!("{WIDE_HEX}-{SPAN_HEX}-1-{PARENT_HEX}"))]),
        (
            Format::B3Multi,
            vec![
                ("x-b3-traceid", WIDE_HEX.into()),
                ("x-b3-spanid", SPAN_HEX.into()),
                ("x-b3-parentspanid", PARENT_HEX.into()),
                ("x-b3-sampled", "1".into()),
            ],
        ),
        (
            Format::Xray,
            vec![(
                "x-amzn-trace-id",
                format!("Root=1-463ac35c-9f6413ad48485a3953bb6124;Parent={SPAN_HEX};Sampled=1"),
            )],
        ),
        (Format::CloudTrace, vec![("x-cloud-trace-context", format!("{WIDE_HEX}/{SPAN_DECIMAL};o=1"))]),
        (Format::Jaeger, vec![("uber-trace-id", format!("{WIDE_HEX}:{SPAN_HEX}:{PARENT_HEX}:1"))]),
        (
            Format::Datadog,
            vec![
                ("x-datadog-tags", "_dd.p.tid=463ac35c9f6413ad".into()),
                ("x-datadog-trace-id", SHORT_DECIMAL.into()),
                ("x-datadog-parent-id", SPAN_DECIMAL.into()),
                ("x-datadog-sampling-priority", "1".into()),
            ],
        ),
        (
            Format::OtTracer,
            vec![
                ("ot-tracer-traceid", SHORT_HEX.into()),
                ("ot-tracer-spanid", SPAN_HEX.into()),
                ("ot-tracer-sampled", "true".into()),
            ],
        ),
        (Format::GrpcTraceBin, vec![("grpc-trace-bin", "AABGOsNcn2QTrUhIWjlTu2EkAaL7Sh0altMSAgE".into())]),
    ];
    for (format, want) in want {
        let want: Vec<_> = want.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(written(format, &outgoing, &[]), want, "{format:?}");
    }
}

#[test]
fn an_unsampled_trace_is_written_as_unsampled() {
    let out = outgoing(WIDE, false);
    let value = |format, name: &str| {
        let list = written(format, &out, &[]);
        list.into_iter().find(|(own, _)| own == name).map(|(_, value)| value).unwrap()
    };
    assert!(value(Format::B3, "b3").ends_with("-0"));
    assert_eq!(value(Format::B3Multi, "x-b3-sampled"), "0");
    assert!(value(Format::Xray, "x-amzn-trace-id").ends_with(";Sampled=0"));
    assert!(value(Format::CloudTrace, "x-cloud-trace-context").ends_with(";o=0"));
    assert!(value(Format::Jaeger, "uber-trace-id").ends_with(":0:0"));
    assert_eq!(value(Format::Datadog, "x-datadog-sampling-priority"), "0");
    assert_eq!(value(Format::OtTracer, "ot-tracer-sampled"), "false");
    assert!(value(Format::GrpcTraceBin, "grpc-trace-bin").ends_with("AgA"));
}

#[test]
fn debug_is_written_where_a_format_has_it_and_is_sampled_elsewhere() {
    let out = Outgoing { is_debug: true, ..outgoing(WIDE, false) };
    for format in Format::ALL {
        let mut fields = section(&[]);
        formats::write(format, &out, &Headers::default(), &mut fields, &mut Vec::new());
        let Reading::Valid(foreign) = formats::read(format, &Headers::scan(&fields), &fields) else {
            panic!("{format:?}: {fields:?}");
        };
        let has_debug = matches!(format, Format::B3 | Format::B3Multi | Format::Jaeger);
        let want = if has_debug { Sampling::Debug } else { Sampling::Accept };
        assert_eq!(foreign.sampling, want, "{format:?}");
    }
    let names: Vec<_> = written(Format::B3Multi, &out, &[("x-b3-sampled", "1")]);
    assert!(names.iter().any(|(name, value)| name == "x-b3-flags" && value == "1"));
    assert!(!names.iter().any(|(name, _)| name == "x-b3-sampled"), "B3: don't also send it");
    assert_eq!(written(Format::Datadog, &out, &[]).pop().unwrap().1, "2");
}

#[test]
fn an_id_of_64_bits_goes_on_as_64_bits() {
    let out = outgoing(SHORT, true);
    assert_eq!(written(Format::B3, &out, &[])[0].1, format!("{SHORT_HEX}-{SPAN_HEX}-1"));
    assert_eq!(written(Format::B3Multi, &out, &[])[0].1, SHORT_HEX);
    assert_eq!(written(Format::Jaeger, &out, &[])[0].1, format!("{SHORT_HEX}:{SPAN_HEX}:0:1"));
    let names: Vec<_> = written(Format::Datadog, &out, &[]).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["x-datadog-trace-id", "x-datadog-parent-id", "x-datadog-sampling-priority"]);
    // These have no short form.
    assert!(
        written(Format::CloudTrace, &out, &[])[0].1.starts_with(&format!("0000000000000000{SHORT_HEX}/"))
    );
    assert!(written(Format::Xray, &out, &[])[0].1.starts_with("Root=1-00000000-0000000048485a39"));
}

#[test]
fn what_came_in_the_format_is_replaced_and_what_came_in_others_stays() {
    let came = [
        ("host", "a"),
        ("B3", "0"),
        ("X-B3-TraceId", ZEROS),
        ("x-b3-traceid", SHORT_HEX),
        ("X-B3-ParentSpanId", ""),
        ("x-b3-flags", "1"),
        ("uber-trace-id", "1:2:3:0"),
        ("x-other", "b"),
    ];
    let out = outgoing(WIDE, true);
    let single = format!("{WIDE_HEX}-{SPAN_HEX}-1");
    let mut want: Vec<_> = came.into_iter().filter(|(name, _)| *name != "B3").collect();
    want.push(("b3", &single));
    assert_eq!(written(Format::B3, &out, &came), pairs(&want));
    let want = [
        ("host", "a"),
        ("B3", "0"),
        ("uber-trace-id", "1:2:3:0"),
        ("x-other", "b"),
        ("x-b3-traceid", WIDE_HEX),
        ("x-b3-spanid", SPAN_HEX),
        ("x-b3-sampled", "1"),
    ];
    assert_eq!(written(Format::B3Multi, &out, &came), pairs(&want));
}

#[test]
fn keys_of_xray_that_are_not_ours_are_kept() {
    let ours = format!("Root=1-463ac35c-9f6413ad48485a3953bb6124;Parent={SPAN_HEX};Sampled=1");
    let write = |came: &str| {
        let list = written(Format::Xray, &outgoing(WIDE, true), &[("X-Amzn-Trace-Id", came)]);
        assert_eq!(list.len(), 1, "{list:?}");
        list[0].1.clone()
    };
    let old = "Root=1-67891233-abcdef012345678912345678";
    assert_eq!(write(old), ours);
    let load_balancer = format!("Self=1-67891234-12456789abcdef012345678;{old};CalledFrom=app;Sampled=0");
    assert_eq!(
        write(&load_balancer),
        format!("{ours};Self=1-67891234-12456789abcdef012345678;CalledFrom=app")
    );
    assert_eq!(
        write(&format!("{old};Lineage=a87bd80c:1|68fd508a:5 ;;")),
        format!("{ours};Lineage=a87bd80c:1|68fd508a:5")
    );
    // Whole keys only, and never more than a bound.
    let long = format!("a={};b=1", "x".repeat(1024));
    assert_eq!(write(&long), format!("{ours};b=1"));
}

#[test]
fn tags_of_datadog_that_are_not_ours_are_kept() {
    let write = |trace_id: [u8; 16], came: &[(&str, &str)]| {
        let list = written(Format::Datadog, &outgoing(trace_id, true), came);
        let value = |name: &str| list.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
        (value("x-datadog-tags"), value("x-datadog-origin"), value("x-datadog-sampling-priority").unwrap())
    };
    let tags = |trace_id, came: &str| write(trace_id, &[("x-datadog-tags", came)]).0;
    let tid = "_dd.p.tid=463ac35c9f6413ad";
    assert_eq!(tags(WIDE, "_dd.p.dm=-4, odd ,k=v=w").unwrap(), format!("_dd.p.dm=-4, odd ,k=v=w,{tid}"));
    let replaced = tags(WIDE, "_dd.p.dm=-4,_dd.p.tid=aaaaaaaaaaaaaaaa,_dd.p.usr=x");
    assert_eq!(replaced.unwrap(), format!("_dd.p.dm=-4,{tid},_dd.p.usr=x"));
    assert_eq!(tags(WIDE, &format!("a=1,{tid},_dd.p.tid=1,{tid}")).unwrap(), format!("a=1,{tid}"));
    assert_eq!(tags(WIDE, tid).unwrap(), tid);
    // 64 bits have no left half.
    assert_eq!(tags(SHORT, "_dd.p.tid=aaaaaaaaaaaaaaaa,_dd.p.dm=-4").unwrap(), "_dd.p.dm=-4");
    assert_eq!(tags(SHORT, "_dd.p.tid=aaaaaaaaaaaaaaaa"), None);
    assert_eq!(tags(SHORT, "_dd.p.tid=1, _dd.p.tid=aaaaaaaaaaaaaaaa, ,"), None);
    // Never more than Datadog's limit, in whole tags; and there is always room for ours.
    let long = format!("a={},b=1", "x".repeat(490));
    assert_eq!(tags(SHORT, &long).unwrap(), long);
    assert_eq!(tags(WIDE, &long).unwrap(), format!("b=1,{tid}"));
    assert_eq!(tags(WIDE, &"x".repeat(513)).unwrap(), tid);
    // Who decided stays with the decision.
    for (came, want) in [("2", "2"), ("1", "1"), ("0", "1"), ("-1", "1"), ("9", "1")] {
        assert_eq!(write(WIDE, &[("x-datadog-sampling-priority", came)]).2, want);
    }
    let unsampled = |came| {
        let list = [("x-datadog-sampling-priority", came)];
        written(Format::Datadog, &outgoing(WIDE, false), &list).pop().unwrap().1
    };
    assert_eq!(["2", "1", "0", "-1"].map(unsampled), ["0", "0", "0", "-1"]);
    assert_eq!(write(WIDE, &[("x-datadog-origin", "synthetics")]).1.unwrap(), "synthetics");
}

#[test]
fn ids_that_a_format_cannot_say_leave_nothing_behind() {
    let left_only = 0x463ac35c9f6413ad0000000000000000_u128.to_be_bytes();
    for format in Format::ALL {
        let has_64_bits = matches!(format, Format::Datadog | Format::OtTracer);
        let mut without_span = outgoing(WIDE, true);
        without_span.trace.parent_id = [0; 8];
        for (out, is_sayable) in [
            (outgoing(left_only, true), !has_64_bits),
            (outgoing([0; 16], true), false),
            (without_span, false),
        ] {
            let mut fields = section(&[("b3", "0"), ("x-other", "a")]);
            formats::write(format, &outgoing(WIDE, true), &Headers::default(), &mut fields, &mut Vec::new());
            formats::write(format, &out, &Headers::default(), &mut fields, &mut Vec::new());
            let reading = formats::read(format, &Headers::scan(&fields), &fields);
            assert_eq!(matches!(reading, Reading::Valid(_)), is_sayable, "{format:?}");
            assert!(is_sayable || matches!(reading, Reading::Absent), "{format:?} {fields:?}");
        }
    }
}
