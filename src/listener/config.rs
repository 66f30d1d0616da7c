//! `outbound.tcp`: listeners whose bytes go to one cluster as they are.
//!
//! The inbound and outbound listeners carry routes too, so the composed configuration holds them; what a listener
//! itself needs are an address and, inbound, `identity::config::ServerTls`.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One TCP listener: nothing is parsed, so the server may speak first (MySQL, SMTP).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tcp {
    /// IP address and port to listen on; port 0 lets the system choose.
    #[schemars(with = "String", extend("format" = "socket_address"))]
    pub address: SocketAddr,
    /// The cluster that gets the connections.
    pub cluster: String,
}
