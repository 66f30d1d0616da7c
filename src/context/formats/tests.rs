//! What each format reads and writes, as tables. The names of cases say which rule they are for.

mod choice;
mod fields;
mod property;
mod read;
mod write;

// What the property needs; the fuzz target gives it the same names.
use crate::{
    context::{TraceParent, formats},
    svc,
};
use formats::{Foreign, Format, Headers, Outgoing, Reading, Sampling};
use svc::Fields;

/// The ids of B3's specification, as 128 bits, as 64 bits, and the span.
const WIDE: [u8; 16] = 0x463ac35c9f6413ad48485a3953bb6124_u128.to_be_bytes();
const SHORT: [u8; 16] = 0x48485a3953bb6124_u128.to_be_bytes();
const SPAN: [u8; 8] = 0xa2fb4a1d1a96d312_u64.to_be_bytes();
const PARENT: [u8; 8] = 0x0020000000000001_u64.to_be_bytes();
/// The same in decimal, for the formats that write that.
const WIDE_HEX: &str = "463ac35c9f6413ad48485a3953bb6124";
const SHORT_HEX: &str = "48485a3953bb6124";
const SHORT_DECIMAL: &str = "5208512171318403364";
const SPAN_HEX: &str = "a2fb4a1d1a96d312";
const SPAN_DECIMAL: &str = "11744061942159299346";
const PARENT_HEX: &str = "0020000000000001";
const ZEROS: &str = "00000000000000000000000000000000";

fn section(list: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in list {
        fields.push(name.as_bytes(), value.as_bytes());
    }
    fields
}

fn reading(format: Format, list: &[(&str, &str)]) -> Reading {
    let fields = section(list);
    formats::read(format, &Headers::scan(&fields), &fields)
}

fn valid(trace_id: [u8; 16], sampling: Sampling) -> Reading {
    Reading::Valid(Foreign { trace_id, parent_id: Some(SPAN), sampling })
}

fn valid_without_parent(trace_id: [u8; 16], sampling: Sampling) -> Reading {
    Reading::Valid(Foreign { trace_id, parent_id: None, sampling })
}

fn outgoing(trace_id: [u8; 16], is_sampled: bool) -> Outgoing {
    let trace = TraceParent { version: 0, trace_id, parent_id: SPAN, flags: u8::from(is_sampled) };
    Outgoing { trace, parent_id: None, is_debug: false }
}

/// What is in the section after `outgoing` was written over what came.
fn written(format: Format, outgoing: &Outgoing, came: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut fields = section(came);
    let headers = Headers::scan(&fields);
    formats::write(format, outgoing, &headers, &mut fields, &mut b"old".to_vec());
    list(&fields)
}

fn list(fields: &Fields) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    fields.iter().map(|(name, value, _)| (text(name), text(value))).collect()
}
