//! What a policy draws from: a group of endpoints, and which of them may be drawn just now.

use super::slow_start;
use crate::cluster::config::SlowStart;
use crate::cluster::plan::Group;
use crate::cluster::{Endpoint, EndpointSet, Ignored};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// How often a policy draws before it gives up and the others are searched.
pub(super) const DRAWS_MAX: usize = 4;
/// How many endpoints of a group are looked at when draws met only ones that cannot be used.
const SEARCH_MAX: usize = 1024;

/// See the module.
pub(super) struct Hand<'a> {
    pub(super) set: &'a EndpointSet,
    pub(super) group: &'a Group,
    pub(super) ignored: Ignored,
    pub(super) tried: &'a [u64],
    pub(super) slow_start: Option<&'a SlowStart>,
    pub(super) now_ns: u64,
}

impl<'a> Hand<'a> {
    /// The endpoint at a position of the group, if it may be used.
    #[inline]
    pub(super) fn endpoint(&self, position: usize) -> Option<&'a Endpoint> {
        let endpoint = self.set.endpoints.get(self.group.member(position)?);
        Hand::is_fit(endpoint, self.tried, self.ignored)
            .then(|| endpoint.map(|endpoint| &**endpoint))
            .flatten()
    }

    /// Whether an endpoint may be used and was not tried.
    #[inline]
    pub(super) fn is_fit(endpoint: Option<&Arc<Endpoint>>, tried: &[u64], ignored: Ignored) -> bool {
        endpoint.is_some_and(|endpoint| {
            endpoint.health.is_usable_despite(ignored) && !tried.contains(&endpoint.id)
        })
    }

    /// Whether an endpoint that was drawn takes its turn: one that is warming up leaves most of them to others.
    #[inline]
    pub(super) fn takes_turn(&self, endpoint: &Endpoint, random: &mut impl FnMut() -> u64) -> bool {
        let Some(terms) = self.slow_start else { return true };
        match endpoint.health.warming_since_ns.load(Relaxed) {
            0 => true,
            since_ns => slow_start::takes_turn(terms, self.now_ns.saturating_sub(since_ns), random),
        }
    }

    /// The first endpoint that may be used from a random position on.
    pub(super) fn search(&self, random: u64) -> Option<usize> {
        let count = self.group.len();
        let start = below(count as u64, random) as usize;
        (start..count).chain(0..start).take(SEARCH_MAX).find(|position| self.endpoint(*position).is_some())
    }
}

/// A uniform number below `count` (Lemire's multiplication); 0 if `count` is 0.
#[inline]
pub(super) fn below(count: u64, random: u64) -> u64 {
    ((u128::from(random) * u128::from(count)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_covers_the_range() {
        assert_eq!(below(10, 0), 0);
        assert_eq!(below(10, u64::MAX), 9);
        assert_eq!(below(10, u64::MAX / 2), 4);
        assert_eq!(below(0, u64::MAX), 0);
    }
}
