//! Looks at eight bytes at once: for texts that are too short for a vectorised search, and too many for a loop over bytes.
//!
//! What asks for one of two bytes takes them as one number ("Bit Twiddling Hacks", S. E. Anderson: determine if a word has a
//! byte equal to n; exact as a test of the whole word); what asks for one of many has a table.

/// A byte in each of eight places.
const fn splat(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// Not zero when a byte is zero.
const fn has_zero(word: u64) -> u64 {
    word.wrapping_sub(splat(1)) & !word & splat(0x80)
}

/// Not zero when a byte is `byte`.
const fn has(word: u64, byte: u8) -> u64 {
    has_zero(word ^ splat(byte))
}

/// Whether every byte is visible ASCII without comma, semicolon, quotes and backslash. Nearly every text is one to its end, so
/// nothing is gained by stopping early.
pub(super) fn are_words(text: &[u8]) -> bool {
    let (chunks, rest) = text.as_chunks::<8>();
    let is_word = |so_far: bool, byte: &u8| so_far & WORD[usize::from(*byte)];
    chunks.iter().all(|chunk| chunk.iter().fold(true, is_word)) && rest.iter().fold(true, is_word)
}

/// Which bytes [`are_words`] takes.
const WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte <= 0x7e {
        table[byte] = !matches!(byte as u8, b',' | b';' | b'"' | b'\'' | b'\\');
        byte += 1;
    }
    table
};

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
