use super::*;
use crate::exchange::{Connection, Direction, NoSink, Recorder, Sink, Tunnel};
use crate::http1::{HeadLimits, parse_request};
use crate::svc::{Fields, Scheme};
use std::rc::Rc;
use tokio::time::Instant;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 1 << 16, fields_max: 100, target_bytes_max: 1 << 14 };

fn connection(direction: Direction, is_trusted: bool) -> Connection {
    Connection {
        direction,
        peer: "10.0.0.9:4711".parse().unwrap(),
        local: "127.0.0.1:15006".parse().unwrap(),
        is_tls: false,
        identity: None,
        is_trusted,
        serial: Default::default(),
    }
}

/// Sends a head through the hook, as an inbound request of a trusted peer.
fn pass(text: &str) -> Result<RequestHead> {
    pass_on(text, connection(Direction::Inbound, true)).map(|(head, response)| {
        assert!(response.is_none(), "{text:?}");
        head
    })
}

fn pass_on(text: &str, connection: Connection) -> Result<(RequestHead, Option<Response>)> {
    let head = parse_request(text.as_bytes(), &LIMITS, Scheme::Http).unwrap().unwrap().head;
    let sink: Rc<dyn Sink> = Rc::new(NoSink);
    let (recorder, _guard) = Recorder::start(&sink, &connection, Instant::now());
    let ctx = Ctx::new(recorder, Rc::new(connection));
    let mut exchange = Exchange { head: Box::new(head), body: Body::empty(), ctx };
    let hook = Normalize::new(&limits::Path::default());
    let response = hook.before(&mut exchange)?;
    Ok((*exchange.head, response))
}

