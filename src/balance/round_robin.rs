//! Weighted round robin: one after the other, and of every `total weight` turns each endpoint gets its weight.
//!
//! Turns are dealt by [`crate::cluster::plan::Group::turn`]; nothing but the cluster's count of turns is kept. An endpoint
//! that may not be used gives its turn to the next one.

use super::hand::{DRAWS_MAX, Hand};

/// A position; `None` if only endpoints had a turn that may not be used.
#[inline]
pub(super) fn pick(
    hand: &Hand<'_>,
    random: &mut impl FnMut() -> u64,
    next_turn: impl Fn() -> u64,
) -> Option<usize> {
    let mut warming = None;
    for _ in 0..DRAWS_MAX {
        let position = hand.group.turn(next_turn());
        let Some(endpoint) = hand.endpoint(position) else { continue };
        if hand.takes_turn(endpoint, random) {
            return Some(position);
        }
        warming = warming.or(Some(position));
    }
    warming
}
