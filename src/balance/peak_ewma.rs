//! Peak EWMA with power of two choices: two endpoints are drawn by weight, the less loaded one is taken.
//!
//! The load of an endpoint is `average × (in flight + 1) ÷ weight`. Its average is an exponentially weighted one of
//! the times to answer, decay 10 s, that a slower answer replaces at once (hence "peak") and a faster one only pulls
//! down slowly. It also fades while there is no answer, so an endpoint that was slow or failed is tried again.
//! Sources: Finagle's `PeakEwma` (the algorithm), tower's `peak_ewma` and linkerd (decay 10 s, 30 ms before the first
//! answer), Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing".
//!
//! An endpoint without an answer yet is tried at once when it is idle; while that first attempt is under way it counts
//! as one of 30 ms, so that a new endpoint is not stormed.
//!
//! The average is two relaxed atomics; two workers that write at once lose one sample of the two.

use super::weights;
use crate::cluster::{Endpoint, Load};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Time in which the weight of an answer falls to 1/e, in nanoseconds.
const DECAY_NS: f64 = 10e9;
/// The average before the first answer, in nanoseconds.
const DEFAULT_NS: f64 = 30e6;

/// The index of the endpoint to use; `endpoints` is not empty.
pub(super) fn pick(
    endpoints: &[Arc<Endpoint>],
    tried: &[u64],
    random: &mut impl FnMut() -> u64,
    now_ns: u64,
) -> usize {
    let (first, second) = draw_two(endpoints, tried, random);
    match (endpoints.get(first), endpoints.get(second)) {
        (Some(a), Some(b)) if load(b, now_ns).is_less(load(a, now_ns)) => second,
        _ => first,
    }
}

/// Two indexes, different ones if more than one endpoint may be used.
fn draw_two(endpoints: &[Arc<Endpoint>], tried: &[u64], random: &mut impl FnMut() -> u64) -> (usize, usize) {
    let count = endpoints.len() as u64;
    let weights = weights(endpoints);
    if tried.is_empty() && weights.is_equal {
        let first = below(count, random());
        let second = below(count.saturating_sub(1), random());
        return (first as usize, (second + u64::from(second >= first && count > 1)) as usize);
    }
    let is_fresh = |endpoint: &Endpoint| !tried.contains(&endpoint.id);
    let (mut fresh, mut total) = (0, 0);
    for endpoint in endpoints.iter().filter(|endpoint| is_fresh(endpoint)) {
        fresh += 1;
        total += u64::from(endpoint.weight);
    }
    let (fresh, total) = if fresh == 0 { (count, weights.total) } else { (fresh, total) };
    let is_usable = |endpoint: &Endpoint| fresh == count || is_fresh(endpoint);
    let first = draw(endpoints, below(total, random()), |_, endpoint| is_usable(endpoint));
    let rest = total - endpoints.get(first).map_or(0, |endpoint| u64::from(endpoint.weight));
    if fresh == 1 || rest == 0 {
        return (first, first);
    }
    let second =
        draw(endpoints, below(rest, random()), |index, endpoint| index != first && is_usable(endpoint));
    (first, second)
}

/// The index of the usable endpoint that holds the ticket, when each holds as many as its weight.
fn draw(endpoints: &[Arc<Endpoint>], mut ticket: u64, is_usable: impl Fn(usize, &Endpoint) -> bool) -> usize {
    let mut last = 0;
    for (index, endpoint) in
        endpoints.iter().enumerate().filter(|(index, endpoint)| is_usable(*index, endpoint))
    {
        last = index;
        match ticket.checked_sub(u64::from(endpoint.weight)) {
            Some(rest) => ticket = rest,
            None => break,
        }
    }
    last
}

/// A uniform number below `count` (Lemire's multiplication); 0 if `count` is 0.
fn below(count: u64, random: u64) -> u64 {
    ((u128::from(random) * u128::from(count)) >> 64) as u64
}

