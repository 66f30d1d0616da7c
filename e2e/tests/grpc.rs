//! gRPC through two sidecars in a row, with the client and server of grpcio.

use e2e::frames::{self, Peer, code, headers};
use e2e::{Http2Server, Setup, Sidelight, python};
use std::net::{SocketAddr, TcpListener};

/// The sidecar of the caller, and before it the one of the server.
struct Mesh {
    caller: Sidelight,
    callee: Sidelight,
}

impl Mesh {
    fn before(server: SocketAddr) -> Self {
        let callee = Sidelight::start(&Setup::app_speaking(server, "http2"));
        let cluster = format!("echo:\n  endpoints: [\"{}\"]\n  protocol: http2", callee.inbound());
        let caller = Sidelight::start(&Setup::bare().section("clusters", &cluster));
        Mesh { caller, callee }
    }

    fn call(&self, authority: &str, what: &str) -> Vec<String> {
        python::run("grpc_client.py", &[&self.caller.outbound().to_string(), authority, what])
    }
}

#[test]
fn calls_of_every_kind_pass_two_sidecars() {
    let server = python::Server::start("grpc_server.py", &[]);
    let mesh = Mesh::before(server.address());
    let cases = mesh.call("echo", "all");
    assert!(cases.len() >= 14, "{cases:?}");
    let failed =
        mesh.callee.events().find("the event of Fail", |event| event["url.path"] == "/test.Echo/Fail");
    assert!(
        failed.to_string().contains("FAILED_PRECONDITION") || failed.to_string().contains("\":9"),
        "{failed}"
    );
}

#[test]
fn a_server_that_is_down_is_unavailable() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    Mesh::before(nobody).call("echo", "unavailable");
}

#[test]
fn a_cluster_that_nobody_knows_is_unimplemented() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    Mesh::before(nobody).call("nobody", "unimplemented");
}

#[test]
fn a_server_that_dies_is_no_clean_end() {
    let server = python::Server::start("grpc_server.py", &[]);
    Mesh::before(server.address()).call("echo", "die");
}

#[test]
fn own_answers_to_calls_speak_grpc() {
    // A server that goes away without having processed anything, each time.
    let leaving = Http2Server::start(|peer, _| {
        if let Ok(Some(_)) = peer.next_head() {
            peer.send(frames::goaway(0, code::NO_ERROR));
            let _ = peer.read_until(|_| false);
        }
    });
    let cluster = format!("echo:\n  endpoints: [\"{}\"]\n  protocol: http2", leaving.address());
    let proxy = Sidelight::start(&Setup::bare().section("clusters", &cluster));
    let mut client = Peer::connect(proxy.outbound());
    for (stream, authority, status) in [(1, "echo", "14"), (3, "nobody", "12")] {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", authority),
            (":path", "/test.Echo/Unary"),
            ("content-type", "application/grpc+proto"),
            ("te", "trailers"),
        ];
        client.send([headers(stream, &fields, false), frames::data(stream, [0, 0, 0, 0, 0], true)].concat());
        let answer = client.finish(stream).unwrap();
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(answer.get("grpc-status"), Some(status), "{answer:?}");
        assert!(
            answer.get("content-type").is_some_and(|kind| kind.starts_with("application/grpc")),
            "{answer:?}"
        );
        assert!(answer.get("grpc-message").is_some() && answer.get("proxy-status").is_some(), "{answer:?}");
        assert!(answer.body.is_empty() && answer.is_ended, "not trailers-only: {answer:?}");
    }
}
