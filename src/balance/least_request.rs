//! Least request: of two endpoints the one with fewer requests in flight for its weight is taken.
//!
//! Source: Envoy's least request with `choice_count` 2 and `active_request_bias` 1; unlike there, also endpoints of
//! different weights are two choices. Where none is busier than the other, the one that was drawn first is taken, and
//! drawing is by weight: so weights count also where one request comes after the other. It looks at nothing but what is under way, so an endpoint that fails fast attracts
//! requests: leave outlier detection on.

use crate::cluster::Endpoint;
use std::sync::atomic::Ordering::Relaxed;

/// Whether `a` has fewer requests in flight for its weight than `b`.
#[inline]
pub(super) fn has_fewer(a: &Endpoint, b: &Endpoint) -> bool {
    let active = |endpoint: &Endpoint| u64::from(endpoint.load.in_flight.load(Relaxed));
    active(a) * u64::from(b.weight) < active(b) * u64::from(a.weight)
}
