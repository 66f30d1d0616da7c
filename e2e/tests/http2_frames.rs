//! What raw HTTP/2 frames may do to the proxy and to the HTTP/1 app behind it (RFC 9113; the floods of 2019–2025).
//!
//! Each row is followed by a clean request on a new connection; a strict RFC 9112 backend says what reached it.

use e2e::frames::{self, code, data, frame, headers, request, request_with, reset, settings, window_update};
use e2e::{FrameBench, FrameCase, Outcome, Reach, Script, Step, get_changed, get_with, hpack, post_with};
use std::time::Duration;

use code::{COMPRESSION_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, STREAM_CLOSED};

fn get() -> Vec<u8> {
    get_with(&[])
}

#[test]
fn requests_that_are_well_formed_reach_the_app() {
    let bench = FrameBench::start();
    let padded = [&[3][..], &hpack::block(&request("GET", "/c")), &[0; 3]].concat();
    let prioritised = [&[0, 0, 0, 0, 15][..], &hpack::block(&request("GET", "/c"))].concat();
    let split: Vec<Vec<u8>> = {
        let block = hpack::block(&request("GET", "/c"));
        let (first, rest) = block.split_at(7);
        vec![frame(frames::HEADERS, 1, 1, first), frame(frames::CONTINUATION, 4, 1, rest)]
    };
    let padded_data = frame(frames::DATA, frames::PADDED, 1, b"\x02abc\0\0");
    bench.run(&[
        FrameCase::pass("a plain GET", get())
            .target("/c")
            .saw("host", "app.example")
            .saw_no("content-length"),
        FrameCase::pass("padded HEADERS", frame(frames::HEADERS, 0xd, 1, &padded)),
        FrameCase::pass("HEADERS with a priority", frame(frames::HEADERS, 0x25, 1, &prioritised)),
        FrameCase::pass("HEADERS and CONTINUATION", split.concat()),
        FrameCase::pass("an unknown frame type", [frame(0x77, 0xff, 0, b"?"), get()].concat()),
        FrameCase::pass("an unknown setting", [settings(&[(0x7777, 1)]), get()].concat()),
        FrameCase::pass(
            "unknown flags",
            frame(frames::HEADERS, 0xc5 & !0x20, 1, &hpack::block(&request("GET", "/c"))),
        ),
        FrameCase::pass(
            "a PRIORITY frame before",
            [frame(frames::PRIORITY, 0, 3, &[0, 0, 0, 0, 1]), get()].concat(),
        ),
        FrameCase::pass("te: trailers", get_with(&[("te", "trailers")])),
        FrameCase::pass("the reserved bit of a stream id", {
            let mut bytes = get();
            bytes[5] |= 0x80;
            bytes
        }),
        FrameCase::pass("padded DATA", [post_with(&[]), padded_data, data(1, "d", true)].concat())
            .body("abcd"),
        FrameCase::pass("host that agrees with :authority", get_with(&[("host", "app.example")]))
            .saw("host", "app.example"),
        FrameCase::pass("host alone", {
            let fields =
                [(":method", "GET"), (":scheme", "http"), (":path", "/c"), ("host", "other.example")];
            headers(1, &fields, true)
        })
        .saw("host", "other.example"),
        FrameCase::pass("a stream id with gaps", headers(0x1001, &request("GET", "/c"), true)).on(0x1001),
        FrameCase::pass("GOAWAY of the client leaves its stream be", {
            [get(), frames::goaway(0, 0)].concat()
        })
        .script(Script(vec![
            Step::ReadBody,
            Step::Pause(Duration::from_millis(100)),
            Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ])),
    ]);
    bench.finish();
}

