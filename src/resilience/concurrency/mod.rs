//! How many requests may be under way at once, told by their latency: the gradient controller.
//!
//! Formula and defaults are Envoy's (adaptive concurrency filter, gradient controller): every `update_interval` the
//! `percentile` of the latencies of that time, *sample RTT*, is held against the latency without queueing, *min RTT*:
//!
//! ```text
//! gradient = min RTT × (1 + buffer) ÷ sample RTT, within 0.5 … 2
//! limit    = gradient × limit + √(gradient × limit), within min … max
//! ```
//!
//! With N slots and latency T behind it, it settles where sample RTT is a little above `(1 + buffer) × T`, a little
//! above the N that Little's law asks for (throughput × T), so the slots stay full and the queue there stays short.
//!
//! # Where it differs from Envoy, and why
//!
//! Envoy measures min RTT by pinning the limit at 3 once a minute (or, lately, by not limiting at all for it, and then a
//! queue at the upstream measures itself). The pin answers most requests of that time with 503; users call it *the dip*.
//! Here, as in BBR (Cardwell et al., "BBR: Congestion-Based Congestion Control", and its drafts at the IETF):
//!
//! - **Traffic that is not limited measures itself.** While nobody waits and a quarter of the places are free,
//!   latencies are taken as they come; when min RTT is due, it is the lower quartile of what was seen.
//! - **Otherwise the limit walks down** from what is in use, in steps of a tenth, while it pays: a queue at the upstream
//!   that gets shorter makes each request faster and costs no throughput. A step that makes nothing faster, twice, ends
//!   the walk: there is no queue any more, and what was measured there is min RTT. So a measurement costs a tenth of the
//!   throughput for two steps of `min_rtt_requests` each, where Envoy's costs nearly all. When min RTT would rise by it,
//!   the walk goes on to half, to be sure. A walk that brought a new result, or never paid, is made again soon, five
//!   times at most: chance may have ended it.
//! - **Requests beyond the limit wait** ([`super::fair_queue`]); they are not refused for it.
//!
//! And the loop does not run ahead of what it has done: a sample counts only if its request began after the limit was
//! last changed, and after a change the next one takes twice as long as nine of ten requests do, as TCP changes its
//! window once a round trip. (Envoy halves every 100 ms, ten times before a service of one second shows the first
//! effect.) Three more rules:
//!
//! - What was not tried is not known: while a quarter of the limit is free it is not raised, and lowered only when the
//!   latency is far off, never below twice what is used (Netflix's `concurrency-limits` leaves it alone, and starts at 20
//!   as we do). While nobody waits it is raised by no more than keeps that quarter free. And the first window in which
//!   requests wait does not raise it: its answers are of requests that began before.
//! - When the limit was lowered by a quarter and the latency did not follow, it is not our doing: the service has
//!   become slower. That latency is the new min RTT, and a walk verifies it. Envoy would go on down until
//!   its next measurement.
//! - When the limit has grown by half since it was measured, it is measured again before its time: the service has grown,
//!   or it has become faster and min RTT is too high. And at `min`, where there is nothing left to lower, five windows
//!   that would go lower say that min RTT is wrong (that one is Envoy's).
//!
//! Pure: time and random numbers are passed in. How it fails: an upstream whose latency does not depend on concurrency
//! (it waits for others) is not limited in any useful way; then write a number. Fewer than ten answers decide nothing.

mod samples;
mod terms;
#[cfg(test)]
mod tests;
mod walk;

pub use samples::Samples;

use super::config::Concurrency;
use samples::Histogram;
use terms::{GRADIENT_MIN, Terms};
use walk::{Load, STEP, Turn, Walk};

/// Where the limit starts; nothing is known then.
const FIRST: u32 = 20;
/// From this part of the limit in use on, it is as if it were reached.
const PRESSURE: f64 = 0.75;
/// A window with fewer samples goes on.
const SAMPLES_MIN: u64 = 10;
/// Windows in a row that say that min RTT is wrong.
const WINDOWS: u32 = 5;
/// How many update intervals until a doubtful min RTT is measured again.
const SOON: u64 = 10;
/// What counts as slow, when it is asked how long a window must be to see them.
const TAIL_PERCENTILE: u32 = 90;
/// Which percentile of the windows without pressure is min RTT.
const LOW_PERCENTILE: u32 = 25;

