//! A new configuration while traffic flows: taken whole or not at all, and no request notices. The same for a drain.

use e2e::frames::{Peer, request};
use e2e::{Fault, RawClient, Setup, Sidelight, StrictBackend, field, wait_for};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

fn saying(base: &Setup, text: &str) -> Setup {
    let route = format!(
        "routes:\n  - name: said\n    match: {{ path: {{ exact: /said }} }}\n    respond: {{ status: 200, body: \"{text}\" }}"
    );
    base.clone().section("inbound", &route)
}

fn said(client: &mut RawClient) -> String {
    client.ask("GET /said HTTP/1.1\r\nHost: app.example\r\n\r\n").expect("an answer").text()
}

#[test]
fn a_changed_file_takes_effect_on_connections_that_are_open() {
    let backend = StrictBackend::start();
    let base = Setup::app(backend.address());
    let proxy = Sidelight::start(&saying(&base, "one"));
    let mut client = RawClient::connect(proxy.inbound());
    let mut streams = Peer::connect(proxy.inbound());
    assert_eq!(said(&mut client), "one");
    assert_eq!(streams.ask(1, &request("GET", "/said")).unwrap().text(), "one");
    proxy.rewrite(&saying(&base, "two"));
    wait_for("the file to be seen", || (said(&mut client) == "two").then_some(()));
    assert_eq!(streams.ask(3, &request("GET", "/said")).unwrap().text(), "two");
    proxy.rewrite(&saying(&base, "three"));
    proxy.signal(libc::SIGHUP);
    wait_for("the signal to be followed", || (said(&mut client) == "three").then_some(()));
    let events = proxy.stop();
    let revisions: std::collections::HashSet<String> =
        events.iter().map(|event| event["sidelight.config.revision"].to_string()).collect();
    assert_eq!(revisions.len(), 3, "{revisions:?}");
}

#[test]
fn a_broken_file_changes_nothing_and_is_told() {
    let backend = StrictBackend::start();
    let base = Setup::app(backend.address());
    let proxy = Sidelight::start(&saying(&base, "one"));
    let mut client = RawClient::connect(proxy.inbound());
    assert_eq!(said(&mut client), "one");
    proxy.rewrite(&saying(&base, "two").section("limits", "no_such_limit: 1"));
    proxy.signal(libc::SIGHUP);
    let shown = wait_for("the refusal in /config", || {
        let text = proxy.admin("/config").text();
        text.contains("no_such_limit").then_some(text)
    });
    let shown: serde_json::Value =
        serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{error}: {shown}"));
    assert!(shown.to_string().contains("no_such_limit"), "{shown}");
    assert_eq!(said(&mut client), "one");
    wait_for("the refusal in the log", || {
        proxy.log().iter().any(|line| line.to_string().contains("no_such_limit")).then_some(())
    });
    // A missing file is as broken as a wrong one.
    std::fs::remove_file(proxy.directory().join("sidelight.yaml")).unwrap();
    proxy.signal(libc::SIGHUP);
    assert_eq!(said(&mut client), "one");
    proxy.rewrite(&saying(&base, "three"));
    wait_for("the repaired file", || (said(&mut client) == "three").then_some(()));
    wait_for("the refusal to be gone", || {
        (!proxy.admin("/config").text().contains("no_such_limit")).then_some(())
    });
}

#[test]
fn a_listener_may_come_and_go() {
    let backend = StrictBackend::start();
    let base = Setup::app(backend.address())
        .section("clusters", &format!("db:\n  endpoints: [\"{}\"]", backend.address()));
    let proxy = Sidelight::start(&base);
    let with_tcp = base.clone().section("outbound", "tcp: [ { address: \"127.0.0.1:0\", cluster: db } ]");
    proxy.rewrite(&with_tcp);
    proxy.signal(libc::SIGHUP);
    let address: SocketAddr = wait_for("the new listener", || {
        let log = proxy.log();
        let line = log.iter().find(|line| field(line, "listener") == "tcp:db")?;
        field(line, "address").as_str()?.parse().ok()
    });
    assert_eq!(RawClient::get(address, "/").unwrap().status, 200);
    proxy.rewrite(&base);
    proxy.signal(libc::SIGHUP);
    wait_for("the listener to be gone", || std::net::TcpStream::connect(address).is_err().then_some(()));
}

/// What a client did.
#[derive(Default)]
struct Tally {
    done: AtomicUsize,
    /// Connections that the proxy closed while they were idle, at the moment the next request was sent; a client sends
    /// such a request again (RFC 9112 section 9.3.1).
    raced: AtomicUsize,
}

/// Clients that send one request after the other until `stop`, and open no new connection once `is_leaving`.
struct Load {
    stop: Arc<AtomicBool>,
    is_leaving: Arc<AtomicBool>,
    tally: Arc<Tally>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(address: SocketAddr, http1: usize, http2: usize) -> Self {
        let mut load = Load {
            stop: Arc::default(),
            is_leaving: Arc::default(),
            tally: Arc::default(),
            clients: Vec::new(),
        };
        for _ in 0..http1 {
            let (stop, leaving, tally) = (load.stop.clone(), load.is_leaving.clone(), load.tally.clone());
            load.clients.push(thread::spawn(move || drive_http1(address, &stop, &leaving, &tally)));
        }
        for _ in 0..http2 {
            let (stop, leaving, tally) = (load.stop.clone(), load.is_leaving.clone(), load.tally.clone());
            load.clients.push(thread::spawn(move || drive_http2(address, &stop, &leaving, &tally)));
        }
        load
    }

