//! JSON, byte by byte: texts that peers wrote, numbers, and whole values.
//!
//! What a peer wrote cannot break a line or a terminal: beside what JSON demands (RFC 8259 §7), DEL, the C1 controls, the
//! line separators and the marks that turn the writing direction (the "Trojan source" trick) are escaped, and bytes that
//! are not UTF-8 become U+FFFD. Nothing here allocates but the growth of the output.

use serde_json::Value;
use std::io::Write;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// Two digits of a number below 100; larger ones show their last two.
#[inline]
pub(super) fn pair(number: u64) -> [u8; 2] {
    PAIRS[(number % 100) as usize]
}

/// Whether one of eight bytes is a control, a quote, a backslash, DEL or not ASCII. (Bit tricks: see "Determine if a
/// word has a byte less than n" in Anderson's Bit Twiddling Hacks.) May be wrong about a byte after a true hit only.
#[inline]
fn needs_care(word: u64) -> bool {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zero = |word: u64| word.wrapping_sub(LOW) & !word;
    let control = word.wrapping_sub(LOW * 0x20) & !word;
    let found = control
        | zero(word ^ (LOW * b'"' as u64))
        | zero(word ^ (LOW * b'\\' as u64))
        | zero(word ^ (LOW * 0x7f))
        | word;
    found & HIGH != 0
}

/// The same for many bytes, without a branch: compilers make vector instructions of it.
#[inline]
fn any_needs_care(bytes: &[u8; 32]) -> bool {
    let found = bytes.iter().fold(0, |found, byte| {
        let is_outside = byte.wrapping_sub(b' ') > b'~' - b' ';
        found | u8::from(is_outside) | u8::from(*byte == b'"') | u8::from(*byte == b'\\')
    });
    found != 0
}

/// Whether nothing in `text` needs escaping.
#[inline]
pub(super) fn is_plain(text: &[u8]) -> bool {
    // The last word overlaps the one before, so that there is no rest.
    if let Some(last) = text.last_chunk::<32>() {
        let (blocks, _) = text.as_chunks::<32>();
        return !blocks.iter().any(any_needs_care) && !any_needs_care(last);
    }
    let (words, _) = text.as_chunks::<8>();
    let word = |word: &[u8; 8]| needs_care(u64::from_le_bytes(*word));
    match text.last_chunk::<8>() {
        Some(last) => !word(last) && !words.iter().any(word),
        None => text.iter().all(|byte| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~')),
    }
}

/// The lowercase hex digits of eight bytes: half a trace id, or a span id. Without a table, so that compilers make vector
/// instructions of it.
#[inline]
pub(super) fn hex(bytes: &[u8; 8]) -> [[u8; 2]; 8] {
    let digit = |nibble: u8| nibble + if nibble > 9 { b'a' - 10 } else { b'0' };
    let mut digits = [[0; 2]; 8];
    for (pair, byte) in digits.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    digits
}

/// What stands between the quotes of a JSON text.
#[inline]
pub(super) fn text(out: &mut Vec<u8>, text: &[u8]) {
    text_known(out, text, is_plain(text));
}

/// The same for a text of which it is known already whether it is plain.
#[inline]
pub(super) fn text_known(out: &mut Vec<u8>, text: &[u8], is_plain: bool) {
    if is_plain {
        out.extend_from_slice(text);
    } else {
        escaped(out, text);
    }
}

#[cold]
fn escaped(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                ' '..='~' => out.push(char as u8),
                _ if is_unsafe(char) => unicode(out, char as u32),
                _ => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

/// Characters that change how the text around them is shown.
fn is_unsafe(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// All of them lie in the basic plane, so four digits do.
fn unicode(out: &mut Vec<u8>, code: u32) {
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(HEX[(code >> shift & 0xf) as usize]);
    }
}

/// A whole number. In place: the call would cost as much as a short number does.
#[inline(always)]
pub(super) fn number(out: &mut Vec<u8>, number: u64) {
    // Most numbers of an event are short; they are copied with a size that the compiler knows.
    match number {
        0..10 => out.push(b'0' + number as u8),
        10..100 => out.extend_from_slice(&pair(number)),
        100..1000 => {
            let [tens, ones] = pair(number % 100);
            out.extend_from_slice(&[b'0' + (number / 100) as u8, tens, ones]);
        }
        1000..10_000 => four(out, number),
        // A port, mostly.
        10_000..100_000 => {
            let (front, rest) = (number / 10_000, number % 10_000);
            let ([a, b], [c, d]) = (pair(rest / 100), pair(rest));
            out.extend_from_slice(&[b'0' + front as u8, a, b, c, d]);
        }
        _ => long(out, number),
    }
}

#[inline]
fn four(out: &mut Vec<u8>, number: u64) {
    let ([a, b], [c, d]) = (pair(number / 100), pair(number));
    out.extend_from_slice(&[a, b, c, d]);
}

fn long(out: &mut Vec<u8>, given: u64) {
    // What is before the last four digits, then those: five levels for the largest number there is.
    let front = given / 10_000;
    match front {
        0..10_000 => number(out, front),
        _ => long(out, front),
    }
    four(out, given % 10_000);
}

/// Any value.
pub(super) fn value(out: &mut Vec<u8>, given: &Value) {
    match given {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => {
            // Writing into memory does not fail.
            let _ = write!(out, "{number}");
        }
        Value::String(given) => quoted(out, given.as_bytes()),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                out.push(if index == 0 { b'[' } else { b',' });
                value(out, item);
            }
            out.extend_from_slice(if items.is_empty() { b"[]" } else { b"]" });
        }
        Value::Object(members) => {
            for (index, (name, member)) in members.iter().enumerate() {
                out.push(if index == 0 { b'{' } else { b',' });
                quoted(out, name.as_bytes());
                out.push(b':');
                value(out, member);
            }
            out.extend_from_slice(if members.is_empty() { b"{}" } else { b"}" });
        }
    }
}

