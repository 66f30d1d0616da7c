//! HTTP/2 servers that break rules, set limits, or are none.

use e2e::frames::{self, Peer, Stream, code, data, frame, headers, reset, settings};
use e2e::{Http2Server, RawServer, Setup, Sidelight, answer, hpack};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

fn before(upstream: SocketAddr, limits: &str) -> Sidelight {
    let cluster = format!("other:\n  endpoints: [\"{upstream}\"]\n  protocol: http2");
    let setup = Setup::bare().section("clusters", &cluster);
    Sidelight::start(&if limits.is_empty() { setup } else { setup.section("limits", limits) })
}

fn fields<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[(":method", "GET"), (":scheme", "http"), (":authority", "other"), (":path", "/")], more].concat()
}

fn ask(proxy: &Sidelight, id: &str) -> Stream {
    let mut client = Peer::connect(proxy.outbound());
    client.ask(1, &fields(&[("x-request-id", id)])).unwrap_or_else(|fault| panic!("{id}: {fault}"))
}

/// Each row: what the server sends on the stream of a request, and the causes that may be told.
#[test]
fn answers_that_break_rules_are_not_passed_on() {
    type Reply = fn(u32) -> Vec<u8>;
    let rows: &[(&str, Reply, &[&str])] = &[
        ("no :status", |id| headers(id, &[("x-a", "b")], true), &["upstream_protocol", "upstream_reset"]),
        (
            "a :status that is none",
            |id| headers(id, &[(":status", "abc")], true),
            &["upstream_protocol", "upstream_reset"],
        ),
        (
            "a status of two digits",
            |id| headers(id, &[(":status", "99")], true),
            &["upstream_protocol", "upstream_reset"],
        ),
        (
            "a name in upper case",
            |id| headers(id, &[(":status", "200"), ("X-Upper", "1")], true),
            &["upstream_protocol", "upstream_reset"],
        ),
        (
            "connection",
            |id| headers(id, &[(":status", "200"), ("connection", "close")], true),
            &["upstream_protocol", "upstream_reset"],
        ),
        (
            "transfer-encoding",
            |id| headers(id, &[(":status", "200"), ("transfer-encoding", "chunked")], true),
            &["upstream_protocol", "upstream_reset"],
        ),
        (
            "a value with CRLF",
            |id| headers(id, &[(":status", "200"), ("x-a", "b\r\nc: d")], true),
            &["upstream_protocol", "upstream_reset"],
        ),
        (
            "a 101",
            |id| headers(id, &[(":status", "101")], true),
            &["upstream_protocol", "upstream_reset", "upgrade_failed"],
        ),
        (
            "DATA before HEADERS",
            |id| data(id, "x", true),
            &["upstream_protocol", "upstream_reset", "upstream_closed"],
        ),
        (
            "a header block that cannot be decoded",
            |id| frame(frames::HEADERS, 5, id, &[0xff, 0]),
            &["upstream_protocol", "upstream_closed"],
        ),
        (
            "PUSH_PROMISE",
            |id| frame(frames::PUSH_PROMISE, 4, id, &[0, 0, 0, 2]),
            &["upstream_protocol", "upstream_closed"],
        ),
        (
            "a frame that is too large",
            |id| data(id, vec![0; 16_385], true),
            &["upstream_protocol", "upstream_closed"],
        ),
        ("INTERNAL_ERROR", |id| reset(id, code::INTERNAL_ERROR), &["upstream_reset"]),
        ("CANCEL", |id| reset(id, code::CANCEL), &["upstream_reset"]),
        (
            "GOAWAY with an error",
            |_| frames::goaway(0, code::INTERNAL_ERROR),
            &["upstream_refused", "upstream_protocol", "upstream_closed"],
        ),
    ];
    let mut failures = Vec::new();
    for (name, reply, causes) in rows {
        let reply = *reply;
        let upstream = Http2Server::start(move |peer, _| {
            while let Ok(Some(stream)) = peer.next_head() {
                peer.send(reply(stream));
            }
        });
        let proxy = before(upstream.address(), "request_timeout: 3s");
        let answer = ask(&proxy, "row");
        let event = proxy.events().of("row");
        let cause = event["sidelight.cause"].as_str().unwrap_or_default().to_owned();
        let told = answer.get("proxy-status").unwrap_or_default();
        let is_right =
            matches!(answer.status(), 502 | 503) && causes.contains(&cause.as_str()) && told.contains(&cause);
        if !is_right {
            failures.push(format!("{name}: {} {told:?}, cause {cause:?}", answer.status()));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n  {}", failures.len(), failures.join("\n  "));
}

#[test]
fn a_head_that_is_too_large_is_told() {
    let upstream = Http2Server::start(|peer, _| {
        while let Ok(Some(stream)) = peer.next_head() {
            let large = "v".repeat(200 * 1024);
            peer.send(frames::long_headers(stream, &[(":status", "200"), ("x-large", large.as_str())], true));
        }
    });
    let proxy = before(upstream.address(), "request_timeout: 3s");
    let answer = ask(&proxy, "large");
    assert_eq!(answer.status(), 502, "{answer:?}");
    let event = proxy.events().of("large");
    let cause = event["sidelight.cause"].as_str().unwrap_or_default();
    assert!(matches!(cause, "response_head_too_large" | "upstream_protocol" | "upstream_reset"), "{event}");
}

#[test]
fn content_that_contradicts_its_length_is_cut() {
    for (name, content) in [("too short", "abc"), ("too long", "abcdefghijkl")] {
        let upstream = Http2Server::start(move |peer, _| {
            while let Ok(Some(stream)) = peer.next_head() {
                peer.send(headers(stream, &[(":status", "200"), ("content-length", "10")], false));
                peer.send(data(stream, content, true));
            }
        });
        let proxy = before(upstream.address(), "");
        let answer = ask(&proxy, "length");
        assert!(answer.status() == 502 || (answer.reset.is_some() && !answer.is_ended), "{name}: {answer:?}");
        let event = proxy.events().of("length");
        assert!(!event["sidelight.cause"].is_null(), "{name}: {event}");
    }
}

#[test]
fn a_server_that_speaks_something_else_is_told() {
    let http1 = RawServer::start(|mut wire, _| {
        let _ = wire.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        let _ = wire.to_end("the end", &mut Vec::new());
    });
    let silent = RawServer::start(|mut wire, _| {
        let _ = wire.to_end("the end", &mut Vec::new());
    });
    let closing = RawServer::start(|mut wire, _| wire.close());
    for (name, server, statuses) in
        [("HTTP/1.1", &http1, [502, 502]), ("silence", &silent, [504, 504]), ("an end", &closing, [502, 503])]
    {
        let proxy = before(server.address(), "request_timeout: 700ms");
        let answer = ask(&proxy, "other");
        assert!(statuses.contains(&answer.status()), "{name}: {answer:?}");
        assert!(!proxy.events().of("other")["sidelight.cause"].is_null(), "{name}");
    }
}

#[test]
fn the_limit_of_streams_of_the_server_is_kept() {
    const STREAMS: usize = 3;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let over = most.clone();
    let upstream = Http2Server::with_settings(&[(3, STREAMS as u32)], move |peer, _| {
        // Answers in bursts, so that as many streams as allowed are open at once.
        let mut open = Vec::new();
        peer.wire().set_patience(Duration::from_millis(50));
        for _ in 0..2000 {
            match peer.next_head() {
                Ok(Some(stream)) => open.push(stream),
                Ok(None) => return,
                Err(_) => {}
            }
            over.fetch_max(open.len(), Ordering::SeqCst);
            if open.len() >= STREAMS || peer.wire().pending().is_empty() {
                for stream in open.drain(..) {
                    answer(peer, stream);
                }
            }
        }
    });
    let proxy = before(upstream.address(), "");
    let address = proxy.outbound();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let done = now.clone();
            thread::spawn(move || {
                let mut client = Peer::connect(address);
                let streams: Vec<u32> = (0..25).map(|number| number * 2 + 1).collect();
                for &stream in &streams {
                    client.send(headers(stream, &fields(&[]), true));
                }
                for &stream in &streams {
                    let answer = client.finish(stream).expect("an answer");
                    assert_eq!(answer.status(), 200, "{} {answer:?}", answer.text());
                    done.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let ends: Vec<_> = clients.into_iter().map(thread::JoinHandle::join).collect();
    assert!(ends.iter().all(Result::is_ok), "a request failed");
    assert_eq!(now.load(Ordering::SeqCst), 100);
    let most = most.load(Ordering::SeqCst);
    assert!(most <= STREAMS, "{most} streams at once on a connection that allows {STREAMS}");
}

#[test]
fn settings_may_change_under_way() {
    let upstream = Http2Server::start(|peer, _| {
        let mut window = 10;
        while let Ok(Some(stream)) = peer.next_head() {
            if peer.finish(stream).is_err() {
                return;
            }
            answer(peer, stream);
            // Smaller windows, larger frames, another table: nothing of it is seen by the client.
            peer.send(settings(&[(4, window), (5, 1 << 20), (1, window)]));
            window *= 10;
        }
    });
    let proxy = before(upstream.address(), "");
    let mut client = Peer::connect(proxy.outbound());
    let content = "c".repeat(8000);
    for stream in [1, 3, 5, 7, 9] {
        let post = [&[(":method", "POST")][..], &fields(&[])[1..]].concat();
        client.send([headers(stream, &post, false), data(stream, &content, true)].concat());
        let answer = client.finish(stream).unwrap();
        assert_eq!(answer.status(), 200, "{stream}: {answer:?}");
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn an_indexed_head_of_the_server_is_understood() {
    // What the dynamic table holds after the first answer is what the second refers to.
    let upstream = Http2Server::start(|peer, _| {
        let mut is_first = true;
        while let Ok(Some(stream)) = peer.next_head() {
            let mut block = vec![0x88]; // :status 200
            if is_first {
                hpack::indexed_literal(b"x-kept", b"value", &mut block);
            } else {
                block.push(0xbe);
            }
            is_first = false;
            peer.send(frame(frames::HEADERS, frames::END_HEADERS | frames::END_STREAM, stream, &block));
        }
    });
    let proxy = before(upstream.address(), "");
    let mut client = Peer::connect(proxy.outbound());
    for stream in [1, 3, 5] {
        let answer = client.ask(stream, &fields(&[])).unwrap();
        assert_eq!((answer.status(), answer.get("x-kept")), (200, Some("value")), "{answer:?}");
    }
}
