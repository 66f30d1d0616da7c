//! Peak EWMA: of two endpoints the less loaded one is taken.
//!
//! The load of an endpoint is `average × (in flight + 1) ÷ weight`; see [`crate::cluster::Load`] for the average.
//! Sources: Finagle's `PeakEwma` (the algorithm), linkerd2-proxy (30 ms before the first answer).
//!
//! An endpoint without an answer yet is tried at once when it is idle; while that first attempt is under way it counts
//! as one of 30 ms, so that a new endpoint is not stormed.

use crate::cluster::{Endpoint, fading};
use std::sync::atomic::Ordering::Relaxed;

/// The average before the first answer, in nanoseconds.
const DEFAULT_NS: f64 = 30e6;

/// Whether `a` is less loaded than `b`.
#[inline]
pub(super) fn is_less_loaded(a: &Endpoint, b: &Endpoint, now_ns: u64) -> bool {
    load(a, now_ns).is_less(load(b, now_ns))
}

/// A load at the time at which it was measured.
#[derive(Clone, Copy)]
struct Measured {
    load: f64,
    at_ns: u64,
}

impl Measured {
    /// Compares at the later of the two times, which needs one exponential and not two.
    #[inline]
    fn is_less(self, other: Measured) -> bool {
        let late_ns = self.at_ns.max(other.at_ns);
        self.load * fading(late_ns - self.at_ns) < other.load * fading(late_ns - other.at_ns)
    }
}

#[inline]
fn load(endpoint: &Endpoint, now_ns: u64) -> Measured {
    let in_flight = f64::from(endpoint.load.in_flight.load(Relaxed));
    let (average, at_ns) = match endpoint.load.cost() {
        Some((cost, at_ns)) => (cost, at_ns.min(now_ns)),
        None if in_flight == 0.0 => (0.0, now_ns),
        None => (DEFAULT_NS, now_ns),
    };
    Measured { load: average * (in_flight + 1.0) / f64::from(endpoint.weight), at_ns }
}
