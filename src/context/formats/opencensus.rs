//! OpenCensus' `grpc-trace-bin`: a version and numbered fields, in base64,
//! <https://github.com/census-instrumentation/opencensus-specs/blob/master/encodings/BinaryEncoding.md>.
//!
//! Version 0: `0` and 16 bytes of trace id, `1` and 8 bytes of span id, `2` and a byte of options, of which the lowest
//! bit is sampled. The fields may come in any order; reading ends at the first unknown one. gRPC writes base64 without
//! padding and must accept both.
//!
//! The specification says that a clear bit decides nothing. OpenCensus' libraries write it for "not recorded" and
//! OpenTelemetry's read it so, and so does this; only a missing field leaves the decision open.

use super::{Foreign, Outgoing, Reading, Sampling, digits};

/// The most bytes that are read: the three fields are 29, the rest is room for later ones.
const BYTES_MAX: usize = 96;
/// The same in base64.
const DIGITS_MAX: usize = BYTES_MAX / 3 * 4;

const TRACE_ID: u8 = 0;
const SPAN_ID: u8 = 1;
const OPTIONS: u8 = 2;

/// Reads the header.
pub(super) fn read(value: &[u8]) -> Option<Reading> {
    let mut bytes = [0; BYTES_MAX];
    let [0, fields @ ..] = decode(value, &mut bytes)? else { return None };
    let (mut trace_id, mut span_id, mut options) = (None, None, None);
    let mut rest = fields;
    loop {
        let is_repeated;
        (rest, is_repeated) = match rest {
            [TRACE_ID, rest @ ..] => {
                let (id, rest) = rest.split_first_chunk::<16>()?;
                (rest, trace_id.replace(*id).is_some())
            }
            [SPAN_ID, rest @ ..] => {
                let (id, rest) = rest.split_first_chunk::<8>()?;
                (rest, span_id.replace(*id).is_some())
            }
            [OPTIONS, rest @ ..] => {
                let (byte, rest) = rest.split_first()?;
                (rest, options.replace(*byte).is_some())
            }
            _ => break,
        };
        if is_repeated {
            return None;
        }
    }
    let (left, right) = digits::halves(&trace_id?);
    let parent_id = match span_id {
        Some(id) => Some(digits::span_id(u64::from_be_bytes(id))?),
        None => None,
    };
    let sampling = options.map_or(Sampling::Defer, |byte| Sampling::of(byte & 1 != 0));
    Some(Reading::Valid(Foreign { trace_id: digits::trace_id(left, right)?, parent_id, sampling }))
}

/// Writes the header's value.
pub(super) fn write(outgoing: &Outgoing, out: &mut Vec<u8>) {
    let mut bytes = [0; 29];
    bytes[1] = TRACE_ID;
    bytes[2..18].copy_from_slice(&outgoing.trace.trace_id);
    bytes[18] = SPAN_ID;
    bytes[19..27].copy_from_slice(&outgoing.trace.parent_id);
    bytes[27] = OPTIONS;
    bytes[28] = u8::from(outgoing.is_sampled());
    encode(&bytes, out);
}

/// The digits of base64 (RFC 4648 §4).
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

const NO_DIGIT: u8 = 0xff;

/// The value of every digit of base64.
const DIGITS: [u8; 256] = {
    let mut table = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 64 {
        table[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    table
};

/// Decodes base64 with or without its padding.
fn decode<'a>(text: &[u8], out: &'a mut [u8; BYTES_MAX]) -> Option<&'a [u8]> {
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    if text.len() > DIGITS_MAX || text.len() % 4 == 1 {
        return None;
    }
    let mut len = 0;
    for group in text.chunks(4) {
        let mut bits = 0_u32;
        for byte in group {
            let digit = DIGITS[usize::from(*byte)];
            if digit == NO_DIGIT {
                return None;
            }
            bits = bits << 6 | u32::from(digit);
        }
        bits <<= 6 * (4 - group.len());
        let [_, bytes @ ..] = bits.to_be_bytes();
        for byte in bytes.iter().take(group.len() - 1) {
            *out.get_mut(len)? = *byte;
            len += 1;
        }
    }
    out.get(..len)
}

/// Appends base64 without padding, as gRPC asks.
fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    for group in bytes.chunks(3) {
        let mut bits = 0_u32;
        for at in 0..3 {
            bits = bits << 8 | u32::from(group.get(at).copied().unwrap_or(0));
        }
        for at in 0..=group.len() {
            out.push(ALPHABET[(bits >> (18 - 6 * at)) as usize & 63]);
        }
    }
}
