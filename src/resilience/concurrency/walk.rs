//! One measurement of min RTT: the limit goes down in steps while that makes requests faster.

use super::Seen;

/// One step.
pub(super) const STEP: f64 = 0.9;
/// So many windows in a row that are no faster end it.
const MISSES: u32 = 2;

/// A limit that is reached, and the latency with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) limit: u32,
    pub(super) rtt_ns: u64,
}

impl Load {
    /// Whether a lower limit, at `here`, did not make it faster. A queue shrinks with what is under way, a service
    /// without one stays as it is; the middle decides.
    pub(super) fn is_futile(self, here: Load) -> bool {
        let less = f64::from(here.limit) / f64::from(self.limit.max(1));
        here.rtt_ns as f64 > self.rtt_ns as f64 * (1.0 + less) / 2.0
    }
}

/// A measurement that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    /// The limit before it.
    pub(super) resume: u32,
    from: u32,
    level: u32,
    /// Whether the latency at its beginning is measured; before that, `paid` is a guess.
    has_begun: bool,
    begin_ns: u64,
    /// The last step that made it faster; the windows since then that did not, and their latencies together.
    paid: Load,
    misses: u32,
    missed_ns: u64,
}

/// What follows from a window.
#[derive(Clone, Copy, Debug)]
pub(super) enum Turn {
    /// It goes on, with this limit.
    Goes(u32),
    /// The service has changed meanwhile: what was measured is of no use. The limit stays at this.
    Void(u32),
    /// It is over.
    Found {
        /// The latency without a queue.
        min_rtt_ns: u64,
        /// The lowest limit that still paid; `None` if the traffic no longer fills what it may.
        knee: Option<u32>,
        /// Whether no step paid.
        is_idle: bool,
    },
}

impl Walk {
    /// Begins at `from`.
    pub(super) fn new(resume: u32, from: u32) -> Walk {
        Walk {
            resume,
            from,
            level: from,
            has_begun: false,
            begin_ns: 0,
            paid: Load { limit: from, rtt_ns: 0 },
            misses: 0,
            missed_ns: 0,
        }
    }

    /// Looks at the window of the current step. `old_ns` is the min RTT so far; the limit goes no lower than `min`.
    pub(super) fn step(&mut self, seen: Seen, old_ns: u64, min: u32) -> Turn {
        let here = Load { limit: self.level, rtt_ns: seen.rtt_ns };
        if !self.has_begun {
            (self.has_begun, self.begin_ns, self.paid) = (true, seen.rtt_ns, here);
            return self.lower(min);
        }
        if seen.rtt_ns > self.begin_ns.saturating_mul(2) {
            return Turn::Void(self.level);
        }
        if self.paid.is_futile(here) {
            self.misses += 1;
            self.missed_ns += seen.rtt_ns;
        } else {
            (self.paid, self.misses, self.missed_ns) = (here, 0, 0);
        }
        // The windows without a queue together say it better than the last one.
        let min_rtt_ns = self.missed_ns.checked_div(u64::from(self.misses)).unwrap_or(seen.rtt_ns);
        // What would raise it must be sure.
        let is_proven = STEP * min_rtt_ns as f64 <= old_ns as f64 || self.level <= self.from / 2;
        if !seen.was_limited || self.level <= min || (self.misses >= MISSES && is_proven) {
            return Turn::Found {
                min_rtt_ns,
                knee: seen.was_limited.then_some(self.paid.limit),
                is_idle: self.paid.limit == self.from,
            };
        }
        if self.misses == 1 {
            return Turn::Goes(self.level); // once more, before it costs more
        }
        self.lower(min)
    }

    fn lower(&mut self, min: u32) -> Turn {
        self.level = ((f64::from(self.level) * STEP) as u32).max(min).min(self.level);
        Turn::Goes(self.level)
    }
}
