//! Many sidecars' documents as one.
//!
//! What: a set of reports, one for each process of a sidecar. Of two reports of the same process the later one counts, so
//! that merging is commutative, associative, and safe to do twice. How it fails: a source that is neither a document nor
//! events is an error that names it.

use super::document::{Report, SCHEMA};
use super::moment::Moment;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Which process of a sidecar.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    namespace: String,
    service: String,
    instance: String,
    epoch: u64,
}

impl Id {
    fn of(report: &Report) -> Id {
        let about = &report.service;
        Id {
            namespace: about.namespace.clone(),
            service: about.name.clone(),
            instance: about.instance.clone(),
            // A document of an earlier version does not name its epoch.
            epoch: if report.epoch > 0 { report.epoch } else { report.since.0 },
        }
    }
}

/// The graph of a mesh: what its sidecars say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    reports: BTreeMap<Id, Report>,
}

impl Graph {
    /// Adds what a sidecar says.
    pub fn add(&mut self, report: Report) {
        match self.reports.entry(Id::of(&report)) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(report);
            }
            std::collections::btree_map::Entry::Occupied(mut have) => {
                let is_later = match rank(&report).cmp(&rank(have.get())) {
                    std::cmp::Ordering::Equal => text(&report) > text(have.get()),
                    order => order.is_gt(),
                };
                if is_later {
                    have.insert(report);
                }
            }
        }
    }

    /// Adds another graph.
    pub fn merge(&mut self, other: Graph) {
        for report in other.reports.into_values() {
            self.add(report);
        }
    }

    /// What each sidecar says, by namespace, service, instance and epoch.
    pub fn reports(&self) -> impl ExactSizeIterator<Item = &Report> + Clone {
        self.reports.values()
    }

    /// The first moment that is counted.
    pub fn since(&self) -> Moment {
        self.reports().map(|report| report.since).filter(|at| at.0 > 0).min().unwrap_or_default()
    }

    /// The last moment that is counted.
    pub fn at(&self) -> Moment {
        self.reports().map(|report| report.at).max().unwrap_or_default()
    }
}

/// Counters only grow: what has counted more, or was asked later, is the later one.
fn rank(report: &Report) -> (u64, Moment) {
    (report.edges.iter().fold(0, |sum, edge| sum.saturating_add(edge.calls)), report.at)
}

fn text(report: &Report) -> String {
    serde_json::to_string(report).unwrap_or_default()
}

/// Reads a document, of one sidecar or of many.
///
/// # Errors
/// It is none; the text says why.
pub fn read(json: &[u8]) -> Result<Vec<Report>, String> {
    /// What tells one from the other, without keeping the rest.
    #[derive(Deserialize)]
    struct Probe<'a> {
        #[serde(borrow, default)]
        schema: std::borrow::Cow<'a, str>,
        reports: Option<serde::de::IgnoredAny>,
    }
    #[derive(Deserialize)]
    struct Reports {
        reports: Vec<Report>,
    }
    let probe: Probe<'_> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if probe.schema != SCHEMA {
        return Err(format!("its `schema` is `{:.60}`, not `{SCHEMA}`", probe.schema));
    }
    let read = match probe.reports {
        Some(_) => serde_json::from_slice::<Reports>(json).map(|read| read.reports),
        None => serde_json::from_slice::<Report>(json).map(|report| vec![report]),
    };
    read.map_err(|error| error.to_string())
}
