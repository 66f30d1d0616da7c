//! Which endpoint is checked when: the pure core. Time and the seed of its random numbers are passed in.
//!
//! What it holds: the first checks of new endpoints are spread at random, so that a start is no storm; every wait has
//! its jitter; an endpoint is never checked twice at once; there is a bound on checks at once, and whoever waits because
//! of it goes in the order of being due. The wait begins when a check ends, so a slow check delays its endpoint's next
//! one and nothing else.

use super::Report;
use super::report::Last;
use super::state::{Machine, State, Thresholds, Turn};
use crate::cluster::Endpoint;
use crate::cluster::config::HealthCheck;
use crate::context::ids::Rng;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Most checks of one cluster at once. Each is a socket, and with TLS a handshake; with 10,000 endpoints that answer in
/// 10 ms it still allows a round a second.
pub(super) const CHECKS_MAX: usize = 128;

/// How much of time each new endpoint adds to that over which first checks are spread: few are known soon, and many
/// are not asked at once.
const FIRST_SPREAD: Duration = Duration::from_millis(10);

/// Even an interval of 0 leaves an endpoint time for something else.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// When to ask, and what answers change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    interval: Duration,
    fast_interval: Duration,
    jitter_percent: u32,
    thresholds: Thresholds,
}

impl Terms {
    pub(super) fn of(config: &HealthCheck) -> Terms {
        Terms {
            interval: config.interval.max(INTERVAL_MIN),
            fast_interval: config.fast_interval.max(INTERVAL_MIN),
            jitter_percent: config.jitter_percent,
            thresholds: Thresholds {
                healthy: config.healthy_threshold,
                unhealthy: config.unhealthy_threshold,
            },
        }
    }
}

/// The endpoints of a cluster, what is known of them, and when each is asked again.
pub(super) struct Roster {
    terms: Terms,
    entries: HashMap<u64, Entry>,
    /// Each endpoint of `entries` is here once, or under way; what else is here was removed.
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    under_way: usize,
    pending: usize,
    rng: Rng,
}

struct Entry {
    endpoint: Arc<Endpoint>,
    machine: Machine,
    since: SystemTime,
    last: Option<Last>,
    passed: u64,
    failed: u64,
}

/// What a check came to.
pub(super) struct Settled {
    /// The endpoint as it is now.
    pub(super) endpoint: Arc<Endpoint>,
    /// The state after the check.
    pub(super) state: State,
    /// The change of state, if there is one.
    pub(super) turn: Option<Turn>,
}

impl Roster {
    pub(super) fn new(terms: Terms, seed: u64) -> Roster {
        Roster {
            terms,
            entries: HashMap::new(),
            due: BinaryHeap::new(),
            under_way: 0,
            pending: 0,
            rng: Rng::new(seed),
        }
    }

    /// Takes over the endpoints of the cluster: new ones will be checked soon, what is gone is forgotten.
    pub(super) fn follow(&mut self, endpoints: &[Arc<Endpoint>], now: Instant, clock: SystemTime) {
        let ids: HashSet<u64> = endpoints.iter().map(|endpoint| endpoint.id).collect();
        self.entries.retain(|id, _| ids.contains(id));
        self.due.retain(|Reverse((_, id))| ids.contains(id));
        let fresh = ids.len() - self.entries.len();
        let spread = FIRST_SPREAD.saturating_mul(u32::try_from(fresh).unwrap_or(u32::MAX));
        let spread = spread.min(self.terms.fast_interval).min(self.terms.interval);
        for endpoint in endpoints {
            if let Some(entry) = self.entries.get_mut(&endpoint.id) {
                entry.endpoint = Arc::clone(endpoint);
                continue;
            }
            let entry = Entry {
                endpoint: Arc::clone(endpoint),
                machine: Machine::default(),
                since: clock,
                last: None,
                passed: 0,
                failed: 0,
            };
            self.entries.insert(endpoint.id, entry);
            let due = now + spread.mul_f64(self.fraction());
            self.due.push(Reverse((due, endpoint.id)));
        }
        let is_pending = |entry: &&Entry| entry.machine.state() == State::Pending;
        self.pending = self.entries.values().filter(is_pending).count();
    }

    /// The next endpoint to check, if one is due and there is room; it is under way until [`Roster::settle`].
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Arc<Endpoint>> {
        while self.under_way < CHECKS_MAX {
            let Reverse((due, _)) = self.due.peek()?;
            if *due > now {
                return None;
            }
            let Reverse((_, id)) = self.due.pop()?;
            if let Some(entry) = self.entries.get(&id) {
                self.under_way += 1;
                return Some(Arc::clone(&entry.endpoint));
            }
        }
        None
    }

    /// When [`Roster::take_due`] is worth a call; `None`: not before a check has ended.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let Reverse((due, _)) = self.due.peek().filter(|_| self.under_way < CHECKS_MAX)?;
        Some(*due)
    }

    /// Takes in what a check of endpoint `id` came to; `None` if the endpoint is gone meanwhile.
    pub(super) fn settle(&mut self, id: u64, last: Last, now: Instant) -> Option<Settled> {
        self.under_way = self.under_way.saturating_sub(1);
        let fraction = self.fraction();
        let entry = self.entries.get_mut(&id)?;
        let is_success = last.failure.is_none();
        let turn = entry.machine.observe(is_success, self.terms.thresholds);
        if let Some(turn) = turn {
            entry.since = last.at;
            self.pending -= usize::from(turn.is_first);
        }
        let counter = if is_success { &mut entry.passed } else { &mut entry.failed };
        *counter += 1;
        entry.last = Some(last);
        let wait = if entry.machine.is_changing() { self.terms.fast_interval } else { self.terms.interval };
        let jitter = wait.mul_f64(f64::from(self.terms.jitter_percent.min(100)) / 100.0 * fraction);
        self.due.push(Reverse((now + wait + jitter, id)));
        Some(Settled { endpoint: Arc::clone(&entry.endpoint), state: entry.machine.state(), turn })
    }

    /// How many endpoints had no answer yet.
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// Whether any of `endpoints` is healthy; `None` while one of them had no answer yet.
    pub(super) fn verdict(&self, endpoints: &[Arc<Endpoint>]) -> Option<bool> {
        let mut is_any_healthy = false;
        for endpoint in endpoints {
            match self.entries.get(&endpoint.id)?.machine.state() {
                State::Pending => return None,
                State::Healthy => is_any_healthy = true,
                State::Unhealthy => {}
            }
        }
        Some(is_any_healthy)
    }

    /// What is known of every endpoint, in the order of their addresses.
    pub(super) fn report(&self) -> Vec<Report> {
        let mut reports: Vec<Report> = self
            .entries
            .values()
            .map(|entry| Report {
                endpoint: entry.endpoint.id,
                name: Arc::clone(&entry.endpoint.name),
                address: entry.endpoint.address,
                state: entry.machine.state(),
                since: entry.since,
                against: entry.machine.against(),
                last: entry.last.clone(),
                passed: entry.passed,
                failed: entry.failed,
            })
            .collect();
        reports.sort_unstable_by_key(|report| report.address);
        reports
    }

    /// A random number from 0 to 1, 1 excluded.
    fn fraction(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}
