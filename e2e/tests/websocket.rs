//! WebSocket and other upgrades: with Python's `websockets` on both sides, and byte by byte.

use e2e::frames::{Peer, data, headers, reset, window_update};
use e2e::{Http2Server, RawClient, Script, Setup, Sidelight, Step, StrictBackend, frames, python, wait_for};
use std::time::Duration;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to [`KEY`] (RFC 6455 section 1.3).
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: app.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nx-request-id: upgraded\r\n\r\n"
    )
}

fn switching() -> Step {
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    Step::Send(format!("{head}Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n").into_bytes())
}

#[test]
fn websockets_pass_two_sidecars() {
    let server = python::Server::start("ws_server.py", &[]);
    let callee = Sidelight::start(&Setup::app(server.address()));
    let cluster = format!("chat:\n  endpoints: [\"{}\"]\n  protocol: http1", callee.inbound());
    let caller = Sidelight::start(&Setup::bare().section("clusters", &cluster));
    let cases = python::run("ws_client.py", &[&caller.outbound().to_string(), "chat"]);
    assert_eq!(cases.len(), 11, "{cases:?}");
    let event = callee.events().find("a tunnel", |event| event["http.response.status_code"] == 101);
    assert!(event["http.request.body.size"].as_u64() > Some(0), "{event}");
    callee.events().find("the refusal", |event| event["http.response.status_code"] == 403);
}

#[test]
fn what_follows_the_upgrade_waits_for_the_101() {
    let backend = StrictBackend::start();
    let patient =
        Script(vec![Step::ReadBody, Step::Silence(Duration::from_millis(200)), switching(), Step::Echo]);
    backend.script("/chat", patient);
    let proxy = Sidelight::start(&Setup::app(backend.address()));
    let mut client = RawClient::connect(proxy.inbound());
    client.send([upgrade("/chat").as_bytes(), b"early bytes"].concat());
    let answer = client.read_head("GET", 1).unwrap();
    assert_eq!((answer.status, answer.fields.get("sec-websocket-accept")), (101, Some(ACCEPT)));
    let mut echoed = Vec::new();
    client.wire().exact(11, "echo", &mut echoed).unwrap();
    assert_eq!(echoed, b"early bytes");
    client.send("more");
    client.wire().exact(4, "echo", &mut echoed).unwrap();
    client.wire().close();
    let received = backend.take_after(1);
    assert!(received.violations.is_empty(), "{:?}", received.violations);
    let event = proxy.events().of("upgraded");
    assert_eq!(
        (&event["http.request.body.size"], &event["http.response.body.size"]),
        (&15.into(), &15.into()),
        "{event}"
    );
}

#[test]
fn a_refused_upgrade_is_relayed_and_the_connection_goes_on() {
    let backend = StrictBackend::start();
    backend.script("/chat", Script::reply("HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\nnot you"));
    let proxy = Sidelight::start(&Setup::app(backend.address()));
    let mut client = RawClient::connect(proxy.inbound());
    let answer = client.ask(upgrade("/chat")).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (403, "not you"));
    assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: app.example\r\n\r\n").unwrap().status, 200);
}

#[test]
fn each_side_may_end_first() {
    let backend = StrictBackend::start();
    backend.script("/client", Script(vec![Step::ReadBody, switching(), Step::AwaitHangUp]));
    let bye = Step::Send(b"bye".to_vec());
    backend.script("/server", Script(vec![Step::ReadBody, switching(), bye, Step::Close]));
    let proxy = Sidelight::start(&Setup::app(backend.address()));
    let mut client = RawClient::connect(proxy.inbound());
    assert_eq!(client.ask(upgrade("/client")).unwrap().status, 101);
    client.wire().close();
    backend.wait_for_hang_up(1);
    let mut client = RawClient::connect(proxy.inbound());
    client.send(upgrade("/server"));
    assert_eq!(client.read_head("GET", 1).unwrap().status, 101);
    let mut rest = Vec::new();
    client.wire().to_end("the end", &mut rest).unwrap();
    assert_eq!(rest, b"bye");
    assert_eq!(proxy.events().wait(2).len(), 2);
}

fn connect_fields(path: &str) -> Vec<(&str, &str)> {
    let more = [(":protocol", "websocket"), ("sec-websocket-version", "13"), ("x-request-id", "tunnel")];
    [&frames::request("CONNECT", path)[..], &more].concat()
}

