//! Circuit breakers: caps on what is under way at once, and a breaker with three states.
//!
//! The caps are Envoy's (connections, pending, requests, retries; 1024 each but for retries, which the budget bounds), for
//! a cluster and, where configured, for a route; beside them a bound for each account, and a breaker that stops asking
//! who fails. They are counted over all workers, and exactly: a limit of 1 lets one through.
//!
//! Position: a layer asks before each attempt ([`crate::resilience::circuit_breaker`]); the pools ask for connections and
//! those who wait for one; [`Breakers::observe`] learns how attempts went. Records: every refusal names breaker, scope,
//! name, limit and value; changes of the state go into the journal.
//!
//! How it fails: what is over a cap is refused, never queued here.

mod account;
mod cap;
mod state;

pub use account::AccountPlace;
pub use cap::Cap;
pub use state::Probe;

use super::config;
use super::journal::{Change, Journal, What};
use super::{Cluster, Outcome};
use crate::error::Refusal;
use account::Accounts;
use state::{Breaker, Shut, Transition};
use std::sync::Arc;
use std::time::Duration;

/// The caps and the breaker of a cluster or a route.
#[derive(Debug)]
pub struct Breakers {
    /// `cluster` or `route`.
    pub scope: &'static str,
    /// Which.
    pub name: Arc<str>,
    /// Requests at once.
    pub requests: Cap,
    /// Requests that wait for a connection.
    pub pending: Cap,
    /// Connections.
    pub connections: Cap,
    /// Retries and hedges at once.
    pub retries: Cap,
    accounts: Option<Arc<Accounts>>,
    breaker: Option<Arc<Breaker>>,
    journal: Journal,
}

/// One of the breakers as it is now, for people to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerReport {
    /// `requests`, `pending`, `connections`, `retries`, `requests_per_account` or `breaker`.
    pub breaker: &'static str,
    /// `cluster` or `route`.
    pub scope: &'static str,
    /// Which.
    pub name: Arc<str>,
    /// The limit; `None` without one. Of the `breaker`: failures in a row that open it; while it is not closed, what did
    /// open it (failures in a row, or percent that must succeed).
    pub limit: Option<u64>,
    /// What there is now, in the unit of the limit; of `requests_per_account`: what the busiest account has.
    pub current: u64,
    /// How many requests were refused so far.
    pub refused: u64,
    /// `closed`, `open` (a cap: no more room; the breaker: nothing is let through), `half_open`.
    pub state: &'static str,
    /// How often the breaker opened; `None` of caps.
    pub opened: Option<u64>,
    /// When the next request is let through as a probe; only while the breaker is open.
    pub retry_after: Option<Duration>,
    /// Requests within the breaker's window that succeeded, in percent.
    pub success_percent: Option<u64>,
    /// Accounts with requests under way; of `requests_per_account`.
    pub accounts: Option<u64>,
}

impl Breakers {
    /// The breakers that `config` describes. Changes are put on record in `journal`.
    pub fn new(
        scope: &'static str,
        name: &Arc<str>,
        config: &config::CircuitBreaker,
        journal: &Journal,
    ) -> Breakers {
        Breakers {
            scope,
            name: Arc::clone(name),
            requests: Cap::new("requests", config.requests),
            pending: Cap::new("pending", config.pending),
            connections: Cap::new("connections", config.connections),
            retries: Cap::new("retries", config.retries),
            accounts: config.requests_per_account.map(|limit| Arc::new(Accounts::new(limit))),
            breaker: config.breaker.clone().map(|terms| Arc::new(Breaker::new(terms))),
            journal: journal.clone(),
        }
    }

    /// Learns from how an attempt ended that took `time`. `cluster` is where it went and where random numbers are.
    #[inline]
    pub fn observe(&self, outcome: Outcome, time: Duration, now_ns: u64, cluster: &Cluster) {
        if let Some(breaker) = &self.breaker {
            let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            let started_ns = now_ns.saturating_sub(time_ns);
            if let Some(transition) = breaker.observe(outcome, started_ns, now_ns, || cluster.random()) {
                self.tell(transition, cluster);
            }
        }
    }

