//! Every bound of the proxy, with the strictest sensible default of the field.
//!
//! Why one place: memory for each connection and time for each exchange are products of these numbers, and an
//! operator must be able to read them together. Sources: Envoy's edge guidance, linkerd2-proxy, hyper and h2 after
//! their 2023–2026 flood advisories, RFC 9110 and RFC 9113. How it fails: a bound that is reached refuses one request,
//! stream or connection with a cause, and is counted; it never stops the proxy.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units;

/// `limits`: bounds on bytes, counts and times. `none` switches a bound off where it is allowed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Limits")]
pub struct Config {
    /// Longest request line and header fields together, HTTP/1 (else 431).
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub request_head_bytes_max: usize,
    /// Most header fields of a request (else 431). Envoy and hyper: 100.
    #[schemars(range(min = 1, max = 65535))]
    pub request_headers_max: usize,
    /// Longest request target (else 414).
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub request_target_bytes_max: usize,
    /// Longest head of an upstream's response (else 502).
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub response_head_bytes_max: usize,
    /// Most header fields of an upstream's response (else 502).
    #[schemars(range(min = 1, max = 65535))]
    pub response_headers_max: usize,
    /// Longest trailer section, in either direction.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub trailers_bytes_max: usize,
    /// Most trailer fields, in either direction.
    #[schemars(range(max = 65535))]
    pub trailers_max: usize,
    /// Longest request body (else 413); `none`: bodies stream, so their length costs no memory.
    #[serde(with = "units::size_or_none")]
    #[schemars(with = "units::SizeOrNone")]
    pub request_body_bytes_max: Option<usize>,
    /// Chunk extensions of one body together; nobody uses them but attackers.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub chunk_extension_bytes_max: usize,
    /// Downstream connections at once; `auto`: half of the process's file descriptors (RLIMIT_NOFILE).
    #[serde(with = "units::count_or_auto")]
    #[schemars(with = "units::CountOrAuto")]
    pub connections_max: Option<usize>,
    /// Requests on one downstream connection before it is closed gracefully.
    #[serde(with = "units::count_or_none")]
    #[schemars(with = "units::CountOrNone")]
    pub requests_per_connection_max: Option<usize>,
    /// How request paths are made canonical before anything matches them.
    pub path: Path,
    /// Time to tell a connection's protocol by its first bytes. A client that says nothing until then is counted, and
    /// waited for as HTTP until the header timeout: it is never quietly carried as bytes.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub detect_timeout: Duration,
    /// Time for a TLS handshake, in either direction.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub tls_handshake_timeout: Duration,
    /// Time from a request's first byte to the end of its head (else 408).
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub header_timeout: Duration,
    /// A downstream keep-alive connection without a request is closed after this time.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub idle_timeout: Duration,
    /// A body or stream that moves no byte for this long is cut (request: 408).
    #[serde(with = "units::duration_or_none")]
    #[schemars(with = "units::DurationOrNone")]
    pub body_timeout: Option<Duration>,
    /// Time for a whole exchange, retries included, where a route says nothing (else 504).
    #[serde(with = "units::duration_or_none")]
    #[schemars(with = "units::DurationOrNone")]
    pub request_timeout: Option<Duration>,
    /// How long after its request a client may close its side of the connection and still be answered; one that closes
    /// it later has given up, and its request is cancelled.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationOrZero")]
    pub half_close_grace: Duration,
    /// A TCP tunnel or upgraded connection that moves no byte for this long is closed.
    #[serde(with = "units::duration_or_none")]
    #[schemars(with = "units::DurationOrNone")]
    pub tcp_idle_timeout: Option<Duration>,
    /// Keep-alive probes of the kernel, on every socket.
    pub tcp_keepalive: TcpKeepalive,
    /// In-flight exchanges have this long to end when the proxy stops; then they are cut, and counted.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationOrZero")]
    pub drain_timeout: Duration,
    /// Connections to one endpoint, of all workers; beyond them 503 (overflow).
    #[schemars(range(min = 1))]
    pub connections_per_endpoint_max: usize,
    /// Idle connections kept to one endpoint, by one worker.
    pub idle_connections_per_endpoint_max: usize,
    /// Read and write buffer of one connection, for large bodies.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub buffer_bytes_max: usize,
    /// Longest request body that is kept for a retry; a longer one is sent once.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub retry_body_bytes_max: usize,
    /// What is given up when memory runs out.
    pub overload: Overload,
    /// HTTP/2, in both directions.
    pub http2: Http2,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            request_head_bytes_max: 64 << 10,
            request_headers_max: 100,
            request_target_bytes_max: 16 << 10,
            response_head_bytes_max: 64 << 10,
            response_headers_max: 256,
            trailers_bytes_max: 16 << 10,
            trailers_max: 100,
            request_body_bytes_max: None,
            chunk_extension_bytes_max: 4 << 10,
            connections_max: None,
            requests_per_connection_max: None,
            path: Path::default(),
            detect_timeout: Duration::from_secs(1),
            tls_handshake_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            body_timeout: Some(Duration::from_secs(300)),
            request_timeout: Some(Duration::from_secs(15)),
            half_close_grace: Duration::from_millis(100),
            tcp_idle_timeout: Some(Duration::from_secs(3600)),
            tcp_keepalive: TcpKeepalive::default(),
            drain_timeout: Duration::from_secs(30),
            connections_per_endpoint_max: 1024,
            idle_connections_per_endpoint_max: 128,
            buffer_bytes_max: 256 << 10,
            retry_body_bytes_max: 64 << 10,
            overload: Overload::default(),
            http2: Http2::default(),
        }
    }
}

