use super::server::{Reply, Server, serve_h2};
use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn http2_carries_the_authority_and_brings_trailers() {
    let server = Server::start(|stream| {
        serve_h2(stream, |asked| {
            let uri = &asked.head.uri;
            let said = format!("{} {uri} {:?}", asked.head.method, asked.body);
            Reply {
                status: 200,
                headers: vec![("content-type", "application/grpc".into())],
                body: said.into_bytes(),
                trailers: vec![("grpc-status", "8".into())],
            }
        });
    });
    let mut client = HttpClient::new(&server.url(), None, Path::new("/"), Protocol::Http2).unwrap();
    for _ in 0..3 {
        let body = Bytes::from_static(b"hello");
        let answer = client.request("POST", "/a.B/C", &[("te", "trailers")], body, within(5000)).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer.body), format!("POST {}/a.B/C b\"hello\"", server.url()));
        assert_eq!(answer.trailers.unwrap()["grpc-status"], "8");
        client.idle();
    }
    assert_eq!(server.accepted(), 1);
}

#[test]
fn a_server_that_ends_an_http2_connection_is_asked_again_on_another() {
    let server = Server::start(|stream| {
        let copy = stream.try_clone().unwrap();
        let count = AtomicUsize::new(0);
        serve_h2(stream, move |_| {
            if count.fetch_add(1, Ordering::SeqCst) == 1 {
                let _ = copy.shutdown(std::net::Shutdown::Both);
            }
            Reply { status: 200, ..Reply::default() }
        });
    });
    let mut client = HttpClient::new(&server.url(), None, Path::new("/"), Protocol::Http2).unwrap();
    for _ in 0..3 {
        let answer = client.request("POST", "/", &[], Bytes::new(), within(5000)).unwrap();
        assert_eq!(answer.status, 200);
    }
    assert_eq!(server.accepted(), 3);
}

#[test]
fn a_server_of_http1_is_a_failure_of_http2() {
    let server = Server::start(|mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
    });
    let mut client = HttpClient::new(&server.url(), None, Path::new("/"), Protocol::Http2).unwrap();
    let failure = client.request("POST", "/", &[], Bytes::new(), within(3000)).unwrap_err();
    assert!(matches!(failure, Failure::Retry { .. }), "{failure:?}");
}
