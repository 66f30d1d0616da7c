//! Mirroring: the copy is what the app got, the app's caller notices nothing, and copies do not multiply.

use e2e::frames::{Peer, request};
use e2e::{RawClient, RawServer, Script, Setup, Sidelight, Step, StrictBackend, wait_for};
use serde_json::Value;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// An app whose requests are all mirrored to `shadow`; `more` terms of the mirror.
fn mirrored(app: SocketAddr, shadow: SocketAddr, more: &str) -> Setup {
    mirrored_for("all", app, shadow, more)
}

/// The same, and whose context is believed.
fn mirrored_for(trust: &str, app: SocketAddr, shadow: SocketAddr, more: &str) -> Setup {
    Setup::app(app)
        .section("inbound", &format!("trust: {trust}"))
        .section("inbound", &format!("routes:\n  - name: all\n    mirror: {{ cluster: shadow{more} }}"))
        .section("clusters", &format!("shadow:\n  endpoints: [\"{shadow}\"]\n  protocol: http1"))
}

fn metric(proxy: &Sidelight, name: &str) -> u64 {
    let page = RawClient::get(proxy.address("telemetry"), "/metrics").expect("metrics").text();
    let start = format!("{name}_total{{sidelight_cluster=\"shadow\"}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().expect("a number")
}

fn wait_for_metric(proxy: &Sidelight, name: &str, value: u64) {
    wait_for(&format!("{name} to be {value}"), || (metric(proxy, name) == value).then_some(()));
}

fn of_path<'a>(events: &'a [Value], path: &str) -> &'a Value {
    events.iter().find(|event| event["url.path"] == path).unwrap_or_else(|| panic!("{path} in {events:#?}"))
}

#[test]
fn the_mirror_gets_the_same_request_with_a_mark() {
    let (app, shadow) = (StrictBackend::start(), StrictBackend::start());
    let proxy = Sidelight::start(&mirrored(app.address(), shadow.address(), ""));
    let requests = [
        "GET /get?q=%20x HTTP/1.1\r\nHost: shop.example:8080\r\nX-Account-Id: a1\r\n\r\n",
        "POST /length HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5\r\n\r\nhello",
        "PUT /chunked HTTP/1.1\r\nHost: shop.example\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 7\r\n\r\n",
        "DELETE /delete HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n",
    ];
    let mut client = RawClient::connect(proxy.inbound());
    for request in requests {
        assert_eq!(client.ask(request).unwrap().status, 200);
    }
    let mut streams = Peer::connect(proxy.inbound());
    assert_eq!(streams.ask(1, &request("GET", "/streams")).unwrap().status(), 200);
    let (given, copies) = (app.take_after(5), shadow.take_after(5));
    assert!(copies.violations.is_empty(), "{:?}", copies.violations);
    for given in &given.whole {
        let copy = copies.whole.iter().find(|copy| copy.target == given.target).expect("a copy");
        assert_eq!((&copy.method, &copy.body), (&given.method, &given.body));
        assert_eq!(copy.trailers, given.trailers);
        let strip = |fields: &e2e::Fields| {
            let mut list = fields.0.clone();
            list.retain(|(name, _)| {
                !["traceparent", "sidelight-mirror", "transfer-encoding", "content-length"]
                    .contains(&name.as_str())
            });
            list
        };
        assert_eq!(strip(&copy.fields), strip(&given.fields), "Host and context among them");
        assert_eq!(copy.fields.all("sidelight-mirror").collect::<Vec<_>>(), ["1"]);
        assert!(!given.fields.has("sidelight-mirror"));
        let trace = |fields: &e2e::Fields| fields.get("traceparent").unwrap().to_owned();
        let (own, primary) = (trace(&copy.fields), trace(&given.fields));
        assert_eq!(own[..35], primary[..35], "the same trace");
        assert_ne!(own[36..52], primary[36..52], "a span of its own");
    }
    drop((client, streams));
    wait_for_metric(&proxy, "sidelight_mirror_requests", 5);
    assert_eq!(metric(&proxy, "sidelight_mirror_failures"), 0);
    let events = proxy.stop();
    assert_eq!(events.len(), 5, "copies are no exchanges of the app");
    assert!(events.iter().all(|event| event["sidelight.mirror"] == "sent"), "{events:#?}");
}