/// `limits.overload`: steps by which the proxy gives up work as the memory of its cgroup (or of the machine) is used up.
/// The steps are Envoy's overload actions; the memory is that of everything in the cgroup, the app beside included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Overload {
    /// How much memory there is; `auto`: the cgroup's limit; without one nothing is done.
    #[serde(with = "units::size_or_auto")]
    #[schemars(with = "units::SizeOrAuto")]
    pub memory: Option<usize>,
    /// From this percentage on, TRACE requests and the lowest tiers are turned away, more of them the more is used.
    #[schemars(range(min = 1, max = 100))]
    pub shed_percent: u32,
    /// From this percentage on, connections are closed after their answer.
    #[schemars(range(min = 1, max = 100))]
    pub keepalive_percent: u32,
    /// From this percentage on, every request is turned away.
    #[schemars(range(min = 1, max = 100))]
    pub refuse_percent: u32,
    /// Time between looks.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub interval: Duration,
}

impl Default for Overload {
    fn default() -> Self {
        Overload {
            memory: None,
            shed_percent: 85,
            keepalive_percent: 92,
            refuse_percent: 95,
            interval: Duration::from_millis(250),
        }
    }
}

/// One canonical path for matching, authorising and forwarding. Dot segments are always resolved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "PathLimits")]
pub struct Path {
    /// Makes `//` one slash.
    pub merge_slashes: bool,
    /// What becomes of `%2F` and `%5C`.
    pub escaped_slashes: EscapedSlashes,
}

/// What becomes of `%2F` and `%5C` in a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EscapedSlashes {
    /// They stay as they are and are no separators.
    #[default]
    Keep,
    /// The request is answered 400.
    Reject,
    /// They become `/` and `\` before routes are matched.
    Decode,
}

/// Kernel keep-alive: a dead peer is found after `time + interval × probes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TcpKeepalive {
    /// Silence before the first probe; whole seconds.
    #[serde(with = "units::duration_or_none")]
    #[schemars(with = "units::DurationOrNone")]
    pub time: Option<Duration>,
    /// Time between probes; whole seconds.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub interval: Duration,
    /// Unanswered probes before the connection is dead.
    #[schemars(range(min = 1, max = 127))]
    pub probes: u32,
}

impl Default for TcpKeepalive {
    fn default() -> Self {
        TcpKeepalive { time: Some(Duration::from_secs(10)), interval: Duration::from_secs(10), probes: 3 }
    }
}

/// `limits.http2`. Counters work in windows of `abuse_window`; a connection over one gets
/// GOAWAY(ENHANCE_YOUR_CALM).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Http2Limits")]
pub struct Http2 {
    /// Streams of one connection at once (SETTINGS_MAX_CONCURRENT_STREAMS).
    #[schemars(range(min = 1))]
    pub concurrent_streams_max: u32,
    /// Header list of one message, decoded, 32 bytes added for each field (SETTINGS_MAX_HEADER_LIST_SIZE).
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub header_list_bytes_max: usize,
    /// Flow-control window of one stream. At most 2 GiB − 1 (RFC 9113 §6.9.1).
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub stream_window: usize,
    /// Flow-control window of one connection. At most 2 GiB − 1.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub connection_window: usize,
    /// Largest frame that is accepted: 16 KiB to 16 MiB − 1 (RFC 9113 §6.5.2).
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub frame_bytes_max: usize,
    /// Bytes buffered for sending, for each stream.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub send_buffer_bytes_max: usize,
    /// Time between PINGs on a connection; `none` sends none.
    #[serde(with = "units::duration_or_none")]
    #[schemars(with = "units::DurationOrNone")]
    pub keepalive_interval: Option<Duration>,
    /// A PING that is not answered in this time ends the connection.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub keepalive_timeout: Duration,
    /// Streams that the peer reset before they were accepted (rapid reset, CVE-2023-44487).
    pub pending_resets_max: usize,
    /// Streams that the peer made us reset (MadeYouReset, CVE-2025-8671).
    pub local_resets_max: usize,
    /// The window of the counters below.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub abuse_window: Duration,
    /// The reset ratio is judged from this number of requests on.
    #[schemars(range(min = 1))]
    pub reset_requests_min: u32,
    /// Most requests, in percent, that the client may reset within a second of sending them.
    #[schemars(range(min = 1, max = 100))]
    pub reset_percent_max: u32,
    /// SETTINGS frames in one window.
    #[schemars(range(min = 1))]
    pub settings_frames_max: u32,
    /// PING frames in one window.
    #[schemars(range(min = 1))]
    pub ping_frames_max: u32,
    /// Empty DATA frames, without END_STREAM, in one window.
    #[schemars(range(min = 1))]
    pub empty_data_frames_max: u32,
    /// PRIORITY frames in one window.
    #[schemars(range(min = 1))]
    pub priority_frames_max: u32,
}

impl Default for Http2 {
    fn default() -> Self {
        Http2 {
            concurrent_streams_max: 128,
            header_list_bytes_max: 32 << 10,
            stream_window: 64 << 10,
            connection_window: 1 << 20,
            frame_bytes_max: 16 << 10,
            send_buffer_bytes_max: 64 << 10,
            keepalive_interval: Some(Duration::from_secs(10)),
            keepalive_timeout: Duration::from_secs(3),
            pending_resets_max: 20,
            local_resets_max: 1024,
            abuse_window: Duration::from_secs(10),
            reset_requests_min: 500,
            reset_percent_max: 50,
            settings_frames_max: 100,
            ping_frames_max: 100,
            empty_data_frames_max: 100,
            priority_frames_max: 1000,
        }
    }
}