    /// One more under `cap`, which is one of these; the refusal when there is no room.
    #[inline]
    pub fn enter(&self, cap: &Cap) -> Result<(), Refusal> {
        match cap.try_enter() {
            Ok(()) => Ok(()),
            Err(current) => Err(Refusal::new(cap.what, self.scope, &self.name, cap.limit, current)),
        }
    }

    /// Whether the breaker lets everything through, or there is none.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.breaker.as_ref().is_none_or(|breaker| breaker.is_closed())
    }

    /// Asks a breaker that is not closed. The request that is let through is the probe, and holds the guard as long as the
    /// attempt lasts; `None`: it has closed. A request that `may_probe` is false for is never let through as the probe.
    ///
    /// # Errors
    /// It lets nothing through now; the refusal says what opened it, and when it is worth while to come again.
    pub fn try_probe(
        &self,
        may_probe: bool,
        now_ns: u64,
        cluster: &Cluster,
    ) -> Result<Option<Probe>, Refusal> {
        let Some(breaker) = &self.breaker else { return Ok(None) };
        match breaker.try_enter(may_probe, now_ns) {
            Ok((probe, transition)) => {
                if let Some(transition) = transition {
                    self.tell(transition, cluster);
                }
                Ok(probe)
            }
            Err(Shut { limit, current, left }) => {
                let refusal = Refusal::new("breaker", self.scope, &self.name, limit, current);
                Err(Refusal { retry_after: left, ..refusal })
            }
        }
    }

    /// Whether accounts are bounded.
    #[inline]
    pub fn has_accounts(&self) -> bool {
        self.accounts.is_some()
    }

    /// A place for a request of `account`, which may be empty; `None` where accounts are not bounded.
    ///
    /// # Errors
    /// The account has as many requests under way as it may; the refusal names it.
    pub fn enter_account(&self, account: &str) -> Result<Option<AccountPlace>, Refusal> {
        let Some(accounts) = &self.accounts else { return Ok(None) };
        accounts.try_enter(account).map(Some).map_err(|(name, current)| {
            Refusal::new("requests_per_account", "account", &name, accounts.limit, current)
        })
    }

    /// All of them as they are now. Of a route only those that are configured: the others are its cluster's.
    pub fn report(&self, now_ns: u64) -> Vec<BreakerReport> {
        let row = |breaker, limit: u64, current, refused| BreakerReport {
            breaker,
            scope: self.scope,
            name: Arc::clone(&self.name),
            limit: (limit < u64::MAX).then_some(limit),
            current,
            refused,
            state: if current < limit { "closed" } else { "open" },
            opened: None,
            retry_after: None,
            success_percent: None,
            accounts: None,
        };
        let caps = [&self.connections, &self.pending, &self.requests, &self.retries].into_iter();
        let mut rows: Vec<BreakerReport> = caps
            .filter(|cap| self.scope == "cluster" || cap.limit < u64::MAX)
            .map(|cap| row(cap.what, cap.limit, cap.active(), cap.refused()))
            .collect();
        rows.extend(self.accounts.as_ref().map(|accounts| {
            let (count, busiest) = accounts.read();
            let row = row("requests_per_account", accounts.limit, busiest, accounts.refused.get());
            BreakerReport { accounts: Some(count), ..row }
        }));
        rows.extend(self.breaker.as_ref().map(|breaker| {
            let reading = breaker.read(now_ns);
            BreakerReport {
                state: reading.state,
                opened: Some(reading.opened),
                retry_after: reading.left,
                success_percent: reading.success_percent,
                ..row("breaker", reading.limit, reading.current, reading.refused)
            }
        }));
        rows
    }

    fn tell(&self, transition: Transition, cluster: &Cluster) {
        let (scope, name) = (self.scope, Arc::clone(&self.name));
        let what = match transition {
            Transition::Opened { reason, time, why } => {
                What::BreakerOpened { scope, name, reason, time, why }
            }
            Transition::HalfOpen => What::BreakerHalfOpen { scope, name },
            Transition::Closed => What::BreakerClosed { scope, name },
        };
        self.journal.note(Change { cluster: Arc::clone(&cluster.name), endpoint: None, what });
    }
}

#[cfg(test)]
mod tests;
