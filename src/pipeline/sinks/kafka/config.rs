//! `pipeline.sinks.kafka`: which brokers and topics, and what may be tuned.

use crate::units::{self, HostPort};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// `pipeline.sinks.kafka`: Kafka, Redpanda, and whatever else speaks its protocol. Cleartext; for TLS, name the brokers by
/// `outbound.tcp` listeners of this sidecar whose clusters have `tls`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "KafkaSink")]
pub struct Config {
    /// The sink's name in metrics and events; absent: `kafka`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Brokers to ask for all others.
    #[schemars(length(min = 1))]
    pub brokers: Vec<HostPort>,
    /// The topic of events whose kind is not in `topics`. It must be there, unless the brokers make topics by themselves.
    #[serde(default = "default_topic")]
    pub topic: String,
    /// Topics of single kinds: `audit: company.audit`. Kinds are what the schema says: `exchange`, `span`, `connection`,
    /// `audit`, `app_log` …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub topics: BTreeMap<String, String>,
    /// What this client calls itself to the brokers.
    #[serde(default = "default_client_id")]
    pub client_id: String,
    /// How batches are compressed. LZ4 costs the least and makes JSON a quarter to a sixth.
    #[serde(default)]
    pub compression: Compression,
    /// How long a batch may take until all of it is acknowledged. What is not acknowledged by then stays on its way, and is
    /// waited for again: it is not sent twice.
    #[serde(default = "default_timeout", with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub timeout: Duration,
    /// Further settings of librdkafka, by its names and as texts: `linger.ms: "50"`. Those that would break the promise that
    /// nothing is lost or turned round, and those with secrets, are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    None,
    /// Gzip: the smallest of these, and the slowest.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    #[default]
    Lz4,
}

impl Compression {
    /// librdkafka's name for it.
    #[cfg_attr(not(feature = "kafka"), allow(dead_code, reason = "only the client needs it"))]
    pub(super) fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
        }
    }
}

fn default_topic() -> String {
    "sidelight.events".into()
}

fn default_client_id() -> String {
    "sidelight".into()
}

fn default_timeout() -> Duration {
    Duration::from_secs(10)
}
