//! Metrics: counted by the workers without sharing, summed and written out when somebody scrapes.
//!
//! What: OpenTelemetry's HTTP metrics under their Prometheus names, and sidelight's own. Why not a metrics crate: the
//! cost on a worker is one table look-up and a few unlocked additions for each exchange, and the label sets are bounded
//! by construction: nothing that a peer chooses is a label, and over [`SERIES_MAX`] combinations count as `_other`.
//!
//! - [`block`]: a worker's counters; [`histogram`]: buckets with one writer
//! - [`registry`]: everything that can be scraped; [`connections`]: counters of a listener
//! - `context`: whether contexts are carried; [`edges`](Edge): the same numbers by whom the service talks to
//! - `render` and `text`: Prometheus text 0.0.4 and OpenMetrics 1.0
//!
//! How it fails: it cannot; what cannot be read from the system is left out of the scrape.

mod admission;
mod app_log;
pub(crate) mod block;
pub(crate) mod collect;
pub mod connections;
mod context;
mod edges;
pub mod exemplars;
pub mod histogram;
pub mod process;
mod recording;
pub mod registry;
mod render;
mod resilience;
pub(super) mod text;

pub use connections::{Connected, ConnectionStats, Detected};
pub use edges::Edge;
pub use registry::{Registry, SERIES_MAX};
pub use text::Format;

#[cfg(test)]
pub(crate) mod tests;
