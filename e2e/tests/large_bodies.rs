//! Content of any length passes in bounded memory, at the pace of the slower side.

use e2e::frames::{Peer, data, headers, request, request_with};
use e2e::{Fault, Framing, RawClient, RawServer, Setup, Sidelight, Wire, process, process::Growth, wait_for};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const LENGTH: u64 = 2 << 30;
const RESIDENT_MAX: u64 = 64 << 20;

fn read_head(wire: &mut Wire) -> String {
    let line = String::from_utf8(wire.line("request line").expect("text")).expect("text");
    while !wire.line("field").expect("a line").is_empty() {}
    line
}

/// Reads `count` bytes from what is pending and the socket behind it.
fn swallow(wire: &mut Wire, count: u64) -> u64 {
    let mut left = count.saturating_sub(wire.pending().len() as u64);
    let mut socket = wire.handle();
    let mut space = vec![0; 256 * 1024];
    while left > 0 {
        let take = space.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match socket.read(&mut space[..take]) {
            Ok(0) | Err(_) => break,
            Ok(read) => left -= read as u64,
        }
    }
    count - left
}

fn pour(socket: &mut TcpStream, count: u64) -> u64 {
    let part = vec![b'x'; 256 * 1024];
    let mut left = count;
    while left > 0 {
        let take = part.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if socket.write_all(&part[..take]).is_err() {
            break;
        }
        left -= take as u64;
    }
    count - left
}

/// An app that sends [`LENGTH`] bytes for a GET, and counts the bytes of a POST, whose length is known or whose
/// chunks are of one size.
fn app() -> RawServer {
    RawServer::start(|mut wire, _| {
        let line = read_head(&mut wire);
        if line.starts_with("GET") {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
            wire.send(head.as_bytes()).expect("a peer that reads");
            pour(&mut wire.handle(), LENGTH);
            return;
        }
        let got = swallow(&mut wire, LENGTH).to_string();
        let answer =
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{got}", got.len());
        wire.send(answer.as_bytes()).expect("a peer that reads");
    })
}

fn start(app: SocketAddr) -> Sidelight {
    Sidelight::start(&Setup::app(app).section("limits", "request_timeout: none"))
}

fn check_memory(proxy: &Sidelight, what: &str) {
    let peak = process::resident_peak_bytes(proxy.pid());
    println!("{what}: at most {} KiB resident", peak / 1024);
    assert!(peak < RESIDENT_MAX, "{what}: {peak} bytes resident");
}

#[test]
fn two_gibibytes_go_down_over_http1() {
    let app = app();
    let proxy = start(app.address());
    let mut client = RawClient::connect(proxy.inbound());
    client.send("GET / HTTP/1.1\r\nHost: app.example\r\nx-request-id: large\r\n\r\n");
    let head = client.read_head("GET", 1).unwrap();
    assert_eq!((head.status, head.framing), (200, Framing::Length(LENGTH)));
    assert_eq!(swallow(client.wire(), LENGTH), LENGTH);
    check_memory(&proxy, "download over HTTP/1.1");
    assert_eq!(proxy.events().of("large")["http.response.body.size"], LENGTH);
}

#[test]
fn two_gibibytes_go_up_over_http1() {
    let app = app();
    let proxy = start(app.address());
    let mut client = RawClient::connect(proxy.inbound());
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: {LENGTH}\r\nx-request-id: large\r\n\r\n"
    ));
    assert_eq!(pour(&mut client.wire().handle(), LENGTH), LENGTH);
    assert_eq!(client.read("POST", 1).unwrap().text(), LENGTH.to_string());
    check_memory(&proxy, "upload over HTTP/1.1");
    assert_eq!(proxy.events().of("large")["http.request.body.size"], LENGTH);
}

#[test]
fn two_gibibytes_go_down_over_http2() {
    let app = app();
    let proxy = start(app.address());
    let mut client = Peer::connect_with(proxy.inbound(), &[(4, 1 << 20), (5, 1 << 20)]);
    client.keeps_bodies = false;
    client.send(e2e::frames::window_update(0, 1 << 20));
    let answer = client.ask(1, &request_with("GET", "/", &[("x-request-id", "large")])).unwrap();
    assert_eq!((answer.status(), answer.body_bytes, answer.is_ended), (200, LENGTH, true));
    check_memory(&proxy, "download over HTTP/2");
    assert_eq!(proxy.events().of("large")["http.response.body.size"], LENGTH);
}

#[test]
fn two_gibibytes_go_up_over_http2() {
    let app = app();
    let proxy = start(app.address());
    let mut client = Peer::connect(proxy.inbound());
    let length = LENGTH.to_string();
    let fields = request_with("POST", "/", &[("content-length", &length), ("x-request-id", "large")]);
    client.send(headers(1, &fields, false));
    client.read_until(|peer| peer.settings.iter().any(|(id, _)| *id == 4)).unwrap();
    let window =
        client.settings.iter().find(|(id, _)| *id == 4).map_or(65_535, |(_, window)| u64::from(*window));
    let part = data(1, vec![b'x'; 16 * 1024], false);
    let mut sent = 0;
    while sent < LENGTH {
        let credit = |key| client.credit.get(&key).copied().unwrap_or(0);
        let room = (65_535 + credit(0)).min(window + credit(1)) - sent;
        if room < 16 * 1024 {
            assert!(client.step().unwrap(), "closed after {sent} bytes");
            continue;
        }
        assert!(client.send(&part), "closed after {sent} bytes");
        sent += 16 * 1024;
    }
    client.send(data(1, "", true));
    let answer = client.finish(1).unwrap();
    assert_eq!(answer.text(), length, "{answer:?}");
    check_memory(&proxy, "upload over HTTP/2");
    assert_eq!(proxy.events().of("large")["http.request.body.size"], LENGTH);
}

