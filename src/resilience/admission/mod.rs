//! Which requests are let in, and when: memory first, then a place under the listener's limit, then a fair queue.
//!
//! 1. **Memory.** As it runs out ([`super::overload`]), the lowest ranks are turned away, then everybody. On by default;
//!    costs one load while there is enough.
//! 2. **A place.** `concurrency` bounds the requests of a listener that are under way at once, over all workers: a number,
//!    or what the latency says ([`super::concurrency`]). Without it, there is no bound and nothing is counted.
//! 3. **A turn.** Who finds no place waits, up to `queue_timeout`, in the order of ranks and fairly between accounts
//!    ([`super::fair_queue`], [`super::load_shed`]).
//!
//! A place is held until the exchange ends, its content included, as in Envoy. The latency that the limit learns from
//! ends earlier, with the head of the answer: Envoy takes the whole, but how long content streams is the client's doing or
//! the nature of a stream, and says nothing of a queue at the service. Time in our own queue does not count. What was not
//! served (a failure, 429, 5xx, an answer of the proxy, a client that left) counts only if it took longer than it should:
//! failing fast is not being fast, but being slow is being slow.
//!
//! Position: right inside the context, whose fields it reads; outside all that costs something. Records:
//! `admission_wait`, and the refusal. How it fails: 503 with the limit and the current value, before anything was sent.

mod gate;
mod layer;
mod snapshot;
#[cfg(test)]
mod tests;
mod turn;

pub use layer::{AdmissionCell, AdmissionLayer, Admit, AdmitFuture};
pub use snapshot::{ConcurrencySnapshot, RankSnapshot, Snapshot};

use super::config::{Concurrency, LoadShed};
use super::load_shed::Ranks;
use super::overload::{Overload, Pressure};
use crate::cluster::Counter;
use crate::error::{Error, Kind, Refusal, Replay};
use crate::exchange::Ctx;
use gate::{Gate, Spot};
use std::sync::Arc;
use std::time::Duration;

/// What a listener lets in; shared by all workers.
#[derive(Debug)]
pub struct Admission {
    name: Arc<str>,
    ranks: Ranks,
    overload: Arc<Overload>,
    /// `None`: no bound.
    gate: Option<Arc<Gate>>,
    counts: Arc<[RankCounts]>,
}

/// What became of the requests of one rank that were not simply let in.
#[derive(Debug, Default)]
struct RankCounts {
    waited: Counter,
    timed_out: Counter,
    shed_queue: Counter,
    shed_memory: Counter,
    refused_memory: Counter,
}

/// What is decided of a request when it comes.
enum Decision {
    /// It goes on; nothing is counted.
    Free,
    /// It has a place.
    Placed,
    /// It waits.
    Queued(Spot, usize),
    /// It is turned away.
    Refused(Error),
}

impl Admission {
    /// The admission of the listener `name` (`inbound`, `outbound`). `old` is the one that it takes the place of in a
    /// reload: who is under way or waits, and what was learned, goes over. `random` seeds the jitter of measurements.
    pub fn new(
        name: &str,
        concurrency: Option<&Concurrency>,
        load_shed: &LoadShed,
        overload: &Arc<Overload>,
        old: Option<&Admission>,
        random: u64,
    ) -> Admission {
        let ranks = Ranks::new(load_shed);
        let gate = concurrency.map(|config| match old.and_then(|old| old.gate.as_ref()) {
            Some(gate) => {
                gate.configure(config);
                Arc::clone(gate)
            }
            None => Arc::new(Gate::new(config, random)),
        });
        let same = old.filter(|old| old.ranks.is_same(&ranks));
        let counts = same.map_or_else(
            || (0..ranks.count()).map(|_| RankCounts::default()).collect(),
            |old| Arc::clone(&old.counts),
        );
        Admission { name: name.into(), ranks, overload: Arc::clone(overload), gate, counts }
    }

    /// Decides about a request whose context is in the record.
    #[inline]
    fn decide(&self, ctx: &Ctx) -> Decision {
        let pressure = self.overload.pressure();
        if !pressure.is_none()
            && let Some(error) = self.shed(ctx, pressure)
        {
            return Decision::Refused(error);
        }
        match &self.gate {
            None => Decision::Free,
            Some(gate) if gate.try_enter() => Decision::Placed,
            Some(gate) => self.queue(ctx, gate),
        }
    }

    /// Turns a request away for want of memory, if its rank is to be.
    #[cold]
    fn shed(&self, ctx: &Ctx, pressure: Pressure) -> Option<Error> {
        let rank = self.ranks.rank(&ctx.recorder.edit());
        let counts = self.counts.get(rank)?;
        let (kind, counter) = if pressure.is_total() {
            (Kind::Overloaded, &counts.refused_memory)
        } else if rank < self.ranks.shed_below(pressure.permille()) {
            (Kind::LoadShed, &counts.shed_memory)
        } else {
            return None;
        };
        counter.add();
        let (used, limit) = self.overload.bytes();
        let detail = format!("{used} of {limit} bytes of memory are used; tier {}", self.ranks.name(rank));
        Some(self.refusal(kind, "memory", limit, used, detail))
    }

    #[cold]
    fn queue(&self, ctx: &Ctx, gate: &Gate) -> Decision {
        let (rank, account) = {
            let record = ctx.recorder.edit();
            (self.ranks.rank(&record), self.ranks.account(&record))
        };
        if gate.queue_max() == 0 || gate.queue_timeout().is_zero() {
            return Decision::Refused(self.no_place(gate, rank, Duration::ZERO));
        }
        match gate.join(rank, account) {
            Some(spot) => {
                if let Some(counts) = self.counts.get(rank) {
                    counts.waited.add();
                }
                Decision::Queued(spot, rank)
            }
            None => Decision::Refused(self.victim(gate, rank)),
        }
    }

    /// There is no place, and no more time to wait for one.
    fn no_place(&self, gate: &Gate, rank: usize, waited: Duration) -> Error {
        if let Some(counts) = self.counts.get(rank) {
            counts.timed_out.add();
        }
        let (limit, current) = (gate.limit(), gate.in_flight());
        let detail = format!("{current} requests are under way, and {limit} may be; waited {waited:?}");
        self.refusal(Kind::ConcurrencyLimit, "concurrency", limit.into(), u64::from(current) + 1, detail)
    }

    /// The queue is full, and others come first.
    fn victim(&self, gate: &Gate, rank: usize) -> Error {
        if let Some(counts) = self.counts.get(rank) {
            counts.shed_queue.add();
        }
        let limit = gate.queue_max();
        let detail =
            format!("the queue is full, and tier {} has most of the lowest in it", self.ranks.name(rank));
        self.refusal(Kind::LoadShed, "load_shed", limit, limit + 1, detail)
    }

    fn refusal(&self, kind: Kind, breaker: &'static str, limit: u64, current: u64, detail: String) -> Error {
        Error::new(kind, detail)
            .with_replay(Replay::Safe)
            .with_refusal(Refusal::new(breaker, "listener", &self.name, limit, current))
    }
}
