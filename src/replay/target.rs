//! Where a replay goes: `http://host:port` or `https://host:port`, its addresses, and TLS.

use crate::identity::{Alpn, ClientTls, config};
use crate::svc::{Io, Socket};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// Addresses of a target that are tried.
const ADDRESSES_MAX: usize = 8;

/// A target. Cheap to clone.
#[derive(Clone)]
pub struct Target {
    /// What it is called in the result: `target`, or `primary`, `secondary` and `candidate`.
    pub name: String,
    /// As it was given.
    pub url: String,
    /// `host:port`.
    pub authority: String,
    addresses: Vec<SocketAddr>,
    tls: Option<Arc<ClientTls>>,
}

impl Target {
    /// Reads a URL and looks its host up.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn open(name: &str, url: &str, ca: Option<&PathBuf>) -> Result<Target, String> {
        let wrong =
            |why: &str| format!("`{url}` is no target: {why}; write http://host:port or https://host:port");
        let (is_tls, rest) = match url.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => return Err(wrong("its scheme is neither http nor https")),
            None => return Err(wrong("it has no scheme")),
        };
        let host = rest.strip_suffix('/').unwrap_or(rest);
        if host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
            return Err(wrong("only host and port are used, paths are those of the recording"));
        }
        let has_port = host.rsplit_once(':').is_some_and(|(name, port)| {
            !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty()
        });
        let authority = match (has_port, is_tls) {
            (true, _) => host.to_ascii_lowercase(),
            (false, true) => format!("{}:443", host.to_ascii_lowercase()),
            (false, false) => format!("{}:80", host.to_ascii_lowercase()),
        };
        let addresses: Vec<SocketAddr> = authority
            .to_socket_addrs()
            .map_err(|error| format!("`{authority}` has no address: {error}"))?
            .take(ADDRESSES_MAX)
            .collect();
        if addresses.is_empty() {
            return Err(format!("`{authority}` has no address"));
        }
        let tls = match (is_tls, ca) {
            (false, _) => None,
            (true, None) => {
                return Err(format!(
                    "{url} needs --ca FILE: the authorities that its certificate is verified against"
                ));
            }
            (true, Some(ca)) => {
                let config =
                    config::ClientTls { ca: ca.clone(), server_name: None, certificate: None, key: None };
                let tls = ClientTls::load(&config, Path::new(".")).map_err(|error| error.to_string())?;
                Some(Arc::new(tls))
            }
        };
        Ok(Target { name: name.into(), url: url.into(), authority, addresses, tls })
    }

    /// Its scheme.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Whether anything listens there.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, within: Duration) -> Result<(), String> {
        let mut last = String::from("it has no address");
        for address in &self.addresses {
            match std::net::TcpStream::connect_timeout(address, within) {
                Ok(_) => return Ok(()),
                Err(error) => last = error.to_string(),
            }
        }
        Err(format!("{} does not take connections: {last}", self.authority))
    }

    /// A connection for this protocol; `connect`, `tls`, `protocol` or `no_sockets` when there is none. The caller bounds the time.
    pub(super) async fn connect(&self, is_http2: bool) -> Result<Io, &'static str> {
        let mut last = "connect";
        for address in &self.addresses {
            let stream = match TcpStream::connect(address).await {
                Ok(stream) => stream,
                // Ours, not the target's: no file descriptors or no ports are left.
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL)
                    ) =>
                {
                    return Err("no_sockets");
                }
                Err(_) => continue,
            };
            let _ = stream.set_nodelay(true);
            let Some(tls) = &self.tls else { return Ok(Io::tcp(stream)) };
            let config = tls.config(if is_http2 { Alpn::Http2 } else { Alpn::Http1 });
            let connector = tokio_rustls::TlsConnector::from(config);
            let name = tls.server_name_of(&self.authority, address);
            match connector.connect(name, Socket::tcp(stream)).await {
                Ok(stream) if is_http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") => {
                    return Err("protocol");
                }
                Ok(stream) => return Ok(Io::TlsClient(Box::new(stream))),
                Err(_) => last = "tls",
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        for (url, authority) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://127.0.0.1", "127.0.0.1:80"),
            ("http://[::1]:81/", "[::1]:81"),
        ] {
            assert_eq!(
                Target::open("t", url, None).map(|target| target.authority),
                Ok(authority.into()),
                "{url}"
            );
        }
        for url in ["", "127.0.0.1:80", "ftp://a", "http://", "http://a/b", "http://u@a", "https://127.0.0.1"]
        {
            assert!(Target::open("t", url, None).is_err(), "{url}");
        }
    }
}
