//! The power of two choices: two endpoints are drawn by weight, the better one is taken. It is nearly as good as looking
//! at all of them, and callers that know the same do not all run to the same endpoint.
//!
//! Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing".

use super::hand::{DRAWS_MAX, Hand, below};
use crate::cluster::Endpoint;
use crate::cluster::plan::Group;

/// The position of the better one of two; `None` if only endpoints were drawn that may not be used.
#[inline]
pub(super) fn pick(
    hand: &Hand<'_>,
    random: &mut impl FnMut() -> u64,
    is_better: impl Fn(&Endpoint, &Endpoint) -> bool,
) -> Option<usize> {
    if hand.group.len() == 1 {
        return hand.endpoint(0).map(|_| 0);
    }
    for _ in 0..DRAWS_MAX {
        let (first, second) = draw(hand.group, random);
        let a = hand.endpoint(first).filter(|endpoint| hand.takes_turn(endpoint, random));
        let b = hand.endpoint(second).filter(|endpoint| hand.takes_turn(endpoint, random));
        match (a, b) {
            (Some(a), Some(b)) => return Some(if is_better(b, a) { second } else { first }),
            (Some(_), None) => return Some(first),
            (None, Some(_)) => return Some(second),
            (None, None) => {}
        }
    }
    None
}

/// Two positions, different ones if there is more than one.
#[inline]
fn draw(group: &Group, random: &mut impl FnMut() -> u64) -> (usize, usize) {
    let total = group.total();
    let first = group.holder(below(total, random()));
    // The second is drawn from the line without the first one's part of it.
    let (start, end) = group.weight(first);
    let number = below(total.saturating_sub(end - start), random());
    let second = group.holder(if number >= start { number + (end - start) } else { number });
    (first, second)
}
