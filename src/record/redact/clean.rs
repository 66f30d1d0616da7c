//! Content that was found to have nothing in it, so that it is not looked through again: answers are often the same.
//!
//! A direct-mapped cache by XXH3. Content is kept from its second time on, and compared byte by byte: that a sum is the same
//! proves nothing to somebody who wants a secret to pass. Memory is bounded by [`SLOTS`] times [`BYTES_MAX`].

use twox_hash::XxHash3_64;

const SLOTS: usize = 64;
/// Below, looking is as fast.
const BYTES_MIN: usize = 128;
const BYTES_MAX: usize = 8 << 10;

/// See the module.
pub(super) struct Clean {
    slots: Vec<Slot>,
}

#[derive(Clone, Default)]
struct Slot {
    key: u64,
    content: Vec<u8>,
}

impl Clean {
    pub(super) fn new() -> Clean {
        Clean { slots: vec![Slot::default(); SLOTS] }
    }

    /// Whether nothing was in this content, or asks `has_nothing`.
    pub(super) fn or_ask(&mut self, content: &[u8], has_nothing: impl FnOnce() -> bool) -> bool {
        if !(BYTES_MIN..=BYTES_MAX).contains(&content.len()) {
            return has_nothing();
        }
        let key = XxHash3_64::oneshot(content);
        let Some(slot) = self.slots.get_mut(key as usize % SLOTS) else { return has_nothing() };
        if slot.key == key && slot.content == content {
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
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_nothing_twice_is_not_asked_about_and_nothing_else_is_taken_for_it() {
        let mut clean = Clean::new();
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
        // Of the same sum, but something else: it is looked at, and what it says holds.
        let key = XxHash3_64::oneshot(&content);
        clean.slots[key as usize % SLOTS].content[3] ^= 1;
        assert!(!clean.or_ask(&content, || false));
        assert!(!clean.or_ask(&content, || false), "what had something is never kept");
        for len in [0, BYTES_MIN - 1, BYTES_MAX + 1] {
            assert!(!clean.or_ask(&vec![7; len], || false) && clean.or_ask(&vec![7; len], || true));
            assert!(!clean.or_ask(&vec![7; len], || false));
        }
    }
}