#[test]
fn malformed_frames_end_the_connection() {
    let bench = FrameBench::start();
    let block = hpack::block(&request("GET", "/c"));
    let open = |rest: Vec<u8>| [post_with(&[]), rest].concat();
    let half = frame(frames::HEADERS, frames::END_STREAM, 1, &block);
    let protocol = &[PROTOCOL_ERROR];
    // What counts is that the connection ends; h2 says PROTOCOL_ERROR where the RFC has a finer code.
    let size = &[FRAME_SIZE_ERROR, PROTOCOL_ERROR];
    let compression = &[COMPRESSION_ERROR, PROTOCOL_ERROR];
    let flow = &[FLOW_CONTROL_ERROR, PROTOCOL_ERROR];
    bench.run(&[
        FrameCase::kill("HEADERS without END_HEADERS, then PING", protocol, {
            [half.clone(), frame(frames::PING, 0, 0, &[0; 8])].concat()
        }),
        FrameCase::kill("HEADERS without END_HEADERS, then DATA", protocol, {
            [half.clone(), data(1, "x", true)].concat()
        }),
        FrameCase::kill("CONTINUATION of another stream", protocol, {
            [half.clone(), frame(frames::CONTINUATION, 4, 3, &[])].concat()
        }),
        FrameCase::kill("CONTINUATION out of nothing", protocol, frame(frames::CONTINUATION, 4, 1, &block)),
        FrameCase::kill("HEADERS on stream 0", protocol, headers(0, &request("GET", "/c"), true)),
        FrameCase::kill("an even stream id", protocol, headers(2, &request("GET", "/c"), true)).on(2),
        FrameCase::kill("DATA on stream 0", protocol, data(0, "x", true)),
        FrameCase::kill("DATA on an idle stream", &[PROTOCOL_ERROR, STREAM_CLOSED], data(1, "x", true)),
        FrameCase::kill("RST_STREAM on an idle stream", protocol, reset(1, 8)),
        FrameCase::kill("WINDOW_UPDATE on an idle stream", protocol, window_update(1, 1)),
        FrameCase::kill("RST_STREAM on stream 0", protocol, reset(0, 8)),
        FrameCase::kill(
            "PUSH_PROMISE of a client",
            protocol,
            frame(frames::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2]),
        ),
        FrameCase::kill("WINDOW_UPDATE of nothing", protocol, window_update(0, 0)),
        FrameCase::kill("a connection window over 2^31 - 1", flow, window_update(0, 0x7fff_ffff)),
        FrameCase::kill("SETTINGS that acknowledge and say something", size, {
            frame(frames::SETTINGS, frames::ACK, 0, &[0; 6])
        }),
        FrameCase::kill("SETTINGS of five bytes", size, frame(frames::SETTINGS, 0, 0, &[0; 5])),
        FrameCase::kill("SETTINGS on a stream", protocol, frame(frames::SETTINGS, 0, 1, &[])),
        FrameCase::kill("SETTINGS_ENABLE_PUSH of two", protocol, settings(&[(2, 2)])),
        FrameCase::kill("SETTINGS_INITIAL_WINDOW_SIZE over 2^31 - 1", flow, settings(&[(4, 1 << 31)])),
        FrameCase::kill("SETTINGS_MAX_FRAME_SIZE of 16383", protocol, settings(&[(5, 16_383)])),
        FrameCase::kill("PING of seven bytes", size, frame(frames::PING, 0, 0, &[0; 7])),
        FrameCase::kill("PING on a stream", protocol, frame(frames::PING, 0, 1, &[0; 8])),
        FrameCase::kill("GOAWAY on a stream", protocol, frame(frames::GOAWAY, 0, 1, &[0; 8])),
        FrameCase::kill("RST_STREAM of three bytes", size, frame(frames::RST_STREAM, 0, 1, &[0; 3])),
        FrameCase::kill("WINDOW_UPDATE of three bytes", size, {
            frame(frames::WINDOW_UPDATE, 0, 0, &[0; 3])
        }),
        FrameCase::kill("a header block that is cut", compression, {
            frame(frames::HEADERS, 5, 1, &block[..block.len() - 1])
        }),
        FrameCase::kill(
            "an index that is in no table",
            compression,
            frame(frames::HEADERS, 5, 1, &[0xff, 0]),
        ),
        FrameCase::kill("index 0", compression, frame(frames::HEADERS, 5, 1, &[0x80])),
        FrameCase::kill("a table larger than allowed", compression, {
            frame(frames::HEADERS, 5, 1, &[&[0x3f, 0xe1, 0xff, 3][..], &block].concat())
        }),
        FrameCase::kill("DATA with more padding than content", protocol, {
            open(frame(frames::DATA, frames::PADDED, 1, b"\x09abc"))
        })
        .reach(Reach::NothingWhole),
        FrameCase::kill("a frame of 16,385 bytes", size, open(data(1, vec![0; 16_385], true)))
            .reach(Reach::NothingWhole),
    ]);
    bench.finish();
}

