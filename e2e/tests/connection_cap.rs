//! `circuit_breaker.connections`: the upstream never sees more connections than that, however many workers there are,
//! and a request that finds none waits for its turn, for a while.

use e2e::{RawClient, RawServer, Script, Setup, Sidelight, Step, StrictBackend, Wire};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn capped(workers: usize, endpoints: &[SocketAddr], caps: &str) -> Setup {
    let list: Vec<_> = endpoints.iter().map(|endpoint| format!("{endpoint:?}")).collect();
    let list = list.join("\", \"");
    Setup::bare().workers(workers).section(
        "clusters",
        &format!("up:\n  protocol: http1\n  endpoints: [\"{list}\"]\n  circuit_breaker: {{ {caps} }}"),
    )
}

const GET: &str = "GET /c HTTP/1.1\r\nHost: up\r\n\r\n";

/// How many connections are open, and were at most.
#[derive(Default)]
struct Census {
    open: AtomicUsize,
    peak: AtomicUsize,
    served: AtomicUsize,
}

fn server(census: &Arc<Census>) -> RawServer {
    let census = Arc::clone(census);
    RawServer::start(move |mut wire: Wire, _| {
        let open = census.open.fetch_add(1, Ordering::SeqCst) + 1;
        census.peak.fetch_max(open, Ordering::SeqCst);
        loop {
            let line = wire.line("a request");
            if !line.as_ref().is_ok_and(|line| line.starts_with(b"GET ")) {
                break;
            }
            while wire.line("a field").is_ok_and(|line| !line.is_empty()) {}
            thread::sleep(Duration::from_millis(1)); // work
            census.served.fetch_add(1, Ordering::SeqCst);
            if wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                break;
            }
        }
        // What the proxy closed is closed, even if this thread comes late to notice.
        census.open.fetch_sub(1, Ordering::SeqCst);
    })
}

#[test]
fn fewer_connections_than_workers_serve_everyone() {
    let census = Arc::<Census>::default();
    let (one, other) = (server(&census), server(&census));
    let setup = capped(4, &[one.address(), other.address()], "connections: 2");
    let proxy = Sidelight::start(&setup);
    let outbound = proxy.outbound();
    let clients: Vec<_> = (0..12)
        .map(|_| {
            thread::spawn(move || {
                let mut client = RawClient::connect(outbound);
                for _ in 0..15 {
                    assert_eq!(client.ask(GET).expect("an answer").status, 200);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("every request is answered");
    }
    assert_eq!(census.served.load(Ordering::SeqCst), 12 * 15);
    // A thread of the server may notice the end of one connection after the next has begun.
    let peak = census.peak.load(Ordering::SeqCst);
    assert!(peak <= 2 + 2, "{peak} connections");
    let events = proxy.stop();
    assert!(events.iter().any(|event| event["sidelight.pool_wait_ms"].is_number()), "nobody waited");
}

#[test]
fn who_waits_in_vain_is_told_by_what() {
    let backend = StrictBackend::start();
    backend.script("/slow", Script(vec![Step::ReadBody, Step::AwaitHangUp]));
    let setup = capped(1, &[backend.address()], "connections: 1, pending: 1");
    let proxy = Sidelight::start(&setup);
    let mut busy = RawClient::connect(proxy.outbound());
    busy.send("GET /slow HTTP/1.1\r\nHost: up\r\n\r\n");
    backend.take_after(1);
    let outbound = proxy.outbound();
    let started = Instant::now();
    let ask = |path: &str| RawClient::connect(outbound).ask(GET.replace("/c", path)).unwrap();
    // One waits in vain, the other finds that one waits already, in either order.
    let answers = thread::scope(|scope| {
        let other = scope.spawn(|| ask("/other"));
        [ask("/one"), other.join().unwrap()]
    });
    assert!(started.elapsed() >= Duration::from_secs(1), "the connect timeout");
    for answer in answers {
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &problem["cause"]), (503, &"overflow".into()));
    }
    let mut breakers: Vec<_> = ["/one", "/other"]
        .map(|path| proxy.events().find("its event", |event| event["url.path"] == path))
        .map(|event| {
            assert_eq!(event["sidelight.breaker.scope"], "cluster", "{event:#}");
            assert_eq!(event["sidelight.breaker.name"], "up");
            assert_eq!(
                (&event["sidelight.breaker.limit"], &event["sidelight.breaker.current"]),
                (&1.into(), &2.into())
            );
            (event["sidelight.breaker"].clone(), event["sidelight.pool_wait_ms"].is_number())
        })
        .into();
    breakers.sort_by_key(|(name, _)| name.to_string());
    assert_eq!(breakers, [("connections".into(), true), ("pending".into(), false)]);
    drop(busy);
    backend.wait_for_hang_up(1);
    let answer = RawClient::connect(outbound).ask(GET).unwrap();
    assert_eq!(answer.status, 200, "the place is free again");
}
