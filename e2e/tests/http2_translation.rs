//! The same exchange in HTTP/1.1 and HTTP/2 on either side: heads, content, trailers, ends and failures (RFC 9113 §8).

use e2e::frames::{self, Peer, Stream, code, data, headers, request_with, reset};
use e2e::{
    FrameBench, FrameCase, Http2Server, RawClient, RawServer, Script, Setup, Sidelight, Step, before_http2,
    to_other,
};
use e2e::{answer, get_with, post_with};

fn ok(more: &str, rest: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{more}\r\n{rest}")
}

fn ask_http1(proxy: &Sidelight, text: &str) -> e2e::Response {
    RawClient::connect(proxy.outbound()).ask(text).unwrap_or_else(|fault| panic!("{text:?}: {fault}"))
}

#[test]
fn http2_requests_become_http1() {
    let bench = FrameBench::start();
    let trailers =
        [post_with(&[("trailer", "x-sum")]), data(1, "abc", false), headers(1, &[("x-sum", "7")], true)];
    bench.run(&[
        FrameCase::pass("cookie crumbs are joined", get_with(&[("cookie", "a=1"), ("cookie", "b=2; c=3")]))
            .saw("cookie", "a=1; b=2; c=3"),
        FrameCase::pass("GET without content", get_with(&[]))
            .saw_no("content-length")
            .saw_no("transfer-encoding"),
        FrameCase::pass("POST without content", headers(1, &frames::request("POST", "/c"), true))
            .saw("content-length", "0")
            .saw_no("transfer-encoding"),
        FrameCase::pass(
            "a content-length stays",
            [post_with(&[("content-length", "3")]), data(1, "abc", true)].concat(),
        )
        .saw("content-length", "3")
        .saw_no("transfer-encoding")
        .body("abc"),
        FrameCase::pass("content without a length is chunked", {
            [post_with(&[]), data(1, "abc", false), data(1, "", false), data(1, "def", true)].concat()
        })
        .saw("transfer-encoding", "chunked")
        .saw_no("content-length")
        .body("abcdef"),
        FrameCase::pass("content that ends with an empty frame", {
            [post_with(&[]), data(1, "abc", false), data(1, "", true)].concat()
        })
        .body("abc"),
        FrameCase::pass("trailers", trailers.concat()).body("abc"),
        FrameCase::pass(
            "repeated fields keep their order",
            get_with(&[("x-a", "1"), ("x-b", "2"), ("x-a", "3")]),
        )
        .saw("x-b", "2"),
        FrameCase::pass("te: trailers stays on this hop or is nominated", get_with(&[("te", "trailers")])),
        FrameCase::pass("an interim answer and the final one", get_with(&[])).script(Script::reply(
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        )),
    ]);
    bench.finish();
}

#[test]
fn trailers_of_a_request_reach_an_http1_app() {
    let bench = FrameBench::start();
    let mut client = bench.client();
    client.send([post_with(&[]), data(1, "abc", false), headers(1, &[("x-sum", "7")], true)].concat());
    let answer = client.finish(1).unwrap();
    assert_eq!(answer.status(), 200);
    let seen = bench.backend().take_after(1).whole.remove(0);
    assert_eq!(seen.trailers.get("x-sum"), Some("7"), "{seen:?}");
    drop(client);
    bench.finish();
}

#[test]
fn http1_answers_become_http2() {
    let bench = FrameBench::start();
    let ask = |method: &str, script: Script| -> Stream {
        bench.backend().script("/c", script);
        let mut client = bench.client();
        client.send(headers(1, &request_with(method, "/c", &[]), true));
        client.finish(1).unwrap_or_else(|fault| panic!("{method}: {fault}"))
    };
    let chunked = "Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n";
    let answer = ask("GET", Script::reply(ok(chunked, "3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n")));
    assert_eq!((answer.text().as_str(), answer.trailer("x-sum")), ("abc", Some("7")), "{answer:?}");
    assert_eq!(answer.get("transfer-encoding"), None, "{answer:?}");

    let hop = "Connection: keep-alive, x-hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nX-End: 2\r\nContent-Length: 2\r\n";
    let answer = ask("GET", Script::reply(ok(hop, "ok")));
    assert_eq!(answer.text(), "ok");
    for name in ["connection", "keep-alive", "x-hop"] {
        assert_eq!(answer.get(name), None, "{name} in {answer:?}");
    }
    assert_eq!((answer.get("x-end"), answer.get("content-length")), (Some("2"), Some("2")));
    assert!(
        answer.fields.iter().all(|(name, _)| name.chars().all(|c| !c.is_ascii_uppercase())),
        "{answer:?}"
    );

    let answer = ask("HEAD", Script::reply(ok("Content-Length: 1234\r\n", "")));
    assert_eq!((answer.body_bytes, answer.get("content-length")), (0, Some("1234")), "{answer:?}");

    let answer = ask("GET", Script::reply("HTTP/1.1 204 No Content\r\n\r\n"));
    assert_eq!((answer.status(), answer.body_bytes, answer.get("content-length")), (204, 0, None));

    let answer = ask("GET", Script::reply("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"));
    assert_eq!((answer.status(), answer.body_bytes, answer.get("etag")), (304, 0, Some("\"a\"")));

    let answer = ask("GET", Script::reply(ok("Connection: close\r\n", "until the end")).close());
    assert_eq!((answer.status(), answer.text().as_str()), (200, "until the end"));

    let answer =
        ask("GET", Script::reply(ok("Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n", "")));
    let cookies: Vec<&str> = answer
        .fields
        .iter()
        .filter(|(name, _)| name == "set-cookie")
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(cookies, ["a=1", "b=2"]);

    for (name, script) in [
        ("a short content-length", Script::reply(ok("Content-Length: 100\r\n", "abc")).close()),
        (
            "a chunked body without its end",
            Script::reply(ok("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n")).close(),
        ),
        ("a reset in the content", Script::reply(ok("Content-Length: 100\r\n", "abc")).then(Step::Reset)),
    ] {
        let answer = ask("GET", script);
        let is_told = answer.reset.is_some_and(|code| code != code::NO_ERROR && code != code::CANCEL);
        assert!((is_told && !answer.is_ended) || answer.status() == 502, "{name}: looks whole: {answer:?}");
        let event =
            bench.proxy().events().find(name, |event| event["sidelight.cause"] == "response_incomplete");
        assert!(event["http.response.status_code"] == 200, "{event}");
    }
    bench.finish();
}

