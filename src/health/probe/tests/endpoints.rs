//! Servers on loopback that do what a test says.

use crate::identity::ClientTls;
use crate::identity::config::ClientTls as ClientConfig;
use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A server; it ends when dropped.
pub(super) struct Endpoints {
    pub(super) address: SocketAddr,
    _task: JoinSet<()>,
}

impl Endpoints {
    /// Runs `serve` for every connection.
    pub(super) async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Endpoints
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(serve(socket));
            }
        });
        Endpoints { address, _task: task }
    }

    /// Answers every HTTP/1.1 request with these bytes, then closes in good order.
    pub(super) async fn saying(answer: impl AsRef<[u8]>) -> Endpoints {
        let answer = Bytes::copy_from_slice(answer.as_ref());
        Endpoints::start(move |mut socket| {
            let answer = answer.clone();
            async move {
                request_of(&mut socket).await;
                let _ = socket.write_all(&answer).await;
                let _ = socket.shutdown().await;
                hold(&mut socket).await; // a close with something unread would be a reset
            }
        })
        .await
    }

    /// Answers HTTP/2 requests.
    pub(super) async fn speaking_http2<F>(
        answer: impl Fn(Request<h2::RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + 'static,
    ) -> Endpoints
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Endpoints::start(move |socket| serve_http2(socket, answer.clone())).await
    }

    /// The same over TLS, if the client offers it by ALPN; HTTP/1.1 gets an empty 200.
    pub(super) async fn behind_tls<F>(
        tls: TlsAcceptor,
        answer: impl Fn(Request<h2::RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + 'static,
    ) -> Endpoints
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Endpoints::start(move |socket| {
            let (tls, answer) = (tls.clone(), answer.clone());
            async move {
                let Ok(mut socket) = tls.accept(socket).await else { return };
                if socket.get_ref().1.alpn_protocol() == Some(b"h2") {
                    return serve_http2(socket, answer).await;
                }
                request_of(&mut socket).await;
                say(&mut socket, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                let _ = socket.shutdown().await;
            }
        })
        .await
    }
}

async fn serve_http2<F>(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    answer: impl Fn(Request<h2::RecvStream>, SendResponse<Bytes>) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
    let mut answers = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        answers.spawn(answer(request, respond));
    }
}

/// An address that nobody listens on.
pub(super) async fn vacant() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// The head of a request.
pub(super) async fn request_of(socket: &mut (impl AsyncRead + Unpin)) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(request).unwrap()
}

pub(super) async fn say(socket: &mut (impl AsyncWrite + Unpin), text: &str) {
    let _ = socket.write_all(text.as_bytes()).await;
    let _ = socket.flush().await;
}

/// Reads until the other side has closed.
pub(super) async fn hold(socket: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = [0; 1024];
    while socket.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}

/// Closes with a reset.
pub(super) fn reset(socket: TcpStream) {
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
}

/// An authority, and what clients that trust it use.
pub(super) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// A server that is `name` and offers these protocols.
    pub(super) fn server(&self, name: &str, alpn: &[&str]) -> TlsAcceptor {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(crate::identity::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from(certificate)],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// What a cluster has whose endpoints are `name`.
    pub(super) fn client(&self, name: &str) -> Arc<ClientTls> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), &self.pem).unwrap();
        let config = ClientConfig {
            ca: "ca.pem".into(),
            server_name: Some(name.into()),
            certificate: None,
            key: None,
        };
        Arc::new(ClientTls::load(&config, directory.path()).unwrap())
    }
}

/// Sends an answer with content and, if there are some, trailers.
pub(super) fn answer(
    mut respond: SendResponse<Bytes>,
    head: http::response::Builder,
    content: &[u8],
    trailers: Option<HeaderMap>,
) {
    let head: Response<()> = head.body(()).unwrap();
    let Ok(mut stream) = respond.send_response(head, false) else { return };
    let _ = stream.send_data(Bytes::copy_from_slice(content), trailers.is_none());
    if let Some(trailers) = trailers {
        let _ = stream.send_trailers(trailers);
    }
}
