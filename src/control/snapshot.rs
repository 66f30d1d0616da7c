//! What is in force, for those who show it.

use super::compile::{Current, Surroundings, routes_document};
use crate::cluster::Cluster;
use crate::config;
use crate::health;
use crate::quota::Limits;
use crate::resilience::admission::Admission;
use crate::resilience::overload::Overload;
use serde_json::Value;
use std::collections::BTreeMap;
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
    /// What the active checks of clusters know, by the cluster's name.
    pub checks: BTreeMap<String, Arc<health::Running>>,
    /// The rate limits and breakers of routes.
    pub limits: Arc<Limits>,
    /// What each listener lets in.
    pub admissions: Vec<Arc<Admission>>,
    /// What is given up as memory runs out.
    pub overload: Arc<Overload>,
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
    pub(super) fn of(current: &Current, around: &Surroundings) -> Snapshot {
        let config = &current.loaded.config;
        Snapshot {
            revision: current.loaded.revision.as_str().into(),
            loaded_at: SystemTime::now(),
            yaml: config::to_yaml(config).into(),
            json: Arc::new(serde_json::to_value(config).unwrap_or_default()),
            refused: None,
            clusters: current.cluster_list(),
            checks: current.checks(),
            limits: Arc::clone(&around.limits),
            admissions: vec![
                Arc::clone(&current.admissions.inbound),
                Arc::clone(&current.admissions.outbound),
            ],
            overload: Arc::clone(&around.overload),
            routes: Arc::new(routes_document(config)),
        }
    }
}
