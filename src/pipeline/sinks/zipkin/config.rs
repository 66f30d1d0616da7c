//! `pipeline.sinks.zipkin`.

use crate::identity::config::ClientTls;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `pipeline.sinks.zipkin`: the spans of traces that are recorded, as Zipkin's JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ZipkinSink")]
pub struct Config {
    /// The sink's name in metrics and events; absent: its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it is: `http://zipkin:9411`; `/api/v2/spans` is added where it is not there.
    pub url: String,
    /// How it is verified; absent: by the system's authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
}
