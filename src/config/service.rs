//! `service`: what this proxy stands beside.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster::config::Protocol;
use crate::pipeline::graph::DependsOn;
use crate::units::HostPort;

/// `service`: OpenTelemetry's resource attributes, and where the app listens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Service {
    /// `service.name` of every event.
    pub name: String,
    /// `service.version`.
    pub version: String,
    /// `service.namespace`.
    pub namespace: String,
    /// `deployment.environment.name`.
    pub environment: String,
    /// Zone that the service runs in.
    pub zone: String,
    /// Host and port of the app; needed for inbound traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<HostPort>,
    /// What the app speaks; `tcp`: inbound bytes are not parsed.
    pub app_protocol: Protocol,
    /// Free labels, shown in events.
    pub labels: BTreeMap<String, String>,
    /// Services that this one needs; shown in the dependency graph before any traffic, and held against it.
    pub depends_on: DependsOn,
}

impl Default for Service {
    fn default() -> Self {
        Service {
            name: "unknown_service".into(), // OpenTelemetry's resource conventions
            version: String::new(),
            namespace: String::new(),
            environment: String::new(),
            zone: String::new(),
            app: None,
            app_protocol: Protocol::default(),
            labels: BTreeMap::new(),
            depends_on: DependsOn::default(),
        }
    }
}
