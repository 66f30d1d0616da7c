//! What is said of a run: what makes it INVALID, what breaks its bounds, and when a target is down.

use super::engine::Options;
use super::tally::Tally;
use super::target::Target;
use super::verdict::{Run, Verdict};
use std::time::{Duration, Instant};

/// How long a target may take no connection before the run ends.
pub(super) const DOWN: Duration = Duration::from_secs(10);

/// With fewer exchanges the p99 is the slowest one or two: the bound of the send lag is then ten times as wide.
const FEW: u64 = 1_000;

/// Beyond this p99 of so many send lags the replayer did not keep its schedule.
pub(super) fn lag_bound(most: Duration, count: u64) -> Duration {
    if count < FEW { most.saturating_mul(10) } else { most }
}

/// What invalidates a run, and what breaks its bounds.
pub(super) fn judge(run: &mut Run, options: &Options, tally: &Tally, target: &Target) {
    let bound = lag_bound(options.lag_p99_max, tally.lag.count());
    let lag_us = tally.lag.percentile_us(99.0);
    let micros = super::verdict::micros;
    if u128::from(lag_us) > bound.as_micros() {
        let why = format!(
            "the replayer did not keep its schedule at {}: p99 of the send lag is {}, more than {}; use fewer exchanges a second, or more cores and --drivers",
            target.name,
            micros(lag_us),
            micros(u64::try_from(bound.as_micros()).unwrap_or(u64::MAX))
        );
        run.worsen(Verdict::Invalid, why);
    }
    for (reason, what) in [
        ("queue_full", "the sending threads did not keep up"),
        ("drained", "they waited for answers when the time to finish was over (--drain)"),
        ("memory", "exchanges under way took more memory than they may"),
        ("no_sockets", "no more sockets could be opened; raise the limit of open files (ulimit -n)"),
    ] {
        if let Some(count) = tally.not_sent.get(reason) {
            run.worsen(
                Verdict::Invalid,
                format!("{count} exchanges were not sent to {}: {what}", target.name),
            );
        }
    }
    let refused: u64 =
        ["connect", "tls", "connect_timeout"].iter().filter_map(|name| tally.not_sent.get(*name)).sum();
    if tally.sent == 0 && refused > 0 {
        run.worsen(Verdict::TargetDown, format!("{} took none of {refused} exchanges", target.authority));
    }
    let (ended, failed) = tally.failures();
    // A connection that was refused is a failure of the target as well.
    let (ended, failed) = (ended + refused, failed + refused);
    if let Some(broken) = options.slo.as_ref().and_then(|slo| slo.broken(&tally.intended, ended, failed)) {
        run.worsen(Verdict::SloBroken, format!("{}: {broken}", target.name));
    }
}

/// Sees a target go down: exchanges find no connection, and none is sent.
#[derive(Default)]
pub(super) struct Watch {
    sent: u64,
    refused: u64,
    since: Option<Instant>,
}

impl Watch {
    /// Whether it has been down for long enough to end the run.
    pub(super) fn is_down(&mut self, tally: &Tally) -> bool {
        let refused =
            ["connect", "tls", "connect_timeout"].iter().filter_map(|name| tally.not_sent.get(*name)).sum();
        if tally.sent > self.sent || self.since.is_none() {
            (self.sent, self.refused, self.since) = (tally.sent, refused, Some(Instant::now()));
        }
        refused > self.refused && self.since.is_some_and(|since| since.elapsed() >= DOWN)
    }
}
