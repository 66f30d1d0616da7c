//! Payment card numbers: 13 to 19 digits, in groups or not, of a range that a network issues, with a right check digit.
//!
//! Ranges: Visa, Mastercard, American Express, Discover, Diners Club, JCB, UnionPay, Maestro, Mir, RuPay, as ISO/IEC 7812
//! gives them to networks (<https://en.wikipedia.org/wiki/Payment_card_number>). Times in milliseconds and nanoseconds begin
//! with 1 and are of no range; a UUID's groups touch letters or are too many; of other numbers of 16 digits that begin like a
//! card one in ten has a right check digit by chance, and is taken for one.

use std::ops::Range;

/// The longest run that is looked at: 19 digits with a `%20` after every fourth, and what may stand before.
const RUN_BYTES_MAX: usize = 96;

/// A card number, and where to go on.
pub(super) type Found = (Option<Range<usize>>, usize);

/// Whether the last digit is the check digit of the others (ISO/IEC 7812-1, Luhn).
pub(super) fn is_luhn(digits: &[u8]) -> bool {
    let sum = digits.iter().rev().enumerate().fold(0, |sum: u32, (index, byte)| {
        let digit = u32::from(byte.wrapping_sub(b'0'));
        sum + match (index % 2, digit) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit * 2 - 9,
            (_, digit) => digit * 2,
        }
    });
    (13..=19).contains(&digits.len()) && sum.is_multiple_of(10)
}

/// Whether a network issues cards that begin like this and are this long.
fn is_issued(digits: &[u8]) -> bool {
    let head = digits.iter().take(6).fold(0, |head, byte| head * 10 + u32::from(byte.wrapping_sub(b'0')));
    let len = digits.len();
    match head {
        400_000..=499_999 => matches!(len, 13 | 16 | 18 | 19),
        510_000..=559_999 | 222_100..=272_099 => len == 16,
        340_000..=349_999 | 370_000..=379_999 => len == 15,
        601_100..=601_199 | 644_000..=659_999 => (16..=19).contains(&len),
        620_000..=629_999 | 810_000..=829_999 => (16..=19).contains(&len),
        300_000..=305_999 | 309_500..=309_599 | 360_000..=369_999 | 380_000..=399_999 => {
            (14..=19).contains(&len)
        }
        352_800..=358_999 => (16..=19).contains(&len),
        220_000..=220_499 => (16..=19).contains(&len),
        600_000..=600_999 | 603_000..=608_999 | 508_000..=508_999 => len == 16,
        500_000..=507_999 | 509_000..=509_999 | 560_000..=589_999 | 630_000..=639_999 | 670_000..=679_999 => {
            (13..=19).contains(&len)
        }
        979_200..=979_299 => len == 16,
        _ => false,
    }
}

/// The card number in the run of digits around `at`, if there is one.
pub(super) fn around(bytes: &[u8], at: usize) -> Found {
    let mut start = at;
    while start > 0 && at - start < RUN_BYTES_MAX && bytes.get(start - 1).is_some_and(|byte| is_of_run(*byte))
    {
        start -= 1;
    }
    from(bytes, start)
}

fn is_of_run(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b' ' | b'-' | b'+' | b'%')
}

/// Length of the separator at the beginning of `bytes`; 0: there is none.
fn separator(bytes: &[u8]) -> usize {
    match bytes {
        [b' ' | b'-' | b'+', ..] => 1,
        [b'%', b'2', b'0' | b'D' | b'd' | b'B' | b'b', ..] => 3,
        _ => 0,
    }
}

