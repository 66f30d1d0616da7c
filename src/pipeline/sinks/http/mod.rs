//! The HTTP client of sinks: one connection, one request at a time, from a thread that may block.
//!
//! What: HTTP/1.1 or HTTP/2 by hyper, TLS by [`identity::ClientTls`], on a current-thread
//! runtime that belongs to the connection. Why not the proxy's own client: that lives on the workers, and a sink must
//! share nothing with them. Why a runtime for each connection: when a connection is given up, everything that belonged to
//! it goes with it, at once, whatever state it was in.
//!
//! - `origin`: the URL; `link`: a connection; `answer`: what came back, and what it means
//!
//! How it fails: every call returns by its deadline. What the network does is a [`Failure::Retry`] that names the place.
//! An answer is bounded: its head by 64 KiB, its content by 1 MiB, what is beyond it is not read.

mod answer;
mod link;
mod origin;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use answer::{Answer, clean};

use super::sink::Failure;
use crate::identity::{self, config};
use bytes::Bytes;
use link::{Broken, Link, Way};
use origin::Origin;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a connection is kept that nobody uses: below what servers and load balancers close after (nginx 75 s,
/// AWS 60 s), or they close it while a request is on its way.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Where distributions keep the authorities of the system: Debian, Fedora, SUSE, RHEL, Alpine.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Which protocol is spoken; there is no negotiation, for a sink knows what its other side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, with prior knowledge where there is no TLS: gRPC.
    Http2,
}

/// A client of one origin.
pub(crate) struct HttpClient {
    origin: Origin,
    way: Way,
    link: Option<Link>,
}

impl HttpClient {
    /// Makes no connection yet. `url` is `http://host[:port][/base]` or `https://…`; `https` without `tls` trusts the
    /// system's authorities (`SSL_CERT_FILE`, or where distributions keep them). Relative paths start at `base_dir`.
    /// Files are read here, and again before a new connection when they changed.
    ///
    /// # Errors
    /// One line: what is wrong with the URL or a file, and what to write.
    pub(crate) fn new(
        url: &str,
        tls: Option<&config::ClientTls>,
        base_dir: &Path,
        protocol: Protocol,
    ) -> Result<HttpClient, String> {
        let origin = Origin::parse(url)?;
        let tls = match (origin.is_tls, tls) {
            (false, None) => None,
            (false, Some(_)) => {
                return Err(format!(
                    "`{url}` has no TLS, and `tls` is set: write https://, or leave `tls` out"
                ));
            }
            (true, Some(tls)) => Some(load(tls, base_dir)?),
            (true, None) => {
                let ca = system_bundle(std::env::var_os("SSL_CERT_FILE").map(PathBuf::from))?;
                let tls = config::ClientTls { ca, server_name: None, certificate: None, key: None };
                Some(load(&tls, base_dir)?)
            }
        };
        Ok(HttpClient { origin, way: Way { tls, protocol }, link: None })
    }

    /// `host[:port]`, as the `Host` field has it.
    pub(crate) fn authority(&self) -> &str {
        &self.origin.authority
    }

    /// The path of the URL without a slash at its end: empty, or `/base`.
    pub(crate) fn base_path(&self) -> &str {
        &self.origin.base_path
    }

    /// One request. `target` is path and query as they are sent: [`HttpClient::base_path`] is not put before it. `Host`
    /// and `User-Agent` are added where `headers` has none. A kept connection that was closed meanwhile is replaced once,
    /// silently.
    ///
    /// # Errors
    /// [`Failure::Retry`]: the network, TLS, a timeout, an answer that is not HTTP. Every status is an [`Answer`].
    pub(crate) fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Bytes,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let mut head = self.head(method, target, headers)?;
        // RFC 9110 §8.6; there are servers that answer 411 without it.
        if body.is_empty() && matches!(method, "POST" | "PUT" | "PATCH") {
            head.headers_mut().insert(http::header::CONTENT_LENGTH, http::HeaderValue::from_static("0"));
        }
        if let Some(mut link) = self.link.take().filter(|link| link.idle() < IDLE_MAX) {
            match link.exchange(head.clone(), body.clone(), deadline) {
                Ok(answer) => {
                    self.link = link.is_open().then_some(link);
                    return Ok(answer);
                }
                // Closed while nobody looked: the request was not answered, and a new connection may do.
                Err(Broken { has_begun: false, .. }) if Instant::now() < deadline => {}
                Err(broken) => return Err(self.failure(&broken)),
            }
        }
        let exchanged = Link::open(&self.origin, &self.way, deadline).and_then(|mut link| {
            let answer = link.exchange(head, body, deadline)?;
            Ok((answer, link))
        });
        match exchanged {
            Ok((answer, link)) => {
                self.link = link.is_open().then_some(link);
                Ok(answer)
            }
            Err(broken) => Err(self.failure(&broken)),
        }
    }

    /// What is due while nothing is sent: a connection that was closed, or that nobody used for a minute, is let go, and
    /// what the other side asks (HTTP/2 PING) is answered. Takes no time.
    pub(crate) fn idle(&mut self) {
        if let Some(link) = &mut self.link {
            link.settle();
            if !link.is_open() || link.idle() >= IDLE_MAX {
                self.link = None;
            }
        }
    }

    fn head(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<http::Request<()>, Failure> {
        let has = |wanted: &str| headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        let mut head = http::Request::builder().method(method);
        match self.way.protocol {
            Protocol::Http1 => {
                head = head.uri(target);
                if !has("host") {
                    head = head.header("host", self.authority());
                }
            }
            Protocol::Http2 => {
                let scheme = if self.origin.is_tls { "https" } else { "http" };
                head = head
                    .uri(format!("{scheme}://{}{target}", self.authority()))
                    .version(http::Version::HTTP_2);
            }
        }
        if !has("user-agent") {
            head = head.header("user-agent", concat!("sidelight/", env!("CARGO_PKG_VERSION")));
        }
        for (name, value) in headers {
            head = head.header(*name, *value);
        }
        // The value may be a secret, so it is not told.
        head.body(()).map_err(|error| {
            Failure::retry(format!("{}: the request cannot be written: {error}", self.authority()))
        })
    }

    fn failure(&self, broken: &Broken) -> Failure {
        Failure::retry(format!("{}: {}", self.authority(), broken.reason))
    }
}

fn load(tls: &config::ClientTls, base_dir: &Path) -> Result<Arc<identity::ClientTls>, String> {
    identity::ClientTls::load(tls, base_dir).map(Arc::new).map_err(|error| error.to_string())
}

/// The file with the system's authorities: the one that is named, else the first that is there.
fn system_bundle(named: Option<PathBuf>) -> Result<PathBuf, String> {
    let known = || BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file());
    named.or_else(known).ok_or_else(|| {
        "the system's authorities are in none of the usual places: name a file with them in `tls.ca`, or in SSL_CERT_FILE".into()
    })
}
