//! TLS towards upstreams.
//!
//! All configurations of a [`ClientTls`] share one session store, so a connection resumes the session of an earlier
//! one whatever ALPN either offered. New files bring a new store: a session that was verified with old authorities
//! must not outlive them.

use super::config;
use super::error::{LoadError, Problem};
use super::files::{PemFile, pair_error};
use super::stamp::Stamp;
use super::verify::Certificate;
use super::{ALPN_HTTP1, ALPN_HTTP2, VERSIONS, provider};
use arc_swap::ArcSwap;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Upstreams (by name or address) whose sessions are kept.
const SESSIONS_MAX: usize = 256;

/// Which protocols a handshake offers by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// `h2` and `http/1.1`: the upstream chooses.
    Auto,
    /// `http/1.1` only.
    Http1,
    /// `h2` only.
    Http2,
    /// None: opaque bytes.
    None,
}

/// How upstreams of a cluster are verified and what they are shown; replaced when the files change.
pub struct ClientTls {
    ca: PemFile,
    pair: Option<(PemFile, PemFile)>,
    server_name: Option<ServerName<'static>>,
    loaded: ArcSwap<Loaded>,
}

struct Loaded {
    stamps: Vec<Stamp>,
    certificate: Option<Arc<Certificate>>,
    auto: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    none: Arc<ClientConfig>,
}

impl ClientTls {
    /// Reads the files that `config` names; relative paths start at `base_dir`.
    pub fn load(config: &config::ClientTls, base_dir: &Path) -> Result<ClientTls, LoadError> {
        let ca = PemFile::new("tls.ca", base_dir, &config.ca);
        let pair = match (&config.certificate, &config.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((
                PemFile::new("tls.certificate", base_dir, certificate),
                PemFile::new("tls.key", base_dir, key),
            )),
            (Some(path), None) => {
                return Err(PemFile::new("tls.certificate", base_dir, path).error(Problem::Alone("tls.key")));
            }
            (None, Some(path)) => {
                return Err(PemFile::new("tls.key", base_dir, path).error(Problem::Alone("tls.certificate")));
            }
        };
        let server_name = match &config.server_name {
            None => None,
            Some(name) => Some(ServerName::try_from(name.clone()).map_err(|_| LoadError {
                key: "tls.server_name",
                path: PathBuf::from(name),
                problem: Problem::BadServerName,
            })?),
        };
        let loaded = ArcSwap::from_pointee(load(&ca, pair.as_ref())?);
        Ok(ClientTls { ca, pair, server_name, loaded })
    }

    /// The configuration for one handshake.
    pub fn config(&self, alpn: Alpn) -> Arc<ClientConfig> {
        let loaded = self.loaded.load();
        Arc::clone(match alpn {
            Alpn::Auto => &loaded.auto,
            Alpn::Http1 => &loaded.http1,
            Alpn::Http2 => &loaded.http2,
            Alpn::None => &loaded.none,
        })
    }

    /// The name that the upstream's certificate must carry: the configured one, else the endpoint's address.
    pub fn server_name(&self, endpoint: &SocketAddr) -> ServerName<'static> {
        self.server_name.clone().unwrap_or_else(|| ServerName::IpAddress(endpoint.ip().into()))
    }

    /// The name that the upstream's certificate must carry: the configured one, else the host of `name` (with or
    /// without a port) if it is a host name, else the endpoint's address.
    pub fn server_name_of(&self, name: &str, endpoint: &SocketAddr) -> ServerName<'static> {
        let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
        match (&self.server_name, ServerName::try_from(host.trim_end_matches('.'))) {
            (None, Ok(ServerName::DnsName(name))) => ServerName::DnsName(name.to_owned()),
            _ => self.server_name(endpoint),
        }
    }

    /// The certificate that upstreams are shown.
    pub fn certificate(&self) -> Option<Arc<Certificate>> {
        self.loaded.load().certificate.clone()
    }

    /// The files that are watched.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        files(&self.ca, self.pair.as_ref()).map(|file| file.path.as_path())
    }

    /// Reads the files again if one of them changed, and says whether it did. After an error the old configuration
    /// stays; the next call tries again, for certificate and key may be replaced one after the other.
    pub fn reload(&self) -> Result<bool, LoadError> {
        let old = self.loaded.load();
        let is_changed =
            files(&self.ca, self.pair.as_ref()).zip(&old.stamps).any(|(file, stamp)| file.is_changed(*stamp));
        if is_changed {
            self.loaded.store(Arc::new(load(&self.ca, self.pair.as_ref())?));
        }
        Ok(is_changed)
    }
}

fn files<'f>(ca: &'f PemFile, pair: Option<&'f (PemFile, PemFile)>) -> impl Iterator<Item = &'f PemFile> {
    std::iter::once(ca).chain(pair.into_iter().flat_map(|(certificate, key)| [certificate, key]))
}

/// Stamps are in the order of [`files`].
fn load(ca: &PemFile, pair: Option<&(PemFile, PemFile)>) -> Result<Loaded, LoadError> {
    let content = ca.read()?;
    let mut stamps = vec![content.stamp];
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(|error| ca.error(Problem::Refused(error.to_string())))?
        .with_root_certificates(content.authorities()?);
    let (mut config, certificate) = match pair {
        None => (builder.with_no_client_auth(), None),
        Some((certificate, key)) => {
            let (chain_pem, key_pem) = (certificate.read()?, key.read()?);
            stamps.extend([chain_pem.stamp, key_pem.stamp]);
            let chain = chain_pem.certificates()?;
            let description = Arc::new(chain_pem.describe(&chain)?);
            let config = builder
                .with_client_auth_cert(chain, key_pem.key()?)
                .map_err(|error| pair_error(certificate, key, error))?;
            (config, Some(description))
        }
    };
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    let offering = |names: &[&[u8]]| {
        let mut config = config.clone();
        config.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    };
    Ok(Loaded {
        stamps,
        certificate,
        auto: offering(&[ALPN_HTTP2, ALPN_HTTP1]),
        http1: offering(&[ALPN_HTTP1]),
        http2: offering(&[ALPN_HTTP2]),
        none: offering(&[]),
    })
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("ca", &self.ca.path)
            .field("certificate", &self.certificate())
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}
