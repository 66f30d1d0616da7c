//! The lines that the application writes, as events: `sidelight/app_log/1`.
//!
//! What: [`parse`] reads one line, whatever wrote it, and [`Parsed::event`] says it with OpenTelemetry's names
//! (<https://opentelemetry.io/docs/specs/otel/logs/data-model/>): `timestamp` is the line's own time, `observed_timestamp`
//! when it was read, then severity, `body`, and the members of a JSON line under `attributes`, as they were written. A line
//! that names a trace or a request gets the [`Context`] of that exchange from [`Exchanges`]. Pipes and threads are
//! [`app::output`](crate::app)'s matter; here are only bytes.
//!
//! - [`json`], [`plain`]: the two kinds of lines; [`severity`]: what levels mean; [`ansi`]: colours, taken away
//! - [`exchanges`], [`context`]: which exchange a line belongs to; [`event`]: what is written
//!
//! How it fails: it cannot. A line that is no JSON object is plain text; what is in no known place stays where it is; bytes
//! that are not UTF-8 become U+FFFD and the event says so.

mod ansi;
mod config;
mod context;
mod event;
mod exchanges;
mod json;
mod line;
mod plain;
mod severity;
mod stats;
#[cfg(test)]
mod tests;
mod time;

pub use config::{Config, PassThrough};
pub use context::Context;
pub use event::Told;
pub use exchanges::{Exchanges, Visit};
pub use line::{Ids, Parsed, parse};
pub use stats::{Counters, Stats, Stream, add};

/// The schema of a line's event.
pub const SCHEMA: &str = "sidelight/app_log/1";
/// The schema of what is told of the output itself: lines that were lost, a pipe that was left open.
pub const OUTPUT_SCHEMA: &str = "sidelight/app_output/1";