#[test]
fn malformed_streams_are_refused_one_by_one() {
    let bench = FrameBench::start();
    let answered = || Script::reply("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let reset_or_dead = |codes: &[u32]| Outcome::Reset(codes.to_vec());
    bench.run(&[
        FrameCase::new(
            "a stream id below the last one",
            Outcome::ConnectionError(vec![PROTOCOL_ERROR, STREAM_CLOSED]),
            {
                [headers(5, &request("GET", "/clean"), true), headers(3, &request("GET", "/c"), true)]
                    .concat()
            },
        )
        .on(3),
        FrameCase::new("WINDOW_UPDATE(0) on a stream", reset_or_dead(&[PROTOCOL_ERROR]), {
            [post_with(&[]), window_update(1, 0)].concat()
        })
        .reach(Reach::NothingWhole),
        FrameCase::new("a stream window over 2^31 - 1", reset_or_dead(&[FLOW_CONTROL_ERROR]), {
            [post_with(&[]), window_update(1, 0x7fff_ffff)].concat()
        })
        .reach(Reach::NothingWhole),
        FrameCase::new("more content than content-length", Outcome::Malformed, {
            [post_with(&[("content-length", "3")]), data(1, "four", true)].concat()
        })
        .reach(Reach::NothingWhole)
        .script(answered()),
        FrameCase::new("less content than content-length", Outcome::Malformed, {
            [post_with(&[("content-length", "5")]), data(1, "four", true)].concat()
        })
        .reach(Reach::NothingWhole)
        .script(answered()),
        FrameCase::malformed("content-length and no content", {
            headers(1, &request_with("POST", "/c", &[("content-length", "5")]), true)
        }),
        FrameCase::malformed("two content-lengths", {
            [post_with(&[("content-length", "4"), ("content-length", "5")]), data(1, "four", true)].concat()
        })
        .reach(Reach::NothingWhole),
        FrameCase::malformed("content-length: +4", {
            [post_with(&[("content-length", "+4")]), data(1, "four", true)].concat()
        })
        .reach(Reach::NothingWhole),
        FrameCase::malformed("content-length: 4, 4 with other content", {
            [post_with(&[("content-length", "4, 4")]), data(1, "fourfour", true)].concat()
        })
        .reach(Reach::NothingWhole),
        // h2 drops it before anybody sees it; what matters is that the app does not.
        FrameCase::pass("a pseudo-header field in trailers", {
            [post_with(&[]), headers(1, &[(":path", "/evil")], true)].concat()
        })
        .target("/c")
        .body("")
        .script(answered()),
        FrameCase::malformed("trailers that do not end the stream", {
            [post_with(&[]), headers(1, &[("x-a", "b")], false)].concat()
        })
        .reach(Reach::NothingWhole),
        FrameCase::new("DATA after the end", Outcome::Reset(vec![STREAM_CLOSED, PROTOCOL_ERROR]), {
            [get(), data(1, "x", false)].concat()
        })
        .reach(Reach::AtMostOnce)
        .script(Script(vec![Step::ReadBody, Step::AwaitHangUp])),
    ]);
    bench.finish();
}

#[test]
fn malformed_heads_never_reach_the_app() {
    let bench = FrameBench::start();
    let without = |name: &'static str| get_changed(&[(name, None)]);
    let with = |name: &'static str, value: &'static str| get_changed(&[(name, Some(value))]);
    let more = |name: &'static str, value: &'static str| get_with(&[(name, value)]);
    let late = {
        let mut fields = request("GET", "/c");
        let path = fields.pop().unwrap();
        fields.extend([("x-first", "1"), path]);
        headers(1, &fields, true)
    };
    bench.run(&[
        FrameCase::malformed("no :method", without(":method")),
        FrameCase::malformed("no :path", without(":path")),
        FrameCase::malformed("no :scheme", without(":scheme")),
        FrameCase::malformed("neither :authority nor host", without(":authority")),
        FrameCase::malformed("two :method", more(":method", "GET")),
        FrameCase::malformed("two :path", more(":path", "/d")),
        FrameCase::malformed("two :authority", more(":authority", "app.example")),
        FrameCase::malformed("a pseudo-header field after a regular one", late),
        FrameCase::malformed("an unknown pseudo-header field", {
            let fields = [&[(":evil", "1")][..], &request("GET", "/c")].concat();
            headers(1, &fields, true)
        }),
        FrameCase::malformed(":status in a request", more(":status", "200")),
        FrameCase::malformed("a name in upper case", more("X-Upper", "1")),
        FrameCase::malformed("an empty name", more("", "1")),
        FrameCase::malformed("a name with a space", more("x a", "1")),
        FrameCase::malformed("a name with a colon", more("x:a", "1")),
        FrameCase::malformed("a name with CRLF", more("x\r\ny", "1")),
        FrameCase::malformed("a value with CRLF", more("x-a", "b\r\nx-evil: 1")),
        FrameCase::malformed("a value with LF", more("x-a", "b\nc")),
        FrameCase::malformed("a value with NUL", more("x-a", "b\0c")),
        FrameCase::malformed("connection", more("connection", "close")),
        FrameCase::malformed("transfer-encoding", more("transfer-encoding", "chunked")),
        FrameCase::malformed("upgrade", more("upgrade", "websocket")),
        FrameCase::malformed("keep-alive", more("keep-alive", "timeout=5")),
        FrameCase::malformed("proxy-connection", more("proxy-connection", "close")),
        FrameCase::malformed("te: gzip", more("te", "gzip")),
        FrameCase::malformed(":authority and host disagree", more("host", "evil.example")),
        FrameCase::malformed("two hosts", get_with(&[("host", "app.example"), ("host", "app.example")])),
        FrameCase::malformed(":authority with user information", with(":authority", "me@app.example")),
        FrameCase::malformed(":authority with a path", with(":authority", "app.example/x")),
        FrameCase::malformed(":authority with a space", with(":authority", "app example")),
        FrameCase::malformed(":authority with a bad port", with(":authority", "app.example:99999")),
        FrameCase::malformed(":path that is empty", with(":path", "")),
        FrameCase::malformed(":path without a slash", with(":path", "c")),
        FrameCase::malformed(":path with a space", with(":path", "/c d")),
        FrameCase::malformed(":path with CRLF", with(":path", "/c HTTP/1.1\r\nx-evil: 1")),
        // The `http` crate drops it before anybody sees it: everyone agrees on what was asked.
        FrameCase::pass(":path with a fragment", with(":path", "/c#d")).target("/c"),
        FrameCase::malformed(":path with a whole URI", with(":path", "http://evil.example/c")),
        FrameCase::malformed(":path that climbs out", with(":path", "/../../c")).reach(Reach::AsAnswered),
        FrameCase::malformed(":method that is no token", with(":method", "GET /evil HTTP/1.1\r\n")),
        FrameCase::malformed(":method that is empty", with(":method", "")),
        FrameCase::malformed("CONNECT", {
            headers(1, &[(":method", "CONNECT"), (":authority", "app.example:80")], true)
        }),
        FrameCase::malformed("CONNECT with :path", with(":method", "CONNECT")),
        FrameCase::malformed("CONNECT to another form of HTTP", {
            let fields = [request("CONNECT", "/c"), vec![(":protocol", "h2c")]].concat();
            headers(1, &fields, false)
        }),
        FrameCase::malformed(":protocol without CONNECT", {
            let fields = [request("GET", "/c"), vec![(":protocol", "websocket")]].concat();
            headers(1, &fields, false)
        }),
        FrameCase::malformed("* with GET", with(":path", "*")),
        FrameCase::deny("an expectation", &[417], more("expect", "the-unexpected")),
    ]);
    bench.finish();
}

#[test]
fn limits_of_the_head_are_told() {
    let bench = FrameBench::start();
    let many: Vec<(String, String)> = (0..120).map(|n| (format!("x-{n}"), "v".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let large = "v".repeat(33 * 1024);
    let long_path = format!("/c?{}", "p".repeat(17 * 1024));
    let fine = "v".repeat(20 * 1024);
    let fields = |more: &[(&str, &str)]| frames::long_headers(1, &request_with("GET", "/c", more), true);
    bench.run(&[
        FrameCase::deny("a hundred and twenty fields", &[431], fields(&many)),
        FrameCase::deny("a header list over 32 KiB", &[431], fields(&[("x-large", &large)])),
        FrameCase::pass("a header list of 20 KiB", fields(&[("x-large", &fine)])),
        FrameCase::pass("ninety fields", fields(&many[..90])),
        FrameCase::deny("a target over 16 KiB", &[414, 431], {
            frames::long_headers(1, &request("GET", &long_path), true)
        }),
    ]);
    bench.finish();
}

#[test]
fn what_is_not_the_preface_is_not_http2() {
    let bench = FrameBench::start();
    for (name, bytes) in [
        ("a preface with another ending", &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r"[..]),
        ("a preface of another version", b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n"),
        (
            "a preface and a frame that is no SETTINGS",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ),
    ] {
        let mut client = frames::Peer::raw(bench.proxy().inbound());
        client.send(bytes);
        client.send(get());
        let mut rest = Vec::new();
        let ended = client.wire().to_end("the end of the connection", &mut rest);
        bench.check(name, ended.is_ok(), format!("{ended:?} after {:?}", rest.escape_ascii().to_string()));
        let received = bench.backend().take();
        bench.check(
            name,
            received.violations.is_empty() && received.whole.is_empty(),
            format!("{received:?}"),
        );
        bench.clean_request(name);
        bench.backend().take();
    }
    bench.finish();
}
