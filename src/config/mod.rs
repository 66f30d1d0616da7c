//! The configuration: composed of what each component owns, read from YAML, checked whole.
//!
//! Why composed here: a component knows its own keys and defaults; only this module knows the file. How it fails: every
//! problem of a file is reported at once, with line, column and what to write instead; nothing is half applied.

mod check;
mod diagnostics;
mod flags;
mod format;
mod load;
mod nearest;
mod node;
mod read;
mod schema;
mod service;
mod shape;
mod synonyms;
#[cfg(test)]
mod tests;
mod walk;
mod yaml;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use flags::from_flags;
pub use load::{FILE_BYTES_MAX, Loaded, load, parse};
pub use nearest::nearest;
pub use node::Span;
pub use schema::schema;
pub use service::Service;

use crate::context::config::Trust;
use crate::identity::config::ServerTls;
use crate::listener::config::Tcp;
use crate::resilience::config::{Concurrency, LoadShed};
use crate::route::config::Route;
use crate::{admin, cluster, context, limits, pipeline, record, units};

/// A whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The service that this proxy stands beside.
    pub service: Service,
    /// Threads that carry traffic; `auto`: one for each CPU that the process may use.
    #[serde(with = "units::count_or_auto")]
    #[schemars(with = "units::CountOrAuto")]
    pub workers: Option<usize>,
    /// Traffic to the service.
    pub inbound: Inbound,
    /// Traffic from the service.
    pub outbound: Outbound,
    /// Where requests can go, by name. Without a route, the Host of an outbound request names the cluster.
    pub clusters: BTreeMap<String, cluster::config::Config>,
    /// What a request carries through the mesh.
    pub context: context::config::Config,
    /// Every bound of the proxy.
    pub limits: limits::Config,
    /// Where events go.
    pub pipeline: pipeline::config::Config,
    /// What the application beside prints.
    pub app_output: pipeline::app_log::Config,
    /// What traffic is recorded.
    pub recording: record::Config,
    /// The admin API.
    pub admin: admin::config::Admin,
    /// Metrics and probes.
    pub telemetry: admin::config::Telemetry,
}

/// `inbound`: traffic to the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Inbound {
    /// IP address and port, or `none`.
    #[serde(with = "units::listen")]
    #[schemars(with = "units::ListenText")]
    pub address: Option<SocketAddr>,
    /// TLS; absent: cleartext.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
    /// Whose context fields are believed.
    pub trust: Trust,
    /// How many requests are under way at once; absent: as many as come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Who is turned away first when there is too much.
    pub load_shed: LoadShed,
    /// Routes; a request that matches none goes to the app.
    pub routes: Vec<Route>,
}

impl Default for Inbound {
    fn default() -> Self {
        Inbound {
            address: Some((Ipv4Addr::UNSPECIFIED, 15006).into()),
            tls: None,
            trust: Trust::default(),
            concurrency: None,
            load_shed: LoadShed::default(),
            routes: Vec::new(),
        }
    }
}

/// `outbound`: traffic from the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Outbound {
    /// IP address and port, or `none`.
    #[serde(with = "units::listen")]
    #[schemars(with = "units::ListenText")]
    pub address: Option<SocketAddr>,
    /// How many requests are under way at once; absent: as many as come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Who is turned away first when there is too much.
    pub load_shed: LoadShed,
    /// Routes; a request that matches none goes to the cluster that its Host names.
    pub routes: Vec<Route>,
    /// TCP listeners, each for one cluster.
    pub tcp: Vec<Tcp>,
}

impl Default for Outbound {
    fn default() -> Self {
        Outbound {
            address: Some((Ipv4Addr::LOCALHOST, 15001).into()),
            concurrency: None,
            load_shed: LoadShed::default(),
            routes: Vec::new(),
            tcp: Vec::new(),
        }
    }
}

/// The whole configuration as YAML, every default included: what is in force.
pub fn to_yaml(config: &Config) -> String {
    serde_yaml::to_string(config).unwrap_or_else(|error| format!("# cannot be written: {error}\n"))
}
