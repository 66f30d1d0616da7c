//! The formula, and what the configuration says of it.

use super::super::config::Concurrency;

/// Bounds of the gradient: at most halved or doubled in one step.
pub(super) const GRADIENT_MIN: f64 = 0.5;
const GRADIENT_MAX: f64 = 2.0;
/// What the configuration says, in the units that are computed with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) percentile: u32,
    pub(super) update_ns: u64,
    pub(super) buffer: f64,
    pub(super) interval_ns: u64,
    pub(super) jitter_percent: u32,
    pub(super) requests: u64,
}

impl Terms {
    pub(super) fn new(config: &Concurrency) -> Terms {
        let ns = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let max = config.max.max(1);
        Terms {
            min: config.min.clamp(1, max),
            max,
            percentile: config.percentile.clamp(1, 99),
            update_ns: ns(config.update_interval).max(1),
            buffer: 1.0 + f64::from(config.buffer_percent) / 100.0,
            interval_ns: ns(config.min_rtt_interval),
            jitter_percent: config.min_rtt_jitter_percent,
            requests: u64::from(config.min_rtt_requests.max(1)),
        }
    }

    pub(super) fn within(&self, limit: f64) -> u32 {
        (limit as u32).clamp(self.min, self.max)
    }

    /// The limit that the formula makes of `limit`.
    pub(super) fn next(&self, gradient: f64, limit: u32) -> u32 {
        let scaled = f64::from(limit) * gradient;
        self.within(scaled + scaled.sqrt())
    }

    pub(super) fn gradient(&self, min_rtt_ns: u64, rtt_ns: u64) -> f64 {
        (min_rtt_ns as f64 * self.buffer / rtt_ns.max(1) as f64).clamp(GRADIENT_MIN, GRADIENT_MAX)
    }
}
