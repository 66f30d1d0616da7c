//! What happens on one side of the proxy when the other cancels, refuses, goes away, stops reading or dies.

use e2e::frames::{self, Peer, Stream, code, data, headers, reset};
use e2e::{Http2Server, RawClient, answer, before_http2, to_other, wait_for};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

#[test]
fn a_cancel_reaches_the_http2_upstream_at_once() {
    let seen = Arc::new(AtomicU32::new(u32::MAX));
    let told = seen.clone();
    let upstream = Http2Server::start(move |peer, _| {
        let Ok(Some(stream)) = peer.next_head() else { return };
        peer.send([headers(stream, &[(":status", "200")], false), data(stream, "some", false)].concat());
        let _ = peer.read_until(|peer| peer.stream(stream).reset.is_some());
        told.store(peer.stream(stream).reset.unwrap_or(u32::MAX), Ordering::SeqCst);
    });
    let proxy = before_http2(&upstream);
    let mut client = Peer::connect(proxy.outbound());
    client.send(headers(1, &to_other("GET", "/", &[("x-request-id", "cancelled")]), true));
    client.read_until(|peer| peer.stream(1).body == b"some").unwrap();
    client.send(reset(1, code::CANCEL));
    wait_for("the cancel at the upstream", || (seen.load(Ordering::SeqCst) != u32::MAX).then_some(()));
    assert_eq!(seen.load(Ordering::SeqCst), code::CANCEL);
    assert_eq!(proxy.events().of("cancelled")["sidelight.cause"], "client_gone");

    // The same with a client of HTTP/1.1 that leaves.
    seen.store(u32::MAX, Ordering::SeqCst);
    let mut client = RawClient::connect(proxy.outbound());
    client.send("GET / HTTP/1.1\r\nHost: other\r\nx-request-id: left\r\n\r\n");
    client.read_head("GET", 1).unwrap();
    client.reset();
    wait_for("the second cancel", || (seen.load(Ordering::SeqCst) != u32::MAX).then_some(()));
    assert_eq!(proxy.events().of("left")["sidelight.cause"], "client_gone");
}

#[test]
fn a_client_that_does_not_read_stops_the_upstream() {
    let sent = Arc::new(AtomicU32::new(0));
    let count = sent.clone();
    let upstream = Http2Server::start(move |peer, _| {
        let Ok(Some(stream)) = peer.next_head() else { return };
        peer.send(headers(stream, &[(":status", "200")], false));
        let (mut connection, mut own) = (65_535u64, 65_535u64);
        if let Some((_, window)) = peer.settings.iter().rev().find(|(id, _)| *id == 4) {
            own = u64::from(*window);
        }
        loop {
            let credit = |peer: &Peer, key| peer.credit.get(&key).copied().unwrap_or(0);
            let used = u64::from(count.load(Ordering::SeqCst));
            let room = (connection + credit(peer, 0)).min(own + credit(peer, stream)) - used;
            if room < 16_384 {
                if !peer.step().unwrap_or(false) {
                    return;
                }
                continue;
            }
            if !peer.send(data(stream, vec![b'x'; 16_384], false)) {
                return;
            }
            count.fetch_add(16_384, Ordering::SeqCst);
            (connection, own) = (connection.max(65_535), own.max(65_535));
        }
    });
    let proxy = before_http2(&upstream);
    let mut client = Peer::connect(proxy.outbound());
    client.gives_credit = false;
    client.send(headers(1, &to_other("GET", "/", &[]), true));
    client.read_until(|peer| peer.stream(1).body_bytes == 65_535).unwrap();
    // Nothing more is asked for: the upstream must come to rest.
    let mut last = 0;
    let mut quiet = 0;
    wait_for("the upstream to rest", || {
        thread::sleep(Duration::from_millis(20));
        let now = sent.load(Ordering::SeqCst);
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
        (quiet >= 20).then_some(())
    });
    assert!(last <= 1 << 20, "{last} bytes were taken for a client that reads none");
}

/// An upstream that refuses every request once: nothing was processed.
fn refusing() -> Http2Server {
    let refused = AtomicU32::new(0);
    Http2Server::start(move |peer, _| {
        while let Ok(Some(stream)) = peer.next_head() {
            if refused.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                peer.send(reset(stream, code::REFUSED_STREAM));
            } else if peer.finish(stream).is_ok() {
                answer(peer, stream);
            }
        }
    })
}

