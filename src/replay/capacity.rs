//! The search for the highest rate that holds its bounds (`--until-slo`).
//!
//! The rate rises by half until a bound breaks, then the gap between the last rate that held and the first that did not
//! is halved a few times. The loop stays open: a slow target does not lower the rate.
//!
//! # A step
//!
//! Each rate settles for a second, is judged for the rest of the step, and stays for another second until the threads that send
//! have told what ended in it; after one that broke, what has piled up may drain first. The judged time is longer where the
//! bounds ask for more exchanges than the step has (a p99 of less than 100 is the slowest one).
//! A step breaks if a bound does, and if what is under way grows all the time: a target that is a little
//! too slow makes a queue that has not reached the bound when a short step ends, and would in a longer one.
//!
//! # The replayer's own bound
//!
//! A step in which the replayer was late, or did not hand over what was due, says nothing about the target. It is tried once more;
//! then the search goes on below it, and if no bound is broken there, the capacity is *at least* what held, and the run INVALID.

use super::histogram::Histogram;
use super::judge::lag_bound;
use super::tally::Tally;
use super::verdict::{Capacity, Slo, Step, micros};
use std::time::{Duration, Instant};

/// How much the rate rises.
const RISE: f64 = 1.5;

/// How often the gap is halved.
const HALVINGS: u32 = 5;

/// The gap is small enough at this ratio.
const CLOSE: f64 = 1.03;

/// How long a step is not judged.
const SETTLE: Duration = Duration::from_secs(1);

/// How often drivers tell what they counted; what ended in a time is known so much later.
const TOLD: Duration = Duration::from_secs(1);

/// A shorter step is as long as this: growth cannot be told from chance in less than two seconds.
pub(super) const STEP_MIN: Duration = Duration::from_secs(3);

/// A step may take so many times as long, to have the exchanges that its bounds need.
const STRETCH_MAX: u32 = 10;

/// How long the target may recover after a step that broke.
const RECOVER: Duration = Duration::from_secs(10);

/// The share of the rate that keeps the loop alive while the target recovers, and the least of it.
const TRICKLE: f64 = 0.1;
const TRICKLE_MIN: f64 = 1.0;

/// What is under way may grow by this share of the exchanges of a step, and by so many, before it counts as piling up.
const GROWTH: f64 = 0.03;
const GROWTH_MIN: f64 = 8.0;

/// What was due and not handed over is the replayer's fault from this share on, and so many, and what is due in this time, by
/// which the schedule may be late at the ends of a step; what is later shows in the send lag.
const SHORTFALL: f64 = 0.01;
const SHORTFALL_MIN: f64 = 3.0;
const SHORTFALL_SECONDS: f64 = 0.1;

/// What the engine sees.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    pub at: Instant,
    /// Exchanges under way.
    pub in_flight: u64,
    /// Exchanges handed over since the start.
    pub handed: u64,
    /// Whether exchanges under way take all the memory that they may.
    pub is_memory_full: bool,
}

pub(super) struct Search {
    slo: Slo,
    step: Duration,
    lag_p99_max: Duration,
    low: f64,
    high: Option<f64>,
    rate: f64,
    halvings: u32,
    phase: Phase,
    is_repeated: bool,
    latency: Histogram,
    lag: Histogram,
    ended: u64,
    failed: u64,
    no_sockets: u64,
    steps: Vec<Step>,
    is_over: bool,
}

#[derive(Clone, Copy)]
enum Phase {
    Start,
    /// Until then.
    Settling(Instant),
    Judging {
        first: Sight,
        half: Option<Sight>,
    },
    /// What ended is still being told.
    Telling {
        first: Sight,
        half: Sight,
        last: Sight,
    },
    Recovering(Instant),
}

impl Search {
    /// # Errors
    /// The first rate is too low for its bounds to be judged in the time of a step.
    pub(super) fn new(from: f64, step: Duration, slo: Slo, lag_p99_max: Duration) -> Result<Search, String> {
        let step = step.max(STEP_MIN);
        let (needed, bound) = slo.samples();
        let most = step.saturating_mul(STRETCH_MAX);
        if needed as f64 > from * most.as_secs_f64() {
            return Err(format!(
                "--until-slo: {bound} needs {needed} exchanges, which {from} a second do not send in {}; start at a higher --rate, or with a longer --step-time",
                crate::units::duration_text(most)
            ));
        }
        Ok(Search {
            slo,
            step,
            lag_p99_max,
            low: 0.0,
            high: None,
            rate: from,
            halvings: 0,
            phase: Phase::Start,
            is_repeated: false,
            latency: Histogram::default(),
            lag: Histogram::default(),
            ended: 0,
            failed: 0,
            no_sockets: 0,
            steps: Vec::new(),
            is_over: false,
        })
    }

    /// Takes what a driver counted.
    pub(super) fn add(&mut self, delta: &Tally) {
        if !matches!(self.phase, Phase::Judging { .. } | Phase::Telling { .. }) {
            return;
        }
        let (ended, failed) = delta.failures();
        let own = delta.not_sent.get("no_sockets").copied().unwrap_or(0);
        let refused = delta.not_sent.values().sum::<u64>().saturating_sub(own);
        self.no_sockets += own;
        self.ended += ended + refused;
        self.failed += failed + refused;
        self.latency.add(&delta.intended);
        self.lag.add(&delta.lag);
    }

    /// How long this rate is judged.
    fn judged(&self) -> Duration {
        let needed = Duration::try_from_secs_f64(self.slo.samples().0 as f64 / self.rate.max(0.001));
        let most = self.step.saturating_mul(STRETCH_MAX);
        (self.step - SETTLE).max(needed.map_or(most, |needed| needed.saturating_add(TOLD))).min(most)
    }

