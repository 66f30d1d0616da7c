//! Balancing: which endpoint of a cluster an attempt goes to.
//!
//! [`pick`] chooses and counts the attempt as in flight until [`Picked`] is dropped; [`observe`] and
//! [`observe_failure`] tell how it went. The policies are pure functions of the endpoint set, a random number and a
//! time, and allocate nothing. Endpoints that earlier attempts of the same exchange used are avoided as long as there
//! is another.
//!
//! How it fails: a cluster without endpoints gives `None`; there is no other way.

pub mod layer;
mod peak_ewma;
mod round_robin;

use crate::cluster::{Cluster, Endpoint, Picked, Policy};
use std::sync::Arc;
use std::time::Duration;

/// What a failed attempt counts at least, so that an endpoint that fails fast does not attract all traffic.
const FAILURE_COST_MIN: Duration = Duration::from_secs(1);

/// Picks an endpoint of `cluster` by its policy; `None` if it has none.
///
/// `tried` are the ids that earlier attempts used, `random` gives uniform numbers, `now_ns` is the time since the
/// process started, the same clock as in [`observe`].
#[inline]
pub fn pick(
    cluster: &Cluster,
    tried: &[u64],
    random: &mut impl FnMut() -> u64,
    now_ns: u64,
) -> Option<Picked> {
    let set = cluster.endpoints();
    let endpoints = set.endpoints.as_slice();
    let index = match (cluster.settings.policy, endpoints.len()) {
        (_, 0) => return None,
        (_, 1) => 0,
        (Policy::PeakEwma, _) => peak_ewma::pick(endpoints, tried, random, now_ns),
        (Policy::RoundRobin, _) => round_robin::pick(endpoints, tried, |turns| cluster.next_turn(turns)),
    };
    endpoints.get(index).map(|endpoint| Picked::new(Arc::clone(endpoint)))
}

/// Tells how long `endpoint` took to answer: from the start of the attempt to the head of the response.
///
/// Not for attempts that the client cancelled: they say nothing of the endpoint.
#[inline]
pub fn observe(endpoint: &Endpoint, time: Duration, now_ns: u64) {
    peak_ewma::observe(&endpoint.load, time, now_ns);
}

/// Tells that an attempt failed after `time`: no connection, no answer in time, a reset.
#[inline]
pub fn observe_failure(endpoint: &Endpoint, time: Duration, now_ns: u64) {
    peak_ewma::observe(&endpoint.load, time.max(FAILURE_COST_MIN), now_ns);
}

/// The average that balancing holds of `endpoint`'s answers; `None` before the first.
pub fn average(endpoint: &Endpoint, now_ns: u64) -> Option<Duration> {
    peak_ewma::average(&endpoint.load, now_ns)
}

/// The weights of a set.
struct Weights {
    total: u64,
    is_equal: bool,
}

fn weights(endpoints: &[Arc<Endpoint>]) -> Weights {
    let first = endpoints.first().map_or(1, |endpoint| endpoint.weight);
    let (mut total, mut is_equal) = (0, true);
    for endpoint in endpoints {
        total += u64::from(endpoint.weight);
        is_equal &= endpoint.weight == first;
    }
    Weights { total, is_equal }
}

#[cfg(test)]
mod tests;
