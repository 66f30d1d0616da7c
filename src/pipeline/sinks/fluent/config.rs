//! `pipeline.sinks.fluent`: where the forward server is, and how it is spoken to.

use crate::identity::config::ClientTls;
use crate::units::{self, HostPort};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// `pipeline.sinks.fluent`: Fluentd, Fluent Bit, and whatever else has a `forward` input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "FluentSink")]
pub struct Config {
    /// The sink's name in metrics and events; absent: `fluent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Host and port of the server (Fluentd and Fluent Bit listen on 24224). Either this or `socket`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<HostPort>,
    /// The server's Unix socket. Either this or `address`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub socket: Option<PathBuf>,
    /// TLS to the server; absent: cleartext. Only with `address`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
    /// The tag of an event. `{kind}` is its kind (`exchange`, `span`, `audit` …), `{service}` the service's name.
    pub tag: String,
    /// Whether the server acknowledges each chunk (`require_ack_response` of Fluentd). Without it, what the server had not
    /// read when it went away is lost and counted as delivered.
    pub ack: bool,
    /// File with the key that the server shares (`<security> shared_key` of Fluentd, `shared_key` of Fluent Bit); absent:
    /// there is no handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "file"))]
    pub shared_key_file: Option<PathBuf>,
    /// What this side calls itself in the handshake; absent: `sidelight-` and the instance. Fluentd refuses a client that
    /// calls itself as the server does, so the host's name alone would not do beside an agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// User of the handshake, where the server asks for one; with `password_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// File with the user's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "file"))]
    pub password_file: Option<PathBuf>,
    /// How long a batch may take until it is acknowledged, connecting included. A server acknowledges when the chunk is in
    /// its buffer, so this is long (Fluentd's own `ack_response_timeout` is 190 s).
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            name: None,
            address: None,
            socket: None,
            tls: None,
            tag: "sidelight.{kind}".into(),
            ack: true,
            shared_key_file: None,
            hostname: None,
            username: None,
            password_file: None,
            timeout: Duration::from_secs(10),
        }
    }
}
