//! Peak EWMA: of two endpoints the less loaded one is taken.
//!
//! The load of an endpoint is `average × (in flight + 1)`; see [`crate::cluster::Load`] for the average.
//! Sources: Finagle's `PeakEwma` (the algorithm), linkerd2-proxy (30 ms before the first answer). Neither has weights.
//!
//! With weights, an endpoint is drawn as often as its weight says, requests in flight count by weight, and the other one
//! is taken only if its load is less than half: between endpoints that are about as fast, the weights decide, and one
//! that is slow or fails is left as it is without weights. (Dividing the load by the weight instead would give a canary of
//! weight 1 beside 99 nothing at all while one request comes after the other.)
//!
//! An endpoint without an answer yet is tried at once when it is idle; while that first attempt is under way it counts
//! as one of 30 ms, so that a new endpoint is not stormed.

use crate::cluster::{Endpoint, fading};
use std::sync::atomic::Ordering::Relaxed;

/// The average before the first answer, in nanoseconds.
const DEFAULT_NS: f64 = 30e6;

/// How much more loaded one must be than the other, where weights differ, to lose the turn that it has by weight.
const MARGIN: f64 = 2.0;

/// Whether `a` is less loaded than `b`, which was drawn first. `mean`: the average weight, where weights differ.
#[inline]
pub(super) fn is_less_loaded(a: &Endpoint, b: &Endpoint, mean: Option<f64>, now_ns: u64) -> bool {
    let Some(mean) = mean else { return load(a, 1.0, now_ns).is_less(load(b, 1.0, now_ns)) };
    let of = |endpoint: &Endpoint| load(endpoint, mean / f64::from(endpoint.weight), now_ns);
    let a = of(a);
    Measured { load: a.load * MARGIN, ..a }.is_less(of(b))
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

/// `scale`: what a request in flight counts.
#[inline]
fn load(endpoint: &Endpoint, scale: f64, now_ns: u64) -> Measured {
    let in_flight = f64::from(endpoint.load.in_flight.load(Relaxed));
    let (average, at_ns) = match endpoint.load.cost() {
        Some((cost, at_ns)) => (cost, at_ns.min(now_ns)),
        None if in_flight == 0.0 => (0.0, now_ns),
        None => (DEFAULT_NS, now_ns),
    };
    Measured { load: average * (in_flight * scale + 1.0), at_ns }
}