/// How much a socket takes before it takes no more for a while.
fn fill(socket: &mut TcpStream) -> u64 {
    socket.set_write_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let part = vec![b'x'; 64 * 1024];
    let mut total = 0;
    while let Ok(written) = socket.write(&part) {
        total += written as u64;
        assert!(total < 1 << 30, "nothing holds the sender back");
    }
    total
}

#[test]
fn a_slow_reader_holds_the_app_back() {
    let rested = Arc::new(AtomicUsize::new(0));
    let count = rested.clone();
    let app = RawServer::start(move |mut wire, _| {
        read_head(&mut wire);
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").as_bytes()).unwrap();
        fill(&mut wire.handle());
        count.fetch_add(1, Ordering::SeqCst);
    });
    let proxy = start(app.address());
    let growth = Growth::watch(proxy.pid());
    let mut http1: Vec<RawClient> = (0..8).map(|_| RawClient::connect(proxy.inbound())).collect();
    for client in &mut http1 {
        client.send("GET / HTTP/1.1\r\nHost: app.example\r\n\r\n");
    }
    let mut http2: Vec<Peer> = (0..8).map(|_| Peer::connect(proxy.inbound())).collect();
    for client in &mut http2 {
        client.send(headers(1, &request("GET", "/"), true));
    }
    // An app gives up once nothing was taken for a while; what it sent is all that the proxy and the kernel hold.
    wait_for("every app to rest", || (rested.load(Ordering::SeqCst) == 16).then_some(()));
    for client in &mut http1 {
        let head = client.read_head("GET", 1).unwrap();
        assert_eq!(head.status, 200);
    }
    let grown = growth.end();
    println!("16 answers that nobody reads: {} KiB more", grown / 1024);
    assert!(grown < 12 << 20, "{grown} bytes more");
}

#[test]
fn a_slow_app_holds_the_client_back() {
    let app = RawServer::start(|mut wire, _| {
        read_head(&mut wire);
        let mut all = Vec::new();
        thread::sleep(Duration::from_secs(1)); // reads nothing, then goes
        let _ = wire.exact(1, "content", &mut all);
    });
    let proxy = start(app.address());
    let growth = Growth::watch(proxy.pid());
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let address = proxy.inbound();
            thread::spawn(move || {
                let mut client = RawClient::connect(address);
                client.send(format!(
                    "POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: {LENGTH}\r\n\r\n"
                ));
                fill(&mut client.wire().handle())
            })
        })
        .collect();
    for client in clients {
        let taken = client.join().unwrap();
        assert!(taken < 64 << 20, "{taken} bytes were taken");
    }
    let grown = growth.end();
    println!("8 uploads that nobody reads: {} KiB more", grown / 1024);
    assert!(grown < 12 << 20, "{grown} bytes more");
}

/// An app in a process of its own that sends a part of an answer, and waits to be killed.
struct Doomed {
    child: Child,
    address: SocketAddr,
}

impl Doomed {
    fn start(head: &str) -> Self {
        let program = format!(
            "import socket\n\
             l = socket.create_server(('127.0.0.1', 0)); print(l.getsockname()[1], flush=True)\n\
             while True:\n c, _ = l.accept(); c.recv(65536); c.sendall({head:?}.encode() + b'some'); keep = c\n"
        );
        let mut child = Command::new("python3")
            .args(["-S", "-c", &program])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("python3: {error}; install it: apt-get install python3"));
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut line).expect("a line");
        let address = format!("127.0.0.1:{}", line.trim()).parse().expect("a number");
        Doomed { child, address }
    }

    fn kill(&mut self) {
        self.child.kill().expect("a process"); // SIGKILL
        self.child.wait().expect("a process");
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_app_that_is_killed_in_its_answer_is_a_cut_answer() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\n",
    ] {
        let mut app = Doomed::start(head);
        let proxy = start(app.address);
        let mut client = RawClient::connect(proxy.inbound());
        client.send("GET / HTTP/1.1\r\nHost: app.example\r\nx-request-id: killed\r\n\r\n");
        let mut answer = client.read_head("GET", 1).unwrap();
        assert_eq!(answer.status, 200);
        app.kill();
        let body = client.read_body(&mut answer);
        assert!(matches!(body, Err(Fault::Cut(_))), "{body:?} {answer:?}");
        assert!(client.is_closed());
        let event = proxy.events().of("killed");
        assert_eq!(event["sidelight.cause"], "response_incomplete", "{event}");
        assert_eq!(event["http.response.status_code"], 200, "{event}");
        // The next one is told at once that nobody is there.
        let answer = RawClient::get(proxy.inbound(), "/").unwrap();
        assert_eq!(answer.status, 502, "{answer:?}");

        let mut app = Doomed::start(head);
        let proxy = start(app.address);
        let mut client = Peer::connect(proxy.inbound());
        client.send(headers(1, &request("GET", "/"), true));
        client.read_until(|peer| peer.stream(1).body == b"some" || peer.stream(1).body_bytes > 0).unwrap();
        app.kill();
        let answer = client.finish(1).unwrap();
        assert!(answer.reset.is_some() && !answer.is_ended, "{answer:?}");
        let event = proxy.events().wait(1).remove(0);
        assert_eq!(event["sidelight.cause"], "response_incomplete", "{event}");
    }
}
