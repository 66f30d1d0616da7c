//! One check of one endpoint: connects, asks, judges the answer, closes. What goes wrong is a short text for people.
//!
//! A connection is made for each check and closed with it: it is never one of the data path's, so a check tells whether
//! a new connection can be made, and a full pool does not hide it. TLS is the cluster's own: authorities, certificate,
//! name, and the sessions that were kept, so most handshakes are resumptions. Requests say who asks ([`USER_AGENT`]).
//!
//! How it fails: every stage ends at the deadline, and the failure names the stage. All that is read is bounded.

mod grpc;
mod http1;
mod http2;
mod http_check;
mod tcp;

use super::checker::{CLOSE_TIME, Verdict};
use crate::cluster::config::HealthCheck;
use crate::cluster::{Cluster, Endpoint, Protocol};
use crate::identity::{ALPN_HTTP2, Alpn};
use crate::units::duration_text;
use grpc::Grpc;
use http_check::Http;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tcp::Tcp;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// What requests of health checks carry as `user-agent`, so that services can tell them from traffic.
pub const USER_AGENT: &str = concat!("sidelight-health/", env!("CARGO_PKG_VERSION"));

/// How much of an answer's content is looked at.
const CONTENT_BYTES_MAX: usize = 64 << 10;

/// How endpoints are asked, as configured.
pub(super) struct Probe {
    kind: Kind,
    port: Option<u16>,
}

enum Kind {
    Http(Http),
    Grpc(Grpc),
    Tcp(Tcp),
}

/// TCP, perhaps with TLS around it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to the endpoint.
struct Connection {
    stream: Box<dyn Stream>,
    /// Whether ALPN chose HTTP/2.
    is_http2: bool,
}

impl Probe {
    /// What `config` says.
    ///
    /// # Errors
    /// What of it cannot be asked; `check` refuses it before.
    pub(super) fn new(config: &HealthCheck) -> Result<Probe, String> {
        let kind = match (&config.http, &config.grpc, &config.tcp) {
            (Some(http), _, _) => Kind::Http(Http::new(http)?),
            (_, Some(grpc), _) => Kind::Grpc(Grpc::new(grpc)),
            (_, _, Some(tcp)) => Kind::Tcp(Tcp::new(tcp)),
            (None, None, None) => return Err("health: none of `http`, `grpc` and `tcp` is there".into()),
        };
        Ok(Probe { kind, port: config.port })
    }

    /// Asks `endpoint` once.
    ///
    /// # Errors
    /// Why it is not healthy.
    pub(super) async fn check(&self, cluster: &Cluster, endpoint: &Endpoint, timeout: Duration) -> Verdict {
        let limit = Limit { deadline: Instant::now() + timeout, timeout };
        let mut address = endpoint.address;
        address.set_port(self.port.unwrap_or(address.port()));
        let connection = connect(cluster, endpoint, address, self.alpn(cluster), limit).await?;
        let scheme = if cluster.tls.is_some() { "https" } else { "http" };
        match &self.kind {
            Kind::Http(http) => {
                let request = http.request(scheme, &endpoint.name, address);
                if connection.is_http2 || cluster.settings.protocol == Protocol::Http2 {
                    http2::ask(connection.stream, http, request, limit).await
                } else {
                    http1::ask(connection.stream, http, &request, limit).await
                }
            }
            Kind::Grpc(grpc) => {
                let authority = http_check::authority(&endpoint.name, address);
                grpc.ask(connection.stream, scheme, authority, limit).await
            }
            Kind::Tcp(tcp) => tcp.ask(connection.stream, limit).await,
        }
    }

    fn alpn(&self, cluster: &Cluster) -> Alpn {
        match (&self.kind, cluster.settings.protocol) {
            (Kind::Tcp(_), _) => Alpn::None,
            (Kind::Grpc(_), _) | (Kind::Http(_), Protocol::Http2) => Alpn::Http2,
            (Kind::Http(_), Protocol::Auto) => Alpn::Auto,
            (Kind::Http(_), Protocol::Http1 | Protocol::Tcp) => Alpn::Http1,
        }
    }
}

/// The end of a check's time.
#[derive(Clone, Copy)]
struct Limit {
    deadline: Instant,
    /// What was configured, to be named in failures.
    timeout: Duration,
}

impl Limit {
    /// Waits for `future` until the deadline; after it, says that there was no `wanted`.
    async fn wait<T>(self, wanted: &str, future: impl Future<Output = T>) -> Result<T, String> {
        let ended = tokio::time::timeout_at(self.deadline, future).await;
        ended.map_err(|_| format!("no {wanted} within {}", duration_text(self.timeout)))
    }
}

async fn connect(
    cluster: &Cluster,
    endpoint: &Endpoint,
    address: SocketAddr,
    alpn: Alpn,
    limit: Limit,
) -> Result<Connection, String> {
    let socket = limit.wait("connection", TcpStream::connect(address)).await?;
    let socket = socket.map_err(|error| io_text(&error))?;
    // Only a matter of a delay of milliseconds.
    let _ = socket.set_nodelay(true);
    let Some(tls) = &cluster.tls else {
        return Ok(Connection { stream: Box::new(socket), is_http2: false });
    };
    let connector = tokio_rustls::TlsConnector::from(tls.config(alpn));
    let handshake = connector.connect(tls.server_name_of(&endpoint.name, &address), socket);
    let stream = limit.wait("TLS handshake", handshake).await?;
    let stream = stream.map_err(|error| format!("TLS: {}", io_text(&error)))?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2);
    Ok(Connection { stream: Box::new(stream), is_http2 })
}

/// Closes in good order, so that the endpoint has nothing to complain of in its log; not for long.
async fn close(mut stream: Box<dyn Stream>) {
    let _ = tokio::time::timeout(CLOSE_TIME / 2, stream.shutdown()).await;
}

/// An error of a socket, in few words and without numbers of the system where there is a name.
fn io_text(error: &io::Error) -> String {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => "connection refused".into(),
        Kind::ConnectionReset => "connection reset".into(),
        Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof => "connection closed".into(),
        Kind::HostUnreachable => "host unreachable".into(),
        Kind::NetworkUnreachable => "network unreachable".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
