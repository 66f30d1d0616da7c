//! What a scrape says of what a listener lets in: the limit, the queue, who was turned away, and memory.

use super::registry::Registry;
use super::text::{Kind, Page};
use crate::resilience::admission::{Admission, ConcurrencySnapshot, RankSnapshot, Snapshot};
use crate::resilience::overload::{Overload, Step};
use std::sync::Arc;

/// A number of the limit; `None` where it is not known yet.
type Number = fn(&ConcurrencySnapshot) -> Option<f64>;

/// How many requests of a tier were turned away for one reason.
type Count = fn(&RankSnapshot) -> u64;

/// Gauges of a listener with `concurrency`.
const GAUGES: [(&str, &str, Number); 6] = [
    ("sidelight_concurrency_limit", "Exchanges that may be under way.", |it| Some(f64::from(it.limit))),
    ("sidelight_concurrency_in_flight", "Exchanges that are under way.", |it| Some(f64::from(it.in_flight))),
    ("sidelight_concurrency_waiting", "Requests that wait for a place.", |it| Some(f64::from(it.waiting))),
    ("sidelight_concurrency_min_rtt_seconds", "The latency without queueing, once it is known.", |it| {
        it.min_rtt_ms.map(|ms| ms / 1000.0)
    }),
    ("sidelight_concurrency_sample_rtt_seconds", "The latency of the last window.", |it| {
        it.sample_rtt_ms.map(|ms| ms / 1000.0)
    }),
    ("sidelight_concurrency_gradient", "What the limit was multiplied with last.", |it| it.gradient),
];

/// Why a request was turned away, as the label says it.
const REASONS: [(&str, Count); 4] = [
    ("queue_timeout", |tier| tier.timed_out),
    ("queue_full", |tier| tier.shed_queue),
    ("memory_shed", |tier| tier.shed_memory),
    ("memory", |tier| tier.refused_memory),
];

impl Registry {
    /// Tells what the listeners let in, whenever a configuration came into force.
    pub fn watch_admissions(&self, admissions: Vec<Arc<Admission>>) {
        self.admissions.store(Arc::new(admissions));
    }

    /// Tells where the use of memory is. Said once, when the process starts.
    pub fn watch_overload(&self, overload: &Arc<Overload>) {
        let _ = self.overload.set(Arc::clone(overload));
    }

    pub(super) fn render_admission(&self, page: &mut Page) {
        let listeners: Vec<Snapshot> =
            self.admissions.load().iter().map(|admission| admission.snapshot()).collect();
        for (name, help, number) in GAUGES {
            page.family(name, Kind::Gauge, help);
            for Snapshot { listener, concurrency, .. } in &listeners {
                if let Some(value) = concurrency.as_ref().and_then(number) {
                    page.fraction(&[("listener", listener)], value);
                }
            }
        }
        page.family("sidelight_admission_waited", Kind::Counter, "Requests that had to wait for a place.");
        for Snapshot { listener, tiers, .. } in &listeners {
            for tier in tiers {
                page.number(&[("listener", listener), ("tier", &tier.tier)], tier.waited);
            }
        }
        page.family("sidelight_admission_refused", Kind::Counter, "Requests that were not let in.");
        for Snapshot { listener, tiers, .. } in &listeners {
            for tier in tiers {
                for (reason, count) in REASONS {
                    let labels = [("listener", &**listener), ("tier", &*tier.tier), ("reason", reason)];
                    page.number(&labels, count(tier));
                }
            }
        }
        if let Some(overload) = self.overload.get() {
            render_memory(overload, page);
        }
    }
}

fn render_memory(overload: &Overload, page: &mut Page) {
    let now = overload.snapshot();
    let step = match now.step {
        Step::Normal => 0,
        Step::Shed => 1,
        Step::CloseConnections => 2,
        Step::Refuse => 3,
    };
    let help = "0 normal, 1 requests are shed, 2 connections are closed too, 3 all are refused.";
    page.family("sidelight_overload_step", Kind::Gauge, help);
    page.number(&[], step);
    page.family("sidelight_overload_memory_used_bytes", Kind::Gauge, "Memory in use, as last measured.");
    page.number(&[], now.used_bytes);
    page.family("sidelight_overload_memory_limit_bytes", Kind::Gauge, "Memory there is; 0 without a limit.");
    page.number(&[], now.limit_bytes);
}
