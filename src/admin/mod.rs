//! Admin and telemetry: the listeners for people and machines that watch the proxy.
//!
//! What: one small HTTP server, used twice. `admin` reads and changes, on loopback or a Unix socket; `telemetry` is
//! `/metrics`, `/live` and `/ready`, read only, for scrapers and probes. Both run on the control runtime, so that
//! nothing asked here can hold a worker up. What they show and do comes through [`Control`].
//!
//! - [`server`]: sockets, one request for each connection, every bound; [`request`]: the head, and who may ask
//! - [`answer`]: the paths; [`view`]: what they show as JSON; [`page`]: as a page; [`graph`]: whom the service talks to
//! - [`readiness`]: what the proxy still waits for
//!
//! How it fails: a caller that is slow, too large or not allowed is told so and cut off; changes need the token where
//! one is configured, and never come from another site's page in somebody's browser.

mod answer;
mod breakers;
pub mod config;
mod graph;
mod page;
pub mod readiness;
mod request;
mod server;
mod token;
mod view;

pub use readiness::{Pending, Readiness};
pub use server::{Address, Listener, Role, bind, serve};

pub use crate::control::{Refusal as Refused, Snapshot};
use crate::pipeline::metrics::Registry;
use crate::pipeline::{Emitter, Service};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;

/// What the proxy offers to those who watch it. Called on the control runtime; must not block.
pub trait Control: Send + Sync + 'static {
    /// The configuration in force and what came of it.
    fn snapshot(&self) -> Snapshot;

    /// Begins to drain; `false` when it had begun before.
    fn drain(&self) -> bool;

    /// Which route, cluster and endpoint the question (an object: `method`, `url`, `headers`, `direction`) leads to.
    ///
    /// # Errors
    /// The text says what is wrong with the question.
    fn explain(&self, question: &Value) -> Result<Value, String>;

    /// What is recorded, and what became of it.
    fn recording(&self) -> Value;

    /// Records what is asked for (an object: `ttl`, `match`, `sample`, `body_limit`, `id`, `keep`).
    ///
    /// # Errors
    /// The text says what is wrong with it.
    fn record(&self, given: &Value) -> Result<Value, String>;

    /// Takes back what was asked for under this name, or everything; how much that was.
    fn stop_recording(&self, id: Option<&str>) -> usize;

    /// Sets the level of the proxy's own log (`debug`, `sidelight=debug,h2=warn`).
    ///
    /// # Errors
    /// The text says what is wrong with the level.
    fn set_log_level(&self, level: &str) -> Result<(), String>;
}

/// All that the handlers read.
pub struct State {
    /// Who the proxy stands beside.
    pub service: Service,
    /// What can be shown and changed.
    pub control: Box<dyn Control>,
    /// What the proxy still waits for.
    pub readiness: Arc<Readiness>,
    /// What can be scraped.
    pub metrics: Arc<Registry>,
    /// Where changes are put on record.
    pub events: Emitter,
    /// File with the token that changes need; it is read for each change, so it can be rotated.
    pub token_file: Option<PathBuf>,
}

#[cfg(test)]
mod tests;
