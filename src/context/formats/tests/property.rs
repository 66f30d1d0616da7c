//! What holds for any headers. The fuzz target `trace_formats` includes this file, so it imports only what its parent
//! gives it.

use super::TraceParent;
use super::formats::{
    Extracted, Format, FormatSet, Headers, Outgoing, Reading, extract, is_header, read, remove,
    remove_all_baggage, write,
};
use super::svc::Fields;
use super::svc::fields::{is_field_value, is_token_byte};

/// Judges one input: headers as lines of `name: value`. A first byte seeds the span that is written.
///
/// # Panics
/// When something does not hold.
pub fn holds(input: &[u8]) {
    let (seed, lines) = input.split_first().unwrap_or((&0, &[]));
    let came = section(lines);
    let mut headers = Headers::scan(&came);
    let extracted = extract(&headers, &came, FormatSet::ALL, None);
    is_consistent(&extracted, &headers, &came);

    let span_id = [seed | 1; 8];
    let trace = match extracted.found {
        Some((_, foreign)) => foreign.child(span_id, seed & 2 != 0),
        None => TraceParent { version: 0, trace_id: [seed | 4; 16], parent_id: span_id, flags: seed & 3 },
    };
    let parent_id = extracted.found.and_then(|(_, foreign)| foreign.parent_id);
    let is_debug = seed & 128 != 0;
    let outgoing = Outgoing { trace, parent_id, is_debug };
    let mut all = came.clone();
    for format in Format::ALL {
        goes_round(format, &outgoing, &came);
        write(format, &outgoing, &headers, &mut all, &mut Vec::new());
    }
    // Written side by side they agree with each other and with W3C.
    let together = extract(&Headers::scan(&all), &all, FormatSet::ALL, Some(&trace));
    assert!(together.conflicts.is_empty() && together.invalid.is_empty(), "{together:?}");
    assert_eq!(together.found.map(|(format, _)| format), Some(Format::B3));

    let mut scarce = came.clone();
    headers.drop_empty(&mut scarce);
    assert_eq!(extract(&headers, &scarce, FormatSet::ALL, None), extracted);
    assert_eq!(extract(&Headers::scan(&scarce), &scarce, FormatSet::ALL, None), extracted);

    remove(FormatSet::ALL, &mut all);
    remove_all_baggage(&mut all);
    assert!(pairs(&all).eq(pairs(&came).filter(|(name, _)| !is_header(name))), "{all:?}");
}

/// The lines that are headers.
fn section(lines: &[u8]) -> Fields {
    let mut fields = Fields::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(at);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if !name.is_empty() && name.iter().all(|byte| is_token_byte(*byte)) && is_field_value(value) {
            fields.push(name, value);
        }
    }
    fields
}

fn pairs(fields: &Fields) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields.iter().map(|(name, value, _)| (name, value))
}

/// What is said of all the formats is what each of them says.
fn is_consistent(extracted: &Extracted, headers: &Headers, fields: &Fields) {
    let mut first = None;
    for format in Format::ALL {
        let reading = read(format, headers, fields);
        assert_eq!(extracted.came.contains(format), reading != Reading::Absent);
        assert_eq!(extracted.invalid.contains(format), reading == Reading::Invalid);
        if let Reading::Valid(foreign) = reading {
            assert_ne!(foreign.trace_id, [0; 16]);
            assert_ne!(foreign.parent_id, Some([0; 8]));
            let (_, winner) = *first.get_or_insert((format, foreign));
            assert_eq!(extracted.conflicts.contains(format), !foreign.is_of(&winner.trace_id));
        }
    }
    assert_eq!(extracted.found, first, "all of it is from one format");
}

