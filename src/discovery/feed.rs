//! The way from a source to its cluster.

use super::Found;
use crate::cluster::{Cluster, Target};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::watch;

/// Gives answers of a source to its cluster, and tells of changes for the worse and the better in the log.
pub(super) struct Feed {
    cluster: Arc<Cluster>,
    first: watch::Sender<Option<bool>>,
    targets: Vec<Target>,
    problem: Option<String>,
}

impl Feed {
    /// A feed, and what learns of its first answer: whether it was good.
    pub(super) fn new(cluster: Arc<Cluster>) -> (Feed, watch::Receiver<Option<bool>>) {
        let (first, receiver) = watch::channel(None);
        (Feed { cluster, first, targets: Vec::new(), problem: None }, receiver)
    }

    /// Brings an answer into the cluster. Of endpoints with the same address, the first counts.
    pub(super) fn publish(&mut self, found: Found) {
        let Found { mut targets, problem, .. } = found;
        let is_good = problem.is_none();
        let mut seen = HashSet::new();
        targets.retain(|target| seen.insert(target.address));
        let is_news = targets != self.targets && (is_good || !targets.is_empty());
        if is_news || (is_good && self.problem.is_some()) {
            self.cluster.update(&targets);
            tracing::debug!(cluster = %self.cluster.name, endpoints = targets.len(), "endpoints changed");
            self.targets = targets;
        }
        match &problem {
            Some(why) => {
                self.cluster.mark_stale(why);
                if self.problem != problem {
                    let kept = self.targets.len();
                    tracing::warn!(cluster = %self.cluster.name, why, kept, "discovery fails, endpoints are kept");
                }
            }
            None if self.problem.is_some() => {
                tracing::info!(cluster = %self.cluster.name, endpoints = self.targets.len(), "discovery works again");
            }
            None => {}
        }
        self.problem = problem;
        self.first.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(is_good);
            }
            is_first
        });
    }
}
