//! What raw HTTP/2 frames may do to the proxy and to the HTTP/1 app behind it (RFC 9113; the floods of 2019–2025).
//!
//! Each row is followed by a clean request on a new connection; a strict RFC 9112 backend says what reached it.

use e2e::frames::{self, code, data, frame, headers, request, request_with, reset, settings, window_update};
use e2e::{
    FrameBench, FrameCase, Http2Server, Outcome, Script, Step, get_changed, get_with, hpack, post_with,
};
use e2e::{Reach, process, wait_for};
use std::time::{Duration, Instant};

use code::{COMPRESSION_ERROR, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR};
use code::{PROTOCOL_ERROR, REFUSED_STREAM, STREAM_CLOSED};

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

/// Sends until the other side ends the connection, for at most `rounds` times.
fn flood(bench: &FrameBench, name: &str, rounds: u32, start: Vec<u8>, mut round: impl FnMut(u32) -> Vec<u8>) {
    let pid = bench.proxy().pid();
    let (memory, cpu) = (bench.proxy().resident_bytes(), process::cpu_time(pid));
    process::reset_resident_peak(pid);
    let mut client = bench.client();
    client.acknowledges = false;
    client.send(start);
    let mut sent = 0;
    while sent < rounds && client.send(round(sent)) {
        sent += 1;
    }
    let ended = client.read_until(|_| false);
    let is_calm = client.goaway.is_none_or(|(_, code)| code == ENHANCE_YOUR_CALM || code == PROTOCOL_ERROR);
    bench.check(name, ended.is_ok() && is_calm, format!("{ended:?}, goaway {:?}", client.goaway));
    let grown = process::resident_peak_bytes(pid).saturating_sub(memory);
    bench.check(name, grown < 16 << 20, format!("{grown} bytes of memory more"));
    let spent = process::cpu_time(pid).saturating_sub(cpu);
    bench.check(name, spent < Duration::from_secs(2), format!("{spent:?} of CPU for {sent} rounds"));
    bench.clean_request(name);
}

#[test]
fn floods_end_the_connection_and_cost_little() {
    let bench = FrameBench::start();
    bench.backend().script("/slow", Script(vec![Step::ReadBody, Step::AwaitHangUp]));
    let ping = frame(frames::PING, 0, 0, &[7; 8]).repeat(100);
    flood(&bench, "PING flood", 1000, Vec::new(), |_| ping.clone());
    let empty = settings(&[]).repeat(100);
    flood(&bench, "SETTINGS flood", 1000, Vec::new(), |_| empty.clone());
    let priority = frame(frames::PRIORITY, 0, 1, &[0, 0, 0, 0, 1]).repeat(100);
    flood(&bench, "PRIORITY flood", 1000, Vec::new(), |_| priority.clone());
    let empty_data = data(1, "", false).repeat(100);
    flood(&bench, "empty DATA flood", 1000, headers(1, &request("POST", "/slow"), false), |_| {
        empty_data.clone()
    });
    let block = hpack::block(&request("GET", "/c"));
    let start = frame(frames::HEADERS, 1, 1, &block);
    let part = frame(frames::CONTINUATION, 0, 1, &hpack::block(&[("x-a", "b".repeat(1000))]));
    flood(&bench, "CONTINUATION flood", 20_000, start.clone(), |_| part.clone());
    let nothing = frame(frames::CONTINUATION, 0, 1, &[]).repeat(100);
    flood(&bench, "empty CONTINUATION flood", 2_000, start, |_| nothing.clone());
    let get = request("GET", "/slow");
    flood(&bench, "rapid reset", 20_000, Vec::new(), |round| {
        let stream = round * 2 + 1;
        [headers(stream, &get, true), reset(stream, 8)].concat()
    });
    flood(&bench, "made-you-reset", 20_000, Vec::new(), |round| {
        let stream = round * 2 + 1;
        [headers(stream, &get, true), window_update(stream, 0)].concat()
    });
    bench.backend().take();
    bench.finish();
}