/// What is written is what the next hop reads, whatever came before; nothing else changes.
fn goes_round(format: Format, outgoing: &Outgoing, came: &Fields) {
    let mut fields = came.clone();
    write(format, outgoing, &Headers::scan(came), &mut fields, &mut b"old".to_vec());
    let headers = Headers::scan(&fields);
    let trace = outgoing.trace;
    let is_cut = matches!(format, Format::OtTracer) && trace.trace_id[..8] != [0; 8];
    let right_half = &trace.trace_id[8..];
    match read(format, &headers, &fields) {
        Reading::Valid(foreign) => {
            assert!(foreign.is_of(&trace.trace_id));
            assert_eq!(foreign.trace_id == trace.trace_id, !is_cut);
            assert_eq!(foreign.parent_id, Some(trace.parent_id));
            assert_eq!(foreign.sampling.is_sampled(), Some(outgoing.is_debug || trace.is_sampled()));
        }
        // 64 bits cannot say an id whose right half is zero.
        reading => {
            assert_eq!(reading, Reading::Absent);
            assert!(matches!(format, Format::Datadog | Format::OtTracer) && *right_half == [0; 8]);
        }
    }
    assert!(fields.iter().all(|(_, value, _)| is_field_value(value)));
    let others = FormatSet::from_iter([format]);
    let (mut before, mut after) = (came.clone(), fields.clone());
    remove(others, &mut before);
    remove(others, &mut after);
    assert!(pairs(&before).eq(pairs(&after)), "{format:?} changed what is not its own");

    // Again, over what is there now, it is the same.
    let mut again = fields.clone();
    write(format, outgoing, &headers, &mut again, &mut Vec::new());
    let sorted = |fields: &Fields| {
        let mut list: Vec<_> =
            pairs(fields).map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec())).collect();
        list.sort();
        list
    };
    assert_eq!(sorted(&again), sorted(&fields));
}

#[cfg(test)]
mod tests {
    use super::super::fields::NAMES;
    use super::*;
    use proptest::prelude::*;

    /// Values that are nearly right find more than noise does.
    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            "[0-9a-f]{16}",
            "[0-9a-f]{32}",
            "0{16}|0{32}|0|1|2|-1|d|true|False||\\?",
            "[0-9]{1,20}",
            "([0-9a-f]{16}|[0-9a-f]{32})-[0-9a-f]{16}(-[01d]?(-[0-9a-f]{16})?)?",
            "(Root=1-[0-9a-f]{8}-[0-9a-f]{24};?|Parent=[0-9a-f]{16};|Sampled=[01?];|Self=[a-z]{0,9};){1,4}",
            "[0-9a-f]{32}/?[0-9]{0,20}(;o=[0-3]?)?",
            "[0-9a-f]{1,32}(:|%3A)[0-9a-f]{1,16}:[0-9a-f]{0,16}:[0-9a-f]{1,2}",
            "(_dd.p.[a-z]{1,3}=[^,]{0,9},?|_dd.p.tid=[0-9a-f]{16},?){0,4}",
            "AA[A-Za-z0-9+/]{22,40}={0,2}",
            "[ -~]{0,40}",
        ]
    }

    fn name() -> impl Strategy<Value = &'static str> {
        let others = ["X-B3-TraceId", "uberctx-a", "ot-baggage-a", "baggage", "x-other"];
        prop::sample::select(NAMES.into_iter().chain(others).collect::<Vec<_>>())
    }

    /// Ids with halves of zeros are where 64 bits and 128 meet.
    fn trace_id() -> impl Strategy<Value = [u8; 16]> {
        let half = || prop_oneof![4 => any::<u64>(), 1 => Just(0)];
        (half(), half())
            .prop_map(|(left, right)| (u128::from(left) << 64 | u128::from(right)).to_be_bytes())
            .prop_filter("zeros are no id", |id| *id != [0; 16])
    }

    fn headers() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec((name(), value()), 0..12).prop_map(|headers| {
            headers.into_iter().flat_map(|(name, value)| format!("{name}:{value}\n").into_bytes()).collect()
        })
    }

    proptest! {
        #[test]
        fn any_ids_in_any_format_over_whatever_came(
            trace_id in trace_id(),
            parent_id in 1..=u64::MAX,
            above in any::<Option<[u8; 8]>>(),
            flags in 0..4_u8,
            is_debug: bool,
            lines in headers(),
        ) {
            let trace = TraceParent { version: 0, trace_id, parent_id: parent_id.to_be_bytes(), flags };
            let outgoing = Outgoing { trace, parent_id: above, is_debug };
            for format in Format::ALL {
                goes_round(format, &outgoing, &Fields::new());
                goes_round(format, &outgoing, &section(&lines));
            }
        }

        #[test]
        fn any_headers(seed: u8, lines in headers()) {
            holds(&[&[seed], &*lines].concat());
        }

        #[test]
        fn any_bytes_in_a_header(
            seed: u8, name in name(), value in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            holds(&[&[seed], name.as_bytes(), b":", &value].concat());
        }
    }
}
