//! A forger with a fixed seed: ten thousand requests over a few connections, and not one field is believed.

use crate::{HEADERS, KEYS, TENANT, believed, is_anonymous};
use e2e::frames::{Peer, request_with};
use e2e::{RawClient, Setup, Sidelight, StrictBackend, chunked, get};
use std::net::SocketAddr;
use std::thread;

/// Connections of each protocol, and requests on each of them.
const CONNECTIONS: u64 = 4;
const REQUESTS: usize = 1250;

const ALL: usize = 2 * CONNECTIONS as usize * REQUESTS;

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    /// Letters in upper or lower case, at random.
    fn cased(&mut self, text: &str) -> String {
        let cased = text.chars().map(|c| if self.below(2) == 0 { c.to_ascii_uppercase() } else { c });
        cased.collect()
    }

    /// Some of the characters percent-encoded.
    fn encoded(&mut self, text: &str) -> String {
        text.bytes()
            .map(|byte| if self.below(4) == 0 { format!("%{byte:02x}") } else { char::from(byte).into() })
            .collect()
    }

    fn value(&mut self) -> String {
        let values = [
            "root",
            "gold",
            "TRACE",
            "a,b",
            "%72oot",
            "root;p=1",
            "\"root\"",
            "",
            "v1.k1.1.300.edge.AAAA",
            "1",
        ];
        self.of(&values).to_owned()
    }

    fn member(&mut self) -> String {
        let key = match self.below(4) {
            0 => "other".to_owned(),
            1 => {
                let key = self.of(&KEYS);
                self.encoded(key)
            }
            _ => self.of(&KEYS).to_owned(),
        };
        let (before, after) =
            (self.of(&["", "", " ", "\t", "%20", "+"]), self.of(&["", "", " ", "%09", ";p"]));
        let equals = self.of(&["=", "=", "=", " = ", "=="]);
        format!("{before}{key}{after}{equals}{}", self.value())
    }

    /// One field.
    fn field(&mut self) -> (String, String) {
        if self.below(2) == 0 {
            let members: Vec<String> = (0..=self.below(4)).map(|_| self.member()).collect();
            return ("baggage".into(), members.join(","));
        }
        (self.of(&HEADERS).into(), self.value())
    }

    fn fields(&mut self) -> Vec<(String, String)> {
        (0..=self.below(4)).map(|_| self.field()).collect()
    }
}

fn over_http1(address: SocketAddr, seed: u64) {
    let (mut random, mut client) = (Random(seed), RawClient::connect(address));
    for _ in 0..REQUESTS {
        let mut lines = |besides: &str| -> String {
            let mut fields = random.fields();
            fields.retain(|(name, _)| name != besides);
            fields.iter().map(|(name, value)| format!("{}: {value}\r\n", random.cased(name))).collect()
        };
        // Further fields as trailers have a test of their own.
        let (head, trailers) = (lines(""), lines("x-tenant"));
        let request = if random.below(4) == 0 {
            let request = chunked(&format!("1\r\na\r\n0\r\n{trailers}\r\n"));
            request.replacen("Transfer-Encoding", &format!("{head}Transfer-Encoding"), 1)
        } else {
            get("/", &head)
        };
        let answer = client.ask(&request).unwrap_or_else(|fault| panic!("{fault} after {request:?}"));
        assert_eq!(answer.status, 200, "{request:?}");
    }
}

fn over_http2(address: SocketAddr, seed: u64) {
    let (mut random, mut peer) = (Random(seed), Peer::connect(address));
    for number in 0..REQUESTS {
        let fields = random.fields();
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, value.trim())).collect();
        let stream = 2 * number as u32 + 1;
        let answer = peer.ask(stream, &request_with("GET", "/", &fields)).expect("an answer");
        assert_eq!(answer.status(), 200, "{fields:?}");
        peer.forget(stream);
    }
}

#[test]
fn ten_thousand_forgeries_are_believed_not_once() {
    let app = StrictBackend::start();
    let setup = Setup::app(app.address()).section("inbound", "trust: none").section("context", TENANT);
    let proxy = Sidelight::start(&setup);
    let address = proxy.inbound();
    thread::scope(|scope| {
        for seed in 1..=CONNECTIONS {
            scope.spawn(move || over_http1(address, seed));
            scope.spawn(move || over_http2(address, seed << 32));
        }
    });
    let received = app.take();
    assert!(received.violations.is_empty(), "{:?}", received.violations.first());
    assert_eq!(received.whole.len(), ALL);
    for request in &received.whole {
        let believed = believed(request);
        assert!(believed.is_empty(), "{believed:?} in {}", request.raw.escape_ascii());
    }
    let events = proxy.stop();
    assert_eq!(events.len(), ALL);
    for event in &events {
        assert!(is_anonymous(event), "{event}");
    }
    let counted = events.iter().filter(|event| event["sidelight.context.dropped"].as_u64() > Some(0)).count();
    assert!(counted > ALL / 2, "dropped fields in {counted} events only");
}
