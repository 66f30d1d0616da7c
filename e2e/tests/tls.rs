//! TLS in both directions: who is let in, what is agreed, and what happens when files change.

use e2e::frames::{Peer, request};
use e2e::tls::{Authority, Handshakes, TlsClient, TlsServer};
use e2e::{Http2Server, RawClient, Response, Setup, Sidelight, StrictBackend, tool, wait_for};
use std::net::SocketAddr;
use std::path::Path;
use tempfile::TempDir;

const NAME: &str = "app.example";

/// An authority, a directory with its certificate, and one for the proxy.
struct Files {
    directory: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let (directory, authority) =
            (tempfile::tempdir().expect("a temporary directory"), Authority::new("mesh"));
        e2e::tls::write(directory.path(), "ca.pem", &authority.pem);
        authority.server(NAME).write(directory.path(), "server");
        authority.client("spiffe://mesh.example/checkout").write(directory.path(), "client");
        Files { directory, authority }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The lines of `inbound` for TLS.
    fn inbound(&self, more: &str) -> String {
        let at = self.path().display();
        format!("tls:\n  certificate: {at}/server.pem\n  key: {at}/server.key\n{more}")
    }

    fn mutual(&self, required: &str) -> String {
        let at = self.path().display();
        self.inbound(&format!("  client_ca: {at}/ca.pem\n  client_certificate: {required}\n"))
    }
}

fn get(address: SocketAddr, path: &str) -> Result<Response, e2e::Fault> {
    RawClient::get(address, path)
}

fn is_refused(handshakes: &Handshakes) -> bool {
    handshakes.all().iter().any(Result::is_err)
}

#[test]
fn clients_choose_their_protocol_by_alpn() {
    let (files, backend) = (Files::new(), StrictBackend::start());
    let proxy = Sidelight::start(&Setup::app(backend.address()).section("inbound", &files.inbound("")));
    for (offered, agreed) in [(&["http/1.1"][..], Some("http/1.1")), (&[][..], None)] {
        let client = TlsClient::start(files.authority.trusting_client(None, offered), NAME, proxy.inbound());
        let answer = get(client.address(), "/").unwrap();
        assert_eq!(answer.status, 200, "{offered:?}");
        assert_eq!(client.handshakes.last().alpn.as_deref(), agreed);
    }
    for offered in [&["h2"][..], &["h2", "http/1.1"]] {
        let client = TlsClient::start(files.authority.trusting_client(None, offered), NAME, proxy.inbound());
        let mut peer = Peer::connect(client.address());
        let answer = peer.ask(1, &request("GET", "/").map_scheme("https")).unwrap();
        assert_eq!(answer.status(), 200, "{offered:?}");
        assert_eq!(client.handshakes.last().alpn.as_deref(), Some("h2"));
    }
    for seen in backend.take_after(4).whole {
        assert_eq!(seen.fields.get("x-forwarded-proto"), Some("https"), "{seen:?}");
    }
    let events = proxy.events().wait(4);
    assert!(events.iter().all(|event| event["url.scheme"] == "https"), "{events:#?}");
}

/// Pseudo-header fields with another scheme.
trait MapScheme<'a> {
    fn map_scheme(self, scheme: &'a str) -> Vec<(&'a str, &'a str)>;
}

impl<'a> MapScheme<'a> for Vec<(&'a str, &'a str)> {
    fn map_scheme(mut self, scheme: &'a str) -> Vec<(&'a str, &'a str)> {
        self.iter_mut().filter(|field| field.0 == ":scheme").for_each(|field| field.1 = scheme);
        self
    }
}

#[test]
fn cleartext_on_a_tls_port_is_refused() {
    let (files, backend) = (Files::new(), StrictBackend::start());
    let proxy = Sidelight::start(&Setup::app(backend.address()).section("inbound", &files.inbound("")));
    for bytes in [&b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut client = RawClient::connect(proxy.inbound());
        client.send(bytes);
        assert!(client.is_closed());
    }
    let events = proxy.events().wait_connections(2);
    assert!(events.iter().all(|event| event["sidelight.cause"] == "request_refused"), "{events:#?}");
    assert_eq!(backend.connections(), 0);
    let client = TlsClient::start(files.authority.trusting_client(None, &[]), NAME, proxy.inbound());
    assert_eq!(get(client.address(), "/").unwrap().status, 200);
}