/// The controller of one listener.
#[derive(Debug)]
pub struct Gradient {
    terms: Terms,
    limit: u32,
    min_rtt_ns: Option<u64>,
    sample_rtt_ns: u64,
    gradient: f64,
    window: Window,
    walk: Option<Walk>,
    /// Where the formula settles for what the last walk found; 0 if there was none.
    settled: u32,
    /// When min RTT was measured, and when it is due again.
    measured_ns: u64,
    due_ns: u64,
    /// Sample RTTs of windows without pressure, since min RTT was last set.
    seen: Histogram,
    /// Whether a request had to wait in the last window, and whether it was the first such window.
    was_limited: bool,
    has_surge: bool,
    /// Windows in a row at `min` that would go lower.
    at_min: u32,
    /// Where the limit began to be lowered.
    descent: Option<Load>,
    /// Measurements in a row that were to be made again soon.
    repeats: u32,
}

/// What is gathered until the next decision.
#[derive(Debug)]
struct Window {
    latencies: Histogram,
    peak: u32,
    was_limited: bool,
    began_ns: u64,
    has_new_limit: bool,
    /// How long the slow ones took in the window before.
    tail_ns: u64,
}

/// What a window says.
#[derive(Clone, Copy, Debug)]
struct Seen {
    rtt_ns: u64,
    peak: u32,
    was_limited: bool,
}

/// What was counted since the last look.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The latencies.
    pub samples: &'a Samples,
    /// The most requests at once.
    pub peak: u32,
    /// Whether a request had to wait.
    pub was_limited: bool,
}

impl Gradient {
    /// A controller that knows nothing yet.
    pub fn new(config: &Concurrency) -> Gradient {
        let terms = Terms::new(config);
        Gradient {
            terms,
            limit: FIRST.clamp(terms.min, terms.max),
            min_rtt_ns: None,
            sample_rtt_ns: 0,
            gradient: 1.0,
            window: Window {
                latencies: Histogram::new(),
                peak: 0,
                was_limited: false,
                began_ns: 0,
                has_new_limit: false,
                tail_ns: 0,
            },
            walk: None,
            settled: 0,
            measured_ns: 0,
            due_ns: 0,
            seen: Histogram::new(),
            was_limited: false,
            has_surge: false,
            at_min: 0,
            descent: None,
            repeats: 0,
        }
    }

    /// Other terms; what was measured stays.
    pub fn configure(&mut self, config: &Concurrency) {
        self.terms = Terms::new(config);
        self.limit = self.limit.clamp(self.terms.min, self.terms.max);
        self.walk = None;
    }

    /// How many requests may be under way.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The latency without queueing, in nanoseconds, once it is known.
    pub fn min_rtt_ns(&self) -> Option<u64> {
        self.min_rtt_ns
    }

    /// The latency of the last window, in nanoseconds; 0 before the first.
    pub fn sample_rtt_ns(&self) -> u64 {
        self.sample_rtt_ns
    }

    /// The last gradient.
    pub fn gradient(&self) -> f64 {
        self.gradient
    }

    /// Whether min RTT is being measured.
    pub fn is_measuring(&self) -> bool {
        self.walk.is_some() || self.min_rtt_ns.is_none()
    }

    /// A latency above this is slower than it should be, in nanoseconds; `u64::MAX` while nothing is known.
    pub fn slow_ns(&self) -> u64 {
        self.min_rtt_ns.map_or(u64::MAX, |min| (min as f64 * self.terms.buffer) as u64)
    }

    /// How long until the next look, in nanoseconds.
    pub fn update_ns(&self) -> u64 {
        self.terms.update_ns
    }

