//! The breaker with three states: closed, open, half-open.
//!
//! Closed, it counts. It opens after so many failures in a row, or when too few requests succeed: an exact ratio over a
//! window, judged at each failure from a minimum of requests on. A 429 (or gRPC's RESOURCE_EXHAUSTED) lowers the ratio
//! but is no failure in a row: who answers that is alive. Open, it lets nothing through for a time that doubles with
//! each probe that fails, plus a random part, so that sidecars do not come back in step; an upstream that says when it
//! wants to be asked again (`Retry-After`) is not asked earlier, up to the longest time. Then it is half-open: the next
//! real request is the probe, and there is one at a time. If the probe succeeds, the breaker closes and forgets; if it
//! fails, or is answered 429, it opens again; if nobody learns how it went, the next request is the probe.
//!
//! An attempt counts only if it began after the breaker became what it is: what was sent before it opened and comes back
//! late says nothing about the probe, and nothing against a cluster that has recovered. linkerd does not look at that.
//!
//! Source of algorithm and defaults: linkerd's failure accrual (`unified`, and `consecutive` before it). A pure core:
//! times and random numbers are given. Closed, it costs a request one load, and its end one or two and an add; it takes
//! a lock when it changes its state.

use crate::cluster::window::{Side, Window};
use crate::cluster::{Counter, Outcome, Verdict, config};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(super) struct Breaker {
    terms: config::Breaker,
    state: AtomicU8,
    /// When it became what it is, in nanoseconds since the process started; half-open: when the probe was let through.
    since_ns: AtomicU64,
    /// Until when it is open.
    until_ns: AtomicU64,
    /// What opened it: limit and value, in 32 bits each.
    opened_by: AtomicU64,
    /// Failures in a row.
    failures: AtomicU32,
    /// Successes left, failures right.
    window: Window,
    opened: Counter,
    refused: Counter,
    turn: Mutex<Turn>,
}

/// What only changes together with the state. Whoever changes the state holds it.
#[derive(Debug, Default)]
struct Turn {
    /// Probes that failed since it was closed.
    failed_probes: u32,
    /// The number of the last probe.
    probe: u64,
}

/// What a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    Closed,
    Open,
    /// Half-open, and the next request is the probe.
    Idle,
    /// Half-open, and the probe is under way.
    Probing,
}

impl State {
    const fn of(byte: u8) -> State {
        match byte {
            0 => State::Closed,
            1 => State::Open,
            2 => State::Idle,
            _ => State::Probing,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::Idle | State::Probing => "half_open",
        }
    }
}

/// That a breaker became something else.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Transition {
    Opened { reason: &'static str, time: Duration, why: String },
    HalfOpen,
    Closed,
}

/// That a breaker lets nothing through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shut {
    /// What opened it.
    pub(super) limit: u64,
    /// In the unit of the limit.
    pub(super) current: u64,
    /// How long it stays open; `None` while it waits for its probe.
    pub(super) left: Option<Duration>,
}

/// A breaker at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) state: &'static str,
    /// Failures in a row that open it, or what did open it.
    pub(super) limit: u64,
    pub(super) current: u64,
    pub(super) refused: u64,
    /// How often it opened.
    pub(super) opened: u64,
    pub(super) left: Option<Duration>,
    /// Requests in the window that succeeded, in percent; `None` without any.
    pub(super) success_percent: Option<u64>,
}

/// The right to be the probe. Dropped before anybody learned how the probe went, it is the next request's.
#[derive(Debug)]
pub struct Probe {
    breaker: Arc<Breaker>,
    number: u64,
}

impl Drop for Probe {
    fn drop(&mut self) {
        let turn = self.breaker.turn();
        if self.breaker.state() == State::Probing && turn.probe == self.number {
            self.breaker.set_state(State::Idle);
        }
    }
}