/// A load at the time at which it was measured.
#[derive(Clone, Copy)]
struct Measured {
    load: f64,
    at_ns: u64,
}

impl Measured {
    /// Compares at the later of the two times, which needs one exponential and not two.
    fn is_less(self, other: Measured) -> bool {
        let late_ns = self.at_ns.max(other.at_ns);
        self.load * fading(late_ns - self.at_ns) < other.load * fading(late_ns - other.at_ns)
    }
}

fn load(endpoint: &Endpoint, now_ns: u64) -> Measured {
    let in_flight = f64::from(endpoint.load.in_flight.load(Relaxed));
    let cost = f64::from_bits(endpoint.load.cost.load(Relaxed));
    let (average, at_ns) = match cost > 0.0 {
        true => (cost, endpoint.load.cost_at.load(Relaxed).min(now_ns)),
        false if in_flight == 0.0 => (0.0, now_ns),
        false => (DEFAULT_NS, now_ns),
    };
    Measured { load: average * (in_flight + 1.0) / f64::from(endpoint.weight), at_ns }
}

fn fading(elapsed_ns: u64) -> f64 {
    if elapsed_ns == 0 { 1.0 } else { (-(elapsed_ns as f64) / DECAY_NS).exp() }
}

/// Takes `time` into the average.
pub(super) fn observe(load: &Load, time: Duration, now_ns: u64) {
    // Zero says that there is no answer yet.
    let sample = (time.as_nanos() as f64).max(1.0);
    let cost = f64::from_bits(load.cost.load(Relaxed));
    let cost = if sample >= cost {
        sample
    } else {
        let old = fading(now_ns.saturating_sub(load.cost_at.load(Relaxed)));
        cost * old + sample * (1.0 - old)
    };
    load.cost.store(cost.to_bits(), Relaxed);
    load.cost_at.store(now_ns, Relaxed);
}

/// The average, faded since it was written; `None` before the first answer.
pub(super) fn average(load: &Load, now_ns: u64) -> Option<Duration> {
    let cost = f64::from_bits(load.cost.load(Relaxed));
    let elapsed_ns = now_ns.saturating_sub(load.cost_at.load(Relaxed));
    (cost > 0.0).then(|| Duration::from_nanos((cost * fading(elapsed_ns)) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn ms(load: &Load, now_ns: u64) -> u128 {
        average(load, now_ns).unwrap().as_millis()
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_fast_ones_pull_down_slowly() {
        let load = Load::default();
        assert_eq!(average(&load, 0), None);
        observe(&load, Duration::from_millis(10), 0);
        assert_eq!(ms(&load, 0), 10);
        observe(&load, Duration::from_millis(500), SECOND_NS);
        assert_eq!(ms(&load, SECOND_NS), 500, "the peak replaces the average");
        observe(&load, Duration::from_millis(10), 2 * SECOND_NS);
        // 500 × e^-0.1 + 10 × (1 - e^-0.1)
        assert_eq!(ms(&load, 2 * SECOND_NS), 453);
    }

    #[test]
    fn an_average_fades_without_answers() {
        let load = Load::default();
        observe(&load, Duration::from_millis(1000), 0);
        assert_eq!(ms(&load, 10 * SECOND_NS), 367, "1/e after the decay time");
        assert_eq!(ms(&load, 100 * SECOND_NS), 0);
    }

    #[test]
    fn a_clock_that_goes_back_does_no_harm() {
        let load = Load::default();
        observe(&load, Duration::from_millis(10), SECOND_NS);
        observe(&load, Duration::from_millis(1), 0);
        assert_eq!(ms(&load, 0), 10);
    }

    #[test]
    fn below_covers_the_range() {
        assert_eq!(below(10, 0), 0);
        assert_eq!(below(10, u64::MAX), 9);
        assert_eq!(below(10, u64::MAX / 2), 4);
        assert_eq!(below(0, u64::MAX), 0);
    }
}
