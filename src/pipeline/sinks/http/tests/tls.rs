use super::server::{Server, read_request};
use super::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// A server for 127.0.0.1 that says `ok` to HTTP/1.1.
    fn server(&self, alpn: &[&[u8]]) -> Server {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(identity::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let config = Arc::new(config);
        Server::start(move |stream| {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            while read_request(&mut stream).is_some() {
                stream.write_all(OK).unwrap();
            }
        })
    }
}

fn https(server: &Server, directory: &Path, protocol: Protocol) -> HttpClient {
    let tls = config::ClientTls { ca: "ca.pem".into(), server_name: None, certificate: None, key: None };
    HttpClient::new(&format!("https://{}", server.address), Some(&tls), directory, protocol).unwrap()
}

#[test]
fn tls_is_verified_and_authorities_are_read_again_when_they_change() {
    let (one, other) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().unwrap();
    let put = |authority: &Authority| {
        std::fs::write(directory.path().join("new"), &authority.pem).unwrap();
        std::fs::rename(directory.path().join("new"), directory.path().join("ca.pem")).unwrap();
    };
    put(&other);
    let server = one.server(&[b"http/1.1"]);
    let mut client = https(&server, directory.path(), Protocol::Http1);
    let failure = post(&mut client, "x").unwrap_err();
    assert!(matches!(&failure, Failure::Retry { reason, .. } if reason.contains("TLS")), "{failure:?}");
    put(&one);
    assert_eq!(post(&mut client, "x").unwrap().status, 200);
    // Broken files do not take away what works.
    std::fs::write(directory.path().join("ca.pem"), "nonsense").unwrap();
    client.link = None;
    assert_eq!(post(&mut client, "x").unwrap().status, 200);
}

#[test]
fn http2_over_tls_is_spoken_only_where_it_was_agreed() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("ca.pem"), &authority.pem).unwrap();
    for alpn in [&[b"http/1.1".as_slice()][..], &[]] {
        let server = authority.server(alpn);
        let failure = post(&mut https(&server, directory.path(), Protocol::Http2), "x").unwrap_err();
        assert!(failure.reason().contains("TLS"), "{failure:?}");
    }
}

#[test]
fn tls_that_cannot_be_is_said_at_once() {
    let tls = config::ClientTls { ca: "none.pem".into(), server_name: None, certificate: None, key: None };
    let new =
        |url: &str, tls| HttpClient::new(url, tls, Path::new("/nowhere"), Protocol::Http1).err().unwrap();
    assert!(new("https://a", Some(&tls)).contains("/nowhere/none.pem"));
    assert!(new("http://a", Some(&tls)).contains("https://"));
}

#[test]
fn the_systems_authorities_are_found_or_missed_in_words() {
    let named = PathBuf::from("/tmp/mine.pem");
    assert_eq!(system_bundle(Some(named.clone())), Ok(named));
    match system_bundle(None) {
        Ok(path) => assert!(path.is_file()),
        Err(why) => assert!(why.contains("SSL_CERT_FILE"), "{why}"),
    }
}
