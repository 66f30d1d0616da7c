//! Ids as text, in hex of any length up to their width and in decimal; and booleans.

use crate::context::ids;

/// The left and the right half of a trace id, as numbers.
pub(super) fn halves(id: &[u8; 16]) -> (u64, u64) {
    let id = u128::from_be_bytes(*id);
    ((id >> 64) as u64, id as u64)
}

/// The trace id of these halves; `None` when both are zero.
pub(super) fn trace_id(left: u64, right: u64) -> Option<[u8; 16]> {
    let id = u128::from(left) << 64 | u128::from(right);
    (id != 0).then(|| id.to_be_bytes())
}

/// The span id of this number; `None` for zero.
pub(super) fn span_id(number: u64) -> Option<[u8; 8]> {
    (number != 0).then(|| number.to_be_bytes())
}

/// A trace id of 1 to 32 hex digits, with zeros before them; `None` for zero.
pub(super) fn hex_trace_id(text: &[u8]) -> Option<[u8; 16]> {
    match text.len().checked_sub(16) {
        None | Some(0) => trace_id(0, hex(text)?),
        Some(left) => {
            let (left, right) = text.split_at_checked(left)?;
            trace_id(hex(left)?, hex(right)?)
        }
    }
}

/// A span id of 1 to 16 hex digits, with zeros before them; `None` for zero.
pub(super) fn hex_span_id(text: &[u8]) -> Option<[u8; 8]> {
    span_id(hex(text)?)
}

/// The number of 1 to 16 hex digits in any case.
pub(super) fn hex(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    let (mut number, mut seen) = (0, 0);
    for byte in text {
        let digit = DIGITS[usize::from(*byte)];
        seen |= digit;
        number = number << 4 | u64::from(digit & 15);
    }
    (seen != NOT_HEX).then_some(number)
}

/// Marks a byte that is no hex digit: what was seen has all bits set exactly when one was among it.
const NOT_HEX: u8 = 0xff;

/// The value of every hex digit, in both cases.
const DIGITS: [u8; 256] = {
    let mut table = [NOT_HEX; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value] as usize] = value as u8;
        table[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    table
};

/// The most digits of a 64-bit number.
const DECIMAL_DIGITS_MAX: usize = 20;

/// The number of 1 to 20 decimal digits; `None` when it needs more than 64 bits.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > DECIMAL_DIGITS_MAX {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Appends a number in decimal.
pub(super) fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; DECIMAL_DIGITS_MAX];
    let mut start = DECIMAL_DIGITS_MAX;
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (number % 10) as u8;
        start = at;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

/// Appends a trace id in hex: 16 digits when it has 64 bits, else 32. Receivers that know 64 bits only would refuse the
/// zeros, those that know 128 add them.
pub(super) fn push_trace_id(out: &mut Vec<u8>, id: &[u8; 16]) {
    match halves(id) {
        (0, right) => out.extend_from_slice(&ids::span_id_hex(&right.to_be_bytes())),
        _ => out.extend_from_slice(&ids::trace_id_hex(id)),
    }
}

/// Appends the 16 hex digits of a span id.
pub(super) fn push_span_id(out: &mut Vec<u8>, id: &[u8; 8]) {
    out.extend_from_slice(&ids::span_id_hex(id));
}

/// `1`, `0`, or `true` and `false` in any case.
pub(super) fn boolean(text: &[u8]) -> Option<bool> {
    match text {
        b"1" => Some(true),
        b"0" => Some(false),
        _ if text.eq_ignore_ascii_case(b"true") => Some(true),
        _ if text.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}
