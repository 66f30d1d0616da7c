//! Balancing: which endpoint of a cluster an attempt goes to.
//!
//! [`pick`] reads the [plan](crate::cluster::plan) that was made when endpoints or their health last changed, chooses, and
//! counts the attempt as in flight until [`Picked`] is dropped. The way is: all endpoints or a subset by labels; a
//! priority level by its share of the load; a zone by its share of the level; an endpoint by the policy. Policies are pure
//! functions of the plan, a random number or a hash, and a time, and allocate nothing.
//!
//! Two rules stand above the policies. An endpoint that is left out gets nothing from that moment on, however old the plan
//! is, unless so few are healthy that all are used (panic). And endpoints that earlier attempts of the same exchange used
//! are avoided as long as there is another usable one, in another zone or priority if need be.
//!
//! How it fails: [`Why`], which is the only way.

mod call;
mod choice;
mod hand;
mod key;
pub mod layer;
mod least_request;
mod maglev;
mod peak_ewma;
mod random;
mod ring_hash;
mod round_robin;
mod slow_start;
mod two_choices;

pub use choice::{Choice, Why};
pub use key::hash_of_address;

use crate::cluster::config::SubsetFallback;
use crate::cluster::plan::{Group, Level, Scope, Table};
use crate::cluster::{Cluster, EndpointSet, Picked, Policy, mix};
use hand::Hand;
use std::sync::Arc;

/// What an attempt wants of its endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    /// The ids of the endpoints that earlier attempts used.
    pub tried: &'a [u64],
    /// What a policy that hashes hashes; `None` if the request has nothing of it.
    pub hash: Option<u64>,
    /// The values that the request has of the labels that it chooses by, in the order of the labels.
    pub values: &'a [Option<&'a [u8]>],
}

/// Keeps the choice of a level apart from the choice within it, when both are made by the same hash.
const LEVEL_SALT: u64 = 0x9e37_79b9_7f4a_7c15;

/// Picks an endpoint of `cluster`.
///
/// `random` gives uniform numbers, `now_ns` is the time since the process started, [`crate::cluster::clock_ns`].
///
/// # Errors
/// Why there is none.
#[inline]
pub fn pick(
    cluster: &Cluster,
    wish: &Wish<'_>,
    random: &mut impl FnMut() -> u64,
    now_ns: u64,
) -> Result<Choice, Why> {
    let set = cluster.planned(now_ns);
    match choose(cluster, &set, wish, random, now_ns) {
        // The plan may be older than what it does not know of.
        Err(Why::NoneUsable) if cluster.replan(now_ns) => {
            choose(cluster, &cluster.endpoints(), wish, random, now_ns)
        }
        result => result,
    }
}

fn choose(
    cluster: &Cluster,
    set: &EndpointSet,
    wish: &Wish<'_>,
    random: &mut impl FnMut() -> u64,
    now_ns: u64,
) -> Result<Choice, Why> {
    if set.endpoints.is_empty() {
        return Err(Why::NoEndpoint);
    }
    let balance = &cluster.settings.balance;
    let subset = if balance.subset.is_empty() { None } else { Some(set.plan.subset(wish.values)) };
    let (scope, is_subset_fallback) = match subset {
        None => (set.plan.whole(), false),
        Some(Some(subset)) => (subset, false),
        Some(None) if balance.subset_fallback == SubsetFallback::Any => (set.plan.whole(), true),
        Some(None) => return Err(Why::NoSubset),
    };
    let chooser = Chooser { cluster, set, scope, hash: wish.hash, now_ns };
    let found = chooser
        .by_policy(wish.tried, random)
        .or_else(|| chooser.by_search(wish.tried, random))
        .or_else(|| match wish.tried {
            [] => None,
            // All were tried: any is better than none.
            _ => chooser.by_policy(&[], random).or_else(|| chooser.by_search(&[], random)),
        });
    let Found { member, level, is_local } = found.ok_or(Why::NoneUsable)?;
    let endpoint = set.endpoints.get(member).ok_or(Why::NoneUsable)?;
    Ok(Choice {
        picked: Picked::new(Arc::clone(endpoint)),
        is_panic: level.is_panic,
        priority: level.priority,
        is_local_zone: is_local,
        is_subset_fallback,
        is_hash_missing: balance.policy.is_hash() && wish.hash.is_none(),
    })
}

