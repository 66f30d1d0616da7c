//! The NATS sink of a build without it: it cannot be made.

use super::Config;
use crate::pipeline::Service;
use crate::pipeline::sinks::sink::{Failure, Pace, Sent, Sink};
use crate::pipeline::spool::Batch;
use std::convert::Infallible;
use std::path::Path;
use std::time::Instant;

/// Cannot be made.
pub struct Nats(Infallible);

impl Nats {
    /// Says that it is not there.
    ///
    /// # Errors
    /// Always.
    pub fn new(_: &Config, _: &Service, _: &Path) -> Result<Nats, String> {
        Err("this sidelight was built without NATS: build it with the Cargo feature `nats`".into())
    }
}

impl Sink for Nats {
    fn pace(&self) -> Pace {
        match self.0 {}
    }

    fn send(&mut self, _: &Batch, _: Instant) -> Result<Sent, Failure> {
        match self.0 {}
    }
}
