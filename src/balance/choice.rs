//! What a pick says: an endpoint and what is unusual about it, or why there is none.

use super::Wish;
use crate::cluster::config::SubsetValue;
use crate::cluster::{Cluster, Endpoint, Picked, Reason};
use crate::error::{Error, Kind};
use crate::exchange::Recorder;
use std::fmt::Write;
use std::sync::Arc;

/// An endpoint that was picked.
#[derive(Debug)]
pub struct Choice {
    /// The endpoint; it counts as in flight until this is dropped.
    pub picked: Picked,
    /// Whether it was picked among all, because too few are healthy.
    pub is_panic: bool,
    /// Its priority.
    pub priority: u32,
    /// Whether it is in the zone of this service; `None` where zones do not matter.
    pub is_local_zone: Option<bool>,
    /// Whether the wanted subset has no endpoint, and this one is of all.
    pub is_subset_fallback: bool,
    /// Whether a hash was wanted and the request had nothing to hash.
    pub is_hash_missing: bool,
}

/// Why no endpoint was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The cluster has none.
    NoEndpoint,
    /// None may be used, and no panic threshold says to use them in spite of that.
    NoneUsable,
    /// None has the labels that are wanted.
    NoSubset,
}

impl Choice {
    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        self.picked.endpoint()
    }

    /// Notes where the attempt goes, and what is unusual about it; counts that.
    #[inline]
    pub fn note(&self, recorder: &Recorder, cluster: &Cluster) {
        let mut record = recorder.edit();
        record.endpoint = Some(Arc::clone(&self.endpoint().name));
        record.endpoint_zone.clone_from(&self.endpoint().zone);
        // What an earlier attempt noted is not true of this one.
        let has_notes = record.notes.is_some();
        drop(record);
        if self.is_local_zone == Some(true) {
            cluster.stats.picks_local.add();
        }
        let is_usual = !self.is_panic
            && self.priority == 0
            && self.is_local_zone != Some(false)
            && !self.is_subset_fallback
            && !self.is_hash_missing;
        if !is_usual || has_notes {
            self.note_unusual(recorder, cluster);
        }
    }

    #[cold]
    fn note_unusual(&self, recorder: &Recorder, cluster: &Cluster) {
        let stats = &cluster.stats;
        if self.is_panic {
            stats.panic_picks.add();
        }
        if self.is_local_zone == Some(false) {
            stats.picks_remote.add();
        }
        if self.is_subset_fallback {
            stats.subset_fallbacks.add();
        }
        if self.is_hash_missing {
            stats.hash_missing.add();
        }
        let mut record = recorder.edit();
        let notes = record.note();
        notes.is_panic = self.is_panic;
        notes.priority = self.priority;
        notes.is_local_zone = self.is_local_zone;
        notes.is_subset_fallback = self.is_subset_fallback;
        notes.is_hash_missing = self.is_hash_missing;
    }
}

/// How much of a wanted value goes into the detail of an error.
const VALUE_BYTES_MAX: usize = 64;

impl Why {
    /// The error, with what an operator needs to know.
    #[cold]
    pub fn error(self, cluster: &Cluster, wish: &Wish<'_>) -> Error {
        let name = &cluster.name;
        let set = cluster.endpoints();
        match (self, &set.stale) {
            (Why::NoEndpoint, Some(why)) => Error::new(Kind::DnsFailed, format!("cluster {name}: {why}")),
            (Why::NoEndpoint, None) => Error::new(Kind::NoEndpoint, format!("cluster {name}")),
            (Why::NoneUsable, _) => {
                let mut detail =
                    format!("cluster {name}: none of {} endpoints is healthy", set.endpoints.len());
                for reason in Reason::ALL {
                    let count = set.endpoints.iter().filter(|endpoint| endpoint.health.has(reason)).count();
                    if count > 0 {
                        let _ = write!(detail, ", {} {count}", reason.as_str());
                    }
                }
                Error::new(Kind::NoHealthyEndpoint, detail)
            }
            (Why::NoSubset, _) => {
                let labels = wanted(cluster, wish);
                Error::new(Kind::NoHealthyEndpoint, format!("cluster {name}: no endpoint has {labels}"))
            }
        }
    }
}

/// The labels that an attempt wants, for people.
fn wanted(cluster: &Cluster, wish: &Wish<'_>) -> String {
    let mut values = wish.values.iter();
    let mut text = String::new();
    for (label, wanted) in &cluster.settings.balance.subset {
        let value = match wanted {
            SubsetValue::Text(text) => Some(text.as_bytes()),
            SubsetValue::Request(_) => values.next().copied().flatten(),
        };
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = match value {
            Some(value) => {
                let value = value.get(..VALUE_BYTES_MAX).unwrap_or(value);
                write!(text, "{comma}{label} {}", String::from_utf8_lossy(value))
            }
            None => write!(text, "{comma}{label}, which the request does not say"),
        };
    }
    text
}