#[test]
fn extended_connect_reaches_an_http1_app() {
    let backend = StrictBackend::start();
    // The app must compute the answer from the key that the proxy made; this one is told it.
    let accept = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Accept: 9cqvJG6hIFYgKTJJb2XGmLHi7do=\r\n\r\n";
    backend.script("/chat", Script(vec![Step::ReadBody, Step::Send(accept.into()), Step::Echo]));
    backend.script("/no", Script::reply("HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\nnot you"));
    let proxy = Sidelight::start(&Setup::app(backend.address()));
    let mut client = Peer::connect(proxy.inbound());
    client.read_until(|peer| peer.settings.iter().any(|(id, _)| *id == 8)).unwrap();
    assert!(client.settings.contains(&(8, 1)), "SETTINGS_ENABLE_CONNECT_PROTOCOL: {:?}", client.settings);
    client.send(headers(1, &connect_fields("/no"), false));
    client.read_until(|peer| peer.stream(1).body == b"not you").unwrap();
    assert_eq!(client.stream(1).status(), 403, "{:?}", client.stream(1));

    client.send(headers(3, &connect_fields("/chat"), false));
    client.read_until(|peer| peer.stream(3).status() != 0 || peer.stream(3).reset.is_some()).unwrap();
    assert_eq!(client.stream(3).status(), 200, "{:?}", client.stream(3));
    for name in ["sec-websocket-accept", "upgrade", "connection"] {
        assert_eq!(client.stream(3).get(name), None, "{name}");
    }
    client.send(data(3, "over the tunnel", false));
    client.read_until(|peer| peer.stream(3).body == b"over the tunnel").unwrap();
    client.send(data(3, "", true));
    let ended = client.finish(3).unwrap();
    assert!(ended.is_ended, "{ended:?}");
    let seen = backend.take_after(2).whole.remove(1);
    assert_eq!((seen.method.as_str(), seen.fields.get("upgrade")), ("GET", Some("websocket")), "{seen:?}");
    assert!(seen.fields.get("sec-websocket-key").is_some_and(|key| key.len() == 24), "{seen:?}");
}

#[test]
fn a_reset_of_the_stream_ends_the_tunnel_at_the_app() {
    let server = python::Server::start("ws_server.py", &[]);
    let proxy = Sidelight::start(&Setup::app(server.address()));
    let mut client = Peer::connect(proxy.inbound());
    client.send([headers(1, &connect_fields("/"), false), window_update(0, 1 << 20)].concat());
    client.read_until(|peer| peer.stream(1).status() != 0 || peer.stream(1).reset.is_some()).unwrap();
    assert_eq!(client.stream(1).status(), 200, "{:?}", client.stream(1));
    // A masked frame with "hi"; the mask is zero.
    client.send(data(1, b"\x81\x82\0\0\0\0hi", false));
    client.read_until(|peer| peer.stream(1).body.ends_with(b"\x81\x02hi")).unwrap();
    client.send(reset(1, 8));
    let event = proxy.events().of("tunnel");
    assert_eq!(event["sidelight.cause"], "client_gone", "{event}");
}

#[test]
fn an_upgrade_reaches_an_http2_server_as_extended_connect() {
    let upstream = Http2Server::with_settings(&[(8, 1)], |peer, _| {
        let Ok(Some(stream)) = peer.next_head() else { return };
        let request = peer.stream(stream);
        let is_right =
            request.get(":method") == Some("CONNECT") && request.get(":protocol") == Some("websocket");
        peer.send(headers(stream, &[(":status", if is_right { "200" } else { "400" })], false));
        let _ = peer.read_until(|peer| peer.stream(stream).body == b"ping");
        peer.send(data(stream, "pong", true));
        let _ = peer.read_until(|_| false);
    });
    let cluster = format!("other:\n  endpoints: [\"{}\"]\n  protocol: http2", upstream.address());
    let proxy = Sidelight::start(&Setup::bare().section("clusters", &cluster));
    let mut client = RawClient::connect(proxy.outbound());
    client.send(upgrade("/chat").replace("app.example", "other"));
    let answer = client.read_head("GET", 1).unwrap();
    assert_eq!((answer.status, answer.fields.get("sec-websocket-accept")), (101, Some(ACCEPT)), "{answer:?}");
    client.send("ping");
    let mut rest = Vec::new();
    client.wire().to_end("the end", &mut rest).unwrap();
    assert_eq!(rest, b"pong");
    wait_for("the event", || (proxy.events().exchanges().len() == 1).then_some(()));
}
