//! Base64 of the standard alphabet (RFC 4648 §4), with padding where it is written and with or without where it is read.
//!
//! How it fails: a text that is none decodes to `None`.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The digits of `bytes`, padded.
fn digits(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.chunks(3).flat_map(|chunk| {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        [0, 1, 2, 3].map(|place| {
            // One byte makes two digits, two make three; the rest is padding.
            if place <= chunk.len() { ALPHABET[(group >> (18 - 6 * place) & 63) as usize] } else { b'=' }
        })
    })
}

/// Appends `bytes` encoded.
pub fn encode(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    out.extend(digits(bytes));
}

/// `bytes` encoded, as a text.
pub fn text(bytes: &[u8]) -> String {
    digits(bytes).map(char::from).collect()
}

/// The bytes of a text, with or without padding: gRPC's `-bin` fields have none, some libraries write it. The digits of the
/// alphabet for URLs (RFC 4648 §5) are read, too.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim().trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.chunks(4) {
        let mut bits: u32 = 0;
        for letter in group {
            let value = match letter {
                b'A'..=b'Z' => letter - b'A',
                b'a'..=b'z' => letter - b'a' + 26,
                b'0'..=b'9' => letter - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let count = match group.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        let [_, a, b, c] = (bits << (6 * (4 - group.len()))).to_be_bytes();
        out.extend_from_slice([a, b, c].get(..count)?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_rfc_are_encoded_so() {
        for (bytes, want) in [
            (b"".as_slice(), ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"fooba", "Zm9vYmE="),
            (b"foobar", "Zm9vYmFy"),
            (&[0xff, 0xef, 0xbe, 0xfb], "/++++w=="),
        ] {
            let mut out = b"before".to_vec();
            encode(&mut out, bytes);
            assert_eq!(out, ["before", want].concat().into_bytes());
            assert_eq!(text(bytes), want);
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(bytes: Vec<u8>) {
            let text = text(&bytes);
            prop_assert_eq!(decode(text.trim_end_matches('=')), Some(bytes.clone()));
            prop_assert_eq!(decode(&text), Some(bytes));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[A-Za-z0-9+/=_-]{0,60}|\\PC{0,20}") {
            let _ = decode(&text);
        }
    }
}
