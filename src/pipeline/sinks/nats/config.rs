//! `pipeline.sinks.nats`: servers, subjects, the stream, and who we are.

use crate::identity::config::ClientTls;
use crate::units::{self, HostPort};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// `pipeline.sinks.nats`: NATS JetStream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NatsSink")]
pub struct Config {
    /// The sink's name in metrics and events; absent: `nats`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Servers; one that works is used, and the others of its cluster are learned from it.
    #[schemars(length(min = 1))]
    pub servers: Vec<HostPort>,
    /// The subject of an event. `{kind}` is its kind (`exchange`, `span`, `audit` …), `{service}` the service's name.
    #[serde(default = "default_subject")]
    pub subject: String,
    /// The stream that must take the events; absent: any that has the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Whether a stream of that name is made where it is missing: on disk, for the subjects of `subject`, without limits, and
    /// with the server's window for duplicates (2 minutes). Only with `stream`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub create_stream: bool,
    /// TLS to the servers; absent: cleartext. Names in certificates are those in `servers`, so `server_name` is not allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
    /// User; with `password_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// File with the user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "file"))]
    pub password_file: Option<PathBuf>,
    /// File with a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "file"))]
    pub token_file: Option<PathBuf>,
    /// File with the seed of an NKey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "file"))]
    pub nkey_seed_file: Option<PathBuf>,
    /// File with a JWT and the seed of its key (`.creds`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "file"))]
    pub creds_file: Option<PathBuf>,
    /// How long a batch may take until the stream has acknowledged all of it, connecting included.
    #[serde(default = "default_timeout", with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub timeout: Duration,
}

fn default_subject() -> String {
    "sidelight.{kind}".into()
}

fn default_timeout() -> Duration {
    Duration::from_secs(10)
}

fn is_false(flag: &bool) -> bool {
    !flag
}
