use super::*;
use crate::cluster::Journal;
use crate::identity::ClientTls;
use http::{Request, Response};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

fn behind(tls: Arc<ClientTls>, protocol: Protocol) -> Cluster {
    let settings = Settings::of(&Config { protocol, ..Config::default() }, "");
    Cluster::new("c", settings, Some(tls), Journal::none())
}

/// A server that answers 204 over HTTP/2 and 200 over HTTP/1.1.
async fn server(tls: TlsAcceptor) -> Endpoints {
    Endpoints::behind_tls(tls, |_: Request<h2::RecvStream>, respond| async move {
        answer(respond, Response::builder().status(204), b"", None);
    })
    .await
}

fn expecting(status: u16) -> HealthCheck {
    by_http(HttpCheck { statuses: vec![StatusRange { first: status, last: status }], ..HttpCheck::default() })
}

#[tokio::test]
async fn http_over_tls_speaks_what_traffic_would() {
    let authority = Authority::new();
    let client = || authority.client("up.test");
    let both = server(authority.server("up.test", &["h2", "http/1.1"])).await;
    for (protocol, status) in [(Protocol::Auto, 204), (Protocol::Http2, 204), (Protocol::Http1, 200)] {
        let verdict = check(&expecting(status), &behind(client(), protocol), both.address).await;
        assert_eq!(verdict, Ok(()), "{protocol:?}");
    }
    let only_http1 = server(authority.server("up.test", &["http/1.1"])).await;
    let verdict = check(&expecting(200), &behind(client(), Protocol::Auto), only_http1.address).await;
    assert_eq!(verdict, Ok(()));
}

#[tokio::test]
async fn a_tcp_check_makes_the_handshake_too() {
    let authority = Authority::new();
    let endpoint = server(authority.server("up.test", &[])).await;
    let cluster = behind(authority.client("up.test"), Protocol::Tcp);
    assert_eq!(check(&by_tcp("", ""), &cluster, endpoint.address).await, Ok(()));
    let asking = by_tcp("GET / HTTP/1.1\r\n\r\n", "200 OK");
    assert_eq!(check(&asking, &cluster, endpoint.address).await, Ok(()));
}

#[tokio::test]
async fn handshakes_that_fail() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let endpoint = server(authority.server("up.test", &[])).await;
    for (tls, expected) in [
        (stranger.client("up.test"), "invalid peer certificate"),
        (authority.client("other.test"), "not valid for name"),
    ] {
        let why = why(&expecting(200), &behind(tls, Protocol::Auto), endpoint.address).await;
        assert!(why.starts_with("TLS: ") && why.contains(expected), "{why}");
    }
    let cleartext = Endpoints::saying("HTTP/1.1 200 OK\r\n\r\n").await;
    let mute = Endpoints::start(|mut socket| async move { hold(&mut socket).await }).await;
    let closing = Endpoints::start(|mut socket| async move { drop(socket.read_u8().await) }).await;
    let cluster = || behind(authority.client("up.test"), Protocol::Auto);
    let verdict = check_within(&expecting(200), &cluster(), mute.address, SHORT).await;
    assert_eq!(verdict, Err("no TLS handshake within 150ms".into()));
    let verdict = check_within(&expecting(200), &cluster(), cleartext.address, SHORT).await;
    assert_eq!(
        verdict,
        Err("no TLS handshake within 150ms".into()),
        "it waits for a head that does not come"
    );
    let why = why(&expecting(200), &cluster(), closing.address).await;
    assert!(["TLS: connection closed", "TLS: connection reset"].contains(&why.as_str()), "{why}");
}
