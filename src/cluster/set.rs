//! The endpoints of a cluster at one moment, and how one moment follows another: discovery replaces the set, health
//! checks and outlier detection change what may be used of it, and the plan that picks read follows.
//!
//! Writers take turns. A pick never waits: it reads what is there, and only where an endpoint became usable, or is not any
//! more, the first pick to see that makes the plan anew, if nobody else does. What that costs is bounded: with many
//! endpoints it is not done again before twenty times as long has passed as it takes. Until then a pick looks at each
//! endpoint once more, so one that is left out gets no request from that moment on.

use super::journal::{Change, What};
use super::plan::Plan;
use super::{Cluster, Endpoint, Reason, Target, clock_ns};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// The endpoints of a cluster at one moment.
#[derive(Debug, Default)]
pub struct EndpointSet {
    /// In the order of the source.
    pub endpoints: Members,
    /// Why the source of the set fails at the moment; the set is then the last good one.
    pub stale: Option<Arc<str>>,
    /// What picks read.
    pub plan: Plan,
}

/// The endpoints of a set: a slice that sets share which differ only in what is known of it.
#[derive(Clone, Debug, Default)]
pub struct Members(Arc<[Arc<Endpoint>]>);

impl Deref for Members {
    type Target = [Arc<Endpoint>];

    fn deref(&self) -> &[Arc<Endpoint>] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Members {
    type Item = &'a Arc<Endpoint>;
    type IntoIter = std::slice::Iter<'a, Arc<Endpoint>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// About what it takes to look at an endpoint for a plan, in nanoseconds. A figure and not a measurement, so that a
/// simulation is the same each time.
const PLAN_NS_EACH: u64 = 100;
/// How many times longer than making a plan the time to the next one is.
const PAUSE_FACTOR: u64 = 20;
/// A set of up to so many endpoints has a new plan for each change of health.
const NO_PAUSE_MAX: usize = 128;

/// Whose turn it is to replace the set, and whether it is time to.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Whether health changed since the plan was made.
    is_outdated: AtomicBool,
    /// When a plan may be made again, in nanoseconds since the process started.
    not_before_ns: AtomicU64,
    /// Held by whoever replaces the set; whether a source has ever told of endpoints.
    turn: Mutex<bool>,
}

impl Cluster {
    /// The endpoints now.
    #[inline]
    pub fn endpoints(&self) -> arc_swap::Guard<Arc<EndpointSet>> {
        self.endpoints.load()
    }

    /// The endpoints now, for a pick: with a plan that knows of their health.
    #[inline]
    pub fn planned(&self, now_ns: u64) -> arc_swap::Guard<Arc<EndpointSet>> {
        if self.turns.is_outdated.load(Ordering::Relaxed) {
            self.replan_in_time(now_ns);
        }
        self.endpoints.load()
    }

    /// Tells that an endpoint became usable, or is not any more.
    pub fn health_changed(&self) {
        self.turns.is_outdated.store(true, Ordering::Release);
    }

    /// Adds a reason not to use an endpoint, from this moment on; whether it is new.
    pub fn leave_out(&self, endpoint: &Endpoint, reason: Reason) -> bool {
        let is_new = endpoint.health.set(reason);
        if is_new {
            self.health_changed();
        }
        is_new
    }

    /// Takes a reason not to use an endpoint away; whether it was there. An endpoint that failed its checks or was ejected,
    /// and may now be used again, gets its share little by little where that is configured; so does a new one whose first
    /// check succeeded, if there were others before it.
    pub fn restore(&self, endpoint: &Endpoint, reason: Reason, now_ns: u64) -> bool {
        let health = &endpoint.health;
        if !health.has(reason) {
            return false;
        }
        let is_new = reason == Reason::CheckPending && health.warming_since_ns.load(Ordering::Relaxed) == 0;
        if self.has_slow_start() && !is_new {
            // Before it can be picked.
            health.warming_since_ns.store(now_ns.max(1), Ordering::Relaxed);
        }
        let was_there = health.clear(reason);
        if was_there {
            self.health_changed();
        }
        was_there
    }

    fn has_slow_start(&self) -> bool {
        let balance = &self.settings.balance;
        balance.slow_start.is_some() && !balance.policy.is_hash()
    }

    /// Makes the plan anew if health changed since it was made, whatever that costs; whether it did.
    pub fn replan(&self, now_ns: u64) -> bool {
        let Ok(_turn) = self.turns.turn.try_lock() else { return false };
        if !self.turns.is_outdated.swap(false, Ordering::Acquire) {
            return false;
        }
        let old = self.endpoints.load_full();
        self.publish(
            &old,
            EndpointSet {
                endpoints: old.endpoints.clone(),
                stale: old.stale.clone(),
                plan: old.plan.renewed(&old.endpoints, &self.settings),
            },
        );
        let count = old.endpoints.len();
        let pause_ns = if count <= NO_PAUSE_MAX { 0 } else { PAUSE_FACTOR * PLAN_NS_EACH * count as u64 };
        self.turns.not_before_ns.store(now_ns.saturating_add(pause_ns), Ordering::Relaxed);
        true
    }

