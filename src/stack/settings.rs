//! From what a user writes in `limits` to what each part is given.

use crate::connect;
use crate::http1::{FIELDS_MAX, HeadLimits, chunked};
use crate::limits;
use crate::protocol::{http1, http2};
use std::rc::Rc;
use std::time::Duration;

/// The settings of a worker, derived from `limits` once for each configuration.
#[derive(Clone)]
pub struct Settings {
    /// The HTTP/1 server.
    pub http1: Rc<http1::Settings>,
    /// The HTTP/2 server.
    pub http2: Rc<http2::Settings>,
    /// The upstream side.
    pub upstream: connect::Settings,
    /// How long the protocol may stay unknown.
    pub detect_timeout: Duration,
    /// How long a TLS handshake may take.
    pub tls_handshake_timeout: Duration,
    /// How long an opaque connection may be silent.
    pub tcp_idle_timeout: Option<Duration>,
    /// How long a connection may say nothing at all.
    pub header_timeout: Duration,
    /// Path normalisation.
    pub path: limits::Path,
}

impl Settings {
    /// What `limits` says.
    pub fn new(limits: &limits::Config) -> Settings {
        Settings {
            http1: Rc::new(http1_server(limits)),
            http2: Rc::new(http2_server(limits)),
            upstream: upstream(limits),
            detect_timeout: limits.detect_timeout,
            tls_handshake_timeout: limits.tls_handshake_timeout,
            tcp_idle_timeout: limits.tcp_idle_timeout,
            header_timeout: limits.header_timeout,
            path: limits.path.clone(),
        }
    }
}

fn chunked(limits: &limits::Config) -> chunked::Limits {
    chunked::Limits {
        extension_bytes_max: limits.chunk_extension_bytes_max,
        trailer_bytes_max: limits.trailers_bytes_max,
        trailers_max: limits.trailers_max.min(FIELDS_MAX),
    }
}

fn http1_server(limits: &limits::Config) -> http1::Settings {
    http1::Settings {
        head: HeadLimits {
            head_bytes_max: limits.request_head_bytes_max,
            fields_max: limits.request_headers_max.min(FIELDS_MAX),
            target_bytes_max: limits.request_target_bytes_max,
        },
        chunked: chunked(limits),
        body_bytes_max: limits.request_body_bytes_max.map(|max| max as u64),
        buffer_bytes_max: limits.buffer_bytes_max,
        header_timeout: limits.header_timeout,
        idle_timeout: limits.idle_timeout,
        body_timeout: limits.body_timeout,
        half_close_grace: limits.half_close_grace,
        requests_max: limits.requests_per_connection_max,
        tunnel_idle_timeout: limits.tcp_idle_timeout,
    }
}

/// Sizes on the wire of HTTP/2 have 31 bits; what is configured beyond is cut to that.
fn wire(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX).min((1 << 31) - 1)
}

fn http2_server(limits: &limits::Config) -> http2::Settings {
    let own = &limits.http2;
    http2::Settings {
        concurrent_streams_max: own.concurrent_streams_max,
        header_list_bytes_max: wire(own.header_list_bytes_max),
        target_bytes_max: limits.request_target_bytes_max,
        fields_max: limits.request_headers_max.min(FIELDS_MAX),
        stream_window_bytes: wire(own.stream_window),
        connection_window_bytes: wire(own.connection_window),
        frame_bytes_max: wire(own.frame_bytes_max),
        send_buffer_bytes_max: own.send_buffer_bytes_max,
        keepalive_interval: own.keepalive_interval,
        keepalive_timeout: own.keepalive_timeout,
        pending_resets_max: own.pending_resets_max,
        local_resets_max: own.local_resets_max,
        guard: http2::GuardLimits {
            window: own.abuse_window,
            settings_max: own.settings_frames_max,
            ping_max: own.ping_frames_max,
            priority_max: own.priority_frames_max,
            empty_data_max: own.empty_data_frames_max,
            reset_requests_min: own.reset_requests_min,
            reset_percent_max: own.reset_percent_max,
        },
        idle_timeout: limits.idle_timeout,
        body_timeout: limits.body_timeout,
        body_bytes_max: limits.request_body_bytes_max.map(|max| max as u64),
        tunnel_idle_timeout: limits.tcp_idle_timeout,
    }
}

fn upstream(limits: &limits::Config) -> connect::Settings {
    let own = &limits.http2;
    connect::Settings {
        http1: connect::http1::Settings {
            head: HeadLimits {
                head_bytes_max: limits.response_head_bytes_max,
                fields_max: limits.response_headers_max.min(FIELDS_MAX),
                target_bytes_max: usize::MAX,
            },
            chunked: chunked(limits),
            buffer_bytes_max: limits.buffer_bytes_max,
        },
        http2: connect::http2::Settings {
            streams_max: own.concurrent_streams_max as usize,
            header_list_bytes_max: wire(own.header_list_bytes_max),
            stream_window_bytes: wire(own.stream_window),
            connection_window_bytes: wire(own.connection_window),
            frame_bytes_max: wire(own.frame_bytes_max),
            send_buffer_bytes_max: own.send_buffer_bytes_max,
            keepalive_interval: own.keepalive_interval,
            keepalive_timeout: own.keepalive_timeout,
            local_resets_max: own.local_resets_max,
        },
        idle_max: limits.idle_connections_per_endpoint_max,
        connections_max: limits.connections_per_endpoint_max,
    }
}
