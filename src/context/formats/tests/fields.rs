//! Finding and removing headers; names in configuration.

use super::*;
use crate::context::is_context_header;
use formats::{FormatSet, is_baggage_header, is_header, remove, remove_all_baggage};

/// Every header that belongs to a format.
pub(super) const NAMES: [&str; 18] = [
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-amzn-trace-id",
    "x-cloud-trace-context",
    "uber-trace-id",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "x-datadog-tags",
    "x-datadog-origin",
    "ot-tracer-traceid",
    "ot-tracer-spanid",
    "ot-tracer-sampled",
    "grpc-trace-bin",
];

const BAGGAGE: [&str; 4] = ["uberctx-user", "ot-baggage-user", "jaeger-baggage", "grpc-tags-bin"];

#[test]
fn every_name_is_found_in_any_case_and_no_other() {
    for name in NAMES {
        let mut other = name.as_bytes().to_vec();
        *other.last_mut().unwrap() ^= 1;
        assert!(!is_header(&other) && !is_context_header(&other), "{name}");
        for name in [name.to_owned(), name.to_ascii_uppercase()] {
            assert!(is_header(name.as_bytes()) && is_context_header(name.as_bytes()), "{name}");
            let fields = section(&[("x-other", "1"), (&name, "2")]);
            assert!(!Headers::scan(&fields).is_empty(), "{name}");
        }
    }
    for name in BAGGAGE {
        assert!(is_baggage_header(name.to_ascii_uppercase().as_bytes()));
        assert!(is_header(name.as_bytes()) && is_context_header(name.as_bytes()));
    }
    for name in
        ["", "b", "b4", "x-b3-other", "x-amzn-requestid", "uberctx", "ot-baggag", "host", "x-forwarded-host"]
    {
        assert!(!is_header(name.as_bytes()), "{name}");
        assert!(Headers::scan(&section(&[(name, "1")])).is_empty());
    }
}

#[test]
fn to_third_parties_nothing_goes() {
    let mut fields = section(&[("host", "a")]);
    for name in NAMES.iter().chain(&BAGGAGE) {
        fields.push(name.as_bytes(), b"1");
        fields.push(name.to_ascii_uppercase().as_bytes(), b"2");
        fields.push(format!("{name}-else").as_bytes(), b"3");
    }
    fields.push(b"OT-Baggage-Account", b"4");
    fields.push(b"baggage", b"w3c=1");
    remove(FormatSet::ALL, &mut fields);
    assert!(Headers::scan(&fields).is_empty());
    remove_all_baggage(&mut fields);
    let left: Vec<_> = list(&fields).into_iter().map(|(name, _)| name).collect();
    let mut want = vec!["host".to_owned()];
    want.extend(NAMES.iter().map(|name| format!("{name}-else")));
    want.extend(["jaeger-baggage-else", "grpc-tags-bin-else", "baggage"].map(str::to_owned));
    assert_eq!(left, want);
}

#[test]
fn one_format_is_removed_and_the_others_stay() {
    let mut fields = section(&NAMES.map(|name| (name, "1")));
    let before = fields.len();
    remove([Format::Datadog, Format::B3].into_iter().collect(), &mut fields);
    assert_eq!(before - fields.len(), 6);
    assert!(list(&fields).iter().all(|(name, _)| name != "b3" && !name.starts_with("x-datadog-")));
}

#[test]
fn empty_headers_are_dropped() {
    let list_in = [
        ("x-b3-traceid", WIDE_HEX),
        ("x-b3-spanid", SPAN_HEX),
        ("X-B3-ParentSpanId", ""),
        ("uber-trace-id", " "),
        ("b3", ""),
        ("b3", ""),
        ("x-other", ""),
    ];
    let mut fields = section(&list_in);
    let mut headers = Headers::scan(&fields);
    headers.drop_empty(&mut fields);
    let names: Vec<_> = list(&fields).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["x-b3-traceid", "x-b3-spanid", "b3", "b3", "x-other"]);
    assert_eq!(formats::read(Format::B3Multi, &headers, &fields), valid(WIDE, Sampling::Defer));
    assert_eq!(formats::read(Format::Jaeger, &headers, &fields), Reading::Absent);
    assert_eq!(formats::read(Format::B3, &headers, &fields), Reading::Invalid, "twice is twice");
}

#[test]
fn names_in_configuration_are_those_of_events() {
    for format in Format::ALL {
        let text = serde_json::to_string(&format).unwrap();
        assert_eq!(text, format!("\"{}\"", format.name()));
        assert_eq!(serde_json::from_str::<Format>(&text).unwrap(), format);
    }
    assert!(serde_json::from_str::<Format>("\"w3c\"").is_err());
}

#[test]
fn a_set_holds_what_was_put_in() {
    let formats = [Format::Jaeger, Format::B3, Format::Jaeger];
    let set: FormatSet = formats.into_iter().collect();
    assert_eq!(set.iter().collect::<Vec<_>>(), [Format::B3, Format::Jaeger]);
    assert_eq!((set.len(), set.is_empty()), (2, false));
    assert!(set.contains(Format::B3) && !set.contains(Format::B3Multi));
    assert_eq!(Format::ALL.into_iter().collect::<FormatSet>(), FormatSet::ALL);
}
