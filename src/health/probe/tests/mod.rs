//! Every probe against real sockets on loopback, and every way in which an endpoint can fail it.

mod endpoints;
mod grpc;
mod http1;
mod http2;
mod tcp;
mod tls;

use super::*;
use crate::cluster::config::{Config, GrpcCheck, HttpCheck, StatusRange, TcpCheck};
use crate::cluster::{Settings, Target};
use endpoints::*;
use tokio::io::AsyncReadExt;

/// Time that is never used up when all is well.
const LONG: Duration = Duration::from_secs(20);
/// Time for checks that hang.
const SHORT: Duration = Duration::from_millis(150);

fn by_http(check: HttpCheck) -> HealthCheck {
    HealthCheck { http: Some(check), ..HealthCheck::default() }
}

fn by_grpc(service: &str) -> HealthCheck {
    HealthCheck { grpc: Some(GrpcCheck { service: service.into() }), ..HealthCheck::default() }
}

fn by_tcp(send: &str, receive: &str) -> HealthCheck {
    HealthCheck {
        tcp: Some(TcpCheck { send: send.into(), receive: receive.into() }),
        ..HealthCheck::default()
    }
}

fn cluster(protocol: Protocol) -> Cluster {
    Cluster::plain("c", &Config { protocol, ..Config::default() })
}

async fn check_within(
    config: &HealthCheck,
    cluster: &Cluster,
    address: SocketAddr,
    timeout: Duration,
) -> Verdict {
    Probe::new(config)?.check(cluster, &Endpoint::new(&Target::new(address)), timeout).await
}

async fn check(config: &HealthCheck, cluster: &Cluster, address: SocketAddr) -> Verdict {
    check_within(config, cluster, address, LONG).await
}

/// Why the check failed; it must.
async fn why(config: &HealthCheck, cluster: &Cluster, address: SocketAddr) -> String {
    check(config, cluster, address).await.expect_err("a failure")
}

#[tokio::test]
async fn nobody_listens() {
    let address = vacant().await;
    for config in [by_http(HttpCheck::default()), by_grpc(""), by_tcp("", "")] {
        assert_eq!(why(&config, &cluster(Protocol::Auto), address).await, "connection refused");
    }
}

#[tokio::test]
async fn another_port_than_that_of_the_traffic() {
    let health = Endpoints::start(|mut socket| async move {
        let request = request_of(&mut socket).await;
        let is_own = request.contains(&format!("host: {}\r\n", socket.local_addr().unwrap()));
        let status = if is_own { "200 OK" } else { "421 Misdirected Request" };
        say(&mut socket, &format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).await;
    })
    .await;
    let config = HealthCheck { port: Some(health.address.port()), ..by_http(HttpCheck::default()) };
    assert_eq!(check(&config, &cluster(Protocol::Auto), vacant().await).await, Ok(()));
}

#[tokio::test]
async fn a_check_of_nothing_says_so() {
    let why = why(&HealthCheck::default(), &cluster(Protocol::Auto), vacant().await).await;
    assert_eq!(why, "health: none of `http`, `grpc` and `tcp` is there");
}

#[tokio::test]
async fn hangs_are_cut_at_the_timeout_and_named() {
    let silent = Endpoints::start(|mut socket| async move { hold(&mut socket).await }).await;
    let within = |config: HealthCheck, protocol| {
        let address = silent.address;
        async move { check_within(&config, &cluster(protocol), address, SHORT).await.expect_err("a failure") }
    };
    for (config, protocol) in [
        (by_http(HttpCheck::default()), Protocol::Http1),
        (by_http(HttpCheck::default()), Protocol::Http2),
        (by_grpc(""), Protocol::Auto),
        (by_tcp("", "hello"), Protocol::Tcp),
    ] {
        let started = Instant::now();
        assert_eq!(within(config, protocol).await, "no answer within 150ms");
        let took = started.elapsed();
        assert!(took >= SHORT && took < LONG / 2, "{took:?}");
    }
}

#[tokio::test]
async fn resets_are_named() {
    let resetting = Endpoints::start(|mut socket| async move {
        let _ = socket.read_u8().await;
        reset(socket);
    })
    .await;
    for (config, protocol) in [
        (by_http(HttpCheck::default()), Protocol::Http1),
        (by_http(HttpCheck::default()), Protocol::Http2),
        (by_grpc(""), Protocol::Auto),
        (by_tcp("hello", "hello"), Protocol::Tcp),
    ] {
        let why = why(&config, &cluster(protocol), resetting.address).await;
        assert!(["connection reset", "connection closed"].contains(&why.as_str()), "{why}");
    }
}
