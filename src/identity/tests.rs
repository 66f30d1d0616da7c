use super::config::{ClientCertificate, ClientTls as ClientConfig, ServerTls as ServerConfig};
use super::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ENDPOINT: &str = "127.0.0.1:443";

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    fn issue(
        &self,
        names: &[SanType],
        common_name: Option<&str>,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn server(&self, name: &str) -> Pair {
        self.issue(&[SanType::DnsName("up.test".try_into().unwrap())], Some(name), |_| {})
    }

    fn client(&self) -> Pair {
        self.issue(&[uri("spiffe://mesh.test/checkout")], None, |_| {})
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// Writes as an atomic replacement does.
fn put(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join("new"), text).unwrap();
    std::fs::rename(dir.join("new"), dir.join(name)).unwrap();
}

fn put_pair(dir: &Path, name: &str, pair: &Pair) {
    put(dir, &format!("{name}.pem"), &pair.certificate);
    put(dir, &format!("{name}.key"), &pair.key);
}

fn server_config(client_certificate: Option<ClientCertificate>) -> ServerConfig {
    ServerConfig {
        certificate: "server.pem".into(),
        key: "server.key".into(),
        client_ca: client_certificate.map(|_| "ca.pem".into()),
        client_certificate: client_certificate.unwrap_or_default(),
    }
}

fn client_config(is_mutual: bool) -> ClientConfig {
    ClientConfig {
        ca: "ca.pem".into(),
        server_name: Some("up.test".into()),
        certificate: is_mutual.then(|| "client.pem".into()),
        key: is_mutual.then(|| "client.key".into()),
    }
}

/// A directory with an authority and a certificate of it for each side.
fn files() -> (tempfile::TempDir, Authority) {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    put(dir.path(), "ca.pem", &ca.pem);
    put_pair(dir.path(), "server", &ca.server("first"));
    put_pair(dir.path(), "client", &ca.client());
    (dir, ca)
}

/// What came of a handshake.
#[derive(Debug)]
struct Shaken {
    alpn: Option<Vec<u8>>,
    kind: HandshakeKind,
    client: Option<Arc<str>>,
    server: Arc<str>,
}

/// A handshake in memory with one byte in each direction, so that session tickets arrive too.
async fn shake(client: &ClientTls, server: &ServerTls, alpn: Alpn) -> io::Result<Shaken> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let name = client.server_name(&ENDPOINT.parse().unwrap());
    let connector = tokio_rustls::TlsConnector::from(client.config(alpn));
    let acceptor = tokio_rustls::TlsAcceptor::from(server.config());
    let identity = |chain: Option<&[CertificateDer<'_>]>| verify::peer(chain, SystemTime::now()).unwrap();
    let serving = async {
        let mut stream = acceptor.accept(far).await?;
        let byte = stream.read_u8().await?;
        stream.write_u8(byte).await?;
        stream.flush().await?;
        io::Result::Ok(identity(stream.get_ref().1.peer_certificates()))
    };
    let asking = async {
        let mut stream = connector.connect(name, near).await?;
        stream.write_u8(7).await?;
        stream.flush().await?;
        stream.read_u8().await?;
        let connection = stream.get_ref().1;
        let server = identity(connection.peer_certificates()).unwrap();
        let alpn = connection.alpn_protocol().map(<[u8]>::to_vec);
        io::Result::Ok((alpn, connection.handshake_kind().unwrap(), server))
    };
    let (asked, served) = tokio::join!(asking, serving);
    let ((alpn, kind, server), client) = (asked?, served?);
    Ok(Shaken { alpn, kind, client, server })
}

fn load(
    dir: &Path,
    client_certificate: Option<ClientCertificate>,
    is_mutual: bool,
) -> (ClientTls, ServerTls) {
    let client = ClientTls::load(&client_config(is_mutual), dir).unwrap();
    (client, ServerTls::load(&server_config(client_certificate), dir).unwrap())
}

#[tokio::test]
async fn mutual_tls_tells_both_identities() {
    let (dir, _) = files();
    let (client, server) = load(dir.path(), Some(ClientCertificate::Required), true);
    let shaken = shake(&client, &server, Alpn::Auto).await.unwrap();
    assert_eq!(shaken.client.as_deref(), Some("spiffe://mesh.test/checkout"));
    assert_eq!(&*shaken.server, "first");
    assert!(server.is_mutual());
}

#[tokio::test]
async fn alpn_is_what_the_client_offers_and_the_server_prefers() {
    let (dir, _) = files();
    let (client, server) = load(dir.path(), None, false);
    for (alpn, chosen) in [
        (Alpn::Auto, Some(ALPN_HTTP2)),
        (Alpn::Http2, Some(ALPN_HTTP2)),
        (Alpn::Http1, Some(ALPN_HTTP1)),
        (Alpn::None, None),
    ] {
        let shaken = shake(&client, &server, alpn).await.unwrap();
        assert_eq!(shaken.alpn.as_deref(), chosen, "{alpn:?}");
        assert_eq!(shaken.client, None);
    }
}

#[tokio::test]
async fn the_second_handshake_resumes_whatever_alpn_is_offered() {
    let (dir, _) = files();
    let (client, server) = load(dir.path(), Some(ClientCertificate::Required), true);
    assert_eq!(shake(&client, &server, Alpn::Http1).await.unwrap().kind, HandshakeKind::Full);
    let second = shake(&client, &server, Alpn::Http2).await.unwrap();
    assert_eq!(second.kind, HandshakeKind::Resumed);
    assert_eq!(
        second.client.as_deref(),
        Some("spiffe://mesh.test/checkout"),
        "a resumed session keeps the identity"
    );
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_unless_it_is_optional() {
    let (dir, _) = files();
    let (client, server) = load(dir.path(), Some(ClientCertificate::Required), false);
    assert!(shake(&client, &server, Alpn::Auto).await.is_err());
    let (client, server) = load(dir.path(), Some(ClientCertificate::Optional), false);
    assert_eq!(shake(&client, &server, Alpn::Auto).await.unwrap().client, None);
}

#[tokio::test]
async fn another_authority_or_name_is_refused_in_both_directions() {
    let (dir, _) = files();
    let (client, server) = load(dir.path(), Some(ClientCertificate::Required), true);
    let (other_dir, _) = files();
    let (other_client, other_server) = load(other_dir.path(), Some(ClientCertificate::Required), true);
    let error = shake(&client, &other_server, Alpn::Auto).await.unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    assert!(shake(&other_client, &server, Alpn::Auto).await.is_err());

    let config = ClientConfig { server_name: Some("else.test".into()), ..client_config(true) };
    let misled = ClientTls::load(&config, dir.path()).unwrap();
    let error = shake(&misled, &server, Alpn::Auto).await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn replaced_files_count_for_new_handshakes() {
    let (dir, ca) = files();
    let (client, server) = load(dir.path(), Some(ClientCertificate::Required), true);
    assert!(!server.reload().unwrap() && !client.reload().unwrap());
    put_pair(dir.path(), "server", &ca.server("second"));
    assert!(server.reload().unwrap());
    assert!(!server.reload().unwrap());
    assert_eq!(&*shake(&client, &server, Alpn::Auto).await.unwrap().server, "second");
    assert_eq!(&*server.certificate().identity, "second");

    put_pair(dir.path(), "client", &ca.issue(&[uri("spiffe://mesh.test/other")], None, |_| {}));
    assert!(client.reload().unwrap());
    let shaken = shake(&client, &server, Alpn::Auto).await.unwrap();
    assert_eq!(shaken.client.as_deref(), Some("spiffe://mesh.test/other"));
    assert_eq!(shaken.kind, HandshakeKind::Full, "sessions of the old identity are gone");
}

#[tokio::test]
async fn a_session_does_not_outlive_the_authority_that_it_was_verified_with() {
    let (dir, _) = files();
    let (client, server) = load(dir.path(), Some(ClientCertificate::Required), true);
    shake(&client, &server, Alpn::Auto).await.unwrap();
    put(dir.path(), "ca.pem", &Authority::new().pem);
    assert!(server.reload().unwrap());
    assert!(shake(&client, &server, Alpn::Auto).await.is_err());
}

#[tokio::test]
async fn a_broken_replacement_keeps_the_old_and_is_tried_again() {
    let (dir, ca) = files();
    let (client, server) = load(dir.path(), None, false);
    let next = ca.server("second");
    put(dir.path(), "server.pem", &next.certificate);
    for _ in 0..2 {
        let error = server.reload().unwrap_err();
        assert!(matches!(error.problem, Problem::KeyMismatch(_)), "{error}");
    }
    assert_eq!(&*shake(&client, &server, Alpn::Auto).await.unwrap().server, "first");
    put(dir.path(), "server.key", &next.key);
    assert!(server.reload().unwrap());
    assert_eq!(&*shake(&client, &server, Alpn::Auto).await.unwrap().server, "second");
    std::fs::remove_file(dir.path().join("ca.pem")).unwrap();
    assert!(client.reload().is_err());
    shake(&client, &server, Alpn::Auto).await.unwrap();
}

#[test]
fn what_is_wrong_is_told_in_one_line() {
    let (dir, ca) = files();
    let other = ca.server("other");
    let broken = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let first_certificate = std::fs::read_to_string(dir.path().join("server.pem")).unwrap();
    let first_key = std::fs::read_to_string(dir.path().join("server.key")).unwrap();
    for (file, text, expected) in [
        ("server.pem", None, "server.pem: no such file"),
        ("server.pem", Some("hello"), "server.pem: not PEM"),
        ("server.pem", Some(broken), "server.pem: broken PEM (base64"),
        ("server.pem", Some(garbage), "server.pem: a certificate cannot be used"),
        ("server.pem", Some(first_key.as_str()), "server.pem: no certificate in it"),
        ("server.key", Some(first_certificate.as_str()), "server.key: no private key in it"),
        (
            "server.key",
            Some(other.key.as_str()),
            "server.key: the private key does not belong to the certificate in",
        ),
        ("ca.pem", Some(garbage), "ca.pem: a certificate cannot be used"),
        ("ca.pem", Some(first_key.as_str()), "ca.pem: no certificate in it"),
    ] {
        let path = dir.path().join(file);
        let before = std::fs::read(&path).unwrap();
        match text {
            Some(text) => put(dir.path(), file, text),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let config = server_config(Some(ClientCertificate::Required));
        let line = ServerTls::load(&config, dir.path()).unwrap_err().to_string();
        assert!(line.contains(expected) && line.starts_with("tls.") && !line.contains('\n'), "{line}");
        std::fs::write(&path, before).unwrap();
    }
}

#[test]
fn half_a_client_pair_and_a_bad_name_are_refused() {
    let (dir, _) = files();
    let refused = |config: ClientConfig| ClientTls::load(&config, dir.path()).unwrap_err().to_string();
    let line = refused(ClientConfig { key: None, ..client_config(true) });
    assert!(line.contains("client.pem: set without tls.key"), "{line}");
    let line = refused(ClientConfig { certificate: None, ..client_config(true) });
    assert!(line.contains("client.key: set without tls.certificate"), "{line}");
    let line = refused(ClientConfig { server_name: Some("a b".into()), ..client_config(false) });
    assert_eq!(line, "tls.server_name a b: neither a host name nor an IP address");
}

#[test]
fn the_server_name_is_the_configured_one_or_the_hosts_or_the_address() {
    let (dir, _) = files();
    let endpoint: SocketAddr = ENDPOINT.parse().unwrap();
    let named = ClientTls::load(&client_config(false), dir.path()).unwrap();
    assert_eq!(named.server_name(&endpoint).to_str(), "up.test");
    assert_eq!(named.server_name_of("pay.local:443", &endpoint).to_str(), "up.test");
    let nameless =
        ClientTls::load(&ClientConfig { server_name: None, ..client_config(false) }, dir.path()).unwrap();
    assert_eq!(nameless.server_name(&endpoint).to_str(), "127.0.0.1");
    for (name, expected) in [
        ("pay.local:443", "pay.local"),
        ("pay.local.:443", "pay.local"),
        ("pay.local", "pay.local"),
        ("127.0.0.1:443", "127.0.0.1"),
        ("[::1]:443", "127.0.0.1"),
        ("", "127.0.0.1"),
    ] {
        assert_eq!(nameless.server_name_of(name, &endpoint).to_str(), expected, "{name}");
    }
}

#[test]
fn identities_of_certificates() {
    let ca = Authority::new();
    let dns = || SanType::DnsName("pay.test".try_into().unwrap());
    let of = |names: &[SanType], common_name: Option<&str>| {
        let pair = ca.issue(names, common_name, |_| {});
        let chain = [rustls::pki_types::pem::PemObject::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
        verify::peer(Some(&chain), SystemTime::now()).map(|identity| identity.unwrap().to_string())
    };
    let spiffe = "spiffe://mesh.test/ns/shop";
    assert_eq!(of(&[dns(), uri(spiffe)], Some("cn")), Ok(spiffe.to_owned()));
    assert_eq!(of(&[uri("https://else.test/")], Some("cn")), Ok("cn".to_owned()));
    assert_eq!(of(&[dns()], None), Ok("pay.test".to_owned()));
    assert_eq!(of(&[SanType::IpAddress([10, 0, 0, 1].into())], None), Ok("10.0.0.1".to_owned()));
    assert_eq!(of(&[], None), Err(verify::IdentityError::Nameless));
    assert_eq!(of(&[uri(spiffe), uri("https://else.test/")], None), Err(verify::IdentityError::SeveralUris));
    assert_eq!(
        of(&[uri(spiffe), uri("spiffe://mesh.test/b")], None),
        Err(verify::IdentityError::SeveralUris)
    );
    let bad = "spiffe://mesh.test/a?b".to_owned();
    assert_eq!(of(&[uri(&bad)], None), Err(verify::IdentityError::BadSpiffeId(bad)));
    assert_eq!(verify::peer(None, SystemTime::now()), Ok(None));
}

#[test]
fn an_expired_certificate_loads_but_tells_no_identity() {
    let (dir, ca) = files();
    let expired = ca.issue(&[], Some("old"), |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    put_pair(dir.path(), "server", &expired);
    let server = ServerTls::load(&server_config(None), dir.path()).unwrap();
    let certificate = server.certificate();
    let new_year_2021 = SystemTime::UNIX_EPOCH + Duration::from_secs(1_609_459_200);
    assert_eq!(certificate.not_after, new_year_2021);
    let chain = [rustls::pki_types::pem::PemObject::from_pem_slice(expired.certificate.as_bytes()).unwrap()];
    assert_eq!(verify::peer(Some(&chain), new_year_2021).unwrap().as_deref(), Some("old"));
    let later = new_year_2021 + Duration::from_secs(1);
    assert_eq!(verify::peer(Some(&chain), later), Err(verify::IdentityError::Expired));
}

#[test]
fn nothing_secret_is_printed() {
    let (dir, _) = files();
    let (client, server) = load(dir.path(), Some(ClientCertificate::Required), true);
    let printed = format!("{client:?} {server:?}");
    assert!(printed.contains("spiffe://mesh.test/checkout") && !printed.contains("PRIVATE"), "{printed}");
}
