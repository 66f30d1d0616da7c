//! Looks at eight bytes at once: for texts that are too short for a vectorised search, and too many for a loop over bytes.
//!
//! The tests on a word of eight bytes are the classic ones ("Bit Twiddling Hacks", S. E. Anderson: determine if a word has a
//! zero byte, a byte equal to n, a byte less than n); each is exact as a test of the whole word.

/// A byte in each of eight places.
const fn splat(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

const HIGH: u64 = splat(0x80);

/// Not zero when a byte is zero.
const fn has_zero(word: u64) -> u64 {
    word.wrapping_sub(splat(1)) & !word & HIGH
}

/// Not zero when a byte is `byte`.
const fn has(word: u64, byte: u8) -> u64 {
    has_zero(word ^ splat(byte))
}

/// Not zero when a byte is less than `least`, which is at most 128.
const fn has_below(word: u64, least: u8) -> u64 {
    word.wrapping_sub(splat(least)) & !word & HIGH
}

/// Whether every byte is visible ASCII without comma, semicolon, quotes and backslash.
pub(super) fn are_words(text: &[u8]) -> bool {
    let (chunks, rest) = text.as_chunks::<8>();
    let is_refused = |word: u64| {
        let outside = (word & HIGH) | has_below(word, 0x21) | has(word, 0x7f);
        let separators = has(word, b',') | has(word, b';') | has(word, b'"') | has(word, b'\'');
        (outside | separators | has(word, b'\\')) != 0
    };
    !chunks.iter().any(|chunk| is_refused(u64::from_le_bytes(*chunk)))
        && rest
            .iter()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b',' | b';' | b'"' | b'\'' | b'\\'))
}

/// Whether a byte is `%` or `+`.
pub(super) fn has_escapes(text: &[u8]) -> bool {
    let (chunks, rest) = text.as_chunks::<8>();
    let is_found = |word: u64| (has(word, b'%') | has(word, b'+')) != 0;
    chunks.iter().any(|chunk| is_found(u64::from_le_bytes(*chunk)))
        || rest.iter().any(|byte| matches!(byte, b'%' | b'+'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_word(byte: u8) -> bool {
        byte.is_ascii_graphic() && !b",;\"'\\".contains(&byte)
    }

    #[test]
    fn every_byte_is_judged_alone_wherever_it_is() {
        for byte in 0..=u8::MAX {
            for (len, at) in (1..20).flat_map(|len| (0..len).map(move |at| (len, at))) {
                for around in [b'a', b'!', b'~'] {
                    let mut text = vec![around; len];
                    text[at] = byte;
                    assert_eq!(are_words(&text), is_word(byte), "{byte:#x} at {at} of {len}");
                    assert_eq!(has_escapes(&text), matches!(byte, b'%' | b'+'), "{byte:#x} at {at} of {len}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn as_one_byte_after_the_other(text in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(are_words(&text), text.iter().copied().all(is_word));
            prop_assert_eq!(has_escapes(&text), text.iter().any(|byte| matches!(byte, b'%' | b'+')));
        }

        #[test]
        fn also_near_the_borders(text in prop::collection::vec(prop_oneof![0x1f..0x24_u8, 0x7c..0x82_u8, Just(b'%'), Just(b'a')], 0..40)) {
            prop_assert_eq!(are_words(&text), text.iter().copied().all(is_word));
            prop_assert_eq!(has_escapes(&text), text.iter().any(|byte| matches!(byte, b'%' | b'+')));
        }
    }
}
