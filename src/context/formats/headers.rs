//! Where the headers of the trace formats are in a request: one pass over the fields that nobody else knows.
//!
//! This runs for every request, most of which have none. So the length of a name is looked at first, then its first
//! letter, and only a name that passes both is compared, once.

use super::Format;
use crate::context::trim_ows;
use crate::svc::Fields;
use crate::svc::fields::Span;

/// A header of one of the formats. The numbers index arrays of [`Header::COUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Header {
    B3,
    B3TraceId,
    B3SpanId,
    B3ParentSpanId,
    B3Sampled,
    B3Flags,
    AmznTraceId,
    CloudTraceContext,
    UberTraceId,
    DatadogTraceId,
    DatadogParentId,
    DatadogSamplingPriority,
    DatadogTags,
    DatadogOrigin,
    OtTraceId,
    OtSpanId,
    OtSampled,
    GrpcTraceBin,
}

impl Header {
    pub(super) const COUNT: usize = 18;

    pub(super) const ALL: [Header; Header::COUNT] = [
        Header::B3,
        Header::B3TraceId,
        Header::B3SpanId,
        Header::B3ParentSpanId,
        Header::B3Sampled,
        Header::B3Flags,
        Header::AmznTraceId,
        Header::CloudTraceContext,
        Header::UberTraceId,
        Header::DatadogTraceId,
        Header::DatadogParentId,
        Header::DatadogSamplingPriority,
        Header::DatadogTags,
        Header::DatadogOrigin,
        Header::OtTraceId,
        Header::OtSpanId,
        Header::OtSampled,
        Header::GrpcTraceBin,
    ];

    /// In lower case, as HTTP/2 writes it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Header::B3 => "b3",
            Header::B3TraceId => "x-b3-traceid",
            Header::B3SpanId => "x-b3-spanid",
            Header::B3ParentSpanId => "x-b3-parentspanid",
            Header::B3Sampled => "x-b3-sampled",
            Header::B3Flags => "x-b3-flags",
            Header::AmznTraceId => "x-amzn-trace-id",
            Header::CloudTraceContext => "x-cloud-trace-context",
            Header::UberTraceId => "uber-trace-id",
            Header::DatadogTraceId => "x-datadog-trace-id",
            Header::DatadogParentId => "x-datadog-parent-id",
            Header::DatadogSamplingPriority => "x-datadog-sampling-priority",
            Header::DatadogTags => "x-datadog-tags",
            Header::DatadogOrigin => "x-datadog-origin",
            Header::OtTraceId => "ot-tracer-traceid",
            Header::OtSpanId => "ot-tracer-spanid",
            Header::OtSampled => "ot-tracer-sampled",
            Header::GrpcTraceBin => "grpc-trace-bin",
        }
    }

    pub(super) const fn format(self) -> Format {
        match self {
            Header::B3 => Format::B3,
            Header::B3TraceId
            | Header::B3SpanId
            | Header::B3ParentSpanId
            | Header::B3Sampled
            | Header::B3Flags => Format::B3Multi,
            Header::AmznTraceId => Format::Xray,
            Header::CloudTraceContext => Format::CloudTrace,
            Header::UberTraceId => Format::Jaeger,
            Header::DatadogTraceId
            | Header::DatadogParentId
            | Header::DatadogSamplingPriority
            | Header::DatadogTags
            | Header::DatadogOrigin => Format::Datadog,
            Header::OtTraceId | Header::OtSpanId | Header::OtSampled => Format::OtTracer,
            Header::GrpcTraceBin => Format::GrpcTraceBin,
        }
    }

    /// The header of this name, in any case.
    #[inline]
    pub(super) fn classify(name: &[u8]) -> Option<Header> {
        let first = name.first()? | 0x20;
        let candidate = match (name.len(), first) {
            (2, b'b') => Header::B3,
            (10, b'x') => Header::B3Flags,
            (11, b'x') => Header::B3SpanId,
            (12, b'x') if name[5] | 0x20 == b't' => Header::B3TraceId,
            (12, b'x') => Header::B3Sampled,
            (13, b'u') => Header::UberTraceId,
            (14, b'x') => Header::DatadogTags,
            (14, b'g') => Header::GrpcTraceBin,
            (15, b'x') => Header::AmznTraceId,
            (16, b'x') => Header::DatadogOrigin,
            (16, b'o') => Header::OtSpanId,
            (17, b'x') => Header::B3ParentSpanId,
            (17, b'o') if name[10] | 0x20 == b't' => Header::OtTraceId,
            (17, b'o') => Header::OtSampled,
            (18, b'x') => Header::DatadogTraceId,
            (19, b'x') => Header::DatadogParentId,
            (21, b'x') => Header::CloudTraceContext,
            (27, b'x') => Header::DatadogSamplingPriority,
            _ => return None,
        };
        name.eq_ignore_ascii_case(candidate.name().as_bytes()).then_some(candidate)
    }

    const fn bit(self) -> u32 {
        1 << self as u8
    }

    pub(super) fn set(self, fields: &mut Fields, value: &[u8]) {
        fields.set_named(self.name().as_bytes(), value);
    }

    pub(super) fn remove(self, fields: &mut Fields) {
        fields.remove_named(self.name().as_bytes());
    }
}

