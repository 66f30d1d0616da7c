//! The places of a listener, over all workers.
//!
//! How many are under way and how many wait stand in one number. While nobody waits, a place is taken with one
//! compare-and-swap and given back with one subtraction. Who finds no place joins the queue, under a lock, counts itself
//! as waiting and looks once more; who gives a place back and sees that somebody waits takes the lock and hands it on.
//! Since it is one number, one of the two always sees the other. While somebody waits, nobody passes the queue.

use super::turn::{Outcome, Turn};
use crate::context::Rng;
use crate::resilience::concurrency::{Gradient, Observed, Samples};
use crate::resilience::config::{Concurrency, Limit};
use crate::resilience::fair_queue::{FairQueue, Pushed, Ticket};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

/// One that waits, in the upper half of the state; those under way are in the lower half.
const WAITING: u64 = 1 << 32;

const fn in_flight(state: u64) -> u32 {
    state as u32
}

const fn waiting(state: u64) -> u32 {
    (state >> 32) as u32
}

/// See the module.
#[derive(Debug)]
pub(super) struct Gate {
    hot: Hot,
    queue: Mutex<FairQueue<Arc<Turn>>>,
    queue_max: AtomicU64,
    queue_timeout_ns: AtomicU64,
    samples: Samples,
    is_adaptive: AtomicBool,
    next_look_ns: AtomicU64,
    slow_ns: AtomicU64,
    adaptive: Mutex<Adaptive>,
}

/// What every request writes, away from what it reads only.
#[derive(Debug)]
#[repr(align(128))]
struct Hot {
    state: AtomicU64,
    limit: AtomicU32,
    /// The most under way since the last look.
    peak: AtomicU32,
    /// Whether a request had to wait since then.
    was_limited: AtomicBool,
}

#[derive(Debug)]
struct Adaptive {
    /// `None` with a fixed limit.
    gradient: Option<Gradient>,
    rng: Rng,
}

/// A place in the queue.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) turn: Arc<Turn>,
    ticket: Ticket,
}

