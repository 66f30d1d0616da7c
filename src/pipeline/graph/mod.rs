//! The dependency graph: who calls whom, derived from what each sidecar carried.
//!
//! What: an edge for each peer or cluster, protocol, route, license and request type, with counts, errors, latencies and
//! bytes, counted by every sidecar for itself; many sidecars' graphs are merged by whoever wants the whole map. Why not
//! from traces: those are sampled, so their counts are estimates and their edges come and go; a sidecar sees every call and
//! knows both ends of it.
//!
//! - [`table`]: counts records; [`live`]: the table of this process; [`histogram`], [`stats`]: what an edge holds
//! - [`document`]: what one sidecar says (`sidelight/graph/1`); [`events`]: the same out of event files
//! - [`source`]: files and admin ports; [`merge`]: many sidecars; [`map`]: the calls between services, each once
//! - [`format`](mod@format): the map in ten languages; [`mod@diff`]: two maps compared
//! - [`declared`]: what services say that they need; [`review`](mod@review): that against the map
//!
//! How it fails: what the pipeline lost is known by its number only, and said (`missed`); every table is bounded, and what
//! is beyond is one edge called `_other`.

pub mod config;
pub mod declared;
pub mod diff;
pub mod document;
pub mod events;
pub mod format;
pub mod histogram;
pub mod live;
pub mod map;
pub mod merge;
mod moment;
pub mod review;
pub mod source;
mod stats;
mod table;

pub use config::Config;
pub use declared::{Declared, DependsOn, Manifest};
pub use document::Report;
pub use format::Format;
pub use live::{DEPENDENCY, Live};
pub use map::{Aliases, Map};
pub use merge::Graph;
pub use moment::Moment;
pub use stats::{Outcome, Stats};

#[cfg(test)]
mod tests;
