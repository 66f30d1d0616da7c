//! Buckets by key, in bounded memory.
//!
//! A key is a hash (see [`super::Key`]), so a bucket takes less than 100 bytes whatever the values are. Buckets lie in
//! a few parts, each with its own lock, which is held for one look-up. When a part is full, a new key makes it look at
//! the next few buckets in turn, and take the place of one that is full again, which is no different from a new one: the
//! work for a request is bounded, and there is no sweep. Nothing that still counts is ever forgotten, unlike in a cache of
//! recent keys, where whoever makes enough keys resets everybody's limit.

use super::bucket::Bucket;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// How many buckets each part has at least, if there are several: then their shares differ little.
const PART_BUCKETS_MIN: usize = 1024;
/// Most parts. Workers are few, and hold a lock for some 50 ns.
const PARTS_MAX: usize = 16;
/// How many buckets a new key looks at, when there is no room.
const LOOKED_AT: usize = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Buckets {
    parts: Box<[Mutex<Part>]>,
    part_buckets_max: usize,
}

#[derive(Debug, Default)]
struct Part {
    /// Where in `slots` the bucket of a key is.
    index: HashMap<u64, u32, foldhash::fast::RandomState>,
    slots: Vec<Slot>,
    /// The slot to look at next.
    hand: usize,
}

#[derive(Debug)]
struct Slot {
    key: u64,
    bucket: Bucket,
}

impl Buckets {
    /// Room for at most `buckets_max` buckets. Full parts are noticed one by one, so with several thousand buckets new
    /// keys may find no room when a few percent are left elsewhere.
    pub(super) fn new(buckets_max: usize) -> Buckets {
        let buckets_max = buckets_max.clamp(1, u32::MAX as usize);
        let parts = (buckets_max / PART_BUCKETS_MIN).clamp(1, PARTS_MAX);
        Buckets {
            parts: (0..parts).map(|_| Mutex::default()).collect(),
            part_buckets_max: buckets_max / parts,
        }
    }

    /// Asks the bucket of `key`, a new one if it has none; `None` when there is no room for a new one.
    #[inline]
    pub(super) fn with<T>(&self, key: u64, now_ns: u64, ask: impl FnOnce(&Bucket) -> T) -> Option<T> {
        let mut part = self.part(key)?.lock().unwrap_or_else(PoisonError::into_inner);
        part.find_or_make(key, now_ns, self.part_buckets_max).map(ask)
    }

    /// Asks the bucket of `key`, if it has one.
    pub(super) fn look<T>(&self, key: u64, ask: impl FnOnce(&Bucket) -> T) -> Option<T> {
        let part = self.part(key)?.lock().unwrap_or_else(PoisonError::into_inner);
        part.find(key).map(ask)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).slots.len()).sum()
    }

    fn part(&self, key: u64) -> Option<&Mutex<Part>> {
        // The high half, as a fraction of all parts.
        let at = ((key >> 32) * self.parts.len() as u64) >> 32;
        self.parts.get(at as usize)
    }
}

impl Part {
    fn find(&self, key: u64) -> Option<&Bucket> {
        let at = *self.index.get(&key)?;
        self.slots.get(at as usize).map(|slot| &slot.bucket)
    }

    fn find_or_make(&mut self, key: u64, now_ns: u64, buckets_max: usize) -> Option<&Bucket> {
        let at = match self.index.get(&key) {
            Some(at) => *at,
            None => {
                let at = if self.slots.len() < buckets_max {
                    self.slots.push(Slot { key, bucket: Bucket::default() });
                    self.slots.len() - 1
                } else {
                    self.reuse(key, now_ns)?
                };
                let at = u32::try_from(at).ok()?;
                self.index.insert(key, at);
                at
            }
        };
        self.slots.get(at as usize).map(|slot| &slot.bucket)
    }

    /// Gives `key` the place of the next bucket that is full again, if one of the next few is. What is behind the hand was
    /// looked at or given away latest, so the hand comes to the oldest first.
    fn reuse(&mut self, key: u64, now_ns: u64) -> Option<usize> {
        for _ in 0..LOOKED_AT.min(self.slots.len()) {
            let at = if self.hand < self.slots.len() { self.hand } else { 0 };
            self.hand = at + 1;
            let slot = self.slots.get_mut(at)?;
            if slot.bucket.full_ns() <= now_ns {
                let gone = std::mem::replace(slot, Slot { key, bucket: Bucket::default() });
                self.index.remove(&gone.key);
                return Some(at);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::Quota;
    use std::num::NonZeroU32;
    use std::time::Duration;

    /// One request in each second.
    fn take(bucket: &Bucket, now_s: u64) -> bool {
        let quota = Quota::with_period(Duration::from_secs(1)).unwrap().allow_burst(NonZeroU32::MIN);
        bucket.take(quota, now_s * 1_000_000_000).is_ok()
    }

    fn ask(buckets: &Buckets, key: u64, now_s: u64) -> Option<bool> {
        buckets.with(key, now_s * 1_000_000_000, |bucket| take(bucket, now_s))
    }

    #[test]
    fn buckets_that_are_full_again_make_room_and_others_do_not() {
        let buckets = Buckets::new(4);
        for key in 0..4 {
            assert_eq!(ask(&buckets, key, 10), Some(true));
        }
        assert_eq!(ask(&buckets, 4, 10), None, "no room");
        assert_eq!(ask(&buckets, 3, 10), Some(false), "who is known is still limited");
        assert_eq!(ask(&buckets, 0, 11), Some(true));
        // 1, 2 and 3 are full again at 11; 0 was just used.
        assert_eq!(ask(&buckets, 5, 11), Some(true));
        assert_eq!(buckets.look(1, Bucket::full_ns), None, "its place was given away");
        assert_eq!(ask(&buckets, 0, 11), Some(false), "what still counts is not forgotten");
        assert_eq!(ask(&buckets, 5, 11), Some(false));
        for key in 6..8 {
            assert_eq!(ask(&buckets, key, 11), Some(true));
        }
        assert_eq!((ask(&buckets, 8, 11), buckets.len()), (None, 4));
    }

    #[test]
    fn looking_makes_no_bucket() {
        let buckets = Buckets::new(1);
        assert_eq!(buckets.look(1, Bucket::full_ns), None);
        assert_eq!(ask(&buckets, 1, 1), Some(true));
        assert_eq!(buckets.look(1, Bucket::full_ns), Some(2_000_000_000));
        assert_eq!(buckets.len(), 1);
    }

    #[test]
    fn parts_share_the_room_and_the_bound_holds() {
        for (max, parts) in [(1, 1), (1023, 1), (2048, 2), (10_000, 9), (1_000_000, 16)] {
            let buckets = Buckets::new(max);
            assert_eq!(buckets.parts.len(), parts, "{max}");
            assert!(buckets.part_buckets_max * parts <= max);
            for key in [0, 1, u64::MAX, 1 << 63] {
                assert!(buckets.part(key).is_some());
            }
        }
    }
}