/// What the controller says, for people.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct View {
    pub(super) min_rtt: Option<Duration>,
    pub(super) sample_rtt: Option<Duration>,
    pub(super) gradient: Option<f64>,
    pub(super) is_measuring: bool,
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Gate {
    pub(super) fn new(config: &Concurrency, random: u64) -> Gate {
        let gate = Gate {
            hot: Hot {
                state: AtomicU64::new(0),
                limit: AtomicU32::new(0),
                peak: AtomicU32::new(0),
                was_limited: AtomicBool::new(false),
            },
            queue: Mutex::new(FairQueue::new(0)),
            queue_max: AtomicU64::new(0),
            queue_timeout_ns: AtomicU64::new(0),
            samples: Samples::new(),
            is_adaptive: AtomicBool::new(false),
            next_look_ns: AtomicU64::new(0),
            slow_ns: AtomicU64::new(u64::MAX),
            adaptive: Mutex::new(Adaptive { gradient: None, rng: Rng::new(random) }),
        };
        gate.configure(config);
        gate
    }

    /// Takes other terms over; who is under way or waits stays so.
    pub(super) fn configure(&self, config: &Concurrency) {
        self.queue_max.store(config.queue_max as u64, Relaxed);
        self.queue_timeout_ns.store(ns(config.queue_timeout), Relaxed);
        self.queue().set_max(config.queue_max);
        let mut adaptive = self.adaptive();
        let limit = match config.limit {
            Limit::Fixed(limit) => {
                adaptive.gradient = None;
                limit
            }
            Limit::Auto => {
                let gradient = adaptive.gradient.get_or_insert_with(|| Gradient::new(config));
                gradient.configure(config);
                gradient.limit()
            }
        };
        self.is_adaptive.store(adaptive.gradient.is_some(), Relaxed);
        self.set_limit(limit);
    }

    /// Takes a place, if there is one and nobody waits for it.
    #[inline]
    pub(super) fn try_enter(&self) -> bool {
        let mut state = self.hot.state.load(Relaxed);
        loop {
            if waiting(state) > 0 || in_flight(state) >= self.hot.limit.load(Relaxed) {
                return false;
            }
            match self.hot.state.compare_exchange_weak(state, state + 1, Ordering::AcqRel, Relaxed) {
                Ok(_) => {
                    self.note_peak(in_flight(state) + 1);
                    return true;
                }
                Err(now) => state = now,
            }
        }
    }

    /// Gives a place back, to the one whose turn it is if somebody waits.
    #[inline]
    pub(super) fn leave(&self) {
        let before = self.hot.state.fetch_sub(1, Ordering::AcqRel);
        if waiting(before) > 0 {
            self.hand_out(self.queue(), None);
        }
    }

    /// Joins the queue; `None` when it is turned away at once.
    pub(super) fn join(&self, rank: usize, account: u64) -> Option<Spot> {
        self.hot.was_limited.store(true, Relaxed);
        let turn = Arc::new(Turn::default());
        let mut queue = self.queue();
        let (ticket, victim) = match queue.push(rank, account, Arc::clone(&turn)) {
            Pushed::Refused(_) => return None,
            Pushed::Waits(ticket) => {
                self.hot.state.fetch_add(WAITING, Ordering::AcqRel);
                (ticket, None)
            }
            // One more waits and one less.
            Pushed::Replaces(ticket, victim) => (ticket, victim.settle(Outcome::Shed)),
        };
        self.hand_out(queue, victim);
        Some(Spot { turn, ticket })
    }

    /// Leaves the queue; how the wait had ended, if it had.
    pub(super) fn give_up(&self, spot: &Spot) -> Option<Outcome> {
        let mut queue = self.queue();
        if queue.remove(spot.ticket).is_some() {
            self.hot.state.fetch_sub(WAITING, Ordering::AcqRel);
        }
        drop(queue);
        spot.turn.outcome()
    }

    /// Gives free places to those whose turn it is; then wakes them, and `also`.
    fn hand_out(&self, mut queue: MutexGuard<'_, FairQueue<Arc<Turn>>>, also: Option<Waker>) {
        let mut woken = Vec::new(); // usually of one or none
        let mut state = self.hot.state.load(Relaxed);
        while waiting(state) > 0 && in_flight(state) < self.hot.limit.load(Relaxed) {
            match self.hot.state.compare_exchange_weak(state, state - WAITING + 1, Ordering::AcqRel, Relaxed)
            {
                Ok(_) => {
                    self.note_peak(in_flight(state) + 1);
                    // As many wait as are counted: both change under this lock only.
                    match queue.pop() {
                        Some(turn) => woken.extend(turn.settle(Outcome::Admitted)),
                        None => drop(self.hot.state.fetch_sub(1, Ordering::AcqRel)),
                    }
                    state = self.hot.state.load(Relaxed);
                }
                Err(now) => state = now,
            }
        }
        drop(queue);
        woken.into_iter().chain(also).for_each(Waker::wake);
    }

    #[inline]
    fn note_peak(&self, now: u32) {
        if now > self.hot.peak.load(Relaxed) {
            self.hot.peak.fetch_max(now, Relaxed);
        }
    }

    /// Whether latencies are of interest.
    #[inline]
    pub(super) fn is_adaptive(&self) -> bool {
        self.is_adaptive.load(Relaxed)
    }

    /// Whether so long a time is longer than it should be, whatever the request's end.
    pub(super) fn is_slow(&self, latency_ns: u64) -> bool {
        latency_ns > self.slow_ns.load(Relaxed)
    }

    /// Learns from a request that began at `began_ns` and was answered after `latency_ns`. Whoever comes first after an
    /// interval looks at all of them.
    pub(super) fn learn(&self, began_ns: u64, latency_ns: u64) {
        self.samples.add(began_ns, latency_ns);
        let now_ns = began_ns.saturating_add(latency_ns);
        if now_ns < self.next_look_ns.load(Relaxed) {
            return;
        }
        let Ok(mut adaptive) = self.adaptive.try_lock() else { return };
        if now_ns >= self.next_look_ns.load(Relaxed) {
            self.look(&mut adaptive, now_ns);
        }
    }

    fn look(&self, adaptive: &mut Adaptive, now_ns: u64) {
        let random = adaptive.rng.next_u64();
        let Some(gradient) = &mut adaptive.gradient else { return };
        let state = self.hot.state.load(Relaxed);
        let observed = Observed {
            samples: &self.samples,
            peak: self.hot.peak.swap(in_flight(state), Relaxed),
            was_limited: self.hot.was_limited.swap(waiting(state) > 0, Relaxed) || waiting(state) > 0,
        };
        let limit = gradient.look(now_ns, &observed, random);
        self.slow_ns.store(gradient.slow_ns(), Relaxed);
        self.next_look_ns.store(now_ns.saturating_add(gradient.update_ns()), Relaxed);
        self.set_limit(limit);
    }

    fn set_limit(&self, limit: u32) {
        let before = self.hot.limit.swap(limit, Relaxed);
        // A newcomer that saw the old limit joins the queue under the lock, and looks again there.
        if limit > before && waiting(self.hot.state.load(Ordering::Acquire)) > 0 {
            self.hand_out(self.queue(), None);
        }
    }

    fn queue(&self) -> MutexGuard<'_, FairQueue<Arc<Turn>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn adaptive(&self) -> MutexGuard<'_, Adaptive> {
        self.adaptive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limit(&self) -> u32 {
        self.hot.limit.load(Relaxed)
    }

    pub(super) fn in_flight(&self) -> u32 {
        in_flight(self.hot.state.load(Relaxed))
    }

    pub(super) fn waiting(&self) -> u32 {
        waiting(self.hot.state.load(Relaxed))
    }

    pub(super) fn waiting_of(&self, rank: usize) -> usize {
        self.queue().waiting(rank)
    }

    pub(super) fn queue_max(&self) -> u64 {
        self.queue_max.load(Relaxed)
    }

    pub(super) fn queue_timeout(&self) -> Duration {
        Duration::from_nanos(self.queue_timeout_ns.load(Relaxed))
    }

    /// What the controller says now.
    pub(super) fn view(&self) -> View {
        let adaptive = self.adaptive();
        adaptive.gradient.as_ref().map_or_else(View::default, |gradient| View {
            min_rtt: gradient.min_rtt_ns().map(Duration::from_nanos),
            sample_rtt: Some(gradient.sample_rtt_ns()).filter(|ns| *ns > 0).map(Duration::from_nanos),
            gradient: Some(gradient.gradient()),
            is_measuring: gradient.is_measuring(),
        })
    }
}