impl Breaker {
    pub(super) fn new(terms: config::Breaker) -> Breaker {
        Breaker {
            state: AtomicU8::new(State::Closed as u8),
            since_ns: AtomicU64::new(0),
            until_ns: AtomicU64::new(0),
            opened_by: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            window: Window::new(terms.window),
            opened: Counter::default(),
            refused: Counter::default(),
            turn: Mutex::default(),
            terms,
        }
    }

    /// Whether everything is let through.
    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.state.load(Ordering::Relaxed) == State::Closed as u8
    }

    /// Lets a request through, as the probe or because it is closed by now. `may_probe`: whether the request may decide
    /// about those that follow.
    ///
    /// # Errors
    /// It is open, or waits for its probe.
    pub(super) fn try_enter(
        self: &Arc<Self>,
        may_probe: bool,
        now_ns: u64,
    ) -> Result<(Option<Probe>, Option<Transition>), Shut> {
        let until_ns = self.until_ns.load(Ordering::Relaxed);
        match self.state() {
            State::Closed => return Ok((None, None)),
            State::Open if now_ns < until_ns => return Err(self.shut(until_ns - now_ns)),
            State::Open | State::Idle if may_probe => {}
            _ => return Err(self.shut(0)),
        }
        let mut turn = self.turn();
        let state = self.state();
        match state {
            State::Closed => return Ok((None, None)),
            State::Probing => return Err(self.shut(0)),
            // Another worker's probe failed in between.
            State::Open if now_ns < self.until_ns.load(Ordering::Relaxed) => return Err(self.shut(0)),
            State::Open | State::Idle => {}
        }
        turn.probe += 1;
        self.since_ns.store(now_ns, Ordering::Relaxed);
        self.set_state(State::Probing);
        let probe = Probe { breaker: Arc::clone(self), number: turn.probe };
        Ok((Some(probe), (state == State::Open).then_some(Transition::HalfOpen)))
    }

    /// Learns how an attempt ended that began at `started_ns`.
    #[inline]
    pub(super) fn observe(
        &self,
        outcome: Outcome,
        started_ns: u64,
        now_ns: u64,
        random: impl FnOnce() -> u64,
    ) -> Option<Transition> {
        let state = self.state();
        if state == State::Open || started_ns < self.since_ns.load(Ordering::Relaxed) {
            return None;
        }
        let is_success = match outcome.verdict() {
            Verdict::Success => !outcome.is_throttled(),
            Verdict::Failure { .. } => false,
            Verdict::Unknown => return None,
        };
        if state != State::Closed {
            return self.judge_probe(outcome, is_success, started_ns, now_ns, random);
        }
        if is_success {
            if self.failures.load(Ordering::Relaxed) != 0 {
                self.failures.store(0, Ordering::Relaxed);
            }
            self.window.add(Side::Left, now_ns);
            return None;
        }
        self.count_failure(outcome, started_ns, now_ns, random)
    }

    /// What it is now.
    pub(super) fn read(&self, now_ns: u64) -> Reading {
        let state = self.state();
        let (successes, failures) = self.window.totals(now_ns);
        let (limit, current) = match state {
            State::Closed => {
                (u64::from(self.terms.consecutive_failures), self.failures.load(Ordering::Relaxed).into())
            }
            _ => self.cause(),
        };
        let left_ns = self.until_ns.load(Ordering::Relaxed).saturating_sub(now_ns);
        Reading {
            state: state.as_str(),
            limit,
            current,
            refused: self.refused.get(),
            opened: self.opened.get(),
            left: (state == State::Open).then_some(Duration::from_nanos(left_ns)),
            success_percent: (successes * 100).checked_div(successes + failures),
        }
    }

    #[cold]
    fn count_failure(
        &self,
        outcome: Outcome,
        started_ns: u64,
        now_ns: u64,
        random: impl FnOnce() -> u64,
    ) -> Option<Transition> {
        let terms = &self.terms;
        let in_a_row = if outcome.is_throttled() {
            self.failures.store(0, Ordering::Relaxed);
            0
        } else {
            self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1)
        };
        self.window.add(Side::Right, now_ns);
        let (reason, limit, current, why) = if in_a_row >= terms.consecutive_failures {
            let why = format!("{in_a_row} failures in a row, the last: {outcome}");
            ("consecutive_failures", terms.consecutive_failures, u64::from(in_a_row), why)
        } else {
            let (successes, failures) = self.window.totals(now_ns);
            let total = successes + failures;
            let is_bad = successes * 100 < total * u64::from(terms.success_percent_min);
            if total < u64::from(terms.requests_min) || !is_bad {
                return None;
            }
            let why = format!(
                "{successes} of {total} requests succeeded within {:?}, less than {} %; the last: {outcome}",
                terms.window, terms.success_percent_min
            );
            ("success_rate", terms.success_percent_min, successes * 100 / total, why)
        };
        let turn = self.turn();
        // Another worker may have opened it, and even closed it again.
        if self.state() != State::Closed || started_ns < self.since_ns.load(Ordering::Relaxed) {
            return None;
        }
        self.opened_by.store(u64::from(limit) << 32 | current & u64::from(u32::MAX), Ordering::Relaxed);
        let time = self.open(&turn, outcome, now_ns, random());
        Some(Transition::Opened { reason, time, why })
    }

    #[cold]
    fn judge_probe(
        &self,
        outcome: Outcome,
        is_success: bool,
        started_ns: u64,
        now_ns: u64,
        random: impl FnOnce() -> u64,
    ) -> Option<Transition> {
        let mut turn = self.turn();
        if self.state() != State::Probing || started_ns < self.since_ns.load(Ordering::Relaxed) {
            return None;
        }
        if is_success {
            turn.failed_probes = 0;
            self.failures.store(0, Ordering::Relaxed);
            self.window.clear();
            self.since_ns.store(now_ns, Ordering::Relaxed);
            self.set_state(State::Closed);
            return Some(Transition::Closed);
        }
        turn.failed_probes = turn.failed_probes.saturating_add(1);
        let time = self.open(&turn, outcome, now_ns, random());
        Some(Transition::Opened { reason: "probe_failed", time, why: format!("the probe failed: {outcome}") })
    }

    /// Opens it; for how long.
    fn open(&self, turn: &Turn, outcome: Outcome, now_ns: u64, random: u64) -> Duration {
        let terms = &self.terms;
        let doubled =
            terms.backoff_min.saturating_mul(1u32.checked_shl(turn.failed_probes).unwrap_or(u32::MAX));
        let time = doubled.min(terms.backoff_max);
        // A uniform part of the jitter: 2^-64 × random × jitter.
        let jitter = time.as_nanos() * u128::from(terms.jitter_percent) / 100;
        let jitter = jitter.saturating_mul(u128::from(random)) >> 64;
        let time = time.saturating_add(Duration::from_nanos(u64::try_from(jitter).unwrap_or(u64::MAX)));
        let time = time.max(outcome.asked().min(terms.backoff_max));
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.until_ns.store(now_ns.saturating_add(time_ns), Ordering::Relaxed);
        self.opened.add();
        self.set_state(State::Open);
        time
    }

    fn shut(&self, left_ns: u64) -> Shut {
        self.refused.add();
        let (limit, current) = self.cause();
        Shut { limit, current, left: (left_ns > 0).then_some(Duration::from_nanos(left_ns)) }
    }

    fn cause(&self) -> (u64, u64) {
        let opened_by = self.opened_by.load(Ordering::Relaxed);
        (opened_by >> 32, opened_by & u64::from(u32::MAX))
    }

    #[inline]
    fn state(&self) -> State {
        State::of(self.state.load(Ordering::Acquire))
    }

    /// Changes the state, after what belongs to it was written. The caller has the turn.
    fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
