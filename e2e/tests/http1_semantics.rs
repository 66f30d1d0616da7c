//! What is meant for this hop alone, and what an answer may carry: RFC 9110, 7.6 (hop-by-hop fields, Max-Forwards,
//! Via), 9.3.2 and 15 (answers without a body).

use e2e::{Bench, Case, Check, get};

/// RFC 9110, 7.6.1: what is meant for this hop stays on this hop, in both directions.
#[test]
fn hop_by_hop_fields_stay_on_their_hop() {
    let bench = Bench::start();
    let with = |lines: &str| get("/c", lines);
    bench.run(&[
        Case::pass("a nominated field", with("Connection: x-drop\r\nX-Drop: 1\r\nX-Keep: 2\r\n"))
            .saw_no("x-drop")
            .saw("x-keep", "2"),
        Case::pass("nominated in another case", with("Connection: X-DROP\r\nx-drop: 1\r\n")).saw_no("x-drop"),
        Case::pass("nominated in a list", with("Connection: keep-alive, x-a , x-b\r\nX-A: 1\r\nX-B: 1\r\n"))
            .saw_no("x-a")
            .saw_no("x-b"),
        Case::pass("nominated in a list with empty members", with("Connection: , x-a,,\r\nX-A: 1\r\n")).saw_no("x-a"),
        Case::pass("nominated on two lines", with("Connection: x-a\r\nConnection: x-b\r\nX-A: 1\r\nX-B: 1\r\n"))
            .saw_no("x-a")
            .saw_no("x-b"),
        Case::pass("nominated, there twice", with("X-A: 1\r\nConnection: x-a\r\nX-A: 2\r\n")).saw_no("x-a"),
        Case::pass("nominated with close", with("Connection: close, x-a\r\nX-A: 1\r\n"))
            .saw_no("x-a")
            .check(Check::Closes),
        Case::pass("Keep-Alive", with("Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n")).saw_no("keep-alive"),
        Case::pass("Keep-Alive, not nominated", with("Keep-Alive: timeout=5\r\n")).saw_no("keep-alive"),
        Case::pass("Proxy-Connection", with("Proxy-Connection: keep-alive\r\n")).saw_no("proxy-connection"),
        Case::pass("TE: trailers", with("Connection: TE\r\nTE: trailers\r\n")).saw("te", "trailers"),
        Case::pass("TE: gzip", with("Connection: TE\r\nTE: gzip\r\n")).saw_no("te"),
        Case::pass("TE: gzip, trailers", with("Connection: TE\r\nTE: gzip;q=0.5, trailers\r\n")).saw("te", "trailers"),
        Case::pass("Upgrade: h2c", with("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"))
            .saw_no("upgrade")
            .saw_no("http2-settings"),
        Case::pass("Upgrade: h2c, not nominated", with("Upgrade: h2c\r\n")).saw_no("upgrade"),
        Case::pass("Upgrade: H2C in a list", with("Connection: upgrade\r\nUpgrade: H2C, foo\r\n")),
        Case::pass("Upgrade without Connection", with("Upgrade: websocket\r\n")).saw_no("upgrade"),
        Case::pass("Connection: upgrade without Upgrade", with("Connection: upgrade\r\n")).saw_no("upgrade"),
        Case::pass("Trailer is end to end", with("Trailer: x-sum\r\n")).saw("trailer", "x-sum"),
        Case::pass("repeated fields keep their order", with("X: 1\r\nY: 2\r\nX: 3\r\n")).saw("y", "2"),
        // RFC 9110, 7.6.1 forbids such a nomination; it must not take the framing away.
        Case::pass_or(
            "Connection: content-length",
            &[400],
            "POST /c HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 5\r\n\r\nhello",
        )
        .saw_body("hello"),
        Case::pass_or(
            "Connection: transfer-encoding",
            &[400],
            "POST /c HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        )
        .saw_body("hello"),
    ]);
    for name in [
        "host",
        "authorization",
        "x-request-id",
        "x-user-id",
        "x-account-id",
        "x-license",
        "x-request-type",
        "x-feature-flags",
        "traceparent",
        "tracestate",
        "baggage",
    ] {
        bench.run(&[
            Case::deny(
                &format!("nominated: {name}"),
                &[400],
                with(&format!("Connection: close, {name}\r\n")),
            ),
            Case::deny(
                &format!("nominated in capitals: {name}"),
                &[400],
                with(&format!("Connection: {}\r\n", name.to_uppercase())),
            ),
        ]);
    }
    bench.run(&[
        Case::deny(
            "nominated on the second line: x-account-id",
            &[400],
            with("Connection: close\r\nConnection: x-account-id\r\nX-Account-Id: 7\r\n"),
        ),
        Case::deny(
            "nominated in HTTP/1.0: authorization",
            &[400],
            "GET /c HTTP/1.0\r\nHost: a\r\nConnection: authorization\r\n\r\n",
        ),
        Case::pass_or("Connection with a space in an option", &[400], with("Connection: x a\r\n")),
    ]);
    bench.finish();
}

/// RFC 9110, 7.6.2: the count goes down by one for OPTIONS and TRACE; at zero this proxy answers.
#[test]
fn max_forwards_counts_for_options_and_trace() {
    let bench = Bench::start();
    let with =
        |method: &str, hops: &str| format!("{method} /c HTTP/1.1\r\nHost: a\r\nMax-Forwards: {hops}\r\n\r\n");
    bench.run(&[
        Case::deny("OPTIONS at 0", &[200, 204], with("OPTIONS", "0")),
        Case::deny("OPTIONS * at 0", &[200, 204], "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"),
        Case::deny("TRACE at 0", &[200, 405, 501], with("TRACE", "0")),
        Case::pass("OPTIONS at 1", with("OPTIONS", "1")).saw("max-forwards", "0"),
        Case::pass("OPTIONS at 10", with("OPTIONS", "10")).saw("max-forwards", "9"),
        Case::pass("TRACE at 5", with("TRACE", "5")).saw("max-forwards", "4"),
        Case::pass("GET at 0 is not concerned", with("GET", "0")).saw("max-forwards", "0"),
        Case::pass("OPTIONS without a count", "OPTIONS /c HTTP/1.1\r\nHost: a\r\n\r\n")
            .saw_no("max-forwards"),
    ]);
    bench.finish();
}

/// RFC 9110, 7.6.3: a gateway names itself in each request that it sends on, after those before it.
#[test]
fn via_names_this_hop() {
    let bench = Bench::start();
    bench.run(&[
        Case::pass("first hop", get("/c", "")).saw("via", "1.1 sidelight"),
        Case::pass("from HTTP/1.0", "GET /c HTTP/1.0\r\nHost: a\r\n\r\n").saw("via", "1.0 sidelight"),
    ]);
    bench.backend().take();
    let answer = bench.client().ask(get("/c", "Via: 1.0 fred\r\n"));
    bench.check("second hop", answer.is_ok_and(|answer| answer.status == 200), "no 200");
    let seen = bench.backend().take_after(1);
    let via = seen.whole[0].fields.list("via");
    bench.check("second hop", via == ["1.0 fred", "1.1 sidelight"], format!("{via:?}"));
    bench.finish();
}

/// RFC 9110, 9.3.2, 15.3.5, 15.4.5: answers without a body, whatever their fields say.
#[test]
fn answers_without_a_body() {
    let bench = Bench::start();
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let reply = |head: &str| e2e::Script::reply(format!("{head}\r\n{date}\r\n"));
    let head = "HEAD /c HTTP/1.1\r\nHost: a\r\n\r\n";
    let refused = |lines: &str, rest: &str| format!("POST /%00 HTTP/1.1\r\nHost: a\r\n{lines}\r\n{rest}");
    let sized = |status: u16| e2e::Answer::Relayed(status);
    bench.run(&[
        Case::pass("HEAD with a length", head)
            .script(reply("HTTP/1.1 200 OK\r\nContent-Length: 1000"))
            .check(Check::Got("content-length", "1000")),
        Case::pass("HEAD with chunks", head).script(reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked")),
        Case::pass("HEAD without either", head).script(reply("HTTP/1.1 200 OK")),
        Case::pass("HEAD of an error", head)
            .script(reply("HTTP/1.1 404 Not Found\r\nContent-Length: 9"))
            .answer(sized(404)),
        Case::pass("204", get("/c", "")).script(reply("HTTP/1.1 204 No Content")).answer(sized(204)),
        Case::pass("304", get("/c", ""))
            .script(reply("HTTP/1.1 304 Not Modified\r\nETag: \"a\""))
            .answer(sized(304))
            .check(Check::Got("etag", "\"a\"")),
        Case::pass("304 with a length", get("/c", ""))
            .script(reply("HTTP/1.1 304 Not Modified\r\nContent-Length: 1000"))
            .answer(sized(304)),
        Case::pass("304 with chunks", get("/c", ""))
            .script(reply("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked"))
            .answer(sized(304)),
        // RFC 9110, 8.6 forbids the length; the client's parser refuses to see one.
        Case::pass("204 with length 0", get("/c", ""))
            .script(reply("HTTP/1.1 204 No Content\r\nContent-Length: 0"))
            .answer(sized(204)),
        Case::pass("200 with length 0", get("/c", "")).script(reply("HTTP/1.1 200 OK\r\nContent-Length: 0")),
        // RFC 9110, 9.3.2: the proxy's own answer to HEAD has no body either, however early it refuses.
        Case::deny("refused HEAD", &[400], "HEAD /%00 HTTP/1.1\r\nHost: a\r\n\r\n"),
        Case::refuse("malformed HEAD", &[400], "HEAD /c HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n"),
        // The body of a refused request is not the next request.
        Case::deny("refused with a body by length", &[400], refused("Content-Length: 5\r\n", "hello")),
        Case::deny(
            "refused with a body by chunks",
            &[400],
            refused("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ),
    ]);
    bench.finish();
}
