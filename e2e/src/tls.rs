//! TLS on the outside of the kit's plain sockets: certificates, and two carriers that put TLS around any of its
//! clients and servers, so that they need not know of it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl Pair {
    /// Writes `<name>.pem` and `<name>.key`, each whole at any moment.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn write(&self, directory: &Path, name: &str) {
        write(directory, &format!("{name}.pem"), &self.certificate);
        write(directory, &format!("{name}.key"), &self.key);
    }

    /// The certificate in DER.
    ///
    /// # Panics
    /// When it is none.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("a certificate")
    }

    fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key")
    }
}

/// Replaces a file as an atomic writer does.
///
/// # Panics
/// When it cannot be written.
pub fn write(directory: &Path, name: &str, text: &str) {
    let draft = directory.join(format!(".{name}.draft"));
    std::fs::write(&draft, text).expect("draft");
    std::fs::rename(&draft, directory.join(name)).expect("rename");
}

/// Issues certificates.
#[derive(Debug)]
pub struct Authority {
    /// Its own certificate.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// When there is no randomness.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Authority { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// A certificate for a DNS name, and for 127.0.0.1.
    pub fn server(&self, name: &str) -> Pair {
        self.issue(&[dns(name), SanType::IpAddress([127, 0, 0, 1].into())], None)
    }

    /// A certificate for a workload.
    ///
    /// # Panics
    /// When the identity is no URI.
    pub fn client(&self, identity: &str) -> Pair {
        self.issue(&[SanType::URI(identity.try_into().expect("a URI"))], None)
    }

    /// A certificate for a DNS name that ended a day ago.
    pub fn expired(&self, name: &str) -> Pair {
        let day = Duration::from_secs(24 * 3600);
        self.issue(&[dns(name)], Some(SystemTime::now() - day))
    }

    fn issue(&self, names: &[SanType], end: Option<SystemTime>) -> Pair {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        params.distinguished_name = DistinguishedName::new();
        if let Some(end) = end {
            params.not_before = (end - Duration::from_secs(3600)).into();
            params.not_after = end.into();
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("a certificate");
        roots.add(own).expect("an authority");
        Arc::new(roots)
    }

    /// What a client that trusts this authority brings; `alpn` in order of preference.
    ///
    /// # Panics
    /// When the pair is broken.
    pub fn trusting_client(&self, own: Option<&Pair>, alpn: &[&str]) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(self.roots());
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(pair) => builder.with_client_auth_cert(vec![pair.der()], pair.key_der()).expect("a pair"),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// What a server brings that asks for certificates of this authority, if `is_mutual`.
    ///
    /// # Panics
    /// When the pair is broken.
    pub fn trusting_server(&self, own: &Pair, is_mutual: bool, alpn: &[&str]) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("protocol versions");
        let builder = if is_mutual {
            let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider());
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(vec![own.der()], own.key_der()).expect("a pair");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("a DNS name"))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// What a handshake agreed on.
#[derive(Clone, Debug, Default)]
pub struct Handshake {
    /// The name that the client asked for; on the server's side only.
    pub sni: Option<String>,
    /// The application protocol.
    pub alpn: Option<String>,
    /// The other side's certificate in DER; empty when it showed none.
    pub peer: Vec<u8>,
    /// Whether an earlier session went on.
    pub is_resumed: bool,
}

/// Handshakes so far, each with what was agreed or what went wrong.
#[derive(Clone, Debug, Default)]
pub struct Handshakes(Arc<Mutex<Vec<Result<Handshake, String>>>>);

impl Handshakes {
    fn push(&self, outcome: Result<Handshake, String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
    }

    /// All so far.
    pub fn all(&self) -> Vec<Result<Handshake, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last one.
    ///
    /// # Panics
    /// When there was none, or it failed.
    pub fn last(&self) -> Handshake {
        self.all().pop().expect("a handshake").expect("a handshake that succeeded")
    }
}

/// A port that carries what it gets to a TLS server.
#[derive(Debug)]
pub struct TlsClient {
    address: SocketAddr,
    /// What became of its connections.
    pub handshakes: Handshakes,
}

/// A TLS port that carries what it gets to a plain server.
#[derive(Debug)]
pub struct TlsServer {
    address: SocketAddr,
    /// What became of its connections.
    pub handshakes: Handshakes,
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
    })
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = runtime().block_on(TcpListener::bind("127.0.0.1:0")).expect("bind on loopback");
    let address = listener.local_addr().expect("own address");
    (listener, address)
}

fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn first(certificates: Option<&[CertificateDer<'_>]>) -> Vec<u8> {
    certificates.and_then(<[_]>::first).map(|leaf| leaf.to_vec()).unwrap_or_default()
}

impl TlsClient {
    /// Carries to `target`, which must show a certificate for `name`.
    ///
    /// # Panics
    /// When loopback has no port left.
    pub fn start(config: ClientConfig, name: &str, target: SocketAddr) -> Self {
        let (listener, address) = listen();
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let handshakes = Handshakes::default();
        let told = handshakes.clone();
        runtime().spawn(async move {
            while let Ok((mut plain, _)) = listener.accept().await {
                let (connector, name, told) = (connector.clone(), name.clone(), told.clone());
                tokio::spawn(async move {
                    let socket = match TcpStream::connect(target).await {
                        Ok(socket) => socket,
                        Err(error) => return told.push(Err(error.to_string())),
                    };
                    let mut tls = match connector.connect(name, socket).await {
                        Ok(tls) => tls,
                        Err(error) => return told.push(Err(error.to_string())),
                    };
                    let session = tls.get_ref().1;
                    told.push(Ok(Handshake {
                        sni: None,
                        alpn: text(session.alpn_protocol()),
                        peer: first(session.peer_certificates()),
                        is_resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
                    }));
                    if let Err(error) = copy_bidirectional(&mut plain, &mut tls).await {
                        told.push(Err(error.to_string()));
                    }
                });
            }
        });
        TlsClient { address, handshakes }
    }

    /// Where it listens, in clear.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl TlsServer {
    /// Carries to the plain server at `inner`.
    ///
    /// # Panics
    /// When loopback has no port left.
    pub fn start(config: ServerConfig, inner: SocketAddr) -> Self {
        let (listener, address) = listen();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let handshakes = Handshakes::default();
        let told = handshakes.clone();
        runtime().spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, told) = (acceptor.clone(), told.clone());
                tokio::spawn(async move {
                    let mut tls = match acceptor.accept(socket).await {
                        Ok(tls) => tls,
                        Err(error) => return told.push(Err(error.to_string())),
                    };
                    let session = tls.get_ref().1;
                    told.push(Ok(Handshake {
                        sni: session.server_name().map(str::to_owned),
                        alpn: text(session.alpn_protocol()),
                        peer: first(session.peer_certificates()),
                        is_resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
                    }));
                    if let Ok(mut plain) = TcpStream::connect(inner).await {
                        let _ = copy_bidirectional(&mut tls, &mut plain).await;
                    }
                });
            }
        });
        TlsServer { address, handshakes }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
