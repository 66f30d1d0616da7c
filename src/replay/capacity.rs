//! The search for the highest rate that holds its bounds (`--until-slo`).
//!
//! The rate rises by half until a bound breaks, then the gap between the last rate that held and the first that did not
//! is halved a few times. Each rate is held for a step; its first second is not judged, and after one that broke, what
//! has piled up may drain first. The loop stays open: a slow target does not lower the rate.

use super::histogram::Histogram;
use super::tally::Tally;
use super::verdict::{Capacity, Slo, Step};
use std::time::{Duration, Instant};

/// How much the rate rises.
const RISE: f64 = 1.5;

/// How often the gap is halved.
const HALVINGS: u32 = 5;

/// The gap is small enough at this ratio.
const CLOSE: f64 = 1.03;

/// How long a step is not judged.
const SETTLE: Duration = Duration::from_secs(1);

/// How long the target may recover after a step that broke.
const RECOVER: Duration = Duration::from_secs(10);

/// A rate that keeps the loop alive while the target recovers.
const TRICKLE: f64 = 1.0;

pub(super) struct Search {
    slo: Slo,
    step: Duration,
    lag_p99_max: Duration,
    low: f64,
    high: Option<f64>,
    rate: f64,
    halvings: u32,
    phase: Phase,
    latency: Histogram,
    lag: Histogram,
    ended: u64,
    failed: u64,
    steps: Vec<Step>,
    is_over: bool,
}

enum Phase {
    Start,
    Settling(Instant),
    Judging(Instant),
    Recovering(Instant),
}

impl Search {
    pub(super) fn new(from: f64, step: Duration, slo: Slo, lag_p99_max: Duration) -> Search {
        Search {
            slo,
            step: step.max(SETTLE * 2),
            lag_p99_max,
            low: 0.0,
            high: None,
            rate: from,
            halvings: 0,
            phase: Phase::Start,
            latency: Histogram::default(),
            lag: Histogram::default(),
            ended: 0,
            failed: 0,
            steps: Vec::new(),
            is_over: false,
        }
    }

    /// Takes what a driver counted.
    pub(super) fn add(&mut self, delta: &Tally) {
        if matches!(self.phase, Phase::Judging(_)) {
            let (ended, failed) = delta.failures();
            let refused: u64 = delta.not_sent.values().sum();
            self.ended += ended + refused;
            self.failed += failed + refused;
            self.latency.add(&delta.intended);
            self.lag.add(&delta.lag);
        }
    }

    /// The rate from now on.
    pub(super) fn rate(&mut self, now: Instant, in_flight: u64) -> f64 {
        match self.phase {
            Phase::Start => self.phase = Phase::Settling(now),
            Phase::Settling(since) if now - since >= SETTLE => {
                (self.latency, self.lag) = (Histogram::default(), Histogram::default());
                (self.ended, self.failed) = (0, 0);
                self.phase = Phase::Judging(now);
            }
            Phase::Judging(since) if now - since >= self.step - SETTLE => self.judge(now, since, in_flight),
            Phase::Recovering(since) if in_flight <= 2 || now - since >= RECOVER => {
                self.phase = Phase::Settling(now);
            }
            _ => {}
        }
        if matches!(self.phase, Phase::Recovering(_)) { TRICKLE } else { self.rate }
    }

    fn judge(&mut self, now: Instant, since: Instant, in_flight: u64) {
        let seconds = (now - since).as_secs_f64();
        let lag_us = self.lag.percentile_us(99.0);
        let mut broken = self.slo.broken(&self.latency, self.ended, self.failed);
        if broken.is_none() && u128::from(lag_us) > self.lag_p99_max.as_micros() {
            broken = Some(format!("the replayer itself: its send lag is {}", super::verdict::micros(lag_us)));
        }
        let achieved = self.ended as f64 / seconds.max(0.001);
        // A queue that grows has not shown in the latency of what ended yet.
        if broken.is_none() && achieved < self.rate * 0.8 && in_flight as f64 > self.rate {
            broken = Some("the target does not keep up: exchanges pile up".into());
        }
        self.steps.push(Step {
            rate: self.rate,
            achieved,
            p99_us: self.latency.percentile_us(99.0),
            errors: if self.ended == 0 { 0.0 } else { self.failed as f64 / self.ended as f64 },
            broken: broken.clone(),
        });
        self.phase = Phase::Settling(now);
        match broken {
            None => self.low = self.rate,
            Some(_) => {
                self.high = Some(self.rate);
                self.phase = Phase::Recovering(now);
            }
        }
        match self.high {
            None => {
                self.rate *= RISE;
                self.is_over |= self.rate > super::schedule::RATE_MAX;
            }
            Some(high) => {
                self.halvings += 1;
                self.is_over |= self.halvings > HALVINGS || high <= self.low * CLOSE || high < 0.1;
                self.rate = (self.low + high) / 2.0;
            }
        }
    }

    /// Whether the capacity is known.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The rate that is being tried.
    pub(super) fn current(&self) -> f64 {
        self.rate
    }

    pub(super) fn finish(self) -> Capacity {
        let lowest = |one: &&Step, two: &&Step| one.rate.total_cmp(&two.rate);
        let broken = self.steps.iter().filter(|step| step.broken.is_some()).min_by(lowest);
        Capacity {
            rate: self.low,
            bound_by: broken
                .and_then(|step| step.broken.clone())
                .unwrap_or_else(|| "no bound was met".into()),
            steps: self.steps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capacity_of_a_target_is_found() {
        // A target that answers in 1 ms up to 1,000/s, and in 1 s beyond.
        let slo = Slo::parse("p99<100ms").unwrap();
        let mut search = Search::new(100.0, Duration::from_secs(3), slo, Duration::from_millis(1));
        let mut now = Instant::now();
        for _ in 0..2_000 {
            let rate = search.rate(now, 0);
            if search.is_over() {
                break;
            }
            let mut delta = Tally { sent: rate as u64 / 4, ..Tally::default() };
            let us = if rate > 1_000.0 { 1_000_000 } else { 1_000 };
            (0..delta.sent).for_each(|_| delta.intended.record_us(us));
            search.add(&delta);
            now += Duration::from_millis(250);
        }
        assert!(search.is_over());
        let capacity = search.finish();
        assert!((900.0..=1_000.0).contains(&capacity.rate), "{capacity:?}");
        assert!(capacity.bound_by.starts_with("p99 is 1.00s"), "{capacity:?}");
    }
}