/// JSON that is valid already, as it is written; what is unsafe in its texts is escaped, a control outside of them (a tab)
/// becomes a space.
pub(in crate::pipeline) fn raw(out: &mut Vec<u8>, given: &str) {
    if given.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return out.extend_from_slice(given.as_bytes());
    }
    for char in given.chars() {
        match char {
            ' '..='~' => out.push(char as u8),
            _ if char.is_ascii_control() && char != '\u{7f}' => out.push(b' '),
            _ if is_unsafe(char) => unicode(out, char as u32),
            _ => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// A text with its quotes.
pub(in crate::pipeline) fn quoted(out: &mut Vec<u8>, given: &[u8]) {
    out.push(b'"');
    text(out, given);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(given: &[u8]) -> String {
        let mut out = Vec::new();
        quoted(&mut out, given);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_a_peer_wrote_cannot_break_a_line() {
        let cases: &[(&[u8], &str)] = &[
            (b"", r#""""#),
            (b"/a/b?c", r#""/a/b?c""#),
            (b"a\"b\\c", r#""a\"b\\c""#),
            (b"one\r\n{\"forged\":1}\n", r#""one\r\n{\"forged\":1}\n""#),
            (b"\x00\x1b[31m\x7f", r#""\u0000\u001b[31m\u007f""#),
            ("caf\u{e9} \u{1f600}".as_bytes(), "\"caf\u{e9} \u{1f600}\""),
            ("a\u{85}b\u{2028}c\u{202e}d\u{feff}".as_bytes(), r#""a\u0085b\u2028c\u202ed\ufeff""#),
            (b"bad \xff\xc3( utf-8", r#""bad \ufffd\ufffd( utf-8""#),
            (b"1234567\"", r#""1234567\"""#),
            (b"12345678\t", r#""12345678\t""#),
        ];
        for (given, want) in cases {
            assert_eq!(encoded(given), *want);
        }
    }

    #[test]
    fn every_single_byte_is_told_apart_at_every_place() {
        for byte in 0..=255_u8 {
            for place in 0..17 {
                let mut given = [b'x'; 17];
                given[place] = byte;
                let plain = matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
                assert_eq!(is_plain(&given), plain, "{byte:#x} at {place}");
            }
        }
    }

    #[test]
    fn numbers_have_all_their_digits() {
        for given in [0, 9, 10, 99, 100, 101, 999, 1000, 65_535, 1_000_000, u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, given);
            assert_eq!(String::from_utf8(out).unwrap(), given.to_string());
        }
    }

    proptest! {
        #[test]
        fn a_json_reader_reads_back_what_was_valid(given: String) {
            prop_assert_eq!(serde_json::from_str::<String>(&encoded(given.as_bytes())).unwrap(), given);
        }

        #[test]
        fn no_bytes_whatever_make_an_invalid_or_a_second_line(given: Vec<u8>) {
            let line = encoded(&given);
            prop_assert!(!line.chars().any(char::is_control));
            prop_assert_eq!(
                serde_json::from_str::<String>(&line).unwrap(),
                String::from_utf8_lossy(&given).into_owned()
            );
        }
    }
}
