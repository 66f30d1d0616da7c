//! `pipeline`: where events go, and where they wait.
//!
//! How it fails: a sink that is slow or gone keeps events waiting in the spool; it never holds a request up.

use super::sinks::{archive, file, fluent, kafka, kinesis, nats, otlp, splunk, statsd, stdout, zipkin};
use super::{otlp_receiver, spool};
use crate::context::sampling;
use crate::units;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `pipeline`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Pipeline")]
pub struct Config {
    /// Where events go; absent: to stdout.
    pub sinks: Sinks,
    /// What else comes in: the application's own telemetry.
    pub receiver: Receiver,
    /// Where events wait for their sinks.
    pub spool: spool::Config,
    /// Events that one worker holds for the pipeline; more are dropped and counted.
    #[schemars(range(min = 16, max = 1048576))]
    pub ring_events_max: usize,
    /// The dependency graph.
    pub graph: super::graph::Config,
    /// Which traces are recorded.
    pub sampling: sampling::Config,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            sinks: Sinks { stdout: Some(stdout::Config {}), ..Sinks::default() },
            receiver: Receiver::default(),
            spool: spool::Config::default(),
            ring_events_max: 4096,
            graph: super::graph::Config::default(),
            sampling: sampling::Config::default(),
        }
    }
}

/// `pipeline.receiver`: what else comes in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "PipelineReceiver")]
pub struct Receiver {
    /// OTLP on loopback; absent: off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<otlp_receiver::Config>,
}

/// `pipeline.sinks`: the sinks that are written are on, and no other. Of a kind there may be several, as a list; then each
/// has a `name`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sinks {
    /// JSON lines to the standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<stdout::Config>,
    /// JSON lines to a file.
    #[serde(with = "units::some", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "units::Some<file::Config>")]
    pub file: Vec<file::Config>,
    /// Traces, logs and metrics to an OpenTelemetry Collector, or to whatever speaks OTLP.
    #[serde(with = "units::some", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "units::Some<otlp::Config>")]
    pub otlp: Vec<otlp::Config>,
    /// Records to Kafka.
    #[serde(with = "units::some", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "units::Some<kafka::Config>")]
    pub kafka: Vec<kafka::Config>,
    /// Messages to NATS JetStream.
    #[serde(with = "units::some", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "units::Some<nats::Config>")]
    pub nats: Vec<nats::Config>,
    /// Records to Fluentd or Fluent Bit, by the Forward protocol.
    #[serde(with = "units::some", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "units::Some<fluent::Config>")]
    pub fluent: Vec<fluent::Config>,
    /// Counters and times to a StatsD daemon.
    #[serde(with = "units::some", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "units::Some<statsd::Config>")]
    pub statsd: Vec<statsd::Config>,
    /// Spans to Zipkin.
    #[serde(with = "units::some", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "units::Some<zipkin::Config>")]
    pub zipkin: Vec<zipkin::Config>,
    /// Events to Splunk, by its HTTP Event Collector.
    #[serde(with = "units::some", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "units::Some<splunk::Config>")]
    pub splunk: Vec<splunk::Config>,
    /// Records to Amazon Kinesis Data Streams.
    #[serde(with = "units::some", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "units::Some<kinesis::Config>")]
    pub kinesis: Vec<kinesis::Config>,
    /// Files for the long term, in a directory or in S3.
    #[serde(with = "units::some", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "units::Some<archive::Config>")]
    pub archive: Vec<archive::Config>,
    /// Names of those that get the pieces of recordings: `recording.sinks`, put here when a configuration is loaded, so that
    /// what a sink is given never depends on which of the two was applied first.
    #[serde(skip)]
    pub recorded: Vec<String>,
}
