//! What the admin page and the metrics say of a listener's admission.

use super::{Admission, RankCounts};
use serde::Serialize;

/// A listener's admission at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// The listener.
    pub listener: String,
    /// The limit and the queue; `None` without `concurrency`.
    pub concurrency: Option<ConcurrencySnapshot>,
    /// What became of requests by rank, from the lowest up.
    pub tiers: Vec<RankSnapshot>,
}

/// The limit and the queue.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConcurrencySnapshot {
    /// How many may be under way.
    pub limit: u32,
    /// How many are.
    pub in_flight: u32,
    /// How many wait.
    pub waiting: u32,
    /// How many may wait.
    pub queue_max: u64,
    /// Whether the latency says what the limit is.
    pub is_adaptive: bool,
    /// The latency without queueing, in milliseconds, once it is known.
    pub min_rtt_ms: Option<f64>,
    /// The latency of the last window, in milliseconds.
    pub sample_rtt_ms: Option<f64>,
    /// What the limit was multiplied with last; below 1 the service is slower than it should be.
    pub gradient: Option<f64>,
    /// Whether the best latency is being measured.
    pub is_measuring: bool,
}

/// What became of the requests of one rank. Counters since the listener was opened, or its tiers changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RankSnapshot {
    /// The license, `_none` or `_trace`.
    pub tier: String,
    /// How many wait now.
    pub waiting: usize,
    /// How many had to wait, however it ended.
    pub waited: u64,
    /// How many found no place in time (`concurrency_limit`).
    pub timed_out: u64,
    /// How many were turned away because the queue was full (`load_shed`).
    pub shed_queue: u64,
    /// How many were turned away by their rank, for want of memory (`load_shed`).
    pub shed_memory: u64,
    /// How many were refused with all others, for want of memory (`overloaded`).
    pub refused_memory: u64,
}

impl Admission {
    /// How it stands.
    pub fn snapshot(&self) -> Snapshot {
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
        let concurrency = self.gate.as_ref().map(|gate| {
            let view = gate.view();
            ConcurrencySnapshot {
                limit: gate.limit(),
                in_flight: gate.in_flight(),
                waiting: gate.waiting(),
                queue_max: gate.queue_max(),
                is_adaptive: gate.is_adaptive(),
                min_rtt_ms: view.min_rtt.map(ms),
                sample_rtt_ms: view.sample_rtt.map(ms),
                gradient: view.gradient,
                is_measuring: view.is_measuring,
            }
        });
        let tier = |(rank, counts): (usize, &RankCounts)| RankSnapshot {
            tier: self.ranks.name(rank).to_owned(),
            waiting: self.gate.as_ref().map_or(0, |gate| gate.waiting_of(rank)),
            waited: counts.waited.get(),
            timed_out: counts.timed_out.get(),
            shed_queue: counts.shed_queue.get(),
            shed_memory: counts.shed_memory.get(),
            refused_memory: counts.refused_memory.get(),
        };
        Snapshot {
            listener: self.name.to_string(),
            concurrency,
            tiers: self.counts.iter().enumerate().map(tier).collect(),
        }
    }
}

impl Snapshot {
    /// The sum over all ranks.
    pub fn total(&self, of: impl Fn(&RankSnapshot) -> u64) -> u64 {
        self.tiers.iter().map(of).sum()
    }
}
