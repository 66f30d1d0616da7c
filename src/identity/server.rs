//! TLS towards clients.
//!
//! Sessions resume by ticket (TLS 1.3 and 1.2) or from a bounded cache. New files bring new ticket keys and an empty
//! cache: a session that was verified with old authorities must not outlive them.

use super::config::{self, ClientCertificate};
use super::error::{LoadError, Problem};
use super::files::{PemFile, pair_error};
use super::stamp::Stamp;
use super::verify::Certificate;
use super::{ALPN_HTTP1, ALPN_HTTP2, VERSIONS, provider};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Sessions that are kept for clients without tickets.
const SESSIONS_MAX: usize = 1024;

/// The certificate that clients are shown and whose certificates are accepted; replaced when the files change.
pub struct ServerTls {
    files: Files,
    loaded: ArcSwap<Loaded>,
}

struct Files {
    certificate: PemFile,
    key: PemFile,
    client_ca: Option<PemFile>,
    client_certificate: ClientCertificate,
}

struct Loaded {
    stamps: Vec<Stamp>,
    certificate: Arc<Certificate>,
    config: Arc<ServerConfig>,
}

impl ServerTls {
    /// Reads the files that `config` names; relative paths start at `base_dir`.
    pub fn load(config: &config::ServerTls, base_dir: &Path) -> Result<ServerTls, LoadError> {
        let files = Files {
            certificate: PemFile::new("tls.certificate", base_dir, &config.certificate),
            key: PemFile::new("tls.key", base_dir, &config.key),
            client_ca: config.client_ca.as_ref().map(|path| PemFile::new("tls.client_ca", base_dir, path)),
            client_certificate: config.client_certificate,
        };
        let loaded = ArcSwap::from_pointee(files.load()?);
        Ok(ServerTls { files, loaded })
    }

    /// The configuration for one handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded.load().config)
    }

    /// The certificate that clients are shown.
    pub fn certificate(&self) -> Arc<Certificate> {
        Arc::clone(&self.loaded.load().certificate)
    }

    /// Whether clients may show a certificate (mutual TLS).
    pub fn is_mutual(&self) -> bool {
        self.files.client_ca.is_some()
    }

    /// The files that are watched.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.all().map(|file| file.path.as_path())
    }

    /// Reads the files again if one of them changed, and says whether it did. After an error the old configuration
    /// stays; the next call tries again, for certificate and key may be replaced one after the other.
    pub fn reload(&self) -> Result<bool, LoadError> {
        let old = self.loaded.load();
        let is_changed = self.files.all().zip(&old.stamps).any(|(file, stamp)| file.is_changed(*stamp));
        if is_changed {
            self.loaded.store(Arc::new(self.files.load()?));
        }
        Ok(is_changed)
    }
}

impl Files {
    fn all(&self) -> impl Iterator<Item = &PemFile> {
        [&self.certificate, &self.key].into_iter().chain(&self.client_ca)
    }

    /// Stamps are in the order of [`Files::all`].
    fn load(&self) -> Result<Loaded, LoadError> {
        let (chain_pem, key_pem) = (self.certificate.read()?, self.key.read()?);
        let mut stamps = vec![chain_pem.stamp, key_pem.stamp];
        let refused = |error: rustls::Error| self.certificate.error(Problem::Refused(error.to_string()));
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .map_err(refused)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let content = ca.read()?;
                stamps.push(content.stamp);
                let roots = Arc::new(content.authorities()?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let verifier = match self.client_certificate {
                    ClientCertificate::Required => verifier,
                    ClientCertificate::Optional => verifier.allow_unauthenticated(),
                };
                builder.with_client_cert_verifier(
                    verifier.build().map_err(|error| ca.error(Problem::Refused(error.to_string())))?,
                )
            }
        };
        let chain = chain_pem.certificates()?;
        let certificate = Arc::new(chain_pem.describe(&chain)?);
        let mut config = builder
            .with_single_cert(chain, key_pem.key()?)
            .map_err(|error| pair_error(&self.certificate, &self.key, error))?;
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        config.ticketer = Ticketer::new().map_err(refused)?;
        Ok(Loaded { stamps, certificate, config: Arc::new(config) })
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("certificate", &self.certificate())
            .field("client_ca", &self.files.client_ca.as_ref().map(|file| &file.path))
            .field("client_certificate", &self.files.client_certificate)
            .finish_non_exhaustive()
    }
}
