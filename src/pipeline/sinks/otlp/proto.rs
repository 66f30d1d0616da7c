//! Protocol Buffers, byte by byte (<https://protobuf.dev/programming-guides/encoding/>).
//!
//! Why by hand: the messages of a code generator are trees of owned values, and cost several times what writing their
//! bytes does. The length of a nested message is written after its content, into four bytes kept free for it: a varint may
//! be longer than it must be, and every reader takes it. How it fails: a message of 256 MiB and more cannot be written so;
//! batches are far below.

use crate::pipeline::event::{self, Text, Value};

/// Wire types.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

/// How deep arrays and objects are followed; what is deeper is written as JSON. Readers stop at 100 messages.
pub(super) const DEPTH_MAX: usize = 16;

/// Key and value together that need no length of two bytes, with what stands between them.
const SHORT_BYTES: usize = 120;

/// `AnyValue`'s fields.
mod any {
    pub(super) const STRING: u8 = 1;
    pub(super) const BOOL: u8 = 2;
    pub(super) const INT: u8 = 3;
    pub(super) const DOUBLE: u8 = 4;
    pub(super) const ARRAY: u8 = 5;
    pub(super) const KVLIST: u8 = 6;
}

/// A nested message that is being written.
#[must_use = "its length is still to be written"]
pub(super) struct Open(usize);

#[inline]
pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
const fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

#[inline]
fn tag(out: &mut Vec<u8>, field: u8, wire: u8) {
    varint(out, u64::from(field) << 3 | u64::from(wire));
}

#[inline]
pub(super) fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    tag(out, field, BYTES);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

#[inline]
pub(super) fn number(out: &mut Vec<u8>, field: u8, value: u64) {
    tag(out, field, VARINT);
    varint(out, value);
}