fn ask_refusing(method: &'static str, content: Option<&str>) {
    let upstream = refusing();
    let proxy = before_http2(&upstream);
    let mut client = Peer::connect(proxy.outbound());
    for stream in [1, 3, 5] {
        let id = format!("refused-{stream}");
        let answer =
            ask_other(&mut client, stream, &to_other(method, "/", &[("x-request-id", &id)]), content);
        assert_eq!(answer.status(), 200, "{method}: {} {answer:?}", answer.text());
        assert_eq!(proxy.events().of(&id)["sidelight.retries"], 1, "{method}");
    }
    drop(client);
    assert_eq!(proxy.stop().len(), 3);
}

fn ask_other(client: &mut Peer, stream: u32, fields: &[(&str, &str)], content: Option<&str>) -> Stream {
    client.send(headers(stream, fields, content.is_none()));
    if let Some(content) = content {
        client.send(data(stream, content, true));
    }
    client.finish(stream).unwrap_or_else(|fault| panic!("stream {stream}: {fault}"))
}

#[test]
fn a_stream_that_was_refused_is_sent_again() {
    ask_refusing("GET", None);
    ask_refusing("POST", None);
}

#[test]
fn a_stream_that_was_refused_is_sent_again_with_its_content() {
    ask_refusing("POST", Some("content"));
}

/// An upstream that goes away after each twenty requests.
fn leaving(served: &Arc<AtomicU32>) -> Http2Server {
    const REQUESTS_PER_CONNECTION: usize = 20;
    let served = served.clone();
    Http2Server::start(move |peer, _| {
        for number in 1..=REQUESTS_PER_CONNECTION {
            let Ok(Some(stream)) = peer.next_head() else { return };
            if number == REQUESTS_PER_CONNECTION {
                peer.send(frames::goaway(stream, code::NO_ERROR));
            }
            if peer.finish(stream).is_err() {
                return;
            }
            answer(peer, stream);
            served.fetch_add(1, Ordering::SeqCst);
        }
        // What came after the last stream was not processed; the peer closes when it has its answers.
        let _ = peer.read_until(|_| false);
    })
}

fn drive_leaving(content: Option<&'static str>) {
    let served = Arc::new(AtomicU32::new(0));
    let upstream = leaving(&served);
    let proxy = before_http2(&upstream);
    let address = proxy.outbound();
    let drive = move || {
        let mut client = Peer::connect(address);
        for stream in (1..200).step_by(2) {
            let method = if content.is_some() { "POST" } else { "GET" };
            let answer = ask_other(&mut client, stream, &to_other(method, "/", &[]), content);
            assert_eq!(answer.status(), 200, "{method}: {} {answer:?}", answer.text());
            client.forget(stream);
        }
    };
    let clients: Vec<_> = (0..4).map(|_| thread::spawn(drive)).collect();
    let ends: Vec<_> = clients.into_iter().map(thread::JoinHandle::join).collect();
    assert!(ends.iter().all(Result::is_ok), "a request failed");
    assert_eq!(served.load(Ordering::SeqCst), 400, "each was processed once");
    assert!(upstream.connections() >= 20, "{} connections", upstream.connections());
    let events = proxy.stop();
    assert_eq!(events.len(), 400);
    assert!(events.iter().all(|event| event["http.response.status_code"] == 200));
}

#[test]
fn goaway_of_the_upstream_loses_nothing() {
    drive_leaving(None);
}

#[test]
fn goaway_of_the_upstream_loses_no_content() {
    drive_leaving(Some("content"));
}

#[test]
fn an_http2_upstream_that_dies_in_the_answer_is_told() {
    let upstream = Http2Server::start(|peer, _| {
        let Ok(Some(stream)) = peer.next_head() else { return };
        peer.send([headers(stream, &[(":status", "200")], false), data(stream, "some", false)].concat());
        peer.wire().close();
    });
    let proxy = before_http2(&upstream);
    let mut client = Peer::connect(proxy.outbound());
    let answer = client.ask(1, &to_other("GET", "/", &[("x-request-id", "dies")])).unwrap();
    assert!(answer.reset.is_some() && !answer.is_ended, "{answer:?}");
    let event = proxy.events().of("dies");
    assert_eq!(event["sidelight.cause"], "response_incomplete", "{event}");
}
