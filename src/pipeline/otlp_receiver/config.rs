//! `pipeline.receiver.otlp`: where the application's OpenTelemetry SDK sends to.

use crate::units;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};

/// `pipeline.receiver.otlp`: an OTLP receiver for the application beside; absent: none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "OtlpReceiver")]
pub struct Config {
    /// Where OTLP/HTTP (Protocol Buffers) is taken, on loopback; `none`: not at all. The port that SDKs know.
    #[serde(with = "units::listen")]
    #[schemars(with = "units::ListenText")]
    pub address: Option<SocketAddr>,
    /// Where OTLP/gRPC is taken, on loopback; `none`: not at all. The port that SDKs know.
    #[serde(with = "units::listen")]
    #[schemars(with = "units::ListenText")]
    pub grpc_address: Option<SocketAddr>,
}

impl Default for Config {
    fn default() -> Config {
        let at = |port| Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Config { address: at(4318), grpc_address: at(4317) }
    }
}

impl Config {
    /// What is wrong, and what to write; `None`: nothing.
    pub fn problem(&self) -> Option<String> {
        let both = [("address", self.address), ("grpc_address", self.grpc_address)];
        let outside = both
            .iter()
            .find_map(|(name, address)| Some((name, address.filter(|at| !at.ip().is_loopback())?)));
        if let Some((name, address)) = outside {
            return Some(format!(
                "`{name}` is {address}, which others can reach: the receiver believes whoever asks, write 127.0.0.1:{}",
                address.port()
            ));
        }
        match (self.address, self.grpc_address) {
            (Some(one), Some(other)) if one == other && one.port() != 0 => {
                Some(format!("`address` and `grpc_address` are both {one}: give one of them another port"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_listened_on() {
        let config: Config = serde_json::from_str("{}").unwrap();
        assert_eq!(
            serde_json::to_string(&config).unwrap(),
            r#"{"address":"127.0.0.1:4318","grpc_address":"127.0.0.1:4317"}"#
        );
        assert_eq!(config.problem(), None);
        for (text, says) in [
            (r#"{"address":"0.0.0.0:4318"}"#, Some("127.0.0.1:4318")),
            (r#"{"grpc_address":"10.0.0.1:1"}"#, Some("`grpc_address`")),
            (r#"{"address":"127.0.0.1:1","grpc_address":"127.0.0.1:1"}"#, Some("another port")),
            (r#"{"address":"none","grpc_address":"[::1]:4317"}"#, None),
            (r#"{"address":"127.0.0.1:0","grpc_address":"127.0.0.1:0"}"#, None),
        ] {
            let problem = serde_json::from_str::<Config>(text).unwrap().problem();
            match says {
                Some(says) => assert!(problem.unwrap().contains(says), "{text}"),
                None => assert_eq!(problem, None, "{text}"),
            }
        }
    }
}
