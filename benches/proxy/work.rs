//! The rows of the table: what is asked of a proxy, and what the answer may cost.

use crate::peer::Peer;

/// One row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// HTTP/1.1 GET of 1 KiB with seven request headers.
    H1,
    /// HTTP/2 to HTTP/2, both in cleartext.
    H2,
    /// HTTP/1.1 GET of 1 MiB.
    Download,
    /// TLS 1.3 in, mutual TLS 1.3 out, HTTP/1.1 GET of 1 KiB.
    Tls,
    /// HTTP/1.1 POST of 64 KiB.
    Upload,
    /// Resident memory at start and for each idle connection.
    Memory,
    /// User instructions a request, by callgrind.
    Callgrind,
    /// Latency with one slow endpoint of five.
    Balance,
    /// As `H1`; sidelight sends every exchange to an OTLP receiver besides.
    Otlp,
    /// As `H1`; sidelight alone, and with a sink whose receiver accepts and never answers.
    DeadSink,
    /// As `H1`; sidelight alone, and recording everything.
    Recording,
}

/// Which listener and which upstream of the proxy a row needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plane {
    /// HTTP/1.1 in and out, two upstream endpoints.
    Http1,
    /// HTTP/2 with prior knowledge in and out.
    Http2,
    /// TLS in, mutual TLS out.
    Tls,
    /// HTTP/1.1 in and out, five upstream endpoints of which one is slow, balanced by load.
    Balance,
    /// As `Http1`; sidelight has an OTLP sink besides.
    Otlp,
    /// As `Http1`; the variant of sidelight has an OTLP sink that hangs.
    DeadSink,
    /// As `Http1`; the variant of sidelight records.
    Recording,
}

impl Work {
    /// Every row, in the table's order.
    pub const ALL: [Self; 11] = [
        Self::H1,
        Self::Otlp,
        Self::DeadSink,
        Self::Recording,
        Self::H2,
        Self::Download,
        Self::Tls,
        Self::Upload,
        Self::Memory,
        Self::Callgrind,
        Self::Balance,
    ];

    /// The row's name on the command line and in the JSON file.
    pub fn name(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::Otlp => "otlp",
            Self::DeadSink => "dead-sink",
            Self::Recording => "recording",
            Self::H2 => "h2",
            Self::Download => "download",
            Self::Tls => "tls",
            Self::Upload => "upload",
            Self::Memory => "memory",
            Self::Callgrind => "callgrind",
            Self::Balance => "balance",
        }
    }

    /// The row's heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::H1 => "HTTP/1.1 GET 1 KiB, 7 request headers, 32 connections",
            Self::Otlp => {
                "as h1; sidelight: a span of each request by OTLP/gRPC, and the JSON file; haproxy: no log"
            }
            Self::DeadSink => "as h1; variant: an OTLP sink beside the file, whose receiver never answers",
            Self::Recording => "as h1; variant: every exchange is recorded",
            Self::H2 => "HTTP/2 to HTTP/2, GET 1 KiB, 10 connections x 10 streams",
            Self::Download => "HTTP/1.1 GET 1 MiB, 8 connections",
            Self::Tls => "TLS 1.3 in, mutual TLS 1.3 out, HTTP/1.1 GET 1 KiB, 32 connections",
            Self::Upload => "HTTP/1.1 POST 64 KiB, 16 connections",
            Self::Memory => "resident memory at start and for each idle connection",
            Self::Balance => {
                "latency with one of five endpoints ten times slower, 1000 requests a second, open loop"
            }
            Self::Callgrind => "user instructions a request (callgrind), HTTP/1.1 GET 1 KiB",
        }
    }

    /// What the proxy must be configured for.
    pub fn plane(self) -> Plane {
        match self {
            Self::H2 => Plane::Http2,
            Self::Tls => Plane::Tls,
            Self::Balance => Plane::Balance,
            Self::Otlp => Plane::Otlp,
            Self::DeadSink => Plane::DeadSink,
            Self::Recording => Plane::Recording,
            Self::H1 | Self::Download | Self::Upload | Self::Memory | Self::Callgrind => Plane::Http1,
        }
    }

    /// The most CPU that sidelight may use for a request, as a multiple of haproxy's in the same round.
    pub fn bar_ratio(self) -> Option<f64> {
        match self {
            Self::H1 => Some(1.10),
            Self::Otlp => Some(1.4),
            // A sink that is down moves another's throughput by less than a hundredth.
            Self::DeadSink => Some(1.01),
            // At most a twentieth fewer requests for each CPU second.
            Self::Recording => Some(1.0 / 0.95),
            Self::H2 => Some(1.5),
            Self::Download => Some(1.0),
            Self::Tls => Some(1.2),
            Self::Upload => Some(1.5),
            Self::Memory | Self::Callgrind | Self::Balance => None,
        }
    }

    /// Whose CPU time the row's ratios are multiples of.
    pub fn base(self) -> Peer {
        match self {
            Self::DeadSink | Self::Recording => Peer::Sidelight,
            _ => Peer::Haproxy,
        }
    }

    /// Whose ratio the row's bar bounds.
    pub fn judged(self) -> Peer {
        match self {
            Self::DeadSink | Self::Recording => Peer::Variant,
            _ => Peer::Sidelight,
        }
    }

    /// The path that is asked for, a file of the upstream but for `/upload`.
    pub fn path(self) -> &'static str {
        match self {
            Self::Download => "/1m",
            Self::Upload => "/upload",
            _ => "/1k",
        }
    }

    /// The least bytes of a right answer's body: a proxy that answers 200 with something else does not pass for fast.
    pub fn body_bytes_min(self) -> u64 {
        match self {
            Self::Download => 1 << 20,
            Self::Upload => 2,
            _ => 1 << 10,
        }
    }

    /// Connections of the load generator.
    pub fn connections(self) -> usize {
        match self {
            Self::H2 => 10,
            Self::Download => 8,
            Self::Upload => 16,
            _ => 32,
        }
    }
}

/// Resident memory at start may be at most this.
pub const BAR_START_MIB: f64 = 12.0;
/// Resident memory for each idle connection may be at most this.
pub const BAR_IDLE_KIB: f64 = 10.0;
/// The 99th percentile of the balance row may be at most this multiple of haproxy's `leastconn` in the same round.
pub const BAR_BALANCE: f64 = 1.0;
/// User instructions for one request may be at most this.
pub const BAR_INSTRUCTIONS: u64 = 36_000;
/// Growth over the committed baseline that `--check` lets pass: callgrind repeats to half a per cent.
pub const BASELINE_GROWTH_MAX: f64 = 0.05;

/// Request headers of every load, with the Host that the client adds seven: the context's five fields, `traceparent`.
pub const HEADERS: [(&str, &str); 6] = [
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("x-user-id", "user-8f14e45f"),
    ("x-account-id", "account-c9f0f895"),
    ("x-license", "gold"),
    ("x-request-type", "STANDARD"),
    ("x-feature-flags", "beta,checkout-v2"),
];
