//! Endpoints that one draw is made from, with their weights on a line: a number on it belongs to one of them.

use std::num::NonZeroU64;

/// Endpoints of one priority level, or of one zone of it, that could be used when the plan was made.
#[derive(Debug, Default)]
pub struct Group {
    /// Whether it is the zone of this service; `None` where zones do not matter.
    pub is_local: Option<bool>,
    /// The end of its share of the level's load, see [`super::FULL`].
    pub(super) end: u64,
    /// Where its endpoints are in the set.
    members: Box<[u32]>,
    /// The end of each member's weight on the line; empty when all weigh the same.
    ends: Box<[u64]>,
    /// The line is cut into pieces of the length 2^`piece_log2`: the position at the start of each, and at the end of all.
    pieces: Box<[u32]>,
    piece_log2: u32,
    /// How far apart two turns of a round robin are on the line.
    stride: u64,
}

/// (√5 - 1) / 2 as a fraction of 2³².
const GOLDEN: u64 = 2_654_435_769;

impl Group {
    /// A group of these endpoints: where they are in the set, and their weights (at least 1). `end` is that of its share.
    pub(super) fn new(is_local: Option<bool>, end: u64, endpoints: &[(u32, u32)]) -> Group {
        let members = endpoints.iter().map(|(member, _)| *member).collect();
        let first = endpoints.first().map_or(1, |(_, weight)| *weight);
        if endpoints.iter().all(|(_, weight)| *weight == first) {
            return Group { is_local, end, members, ..Group::default() };
        }
        let mut total = 0;
        let ends: Box<[u64]> = endpoints
            .iter()
            .map(|(_, weight)| {
                total += u64::from(*weight);
                total
            })
            .collect();
        let piece_log2 = (total / endpoints.len() as u64).max(1).ilog2();
        let pieces = (0..=(total >> piece_log2) + 1).scan(0, |position: &mut u32, piece| {
            while ends.get(*position as usize).is_some_and(|end| *end <= piece << piece_log2) {
                *position += 1;
            }
            Some(*position)
        });
        Group { is_local, end, members, pieces: pieces.collect(), piece_log2, ends, stride: stride(total) }
    }

    /// How many endpoints there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Where the endpoint at this position is in the set.
    #[inline]
    pub fn member(&self, position: usize) -> Option<usize> {
        self.members.get(position).map(|member| *member as usize)
    }

    /// The length of the line: all weights together, or how many endpoints there are where all weigh the same.
    #[inline]
    pub fn total(&self) -> u64 {
        self.ends.last().copied().unwrap_or(self.members.len() as u64)
    }

    /// The average weight; `None` where all weigh the same.
    #[inline]
    pub fn mean_weight(&self) -> Option<f64> {
        (!self.ends.is_empty()).then(|| self.total() as f64 / self.len() as f64)
    }

    /// The position of the endpoint that a number below [`Group::total`] belongs to.
    #[inline]
    pub fn holder(&self, number: u64) -> usize {
        if self.ends.is_empty() {
            return number as usize;
        }
        let piece = (number >> self.piece_log2) as usize;
        let (Some(first), Some(last)) = (self.pieces.get(piece), self.pieces.get(piece + 1)) else {
            return 0;
        };
        // Few where weights are of one order, and never more than a search among all.
        let few = self.ends.get(*first as usize..*last as usize).unwrap_or_default();
        *first as usize + few.partition_point(|end| *end <= number)
    }

    /// Where the weight of a position starts and ends on the line.
    #[inline]
    pub fn weight(&self, position: usize) -> (u64, u64) {
        match self.ends.get(position) {
            Some(end) => {
                (position.checked_sub(1).and_then(|at| self.ends.get(at)).copied().unwrap_or(0), *end)
            }
            None => (position as u64, position as u64 + 1),
        }
    }

    /// The position of the endpoint that has a turn of a round robin: of [`Group::total`] turns in a row each endpoint has
    /// as many as its weight. Turns are dealt in strides of the golden ratio, so that those of a heavy endpoint do not
    /// come in a row; with equal weights the order is that of the set. Source: Weyl sequences (the golden ratio's is the
    /// most even of them).
    #[inline]
    pub fn turn(&self, turn: u64) -> usize {
        let Some(total) = NonZeroU64::new(self.total()) else { return 0 };
        if self.ends.is_empty() {
            return (turn % total) as usize;
        }
        // Exact, and in one division where the weights are not absurd.
        let turn = turn % total;
        self.holder(match turn.checked_mul(self.stride) {
            Some(product) => product % total,
            None => ((u128::from(turn) * u128::from(self.stride)) % u128::from(total.get())) as u64,
        })
    }
}

/// The number next to the golden ratio of `total` that has no divisor in common with it, so that every number has its
/// turn.
fn stride(total: u64) -> u64 {
    let mut stride = ((u128::from(total) * u128::from(GOLDEN)) >> 32) as u64;
    while gcd(stride, total) > 1 {
        stride -= 1;
    }
    // A total of 1 has stride 0, which is as good as any.
    stride
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(weights: &[u32]) -> Group {
        let endpoints: Vec<_> = (0..).zip(weights.iter().copied()).collect();
        Group::new(None, 0, &endpoints)
    }

    #[test]
    fn strides_give_every_number_its_turn() {
        for total in 1..500 {
            let stride = stride(total);
            let mut seen: Vec<u64> = (0..total).map(|turn| turn * stride % total).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..total).collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_number_belongs_to_the_endpoint_whose_weight_covers_it() {
        for weights in [&[3, 1, 2][..], &[1, 1, 1], &[7], &[1, 10_000], &[1, 1, 1, 1, 60], &[60, 1, 1, 1, 1]]
        {
            let group = group(weights);
            for number in 0..group.total() {
                let position = group.holder(number);
                let (start, end) = group.weight(position);
                assert!((start..end).contains(&number), "{weights:?} {number}");
            }
        }
        assert_eq!(group(&[5, 5]).total(), 2, "equal weights need no line");
    }

    #[test]
    fn a_group_without_endpoints_has_no_member() {
        let group = group(&[]);
        assert!(group.is_empty() && group.total() == 0);
        assert_eq!(group.member(group.turn(7)), None);
    }
}
