//! The Kafka sink of a build without it: it cannot be made.

use super::Config;
use crate::pipeline::Service;
use crate::pipeline::sinks::sink::{Failure, Pace, Sent, Sink};
use crate::pipeline::spool::Batch;
use std::convert::Infallible;
use std::path::Path;
use std::time::Instant;

/// Cannot be made.
pub struct Kafka(Infallible);

impl Kafka {
    /// Says that it is not there.
    ///
    /// # Errors
    /// Always.
    pub fn new(_: &Config, _: &Service, _: &Path) -> Result<Kafka, String> {
        Err("this sidelight was built without Kafka: build it with the Cargo feature `kafka`".into())
    }
}

impl Sink for Kafka {
    fn pace(&self) -> Pace {
        match self.0 {}
    }

    fn send(&mut self, _: &Batch, _: Instant) -> Result<Sent, Failure> {
        match self.0 {}
    }
}
