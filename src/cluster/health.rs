//! Whether an endpoint may be used, and why not: bits that health checks, outlier detection and workers write, and
//! every pick reads.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The state of an endpoint, beside its [load](super::Load).
#[derive(Debug, Default)]
pub struct Health {
    reasons: AtomicU32,
    /// 5xx and failures without an answer, in a row.
    pub consecutive_5xx: AtomicU32,
    /// 502, 503, 504 and failures without an answer, in a row.
    pub consecutive_gateway_failures: AtomicU32,
    /// How often it was ejected lately.
    pub ejections: AtomicU32,
    /// When the ejection ends, or would have ended, in nanoseconds since the process started.
    pub ejected_until_ns: AtomicU64,
    /// Since when it is warming up (slow start), in nanoseconds since the process started; 0: it is warm.
    pub warming_since_ns: AtomicU64,
}

/// A reason not to use an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// Active checks fail.
    CheckFailed = 1,
    /// There was no active check yet.
    CheckPending = 2,
    /// Outlier detection ejected it.
    Ejected = 4,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 3] = [Reason::CheckFailed, Reason::CheckPending, Reason::Ejected];

    /// Its name in the admin API and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::CheckFailed => "check_failed",
            Reason::CheckPending => "check_pending",
            Reason::Ejected => "ejected",
        }
    }
}

/// Reasons that do not count for the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ignored(u32);

impl Ignored {
    /// Every reason counts.
    pub const NOTHING: Ignored = Ignored(0);
    /// That there was no check yet does not count.
    pub const PENDING: Ignored = Ignored(Reason::CheckPending as u32);
    /// No reason counts: panic.
    pub const ALL: Ignored = Ignored(u32::MAX);
}

impl Health {
    /// Whether nothing speaks against it.
    #[inline]
    pub fn is_usable(&self) -> bool {
        self.reasons.load(Relaxed) == 0
    }

    /// Whether nothing speaks against it but what is ignored.
    #[inline]
    pub fn is_usable_despite(&self, ignored: Ignored) -> bool {
        self.reasons.load(Relaxed) & !ignored.0 == 0
    }

    /// Whether `reason` speaks against it.
    #[inline]
    pub fn has(&self, reason: Reason) -> bool {
        self.reasons.load(Relaxed) & reason as u32 != 0
    }

    /// What speaks against it.
    pub fn reasons(&self) -> impl Iterator<Item = Reason> + use<> {
        let reasons = self.reasons.load(Relaxed);
        Reason::ALL.into_iter().filter(move |reason| reasons & *reason as u32 != 0)
    }

    /// Adds a reason; whether it is new. [`super::Cluster::leave_out`] does this and makes it count at once.
    pub fn set(&self, reason: Reason) -> bool {
        self.reasons.fetch_or(reason as u32, Relaxed) & reason as u32 == 0
    }

    /// Takes a reason away; whether it was there. [`super::Cluster::restore`] does this and starts a slow start.
    pub fn clear(&self, reason: Reason) -> bool {
        self.reasons.fetch_and(!(reason as u32), Relaxed) & reason as u32 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_usable_when_no_reason_is_left_that_counts() {
        let health = Health::default();
        assert!(health.is_usable());
        assert!(health.set(Reason::CheckPending) && !health.set(Reason::CheckPending));
        assert!(health.set(Reason::Ejected));
        assert!(!health.is_usable() && !health.is_usable_despite(Ignored::PENDING));
        assert!(health.is_usable_despite(Ignored::ALL));
        assert_eq!(health.reasons().collect::<Vec<_>>(), [Reason::CheckPending, Reason::Ejected]);
        assert!(health.clear(Reason::Ejected) && !health.clear(Reason::Ejected));
        assert!(!health.is_usable() && health.is_usable_despite(Ignored::PENDING));
        assert!(health.clear(Reason::CheckPending) && health.is_usable());
    }
}