    fn done(&self) -> usize {
        self.tally.done.load(Ordering::SeqCst)
    }

    /// Ends the clients; fails if one of them failed. The number of requests and of races.
    fn finish(self) -> (usize, usize) {
        self.stop.store(true, Ordering::SeqCst);
        let ends: Vec<_> = self.clients.into_iter().map(JoinHandle::join).collect();
        assert!(ends.iter().all(Result::is_ok), "a request failed");
        (self.tally.done.load(Ordering::SeqCst), self.tally.raced.load(Ordering::SeqCst))
    }
}

fn drive_http1(address: SocketAddr, stop: &AtomicBool, leaving: &AtomicBool, tally: &Tally) {
    while !stop.load(Ordering::SeqCst) && !leaving.load(Ordering::SeqCst) {
        let mut client = RawClient::connect(address);
        let mut is_first = true;
        loop {
            match client.ask("POST /load HTTP/1.1\r\nHost: app.example\r\nContent-Length: 4\r\n\r\nload") {
                Ok(answer) => {
                    assert_eq!(answer.status, 200, "{answer:?}");
                    tally.done.fetch_add(1, Ordering::SeqCst);
                    if answer.fields.list("connection").contains(&"close".to_owned()) {
                        break;
                    }
                }
                Err(Fault::Closed) if !is_first => {
                    tally.raced.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                Err(fault) => panic!("a request failed: {fault}"),
            }
            is_first = false;
            if stop.load(Ordering::SeqCst) {
                return;
            }
        }
    }
}

fn drive_http2(address: SocketAddr, stop: &AtomicBool, leaving: &AtomicBool, tally: &Tally) {
    while !stop.load(Ordering::SeqCst) && !leaving.load(Ordering::SeqCst) {
        let mut client = Peer::connect(address);
        for stream in (1..).step_by(2) {
            let answer = client.ask(stream, &request("GET", "/load")).expect("an answer");
            match answer.status() {
                200 => {
                    tally.done.fetch_add(1, Ordering::SeqCst);
                }
                // Sent after GOAWAY was, and not processed: the client sends it again elsewhere.
                0 if client.goaway.is_some_and(|(last, code)| code == 0 && last < stream) => break,
                _ => panic!(
                    "a request failed: {answer:?}, goaway {:?}, closed {}",
                    client.goaway, client.is_closed
                ),
            }
            client.forget(stream);
            if client.goaway.is_some() || stop.load(Ordering::SeqCst) {
                break;
            }
        }
        // What the proxy asks on its way out is answered.
        let _ = client.goaway.is_some() && client.read_until(|_| false).is_ok();
    }
}

#[test]
fn twenty_reloads_under_load_lose_nothing() {
    let backend = StrictBackend::start();
    let base = Setup::app(backend.address()).workers(2);
    let proxy = Sidelight::start(&saying(&base, "0"));
    let load = Load::start(proxy.inbound(), 4, 2);
    let mut client = RawClient::connect(proxy.inbound());
    for round in 1..=20 {
        let before = load.done();
        proxy.rewrite(&saying(&base, &round.to_string()));
        proxy.signal(libc::SIGHUP);
        wait_for("the reload", || (said(&mut client) == round.to_string()).then_some(()));
        wait_for("traffic after it", || (load.done() >= before + 20).then_some(()));
    }
    let (done, raced) = load.finish();
    assert_eq!(raced, 0, "a reload closed a connection");
    assert!(backend.take().violations.is_empty());
    drop(client);
    let events = proxy.stop();
    let loaded = events.iter().filter(|event| event["url.path"] == "/load").count();
    assert_eq!(loaded, done, "one event for each of them");
}

#[test]
fn a_drain_under_load_loses_nothing() {
    let backend = StrictBackend::start();
    let mut proxy = Sidelight::start(&Setup::app(backend.address()).workers(2));
    let (inbound, telemetry) = (proxy.inbound(), proxy.address("telemetry"));
    let load = Load::start(inbound, 4, 2);
    wait_for("traffic", || (load.done() >= 200).then_some(()));
    proxy.signal(libc::SIGTERM);
    // Whoever sends the traffic asks whether the proxy is ready, and sends no new connection when it is not.
    wait_for("not ready", || {
        RawClient::get(telemetry, "/ready").is_ok_and(|answer| answer.status == 503).then_some(())
    });
    let before = load.done();
    wait_for("traffic while draining", || (load.done() >= before + 50).then_some(()));
    thread::sleep(Duration::from_millis(100)); // as long as a balancer's probe interval, in small
    load.is_leaving.store(true, Ordering::SeqCst);
    assert!(proxy.wait().success());
    let (done, raced) = load.finish();
    println!("{done} requests, {raced} sent again");
    assert_eq!(field(&proxy.wait_for_log("drained"), "cut"), 0);
    let events = proxy.events().exchanges();
    assert_eq!(events.len(), done, "one event for each of them");
}
