//! Ring hash: the endpoint of the first point from the hash on. From one that may not be used the walk goes on, so its
//! keys go to its neighbours, all others stay, and they come back when it does. See [`crate::cluster::plan::Ring`].

use crate::cluster::plan::Ring;

/// How many points are looked at.
const POINTS_MAX: usize = 256;

/// Where the endpoint is in the set; `None` if only ones were met that may not be used.
#[inline]
pub(super) fn pick(ring: &Ring, hash: u64, is_fit: impl Fn(usize) -> bool) -> Option<usize> {
    ring.walk(hash).take(POINTS_MAX).find(|member| is_fit(*member))
}
