//! Floods, bombs and clients that leave: each costs the proxy little, and the app nothing (the HTTP/2 advisories of
//! 2019 to 2025).

use e2e::frames::{self, code, data, frame, headers, request, request_with, reset, settings, window_update};
use e2e::{FrameBench, Http2Server, Script, Step, hpack, process, process::Growth, wait_for};
use std::time::{Duration, Instant};

use code::{ENHANCE_YOUR_CALM, PROTOCOL_ERROR, REFUSED_STREAM};

/// Sends until the other side ends the connection, for at most `rounds` times.
fn flood(bench: &FrameBench, name: &str, rounds: u32, start: Vec<u8>, mut round: impl FnMut(u32) -> Vec<u8>) {
    let pid = bench.proxy().pid();
    let (growth, cpu) = (Growth::watch(pid), process::cpu_time(pid));
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
    let grown = growth.end();
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
    let growth = Growth::watch(pid);
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
    let grown = growth.end();
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
    let growth = Growth::watch(pid);
    let mut client = frames::Peer::connect_with(bench.proxy().inbound(), &[(4, 0)]);
    let get = request("GET", "/large");
    let streams: Vec<u32> = (0..500).map(|n| n * 2 + 1).collect();
    for &stream in &streams {
        client.send(headers(stream, &get, true));
    }
    let read = client.read_until(|peer| streams.iter().all(|&stream| peer.stream(stream).status() == 200));
    let others: Vec<_> = streams.iter().map(|&stream| (stream, client.stream(stream).status())).collect();
    let others: Vec<_> = others.iter().filter(|(_, status)| *status != 200).collect();
    bench.check("500 streams without a window", read.is_ok(), format!("{read:?}; not 200: {others:?}"));
    let grown = growth.end();
    bench.check("500 streams without a window", grown < 24 << 20, format!("{grown} bytes of memory more"));
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
