//! `admin` and `telemetry`: the two listeners for people and machines that watch the proxy.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units;

/// `admin`: reads and changes; loopback only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Loopback address and port, or `none`.
    #[serde(with = "units::listen")]
    #[schemars(with = "units::ListenText")]
    pub address: Option<SocketAddr>,
    /// File with the token that changes must bring (`authorization: Bearer …`); absent: any local process may.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "file"))]
    pub token_file: Option<PathBuf>,
}

impl Default for Admin {
    fn default() -> Self {
        Admin { address: Some((Ipv4Addr::LOCALHOST, 15000).into()), token_file: None }
    }
}

/// `telemetry`: `/metrics`, `/live` and `/ready`, read only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// IP address and port, or `none`.
    #[serde(with = "units::listen")]
    #[schemars(with = "units::ListenText")]
    pub address: Option<SocketAddr>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Telemetry { address: Some((Ipv4Addr::UNSPECIFIED, 15090).into()) }
    }
}