#[test]
fn a_mirror_that_fails_in_any_way_changes_nothing_for_the_caller() {
    let app = StrictBackend::start();
    let silent = RawServer::start(|mut wire, _| {
        let _ = wire.to_end("nothing", &mut Vec::new());
    });
    let garbage = RawServer::start(|mut wire, _| {
        let _ = wire.line("a request");
        let _ = wire.send(b"\x16\x03\x01 this is no HTTP\r\n\r\n");
        wire.close();
    });
    let cut = StrictBackend::start();
    cut.script("/c", Script::reply("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").close());
    let broken = StrictBackend::start();
    broken.script("/c", Script::reply("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"));
    // Bound, never accepting: connections hang once its backlog is full; before that requests do.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (name, shadow) in [
        ("silent", silent.address()),
        ("garbage", garbage.address()),
        ("cut", cut.address()),
        ("broken", broken.address()),
        ("deaf", deaf.local_addr().unwrap()),
        ("gone", gone),
    ] {
        let proxy = Sidelight::start(&mirrored(app.address(), shadow, ", timeout: 300ms"));
        let mut client = RawClient::connect(proxy.inbound());
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            let started = Instant::now();
            let request = "POST /c HTTP/1.1\r\nHost: app.example\r\nContent-Length: 4\r\n\r\nbody";
            assert_eq!(client.ask(request).unwrap().status, 200, "{name}");
            longest = longest.max(started.elapsed());
        }
        drop(client);
        // Far less than any copy takes; generous, because tests share the machine.
        assert!(longest < Duration::from_millis(250), "{name}: {longest:?}");
        wait_for_metric(&proxy, "sidelight_mirror_failures", 20);
        assert_eq!(metric(&proxy, "sidelight_mirror_requests"), 20, "{name}");
        let events = proxy.stop();
        for event in &events {
            assert_eq!(
                (&event["sidelight.outcome"], &event["sidelight.attempts"]),
                (&"complete".into(), &1.into())
            );
        }
    }
    assert_eq!(app.take().whole.len(), 6 * 20);
}

#[test]
fn what_cannot_be_copied_is_said_and_counted() {
    let app = StrictBackend::start();
    let early = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    app.script("/early", Script(vec![Step::Send(early.into()), Step::Close]));
    app.script(
        "/upgrade",
        Script(vec![
            Step::Send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n".into(),
            ),
            Step::Echo,
        ]),
    );
    let silent = RawServer::start(|mut wire, _| {
        let _ = wire.to_end("nothing", &mut Vec::new());
    });
    let setup = mirrored(app.address(), silent.address(), ", requests_max: 2")
        .section("limits", "retry_body_bytes_max: 1KiB");
    let proxy = Sidelight::start(&setup);
    let post = |path: &str, bytes: usize| {
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n{}", "x".repeat(bytes))
    };
    let mut client = RawClient::connect(proxy.inbound());
    assert_eq!(client.ask(post("/long", 1025)).unwrap().status, 200);
    assert_eq!(
        client
            .ask(
                post("/chunks", 0).replace("Content-Length: 0", "Transfer-Encoding: chunked")
                    + &format!("600\r\n{}\r\n0\r\n\r\n", "y".repeat(0x600))
            )
            .unwrap()
            .status,
        200
    );
    assert_eq!(
        client.ask("GET /tracer HTTP/1.1\r\nHost: a\r\nX-Request-Type: TRACE\r\n\r\n").unwrap().status,
        200
    );
    for path in ["/first", "/second", "/third"] {
        assert_eq!(client.ask(post(path, 4)).unwrap().status, 200);
    }
    let mut cut = RawClient::connect(proxy.inbound());
    cut.send("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf");
    assert_eq!(cut.read("POST", 1).unwrap().status, 200);
    let mut upgraded = RawClient::connect(proxy.inbound());
    upgraded.send("GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n");
    assert_eq!(upgraded.read_head("GET", 1).unwrap().status, 101);
    drop((client, cut, upgraded));
    let events = proxy.events().wait(8);
    for (path, expected) in [
        ("/long", Value::from("body")),
        ("/chunks", "body".into()),
        ("/tracer", Value::Null),
        ("/first", "sent".into()),
        ("/second", "sent".into()),
        ("/third", "too_many".into()),
        ("/early", "body".into()),
        ("/upgrade", Value::Null),
    ] {
        assert_eq!(of_path(&events, path)["sidelight.mirror"], expected, "{path}");
    }
    assert_eq!(metric(&proxy, "sidelight_mirror_skipped"), 4);
    assert_eq!(metric(&proxy, "sidelight_mirror_requests"), 2);
}

#[test]
fn copies_are_not_copied_again_by_a_sidelight_that_believes_their_mark() {
    for (trust, copies_of_copies) in [("all", 0), ("none", 10)] {
        let (app, shadow, third) = (StrictBackend::start(), StrictBackend::start(), StrictBackend::start());
        let behind = Sidelight::start(&mirrored_for(trust, shadow.address(), third.address(), ""));
        let proxy = Sidelight::start(&mirrored(app.address(), behind.inbound(), ""));
        let mut client = RawClient::connect(proxy.inbound());
        for _ in 0..10 {
            assert_eq!(client.ask("GET /c HTTP/1.1\r\nHost: app.example\r\n\r\n").unwrap().status, 200);
        }
        let copies = shadow.take_after(10);
        assert_eq!((app.take().whole.len(), copies.whole.len()), (10, 10));
        for copy in &copies.whole {
            // Passed on where it is believed, and nowhere else: another one would hide requests from mirrors.
            assert_eq!(copy.fields.has("sidelight-mirror"), trust == "all");
        }
        third.take_after(copies_of_copies);
        wait_for_metric(&behind, "sidelight_mirror_requests", copies_of_copies as u64);
    }
}
