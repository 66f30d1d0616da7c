//! Changes of a cluster that people want to be told of: an endpoint that is ejected, a breaker that opens.
//!
//! They happen on workers, in health checks and in discovery; the control side reads them and makes events and log lines
//! of them. How it fails: a bounded queue; what does not fit is counted and lost, the counters of the cluster are not.

use super::stats::Counter;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// How many changes wait to be read.
const CHANGES_MAX: usize = 1024;

/// Something that changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The cluster.
    pub cluster: Arc<str>,
    /// The endpoint, by name and address, if it is about one.
    pub endpoint: Option<(Arc<str>, SocketAddr)>,
    /// What.
    pub what: What,
}

/// What changed.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// An endpoint is left out for a while.
    Ejected {
        /// `consecutive_5xx`, `consecutive_gateway_failure`, `success_rate` or `failure_percentage`.
        detector: &'static str,
        /// How long.
        time: Duration,
        /// How often it was ejected lately, this time included.
        times: u32,
        /// Why, with the numbers.
        why: String,
    },
    /// An ejection was due and did not take place.
    EjectionPrevented {
        /// The detector.
        detector: &'static str,
        /// Why not.
        why: String,
    },
    /// An endpoint is used again.
    Unejected {
        /// `time` or `health_check`.
        by: &'static str,
    },
    /// Active checks say that an endpoint is healthy.
    Healthy {
        /// Whether it is its first answer.
        is_first: bool,
    },
    /// Active checks say that it is not.
    Unhealthy {
        /// Whether it is its first answer.
        is_first: bool,
        /// The last failure.
        why: String,
    },
    /// A breaker opened.
    BreakerOpened {
        /// `cluster` or `route`.
        scope: &'static str,
        /// Which.
        name: Arc<str>,
        /// `consecutive_failures`, `success_rate` or `probe_failed`.
        reason: &'static str,
        /// When a probe is let through.
        time: Duration,
        /// Why, with the numbers.
        why: String,
    },
    /// A breaker lets one request through as a probe.
    BreakerHalfOpen {
        /// `cluster` or `route`.
        scope: &'static str,
        /// Which.
        name: Arc<str>,
    },
    /// A breaker closed: the probe succeeded.
    BreakerClosed {
        /// `cluster` or `route`.
        scope: &'static str,
        /// Which.
        name: Arc<str>,
    },
    /// Too few endpoints of a priority are healthy: all are used.
    PanicEntered {
        /// The priority.
        priority: u32,
        /// Healthy endpoints.
        healthy: usize,
        /// All endpoints.
        total: usize,
    },
    /// Enough are healthy again.
    PanicLeft {
        /// The priority.
        priority: u32,
    },
    /// The set of endpoints changed.
    EndpointsChanged {
        /// How many are new.
        added: usize,
        /// How many are gone.
        removed: usize,
        /// How many there are.
        total: usize,
    },
    /// The source of the endpoints fails; the last good set stays.
    Stale {
        /// Why.
        why: String,
    },
    /// The source of the endpoints works again.
    Fresh,
}

/// Where changes are put.
#[derive(Clone, Debug, Default)]
pub struct Journal(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    changes: Sender<Change>,
    lost: Counter,
}

impl Journal {
    /// A journal, and where it is read.
    pub fn new() -> (Journal, Receiver<Change>) {
        let (changes, receiver) = channel(CHANGES_MAX);
        (Journal(Some(Arc::new(Inner { changes, lost: Counter::default() }))), receiver)
    }

    /// A journal that nobody reads.
    pub fn none() -> Journal {
        Journal(None)
    }

    /// Puts a change on record; never blocks.
    pub fn note(&self, change: Change) {
        if let Some(inner) = &self.0
            && inner.changes.try_send(change).is_err()
        {
            inner.lost.add();
        }
    }

    /// How many changes were lost.
    pub fn lost(&self) -> u64 {
        self.0.as_ref().map_or(0, |inner| inner.lost.get())
    }
}