/// An endpoint, and how it was come by.
struct Found<'a> {
    /// Where it is in the set.
    member: usize,
    level: &'a Level,
    is_local: Option<bool>,
}

/// What a pick chooses from.
struct Chooser<'a> {
    cluster: &'a Cluster,
    set: &'a EndpointSet,
    scope: &'a Scope,
    hash: Option<u64>,
    now_ns: u64,
}

impl<'a> Chooser<'a> {
    /// The endpoint that the policy says, if it can be used and was not tried.
    #[inline]
    fn by_policy(&self, tried: &[u64], random: &mut impl FnMut() -> u64) -> Option<Found<'a>> {
        let level = match self.hash {
            Some(hash) => self.scope.level(|| mix(hash ^ LEVEL_SALT)),
            None => self.scope.level(&mut *random),
        }?;
        if let (Some(hash), Some(table)) = (self.hash, &level.table) {
            let is_fit = |member| Hand::is_fit(self.set.endpoints.get(member), tried, level.ignored);
            let member = match &**table {
                Table::Ring(ring) => ring_hash::pick(ring, hash, is_fit),
                Table::Maglev(maglev) => maglev::pick(maglev, hash, is_fit),
            };
            return member.map(|member| Found { member, level, is_local: None });
        }
        let group = level.group(&mut *random)?;
        let hand = self.hand(level, group, tried);
        let position = match self.cluster.settings.balance.policy {
            Policy::PeakEwma => {
                let mean = group.mean_weight();
                two_choices::pick(&hand, random, |a, b| peak_ewma::is_less_loaded(a, b, mean, self.now_ns))
            }
            Policy::LeastRequest => two_choices::pick(&hand, random, least_request::has_fewer),
            Policy::RoundRobin => round_robin::pick(&hand, random, || self.cluster.next_turn()),
            Policy::Random | Policy::RingHash | Policy::Maglev => random::pick(&hand, random),
        }?;
        Some(Found { member: group.member(position)?, level, is_local: group.is_local })
    }

    /// Any endpoint that can be used and was not tried: of the group that was drawn, of its level, of another level. For
    /// when the policy met only others, which is rare: the plan is older than an outage, or a retry looks for another
    /// endpoint where there are few.
    #[cold]
    fn by_search(&self, tried: &[u64], random: &mut impl FnMut() -> u64) -> Option<Found<'a>> {
        // The same key finds the same endpoint here too.
        let mut number = || self.hash.map_or_else(&mut *random, mix);
        let first = self.scope.level(&mut number)?;
        let others = self.scope.levels().iter().filter(|level| !std::ptr::eq(*level, first));
        std::iter::once(first).chain(others).find_map(|level| {
            let first = level.group(&mut number)?;
            let others = level.groups.iter().filter(|group| !std::ptr::eq(*group, first));
            std::iter::once(first).chain(others).find_map(|group| {
                let position = self.hand(level, group, tried).search(number())?;
                Some(Found { member: group.member(position)?, level, is_local: group.is_local })
            })
        })
    }

    fn hand<'t>(&self, level: &'t Level, group: &'t Group, tried: &'t [u64]) -> Hand<'t>
    where
        'a: 't,
    {
        let slow_start = self.cluster.settings.balance.slow_start.as_ref();
        Hand { set: self.set, group, ignored: level.ignored, tried, slow_start, now_ns: self.now_ns }
    }
}

#[cfg(test)]
mod tests;
