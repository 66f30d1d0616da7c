//! Which format counts when several came, and what is said about the others.

use super::*;
use formats::{Extracted, FormatSet, extract};

fn extracted(list: &[(&str, &str)], w3c: Option<[u8; 16]>) -> Extracted {
    let fields = section(list);
    let w3c = w3c.map(|trace_id| outgoing(trace_id, true).trace);
    extract(&Headers::scan(&fields), &fields, FormatSet::ALL, w3c.as_ref())
}

fn set<const N: usize>(formats: [Format; N]) -> FormatSet {
    formats.into_iter().collect()
}

/// A section with every format, each with a trace of its own: 1 for the first, 2 for the second, …
fn one_of_each() -> Fields {
    let mut fields = Fields::new();
    for (at, format) in Format::ALL.into_iter().enumerate() {
        let trace_id = (at as u128 + 1) << 64 | 0xff00 | (at as u128 + 1);
        let out = outgoing(trace_id.to_be_bytes(), true);
        formats::write(format, &out, &Headers::default(), &mut fields, &mut Vec::new());
    }
    fields
}

#[test]
fn the_first_in_the_order_wins_and_every_other_trace_is_a_conflict() {
    let mut left = one_of_each();
    for (at, format) in Format::ALL.into_iter().enumerate() {
        let extracted = extract(&Headers::scan(&left), &left, FormatSet::ALL, None);
        let (found, foreign) = extracted.found.unwrap();
        assert_eq!((found, foreign.trace_id[15]), (format, at as u8 + 1));
        assert_eq!(extracted.came, Format::ALL.into_iter().skip(at).collect());
        assert_eq!(extracted.conflicts, Format::ALL.into_iter().skip(at + 1).collect());
        assert_eq!(extracted.conflicts.len() as usize, Format::COUNT - at - 1);
        assert!(extracted.invalid.is_empty());
        formats::remove(set([format]), &mut left);
    }
    assert!(Headers::scan(&left).is_empty());
}

#[test]
fn only_enabled_formats_are_read() {
    let fields = one_of_each();
    let headers = Headers::scan(&fields);
    for format in Format::ALL {
        let extracted = extract(&headers, &fields, set([format]), None);
        assert_eq!(extracted.found.map(|(found, _)| found), Some(format));
        assert_eq!((extracted.came, extracted.conflicts), (set([format]), FormatSet::NONE));
    }
    assert_eq!(extract(&headers, &fields, FormatSet::NONE, None), Extracted::default());
}

#[test]
fn a_malformed_format_is_counted_and_the_next_one_read() {
    let jaeger = format!("{WIDE_HEX}:{SPAN_HEX}:0:1");
    let list = [("b3", "nonsense"), ("x-b3-traceid", WIDE_HEX), ("uber-trace-id", &*jaeger)];
    let extracted = extracted(&list, None);
    assert_eq!(extracted.found.map(|(format, _)| format), Some(Format::Jaeger));
    assert_eq!(extracted.invalid, set([Format::B3, Format::B3Multi]));
    assert_eq!(extracted.came, set([Format::B3, Format::B3Multi, Format::Jaeger]));
    assert!(extracted.conflicts.is_empty(), "what cannot be read disagrees with nobody");
}

#[test]
fn formats_are_compared_with_w3c_where_it_came() {
    let b3 = format!("{WIDE_HEX}-{SPAN_HEX}-0");
    let jaeger = format!("1ab:{SPAN_HEX}:0:1");
    let list = [("b3", &*b3), ("uber-trace-id", &*jaeger)];
    let agreed = extracted(&list, Some(WIDE));
    assert_eq!(agreed.conflicts, set([Format::Jaeger]));
    let other = extracted(&list, Some([7; 16]));
    assert_eq!(other.conflicts, set([Format::B3, Format::Jaeger]));
    assert_eq!(other.found, agreed.found, "it is told all the same");
}

#[test]
fn the_right_half_of_an_id_is_the_same_trace_but_is_not_made_whole() {
    // An old library that knows 64 bits sends B3, a new one beside it W3C.
    let b3 = format!("{SHORT_HEX}-{SPAN_HEX}-1");
    let extracted = extracted(&[("b3", &*b3)], Some(WIDE));
    assert!(extracted.conflicts.is_empty());
    let (_, foreign) = extracted.found.unwrap();
    assert_eq!(foreign.trace_id, SHORT);
    assert!(foreign.is_short() && foreign.is_of(&WIDE) && foreign.is_of(&SHORT));
    let other_left_half = 0xffffffffffffffff48485a3953bb6124_u128.to_be_bytes();
    let whole = Foreign { trace_id: WIDE, ..foreign };
    assert!(whole.is_of(&SHORT) && !whole.is_of(&other_left_half) && !whole.is_short());
}

#[test]
fn a_decision_without_ids_counts_before_formats_that_come_later() {
    let multi = [("x-b3-traceid", WIDE_HEX), ("x-b3-spanid", SPAN_HEX), ("x-b3-sampled", "1")];
    let with = |first: (&'static str, &'static str)| {
        extracted(&multi.into_iter().chain([first]).collect::<Vec<_>>(), None)
    };
    let single_wins = with(("b3", "0"));
    assert_eq!((single_wins.decision, single_wins.sampling()), (Some(Sampling::Deny), Sampling::Deny));
    assert_eq!(single_wins.found.map(|(format, _)| format), Some(Format::B3Multi));
    let later = with(("x-amzn-trace-id", "Sampled=0"));
    assert_eq!((later.decision, later.sampling()), (None, Sampling::Accept));
    let alone = extracted(&[("b3", "d")], None);
    assert_eq!((alone.found, alone.sampling()), (None, Sampling::Debug));
    assert_eq!(alone.came, set([Format::B3]));
    assert_eq!(extracted(&[("host", "a")], None).sampling(), Sampling::Defer);
}

#[test]
fn a_foreign_trace_goes_on_as_w3c_without_the_random_flag() {
    for (sampling, default, want) in [
        (Sampling::Accept, false, "01"),
        (Sampling::Debug, false, "01"),
        (Sampling::Deny, true, "00"),
        (Sampling::Defer, true, "01"),
        (Sampling::Defer, false, "00"),
    ] {
        let foreign = Foreign { trace_id: SHORT, parent_id: Some(PARENT), sampling };
        let text = String::from_utf8(foreign.child(SPAN, default).to_bytes().to_vec()).unwrap();
        assert_eq!(text, format!("00-0000000000000000{SHORT_HEX}-{SPAN_HEX}-{want}"));
    }
}
