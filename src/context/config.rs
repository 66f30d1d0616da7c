//! `context`: how much context a request may carry, and whose is believed.
//!
//! Why: context fields decide routes and are written into every event, so their length is bounded, and a field from
//! outside the mesh is somebody's claim. How it fails: a field over its bound is dropped and counted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::formats::Format;
use super::{extra, signature};
use crate::units;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// `context`: what a request carries, in which forms, and whose word is believed.
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
    /// Trace formats beside W3C's.
    pub formats: Formats,
    /// Further fields, by name.
    pub fields: BTreeMap<String, extra::Config>,
    /// How the parent of an outbound request is found, whose application does not pass the trace on.
    pub correlate: Correlate,
    /// What becomes of the context of peers that are not trusted (`inbound.trust`).
    pub edge: Edge,
    /// Signatures of the context; absent: none are made, asked for or taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign: Option<Sign>,
    /// Pseudonyms for fields that name a person; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pseudonyms: Option<Pseudonyms>,
}

/// `context.correlate`: how the parent of an outbound request is found, whose application does not pass the trace on. What is
/// found gives it the trace and the fields that it lacks; what is not known is told as links, and decides nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Correlate {
    /// By the request id that the application copies.
    pub request_id: bool,
    /// By another header that the application copies, as it came to it; `none`: no other.
    pub echo: String,
    /// By there being only one inbound request under way. Turn it off beside an application that works on after its
    /// answer, or by a timer.
    pub sole: bool,
}

impl Default for Correlate {
    fn default() -> Self {
        Correlate { request_id: true, echo: units::NONE.to_owned(), sole: true }
    }
}

/// `context.edge`: what becomes of the context of peers that are not trusted. Their fields are dropped in any case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Edge {
    /// What becomes of their trace.
    pub trace: EdgeTrace,
    /// What becomes of their request id.
    pub request_id: EdgeRequestId,
    /// Fields that are set for them: a name (`license`, or one of `context.fields`) and its value.
    pub set: BTreeMap<String, String>,
    /// The field that takes the identity of their verified client certificate, such as `user_id`; `none`: no field does.
    pub identity: String,
}

impl Default for Edge {
    fn default() -> Self {
        Edge {
            trace: EdgeTrace::default(),
            request_id: EdgeRequestId::default(),
            set: BTreeMap::new(),
            identity: units::NONE.to_owned(),
        }
    }
}

/// What becomes of the trace of a peer that is not trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EdgeTrace {
    /// It goes on.
    #[default]
    Continue,
    /// A new one begins, with a link to it (W3C Trace Context §4.3: restart).
    Restart,
}

/// What becomes of the request id of a peer that is not trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EdgeRequestId {
    /// It is kept when it is valid.
    #[default]
    Keep,
    /// A new one is made; theirs goes on as `x-client-request-id`.
    Replace,
}

/// `context.sign`: signatures that bind the fields to the trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SignContext")]
pub struct Sign {
    /// The key file; it is read again when it changes.
    #[schemars(with = "String", extend("format" = "file"))]
    pub keys: PathBuf,
    /// What becomes of fields without a valid signature.
    #[serde(default)]
    pub unsigned: Unsigned,
    /// How long a signature is valid, at most 5m.
    #[serde(default = "ttl", with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub ttl: Duration,
    /// By how much the clocks of two machines may differ.
    #[serde(default = "skew", with = "units::duration")]
    #[schemars(with = "units::DurationOrZero")]
    pub skew: Duration,
    /// Whether fields that the application says of its own are signed as well: for services where requests begin.
    #[serde(default)]
    pub for_app: bool,
}

fn ttl() -> Duration {
    Duration::from_secs(signature::TTL_MAX_S)
}

fn skew() -> Duration {
    Duration::from_secs(signature::SKEW_DEFAULT_S)
}

/// What becomes of fields of trusted peers, and of the application, without a valid signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unsigned {
    /// They are believed, and the event says so: to see what would be lost.
    #[default]
    Report,
    /// They are dropped and counted.
    Drop,
    /// The request is refused with 403.
    Refuse,
}

/// `context.pseudonyms`: fields whose values are replaced by pseudonyms, wherever they come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pseudonyms {
    /// The key file; it is read again when it changes.
    #[schemars(with = "String", extend("format" = "file"))]
    pub keys: PathBuf,
    /// Which fields: `user_id`, `account_id`, or some of `context.fields`.
    #[serde(default = "user_id")]
    pub fields: Vec<String>,
}

fn user_id() -> Vec<String> {
    vec!["user_id".to_owned()]
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
            formats: Formats::default(),
            fields: BTreeMap::new(),
            correlate: Correlate::default(),
            edge: Edge::default(),
            sign: None,
            pseudonyms: None,
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