#[test]
fn content_streams_both_ways_at_once() {
    // An app that answers each chunk as it comes.
    let app = RawServer::start(|mut wire, _| {
        let head = |wire: &mut e2e::Wire| while !wire.line("head").unwrap().is_empty() {};
        head(&mut wire);
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        loop {
            let size = String::from_utf8(wire.line("size").unwrap()).unwrap();
            let size = u64::from_str_radix(&size, 16).unwrap();
            let mut chunk = Vec::new();
            wire.exact(size + 2, "chunk", &mut chunk).unwrap();
            wire.send(&[format!("{size:x}\r\n").as_bytes(), &chunk].concat()).unwrap();
            if size == 0 {
                return;
            }
        }
    });
    let proxy = Sidelight::start(&Setup::app(app.address()));
    let mut client = Peer::connect(proxy.inbound());
    client.send(post_with(&[]));
    for round in 0..5 {
        let text = format!("round {round}");
        client.send(data(1, &text, false));
        client.read_until(|peer| peer.stream(1).text().ends_with(&text)).unwrap();
        assert!(client.stream(1).text().ends_with(&text), "{:?}", client.stream(1));
    }
    client.send(data(1, "", true));
    let answer = client.finish(1).unwrap();
    assert!(answer.is_ended && answer.body_bytes == 35, "{answer:?}");
    drop(client);
    assert_eq!(proxy.stop().len(), 1);
}

#[test]
fn http1_requests_become_http2() {
    let upstream = Http2Server::plain();
    let proxy = before_http2(&upstream);
    let answer = ask_http1(
        &proxy,
        "GET /a?b=c HTTP/1.1\r\nHost: other\r\nX-Name: v\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n",
    );
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"ok":true}"#));
    let seen = upstream.take().remove(0);
    assert!(seen.fields[..4].iter().all(|(name, _)| name.starts_with(':')), "{seen:?}");
    for (name, value) in [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/a?b=c"),
        (":authority", "other"),
        ("x-name", "v"),
    ] {
        assert_eq!(seen.get(name), Some(value), "{seen:?}");
    }
    for name in ["connection", "x-hop", "host", "transfer-encoding", "te"] {
        assert_eq!(seen.get(name), None, "{name} in {seen:?}");
    }
    assert!(seen.body.is_empty() && seen.trailers.is_empty());

    let answer = ask_http1(&proxy, "POST / HTTP/1.1\r\nHost: other\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(answer.status, 200);
    let seen = upstream.take().remove(0);
    assert_eq!((seen.get("content-length"), seen.body.as_slice()), (Some("3"), &b"abc"[..]));

    let text = "POST / HTTP/1.1\r\nHost: other\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
                3\r\nabc\r\n3\r\ndef\r\n0\r\nx-sum: 7\r\n\r\n";
    assert_eq!(ask_http1(&proxy, text).status, 200);
    let seen = upstream.take().remove(0);
    assert_eq!((seen.text().as_str(), seen.trailer("x-sum")), ("abcdef", Some("7")), "{seen:?}");
    assert_eq!((seen.get("content-length"), seen.get("transfer-encoding")), (None, None), "{seen:?}");

    let text = "POST / HTTP/1.1\r\nHost: other\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let mut client = RawClient::connect(proxy.outbound());
    client.send(text);
    assert_eq!(client.read_interim().unwrap().status, 100);
    assert_eq!(client.ask("abc").unwrap().status, 200);
    assert_eq!(upstream.connections(), 1, "one connection serves them all");
    let events = proxy.stop();
    assert_eq!(events.len(), 4);
}

