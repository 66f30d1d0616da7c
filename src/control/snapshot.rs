//! What is in force, for those who show it.

use super::compile::{Current, routes_document};
use crate::cluster::Cluster;
use crate::config;
use serde_json::Value;
use std::sync::Arc;
use std::time::SystemTime;

/// The configuration in force.
#[derive(Clone)]
pub struct Snapshot {
    /// Its revision.
    pub revision: Arc<str>,
    /// When it came into force.
    pub loaded_at: SystemTime,
    /// The configuration with all defaults, as YAML.
    pub yaml: Arc<str>,
    /// The same as JSON.
    pub json: Arc<Value>,
    /// Why the last reload was refused, and when; `None` when it was not.
    pub refused: Option<Refusal>,
    /// The clusters, in the order to show them.
    pub clusters: Vec<Arc<Cluster>>,
    /// The routes of both directions, in the order in which they are tried.
    pub routes: Arc<Value>,
}

/// A configuration that was refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// When.
    pub at: SystemTime,
    /// Why.
    pub reason: Arc<str>,
}

impl Snapshot {
    /// What `current` is.
    pub(super) fn of(current: &Current) -> Snapshot {
        let config = &current.loaded.config;
        Snapshot {
            revision: current.loaded.revision.as_str().into(),
            loaded_at: SystemTime::now(),
            yaml: config::to_yaml(config).into(),
            json: Arc::new(serde_json::to_value(config).unwrap_or_default()),
            refused: None,
            clusters: current.cluster_list(),
            routes: Arc::new(routes_document(config)),
        }
    }
}
