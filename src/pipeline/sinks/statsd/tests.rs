//! What a UDP socket receives.

use super::*;
use crate::pipeline::sinks::kit::{PATIENCE, batch, event, in_time, retry, service};

fn server() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn sink(address: SocketAddr, dialect: Dialect) -> Statsd {
    let config = Config {
        name: None,
        address: address.into(),
        dialect,
        prefix: default_prefix(),
        timeout: default_timeout(),
    };
    Statsd::new(&config, &service(), Path::new(".")).unwrap()
}

fn receive(socket: &UdpSocket) -> String {
    let mut bytes = [0; 65_536];
    let len = socket.recv(&mut bytes).unwrap();
    assert!(len <= DATAGRAM_BYTES_MAX, "{len}");
    String::from_utf8(bytes[..len].to_vec()).unwrap()
}

const EXCHANGE: &str = r#"{"schema":"sidelight/exchange/1","id":{},"user_id":"u-1","account_id":"a-1","license":"GOLD","http.request.body.size":10,"http.response.status_code":503,"http.response.body.size":2048,"sidelight.direction":"outbound","sidelight.route":"pay, all|#","sidelight.cluster":"payments","sidelight.duration_ms":12.345}"#;

#[test]
fn an_exchange_is_lines_of_names_and_numbers() {
    let (socket, address) = server();
    let batch = batch(&[EXCHANGE, &event("audit", 2, "")]);
    let sent = sink(address, Dialect::Statsd).send(&batch, in_time()).unwrap();
    assert_eq!(sent, Sent { passed_over: 1, ..Sent::all(&batch) });
    assert_eq!(
        receive(&socket).lines().collect::<Vec<_>>(),
        [
            "sidelight.outbound.requests:1|c",
            "sidelight.outbound.status.5xx:1|c",
            "sidelight.outbound.duration:12.345|ms",
            "sidelight.outbound.request_bytes:10|c",
            "sidelight.outbound.response_bytes:2048|c",
        ]
    );
}

#[test]
fn dogstatsd_has_tags_and_none_of_them_is_a_person() {
    let (socket, address) = server();
    sink(address, Dialect::Dogstatsd).send(&batch(&[EXCHANGE]), in_time()).unwrap();
    let tags = "|#service:checkout,route:pay__all__,cluster:payments,status_class:5xx,license:GOLD";
    assert_eq!(
        receive(&socket).lines().collect::<Vec<_>>(),
        [
            format!("sidelight.outbound.requests:1|c{tags}"),
            format!("sidelight.outbound.duration:12.345|ms{tags}"),
            format!("sidelight.outbound.request_bytes:10|c{tags}"),
            format!("sidelight.outbound.response_bytes:2048|c{tags}"),
        ]
    );
}

#[test]
fn many_exchanges_are_few_whole_datagrams() {
    let (socket, address) = server();
    let events: Vec<String> = (1..=100).map(|sequence| event("exchange", sequence, "")).collect();
    sink(address, Dialect::Dogstatsd).send(&batch(&events), in_time()).unwrap();
    let (mut requests, mut datagrams) = (0, 0);
    while requests < 100 {
        let text = receive(&socket);
        datagrams += 1;
        for line in text.lines() {
            assert!(line.starts_with("sidelight.inbound.") && line.ends_with("status_class:2xx"), "{line}");
            requests += usize::from(line.starts_with("sidelight.inbound.requests:1|c"));
        }
    }
    assert!(datagrams <= 20, "{datagrams}");
}

#[test]
fn a_port_where_nobody_listens_is_tried_again() {
    let (socket, address) = server();
    drop(socket);
    let mut sink = sink(address, Dialect::Statsd);
    let reason = retry(sink.send(&batch(&[EXCHANGE]), in_time()));
    assert!(reason.contains("nobody listens there"), "{reason}");
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let again = batch(&[EXCHANGE]);
    assert_eq!(sink.send(&again, in_time()), Ok(Sent::all(&again)));
    assert!(receive(&socket).starts_with("sidelight.outbound.requests:1|c\n"));
}

#[test]
fn a_name_is_resolved() {
    // Binds to the first address of the name, which is the one that the sink takes.
    let socket = UdpSocket::bind("localhost:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let config = Config {
        name: None,
        address: format!("localhost:{}", socket.local_addr().unwrap().port()).parse().unwrap(),
        dialect: Dialect::Statsd,
        prefix: "mesh.eu".into(),
        timeout: default_timeout(),
    };
    let batch = batch(&[EXCHANGE]);
    let sent = Statsd::new(&config, &service(), Path::new(".")).unwrap().send(&batch, in_time());
    assert_eq!(sent, Ok(Sent::all(&batch)));
    assert!(receive(&socket).starts_with("mesh.eu.outbound.requests:1|c\n"));
}

#[test]
fn a_prefix_that_would_break_lines_is_refused() {
    for prefix in ["", "a:b", "a|b", "a b", "a\n", &"x".repeat(101)] {
        let config = Config {
            name: None,
            address: "127.0.0.1:8125".parse().unwrap(),
            dialect: Dialect::Statsd,
            prefix: prefix.into(),
            timeout: default_timeout(),
        };
        assert!(Statsd::new(&config, &service(), Path::new(".")).err().unwrap().starts_with("prefix: "));
    }
}