    /// Takes in what was counted, and decides if there is enough of it. Returns the limit.
    pub fn look(&mut self, now_ns: u64, observed: &Observed<'_>, random: u64) -> u32 {
        let window = &mut self.window;
        observed.samples.drain(&mut window.latencies);
        window.peak = window.peak.max(observed.peak);
        window.was_limited |= observed.was_limited;
        if window.began_ns == 0 {
            window.began_ns = now_ns; // the first look only says when time began
        } else if let Some(seen) = self.close(now_ns) {
            let limit = match self.walk.take() {
                Some(walk) => self.step(walk, seen, now_ns, random),
                None => self.adjust(seen, now_ns, random),
            };
            self.window.has_new_limit = limit != self.limit || std::mem::take(&mut self.has_surge);
            if self.window.has_new_limit {
                observed.samples.set_epoch(now_ns);
            }
            self.limit = limit;
        }
        self.limit
    }

    /// Ends the window, if it is long enough and has enough samples.
    fn close(&mut self, now_ns: u64) -> Option<Seen> {
        let (terms, window) = (&self.terms, &mut self.window);
        let elapsed_ns = now_ns.saturating_sub(window.began_ns);
        // Until the slow ones are answered too, only the quick ones are seen.
        let pace_ns =
            if window.has_new_limit || self.walk.is_some() { window.tail_ns.saturating_mul(2) } else { 0 };
        if elapsed_ns < terms.update_ns.max(pace_ns) {
            return None;
        }
        let samples = window.latencies.len();
        let is_measuring = self.walk.is_some() || self.min_rtt_ns.is_none();
        let wanted = if is_measuring { terms.requests } else { SAMPLES_MIN };
        // A service that answers seldom is not waited for until it has answered so often.
        let is_long = elapsed_ns >= terms.update_ns.max(self.sample_rtt_ns).saturating_mul(10);
        if samples < wanted && !(is_long && samples >= SAMPLES_MIN) {
            return None;
        }
        let seen = Seen {
            rtt_ns: window.latencies.percentile(terms.percentile)?,
            peak: window.peak,
            was_limited: window.was_limited,
        };
        window.tail_ns = window.latencies.percentile(TAIL_PERCENTILE).unwrap_or(seen.rtt_ns);
        window.latencies.clear();
        (window.peak, window.was_limited) = (0, false);
        window.began_ns = now_ns;
        self.sample_rtt_ns = seen.rtt_ns;
        Some(seen)
    }

    /// The usual decision.
    fn adjust(&mut self, seen: Seen, now_ns: u64, random: u64) -> u32 {
        let mut min_rtt_ns = match self.min_rtt_ns {
            Some(min_rtt_ns) => min_rtt_ns,
            None => {
                self.set_min_rtt(seen.rtt_ns, now_ns, random);
                if seen.was_limited {
                    // It may be the latency of a queue: measured as soon as the limit has stopped growing.
                    self.due_ns = now_ns;
                    self.was_limited = true;
                }
                seen.rtt_ns
            }
        };
        let is_pressed = seen.was_limited || f64::from(seen.peak) >= PRESSURE * f64::from(self.limit);
        if !is_pressed {
            self.seen.add(seen.rtt_ns);
        }
        if is_pressed && self.settled > 0 && self.limit > self.settled.saturating_add(self.settled / 2) {
            // The service has grown, or become faster. Which of the two, a walk tells, though not after every window.
            self.due_ns = self.due_ns.min(self.measured_ns.saturating_add(self.terms.interval_ns / 10));
        }
        let is_due = now_ns >= self.due_ns;
        let is_free = !is_pressed || self.seen.len() >= u64::from(WINDOWS);
        if let Some(low_ns) = self.seen.percentile(LOW_PERCENTILE).filter(|_| is_due && is_free) {
            min_rtt_ns = low_ns;
            self.set_min_rtt(low_ns, now_ns, random);
        }
        if let Some(doubtful_ns) = self.doubt(min_rtt_ns, seen) {
            self.forget();
            self.due_ns = now_ns.saturating_add(self.terms.update_ns.saturating_mul(SOON));
            self.min_rtt_ns = Some(doubtful_ns);
            min_rtt_ns = doubtful_ns;
        }
        self.gradient = self.terms.gradient(min_rtt_ns, seen.rtt_ns);
        let next = self.terms.next(self.gradient, self.limit);
        // While the limit grows, there is no queue to look under.
        let is_settled = next <= self.limit.saturating_add(self.limit / 10);
        let is_first = seen.was_limited && !self.was_limited;
        self.was_limited = seen.was_limited;
        if is_first && next > self.limit {
            // The answers are of requests that began before there was any pressure: they do not say that there is room.
            self.has_surge = true;
            self.limit
        } else if is_pressed && is_settled && now_ns >= self.due_ns {
            self.start_walk(seen)
        } else if seen.was_limited {
            next
        } else if is_pressed {
            // Nobody waits: as much room as is needed for it to stay so.
            let wanted = f64::from(seen.peak) / PRESSURE;
            next.min((wanted as u32).saturating_add(1)).max(self.limit)
        } else if self.gradient > GRADIENT_MIN {
            self.limit
        } else {
            next.max(seen.peak.saturating_mul(2)).min(self.limit)
        }
    }

