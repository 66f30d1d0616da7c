//! Random: an endpoint by its weight. Knows nothing and keeps nothing, so it cannot be misled.

use super::hand::{DRAWS_MAX, Hand, below};

/// A position; `None` if only endpoints were drawn that may not be used.
#[inline]
pub(super) fn pick(hand: &Hand<'_>, random: &mut impl FnMut() -> u64) -> Option<usize> {
    let mut warming = None;
    for _ in 0..DRAWS_MAX {
        let position = hand.group.holder(below(hand.group.total(), random()));
        let Some(endpoint) = hand.endpoint(position) else { continue };
        if hand.takes_turn(endpoint, random) {
            return Some(position);
        }
        warming = warming.or(Some(position));
    }
    warming
}
