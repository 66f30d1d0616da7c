//! What a listener counts of its connections.
//!
//! Shared by all workers: a connection is rare enough for a shared counter. What is open is counted by a guard, so that
//! a cancelled or panicked connection is settled too.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the first bytes of a connection were found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// TLS that is not for this listener to end: carried as bytes.
    Tls,
    /// Bytes.
    Tcp,
}

impl Detected {
    /// Every protocol, in the order of its index.
    pub const ALL: [Detected; 4] = [Detected::Http1, Detected::Http2, Detected::Tls, Detected::Tcp];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Detected::Http1 => "http1",
            Detected::Http2 => "http2",
            Detected::Tls => "tls",
            Detected::Tcp => "tcp",
        }
    }
}

/// The counters of one listener.
#[derive(Debug)]
pub struct ConnectionStats {
    /// The listener's name: `inbound`, `outbound`, `tcp:<cluster>`.
    pub listener: Arc<str>,
    /// Connections that were accepted.
    pub(super) accepted: AtomicU64,
    /// Connections that were closed at once, because a limit was reached or the proxy drains.
    pub(super) refused: AtomicU64,
    /// Connections whose protocol was not known in time.
    pub(super) detect_timeouts: AtomicU64,
    /// TLS handshakes that failed.
    pub(super) handshake_failures: AtomicU64,
    /// Connections that were found to speak a protocol.
    pub(super) detected: [AtomicU64; Detected::ALL.len()],
    /// Open connections whose protocol is not known yet, then those of each protocol.
    pub(super) active: [AtomicU64; Detected::ALL.len() + 1],
}

impl ConnectionStats {
    pub(super) fn new(listener: &str) -> ConnectionStats {
        ConnectionStats {
            listener: listener.into(),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            detect_timeouts: AtomicU64::new(0),
            handshake_failures: AtomicU64::new(0),
            detected: Default::default(),
            active: Default::default(),
        }
    }

    /// Counts a connection that was accepted; it is open until the guard is dropped.
    pub fn accept(self: &Arc<Self>) -> Connected {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        add(&self.active, 0);
        Connected { stats: Arc::clone(self), slot: Cell::new(0) }
    }

    /// Counts a connection that was closed at once.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections that are open now.
    pub fn active(&self) -> u64 {
        self.active.iter().map(|active| active.load(Ordering::Relaxed)).sum()
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Connected {
    stats: Arc<ConnectionStats>,
    slot: Cell<usize>,
}

impl Connected {
    /// Notes which protocol the connection speaks.
    pub fn detected(&self, protocol: Detected) {
        let index = protocol as usize;
        add(&self.stats.detected, index);
        sub(&self.stats.active, self.slot.replace(index + 1));
        add(&self.stats.active, index + 1);
    }

    /// Notes that the protocol was not known in time.
    pub fn detect_timeout(&self) {
        self.stats.detect_timeouts.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that the TLS handshake failed.
    pub fn handshake_failed(&self) {
        self.stats.handshake_failures.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        sub(&self.stats.active, self.slot.get());
    }
}

fn add(counters: &[AtomicU64], index: usize) {
    if let Some(counter) = counters.get(index) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn sub(counters: &[AtomicU64], index: usize) {
    if let Some(counter) = counters.get(index) {
        counter.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_open_until_its_guard_is_dropped() {
        let stats = Arc::new(ConnectionStats::new("inbound"));
        let (first, second) = (stats.accept(), stats.accept());
        first.detected(Detected::Http2);
        assert_eq!(stats.active(), 2);
        assert_eq!(stats.active[2].load(Ordering::Relaxed), 1);
        drop(first);
        drop(second);
        assert_eq!(stats.active(), 0);
        assert_eq!(stats.accepted.load(Ordering::Relaxed), 2);
        assert_eq!(stats.detected[1].load(Ordering::Relaxed), 1);
    }
}