    /// What min RTT is more likely, if something speaks against it.
    fn doubt(&mut self, min_rtt_ns: u64, seen: Seen) -> Option<u64> {
        if !seen.was_limited || self.terms.gradient(min_rtt_ns, seen.rtt_ns) >= 1.0 {
            self.descent = None;
            self.at_min = 0;
            return None;
        }
        // The limit goes down. It begins where the latency is highest: before that, a queue was still growing.
        let here = Load { limit: self.limit, rtt_ns: seen.rtt_ns };
        let from = self.descent.filter(|from| from.rtt_ns >= here.rtt_ns).unwrap_or(here);
        let is_lower = u64::from(here.limit) * 4 <= u64::from(from.limit) * 3;
        self.descent = Some(if is_lower { here } else { from });
        self.at_min = if self.limit == self.terms.min { self.at_min + 1 } else { 0 };
        let is_futile = is_lower && from.is_futile(here);
        (is_futile || self.at_min >= WINDOWS).then_some(seen.rtt_ns)
    }

    fn set_min_rtt(&mut self, min_rtt_ns: u64, now_ns: u64, random: u64) {
        self.min_rtt_ns = Some(min_rtt_ns);
        self.measured_ns = now_ns;
        self.settled = 0;
        self.forget();
        let range = self.terms.interval_ns / 100 * u64::from(self.terms.jitter_percent);
        let jitter_ns = ((u128::from(random) * u128::from(range)) >> 64) as u64;
        self.due_ns = now_ns.saturating_add(self.terms.interval_ns).saturating_add(jitter_ns);
    }

    /// Evidence for or against the min RTT that was.
    fn forget(&mut self) {
        self.seen.clear();
        self.at_min = 0;
        self.descent = None;
    }

    /// Begins to measure, from what is in use.
    fn start_walk(&mut self, seen: Seen) -> u32 {
        let from = self.limit.min(seen.peak).max(self.terms.min);
        self.walk = Some(Walk::new(self.limit, from));
        from
    }

    /// One step of a measurement is over.
    fn step(&mut self, mut walk: Walk, seen: Seen, now_ns: u64, random: u64) -> u32 {
        let old_ns = self.min_rtt_ns.unwrap_or(seen.rtt_ns);
        let soon_ns = now_ns.saturating_add(self.terms.update_ns.saturating_mul(SOON));
        match walk.step(seen, old_ns, self.terms.min) {
            Turn::Goes(level) => {
                self.walk = Some(walk);
                level
            }
            Turn::Void(level) => {
                self.due_ns = soon_ns;
                level
            }
            Turn::Found { min_rtt_ns, knee, is_idle } => {
                self.set_min_rtt(min_rtt_ns, now_ns, random);
                let Some(knee) = knee else { return walk.resume };
                // Chance may have ended the walk, above all one that never paid: it is settled once two agree.
                let has_fallen = (min_rtt_ns as f64) < STEP * old_ns as f64;
                let is_doubtful = (has_fallen || is_idle) && self.repeats < WINDOWS;
                self.repeats = if is_doubtful { self.repeats + 1 } else { 0 };
                if is_doubtful {
                    self.due_ns = soon_ns;
                }
                self.settled = self.terms.next(self.terms.buffer, knee);
                walk.resume.min(self.settled)
            }
        }
    }
}
