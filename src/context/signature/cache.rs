//! Tokens that were verified a moment ago: the requests of a trace carry the same one.
//!
//! Why: HMAC costs more than half a microsecond and Ed25519 thirty; comparing what was seen before costs a few hundred
//! nanoseconds. What is compared is everything that was signed and the signature, byte by byte and in constant time, not a
//! hash of it: the hash only says where to look, so no collision makes a token believed. What is not
//! believed is not kept, so nobody can fill the cache with forgeries.
//!
//! It is bounded: an entry gives way to one that expires later. One for each worker; nothing is locked.

use super::keys::Fingerprint;
use super::{Claims, Keys, Refused, Verified, token};
use aws_lc_rs::constant_time;
use foldhash::fast::FixedState;
use std::hash::BuildHasher;

/// Entries that share a place.
const WAYS: usize = 4;
/// The most entries; more would not be found faster than they are verified.
const ENTRIES_MAX: usize = 1 << 16;
/// The most bytes of an entry. Contexts that are larger are verified each time.
const ENTRY_BYTES_MAX: usize = 2048;

/// See the module.
pub struct Cache {
    /// Groups of [`WAYS`].
    slots: Box<[Slot]>,
    hasher: FixedState,
    scratch: Vec<u8>,
    hits: u64,
}

#[derive(Clone, Default)]
struct Slot {
    hash: u64,
    /// Which key it was, so that a key that is taken out of the file, or changed under its name, counts at once.
    key: Fingerprint,
    expires_s: u64,
    /// What was signed, and the signature; empty in a free slot.
    bytes: Vec<u8>,
}

impl Cache {
    /// Room for about `entries` (held to 4..=65,536) of at most 2 KiB, usually some 300 bytes. `seed` is random and
    /// not told to anybody, or others can choose what shares a place.
    pub fn new(entries: usize, seed: u64) -> Cache {
        let slots = entries.clamp(WAYS, ENTRIES_MAX).next_power_of_two();
        Cache {
            slots: vec![Slot::default(); slots].into(),
            hasher: FixedState::with_seed(seed),
            scratch: Vec::new(),
            hits: 0,
        }
    }

    /// As [`Keys::verify`], and with the same result at every time and with all keys.
    ///
    /// # Errors
    /// As there.
    pub fn verify<'t>(
        &mut self,
        keys: &Keys,
        token: &'t [u8],
        claims: &Claims<'_>,
        now_s: u64,
        skew_s: u64,
    ) -> Result<Verified<'t>, Refused> {
        let asked = keys.ask(token, now_s, skew_s)?;
        self.scratch.clear();
        token::write_signed(asked.token.head, claims, &mut self.scratch);
        let signed_bytes = self.scratch.len();
        self.scratch.extend_from_slice(asked.token.signature.bytes());
        let hash = self.hasher.hash_one(self.scratch.as_slice());
        // Slots are a power of two and at least WAYS, so a whole group begins here.
        let first = (hash as usize) & (self.slots.len() - 1) & !(WAYS - 1);
        let group = self.slots.get_mut(first..first + WAYS).unwrap_or_default();
        if group.iter().any(|slot| slot.holds(hash, asked.fingerprint(), &self.scratch)) {
            self.hits += 1;
            return Ok(asked.verified());
        }
        let verified = asked.settle(self.scratch.get(..signed_bytes).unwrap_or_default())?;
        let oldest = group.iter_mut().min_by_key(|slot| slot.expires_s);
        if let Some(slot) = oldest.filter(|_| self.scratch.len() <= ENTRY_BYTES_MAX) {
            slot.hash = hash;
            slot.key = *asked.fingerprint();
            slot.expires_s = verified.expires_s;
            slot.bytes.clear();
            slot.bytes.extend_from_slice(&self.scratch);
        }
        Ok(verified)
    }

    /// How many tokens did not have to be verified again.
    pub fn hits(&self) -> u64 {
        self.hits
    }
}

impl Slot {
    fn holds(&self, hash: u64, key: &Fingerprint, bytes: &[u8]) -> bool {
        self.hash == hash
            && self.key == *key
            && constant_time::verify_slices_are_equal(&self.bytes, bytes).is_ok()
    }
}
