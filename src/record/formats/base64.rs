//! Base64 (RFC 4648 §4) as JSON documents have it; what is read may be without padding or of the URL-safe alphabet.

use crate::svc::base64;

/// With padding.
pub(super) fn encode(bytes: &[u8]) -> String {
    base64::text(bytes)
}

/// `None` if it is not Base64. Line ends and spaces are passed over, as in files that people wrapped.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.split(['\r', '\n', ' ', '\t']).collect();
    if digits.contains(char::is_whitespace) { None } else { base64::decode(&digits) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_rfc() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).unwrap(), bytes.as_bytes());
            assert_eq!(decode(text.trim_end_matches('=')).unwrap(), bytes.as_bytes());
        }
        assert_eq!(decode("/+-_"), decode("/++/"));
        for wrong in ["Z", "Zg==Zg==", "Zm9v!", "ä"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(bytes: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = decode(&text);
        }
    }
}
