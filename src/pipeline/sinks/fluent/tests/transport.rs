//! Ways to the server, and configurations that cannot be.

use super::server::{End, Server};
use super::{config, sink};
use crate::identity::config::ClientTls;
use crate::pipeline::sinks::fluent::{Config, Fluent};
use crate::pipeline::sinks::kit::{batch, exchanges, in_time, retry, service};
use crate::pipeline::sinks::sink::{Sent, Sink};
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::pki_types::PrivateKeyDer;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

#[test]
fn a_unix_socket_is_as_good() {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("fluent.sock")).unwrap();
    let (tell, told) = channel();
    std::thread::spawn(move || End::new(listener.accept().unwrap().0).ack_all(&tell));
    let config = Config { socket: Some("fluent.sock".into()), ..Config::default() };
    let mut sink = Fluent::new(&config, &service(), directory.path()).unwrap();
    let batch = batch(&exchanges(2));
    assert_eq!(sink.send(&batch, in_time()), Ok(Sent::all(&batch)));
    assert_eq!(told.recv().unwrap().sequences(), [1, 2]);
}

/// The certificate of a server at 127.0.0.1, signed by itself, and rustls' configuration with it.
fn tls() -> (String, Arc<rustls::ServerConfig>) {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(crate::identity::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    (certificate.pem(), Arc::new(config))
}

#[test]
fn tls_carries_it_and_a_server_that_is_not_known_gets_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (pem, served) = tls();
    std::fs::write(directory.path().join("ca.pem"), pem).unwrap();
    std::fs::write(directory.path().join("other.pem"), tls().0).unwrap();
    let server = Server::start(move |_, stream, told| {
        let session = rustls::ServerConnection::new(served.clone()).unwrap();
        End::new(rustls::StreamOwned::new(session, stream)).ack_all(told);
    });
    let sink = |ca: &str| {
        let tls = ClientTls { ca: ca.into(), server_name: None, certificate: None, key: None };
        Fluent::new(&Config { tls: Some(tls), ..config(server.address) }, &service(), directory.path())
            .unwrap()
    };
    let reason = retry(sink("other.pem").send(&batch(&exchanges(1)), in_time()));
    assert!(reason.contains("cannot shake hands by TLS"), "{reason}");
    let mut good = sink("ca.pem");
    for _ in 0..2 {
        // The second batch finds the session tickets of the first handshake in its way.
        let batch = batch(&exchanges(2));
        assert_eq!(good.send(&batch, in_time()), Ok(Sent::all(&batch)));
        assert_eq!(server.next().sequences(), [1, 2]);
    }
}

#[test]
fn a_server_that_is_not_there_is_waited_for() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let reason = retry(sink(&config(nobody)).send(&batch(&exchanges(1)), in_time()));
    assert!(reason.contains("cannot connect: Connection refused"), "{reason}");
}

#[test]
fn configurations_that_cannot_be_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let address = || Config { address: Some("127.0.0.1:1".parse().unwrap()), ..Config::default() };
    let tls = ClientTls { ca: "missing.pem".into(), server_name: None, certificate: None, key: None };
    let rows = [
        (Config::default(), "either `address` or `socket`"),
        (Config { socket: Some("s".into()), ..address() }, "either `address` or `socket`"),
        (Config { address: None, socket: Some("s".into()), tls: Some(tls.clone()), ..address() }, "tls: "),
        (Config { tls: Some(tls), ..address() }, "missing.pem"),
        (Config { tag: "a b".into(), ..address() }, "tag: "),
        (Config { shared_key_file: Some("missing".into()), ..address() }, "shared_key_file: "),
        (Config { username: Some("ann".into()), ..address() }, "go together"),
        (Config { hostname: Some("me".into()), ..address() }, "only with `shared_key_file`"),
    ];
    for (config, told) in rows {
        let error = Fluent::new(&config, &service(), directory.path()).err().unwrap();
        assert!(error.contains(told), "{error}");
    }
    assert!(Fluent::new(&address(), &service(), Path::new(".")).is_ok());
}
