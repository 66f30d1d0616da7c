//! A table of consistent hashing: each slot belongs to an endpoint, slots to endpoints as their weights say, and a change
//! of the endpoints changes few slots. Source: Eisenbud et al., "Maglev" (NSDI 2016), weighted as Envoy does it.
//!
//! Every endpoint has a list of all slots in an order of its own, made of its address alone, and endpoints take turns to
//! take the first slot on their list that is free. The k-th turn of an endpoint is at the time k ÷ weight, so that every
//! endpoint has one turn at first, and which of two turns comes first does not depend on the other endpoints. Endpoints
//! that have a turn at the same time have it in the order of their addresses, not in that of the source.

use super::super::stable_hash::mix;
use super::layout::Member;
use super::ring::hash_of;
use std::net::SocketAddr;

/// See the module.
#[derive(Debug)]
pub struct Maglev {
    slots: Box<[u32]>,
}

/// How many bits say who has a turn; the others say when.
const MEMBER_BITS: u32 = 24;
/// The time at which all slots are taken.
const TIME_MAX: f64 = (1u64 << 39) as f64;

/// A slot that nobody has.
const FREE: u32 = u32::MAX;

/// The order in which an endpoint wants the slots: a start and a step.
struct Wishes {
    next: u64,
    step: u64,
}

impl Maglev {
    /// A table of `size` slots, or a little more: a prime number of them, and at least two for each endpoint.
    /// `members` are in the order of their addresses.
    pub(super) fn new(members: &[Member], addresses: &[SocketAddr], size: u32) -> Maglev {
        if members.is_empty() {
            return Maglev { slots: Box::default() };
        }
        let size = next_prime(u64::from(size).max(2 * (members.len() as u64).next_power_of_two()));
        let mut slots = vec![FREE; size as usize];
        let mut wishes: Vec<Wishes> = addresses
            .iter()
            .map(|address| {
                let hash = hash_of(*address);
                Wishes { next: hash % size, step: mix(hash) % (size - 1) + 1 }
            })
            .collect();
        for turn in Turns::new(members, size).take(slots.len()) {
            let (Some(wishes), Some(member)) = (wishes.get_mut(turn), members.get(turn)) else { continue };
            // `size` is prime: the steps come by every slot, and there is a free one for each turn.
            for _ in 0..size {
                let at = wishes.next;
                wishes.next = at + wishes.step - if at + wishes.step < size { 0 } else { size };
                if let Some(slot) = slots.get_mut(at as usize).filter(|slot| **slot == FREE) {
                    *slot = member.index;
                    break;
                }
            }
        }
        Maglev { slots: slots.into() }
    }

    /// How many slots there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no slot.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Where the endpoint of this hash is in the set.
    #[inline]
    pub fn member(&self, hash: u64) -> Option<usize> {
        let slot = ((u128::from(hash) * self.slots.len() as u128) >> 64) as usize;
        self.slots.get(slot).map(|member| *member as usize)
    }
}

/// Whose turn it is, one after the other; at least as many turns as there are slots.
enum Turns {
    /// All weigh the same: one after the other.
    Round { next: usize, len: usize },
    /// By time.
    Timed(std::vec::IntoIter<u64>),
}

impl Turns {
    fn new(members: &[Member], size: u64) -> Turns {
        let first = members.first().map_or(1, |member| member.weight);
        if members.iter().all(|member| member.weight == first) {
            return Turns::Round { next: 0, len: members.len() };
        }
        let total: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
        // When everybody together has had as many turns as there are slots.
        let end = size as f64 / total as f64;
        let mut turns = Vec::with_capacity(size as usize + members.len());
        for (at, member) in (0..).zip(members) {
            let weight = f64::from(member.weight);
            let count = (end * weight) as u64 + 1;
            // From 0 to 2³⁹: with who has the turn, one number, so that sorting is fast.
            let unit = TIME_MAX / (end * weight);
            turns.extend((0..count).map(|turn| ((turn as f64 * unit) as u64) << MEMBER_BITS | at));
        }
        turns.sort_unstable();
        Turns::Timed(turns.into_iter())
    }
}

impl Iterator for Turns {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        match self {
            Turns::Round { next, len } => {
                let turn = *next;
                *next = if turn + 1 == *len { 0 } else { turn + 1 };
                Some(turn)
            }
            Turns::Timed(turns) => turns.next().map(|turn| (turn & ((1 << MEMBER_BITS) - 1)) as usize),
        }
    }
}

/// The smallest prime from `number` on.
fn next_prime(number: u64) -> u64 {
    let is_prime = |number: u64| {
        number >= 2
            && (2..)
                .take_while(|factor| factor * factor <= number)
                .all(|factor| !number.is_multiple_of(factor))
    };
    // Between a number and its double there is always a prime (Bertrand); gaps in reach are below 1,000.
    (number..).find(|number| is_prime(*number)).unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maglev(weights: &[u32], size: u32) -> Maglev {
        let members: Vec<Member> =
            (0..).zip(weights).map(|(index, weight)| Member { index, weight: *weight, zone: 0 }).collect();
        let addresses: Vec<SocketAddr> =
            (0..weights.len()).map(|at| ([10, 0, (at >> 8) as u8, at as u8], 80).into()).collect();
        Maglev::new(&members, &addresses, size)
    }

    fn counts(maglev: &Maglev, endpoints: usize) -> Vec<usize> {
        let mut counts = vec![0; endpoints];
        for slot in &maglev.slots {
            counts[*slot as usize] += 1;
        }
        counts
    }

    #[test]
    fn slots_are_shared_by_weight() {
        assert_eq!(counts(&maglev(&[1; 4], 1009), 4), [253, 252, 252, 252]);
        let counts = counts(&maglev(&[1, 2, 4, 100], 65_537), 4);
        for (count, weight) in counts.iter().zip([1.0, 2.0, 4.0, 100.0]) {
            let expected = 65_537.0 * weight / 107.0;
            assert!((*count as f64 - expected).abs() <= 2.0, "{counts:?}");
        }
    }

    #[test]
    fn the_lightest_of_many_has_a_slot() {
        let mut weights = vec![1000; 500];
        weights.push(1);
        assert!(counts(&maglev(&weights, 2003), 501)[500] >= 1);
    }

    #[test]
    fn sizes_that_do_not_fit_are_made_to() {
        assert_eq!(maglev(&[1; 3], 10).len(), 11, "the next prime");
        assert!(maglev(&[1; 100], 3).len() >= 200);
        assert!(maglev(&[], 3).is_empty());
        assert_eq!(maglev(&[], 3).member(7), None);
        assert_eq!(maglev(&[1], 3).member(u64::MAX), Some(0));
    }
}
