//! `context`: how much context a request may carry, and whose is believed.
//!
//! Why: context fields decide routes and are written into every event, so their length is bounded, and a field from
//! outside the mesh is somebody's claim. How it fails: a field over its bound is dropped and counted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::formats::Format;
use crate::units;

/// `context`: bounds of the context, and what new traces look like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Context")]
pub struct Config {
    /// Longest `tracestate` that is carried on; whole members are left out beyond it (W3C asks for at least 512 bytes).
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub tracestate_bytes_max: usize,
    /// Longest `baggage` that is carried on; whole members are left out beyond it (W3C Baggage §3.3.2: 8192).
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub baggage_bytes_max: usize,
    /// The sampled flag of a trace that starts here.
    pub new_trace_sampled: bool,
    /// Trace formats beside W3C's.
    pub formats: Formats,
}

/// `context.formats`: trace formats beside W3C's, which is always read and written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "TraceFormats")]
pub struct Formats {
    /// What is read where a request brings no `traceparent`. A format that was read is written again with our own span, so
    /// that an application which knows only that one finds its trace; one that is not read goes on as it came.
    pub read: Vec<Format>,
    /// What is written into every request, also where it did not come.
    pub write: Vec<Format>,
}

impl Default for Formats {
    fn default() -> Self {
        Formats { read: Format::ALL.to_vec(), write: Vec::new() }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            tracestate_bytes_max: 16 << 10,
            baggage_bytes_max: 8192,
            new_trace_sampled: true,
            formats: Formats::default(),
        }
    }
}

/// Whose context fields are believed; from everybody else they are dropped (the trace is kept).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Everybody who can connect: inside the mesh.
    #[default]
    All,
    /// Nobody: at the edge.
    None,
    /// Peers with a verified client certificate.
    Mtls,
}
