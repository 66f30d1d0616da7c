//! The sink between events and a server that reads them as MessagePack.

mod delivery;
mod handshake;
mod server;
mod transport;

use super::{Config, Fluent};
use crate::pipeline::sinks::kit::service;
use std::net::SocketAddr;
use std::path::Path;

fn config(address: SocketAddr) -> Config {
    Config { address: Some(address.into()), ..Config::default() }
}

fn sink(config: &Config) -> Fluent {
    Fluent::new(config, &service(), Path::new(".")).unwrap()
}
