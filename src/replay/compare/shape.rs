//! What a value looks like: made by a program for this one exchange (an id, a token, a time), or said by somebody.
//!
//! Why: without a second answer of the same version nobody can tell noise from a regression, but an id that differs is
//! told apart by its shape; and [`super::super::session`] learns only what was generated, so that a word which happens
//! to be in a request is not replaced. How it fails: a guess, on the careful side: a word without digits is never
//! generated.

/// Shorter values are not told apart from counts and words.
pub const GENERATED_BYTES_MIN: usize = 4;
/// An integer with fewer digits is more likely an amount than an id or a time.
const INTEGER_DIGITS_MIN: usize = 7;

/// Whether a text looks like an id, a token or a time.
pub fn is_generated(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() < GENERATED_BYTES_MIN || bytes.iter().any(|b| *b < b' ') {
        return false;
    }
    let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
    if is_time(text) {
        return true;
    }
    if bytes.contains(&b' ') || digits == 0 {
        // Base64 of random bytes has digits in 99.9 % of 40 letters; what has none but is long and mixed is a token too.
        let lower = bytes.iter().filter(|b| b.is_ascii_lowercase()).count();
        let upper = bytes.iter().filter(|b| b.is_ascii_uppercase()).count();
        return !bytes.contains(&b' ') && bytes.len() >= 20 && lower >= 4 && upper >= 4;
    }
    if digits == bytes.len() {
        return digits >= GENERATED_BYTES_MIN;
    }
    let is_number = text.parse::<f64>().is_ok();
    let has_letters = bytes.iter().any(u8::is_ascii_alphabetic);
    !is_number && (has_letters || bytes.len() >= 8)
}

/// Whether an integer looks like an id or a time, where `name` is what it is called.
pub fn is_generated_integer(digits: &str, name: &str) -> bool {
    let plain = digits.trim_start_matches('-');
    plain.bytes().all(|b| b.is_ascii_digit())
        && (plain.len() >= INTEGER_DIGITS_MIN || plain.len() >= GENERATED_BYTES_MIN && is_id_name(name))
}

/// Whether a field of this name holds an id, a token or a time.
pub fn is_id_name(name: &str) -> bool {
    const ENDS: [&str; 14] = [
        "id",
        "ids",
        "uuid",
        "guid",
        "key",
        "token",
        "nonce",
        "ref",
        "reference",
        "number",
        "seq",
        "version",
        "cursor",
        "etag",
    ];
    let lower = name.to_ascii_lowercase();
    ENDS.iter().any(|end| {
        lower.strip_suffix(end).is_some_and(|rest| {
            // `orderId`, `order_id`, `id`; not `paid`, `bid`.
            let at = rest.len();
            rest.is_empty()
                || rest.ends_with(['_', '-', '.'])
                || name.as_bytes().get(at).is_some_and(u8::is_ascii_uppercase)
        })
    })
}

/// An RFC 3339 time or date, or an HTTP date.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mark = |at: usize, mark: u8| bytes.get(at) == Some(&mark);
    let is_rfc3339 =
        (0..4).all(digit) && mark(4, b'-') && digit(5) && digit(6) && mark(7, b'-') && digit(8) && digit(9);
    is_rfc3339 || text.ends_with(" GMT") && mark(3, b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tokens_and_times_are_generated_words_and_amounts_are_not() {
        for yes in [
            "7f9c24e8",
            "0b1f3d52-44a6-4be2-9a7e-5b8ad10a1a55",
            "ord_8fk2",
            "1042",
            "2026-11-23T20:17:16Z",
            "Mon, 23 Nov 2026 20:16:48 GMT",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln",
            "aGVsbG9XT1JMRGhlbGxvV09STEQ",
        ] {
            assert!(is_generated(yes), "{yes}");
        }
        for no in ["", "abc", "12", "pending", "shipped in two days", "12.50", "1e9", "Content-Type", "a b 3"]
        {
            assert!(!is_generated(no), "{no}");
        }
        for (digits, name, is) in [
            ("1042", "id", true),
            ("1042", "orderId", true),
            ("1042", "order_id", true),
            ("1042", "paid", false),
            ("1042", "price", false),
            ("12", "id", false),
            ("1795464000", "price", true),
            ("-1", "id", false),
        ] {
            assert_eq!(is_generated_integer(digits, name), is, "{name} {digits}");
        }
    }
}
