//! Where a request ends: RFC 9112, 2.2 (lines), 5 (fields), 6 (length) and 7.1 (chunks). Whatever two parsers could
//! read in two ways is refused, and nothing of it reaches the app; whatever is well-formed goes through whole.

use std::time::Duration;

use e2e::{Act, Bench, Case, Check, chunked, get, post};

/// What would be a request of its own if the proxy took the wrong end for the right one.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: app.example\r\n\r\n";

fn table(rows: &[(&str, &[u16], String)]) -> Vec<Case> {
    rows.iter().map(|(name, status, bytes)| Case::refuse(name, status, bytes)).collect()
}

/// RFC 9112, 6.3: one decimal Content-Length, or none.
#[test]
fn content_length_is_one_plain_number() {
    let bench = Bench::start();
    let with = |value: &str| post(&format!("Content-Length: {value}\r\n"), "hello");
    let nines = "9".repeat(100);
    bench.run(&table(&[
        ("twice the same", &[400], post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello")),
        ("twice, different", &[400], post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!")),
        ("twice, different case", &[400], post("Content-Length: 5\r\ncontent-length: 0\r\n", "hello")),
        ("list, the same", &[400], with("5, 5")),
        ("list, different", &[400], with("5, 6")),
        ("list with an empty member", &[400], with("5,")),
        ("plus sign", &[400], with("+5")),
        ("minus sign", &[400], with("-5")),
        ("minus zero", &[400], with("-0")),
        ("space within", &[400], with("5 5")),
        ("tab within", &[400], with("5\t5")),
        ("hexadecimal", &[400], with("0x5")),
        ("letter after", &[400], with("5a")),
        ("fraction", &[400], with("5.0")),
        ("exponent", &[400], with("5e0")),
        ("quoted", &[400], with("\"5\"")),
        ("semicolon", &[400], with("5;x=1")),
        ("underscore", &[400], with("1_0")),
        ("empty", &[400], with("")),
        ("Arabic-Indic digit", &[400], with("\u{665}")),
        ("2^64", &[400, 413], with("18446744073709551616")),
        ("2^64 + 5", &[400, 413], with("18446744073709551621")),
        ("a hundred nines", &[400, 413], with(&nines)),
        ("vertical tab before", &[400], with("\u{b}5")),
        ("form feed after", &[400], with("5\u{c}")),
    ]));
    bench.finish();
}

/// RFC 9112, 6.1 and 6.3: `chunked`, once, last, alone, and never with a Content-Length or in HTTP/1.0.
#[test]
fn transfer_encoding_is_chunked_alone() {
    let bench = Bench::start();
    let end = format!("0\r\n\r\n{SMUGGLED}");
    let with = |lines: &str| post(lines, &end);
    let te = |value: &str| post(&format!("Transfer-Encoding: {value}\r\n"), &end);
    let old = |lines: &str| format!("POST /c HTTP/1.0\r\nHost: app.example\r\n{lines}\r\n{end}");
    bench.run(&table(&[
        ("with Content-Length before", &[400], with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")),
        ("with Content-Length after", &[400], with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")),
        ("with Content-Length 0", &[400], with("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n")),
        (
            "another coding, with Content-Length",
            &[400, 501],
            with("Content-Length: 5\r\nTransfer-Encoding: x\r\n"),
        ),
        ("twice", &[400, 501], with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")),
        (
            "twice, the second unknown",
            &[400, 501],
            with("Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n"),
        ),
        (
            "twice, gzip then chunked",
            &[400, 501],
            with("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
        ),
        ("chunked, chunked", &[400, 501], te("chunked, chunked")),
        ("identity, chunked", &[400, 501], te("identity, chunked")),
        ("chunked, identity", &[400, 501], te("chunked, identity")),
        ("identity", &[400, 501], te("identity")),
        ("gzip", &[400, 501], te("gzip")),
        ("gzip, chunked", &[400, 501], te("gzip, chunked")),
        ("chunked, gzip", &[400, 501], te("chunked, gzip")),
        ("empty member before", &[400, 501], te(", chunked")),
        ("empty member after", &[400, 501], te("chunked,")),
        ("letter before", &[400, 501], te("xchunked")),
        ("letter after", &[400, 501], te("chunkedx")),
        ("parameter", &[400, 501], te("chunked;q=1")),
        ("quoted", &[400, 501], te("\"chunked\"")),
        ("empty", &[400, 501], te("")),
        ("comma alone", &[400, 501], te(",")),
        ("vertical tab before", &[400], te("\u{b}chunked")),
        ("form feed after", &[400], te("chunked\u{c}")),
        ("no-break space before", &[400, 501], te("\u{a0}chunked")),
        ("two words", &[400, 501], te("chunked foo")),
        ("space before the colon", &[400], with("Transfer-Encoding : chunked\r\n")),
        ("tab before the colon", &[400], with("Transfer-Encoding\t: chunked\r\n")),
        ("folded", &[400], with("Transfer-Encoding:\r\n chunked\r\n")),
        ("after a bare CR", &[400], with("X: a\rTransfer-Encoding: chunked\r\n")),
        ("after a bare LF", &[400], with("X: a\nTransfer-Encoding: chunked\r\n")),
        ("in HTTP/1.0", &[400], old("Transfer-Encoding: chunked\r\n")),
        (
            "in HTTP/1.0 with Content-Length",
            &[400],
            old("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        ),
        ("in HTTP/1.0 kept alive", &[400], old("Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n")),
    ]));
    bench.finish();
}

/// RFC 9112, 2.2 and 5: CRLF ends a line, a field is token, colon, value.
#[test]
fn field_lines_have_one_form() {
    let bench = Bench::start();
    let with = |lines: &str| get("/c", lines);
    let first = |line: &str| format!("GET /c HTTP/1.1\r\n{line}Host: app.example\r\n\r\n");
    bench.run(&table(&[
        ("all lines end in bare LF", &[400], "GET /c HTTP/1.1\nHost: app.example\n\n".to_owned()),
        ("request line ends in bare LF", &[400], "GET /c HTTP/1.1\nHost: app.example\r\n\r\n".to_owned()),
        ("field line ends in bare LF", &[400], with("X: a\n")),
        ("empty line is a bare LF", &[400], "GET /c HTTP/1.1\r\nHost: app.example\r\n\n".to_owned()),
        ("length ends in bare LF", &[400], post("Content-Length: 5\n", "hello")),
        ("request line ends in bare CR", &[400], "GET /c HTTP/1.1\rHost: app.example\r\n\r\n".to_owned()),
        ("bare CR within a value", &[400], with("X: a\rb\r\n")),
        ("CR CR LF", &[400], with("X: a\r\r\n")),
        ("bare CR before the colon", &[400], with("X\r: a\r\n")),
        ("obsolete fold by space", &[400], with("X: a\r\n b\r\n")),
        ("obsolete fold by tab", &[400], with("X: a\r\n\tb\r\n")),
        ("fold of nothing", &[400], with("X: a\r\n \r\n")),
        ("space before the first field", &[400], first(" X: a\r\n")),
        ("tab before the first field", &[400], first("\tX: a\r\n")),
        ("line of spaces before the first field", &[400], first("  \r\n")),
        ("space before the colon", &[400], with("X : a\r\n")),
        (
            "Host with a space before the colon",
            &[400],
            "GET /c HTTP/1.1\r\nHost : app.example\r\n\r\n".to_owned(),
        ),
        ("length with a space before the colon", &[400], post("Content-Length : 5\r\n", "hello")),
        ("space within the name", &[400], with("X Y: a\r\n")),
        ("no name", &[400], with(": a\r\n")),
        ("no colon", &[400], with("X\r\n")),
        ("name with a parenthesis", &[400], with("X(Y): a\r\n")),
        ("name with an at sign", &[400], with("X@Y: a\r\n")),
        ("name with a slash", &[400], with("X/Y: a\r\n")),
        ("name with a quote", &[400], with("X\"Y: a\r\n")),
        ("name with NUL", &[400], with("X\0Y: a\r\n")),
        ("name with a letter beyond ASCII", &[400], with("Xé: a\r\n")),
        ("NUL in a value", &[400], with("X: a\0b\r\n")),
        ("control character in a value", &[400], with("X: a\u{1}b\r\n")),
        ("escape character in a value", &[400], with("X: a\u{1b}[31m\r\n")),
        ("DEL in a value", &[400], with("X: a\u{7f}b\r\n")),
        ("vertical tab in a value", &[400], with("X: a\u{b}b\r\n")),
    ]));
    bench.finish();
}

/// What looks odd and is right must go through unharmed.
#[test]
fn odd_but_right_goes_through() {
    let bench = Bench::start();
    let latin = b"GET /c HTTP/1.1\r\nHost: app.example\r\nX: caf\xe9\r\n\r\n";
    bench.run(&[
        Case::pass("codings in any case", post("Transfer-Encoding: CHUNKED\r\n", "5\r\nhello\r\n0\r\n\r\n"))
            .saw_body("hello"),
        Case::pass(
            "space around a coding",
            post("Transfer-Encoding:  \t chunked \t\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        )
        .saw_body("hello"),
        Case::pass("space around a length", post("Content-Length:  5\t\r\n", "hello")).saw_body("hello"),
        Case::pass("no space before a length", post("Content-Length:5\r\n", "hello")).saw_body("hello"),
        Case::pass("zeros before a length", post("Content-Length: 0005\r\n", "hello")).saw_body("hello"),
        Case::pass("length 0", post("Content-Length: 0\r\n", "")).saw_body(""),
        Case::pass("no length", post("", "")).saw_body(""),
        Case::pass("GET with a body", get("/c", "Content-Length: 5\r\n") + "hello").saw_body("hello"),
        Case::pass(
            "GET with chunks",
            get("/c", "Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n\r\n",
        )
        .saw_body("hello"),
        Case::pass("DELETE with a body", "DELETE /c HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            .saw_body("hello"),
        Case::pass("a name that only looks like a length", get("/c", "Content_Length: 100\r\n")).saw_body(""),
        Case::pass("a name that only looks like a coding", get("/c", "Transfer-Encodings: chunked\r\n"))
            .saw_body(""),
        Case::pass("empty line first", format!("\r\n{}", get("/c", ""))),
        Case::pass("two empty lines first", format!("\r\n\r\n{}", get("/c", ""))),
        Case::pass("tab in a value", get("/c", "X: a\tb\r\n")).saw("x", "a\tb"),
        Case::pass("empty value", get("/c", "X:\r\n")).saw("x", ""),
        Case::pass("colons in a value", get("/c", "X: a:b:c\r\n")).saw("x", "a:b:c"),
        Case::pass("every token character in a name", get("/c", "!#$%&'*+-.^_`|~: a\r\n"))
            .saw("!#$%&'*+-.^_`|~", "a"),
        Case::pass("a byte above ASCII in a value", latin).saw("x", "caf\u{e9}"),
        Case::pass("head in single bytes", get("/c", "X: a\r\n"))
            .split(Duration::from_micros(200))
            .saw("x", "a"),
        Case::pass("chunks in single bytes", chunked("5;a=b\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"))
            .split(Duration::from_micros(200))
            .saw_body("hello!"),
        Case::pass("head and body apart", post("Content-Length: 5\r\n", ""))
            .then(Act::Pause(Duration::from_millis(20)))
            .then(Act::Send(b"hello".to_vec()))
            .saw_body("hello"),
    ]);
    bench.finish();
}

/// RFC 9112, 7.1: hexadecimal size, CRLF, data, CRLF.
#[test]
fn chunks_have_one_form() {
    let bench = Bench::start();
    let extension = "e".repeat(100 * 1024);
    let each = "1;abcdefghijklmnopqrstuvwxyz=abcdefghijklmnopqrstuvwxyz\r\nx\r\n".repeat(4000);
    let zeros = "0".repeat(64 * 1024);
    let rows: &[(&str, &[u16], String)] = &[
        ("size of 17 digits", &[400, 413], chunked("10000000000000005\r\nhello\r\n0\r\n\r\n")),
        ("size with minus", &[400], chunked("-5\r\nhello\r\n0\r\n\r\n")),
        ("size with plus", &[400], chunked("+5\r\nhello\r\n0\r\n\r\n")),
        ("size with 0x", &[400], chunked("0x5\r\nhello\r\n0\r\n\r\n")),
        ("size with underscore", &[400], chunked("0_5\r\nhello\r\n0\r\n\r\n")),
        ("size not hexadecimal", &[400], chunked("5g\r\nhello\r\n0\r\n\r\n")),
        ("size empty", &[400], chunked("\r\nhello\r\n0\r\n\r\n")),
        ("size only an extension", &[400], chunked(";a=b\r\nhello\r\n0\r\n\r\n")),
        ("space before the size", &[400], chunked(" 5\r\nhello\r\n0\r\n\r\n")),
        ("space after the size", &[400], chunked("5 \r\nhello\r\n0\r\n\r\n")),
        ("comma after the size", &[400], chunked("5,\r\nhello\r\n0\r\n\r\n")),
        ("size line ends in bare LF", &[400], chunked("5\nhello\r\n0\r\n\r\n")),
        ("size line ends in bare CR", &[400], chunked("5\rhello\r\n0\r\n\r\n")),
        ("extension ends in bare LF", &[400], chunked("5;a=b\nhello\r\n0\r\n\r\n")),
        ("bare CR in an extension", &[400], chunked("5;a\rb\r\nhello\r\n0\r\n\r\n")),
        ("NUL in an extension", &[400], chunked("5;a\0b\r\nhello\r\n0\r\n\r\n")),
        ("data ends in bare LF", &[400], chunked("5\r\nhello\n0\r\n\r\n")),
        ("data ends in bare CR", &[400], chunked("5\r\nhello\r0\r\n\r\n")),
        ("no line end after the data", &[400], chunked("5\r\nhello0\r\n\r\n")),
        ("data longer than its size", &[400], chunked("5\r\nhello, world\r\n0\r\n\r\n")),
        ("data shorter than its size", &[400], chunked("6\r\nhello\r\n0\r\n\r\n")),
        ("last chunk ends in bare LF", &[400], chunked("5\r\nhello\r\n0\n\r\n")),
        ("bare LF after the last chunk", &[400], chunked("5\r\nhello\r\n0\r\n\n")),
        ("one endless extension", &[400, 413, 431], chunked(&format!("5;{extension}\r\nhello\r\n0\r\n\r\n"))),
        ("many small extensions", &[400, 413, 431], chunked(&format!("{each}0\r\n\r\n"))),
        ("endless zeros", &[400, 413, 431], chunked(&format!("{zeros}5\r\nhello\r\n0\r\n\r\n"))),
    ];
    let cases: Vec<Case> =
        rows.iter().map(|(name, status, bytes)| Case::refuse_body(name, status, bytes)).collect();
    bench.run(&cases);
    bench.run(&[
        Case::pass("upper and lower case", chunked("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"))
            .saw_body("01234567890123456789"),
        Case::pass("zeros before the size", chunked("0005\r\nhello\r\n000\r\n\r\n")).saw_body("hello"),
        Case::pass("extensions", chunked("5;a\r\nhello\r\n1;b=c;d=\"e;f\"\r\n!\r\n0;g\r\n\r\n"))
            .saw_body("hello!"),
        Case::pass("nothing but the last chunk", chunked("0\r\n\r\n")).saw_body(""),
        Case::pass("data that looks like chunks", chunked("7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n"))
            .saw_body("0\r\n\r\n\r\n"),
        Case::pass("a large chunk", chunked(&format!("20000\r\n{}\r\n0\r\n\r\n", "x".repeat(0x20000))))
            .saw_body("x".repeat(0x20000)),
    ]);
    bench.finish();
}

/// RFC 9110, 6.5: trailers are carried, but none that frames, routes, authorises or is part of the context.
#[test]
fn trailers_are_carried_and_cannot_act_as_headers() {
    let bench = Bench::start();
    let with = |lines: &str| chunked(&format!("5\r\nhello\r\n0\r\n{lines}\r\n"));
    bench.run(&[Case::pass("a checksum", with("X-Checksum: 1\r\n"))
        .saw_body("hello")
        .check(Check::SawTrailer("x-checksum", "1"))]);
    for name in [
        "content-length",
        "transfer-encoding",
        "host",
        "connection",
        "te",
        "trailer",
        "upgrade",
        "authorization",
        "cookie",
        "content-type",
        "expect",
        "max-forwards",
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
        // The backend's parser reports each of these as a violation if it arrives.
        bench.run(&[Case::pass(&format!("{name} is dropped"), with(&format!("{name}: 6\r\nX-Kept: 1\r\n")))
            .saw_body("hello")
            .check(Check::SawTrailer("x-kept", "1"))]);
    }
    let refused: &[(&str, &[u16], String)] = &[
        ("name with a space", &[400], with("X Y: 1\r\n")),
        ("no colon", &[400], with("X\r\n")),
        ("space before the colon", &[400], with("X : 1\r\n")),
        ("folded", &[400], with("X: 1\r\n 2\r\n")),
        ("ends in bare LF", &[400], with("X: 1\n")),
        ("NUL in a value", &[400], with("X: \0\r\n")),
        ("two hundred", &[400, 413, 431], with(&"X: 1\r\n".repeat(200))),
        ("64 KiB", &[400, 413, 431], with(&format!("X: {}\r\n", "x".repeat(64 * 1024)))),
    ];
    let cases: Vec<Case> =
        refused.iter().map(|(name, status, bytes)| Case::refuse_body(name, status, bytes)).collect();
    bench.run(&cases);
    bench.finish();
}

/// A client that goes in the middle of a request never makes the app believe that it was whole.
#[test]
fn a_cut_request_is_never_whole_for_the_app() {
    let bench = Bench::start();
    for (name, bytes) in [
        ("within a length", post("Content-Length: 50\r\n", "hello")),
        ("within a chunk", chunked("32\r\nhello")),
        ("before the last chunk", chunked("5\r\nhello\r\n")),
        ("within the trailers", chunked("5\r\nhello\r\n0\r\nX: 1\r\n")),
        ("within the head", "POST /c HTTP/1.1\r\nHost: app.example\r\nContent-Length: 5".to_owned()),
    ] {
        bench.backend().take();
        let mut client = bench.client();
        client.send(&bytes);
        client.wire().close();
        bench.clean_request(name, &mut bench.client());
        let received = bench.backend().take();
        let whole: Vec<&str> = received.whole.iter().map(|request| request.path()).collect();
        bench.check(name, whole == ["/clean"], format!("the backend saw {whole:?}"));
        for violation in received.violations {
            bench.fail(name, violation);
        }
    }
    bench.finish();
}

/// RFC 9112, 9.3.2: requests sent at once are answered in order, each from its own body.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let bench = Bench::start();
    let three = [
        post("X: 1\r\nContent-Length: 5\r\n", "hello"),
        post("X: 2\r\nTransfer-Encoding: chunked\r\n", "5\r\nworld\r\n0\r\n\r\n"),
        get("/c?x=3", "X: 3\r\n"),
    ]
    .concat();
    let mut client = bench.client();
    client.send(&three);
    for number in 1..=3 {
        match client.read("GET", 1) {
            Ok(answer) => bench.check("three", answer.status == 200, format!("{number}: {}", answer.status)),
            Err(fault) => bench.fail("three", format!("{number}: {fault}")),
        }
    }
    bench.clean_request("three", &mut client);
    let received = bench.backend().take_after(4);
    let order: Vec<_> = received.whole.iter().map(|request| request.fields.get("x").unwrap_or("-")).collect();
    bench.check("three", order == ["1", "2", "3", "-"], format!("{order:?}"));
    let bodies: Vec<_> =
        received.whole.iter().map(|request| request.body.escape_ascii().to_string()).collect();
    bench.check("three", bodies == ["hello", "world", "", ""], format!("{bodies:?}"));

    let mut client = bench.client();
    client.send(format!("HEAD /c HTTP/1.1\r\nHost: a\r\n\r\n{}{}", get("/c", ""), get("/c", "X : bad\r\n")));
    for (number, (method, status)) in [("HEAD", 200), ("GET", 200), ("GET", 400)].into_iter().enumerate() {
        match client.read(method, 1) {
            Ok(answer) => {
                bench.check("the third is bad", answer.status == status, format!("{number}: {answer:?}"))
            }
            Err(fault) => bench.fail("the third is bad", format!("{number}: {fault}")),
        }
    }
    bench.check("the third is bad", client.is_closed(), "the connection is still open");
    bench.finish();
}
