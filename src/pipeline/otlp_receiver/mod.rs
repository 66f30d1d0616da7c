//! The OTLP receiver on loopback: the application's own telemetry, from any OpenTelemetry SDK, into the pipeline.
//!
//! What: OTLP/HTTP with Protocol Buffers and OTLP/gRPC. Each span, log record and point of a metric becomes one event
//! (`sidelight/app_span/1`, `sidelight/app_log/1`, `sidelight/app_metric/1`), which has everything that OTLP said: the OTLP
//! sink sends it on as it came. Why: the application needs one exporter, to the sidecar, and has the spool, the retries
//! and every sink of the pipeline behind it. On loopback only: it believes whoever asks.
//!
//! - `server`: sockets and connections; `service`: a request and its answer; `intake`: from a message into the pipeline
//! - `span`, `log`, `metric`: the events' members; `json`: how values are written
//!
//! # Members
//! Of all: `resource` (`attributes`, `schema_url`) and `scope` (`name`, `version`, `attributes`, `schema_url`). Of a span:
//! `trace_id`, `span_id`, `parent_id`, `trace_state`, `trace_flags`, `sampled` (true: the SDK exports no others), `name`,
//! `kind`, `duration_ms`, `start_time_unix_nano`, `end_time_unix_nano`, `status` (`code`, `message`), `attributes`, `events`,
//! `links`. Of a log record: `severity_text`, `severity_number`, `event_name`, `body`, `attributes`, `trace_id`, `span_id`,
//! `time_unix_nano`, `observed_time_unix_nano`. Of a metric: `name`, `unit`, `description`, `type`, `temporality`,
//! `is_monotonic`, `point`. What is empty or zero is left out. Numbers beyond 63 bits are texts; bytes are
//! `{"@bytes":"base64"}`, numbers that JSON has not `{"@double":"NaN"}`, lists of pairs that no object can hold
//! `{"@kvlist":[["k",1]]}`.
//!
//! How it fails: an address that is not loopback, or is taken, is an error at start. A message is decoded before any of it
//! is taken, so one that is broken is refused in whole (400, INVALID_ARGUMENT). When the pipeline is full before the first
//! event of a message was taken, nothing of it is: 503 or UNAVAILABLE, with when to come again, and the SDK keeps it. When it
//! fills in the middle, the receiver waits for room, a second at most; then the rest is rejected, and the answer says how
//! many, exactly (partial success): to ask for all of it again would count what was taken twice. Connections, requests
//! under way, bytes and times are bounded.

mod config;
mod intake;
pub(crate) mod json;
mod log;
mod metric;
mod server;
mod service;
mod span;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use server::Receiver;

use super::Incoming;
use std::sync::Arc;

/// Takes an event into the pipeline; `false`: it is full, and the event is not taken. Must not block.
pub type Take = Arc<dyn Fn(Incoming) -> bool + Send + Sync>;
