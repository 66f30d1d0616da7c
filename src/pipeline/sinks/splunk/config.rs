//! `pipeline.sinks.splunk`.

use crate::identity::config::ClientTls;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `pipeline.sinks.splunk`: every event to Splunk's HTTP Event Collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SplunkSink")]
pub struct Config {
    /// The sink's name in metrics and events; absent: its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where the collector is: `https://splunk:8088`.
    pub url: String,
    /// File with the collector's token; read at start, and again when it is refused.
    #[schemars(with = "String", extend("format" = "file"))]
    pub token_file: PathBuf,
    /// The index; absent: the token's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// Splunk's `source` of the events; absent: `sidelight`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Splunk's `sourcetype`; absent: `_json`, whose members are found at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sourcetype: Option<String>,
    /// Splunk's `host`; absent: the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Whether an event is delivered only when it is indexed. The token must have indexer acknowledgement; without it an event
    /// is delivered when Splunk has it in memory.
    #[serde(default)]
    pub ack: bool,
    /// How the collector is verified; absent: by the system's authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
}
