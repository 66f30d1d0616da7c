//! Content that was found to have nothing in it, so that it is not looked through, and not summed, again: answers are often
//! the same.
//!
//! A direct-mapped cache by some of its bytes. Content is kept from its second time on, and compared byte by byte: that a key
//! is the same proves nothing to somebody who wants a secret to pass. Memory is bounded by [`SLOTS`] times [`BYTES_MAX`].

use twox_hash::XxHash3_64;

const SLOTS: usize = 64;
/// Below, looking is as fast.
const BYTES_MIN: usize = 128;
const BYTES_MAX: usize = 8 << 10;
/// How many words of content make its key.
const SAMPLES: usize = 5;

/// See the module.
pub(super) struct Clean {
    slots: Vec<Slot>,
    seed: u64,
}

#[derive(Clone, Default)]
struct Slot {
    key: u64,
    content: Vec<u8>,
    /// Its sum.
    sum: u64,
}

/// Mixes the length and words from the beginning to the end.
#[inline]
fn key(content: &[u8]) -> u64 {
    let step = content.len().saturating_sub(8) / (SAMPLES - 1);
    (0..SAMPLES).fold(content.len() as u64 + 1, |key, index| {
        let word = content.get(index * step..).and_then(|rest| rest.first_chunk::<8>());
        let word = word.map_or(0, |word| u64::from_le_bytes(*word));
        (key.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

#[inline]
fn slot(key: u64) -> usize {
    (key >> 48) as usize % SLOTS
}

impl Clean {
    /// With what seeds the sums of content.
    pub(super) fn new(seed: u64) -> Clean {
        Clean { slots: vec![Slot::default(); SLOTS], seed }
    }

    /// The sum of this content, if nothing was in it.
    #[inline]
    pub(super) fn sum(&self, content: &[u8]) -> Option<u64> {
        if content.len() < BYTES_MIN {
            return None;
        }
        let slot = self.slots.get(slot(key(content)))?;
        (slot.content == content).then_some(slot.sum)
    }

    /// Whether nothing was in this content, or asks `has_nothing`.
    pub(super) fn or_ask(&mut self, content: &[u8], has_nothing: impl FnOnce() -> bool) -> bool {
        if !(BYTES_MIN..=BYTES_MAX).contains(&content.len()) {
            return has_nothing();
        }
        let key = key(content);
        let Some(slot) = self.slots.get_mut(slot(key)) else { return has_nothing() };
        if slot.content == content {
            return true;
        }
        let is_second = slot.key == key;
        slot.content.clear();
        slot.key = 0;
        if !has_nothing() {
            return false;
        }
        slot.key = key;
        if is_second {
            slot.content.extend_from_slice(content);
            slot.sum = XxHash3_64::oneshot_with_seed(self.seed, content);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_nothing_twice_is_not_asked_about_and_nothing_else_is_taken_for_it() {
        let mut clean = Clean::new(9);
        let content = vec![7; 1024];
        let mut asked = 0;
        for _ in 0..5 {
            let mut ask = || {
                asked += 1;
                true
            };
            assert!(clean.or_ask(&content, &mut ask));
        }
        assert_eq!(asked, 2);
        assert_eq!(clean.sum(&content), Some(XxHash3_64::oneshot_with_seed(9, &content)));
        // Of the same key, but something else: it is looked at, and what it says holds.
        let mut other = content.clone();
        other[10] ^= 1;
        assert_eq!(key(&other), key(&content));
        assert_eq!(clean.sum(&other), None);
        for _ in 0..5 {
            assert!(!clean.or_ask(&other, || false), "what had something is never kept");
        }
        assert_eq!(clean.sum(&other), None);
        for len in [0, BYTES_MIN - 1, BYTES_MAX + 1] {
            assert!(!clean.or_ask(&vec![7; len], || false) && clean.or_ask(&vec![7; len], || true));
            assert!(!clean.or_ask(&vec![7; len], || false));
        }
    }
}
