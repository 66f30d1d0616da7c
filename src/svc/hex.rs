//! Hexadecimal digits of bytes of any length, for what is written seldom: digests, signatures, random numbers.

use std::fmt::Write;

/// Two lowercase digits for each byte.
pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_byte_has_two_digits() {
        assert_eq!(super::encode(&[0, 9, 0x1f, 0xff]), "00091fff");
        assert_eq!(super::encode(&[]), "");
    }
}
