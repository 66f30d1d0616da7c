//! base64url without padding (RFC 4648 §5), as JSON Web Tokens have it (RFC 7515 §2).

use crate::svc::base64;

pub(super) fn encode(bytes: &[u8]) -> String {
    base64::text(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

/// Of this alphabet alone.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.bytes().all(is_digit).then(|| base64::decode(text))?
}