    /// The rate from now on.
    pub(super) fn rate(&mut self, now: Sight) -> f64 {
        match self.phase {
            Phase::Start => self.phase = Phase::Settling(now.at + SETTLE),
            Phase::Settling(until) if now.at >= until => {
                self.phase = Phase::Judging { first: now, half: None };
                self.forget();
            }
            Phase::Judging { first, half: None } => {
                // What ended before is told until now.
                if now.at - first.at < TOLD {
                    self.forget();
                }
                if now.at - first.at >= self.judged() / 2 {
                    self.phase = Phase::Judging { first, half: Some(now) };
                }
            }
            Phase::Judging { first, half: Some(half) } if now.at - first.at >= self.judged() => {
                self.phase = Phase::Telling { first, half, last: now };
            }
            Phase::Telling { first, half, last } if now.at - last.at >= TOLD => {
                self.judge(first, half, last, now.at);
            }
            Phase::Recovering(since)
                if now.in_flight as f64 <= self.trickle().max(2.0) || now.at - since >= RECOVER =>
            {
                // The schedule is two exchanges ahead, which are as far from each other as they are now.
                let ahead = Duration::from_secs_f64(2.0 / self.trickle());
                self.phase = Phase::Settling(now.at + SETTLE + ahead);
            }
            _ => {}
        }
        if matches!(self.phase, Phase::Recovering(_)) { self.trickle() } else { self.rate }
    }

    fn trickle(&self) -> f64 {
        (self.rate * TRICKLE).max(TRICKLE_MIN.min(self.rate)).max(0.01)
    }

    fn forget(&mut self) {
        (self.latency, self.lag) = (Histogram::default(), Histogram::default());
        (self.ended, self.failed, self.no_sockets) = (0, 0, 0);
    }

    /// Why the replayer is the bound of this step.
    fn own_bound(&self, due: f64, handed: u64, is_memory_full: bool) -> Option<String> {
        let lag_us = self.lag.percentile_us(99.0);
        if u128::from(lag_us) > lag_bound(self.lag_p99_max, self.lag.count()).as_micros() {
            return Some(format!("its send lag is {}", micros(lag_us)));
        }
        if self.no_sockets > 0 {
            return Some(format!(
                "no more sockets could be opened for {} exchanges (ulimit -n)",
                self.no_sockets
            ));
        }
        let missing = due - handed as f64;
        let allowed = (due * SHORTFALL).max(self.rate * SHORTFALL_SECONDS).max(SHORTFALL_MIN);
        (missing > allowed).then(|| {
            let why = match is_memory_full {
                true => "exchanges under way took more memory than they may (--in-flight-max)",
                false => "the sending threads did not keep up (--drivers)",
            };
            format!("{missing:.0} of {due:.0} exchanges were not handed over: {why}")
        })
    }

    fn judge(&mut self, first: Sight, half: Sight, last: Sight, now: Instant) {
        let seconds = (last.at - first.at).as_secs_f64().max(0.001);
        let handed = last.handed.saturating_sub(first.handed);
        let due = self.rate * seconds;
        let own = self.own_bound(due, handed, last.is_memory_full);
        let mut broken = self.slo.broken(&self.latency, self.ended, self.failed);
        let grown = |from: Sight, to: Sight| to.in_flight as f64 - from.in_flight as f64;
        let much = (due * GROWTH).max(GROWTH_MIN);
        // In both halves: a pause of the target at the end is no queue that grows.
        let is_piling_up = grown(first, half) > much / 2.0 && grown(half, last) > much / 2.0;
        let achieved = (handed as f64 - grown(first, last)).max(0.0) / seconds;
        if broken.is_none()
            && (is_piling_up || achieved < self.rate * 0.8 && last.in_flight as f64 > self.rate)
        {
            broken = Some(format!(
                "the target does not keep up: {} exchanges piled up in {seconds:.1}s",
                grown(first, last).max(0.0)
            ));
        }
        // Memory fills up because the target is slow; all else is not its fault, whatever it did to the latency.
        let is_target = broken.is_some() && last.is_memory_full;
        let is_limited = own.is_some() && !is_target;
        if let Some(own) = own.filter(|_| is_limited) {
            broken = Some(format!("the replayer itself: {own}"));
        }
        self.steps.push(Step {
            rate: self.rate,
            achieved,
            p99_us: self.latency.percentile_us(99.0),
            errors: if self.ended == 0 { 0.0 } else { self.failed as f64 / self.ended as f64 },
            broken: broken.clone(),
            is_limited,
        });
        self.phase = if broken.is_some() { Phase::Recovering(now) } else { Phase::Settling(now + SETTLE) };
        // A machine that was busy for a moment is no bound.
        if is_limited && !self.is_repeated {
            self.is_repeated = true;
            return;
        }
        self.is_repeated = false;
        match broken {
            None => self.low = self.rate,
            Some(_) => self.high = Some(self.rate),
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
        let beyond = self.steps.iter().filter(|step| step.broken.is_some() && step.rate > self.low);
        let bound = beyond.min_by(lowest);
        Capacity {
            rate: self.low,
            is_at_least: bound.is_none_or(|step| step.is_limited),
            is_limited: bound.is_some_and(|step| step.is_limited),
            bound_by: bound.and_then(|step| step.broken.clone()).unwrap_or_else(|| "no bound was met".into()),
            steps: self.steps,
        }
    }
}

#[cfg(test)]
mod tests;
