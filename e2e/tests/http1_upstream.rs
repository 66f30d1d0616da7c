//! What the app answers, and what the client gets to see of it: RFC 9112, 4 to 7, and RFC 9110, 15.2. A broken answer
//! becomes 502, a cut one is seen as cut, and nothing that an app sends too much reaches the next client.

use std::time::Duration;

use e2e::{Answer, Bench, Case, Check, Reach, Script, Step, get, post};

const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT";
const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";

/// An answer by status line and field lines, with what follows the head.
fn raw(status: &str, lines: &str, rest: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{DATE}\r\n{lines}\r\n{rest}")
}

fn ok(lines: &str, rest: &str) -> Script {
    Script::reply(raw("200 OK", lines, rest))
}

/// RFC 9112, 6.3: framing of a response that can be read in two ways, or in none.
#[test]
fn ambiguous_framing_of_an_answer_is_502() {
    let bench = Bench::start();
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    for (name, lines, rest) in [
        ("length list, the same", "Content-Length: 5, 5\r\n", "hello"),
        ("length list, different", "Content-Length: 5, 6\r\n", "hello!"),
        ("length twice, the same", "Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        ("length twice, different", "Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
        ("length with plus", "Content-Length: +5\r\n", "hello"),
        ("length with minus", "Content-Length: -5\r\n", "hello"),
        ("length of letters", "Content-Length: abc\r\n", "hello"),
        ("length in hexadecimal", "Content-Length: 0x5\r\n", "hello"),
        ("length empty", "Content-Length:\r\n", "hello"),
        ("length 2^64", "Content-Length: 18446744073709551616\r\n", "hello"),
        ("length and chunks", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", chunks),
        ("chunks and length", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", chunks),
        ("coding gzip", "Transfer-Encoding: gzip\r\n", "hello"),
        ("coding gzip, chunked", "Transfer-Encoding: gzip, chunked\r\n", chunks),
        ("coding chunked, gzip", "Transfer-Encoding: chunked, gzip\r\n", chunks),
        ("coding chunked, chunked", "Transfer-Encoding: chunked, chunked\r\n", chunks),
        ("coding twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunks),
        ("coding identity", "Transfer-Encoding: identity\r\n", "hello"),
        ("coding xchunked", "Transfer-Encoding: xchunked\r\n", chunks),
        ("coding empty", "Transfer-Encoding:\r\n", chunks),
        ("coding after a vertical tab", "Transfer-Encoding: \u{b}chunked\r\n", chunks),
    ] {
        bench.run(&[Case::upstream(name, ok(lines, rest).close())]);
    }
    let old = format!("HTTP/1.0 200 OK\r\n{DATE}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    bench.run(&[Case::upstream("chunks in HTTP/1.0", Script::reply(old).close())]);
    bench.finish();
}

/// RFC 9112, 4 and 5: what is not a status line with field lines is no answer.
#[test]
fn malformed_answers_are_502() {
    let bench = Bench::start();
    let body = "Content-Length: 2\r\n";
    for (name, bytes) in [
        ("status 99", raw("99 Low", body, "ok")),
        ("status 099", raw("099 Low", body, "ok")),
        ("status 000", raw("000 Zero", body, "ok")),
        ("status 1000", raw("1000 High", body, "ok")),
        ("status of letters", raw("abc No", body, "ok")),
        ("status with a letter", raw("2x0 No", body, "ok")),
        ("status with a sign", raw("+200 No", body, "ok")),
        ("no status", format!("HTTP/1.1\r\n{body}\r\nok")),
        ("two spaces before the status", raw(" 200 OK", body, "ok")),
        ("version HTTP/2.0", format!("HTTP/2.0 200 OK\r\n{body}\r\nok")),
        ("version HTTP/0.9", format!("HTTP/0.9 200 OK\r\n{body}\r\nok")),
        ("version in lower case", format!("http/1.1 200 OK\r\n{body}\r\nok")),
        ("another protocol", format!("ICY 200 OK\r\n{body}\r\nok")),
        ("no HTTP at all", "hello, world\r\n".to_owned()),
        ("an SSH banner", "SSH-2.0-OpenSSH_9.6\r\n".to_owned()),
        ("lines end in bare LF", format!("HTTP/1.1 200 OK\n{DATE}\nContent-Length: 2\n\nok")),
        ("one line ends in bare LF", format!("HTTP/1.1 200 OK\r\nX: a\n{body}\r\nok")),
        ("bare CR in a value", raw("200 OK", "X: a\rY: b\r\nContent-Length: 2\r\n", "ok")),
        ("NUL in a value", raw("200 OK", "X: a\0b\r\nContent-Length: 2\r\n", "ok")),
        ("control character in a value", raw("200 OK", "X: a\u{1}b\r\nContent-Length: 2\r\n", "ok")),
        ("control character in the reason", raw("200 O\u{1}K", body, "ok")),
        ("folded line", raw("200 OK", "X: a\r\n b\r\nContent-Length: 2\r\n", "ok")),
        ("space within a name", raw("200 OK", "X Y: a\r\nContent-Length: 2\r\n", "ok")),
        ("no name", raw("200 OK", ": a\r\nContent-Length: 2\r\n", "ok")),
        ("no colon", raw("200 OK", "X\r\nContent-Length: 2\r\n", "ok")),
        ("space before the first field", format!("HTTP/1.1 200 OK\r\n X: a\r\n{body}\r\nok")),
        ("20,000 fields", raw("200 OK", &format!("{body}{}", "X: a\r\n".repeat(20_000)), "ok")),
        ("300 fields", raw("200 OK", &format!("{body}{}", "X: a\r\n".repeat(300)), "ok")),
        ("a field of 200 KiB", raw("200 OK", &format!("{body}X: {}\r\n", "x".repeat(200 << 10)), "ok")),
        ("a reason of 200 KiB", raw(&format!("200 {}", "x".repeat(200 << 10)), body, "ok")),
        ("a head that ends early", format!("HTTP/1.1 200 OK\r\n{DATE}\r\nContent-")),
        ("a status line that ends early", "HTTP/1.1 20".to_owned()),
    ] {
        bench.run(&[Case::upstream(name, Script::reply(bytes).close())]);
    }
    bench.run(&[
        // POST, because a GET on a connection that was in use before may be sent again (RFC 9110, 9.2.2).
        Case::upstream("a reset instead of an answer", Script(vec![Step::ReadBody, Step::Reset]))
            .request(post("Content-Length: 5\r\n", "hello")),
        Case::upstream("an end instead of an answer", Script(vec![Step::ReadBody, Step::Close]))
            .request(post("Content-Length: 5\r\n", "hello")),
        Case::upstream(
            "101 that nobody asked for",
            Script::reply(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            )
            .close(),
        ),
        Case::upstream(
            "101 to h2c, which was not forwarded",
            Script::reply("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
                .close(),
        )
        .request(get(
            "/c",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        )),
        // RFC 9112, 5.1: a proxy removes that space, or refuses the answer.
        Case::pass_or("space before a colon", &[502], get("/c", ""))
            .reach(Reach::Once)
            .script(ok("X : a\r\nContent-Length: 2\r\n", "ok").close()),
    ]);
    bench.finish();
}

/// RFC 9112, 8: the client must be able to see that an answer is not whole.
#[test]
fn a_cut_answer_is_seen_as_cut() {
    let bench = Bench::start();
    let cut = |name: &str, script: Script| Case::upstream(name, script).answer(Answer::Cut(200));
    let chunked = "Transfer-Encoding: chunked\r\n";
    bench.run(&[
        cut("short of its length", ok("Content-Length: 100\r\n", "hello").close()),
        cut("length without a byte", ok("Content-Length: 100\r\n", "").close()),
        cut("reset short of its length", ok("Content-Length: 100\r\n", "hello").then(Step::Reset)),
        cut("within a chunk", ok(chunked, "64\r\nhello").close()),
        cut("after a chunk", ok(chunked, "5\r\nhello\r\n").close()),
        cut("within a chunk size", ok(chunked, "5\r\nhello\r\n5").close()),
        cut("before the end of the trailers", ok(chunked, "5\r\nhello\r\n0\r\n").close()),
        cut("within the trailers", ok(chunked, "5\r\nhello\r\n0\r\nX: a").close()),
        cut("chunk size not hexadecimal", ok(chunked, "5\r\nhello\r\nzz\r\nhello\r\n0\r\n\r\n").close()),
        cut(
            "chunk size of 17 digits",
            ok(chunked, "5\r\nhello\r\n10000000000000005\r\nhello\r\n0\r\n\r\n").close(),
        ),
        cut("chunk data longer than its size", ok(chunked, "5\r\nhello, world\r\n0\r\n\r\n").close()),
        cut("chunk lines end in bare LF", ok(chunked, "5\nhello\n0\n\n").close()),
        cut(
            "endless chunk extension",
            ok(chunked, &format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(100 << 10))).close(),
        ),
        cut("malformed trailer", ok(chunked, "5\r\nhello\r\n0\r\nX Y: a\r\n\r\n").close()),
        cut(
            "two thousand trailers",
            ok(chunked, &format!("5\r\nhello\r\n0\r\n{}\r\n", "X: a\r\n".repeat(2000))).close(),
        ),
    ]);
    let old = |name: &str, script: Script| cut(name, script).request("GET /c HTTP/1.0\r\nHost: a\r\n\r\n");
    bench.run(&[old("short of its length, for HTTP/1.0", ok("Content-Length: 100\r\n", "hello").close())]);
    bench.finish();
}

/// RFC 9112, 6.3 and 7.1: bodies of every framing arrive whole, framed for the client's version.
#[test]
fn bodies_are_framed_for_the_client() {
    let bench = Bench::start();
    let hello = || Check::GotBody(b"hello".to_vec());
    let old = "GET /c HTTP/1.0\r\nHost: a\r\n\r\n";
    let new = || get("/c", "");
    let chunks = || ok("Transfer-Encoding: chunked\r\n", "2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n");
    bench.run(&[
        Case::pass("by length", new()).script(ok("Content-Length: 5\r\n", "hello")).check(hello()),
        Case::pass("by chunks", new()).script(chunks()).check(hello()),
        Case::pass("by chunks with a trailer", new())
            .script(ok("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"))
            .check(hello())
            .check(Check::GotTrailer("x-sum", "1")),
        // The client's parser reports a trailer that acts as a header.
        Case::pass("by chunks with forbidden trailers", new())
            .script(ok(
                "Transfer-Encoding: chunked\r\n",
                "5\r\nhello\r\n0\r\nContent-Length: 9\r\nSet-Cookie: a=b\r\nX-Sum: 1\r\n\r\n",
            ))
            .check(hello())
            .check(Check::GotTrailer("x-sum", "1")),
        Case::pass("by the end, chunked for HTTP/1.1", new())
            .script(ok("", "hello").close())
            .check(hello())
            .check(Check::Got("transfer-encoding", "chunked"))
            .check(Check::StaysOpen),
        Case::pass("by the end, nothing in it", new())
            .script(ok("", "").close())
            .check(Check::GotBody(Vec::new())),
        Case::pass("by the end of HTTP/1.0", new())
            .script(Script::reply(format!("HTTP/1.0 200 OK\r\n{DATE}\r\n\r\nhello")).close())
            .check(hello()),
        Case::pass("by length in HTTP/1.0", new())
            .script(
                Script::reply(format!("HTTP/1.0 200 OK\r\n{DATE}\r\nContent-Length: 5\r\n\r\nhello")).close(),
            )
            .check(hello()),
        Case::pass("by length, for HTTP/1.0", old)
            .script(ok("Content-Length: 5\r\n", "hello"))
            .check(hello()),
        Case::pass("by chunks, for HTTP/1.0", old)
            .script(chunks())
            .check(hello())
            .check(Check::GotNo("transfer-encoding")),
        Case::pass("by the end, for HTTP/1.0", old).script(ok("", "hello").close()).check(hello()),
        Case::pass(
            "by length, kept alive for HTTP/1.0",
            "GET /c HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        )
        .script(ok("Content-Length: 5\r\n", "hello"))
        .check(hello()),
        Case::pass("in pieces", new())
            .script(
                Script(vec![
                    Step::ReadBody,
                    Step::Send(b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Le".to_vec()),
                ])
                .then(Step::Pause(Duration::from_millis(10)))
                .then(Step::Send(b"ngth: 5\r\n\r\nhe".to_vec()))
                .then(Step::Pause(Duration::from_millis(10)))
                .then(Step::Send(b"llo".to_vec())),
            )
            .check(hello()),
    ]);
    bench.finish();
}

/// RFC 9110, 15: codes of no known meaning, reasons and fields come through as they are.
#[test]
fn odd_but_right_answers_go_through() {
    let bench = Bench::start();
    let empty = "Content-Length: 0\r\n";
    let with = |status: &str| Script::reply(raw(status, empty, ""));
    let status = |name: &str, line: &str, code: u16| {
        Case::pass(name, get("/c", "")).script(with(line)).answer(Answer::Relayed(code))
    };
    bench.run(&[
        status("299", "299 Odd", 299),
        status("451", "451 Unavailable For Legal Reasons", 451),
        status("599", "599 Odd", 599),
        status("an empty reason", "200 ", 200),
        status("a reason beyond ASCII", "200 Tr\u{e8}s bien", 200),
        Case::pass("a Date is added", get("/c", ""))
            .script(Script::reply("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")),
        Case::pass("Date is kept", get("/c", ""))
            .script(ok(empty, ""))
            .check(Check::Got("date", "Sun, 06 Nov 1994 08:49:37 GMT")),
        Case::pass("Server is kept", get("/c", ""))
            .script(ok(&format!("{empty}Server: app/1\r\n"), ""))
            .check(Check::Got("server", "app/1")),
        Case::pass("a value with obs-text", get("/c", ""))
            .script(ok(&format!("{empty}X: caf\u{e9}\r\n"), ""))
            .check(Check::Got("x", "caf\u{c3}\u{a9}")),
        Case::pass("a hundred fields", get("/c", ""))
            .script(ok(&format!("{empty}{}", "X: a\r\n".repeat(100)), "")),
    ]);
    bench.finish();
}

/// RFC 9110, 7.6.1: what the app nominates is for the proxy alone.
#[test]
fn hop_by_hop_fields_of_an_answer_stay_on_their_hop() {
    let bench = Bench::start();
    let with = |lines: &str| ok(&format!("{lines}Content-Length: 2\r\n"), "ok");
    let case = |name: &str, lines: &str| Case::pass(name, get("/c", "")).script(with(lines));
    bench.run(&[
        case("nominated", "Connection: x-up\r\nX-Up: 1\r\nX-Keep: 2\r\n")
            .check(Check::GotNo("x-up"))
            .check(Check::Got("x-keep", "2")),
        case("nominated on two lines", "Connection: x-a\r\nConnection: X-B\r\nX-A: 1\r\nX-B: 1\r\n")
            .check(Check::GotNo("x-a"))
            .check(Check::GotNo("x-b")),
        case("Keep-Alive", "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n")
            .check(Check::GotNo("keep-alive")),
        case("Keep-Alive, not nominated", "Keep-Alive: timeout=5\r\n").check(Check::GotNo("keep-alive")),
        case("Proxy-Connection", "Proxy-Connection: keep-alive\r\n").check(Check::GotNo("proxy-connection")),
        case("Upgrade in a 200", "Connection: upgrade\r\nUpgrade: h2c\r\n").check(Check::GotNo("upgrade")),
        case("Upgrade in a 200, not nominated", "Upgrade: h2c\r\n").check(Check::GotNo("upgrade")),
        Case::pass("Connection: close ends the upstream connection alone", get("/c", ""))
            .script(with("Connection: close\r\n").close())
            .check(Check::StaysOpen),
        Case::pass("nominated content-length keeps its meaning", get("/c", ""))
            .script(ok("Connection: content-length\r\nContent-Length: 5\r\n", "hello").close())
            .answer(Answer::Either(200, vec![502]))
            .check(Check::GotBody(b"hello".to_vec())),
    ]);
    bench.finish();
}

/// RFC 9110, 15.2: interim answers go to clients that know them.
#[test]
fn interim_answers_are_relayed_to_http_1_1_alone() {
    let bench = Bench::start();
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
    let last = raw("200 OK", "Content-Length: 2\r\n", "ok");
    let script = |first: &str| Script::reply(format!("{first}{last}"));
    let old = "GET /c HTTP/1.0\r\nHost: a\r\n\r\n";
    bench.run(&[
        Case::pass("103", get("/c", "")).script(script(early)).check(Check::GotInterim(&[103])),
        Case::pass("103 twice", get("/c", ""))
            .script(script(&early.repeat(2)))
            .check(Check::GotInterim(&[103, 103])),
        Case::pass("102 and 103", get("/c", ""))
            .script(script(&format!("HTTP/1.1 102 Processing\r\n\r\n{early}")))
            .check(Check::GotInterim(&[102, 103])),
        Case::pass("103, not for HTTP/1.0", old).script(script(early)).check(Check::GotInterim(&[])),
        Case::pass("100 that nobody expected, not for HTTP/1.0", old)
            .script(script("HTTP/1.1 100 Continue\r\n\r\n"))
            .check(Check::GotInterim(&[])),
        Case::upstream("interim answers and no final one", Script::reply(early.repeat(100)).close())
            .answer(Answer::Own(vec![502])),
        Case::upstream(
            "malformed after an interim answer",
            script(&format!("{early}HTTP/1.1 2x0 No\r\n\r\n")).close(),
        ),
    ]);
    bench.finish();
}

/// Bytes after an answer's end belong to nobody: the connection they came on is not used again.
#[test]
fn what_follows_an_answer_never_answers_another() {
    let bench = Bench::start();
    let head = "HEAD /c HTTP/1.1\r\nHost: a\r\n\r\n";
    let body = |script: Script| Case::pass("", get("/c", "")).script(script);
    let rows = [
        ("after a length", body(ok("Content-Length: 2\r\n", &format!("ok{EVIL}")))),
        (
            "after the last chunk",
            body(ok("Transfer-Encoding: chunked\r\n", &format!("2\r\nok\r\n0\r\n\r\n{EVIL}"))),
        ),
        ("after length 0", body(ok("Content-Length: 0\r\n", EVIL))),
        ("after 204", body(Script::reply(raw("204 No Content", "", EVIL))).answer(Answer::Relayed(204))),
        (
            "after 204 with a length",
            body(Script::reply(raw("204 No Content", "Content-Length: 5\r\n", "hello")))
                .answer(Answer::Relayed(204)),
        ),
        (
            "after 304 with a length",
            body(Script::reply(raw("304 Not Modified", "Content-Length: 5\r\n", "hello")))
                .answer(Answer::Relayed(304)),
        ),
        ("after HEAD", body(ok("Content-Length: 5\r\n", "hello")).request(head)),
        (
            "after HEAD with chunks",
            body(ok("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n")).request(head),
        ),
    ];
    for (name, case) in rows {
        // The clean requests that follow each row would get "evil".
        bench.run(&[case.named(name)]);
    }
    bench.finish();
}