#[test]
fn rapid_resets_do_not_multiply_at_the_app() {
    let bench = FrameBench::start();
    bench.backend().script("/slow", Script(vec![Step::ReadBody, Step::AwaitHangUp]));
    let get = request("GET", "/slow");
    let mut client = bench.client();
    for round in 0..5000 {
        let stream = round * 2 + 1;
        if !client.send([headers(stream, &get, true), reset(stream, 8)].concat()) {
            break;
        }
    }
    let _ = client.read_until(|_| false);
    let connections = bench.backend().connections();
    bench.check("rapid reset", connections < 1000, format!("{connections} connections to the app"));
    bench.clean_request("rapid reset");
    bench.finish();
}

#[test]
fn an_hpack_bomb_stays_small() {
    let bench = FrameBench::start();
    bench.backend().script("/slow", Script(vec![Step::ReadBody, Step::AwaitHangUp]));
    let pid = bench.proxy().pid();
    bench.clean_request("before the bomb");
    let memory = bench.proxy().resident_bytes();
    process::reset_resident_peak(pid);
    // Each reference to the one large entry costs the sender one byte and the receiver four thousand.
    let mut client = frames::Peer::connect_with(bench.proxy().inbound(), &[(4, 0)]);
    let mut fill = hpack::block(&request("GET", "/slow"));
    hpack::indexed_literal(b"x-bomb", "b".repeat(3900).as_bytes(), &mut fill);
    client.send(frame(frames::HEADERS, 5, 1, &fill));
    let mut bomb = hpack::block(&request("GET", "/slow"));
    bomb.extend(std::iter::repeat_n(0xbe, 16_000));
    for stream in 1..500 {
        if !client.send(frame(frames::HEADERS, 5, stream * 2 + 1, &bomb)) {
            break;
        }
    }
    let last = 999;
    let _ = client.read_until(|peer| {
        let over = peer.stream(last);
        over.is_ended || over.reset.is_some() || over.status() != 0 || peer.goaway.is_some()
    });
    let grown = process::resident_peak_bytes(pid).saturating_sub(memory);
    bench.check("HPACK bomb", grown < 32 << 20, format!("{grown} bytes of memory more"));
    bench.clean_request("HPACK bomb");
    bench.finish();
}

#[test]
fn streams_over_the_limit_are_refused() {
    let bench = FrameBench::start();
    bench.backend().script("/slow", Script(vec![Step::ReadBody, Step::AwaitHangUp]));
    let mut client = bench.client();
    let get = request("GET", "/slow");
    let streams: Vec<u32> = (0..200).map(|n| n * 2 + 1).collect();
    for &stream in &streams {
        client.send(headers(stream, &get, true));
    }
    // The limit is known to the client once it has the SETTINGS; what it sends before is refused, not processed.
    let over: Vec<u32> = streams[128..].to_vec();
    let read = client.read_until(|peer| over.iter().all(|&stream| peer.stream(stream).reset.is_some()));
    bench.check("200 streams", read.is_ok(), format!("{read:?}, goaway {:?}", client.goaway));
    let codes: Vec<u32> = over.iter().filter_map(|&stream| client.stream(stream).reset).collect();
    bench.check("200 streams", codes.iter().all(|&code| code == REFUSED_STREAM), format!("{codes:?}"));
    bench.check("200 streams", client.settings.contains(&(3, 128)), format!("{:?}", client.settings));
    let connections = bench.backend().connections();
    bench.check("200 streams", connections <= 128, format!("{connections} reached the app"));
    drop(client);
    bench.clean_request("200 streams");
    bench.finish();
}

