//! What a connection counts as, from before it is dialled until it is closed: one under the cap of its cluster, and one
//! of its endpoint. All of it is drop guards: whatever ends a connection gives its place back, and to whom.

use crate::cluster::{Cluster, EndpointStats};
use crate::error::{Error, Kind, Replay, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// How long a connection serves the requests of its own worker and endpoint first, while others wait for its place.
/// Long enough that a place is not spent on handshakes alone, short enough that every worker has its turn within the
/// usual connect timeout.
const TURN: Duration = Duration::from_millis(20);

/// A place under the cap of a cluster.
pub(super) struct Slot {
    cluster: Arc<Cluster>,
    since: Instant,
}

impl Slot {
    /// A place, if there is one and nobody waits for it.
    pub(super) fn try_take(cluster: &Arc<Cluster>) -> Option<Slot> {
        let cap = &cluster.breakers.connections;
        // Looked at first: to wait is not to be refused, and an attempt that fails counts as a refusal.
        let is_free = cluster.line.is_empty() && cap.active() < cap.limit;
        (is_free && cap.try_enter().is_ok()).then(|| Slot::granted(cluster))
    }

    /// A place that the line gave.
    pub(super) fn granted(cluster: &Arc<Cluster>) -> Slot {
        Slot { cluster: Arc::clone(cluster), since: Instant::now() }
    }

    /// When it was taken.
    pub(super) fn since(&self) -> Instant {
        self.since
    }
}

/// Whether a connection that has its place `since` then gives it to others who wait.
pub(super) fn had_its_turn(since: Instant) -> bool {
    since.elapsed() >= TURN
}

impl Drop for Slot {
    fn drop(&mut self) {
        let cap = &self.cluster.breakers.connections;
        cap.leave();
        self.cluster.line.serve(cap);
    }
}

/// An open connection: what it counts as.
pub struct Open {
    _counted: Counted,
    slot: Slot,
}

struct Counted(Arc<EndpointStats>);

impl Open {
    pub(super) fn new(stats: &Arc<EndpointStats>, slot: Slot) -> Open {
        stats.connections.fetch_add(1, Ordering::Relaxed);
        Open { _counted: Counted(Arc::clone(stats)), slot }
    }

    /// When its place was taken.
    pub(super) fn since(&self) -> Instant {
        self.slot.since()
    }

    /// The place, for another connection in its stead.
    pub(super) fn into_slot(self) -> Slot {
        self.slot
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a request that has no connection yet: it waits for one, or one is being made for it.
pub(super) struct Pending<'a>(&'a Cluster);

impl Pending<'_> {
    /// Counts one more.
    pub(super) fn enter(cluster: &Cluster) -> Result<Pending<'_>> {
        let breakers = &cluster.breakers;
        match breakers.enter(&breakers.pending) {
            Ok(()) => Ok(Pending(cluster)),
            Err(refusal) => {
                let detail = format!("{} requests wait for a connection", breakers.pending.limit);
                Err(Error::new(Kind::Overflow, detail).with_refusal(refusal).with_replay(Replay::Safe))
            }
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.breakers.pending.leave();
    }
}
