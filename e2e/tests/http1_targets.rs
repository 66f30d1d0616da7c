//! Who is asked for what: RFC 9112, 3 (request line, forms of a target, Host) and RFC 3986, 6 (canonical paths).

use e2e::{Bench, Case, Check, get};

fn plain(line: &str) -> String {
    format!("{line}\r\nHost: app.example\r\n\r\n")
}

/// RFC 9112, 3.2: exactly one valid Host.
#[test]
fn host_is_one_valid_authority() {
    let bench = Bench::start();
    let host = |value: &str| format!("GET /c HTTP/1.1\r\nHost: {value}\r\n\r\n");
    for (name, value) in [
        ("a space", "a b"),
        ("a tab", "a\tb"),
        ("a list", "a.example, b.example"),
        ("a path", "a.example/x"),
        ("a scheme", "http://a.example"),
        ("user information", "user@a.example"),
        ("a query", "a.example?x"),
        ("a fragment", "a.example#x"),
        ("a backslash", "a.example\\x"),
        ("a port of letters", "a.example:http"),
        ("a port too large", "a.example:65536"),
        ("a negative port", "a.example:-1"),
        ("a port with a plus", "a.example:+80"),
        ("two ports", "a.example:80:80"),
        ("an open bracket", "[::1"),
        ("a closing bracket alone", "::1]"),
        ("brackets around a name", "[app.example]"),
        ("letters after the bracket", "[::1]x"),
        ("an IPv6 address without brackets", "::1"),
        ("a letter beyond ASCII", "caf\u{e9}.example"),
        ("quotes", "\"a.example\""),
        ("angle brackets", "<a.example>"),
        ("a broken escape", "a%zz.example"),
    ] {
        bench.run(&[Case::deny(&format!("Host with {name}"), &[400], host(value))]);
    }
    let second = |line: &str| format!("GET /c HTTP/1.1\r\nHost: app.example\r\n{line}\r\n\r\n");
    bench.run(&[
        Case::deny("no Host in HTTP/1.1", &[400], "GET /c HTTP/1.1\r\n\r\n"),
        Case::deny(
            "no Host, but a forwarded one",
            &[400],
            "GET /c HTTP/1.1\r\nX-Forwarded-Host: a.example\r\n\r\n",
        ),
        Case::deny("Host twice, the same", &[400], second("Host: app.example")),
        Case::deny("Host twice, different", &[400], second("Host: b.example")),
        Case::deny("Host twice, the second empty", &[400], second("Host:")),
        Case::deny("Host twice, in capitals", &[400], second("HOST: b.example")),
        Case::pass("Host with a port", host("app.example:8080")).saw("host", "app.example:8080"),
        Case::pass("Host with an empty port", host("app.example:")),
        Case::pass("Host is an IPv6 address", host("[::1]:8080")).saw("host", "[::1]:8080"),
        Case::pass("Host is an IPv4 address", host("127.0.0.1")).saw("host", "127.0.0.1"),
        Case::pass("Host in capitals", host("APP.example")),
        Case::pass("Host with an underscore", host("my_app")).saw("host", "my_app"),
        // The backend demands a Host of every request; the proxy has to find one.
        Case::pass("no Host in HTTP/1.0", "GET /c HTTP/1.0\r\n\r\n"),
        Case::pass("Host in HTTP/1.0", "GET /c HTTP/1.0\r\nHost: app.example\r\n\r\n")
            .saw("host", "app.example"),
        Case::deny("Host twice in HTTP/1.0", &[400], "GET /c HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    ]);
    bench.finish();
}

/// RFC 9112, 3.2.1 to 3.2.4: the four forms of a target.
#[test]
fn targets_have_four_forms() {
    let bench = Bench::start();
    bench.run(&[
        Case::pass(
            "absolute form wins over Host",
            "GET http://abs.example/p?q=1 HTTP/1.1\r\nHost: other\r\n\r\n",
        )
        .target("/p?q=1")
        .saw("host", "abs.example"),
        Case::pass("absolute form with a port", plain("GET http://abs.example:8080/p HTTP/1.1"))
            .target("/p")
            .saw("host", "abs.example:8080"),
        Case::pass("absolute form without a path", plain("GET http://abs.example HTTP/1.1"))
            .target("/")
            .saw("host", "abs.example"),
        Case::pass("absolute form with a query alone", plain("GET http://abs.example?q=1 HTTP/1.1"))
            .target("/?q=1"),
        Case::pass("absolute form, scheme in capitals", plain("GET HTTP://abs.example/p HTTP/1.1"))
            .target("/p"),
        Case::pass("absolute form of an IPv6 address", plain("GET http://[::1]:80/p HTTP/1.1"))
            .saw("host", "[::1]:80"),
        Case::pass("absolute form in HTTP/1.0 without Host", "GET http://abs.example/p HTTP/1.0\r\n\r\n")
            .target("/p")
            .saw("host", "abs.example"),
        Case::pass("absolute form of OPTIONS without a path", plain("OPTIONS http://abs.example HTTP/1.1"))
            .target("*")
            .saw("host", "abs.example"),
        Case::deny("absolute form without Host", &[400], "GET http://abs.example/p HTTP/1.1\r\n\r\n"),
        Case::deny(
            "absolute form with user information",
            &[400],
            plain("GET http://u@abs.example/p HTTP/1.1"),
        ),
        Case::deny("absolute form with a bad port", &[400], plain("GET http://abs.example:x/p HTTP/1.1")),
        Case::deny("absolute form with an empty host", &[400], plain("GET http:///p HTTP/1.1")),
        Case::deny("absolute form, one slash", &[400], plain("GET http:/abs.example/p HTTP/1.1")),
        Case::deny("absolute form of another scheme", &[400], plain("GET ftp://abs.example/p HTTP/1.1")),
        Case::deny("absolute form of no scheme", &[400], plain("GET ://abs.example/p HTTP/1.1")),
        Case::deny("absolute form with a fragment", &[400], plain("GET http://abs.example/p#f HTTP/1.1")),
        Case::deny(
            "absolute form with two Hosts",
            &[400],
            "GET http://abs.example/p HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        ),
        Case::pass("asterisk form of OPTIONS", plain("OPTIONS * HTTP/1.1")).target("*"),
        Case::deny("asterisk form of GET", &[400], plain("GET * HTTP/1.1")),
        Case::deny("asterisk form with more", &[400], plain("OPTIONS *x HTTP/1.1")),
        Case::deny("authority form of GET", &[400], plain("GET app.example:80 HTTP/1.1")),
        Case::deny("authority form of OPTIONS", &[400], plain("OPTIONS app.example:80 HTTP/1.1")),
        Case::deny("CONNECT", &[405], "CONNECT app.example:80 HTTP/1.1\r\nHost: app.example:80\r\n\r\n"),
        Case::deny("CONNECT of a path", &[400, 405], plain("CONNECT /c HTTP/1.1")),
        Case::deny("CONNECT without a port", &[400, 405], plain("CONNECT app.example HTTP/1.1")),
        Case::deny("relative path", &[400], plain("GET c HTTP/1.1")),
        Case::deny("query without a path", &[400], plain("GET ?x=1 HTTP/1.1")),
    ]);
    bench.finish();
}

/// RFC 9112, 3: method, one space, target, one space, version.
#[test]
fn the_request_line_has_one_form() {
    let bench = Bench::start();
    for (name, status, line) in [
        ("two spaces after the method", &[400][..], "GET  /c HTTP/1.1"),
        ("two spaces after the target", &[400], "GET /c  HTTP/1.1"),
        ("space after the version", &[400], "GET /c HTTP/1.1 "),
        ("space before the method", &[400], " GET /c HTTP/1.1"),
        ("tab after the method", &[400], "GET\t/c HTTP/1.1"),
        ("tab after the target", &[400], "GET /c\tHTTP/1.1"),
        ("vertical tab after the target", &[400], "GET /c\u{b}HTTP/1.1"),
        ("space in the target", &[400], "GET /c d HTTP/1.1"),
        ("no target", &[400], "GET HTTP/1.1"),
        ("empty target", &[400], "GET  HTTP/1.1"),
        ("no version", &[400, 505], "GET /c"),
        ("a fourth word", &[400], "GET /c HTTP/1.1 x"),
        ("method with a parenthesis", &[400], "GE(T /c HTTP/1.1"),
        ("method with a colon", &[400], "GET: /c HTTP/1.1"),
        ("method with NUL", &[400], "GE\0T /c HTTP/1.1"),
        ("method beyond ASCII", &[400], "G\u{c9}T /c HTTP/1.1"),
        ("HTTP/2.0 in text", &[400, 505], "GET /c HTTP/2.0"),
        ("HTTP/3.0", &[400, 505], "GET /c HTTP/3.0"),
        ("HTTP/0.9 by name", &[400, 505], "GET /c HTTP/0.9"),
        ("HTTP/1", &[400, 505], "GET /c HTTP/1"),
        ("HTTP/1.", &[400, 505], "GET /c HTTP/1."),
        ("HTTP/1.10", &[400, 505], "GET /c HTTP/1.10"),
        ("HTTP/01.1", &[400, 505], "GET /c HTTP/01.1"),
        ("HTTP/1.1.1", &[400, 505], "GET /c HTTP/1.1.1"),
        ("version in lower case", &[400, 505], "GET /c http/1.1"),
        ("another protocol", &[400, 505], "GET /c ICAP/1.0"),
        ("misspelt protocol", &[400, 505], "GET /c HTP/1.1"),
    ] {
        bench.run(&[Case::refuse(name, status, plain(line))]);
    }
    bench.run(&[
        // RFC 9110, 6.2: a higher minor version is processed as the highest that is known.
        Case::pass("HTTP/1.2", plain("GET /c HTTP/1.2")),
        Case::pass("method in lower case is another method", plain("get /c HTTP/1.1"))
            .check(Check::Method("get")),
        Case::pass("unknown method", plain("BREW /c HTTP/1.1")).check(Check::Method("BREW")),
        Case::pass("method with every odd character", plain("M-!#$%&'*+.^_`|~1 /c HTTP/1.1"))
            .check(Check::Method("M-!#$%&'*+.^_`|~1")),
        Case::pass("PATCH", plain("PATCH /c HTTP/1.1")).check(Check::Method("PATCH")),
        Case::refuse(
            "endless method",
            &[400, 414, 431, 501],
            plain(&format!("{} /c HTTP/1.1", "M".repeat(70 << 10))),
        ),
    ]);
    bench.finish();
}

/// RFC 3986, 3.3 and 6.2.2: one canonical path reaches route, policy and app; what has none is refused.
#[test]
fn paths_are_made_canonical() {
    let bench = Bench::start();
    for (name, target) in [
        ("parent of the root", "/.."),
        ("parent of the root, more", "/../c"),
        ("one parent too many", "/a/../../c"),
        ("parent of the root, escaped", "/%2e%2e/c"),
        ("parent of the root, half escaped", "/.%2E/c"),
        ("NUL, escaped", "/a%00b"),
        ("escape of no digits", "/a%zzb"),
        ("escape of one digit", "/a%2"),
        ("percent at the end", "/a%"),
        ("percent before percent", "/a%%41"),
        ("control character", "/a\u{1}b"),
        ("NUL", "/a\0b"),
        ("DEL", "/a\u{7f}b"),
        ("a letter beyond ASCII", "/caf\u{e9}"),
        ("fragment", "/c#f"),
        ("fragment after a query", "/c?x=1#f"),
        ("control character in a query", "/c?x=\u{1}"),
        ("a letter beyond ASCII in a query", "/c?x=\u{e9}"),
    ] {
        bench.run(&[Case::deny(name, &[400], get(target, ""))]);
    }
    for (name, target, canonical) in [
        ("parent", "/a/../c", "/c"),
        ("parent, escaped", "/a/%2e%2e/c", "/c"),
        ("parent, half escaped", "/a/%2E./c", "/c"),
        ("parent at the end", "/a/b/..", "/a/"),
        ("parent of the first", "/a/..", "/"),
        ("dot", "/a/./c", "/a/c"),
        ("dot, escaped", "/a/%2e/c", "/a/c"),
        ("dot at the end", "/a/.", "/a/"),
        ("three dots are a name", "/a/.../c", "/a/.../c"),
        ("dots within a name", "/a..b/.c", "/a..b/.c"),
        ("letters, escaped", "/%41%62%7a%30", "/Abz0"),
        ("marks, escaped", "/%2d%2e%5f%7e", "/-._~"),
        ("digits of an escape", "/%c3%a9", "/%C3%A9"),
        ("reserved stays escaped", "/%3f%23%3a%40", "/%3F%23%3A%40"),
        ("line end stays escaped", "/a%0d%0aX:%20y", "/a%0D%0AX:%20y"),
        ("DEL stays escaped", "/a%7fb", "/a%7Fb"),
        ("slash stays escaped", "/a%2fb", "/a%2Fb"),
        ("escaped parent by an escaped slash is a name", "/a/..%2fc", "/a/..%2Fc"),
        ("escaped twice is unescaped once", "/%252e%252e/c", "/%252e%252e/c"),
        ("query is not touched", "/c?a=%41&b=/../x&c=%2f", "/c?a=%41&b=/../x&c=%2f"),
        ("empty query is kept", "/c?", "/c?"),
        ("question marks in a query", "/c??x=?", "/c??x=?"),
        ("root", "/", "/"),
        ("sub-delimiters", "/a;b=1,2!$&'()*+:@", "/a;b=1,2!$&'()*+:@"),
    ] {
        bench.run(&[Case::pass(name, get(target, "")).target(canonical)]);
    }
    bench.finish();
}
