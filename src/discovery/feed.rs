//! The way from the sources of a cluster to the cluster: their answers are merged, the last good one of each.
//!
//! Of endpoints with the same address, that of the first source counts; endpoints that are written come before what is
//! discovered. Until a source has answered, it is taken to know what the cluster has already, so that a configuration
//! that is read again, just as DNS fails, takes no endpoint away. A source that fails keeps what it said last, and the cluster is marked with its reason; the cluster puts
//! such changes on record, so nothing is logged here.

use super::Found;
use crate::cluster::{Cluster, Endpoint, Target, clock_ns};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;

/// Gives the answers of all sources of a cluster to it.
pub(super) struct Feed {
    cluster: Arc<Cluster>,
    first: watch::Sender<Option<bool>>,
    sources: Vec<Last>,
    /// What the cluster was given last.
    given: Option<(Vec<Target>, Option<String>)>,
}

/// What a source said last.
#[derive(Default)]
struct Last {
    has_answered: bool,
    /// Before its first answer, what the cluster has.
    targets: Vec<Target>,
    problem: Option<String>,
}

impl Feed {
    /// A feed from so many sources, and what learns when all of them have answered: whether all answers were good.
    pub(super) fn new(cluster: Arc<Cluster>, sources: usize) -> (Feed, watch::Receiver<Option<bool>>) {
        let (first, receiver) = watch::channel(None);
        let known: Vec<Target> =
            cluster.endpoints().endpoints.iter().map(|endpoint| target(endpoint)).collect();
        let last = || Last { targets: known.clone(), ..Last::default() };
        let sources = std::iter::repeat_with(last).take(sources).collect();
        (Feed { cluster, first, sources, given: None }, receiver)
    }

    /// Takes an answer of a source, by its place in the order.
    pub(super) fn take(&mut self, source: usize, found: Found) {
        let Some(last) = self.sources.get_mut(source) else { return };
        last.has_answered = true;
        // Part of an answer is better than an old one; none at all is not.
        if found.problem.is_none() || !found.targets.is_empty() {
            last.targets = found.targets;
        }
        last.problem = found.problem;
        self.give();
        let (is_complete, is_good) = (
            self.sources.iter().all(|last| last.has_answered),
            self.sources.iter().all(|last| last.problem.is_none()),
        );
        self.first.send_if_modified(|first| {
            let is_first = first.is_none() && is_complete;
            if is_first {
                *first = Some(is_good);
            }
            is_first
        });
    }

    /// Brings the cluster up to date.
    fn give(&mut self) {
        let mut seen = HashSet::new();
        let all = self.sources.iter().flat_map(|last| &last.targets);
        let targets: Vec<Target> = all.filter(|target| seen.insert(target.address)).cloned().collect();
        let problems: Vec<&str> = self.sources.iter().filter_map(|last| last.problem.as_deref()).collect();
        let problem = (!problems.is_empty()).then(|| problems.join("; "));
        match (&self.given, &problem) {
            (Some((given, why)), _) if *given == targets && *why == problem => return,
            (Some((given, _)), Some(why)) if *given == targets => self.cluster.mark_stale(why),
            // Nothing was ever known: there is nothing to give but the reason.
            (None, Some(why)) if targets.is_empty() => self.cluster.mark_stale(why),
            _ => self.cluster.replace(&targets, problem.as_deref(), clock_ns(Instant::now())),
        }
        self.given = Some((targets, problem));
    }
}

/// What a source must have said of an endpoint.
fn target(endpoint: &Endpoint) -> Target {
    Target {
        address: endpoint.address,
        name: Arc::clone(&endpoint.name),
        weight: endpoint.weight,
        zone: endpoint.zone.clone(),
        priority: endpoint.priority,
        labels: endpoint.labels.clone(),
    }
}
