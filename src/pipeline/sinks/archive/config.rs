//! `pipeline.sinks.archive`: where files go, and when one is complete.

use crate::identity::config::ClientTls;
use crate::units;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// `pipeline.sinks.archive`: all events, for years, in files that databases load: one hour of one kind in one folder.
/// Exactly one of `directory` and `s3`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ArchiveSink")]
pub struct Config {
    /// The sink's name in metrics and events; absent: its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The directory that gets `service=…/kind=…/date=…/hour=…`; made where it is missing. Many proxies may share it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub directory: Option<PathBuf>,
    /// A bucket of S3, or of what speaks like it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
    /// What files hold.
    pub format: Format,
    /// A file is complete with so many bytes of events, before compression. What the sink holds of them in memory is at
    /// most 64 MiB, whatever is written here. Vector's S3 sink: 10 MB, Kafka Connect's: by count.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub file_bytes_max: usize,
    /// All files are complete so long after the first of their events: then it counts as delivered, and may leave the
    /// spool. Vector's S3 sink and Amazon Data Firehose: 300 s.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub file_age_max: Duration,
    /// zstd's level: 1 quick, 19 small. zstd's own default is 3.
    #[schemars(range(min = 1, max = 19))]
    pub compression_level: i32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            name: None,
            directory: None,
            s3: None,
            format: Format::default(),
            file_bytes_max: 64 << 20,
            file_age_max: Duration::from_secs(300),
            compression_level: 3,
        }
    }
}

/// What files hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ArchiveFormat")]
pub enum Format {
    /// The events as they are, a line each, compressed: `.ndjson.zst`.
    #[default]
    Ndjson,
    /// Columns for the usual members, and the whole event in the last one: `.parquet`.
    Parquet,
}

/// `pipeline.sinks.archive.s3`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ArchiveS3")]
pub struct S3 {
    /// The bucket. It must be there, and the key must be allowed `s3:PutObject`; nothing else is asked for.
    pub bucket: String,
    /// Its region: `eu-central-1`. What speaks like S3 mostly takes `us-east-1`.
    pub region: String,
    /// Where it is asked for: `http://minio:9000`; absent: AWS's place of the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// What the names of objects begin with: `mesh/events`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Whether the bucket stands in the path and not in the host's name; absent: with an `endpoint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
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