/// The next card number of the run that begins at `start`, and where to go on.
pub(super) fn from(bytes: &[u8], start: usize) -> Found {
    let mut groups = [(0usize, 0usize); 24]; // where, how many digits
    let mut count = 0;
    let mut at = start;
    // What is no digit comes before the first group.
    while bytes.get(at).is_some_and(|byte| is_of_run(*byte) && !byte.is_ascii_digit()) {
        at += match bytes.get(at..at + 3) {
            Some([b'%', a, b]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => 3,
            _ => 1,
        };
    }
    loop {
        let begin = at;
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        if at == begin {
            break;
        }
        let Some(slot) = groups.get_mut(count) else { break };
        *slot = (begin, at - begin);
        count += 1;
        let skip = separator(bytes.get(at..).unwrap_or_default());
        if skip == 0 || !bytes.get(at + skip).is_some_and(u8::is_ascii_digit) {
            break;
        }
        at += skip;
    }
    let groups = groups.get(..count).unwrap_or_default();
    for (index, (begin, _)) in groups.iter().enumerate() {
        // In binary content the length may stand before it, and a tag that looks like a digit behind it.
        let len =
            begin.checked_sub(1).and_then(|before| bytes.get(before)).map_or(0, |len| usize::from(*len));
        for limit in [usize::MAX, begin + len] {
            if (limit == usize::MAX || (13..usize::from(b' ')).contains(&len))
                && let Some(card) = first_of(bytes, groups.get(index..).unwrap_or_default(), limit)
            {
                return (Some(card.clone()), card.end);
            }
        }
    }
    (None, at.max(start + 1))
}

/// The card number that begins with the first group and ends with one of them, or at `limit`.
fn first_of(bytes: &[u8], groups: &[(usize, usize)], limit: usize) -> Option<Range<usize>> {
    let begin = groups.first()?.0;
    let mut digits = [0u8; 19];
    let mut len = 0;
    for (index, (group, size)) in groups.iter().enumerate() {
        let size = (*size).min(limit.saturating_sub(*group));
        let slots = digits.get_mut(len..len + size)?;
        slots.copy_from_slice(bytes.get(*group..group + size)?);
        len += size;
        let card = digits.get(..len)?;
        if len >= 13 && is_issued(card) && is_luhn(card) && is_apart(bytes, begin..group + size) {
            return Some(begin..group + size);
        }
        if size < 4 || index == 0 && size > 6 && size < 13 {
            return None; // no group but the last is shorter than four
        }
    }
    None
}

/// Whether a number is not a part of something longer: a word, a UUID, a decimal fraction.
fn is_apart(bytes: &[u8], range: Range<usize>) -> bool {
    let before = bytes.get(range.start.saturating_sub(3)..range.start).unwrap_or_default();
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let is_free_before = match before {
        [b'%', a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => true,
        [.., b'\\', b'n' | b'r' | b't'] => true,
        [.., word, b'-' | b'.'] => !is_word(word),
        [.., last] => !is_word(last),
        [] => true,
    };
    let is_free_after = match bytes.get(range.end..).unwrap_or_default() {
        [b'-' | b'.', word, ..] => !is_word(word),
        [first, ..] => !is_word(first),
        [] => true,
    };
    is_free_before && (is_free_after || is_framed(bytes, &range))
}

/// Whether the byte before is the length of just this, as in Protocol Buffers and MessagePack: what follows is another
/// field then, not more of this one.
pub(super) fn is_framed(bytes: &[u8], range: &Range<usize>) -> bool {
    let before = range.start.checked_sub(1).and_then(|at| bytes.get(at));
    before.is_some_and(|before| usize::from(*before) == range.len() && *before < b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<&str> {
        let mut at = 0;
        while at < text.len() {
            let (card, next) = from(text.as_bytes(), at);
            if let Some(card) = card {
                return text.get(card);
            }
            at = next;
        }
        None
    }

    #[test]
    fn cards_are_found_and_other_numbers_are_not() {
        for (text, card) in [
            ("4111111111111111", "4111111111111111"),
            ("card: 4111 1111 1111 1111 12/29", "4111 1111 1111 1111"),
            ("x=4111-1111-1111-1111;", "4111-1111-1111-1111"),
            ("n=4111+1111+1111+1111", "4111+1111+1111+1111"),
            ("n=4111%201111%201111%201111&", "4111%201111%201111%201111"),
            ("n%3A4111111111111111", "4111111111111111"),
            ("3782 822463 10005", "3782 822463 10005"),
            ("378282246310005", "378282246310005"),
            ("6011111111111117", "6011111111111117"),
            ("5555555555554444", "5555555555554444"),
            ("30569309025904", "30569309025904"),
            ("3530111333300000", "3530111333300000"),
            ("4222222222222", "4222222222222"),
            ("2223003122003222", "2223003122003222"),
            ("[4111111111111111,1]", "4111111111111111"),
        ] {
            assert_eq!(found(text), Some(card), "{text}");
        }
        for text in [
            "4111111111111112",
            "1795392000123",
            "1795392000123456789",
            "2026-11-23 10:00:00",
            "550e8400-e29b-4111-1111-111111111111",
            "a4111111111111111",
            "4111111111111111f",
            "0.4111111111111111",
            "41111111111111111111",
            "1000000000000000",
            "                    ",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