    #[cold]
    fn replan_in_time(&self, now_ns: u64) {
        if now_ns >= self.turns.not_before_ns.load(Ordering::Relaxed) {
            self.replan(now_ns);
        }
    }

    /// Replaces the endpoints by those of `targets`; an endpoint whose address stays keeps its state.
    pub fn update(&self, targets: &[Target]) {
        self.replace(targets, None, clock_ns(Instant::now()));
    }

    /// Replaces the endpoints by those of `targets`, of which the source cannot say more because of `stale`.
    pub fn replace(&self, targets: &[Target], stale: Option<&str>, now_ns: u64) {
        let mut is_fed = self.turns.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // Before health is read: what changes from here on makes the plan outdated again.
        self.turns.is_outdated.swap(false, Ordering::Acquire);
        let old = self.endpoints.load_full();
        let mut known: HashMap<SocketAddr, (&Arc<Endpoint>, bool), foldhash::fast::RandomState> =
            old.endpoints.iter().map(|endpoint| (endpoint.address, (endpoint, false))).collect();
        let mut added = Vec::new();
        let endpoints: Arc<[Arc<Endpoint>]> = targets
            .iter()
            .map(|target| {
                let Some((endpoint, stays)) = known.get_mut(&target.address) else {
                    let endpoint = Arc::new(Endpoint::new(target));
                    added.push(Arc::clone(&endpoint));
                    return endpoint;
                };
                *stays = true;
                match endpoint.is_same(target) {
                    true => Arc::clone(endpoint),
                    false => Arc::new(Endpoint::succeed(endpoint, target)),
                }
            })
            .collect();
        let removed = known.values().filter(|(_, stays)| !stays).count();
        // Where all are new, there is nobody else to take the load.
        let warms_up = self.has_slow_start() && removed < known.len();
        for endpoint in &added {
            if self.settings.has_checks {
                endpoint.health.set(Reason::CheckPending);
            }
            if warms_up {
                endpoint.health.warming_since_ns.store(now_ns.max(1), Ordering::Relaxed);
            }
        }
        let is_same = endpoints.len() == old.endpoints.len()
            && endpoints.iter().zip(&old.endpoints).all(|(new, old)| Arc::ptr_eq(new, old));
        let (endpoints, plan) = if is_same {
            (old.endpoints.clone(), old.plan.renewed(&old.endpoints, &self.settings))
        } else {
            let plan = Plan::new(&endpoints, &self.settings);
            (Members(endpoints), plan)
        };
        let total = endpoints.len();
        self.publish(&old, EndpointSet { endpoints, stale: stale.map(Into::into), plan });
        if *is_fed && added.len() + removed > 0 {
            self.note(What::EndpointsChanged { added: added.len(), removed, total });
        }
        *is_fed = true;
    }

    /// Marks the set as stale: its source fails, the last good endpoints stay.
    pub fn mark_stale(&self, why: &str) {
        let _turn = self.turns.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.endpoints.load_full();
        if old.stale.as_deref() == Some(why) {
            return;
        }
        self.turns.is_outdated.swap(false, Ordering::Acquire);
        self.publish(
            &old,
            EndpointSet {
                endpoints: old.endpoints.clone(),
                stale: Some(why.into()),
                plan: old.plan.renewed(&old.endpoints, &self.settings),
            },
        );
    }

    /// Puts a set in force and tells what changed besides its members. The caller has the turn.
    fn publish(&self, old: &EndpointSet, new: EndpointSet) {
        let new = Arc::new(new);
        self.endpoints.store(Arc::clone(&new));
        match (&old.stale, &new.stale) {
            (old, Some(why)) if old.as_ref() != Some(why) => self.note(What::Stale { why: (**why).into() }),
            (Some(_), None) => self.note(What::Fresh),
            _ => {}
        }
        let is_panic = |set: &EndpointSet, priority: u32| {
            set.plan.whole().levels().iter().any(|level| level.priority == priority && level.is_panic)
        };
        for level in new.plan.whole().levels() {
            match (is_panic(old, level.priority), level.is_panic) {
                (false, true) => self.note(What::PanicEntered {
                    priority: level.priority,
                    healthy: level.usable,
                    total: level.total,
                }),
                (true, false) => self.note(What::PanicLeft { priority: level.priority }),
                _ => {}
            }
        }
        for level in old.plan.whole().levels() {
            let is_gone = new.plan.whole().levels().iter().all(|other| other.priority != level.priority);
            if level.is_panic && is_gone {
                self.note(What::PanicLeft { priority: level.priority });
            }
        }
    }

    fn note(&self, what: What) {
        self.journal.note(Change { cluster: Arc::clone(&self.name), endpoint: None, what });
    }
}

#[cfg(test)]
mod tests;