#[test]
fn http2_answers_become_http1() {
    let upstream = Http2Server::answering(|peer, stream, request| {
        let path = request.get(":path").unwrap_or_default().to_owned();
        match path.as_str() {
            "/trailers" => peer.send(
                [
                    headers(stream, &[(":status", "200")], false),
                    data(stream, "abc", false),
                    headers(stream, &[("x-sum", "7")], true),
                ]
                .concat(),
            ),
            "/nothing" => peer.send(headers(stream, &[(":status", "204")], true)),
            "/hints" => {
                peer.send(headers(stream, &[(":status", "103"), ("link", "</a>")], false));
                answer(peer, stream);
                true
            }
            "/head" => peer.send(headers(stream, &[(":status", "200"), ("content-length", "99")], true)),
            "/short" => peer.send(
                [
                    headers(stream, &[(":status", "200"), ("content-length", "99")], false),
                    data(stream, "abc", true),
                ]
                .concat(),
            ),
            "/reset" => peer.send(
                [headers(stream, &[(":status", "200")], false), data(stream, "abc", false), reset(stream, 2)]
                    .concat(),
            ),
            "/refuse" => peer.send(reset(stream, code::INTERNAL_ERROR)),
            _ => peer.send(headers(stream, &[(":status", "404")], true)),
        };
    });
    let proxy = before_http2(&upstream);
    let get =
        |path: &str| format!("GET {path} HTTP/1.1\r\nHost: other\r\nTE: trailers\r\nConnection: te\r\n\r\n");
    let answer = ask_http1(&proxy, &get("/trailers"));
    assert_eq!((answer.text().as_str(), answer.trailers.get("x-sum")), ("abc", Some("7")), "{answer:?}");
    assert_eq!(answer.framing, e2e::Framing::Chunked);
    let answer = ask_http1(&proxy, &get("/nothing"));
    assert_eq!((answer.status, answer.framing), (204, e2e::Framing::None));
    assert_eq!(ask_http1(&proxy, &get("/hints")).status, 200);
    let answer = ask_http1(&proxy, "HEAD /head HTTP/1.1\r\nHost: other\r\n\r\n");
    assert_eq!((answer.status, answer.fields.get("content-length")), (200, Some("99")));
    let answer = ask_http1(&proxy, &get("/refuse"));
    assert_eq!(answer.status, 502);
    assert!(answer.fields.get("proxy-status").unwrap().contains("upstream_reset"), "{answer:?}");
    for path in ["/short", "/reset"] {
        let mut client = RawClient::connect(proxy.outbound());
        client.send(get(path));
        let cut = client.read("GET", 1);
        assert!(matches!(cut, Err(e2e::Fault::Cut(_))) || cut.is_ok_and(|got| got.status == 502), "{path}");
        proxy.events().find(path, |event| {
            event["url.path"] == path && event["sidelight.cause"] == "response_incomplete"
        });
    }
}

#[test]
fn http2_goes_through_as_http2() {
    let upstream = Http2Server::answering(|peer, stream, request| {
        peer.send(headers(stream, &[(":status", "200")], false));
        peer.send(data(stream, &request.body, false));
        peer.send(headers(stream, &[("x-sum", "7")], true));
    });
    let proxy = before_http2(&upstream);
    let mut client = Peer::connect(proxy.outbound());
    client.send(headers(
        1,
        &to_other("POST", "/a", &[("te", "trailers"), ("cookie", "a=1"), ("cookie", "b=2")]),
        false,
    ));
    client.send([data(1, "abc", false), headers(1, &[("x-in", "1")], true)].concat());
    let answer = client.finish(1).unwrap();
    assert_eq!((answer.text().as_str(), answer.trailer("x-sum")), ("abc", Some("7")), "{answer:?}");
    let seen = upstream.take().remove(0);
    assert_eq!((seen.trailer("x-in"), seen.get("te")), (Some("1"), Some("trailers")), "{seen:?}");
    let answer = client.ask(3, &to_other("GET", "/b", &[])).unwrap();
    assert!(answer.is_ended && answer.status() == 200);
    drop(client);
    assert_eq!(proxy.stop().len(), 2);
}

#[test]
fn an_answer_before_the_content_is_passed_on_at_once() {
    let bench = FrameBench::start();
    bench.backend().script("/c", Script::early(ok("Content-Length: 2\r\n", "ok")));
    let mut client = bench.client();
    client.send([post_with(&[("x-request-id", "early")]), data(1, "abc", false)].concat());
    let answer = client.finish(1).unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"), "{answer:?}");
    // The rest is not wanted, or is still read: the connection goes on either way (RFC 9113 section 8.1).
    client.send(data(1, "def", true));
    bench.clean_request_on("an early answer", &mut client, 3);
    bench.expect_event("an early answer", "early", 200);
    drop(client);
    bench.finish();
}
