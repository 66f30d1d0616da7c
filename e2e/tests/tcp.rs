//! Connections that are carried as bytes: both listeners, half-close, counts, and failures.

use e2e::{RawServer, Setup, Sidelight, Wire};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// Echoes until the client ends, then says how much it got, and ends.
fn counting() -> RawServer {
    RawServer::start(|mut wire, _| {
        let mut total = 0;
        let mut part = Vec::new();
        while wire.exact(1, "a byte", &mut part).is_ok() {
            let more = wire.pending().len() as u64;
            wire.exact(more, "bytes", &mut part).expect("bytes");
            total += part.len();
            wire.send(&part).expect("a peer that reads");
            part.clear();
        }
        wire.send(format!("[{total}]").as_bytes()).expect("a peer that reads");
        wire.close();
    })
}

fn to(address: SocketAddr) -> Sidelight {
    let cluster = format!("db:\n  endpoints: [\"{address}\"]\n  protocol: tcp");
    let tcp = "tcp: [ { address: \"127.0.0.1:0\", cluster: db } ]";
    Sidelight::start(&Setup::bare().section("clusters", &cluster).section("outbound", tcp))
}

#[test]
fn bytes_pass_both_ways_and_each_direction_ends_on_its_own() {
    let server = counting();
    let proxy = to(server.address());
    let mut client = Wire::connect(proxy.address("tcp:db"));
    client.send(b"hello").unwrap();
    let mut got = Vec::new();
    client.exact(5, "the echo", &mut got).unwrap();
    assert_eq!(got, b"hello");
    client.send(&[0, 1, 2, 255]).unwrap();
    client.half_close();
    got.clear();
    client.to_end("the rest", &mut got).unwrap();
    assert_eq!(got, b"\x00\x01\x02\xff[9]");
    let event = proxy.events().wait_connections(1).remove(0);
    assert_eq!(event["sidelight.cluster"], "db", "{event}");
    assert_eq!(event["sidelight.direction"], "outbound", "{event}");
    let text = event.to_string();
    assert!(text.contains(":9,") && text.contains(":12,"), "byte counts of 9 and 12: {event}");
    assert!(event["sidelight.cause"].is_null(), "{event}");
    let events = proxy.stop();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["schema"], "sidelight/connection/1");
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once() {
    let server = RawServer::start(|mut wire, _| {
        wire.send(b"220 ready\r\n").unwrap();
        let line = wire.line("a command").unwrap();
        wire.send(&[b"250 ", &line[..], b"\r\n"].concat()).unwrap();
    });
    let inbound = Sidelight::start(&Setup::app_speaking(server.address(), "tcp"));
    let outbound = to(server.address());
    for address in [inbound.inbound(), outbound.address("tcp:db")] {
        let mut client = Wire::connect(address);
        client.set_patience(Duration::from_millis(900)); // less than the time to detect a protocol
        assert_eq!(client.line("the greeting").unwrap(), b"220 ready");
        client.send(b"EHLO\r\n").unwrap();
        assert_eq!(client.line("the answer").unwrap(), b"250 EHLO");
    }
    assert_eq!(inbound.events().wait_connections(1)[0]["sidelight.direction"], "inbound");
}

#[test]
fn what_is_not_http_goes_to_the_app_as_it_is() {
    let server = counting();
    let proxy = Sidelight::start(&Setup::app_speaking(server.address(), "auto"));
    let mut client = Wire::connect(proxy.inbound());
    client.send(b"\x00\x01binary\r\n\r\n").unwrap();
    client.half_close();
    let mut got = Vec::new();
    client.to_end("the echo", &mut got).unwrap();
    assert_eq!(got, b"\x00\x01binary\r\n\r\n[12]");
    let event = proxy.events().wait_connections(1).remove(0);
    assert!(event["sidelight.cause"].is_null(), "{event}");
}

#[test]
fn what_is_not_http_is_refused_where_only_http_is_spoken() {
    let server = counting();
    let proxy = Sidelight::start(&Setup::app(server.address()));
    let mut client = Wire::connect(proxy.inbound());
    client.send(b"\x00\x01binary\r\n\r\n").unwrap();
    let mut got = Vec::new();
    client.to_end("the end", &mut got).unwrap();
    assert_eq!(server.connections(), 0);
    assert_eq!(proxy.events().wait(1)[0]["sidelight.cause"], "malformed_request");
}

#[test]
fn an_endpoint_that_is_down_ends_the_connection_with_a_cause() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = to(nobody);
    let mut client = Wire::connect(proxy.address("tcp:db"));
    assert!(client.is_closed());
    let event = proxy.events().wait_connections(1).remove(0);
    assert_eq!(event["sidelight.cause"], "connect_failed", "{event}");
}

#[test]
fn a_reset_of_the_server_reaches_the_client() {
    let server = RawServer::start(|mut wire, _| {
        let mut got = Vec::new();
        let _ = wire.exact(1, "a byte", &mut got);
        wire.reset();
    });
    let proxy = to(server.address());
    let mut client = Wire::connect(proxy.address("tcp:db"));
    client.send(b"x").unwrap();
    assert!(client.is_closed());
    let event = proxy.events().wait_connections(1).remove(0);
    assert!(!event["sidelight.cause"].is_null(), "{event}");
}

#[test]
fn sixteen_mebibytes_pass_unchanged() {
    let server = RawServer::start(|mut wire, _| {
        let mut got = Vec::new();
        let _ = wire.to_end("content", &mut got);
        let sum = got.iter().fold(0u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        wire.send(format!("{} {sum}", got.len()).as_bytes()).unwrap();
        wire.close();
    });
    let proxy = to(server.address());
    let content: Vec<u8> =
        (0..16u32 << 20).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let sum = content.iter().fold(0u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut client = Wire::connect(proxy.address("tcp:db"));
    client.send(&content).unwrap();
    client.half_close();
    let mut said = Vec::new();
    client.to_end("the sum", &mut said).unwrap();
    assert_eq!(String::from_utf8_lossy(&said), format!("{} {sum}", content.len()));
}
