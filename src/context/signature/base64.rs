//! Base64 (RFC 4648): the URL-safe alphabet without padding for what is sent, any alphabet for what people paste.
//!
//! Why our own: forty lines, and what is sent must have exactly one spelling. How it fails: text with another
//! character, with a length that no bytes have, or with bits set beyond the last byte, is no text of bytes.

/// The alphabet of RFC 4648 §5.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Marks a byte that is no digit.
const NO_DIGIT: u8 = 0xff;

/// The value of every digit.
const VALUES: [u8; 256] = {
    let mut table = [NO_DIGIT; 256];
    let mut value = 0;
    while value < DIGITS.len() {
        table[DIGITS[value] as usize] = value as u8;
        value += 1;
    }
    table
};

/// Appends `bytes` as text: four characters for three bytes, no padding.
pub(in crate::context) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    for group in bytes.chunks(3) {
        let mut bits = [0; 4];
        for (to, from) in bits[1..].iter_mut().zip(group) {
            *to = *from;
        }
        let bits = u32::from_be_bytes(bits);
        for at in 0..=group.len() {
            let digit = (bits >> (18 - 6 * at)) & 63;
            out.push(DIGITS[digit as usize]);
        }
    }
}

/// Reads text that [`encode`] wrote into the start of `out`. `None` for every other text, and when `out` is too small.
pub(in crate::context) fn decode<'o>(text: &[u8], out: &'o mut [u8]) -> Option<&'o [u8]> {
    let (mut bits, mut bit_count, mut len) = (0_u32, 0, 0);
    for byte in text {
        let digit = VALUES[usize::from(*byte)];
        if digit == NO_DIGIT {
            return None;
        }
        bits = (bits << 6) | u32::from(digit);
        bit_count += 6;
        if bit_count >= 8 {
            bit_count -= 8;
            *out.get_mut(len)? = (bits >> bit_count) as u8;
            bits &= (1 << bit_count) - 1;
            len += 1;
        }
    }
    let is_whole = bit_count < 6 && bits == 0;
    out.get(..len).filter(|_| is_whole)
}

/// Reads what a person pasted: either alphabet, with or without padding, with line breaks, or a whole PEM document.
pub(in crate::context) fn decode_pasted(text: &str) -> Option<Vec<u8>> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("-----"));
    let digits: Vec<u8> = lines
        .flat_map(str::bytes)
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => other,
        })
        .collect();
    let padding = digits.iter().rev().take_while(|byte| **byte == b'=').count();
    let digits = digits.get(..digits.len() - padding).filter(|_| padding <= 2)?;
    let mut bytes = vec![0; digits.len()];
    let len = decode(digits, &mut bytes)?.len();
    bytes.truncate(len);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        encode(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// RFC 4648 §10, without the padding.
    #[test]
    fn the_vectors_of_the_standard_hold() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("fooba", "Zm9vYmE"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encoded(bytes.as_bytes()), text);
            assert_eq!(decode(text.as_bytes(), &mut [0; 6]), Some(bytes.as_bytes()));
        }
        assert_eq!(encoded(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn one_text_for_each_value() {
        for bad in ["Z", "Zh", "Zm9", "Zg==", "Zm9v\n", "Zm+v", "Zm/v", "Zm9vY", "é"] {
            assert_eq!(decode(bad.as_bytes(), &mut [0; 8]), None, "{bad}");
        }
        assert_eq!(decode(b"Zm9v", &mut [0; 2]), None, "no room");
    }

    #[test]
    fn what_people_paste_is_read_and_nothing_is_guessed() {
        let bytes = [0xfb, 0xef, 0xff, 0x01];
        for text in ["++//AQ==", "--__AQ", " ++//\n AQ==\n", "-----BEGIN X-----\n++//AQ==\n-----END X-----\n"]
        {
            assert_eq!(decode_pasted(text).as_deref(), Some(&bytes[..]), "{text:?}");
        }
        for bad in ["AQ===", "A=Q", "A", "AQ!", "\u{e9}"] {
            assert_eq!(decode_pasted(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..70)) {
            let mut out = [0; 70];
            prop_assert_eq!(decode(encoded(&bytes).as_bytes(), &mut out), Some(&bytes[..]));
        }

        #[test]
        fn what_is_read_is_written_the_same(text in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut out = [0; 12];
            if let Some(bytes) = decode(&text, &mut out) {
                prop_assert_eq!(encoded(bytes).into_bytes(), text);
            }
        }
    }
}