#[inline]
pub(super) fn fixed64(out: &mut Vec<u8>, field: u8, value: u64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

#[inline]
pub(super) fn fixed32(out: &mut Vec<u8>, field: u8, value: u32) {
    tag(out, field, FIXED32);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Begins a nested message.
#[inline]
pub(super) fn open(out: &mut Vec<u8>, field: u8) -> Open {
    tag(out, field, BYTES);
    out.extend_from_slice(&[0; 4]);
    Open(out.len())
}

/// Ends it.
#[inline]
pub(super) fn close(out: &mut [u8], Open(start): Open) {
    let len = out.len() - start;
    if let Some(place) = start.checked_sub(4).and_then(|from| out.get_mut(from..start)) {
        let part = |shift: u32| (len >> shift) as u8 & 0x7f;
        place.copy_from_slice(&[part(0) | 0x80, part(7) | 0x80, part(14) | 0x80, part(21)]);
    }
}

/// A `KeyValue` with a text, whose lengths are known beforehand.
#[inline]
pub(super) fn text_attribute(out: &mut Vec<u8>, field: u8, key: &[u8], value: &[u8]) {
    if key.len() + value.len() < SHORT_BYTES {
        // Nearly all: every length is one byte, so the bytes between the texts are written together.
        let (key_len, value_len) = (key.len() as u8, value.len() as u8);
        out.extend_from_slice(&[field << 3 | BYTES, key_len + value_len + 6, 1 << 3 | BYTES, key_len]);
        out.extend_from_slice(key);
        out.extend_from_slice(&[2 << 3 | BYTES, value_len + 2, any::STRING << 3 | BYTES, value_len]);
        out.extend_from_slice(value);
        return;
    }
    let any_len = 1 + varint_len(value.len()) + value.len();
    key_head(out, field, key, any_len);
    bytes(out, any::STRING, value);
}

#[inline]
pub(super) fn int_attribute(out: &mut Vec<u8>, field: u8, key: &[u8], value: i64) {
    // A negative number has ten bytes.
    let unsigned = value as u64;
    let len = (70 - (unsigned | 1).leading_zeros() as usize) / 7;
    key_head(out, field, key, 1 + len);
    number(out, any::INT, unsigned);
}

#[inline]
fn double_attribute(out: &mut Vec<u8>, field: u8, key: &[u8], value: f64) {
    key_head(out, field, key, 9);
    fixed64(out, any::DOUBLE, value.to_bits());
}

#[inline]
fn bool_attribute(out: &mut Vec<u8>, field: u8, key: &[u8], value: bool) {
    key_head(out, field, key, 2);
    number(out, any::BOOL, u64::from(value));
}

/// The head of a `KeyValue`, up to the content of its `AnyValue`, which has `any_len` bytes.
#[inline]
fn key_head(out: &mut Vec<u8>, field: u8, key: &[u8], any_len: usize) {
    if key.len() + any_len < SHORT_BYTES {
        let key_len = key.len() as u8;
        out.extend_from_slice(&[field << 3 | BYTES, key_len + any_len as u8 + 4, 1 << 3 | BYTES, key_len]);
        out.extend_from_slice(key);
        out.extend_from_slice(&[2 << 3 | BYTES, any_len as u8]);
        return;
    }
    let len = 1 + varint_len(key.len()) + key.len() + 1 + varint_len(any_len) + any_len;
    tag(out, field, BYTES);
    varint(out, len as u64);
    bytes(out, 1, key);
    tag(out, 2, BYTES);
    varint(out, any_len as u64);
}

/// A member as a `KeyValue`. `null` is no attribute.
#[inline]
pub(super) fn attribute(out: &mut Vec<u8>, scratch: &mut Vec<u8>, field: u8, key: &[u8], value: Value<'_>) {
    match value {
        Value::Text(text) => text_attribute(out, field, key, plain(text, scratch)),
        Value::Int(value) => int_attribute(out, field, key, value),
        Value::Double(value) => double_attribute(out, field, key, value),
        Value::Bool(value) => bool_attribute(out, field, key, value),
        Value::Null => {}
        Value::Array(_) | Value::Object(_) => {
            let pair = open(out, field);
            bytes(out, 1, key);
            any_value(out, scratch, 2, value, 0);
            close(out, pair);
        }
    }
}

/// A value as an `AnyValue`.
pub(super) fn any_value(out: &mut Vec<u8>, scratch: &mut Vec<u8>, field: u8, value: Value<'_>, depth: usize) {
    let outer = open(out, field);
    match value {
        Value::Text(text) => bytes(out, any::STRING, plain(text, scratch)),
        Value::Int(value) => number(out, any::INT, value as u64),
        Value::Double(value) => fixed64(out, any::DOUBLE, value.to_bits()),
        Value::Bool(value) => number(out, any::BOOL, u64::from(value)),
        Value::Null => {}
        Value::Array(raw) | Value::Object(raw) if depth >= DEPTH_MAX => bytes(out, any::STRING, raw),
        Value::Array(raw) => {
            let inner = open(out, any::ARRAY);
            for item in event::items(raw) {
                any_value(out, scratch, 1, item, depth + 1);
            }
            close(out, inner);
        }
        Value::Object(raw) => {
            let inner = open(out, any::KVLIST);
            for (key, value) in event::members(raw) {
                let pair = open(out, 1);
                bytes(out, 1, plain(key, scratch));
                any_value(out, scratch, 2, value, depth + 1);
                close(out, pair);
            }
            close(out, inner);
        }
    }
    close(out, outer);
}

/// What a text says; `scratch` holds it where something was escaped.
#[inline]
pub(super) fn plain<'a>(text: Text<'a>, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    if !text.has_escapes() {
        return text.raw();
    }
    scratch.clear();
    unescape(text.raw(), scratch);
    scratch
}

/// Appends what a text says. Without an allocation, other than [`Text::get`].
pub(super) fn append_plain(text: Text<'_>, out: &mut Vec<u8>) {
    if text.has_escapes() { unescape(text.raw(), out) } else { out.extend_from_slice(text.raw()) }
}

/// RFC 8259 §7. Half of a surrogate pair, and what is no escape, is U+FFFD.
fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (before, escape) = rest.split_at(at);
        out.extend_from_slice(before);
        let simple = match escape.get(1) {
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(byte @ (b'"' | b'\\' | b'/')) => *byte,
            _ => 0,
        };
        let mut len = 2;
        if simple != 0 {
            out.push(simple);
        } else {
            let (char, taken) = match escape.get(1) {
                Some(b'u') => unicode(escape),
                _ => ('\u{fffd}', 1),
            };
            len = taken;
            out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
        }
        rest = escape.get(len..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

/// The character of `\uXXXX`, and how many bytes it took.
fn unicode(escape: &[u8]) -> (char, usize) {
    let unit = |from: usize| {
        let digits = escape.get(from..from + 4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
    };
    let Some(first) = unit(2) else { return ('\u{fffd}', 2) };
    if !(0xd800..0xdc00).contains(&first) {
        return (char::from_u32(first).unwrap_or('\u{fffd}'), 6);
    }
    match (escape.get(6..8), unit(8)) {
        (Some(b"\\u"), Some(second @ 0xdc00..=0xdfff)) => {
            let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            (char::from_u32(code).unwrap_or('\u{fffd}'), 12)
        }
        _ => ('\u{fffd}', 6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn texts_say_what_a_general_reader_reads(text: String) {
            let json = serde_json::to_vec(&text).unwrap();
            let mut found = Vec::new();
            unescape(&json[1..json.len() - 1], &mut found);
            prop_assert_eq!(String::from_utf8(found).unwrap(), text.clone());
            let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            let mut found = Vec::new();
            unescape(escaped.as_bytes(), &mut found);
            prop_assert_eq!(String::from_utf8(found).unwrap(), text);
        }

        #[test]
        fn whatever_is_escaped_becomes_a_text(raw in "(\\\\[u\"ntrbfx0-9dDcC]{0,6}|[a-zé]){0,12}") {
            let mut found = Vec::new();
            unescape(raw.as_bytes(), &mut found);
            prop_assert!(String::from_utf8(found).is_ok());
        }

        #[test]
        fn the_length_of_a_number_is_that_of_its_varint(value: i64) {
            let mut out = Vec::new();
            int_attribute(&mut out, 9, b"k", value);
            let mut bytes = Vec::new();
            varint(&mut bytes, value as u64);
            prop_assert_eq!(usize::from(out[1]) + 2, out.len());
            prop_assert_eq!(usize::from(out[6]), bytes.len() + 1);
        }
    }
}
