//! A real gRPC server that is asked by `grpc.health.v1` whether it serves.

use e2e::{Setup, Sidelight, python, wait_for};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;

/// Checks that are quick to see a change, and patient with a machine that is busy.
const TERMS: &str = "interval: 200ms, fast_interval: 50ms, unhealthy_threshold: 2, healthy_threshold: 2";

fn start(endpoints: &[SocketAddr], health: &str, more: &str) -> Sidelight {
    let endpoints: Vec<String> = endpoints.iter().map(SocketAddr::to_string).collect();
    let cluster = format!(
        "payments:\n  endpoints: {endpoints:?}\n  balance: {{ policy: round_robin }}\n  health: {{ {health}, {TERMS} }}\n{more}"
    );
    Sidelight::start(&Setup::bare().section("clusters", &cluster))
}

/// Waits for the event that an endpoint came to this state; `is_first`: by its first check ever.
fn state(proxy: &Sidelight, endpoint: SocketAddr, state: &str, is_first: bool) -> Value {
    wait_for(&format!("{endpoint} to be {state}"), || {
        proxy.events().all("sidelight/health/1").into_iter().find(|event| {
            event["sidelight.cluster"] == "payments"
                && event["sidelight.endpoint.address"] == endpoint.to_string()
                && event["sidelight.health.state"] == state
                && event["sidelight.health.first"] == is_first
        })
    })
}

#[test]
fn a_grpc_server_says_that_it_does_not_serve() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("status");
    write(&file, "1");
    let path = file.display().to_string();
    let server = python::Server::start("grpc_health_server.py", &["payments.v1.Payments", &path]);
    let without = python::Server::start("grpc_server.py", &[]);
    let proxy = start(
        &[server.address(), without.address()],
        "grpc: { service: payments.v1.Payments }",
        "  protocol: http2\n",
    );
    state(&proxy, server.address(), "healthy", true);
    let event = state(&proxy, without.address(), "unhealthy", true);
    let cause = event["sidelight.cause"].as_str().unwrap_or_default();
    assert!(
        cause.starts_with("grpc-status 12 (UNIMPLEMENTED: the server has no grpc.health.v1.Health)"),
        "{cause}"
    );

    write(&file, "2");
    let event = state(&proxy, server.address(), "unhealthy", false);
    assert_eq!(event["sidelight.cause"], "the service is NOT_SERVING");
    write(&file, "1");
    state(&proxy, server.address(), "healthy", false);
}

fn write(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text).expect("a file");
    std::fs::rename(draft, path).expect("a rename");
}
