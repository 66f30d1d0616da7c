//! `pipeline.sinks.kinesis`.

use crate::identity::config::ClientTls;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `pipeline.sinks.kinesis`: every event as a record of an Amazon Kinesis data stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "KinesisSink")]
pub struct Config {
    /// The sink's name in metrics and events; absent: its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Name or ARN of the stream. It must be there, and the key must be allowed `kinesis:PutRecords`.
    pub stream: String,
    /// Its region: `eu-central-1`.
    pub region: String,
    /// Where it is asked for: `http://localstack:4566`; absent: AWS's place of the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// What decides about the shard: records with the same key stay in order.
    #[serde(default)]
    #[schemars(extend("default" = "account_id"))]
    pub partition_key: PartitionKey,
    /// Name of the key; with `secret_access_key_file`. Absent: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
    /// AWS_SESSION_TOKEN of the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// File with the key's secret; read at start, and again when the key is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "file"))]
    pub secret_access_key_file: Option<PathBuf>,
    /// File with the token that a temporary key comes with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "file"))]
    pub session_token_file: Option<PathBuf>,
    /// How the endpoint is verified; absent: by the system's authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
}

/// What decides about the shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "KinesisPartitionKey")]
pub enum PartitionKey {
    /// The account; without one the trace; without both this instance.
    #[default]
    AccountId,
    /// The trace; without one this instance. For few accounts with much traffic.
    TraceId,
}
