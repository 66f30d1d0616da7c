//! What is known of an endpoint, for those who show it.

use super::State;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What active checks know of an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// [`crate::cluster::Endpoint::id`].
    pub endpoint: u64,
    /// The endpoint's name.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it is.
    pub state: State,
    /// Since when it is that.
    pub since: SystemTime,
    /// Answers in a row that contradict the state; it changes when the threshold is reached.
    pub against: u32,
    /// The last check.
    pub last: Option<Last>,
    /// Checks that succeeded.
    pub passed: u64,
    /// Checks that failed.
    pub failed: u64,
}

/// One check.
#[derive(Clone, Debug, PartialEq)]
pub struct Last {
    /// When it ended.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// Why it failed; `None`: it succeeded.
    pub failure: Option<Arc<str>>,
}
