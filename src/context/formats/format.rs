//! The formats by name, and sets of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A way to carry a trace in headers, besides W3C's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Format {
    /// Zipkin's `b3`, one header.
    B3,
    /// Zipkin's `x-b3-traceid` and its kin.
    B3Multi,
    /// AWS X-Ray's `X-Amzn-Trace-Id`.
    Xray,
    /// Google's `X-Cloud-Trace-Context`.
    CloudTrace,
    /// Jaeger's `uber-trace-id`.
    Jaeger,
    /// Datadog's `x-datadog-trace-id` and its kin.
    Datadog,
    /// OpenTracing's `ot-tracer-traceid` and its kin.
    OtTracer,
    /// OpenCensus' `grpc-trace-bin`.
    GrpcTraceBin,
}

impl Format {
    /// How many formats there are.
    pub const COUNT: usize = 8;
    /// Every format; where they disagree, an earlier one wins.
    pub const ALL: [Format; Format::COUNT] = [
        Format::B3,
        Format::B3Multi,
        Format::Xray,
        Format::CloudTrace,
        Format::Jaeger,
        Format::Datadog,
        Format::OtTracer,
        Format::GrpcTraceBin,
    ];

    /// The name in configuration and events.
    pub const fn name(self) -> &'static str {
        match self {
            Format::B3 => "b3",
            Format::B3Multi => "b3_multi",
            Format::Xray => "xray",
            Format::CloudTrace => "cloud_trace",
            Format::Jaeger => "jaeger",
            Format::Datadog => "datadog",
            Format::OtTracer => "ot_tracer",
            Format::GrpcTraceBin => "grpc_trace_bin",
        }
    }
}

/// Some of the formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FormatSet(u8);

impl FormatSet {
    /// No format.
    pub const NONE: FormatSet = FormatSet(0);
    /// Every format.
    pub const ALL: FormatSet = FormatSet(u8::MAX);

    /// Adds one.
    pub fn insert(&mut self, format: Format) {
        self.0 |= 1 << format as u8;
    }

    /// Whether `format` is among them.
    pub fn contains(self, format: Format) -> bool {
        self.0 & (1 << format as u8) != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Each, in the order of [`Format::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Format> {
        Format::ALL.into_iter().filter(move |format| self.contains(*format))
    }
}

const _: () = assert!(Format::COUNT == u8::BITS as usize);

impl FromIterator<Format> for FormatSet {
    fn from_iter<I: IntoIterator<Item = Format>>(formats: I) -> Self {
        let mut set = FormatSet::NONE;
        formats.into_iter().for_each(|format| set.insert(format));
        set
    }
}
