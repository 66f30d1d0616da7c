//! The kit itself: a strict parser that lets a fault pass would make every other test worthless.

use e2e::{Fault, RawClient, Script, StrictBackend, chunked, get, post};

#[test]
fn the_backend_takes_what_is_right_and_keeps_it() {
    let backend = StrictBackend::start();
    let mut client = RawClient::connect(backend.address());
    for request in
        [get("/a?b", ""), post("Content-Length: 5\r\n", "hello"), chunked("5\r\nhello\r\n0\r\nX: 1\r\n\r\n")]
    {
        let answer = client.ask(&request).expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"ok":true}"#));
    }
    let received = backend.take();
    assert_eq!(received.violations, Vec::<String>::new());
    let bodies: Vec<_> = received.whole.iter().map(|request| request.body.as_slice()).collect();
    assert_eq!(bodies, [&b""[..], b"hello", b"hello"]);
    assert_eq!(received.whole[0].target, "/a?b");
    assert_eq!(received.whole[0].raw, get("/a?b", "").into_bytes());
    assert_eq!(received.whole[2].trailers.get("x"), Some("1"));
    assert_eq!(backend.connections(), 1);
}

#[test]
fn the_backend_reports_what_no_proxy_may_send() {
    for request in [
        post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        post("Content-Length: 5, 5\r\n", "hello"),
        post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding: gzip\r\n", ""),
        chunked("5 \r\nhello\r\n0\r\n\r\n"),
        chunked("5\nhello\r\n0\r\n\r\n"),
        chunked("5\r\nhello, world\r\n0\r\n\r\n"),
        chunked("0\r\nHost: a\r\n\r\n"),
        get("/c", "X : a\r\n"),
        get("/c", "X: a\n"),
        get("/c", "X: a\r\n b\r\n"),
        get("/c", "X: a\0\r\n"),
        get("/c", "Host: b\r\n"),
        get("/c", "Connection: x-a\r\n"),
        get("/c", "TE: trailers\r\n"),
        get("/c", "Upgrade: h2c\r\n"),
        get("/c", "Keep-Alive: 5\r\n"),
        get("/a/../c", ""),
        get("/%zz", ""),
        get("http://a/c", ""),
        get("*", ""),
        "GET /c HTTP/1.1\r\n\r\n".to_owned(),
        "GET /c HTTP/1.0\r\nHost: a\r\n\r\n".to_owned(),
        "GET  /c HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /c HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(),
    ] {
        let backend = StrictBackend::start();
        let mut client = RawClient::connect(backend.address());
        client.send(&request);
        client.half_close();
        // Its 400 comes after the fault is noted, so reading up to the end is waiting for the note.
        let _ = client.wire().to_end("the end", &mut Vec::new());
        assert_eq!(backend.take().violations.len(), 1, "let through: {request:?}");
    }
}

#[test]
fn the_client_reports_what_no_proxy_may_answer() {
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    for (minor, answer) in [
        (
            1,
            format!(
                "HTTP/1.1 200 OK\r\n{date}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
        ),
        (1, format!("HTTP/1.1 200 OK\r\n{date}\r\nhello")),
        (1, format!("HTTP/1.1 204 No\r\n{date}Content-Length: 0\r\n\r\n")),
        (1, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        (1, format!("HTTP/1.1 200 OK\n{date}Content-Length: 0\r\n\r\n")),
        (1, format!("HTTP/1.1 99 OK\r\n{date}Content-Length: 0\r\n\r\n")),
        (1, format!("HTTP/1.1 200 OK\r\n{date}Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n")),
        (1, format!("HTTP/1.1 200 OK\r\n{date}Connection: x-a\r\nContent-Length: 0\r\n\r\n")),
        (0, format!("HTTP/1.1 200 OK\r\n{date}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
        (0, "HTTP/1.1 103 Early Hints\r\n\r\n".to_owned()),
    ] {
        let backend = StrictBackend::start();
        backend.script("/c", Script::reply(&answer).close());
        let mut client = RawClient::connect(backend.address());
        client.send(get("/c", ""));
        let outcome = client.read("GET", minor);
        assert!(matches!(outcome, Err(Fault::Violation(_))), "{answer:?} was taken as {outcome:?}");
    }
}

#[test]
fn the_client_tells_a_cut_from_an_end() {
    let head = "HTTP/1.1 200 OK\r\nDate: x\r\n";
    for (answer, whole) in [
        (format!("{head}Content-Length: 5\r\n\r\nhello"), true),
        (format!("{head}Content-Length: 6\r\n\r\nhello"), false),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), true),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"), false),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"), false),
        (format!("{head}Connection: close\r\n\r\nhello"), true),
    ] {
        let backend = StrictBackend::start();
        backend.script("/c", Script::reply(&answer).close());
        let outcome = RawClient::connect(backend.address()).ask(get("/c", ""));
        let right = if whole { outcome.is_ok() } else { matches!(outcome, Err(Fault::Cut(_))) };
        assert!(right, "{answer:?}: {outcome:?}");
    }
}