/// For each length of a name, a bit: a header of ours has it. None is as long as 32.
const LENGTHS: u32 = {
    let mut bits = 0;
    let mut at = 0;
    while at < Header::COUNT {
        bits |= 1 << Header::ALL[at].name().len();
        at += 1;
    }
    bits
};

/// For each format, the bits of its headers.
const OF_FORMAT: [u32; Format::COUNT] = {
    let mut bits = [0; Format::COUNT];
    let mut at = 0;
    while at < Header::COUNT {
        let header = Header::ALL[at];
        bits[header.format() as usize] |= header.bit();
        at += 1;
    }
    bits
};

/// Where the headers of all the formats are in one header section. The places stay true when fields are added, set or
/// removed afterwards, but tell what came, not what is there now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers {
    /// For each header, its value; the last one where there are several.
    values: [Span; Header::COUNT],
    /// For each header, a bit: it came.
    present: u32,
    /// For each header, a bit: it came more than once.
    repeated: u32,
}

impl Headers {
    /// Looks for the headers of every format. A few instructions for each field, and no allocation.
    pub fn scan(fields: &Fields) -> Headers {
        let mut headers = Headers::default();
        for (name, value, known) in fields.spans() {
            let may_be_ours = known.is_none() && name.len < u32::BITS && LENGTHS >> name.len & 1 != 0;
            if may_be_ours && let Some(header) = Header::classify(fields.bytes(name)) {
                headers.repeated |= headers.present & header.bit();
                headers.present |= header.bit();
                headers.values[header as usize] = value;
            }
        }
        headers
    }

    /// Whether there is no header of any format.
    pub fn is_empty(&self) -> bool {
        self.present == 0
    }

    /// Removes headers that are there but empty, as applications send them that copy what they did not get: an empty
    /// `x-b3-parentspanid` has broken traces (istio#11696). They count as absent from here on.
    pub fn drop_empty(&mut self, fields: &mut Fields) {
        for header in self.iter() {
            if self.single(header, fields).is_empty() && self.repeated & header.bit() == 0 {
                header.remove(fields);
                self.present &= !header.bit();
            }
        }
    }

    /// The headers that came.
    pub(super) fn iter(&self) -> impl Iterator<Item = Header> + use<> {
        let present = self.present;
        Header::ALL.into_iter().filter(move |header| present & header.bit() != 0)
    }

    /// Whether nothing came in `format`.
    pub(super) fn is_absent(&self, format: Format) -> bool {
        self.present & OF_FORMAT[format as usize] == 0
    }

    /// Whether a header of `format` that is read came more than once.
    pub(super) fn is_repeated(&self, format: Format) -> bool {
        self.repeated & OF_FORMAT[format as usize] & !Header::DatadogOrigin.bit() != 0
    }

    /// Whether all that came in `format` are empty headers.
    pub(super) fn is_blank(&self, format: Format, fields: &Fields) -> bool {
        let mut own = self.iter().filter(|header| header.format() == format);
        own.all(|header| self.value(header, fields).is_empty())
    }

    /// The value of a header that does not count as repeated, without whitespace around it; empty when it is absent.
    pub(super) fn value<'a>(&self, header: Header, fields: &'a Fields) -> &'a [u8] {
        if self.present & header.bit() == 0 {
            return &[];
        }
        trim_ows(fields.bytes(self.values[header as usize]))
    }

    /// As [`value`](Self::value), and empty when the header came more than once.
    pub(super) fn single<'a>(&self, header: Header, fields: &'a Fields) -> &'a [u8] {
        if self.repeated & header.bit() == 0 { self.value(header, fields) } else { &[] }
    }
}