#[test]
fn a_broken_handshake_is_an_event_and_nothing_more() {
    let (files, backend) = (Files::new(), StrictBackend::start());
    let proxy = Sidelight::start(&Setup::app(backend.address()).section("inbound", &files.inbound("")));
    let mut client = RawClient::connect(proxy.inbound());
    client.send(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00");
    let mut alert = Vec::new();
    client.wire().to_end("the end", &mut alert).unwrap();
    let event = proxy.events().wait_connections(1).remove(0);
    assert_eq!(event["sidelight.cause"], "malformed_request", "{event}");
    let client = TlsClient::start(files.authority.trusting_client(None, &[]), NAME, proxy.inbound());
    assert_eq!(get(client.address(), "/").unwrap().status, 200);
}

#[test]
fn mutual_tls_lets_in_who_shows_the_right_certificate() {
    let (files, backend) = (Files::new(), StrictBackend::start());
    let setup = Setup::app(backend.address());
    let own = files.authority.client("spiffe://mesh.example/shop");
    let stranger = Authority::new("elsewhere").client("spiffe://mesh.example/shop");
    let expired = files.authority.expired("shop.example");
    for (mode, nobody_gets_in) in [("required", false), ("optional", true)] {
        let proxy = Sidelight::start(&setup.clone().section("inbound", &files.mutual(mode)));
        for (who, pair, gets_in) in [
            ("nobody", None, nobody_gets_in),
            ("the right one", Some(&own), true),
            ("a stranger", Some(&stranger), false),
            ("an expired one", Some(&expired), false),
        ] {
            let config = files.authority.trusting_client(pair, &["http/1.1"]);
            let client = TlsClient::start(config, NAME, proxy.inbound());
            let answer = get(client.address(), "/");
            if gets_in {
                assert_eq!(answer.unwrap().status, 200, "{who}, {mode}");
            } else {
                assert!(
                    answer.is_err() && is_refused(&client.handshakes),
                    "{who} got in: {answer:?}, {mode}"
                );
            }
        }
        let seen = backend.take().whole.len();
        assert_eq!(seen, if nobody_gets_in { 2 } else { 1 });
        let events = proxy.events().wait(4);
        assert!(
            events.iter().any(|event| event.to_string().contains("spiffe://mesh.example/shop")),
            "{events:#?}"
        );
    }
}

#[test]
fn new_certificate_files_serve_new_connections() {
    let (files, backend) = (Files::new(), StrictBackend::start());
    let proxy = Sidelight::start(&Setup::app(backend.address()).section("inbound", &files.inbound("")));
    let client =
        TlsClient::start(files.authority.trusting_client(None, &["http/1.1"]), NAME, proxy.inbound());
    let ask =
        |client: &mut RawClient| client.ask("GET / HTTP/1.1\r\nHost: app.example\r\n\r\n").unwrap().status;
    let mut old = RawClient::connect(client.address());
    assert_eq!(ask(&mut old), 200);
    let first = client.handshakes.last().peer;

    e2e::tls::write(files.path(), "server.pem", "not a certificate");
    let probe = || {
        let fresh =
            TlsClient::start(files.authority.trusting_client(None, &["http/1.1"]), NAME, proxy.inbound());
        assert_eq!(get(fresh.address(), "/").unwrap().status, 200);
        fresh.handshakes.last().peer
    };
    assert_eq!(probe(), first, "a broken file replaces nothing");
    let next = files.authority.server(NAME);
    next.write(files.path(), "server");
    wait_for("the new certificate", || (probe() == next.der().to_vec()).then_some(()));
    assert_eq!(ask(&mut old), 200, "the old connection goes on");
    assert_eq!(client.handshakes.all().len(), 1);
}

#[test]
fn sessions_resume() {
    let (files, backend) = (Files::new(), StrictBackend::start());
    let proxy =
        Sidelight::start(&Setup::app(backend.address()).section("inbound", &files.mutual("required")));
    let own = files.authority.client("spiffe://mesh.example/shop");
    let config = files.authority.trusting_client(Some(&own), &["http/1.1"]);
    let client = TlsClient::start(config, NAME, proxy.inbound());
    for _ in 0..2 {
        assert_eq!(get(client.address(), "/").unwrap().status, 200);
    }
    assert!(client.handshakes.last().is_resumed, "{:?}", client.handshakes.all());
    let events = proxy.events().wait(2);
    let named =
        events.iter().filter(|event| event.to_string().contains("spiffe://mesh.example/shop")).count();
    assert_eq!(named, 2, "a resumed session keeps its identity: {events:#?}");
}

/// A sidecar whose cluster `other` is reached by TLS.
fn to(upstream: SocketAddr, files: &Files, protocol: &str, more: &str) -> Sidelight {
    let at = files.path().display();
    let cluster = format!(
        "other:\n  endpoints: [\"{upstream}\"]\n  protocol: {protocol}\n  tls:\n    ca: {at}/ca.pem\n{more}"
    );
    Sidelight::start(&Setup::bare().section("clusters", &cluster))
}

fn ask_other(proxy: &Sidelight) -> Response {
    RawClient::connect(proxy.outbound()).ask("GET / HTTP/1.1\r\nHost: other\r\n\r\n").expect("an answer")
}

#[test]
fn an_upstream_is_asked_by_name_and_shown_our_certificate() {
    let (files, backend) = (Files::new(), StrictBackend::start());
    let own = files.authority.server("payments.example");
    let config = files.authority.trusting_server(&own, true, &["http/1.1"]);
    let upstream = TlsServer::start(config, backend.address());
    let at = files.path().display();
    let more = format!(
        "    server_name: payments.example\n    certificate: {at}/client.pem\n    key: {at}/client.key\n"
    );
    let proxy = to(upstream.address(), &files, "auto", &more);
    assert_eq!(ask_other(&proxy).status, 200);
    let seen = upstream.handshakes.last();
    assert_eq!((seen.sni.as_deref(), seen.alpn.as_deref()), (Some("payments.example"), Some("http/1.1")));
    assert!(!seen.peer.is_empty(), "no client certificate");

    // A new client certificate is shown on new connections.
    let next = files.authority.client("spiffe://mesh.example/checkout");
    next.write(files.path(), "client");
    wait_for("the new client certificate", || {
        backend.close_connections();
        let _ = RawClient::connect(proxy.outbound()).ask("GET / HTTP/1.1\r\nHost: other\r\n\r\n");
        (upstream.handshakes.last().peer == next.der().to_vec()).then_some(())
    });
}

#[test]
fn an_upstream_may_choose_http2() {
    let (files, server) = (Files::new(), Http2Server::plain());
    let own = files.authority.server("payments.example");
    let config = files.authority.trusting_server(&own, false, &["h2", "http/1.1"]);
    let upstream = TlsServer::start(config, server.address());
    for protocol in ["auto", "http2"] {
        let proxy = to(upstream.address(), &files, protocol, "    server_name: payments.example\n");
        assert_eq!(ask_other(&proxy).status, 200, "{protocol}");
        assert_eq!(upstream.handshakes.last().alpn.as_deref(), Some("h2"), "{protocol}");
        assert_eq!(server.take().remove(0).get(":scheme"), Some("https"), "{protocol}");
    }
}

#[test]
fn an_upstream_whose_certificate_is_wrong_gets_nothing() {
    let files = Files::new();
    let fine = files.authority.server("payments.example");
    let other_authority = Authority::new("elsewhere").server("payments.example");
    let other_name = files.authority.server("other.example");
    let expired = files.authority.expired("payments.example");
    for (what, pair) in
        [("another authority", &other_authority), ("another name", &other_name), ("expired", &expired)]
    {
        let backend = StrictBackend::start();
        let config = files.authority.trusting_server(pair, false, &["http/1.1"]);
        let upstream = TlsServer::start(config, backend.address());
        let proxy = to(upstream.address(), &files, "auto", "    server_name: payments.example\n");
        let answer = ask_other(&proxy);
        let told = answer.fields.get("proxy-status").unwrap_or_default();
        assert_eq!(answer.status, 502, "{what}: {answer:?}");
        assert!(told.contains("tls_certificate_error"), "{what}: {told}");
        assert_eq!(proxy.events().wait(1)[0]["sidelight.cause"], "tls_certificate", "{what}");
        assert_eq!(backend.connections(), 0, "{what}");
    }
    // Wants a certificate that we do not have.
    let backend = StrictBackend::start();
    let upstream = TlsServer::start(files.authority.trusting_server(&fine, true, &[]), backend.address());
    let proxy = to(upstream.address(), &files, "auto", "    server_name: payments.example\n");
    assert_eq!(ask_other(&proxy).status, 502);
    let event = proxy.events().wait(1).remove(0);
    // In TLS 1.3 the refusal comes when our side of the handshake is done: as an alert on the first read.
    let is_told =
        event["sidelight.cause"] == "tls_failed" || event.to_string().contains("CertificateRequired");
    assert!(is_told, "{event}");
    // Speaks no TLS at all.
    let proxy = to(backend.address(), &files, "auto", "    server_name: payments.example\n");
    let answer = ask_other(&proxy);
    assert_eq!(answer.status, 502);
    assert_eq!(proxy.events().wait(1)[0]["sidelight.cause"], "tls_failed");
}

#[test]
fn curl_is_served_over_tls() {
    let (files, backend) = (Files::new(), StrictBackend::start());
    let proxy =
        Sidelight::start(&Setup::app(backend.address()).section("inbound", &files.mutual("required")));
    let at = files.path().display();
    let port = proxy.inbound().port();
    for (version, expected) in [("--http2", "2"), ("--http1.1", "1.1"), ("--tls-max=1.2", "2")] {
        let version: Vec<&str> = version.split('=').collect();
        let arguments = [
            format!("--resolve={NAME}:{port}:127.0.0.1"),
            format!("--cacert={at}/ca.pem"),
            format!("--cert={at}/client.pem"),
            format!("--key={at}/client.key"),
            format!("https://{NAME}:{port}/"),
        ];
        let mut all: Vec<&str> = vec!["-sS", "--max-time", "10", "-w", " %{http_version} %{http_code}"];
        all.extend(&version);
        let split: Vec<&str> = arguments.iter().flat_map(|one| one.splitn(2, '=')).collect();
        all.extend(split);
        let said = tool::output("curl", &all);
        assert_eq!(said, format!(r#"{{"ok":true}} {expected} 200"#), "{version:?}");
    }
}
