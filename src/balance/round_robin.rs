//! Weighted round robin: one after the other, and of every `total weight` turns each endpoint gets its weight.
//!
//! Turns are dealt in strides of the golden ratio of the total (made coprime to it), so that the turns of a heavy
//! endpoint are spread and do not come in a row; with equal weights the order is that of the set. Nothing but the
//! cluster's cursor is kept. Source: Weyl sequences (the golden ratio's is the most even of them).

use super::{Weights, weights};
use crate::cluster::Endpoint;
use std::sync::Arc;

/// (√5 - 1) / 2 as a fraction of 2³².
const GOLDEN: u64 = 2_654_435_769;

/// The index of the endpoint to use; `endpoints` is not empty. `next_turn` counts up, modulo what it is given.
pub(super) fn pick(
    endpoints: &[Arc<Endpoint>],
    tried: &[u64],
    next_turn: impl FnOnce(usize) -> usize,
) -> usize {
    let count = endpoints.len();
    let first = match weights(endpoints) {
        Weights { is_equal: true, .. } => next_turn(count),
        Weights { total, .. } => {
            let turn = next_turn(usize::try_from(total).unwrap_or(usize::MAX)) as u64;
            holder(endpoints, spread(turn, total))
        }
    };
    let is_fresh =
        |index: &usize| endpoints.get(*index).is_some_and(|endpoint| !tried.contains(&endpoint.id));
    (first..count).chain(0..first).find(is_fresh).unwrap_or(first)
}

/// A permutation of `0..total` in which neighbours are far apart.
fn spread(turn: u64, total: u64) -> u64 {
    let mut stride = ((u128::from(total) * u128::from(GOLDEN)) >> 32) as u64;
    while gcd(stride, total) > 1 {
        stride -= 1;
    }
    // A total of 1 has stride 0, which is as good as any.
    ((u128::from(turn) * u128::from(stride)) % u128::from(total.max(1))) as u64
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The index of the endpoint that holds the ticket, when each holds as many as its weight.
fn holder(endpoints: &[Arc<Endpoint>], mut ticket: u64) -> usize {
    for (index, endpoint) in endpoints.iter().enumerate() {
        match ticket.checked_sub(u64::from(endpoint.weight)) {
            Some(rest) => ticket = rest,
            None => return index,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_a_permutation() {
        for total in 1..500 {
            let mut seen: Vec<u64> = (0..total).map(|turn| spread(turn, total)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..total).collect::<Vec<_>>());
        }
    }
}
