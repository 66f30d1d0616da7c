//! Bounds of a connection.

use crate::http1::{HeadLimits, chunked};
use std::time::Duration;

/// Bounds of the client's side of an exchange.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The request's head.
    pub head: HeadLimits,
    /// The request's chunks and trailers.
    pub chunked: chunked::Limits,
    /// The request's content.
    pub body_bytes_max: Option<u64>,
    /// The most that is read at once.
    pub buffer_bytes_max: usize,
    /// How long a head may take once it began, or the first one from the accept.
    pub header_timeout: Duration,
    /// How long a connection may be idle between two requests.
    pub idle_timeout: Duration,
    /// How long content may stall, either way.
    pub body_timeout: Option<Duration>,
    /// How long after a request its client may close its side and still want the answer.
    pub half_close_grace: Duration,
    /// How many requests a connection may carry.
    pub requests_max: Option<usize>,
    /// How long a tunnel may be silent.
    pub tunnel_idle_timeout: Option<Duration>,
}