#[test]
fn streams_that_nobody_reads_stay_small() {
    let bench = FrameBench::with(|setup| setup.section("limits", "http2:\n  concurrent_streams_max: 500"));
    let body = vec![b'x'; 1 << 20];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    bench.backend().script("/large", Script::reply([head.as_bytes(), &body].concat()));
    bench.clean_request("before");
    let pid = bench.proxy().pid();
    let memory = bench.proxy().resident_bytes();
    process::reset_resident_peak(pid);
    let mut client = frames::Peer::connect_with(bench.proxy().inbound(), &[(4, 0)]);
    let get = request("GET", "/large");
    let streams: Vec<u32> = (0..500).map(|n| n * 2 + 1).collect();
    for &stream in &streams {
        client.send(headers(stream, &get, true));
    }
    let read = client.read_until(|peer| streams.iter().all(|&stream| peer.stream(stream).status() == 200));
    bench.check("500 streams without a window", read.is_ok(), format!("{read:?}"));
    let grown = process::resident_peak_bytes(pid).saturating_sub(memory);
    bench.check("500 streams without a window", grown < 128 << 20, format!("{grown} bytes of memory more"));
    println!("500 streams of 1 MiB without a window: {} KiB more", grown / 1024);
    drop(client);
    bench.clean_request("500 streams without a window");
    bench.backend().take();
    bench.finish();
}

#[test]
fn a_reset_reaches_the_app_at_once() {
    let bench = FrameBench::start();
    let before = Script(vec![Step::ReadBody, Step::AwaitHangUp]);
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome".to_vec();
    let amid = Script(vec![Step::ReadBody, Step::Send(head), Step::AwaitHangUp]);
    bench.backend().script("/before", before);
    bench.backend().script("/amid", amid);
    for (number, path) in ["/before", "/amid"].into_iter().enumerate() {
        let mut client = bench.client();
        let id = format!("reset-{number}");
        client.send(headers(1, &request_with("GET", path, &[("x-request-id", &id)]), true));
        bench.backend().take_after(1);
        if path == "/amid" {
            let read = client.read_until(|peer| peer.stream(1).body == b"some");
            bench.check(path, read.is_ok(), format!("{read:?}"));
        }
        let at = Instant::now();
        client.send(reset(1, 8));
        bench.backend().wait_for_hang_up(number + 1);
        let took = at.elapsed();
        bench.check(path, took < Duration::from_secs(1), format!("the app saw it after {took:?}"));
        bench.clean_request_on(path, &mut client, 3);
        let event = bench.proxy().events().of(&id);
        bench.check(path, event["sidelight.cause"] == "client_gone", format!("{event}"));
        bench.backend().take();
    }
    bench.finish();
}

#[test]
fn a_connection_that_dies_takes_its_streams_along() {
    let bench = FrameBench::start();
    bench.backend().script("/slow", Script(vec![Step::ReadBody, Step::AwaitHangUp]));
    let mut client = bench.client();
    for stream in [1, 3, 5] {
        client.send(headers(stream, &request("GET", "/slow"), true));
    }
    bench.backend().take_after(3);
    client.abort();
    bench.backend().wait_for_hang_up(3);
    let causes = wait_for("three events", || {
        let events = bench.proxy().events().exchanges();
        let causes: Vec<_> = events
            .iter()
            .filter(|event| event["url.path"] == "/slow")
            .map(|event| event["sidelight.cause"].clone())
            .collect();
        (causes.len() == 3).then_some(causes)
    });
    bench.check("abort", causes.iter().all(|cause| cause == "client_gone"), format!("{causes:?}"));
    bench.clean_request("abort");
    bench.finish();
}

#[test]
fn an_upstream_that_floods_is_left() {
    let upstream = Http2Server::start(|peer, _| {
        peer.acknowledges = false;
        while let Ok(Some(_)) = peer.next_head() {
            let ping = frame(frames::PING, 0, 0, &[7; 8]).repeat(1000);
            for _ in 0..2000 {
                if !peer.send(&ping) {
                    return;
                }
            }
        }
    });
    let address = upstream.address();
    let bench = FrameBench::with(|setup| {
        let setup =
            setup.section("clusters", &format!("other:\n  endpoints: [\"{address}\"]\n  protocol: http2"));
        setup.section("limits", "request_timeout: 2s")
    });
    let mut client = frames::Peer::connect(bench.proxy().outbound());
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "other"), (":path", "/")];
    let answer = client.ask(1, &fields);
    let is_told = answer.as_ref().is_ok_and(|answer| (500..600).contains(&answer.status()));
    bench.check("flood of the upstream", is_told, format!("{answer:?}"));
    drop(client);
    bench.clean_request("flood of the upstream");
    bench.finish();
}
