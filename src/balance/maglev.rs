//! Maglev: the endpoint of the slot that the hash falls into. If it may not be used, the hash is hashed again until a slot
//! is met whose endpoint may: its keys spread over all others, which keep theirs, and they come back when it does. See
//! [`crate::cluster::plan::Maglev`].

use crate::cluster::mix;
use crate::cluster::plan::Maglev;

/// How many slots are looked at.
const SLOTS_MAX: usize = 64;

/// Where the endpoint is in the set; `None` if only ones were met that may not be used.
#[inline]
pub(super) fn pick(maglev: &Maglev, hash: u64, is_fit: impl Fn(usize) -> bool) -> Option<usize> {
    let again = |hash: &u64| Some(mix(hash.wrapping_add(1)));
    std::iter::successors(Some(hash), again)
        .take(SLOTS_MAX)
        .filter_map(|hash| maglev.member(hash))
        .find(|member| is_fit(*member))
}
