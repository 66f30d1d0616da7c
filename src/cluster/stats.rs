//! What is counted of a cluster as a whole. Rare things only: what each request counts is elsewhere.

use super::outlier::Outliers;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of a cluster, written by every worker.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ClusterStats {
    /// Retries that were made.
    pub retries: Counter,
    /// Retries and hedges that the budget did not allow.
    pub budget_exhausted: Counter,
    /// Hedges that were sent.
    pub hedges: Counter,
    /// Hedges whose answer came first.
    pub hedges_won: Counter,
    /// Ejections, all detectors.
    pub ejections: Counter,
    /// Ejections that were due and not carried out: too many endpoints are out, or enforcement is below 100 %.
    pub ejections_prevented: Counter,
    /// Endpoints that came back after an ejection.
    pub unejections: Counter,
    /// What outlier detection compares its counts with.
    pub(super) outliers: Outliers,
    /// Active checks that succeeded.
    pub checks_passed: Counter,
    /// Active checks that failed.
    pub checks_failed: Counter,
    /// Picks among all endpoints, because too few are healthy.
    pub panic_picks: Counter,
    /// Picks in the zone of this service.
    pub picks_local: Counter,
    /// Picks in another zone, although this service's zone is known.
    pub picks_remote: Counter,
    /// Picks of another subset than was wanted.
    pub subset_fallbacks: Counter,
    /// Picks by hash of requests that had nothing to hash.
    pub hash_missing: Counter,
    /// Copies that were sent here.
    pub mirrored: Counter,
    /// Copies whose answer was a 5xx, or did not come.
    pub mirror_failures: Counter,
    /// Copies that were not sent: too many, or too long.
    pub mirror_skipped: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    #[inline]
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