fn get(lines: &str) -> String {
    format!("GET /c HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

fn kind(text: &str) -> Kind {
    pass(text).expect_err(text).kind()
}

fn names(fields: &Fields) -> Vec<String> {
    let ours = [Known::Via, Known::XForwardedFor, Known::XForwardedProto];
    let others = fields.iter().filter(|(_, _, known)| !known.is_some_and(|known| ours.contains(&known)));
    others.map(|(name, _, _)| String::from_utf8_lossy(name).to_lowercase()).collect()
}

#[test]
fn the_host_is_valid_or_the_request_is_refused() {
    assert_eq!(pass("GET / HTTP/1.1\r\nHost: a:\r\n\r\n").unwrap().authority(), b"a");
    assert_eq!(pass("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n").unwrap().authority(), b"[::1]:80");
    assert_eq!(pass("GET / HTTP/1.0\r\n\r\n").unwrap().authority(), b"127.0.0.1:15006");
    for bad in ["u@a", "a b", "a,b", "a/b", "", "a:x"] {
        assert_eq!(kind(&format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n")), Kind::RequestRefused, "{bad}");
    }
}

#[test]
fn the_target_is_made_canonical() {
    let head = pass("GET /a/../%62?x=%41&y=/../ HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((head.path(), head.query()), (&b"/b"[..], Some(&b"x=%41&y=/../"[..])));
    assert_eq!(pass("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().path(), b"*");
    for target in ["/..", "/a%00", "/a#f", "/c?x#f"] {
        assert_eq!(
            kind(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")),
            Kind::RequestRefused,
            "{target}"
        );
    }
}

#[test]
fn only_100_continue_can_be_expected() {
    assert!(pass(&get("Expect: 100-Continue\r\n")).unwrap().fields.has(Known::Expect));
    for bad in ["200-ok", "100-continue, 200-ok", ""] {
        assert_eq!(kind(&get(&format!("Expect: {bad}\r\n"))), Kind::ExpectationFailed, "{bad:?}");
    }
    assert_eq!(kind(&get("Expect: 100-continue\r\nExpect: x\r\n")), Kind::ExpectationFailed);
    let old = pass("GET / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\n\r\n").unwrap();
    assert!(!old.fields.has(Known::Expect), "an HTTP/1.0 client cannot read a 100");
}

#[test]
fn hop_by_hop_fields_go() {
    for (lines, left) in [
        ("Connection: x-drop\r\nX-Drop: 1\r\nX-Keep: 2\r\n", &["x-keep"][..]),
        ("Connection: X-DROP\r\nx-drop: 1\r\nX-Drop: 2\r\n", &[]),
        ("Connection: , x-a ,, x-b,\r\nX-A: 1\r\nX-B: 2\r\n", &[]),
        ("Connection: close\r\nConnection: x-a\r\nX-A: 1\r\n", &[]),
        ("Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\n", &[]),
        ("Keep-Alive: timeout=5\r\nHTTP2-Settings: A\r\nUpgrade: x\r\n", &[]),
        ("Connection: accept\r\nAccept: x\r\n", &[]),
        ("Connection: a b\r\nTrailer: x-sum\r\n", &["trailer"]),
        ("Proxy-Authorization: x\r\n", &["proxy-authorization"]),
    ] {
        assert_eq!(names(&pass(&get(lines)).unwrap().fields), left, "{lines:?}");
    }
}

#[test]
fn te_goes_on_as_trailers_alone() {
    for (value, want) in [
        ("trailers", Some(&b"trailers"[..])),
        ("Trailers", Some(b"trailers")),
        ("gzip;q=0.5, trailers", Some(b"trailers")),
        ("trailers;q=0.5", Some(b"trailers")),
        ("gzip", None),
        ("", None),
    ] {
        let head = pass(&get(&format!("Connection: TE\r\nTE: {value}\r\n"))).unwrap();
        assert_eq!(head.fields.get(Known::Te), want, "{value:?}");
    }
    let head = pass(&get("TE: gzip\r\nTE: trailers\r\n")).unwrap();
    assert_eq!(head.fields.all(Known::Te).collect::<Vec<_>>(), [b"trailers"]);
    assert!(!pass("GET / HTTP/1.0\r\nHost: a\r\nTE: trailers\r\n\r\n").unwrap().fields.has(Known::Te));
}

#[test]
fn protected_fields_cannot_be_nominated() {
    for name in [
        "host",
        "authorization",
        "cookie",
        "x-request-id",
        "x-user-id",
        "x-account-id",
        "x-license",
        "x-request-type",
        "x-feature-flags",
        "traceparent",
        "tracestate",
        "baggage",
        "content-length",
        "transfer-encoding",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "X-Forwarded-Anything",
        ":path",
        ":authority",
        "idempotency-key",
    ] {
        for value in
            [name.to_owned(), name.to_uppercase(), format!("close, {name}"), format!("x,\t{name} ,y")]
        {
            assert_eq!(
                kind(&get(&format!("Connection: {value}\r\n"))),
                Kind::ProtectedFieldNominated,
                "{value:?}"
            );
        }
        assert_eq!(
            kind(&get(&format!("Connection: close\r\nConnection: {name}\r\n"))),
            Kind::ProtectedFieldNominated,
            "{name}"
        );
    }
}

#[test]
fn nominations_are_bounded() {
    let list = |count: usize| (0..count).map(|n| format!("x{n}")).collect::<Vec<_>>().join(",");
    assert!(
        pass(&get(&format!("Connection: {}\r\nx63: 1\r\n", list(64))))
            .unwrap()
            .fields
            .named(b"x63")
            .next()
            .is_none()
    );
    assert_eq!(kind(&get(&format!("Connection: {}\r\n", list(65)))), Kind::RequestRefused);
}

#[test]
fn upgrades_to_one_other_protocol_are_carried() {
    for (protocol, is_carried) in [
        ("websocket", true),
        ("WebSocket", true),
        ("echo", true),
        ("foo/1.1", true),
        ("connect-udp", true),
        ("h2c", false),
        ("H2C", false),
        ("h2c-14", false),
        ("h2", false),
        ("HTTP/2.0", false),
        ("TLS/1.2", false),
        ("H2C, foo", false),
        ("websocket, foo", false),
        ("foo bar", false),
        ("foo/", false),
        ("", false),
    ] {
        let head = pass(&get(&format!("Connection: upgrade\r\nUpgrade: {protocol}\r\n"))).unwrap();
        assert_eq!(head.upgrade().is_some(), is_carried, "{protocol:?}");
        assert!(!head.fields.has(Known::Upgrade) && !head.fields.has(Known::Connection));
    }
    let head = pass(&get("Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n")).unwrap();
    assert_eq!(head.upgrade(), None);
    let mut connect = RequestHead { method: Method::Connect, ..RequestHead::new() };
    connect.upgrade = Some(connect.fields.store(b"h2c"));
    assert_eq!(check_upgrade(&mut connect).unwrap_err().kind(), Kind::RequestRefused);
}

#[test]
fn max_forwards_counts_for_options_and_trace() {
    let with = |method: &str, lines: &str| format!("{method} /c HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    for (method, value, left) in [
        ("OPTIONS", "1", "0"),
        ("OPTIONS", "10", "9"),
        ("TRACE", "5", "4"),
        ("GET", "0", "0"),
        ("OPTIONS", "x", "x"),
        ("OPTIONS", "+1", "+1"),
        ("OPTIONS", "", ""),
        ("OPTIONS", "99999999999", "99999999999"),
    ] {
        let head = pass(&with(method, &format!("Max-Forwards: {value}\r\n"))).unwrap();
        assert_eq!(head.fields.get(Known::MaxForwards), Some(left.as_bytes()), "{method} {value:?}");
    }
    let zero = with("OPTIONS", "Max-Forwards: 0\r\n");
    let (_, response) = pass_on(&zero, connection(Direction::Outbound, true)).unwrap();
    assert_eq!(response.unwrap().head.status, 200);
    assert_eq!(kind(&with("TRACE", "Max-Forwards: 0\r\n")), Kind::MethodRefused);
}

fn forwarding(text: &str, direction: Direction, is_trusted: bool) -> Vec<String> {
    let (head, _) = pass_on(text, connection(direction, is_trusted)).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_lowercase();
    head.fields.iter().map(|(name, value, _)| format!("{}: {}", text(name), text(value))).collect()
}

#[test]
fn this_hop_is_named() {
    let first = forwarding(&get(""), Direction::Inbound, true);
    assert_eq!(first, ["via: 1.1 sidelight", "x-forwarded-for: 10.0.0.9", "x-forwarded-proto: http"]);
    let outbound = forwarding(&get("Via: 1.0 fred\r\nX-Forwarded-For: b\r\n"), Direction::Outbound, true);
    assert_eq!(outbound, ["via: 1.0 fred", "x-forwarded-for: b", "via: 1.1 sidelight"]);
    let old = forwarding("GET / HTTP/1.0\r\nHost: a\r\n\r\n", Direction::Outbound, true);
    assert_eq!(old, ["via: 1.0 sidelight"]);
}

#[test]
fn what_a_peer_says_of_its_client_is_believed_by_trust() {
    let lines = "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nX-Forwarded-Proto: https\r\n\
                 X-Forwarded-Host: h\r\nForwarded: for=3\r\nX-Real-IP: 4\r\n";
    assert_eq!(
        forwarding(&get(lines), Direction::Inbound, true),
        [
            "x-forwarded-proto: https",
            "x-forwarded-host: h",
            "forwarded: for=3",
            "x-real-ip: 4",
            "via: 1.1 sidelight",
            "x-forwarded-for: 1.1.1.1, 2.2.2.2, 10.0.0.9",
        ]
    );
    assert_eq!(
        forwarding(&get(lines), Direction::Inbound, false),
        ["via: 1.1 sidelight", "x-forwarded-for: 10.0.0.9", "x-forwarded-proto: http"]
    );
}

#[test]
fn an_ipv4_client_of_a_dual_socket_is_named_as_such() {
    let mut connection = connection(Direction::Inbound, true);
    connection.peer = "[::ffff:10.0.0.9]:1".parse().unwrap();
    let (head, _) = pass_on(&get(""), connection).unwrap();
    assert_eq!(head.fields.get(Known::XForwardedFor), Some(&b"10.0.0.9"[..]));
}

fn answer(status: u16, lines: &[(&str, &str)], is_tunnel: bool) -> Vec<String> {
    let mut head = ResponseHead::new(status);
    for (name, value) in lines {
        head.fields.push(name.as_bytes(), value.as_bytes());
    }
    let mut response = Response::new(head, Body::empty());
    if is_tunnel {
        let (ours, _) = tokio::io::duplex(1);
        response.tunnel = Some(Tunnel { io: Box::new(ours), ahead: bytes::Bytes::new() });
    }
    let connection = connection(Direction::Inbound, true);
    let sink: Rc<dyn Sink> = Rc::new(NoSink);
    let (recorder, _guard) = Recorder::start(&sink, &connection, Instant::now());
    let ctx = Ctx::new(recorder, Rc::new(connection));
    let mut answer = Ok(response);
    Normalize::new(&limits::Path::default()).after(&ctx, &mut answer);
    let head = answer.unwrap().head;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_lowercase();
    head.fields.iter().map(|(name, value, _)| format!("{}: {}", text(name), text(value))).collect()
}

#[test]
fn answers_are_cleaned() {
    let lines = [
        ("Connection", "x-up, content-length"),
        ("Connection", "close"),
        ("X-Up", "1"),
        ("Content-Length", "5"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "x"),
        ("Upgrade", "h2c"),
        ("Transfer-Encoding", "chunked"),
        ("Trailer", "x-sum"),
        ("X-Keep", "2"),
    ];
    assert_eq!(answer(200, &lines, false), ["content-length: 5", "trailer: x-sum", "x-keep: 2"]);
    assert_eq!(answer(101, &[("Connection", "Upgrade"), ("Upgrade", "echo")], false), [""; 0]);
    let switched =
        answer(101, &[("Connection", "Upgrade, x"), ("Upgrade", "echo"), ("X", "1"), ("Y", "2")], true);
    assert_eq!(switched, ["y: 2", "connection: upgrade", "upgrade: echo"]);
}
