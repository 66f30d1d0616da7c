//! One sidecar before one app, shared by all tests of this file that run at a time, and a request that crosses it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use e2e::frames::{Peer, long_headers};
use e2e::{RawClient, Request, Setup, Sidelight, StrictBackend};
use serde_json::Value;

/// The process under test and its app.
pub struct World {
    app: StrictBackend,
    pub proxy: Sidelight,
    requests: AtomicU32,
    /// What the app received can be told apart only when one request is under way.
    turn: Mutex<()>,
}

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// Both, for the rules that hold in both.
pub const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

/// What the client was told and what the app received of one request.
pub struct Hop {
    pub protocol: Protocol,
    pub status: u16,
    pub request_id: String,
    received: Option<Request>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The process that all tests share. It ends with the last test that holds it.
pub fn shared() -> Arc<World> {
    static SHARED: Mutex<Weak<World>> = Mutex::new(Weak::new());
    let mut shared = lock(&SHARED);
    shared.upgrade().unwrap_or_else(|| {
        let world = Arc::new(World::with(|setup| setup));
        *shared = Arc::downgrade(&world);
        world
    })
}

impl World {
    /// A process of its own, for rules that depend on the configuration.
    pub fn with(adapt: impl FnOnce(Setup) -> Setup) -> World {
        let app = StrictBackend::start();
        let proxy = Sidelight::start(&adapt(Setup::app(app.address())));
        World { app, proxy, requests: AtomicU32::new(0), turn: Mutex::default() }
    }

    /// Sends a GET with these fields, whatever becomes of it.
    pub fn send(&self, protocol: Protocol, fields: &[(&str, impl AsRef<[u8]>)]) -> Hop {
        let _turn = lock(&self.turn);
        self.app.take();
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let request_id = format!("rule-{number}");
        let named = fields.iter().any(|(name, _)| *name == "x-request-id");
        let id = [("x-request-id", request_id.as_bytes())];
        let own = if named { &[][..] } else { &id[..] };
        let fields = own.iter().copied().chain(fields.iter().map(|(name, value)| (*name, value.as_ref())));
        let status = match protocol {
            Protocol::Http1 => {
                let mut bytes = b"GET /rule HTTP/1.1\r\nHost: app.example\r\n".to_vec();
                for (name, value) in fields {
                    bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
                }
                bytes.extend(b"\r\n");
                RawClient::connect(self.proxy.inbound()).ask(bytes).expect("an answer").status
            }
            Protocol::Http2 => {
                let pseudo = e2e::frames::request("GET", "/rule");
                let head: Vec<(&str, &[u8])> =
                    pseudo.iter().map(|(name, value)| (*name, value.as_bytes())).chain(fields).collect();
                let mut client = Peer::connect(self.proxy.inbound());
                client.send(long_headers(1, &head, true));
                client.finish(1).expect("an answer").status()
            }
        };
        let received = self.app.take();
        assert!(received.violations.is_empty(), "{:?}", received.violations);
        let received = received.whole.into_iter().next();
        let kept = received.as_ref().and_then(|request| request.fields.get("x-request-id"));
        let request_id = kept.map_or(request_id, str::to_owned);
        Hop { protocol, status, request_id, received }
    }

    /// Sends a GET with these fields, which must reach the app.
    pub fn pass(&self, protocol: Protocol, fields: &[(&str, impl AsRef<[u8]>)]) -> Hop {
        let hop = self.send(protocol, fields);
        assert_eq!(hop.status, 200, "{protocol:?}");
        hop
    }

    /// The same over both protocols.
    pub fn hops(&self, fields: &[(&str, impl AsRef<[u8]>)]) -> [Hop; 2] {
        BOTH.map(|protocol| self.pass(protocol, fields))
    }

    /// The event of a request.
    pub fn event(&self, hop: &Hop) -> Value {
        self.proxy.events().of(&hop.request_id)
    }

    /// How many context fields the event says were dropped.
    pub fn dropped(&self, hop: &Hop) -> u64 {
        self.event(hop)["sidelight.context.dropped"].as_u64().unwrap_or(0)
    }
}

/// Asserts that two long lists are the same bytes; tells where they part, and not all of both.
#[track_caller]
pub fn same(received: &str, wanted: &str, protocol: Protocol) {
    if received != wanted {
        let both = received.bytes().zip(wanted.bytes());
        let at = both.take_while(|(one, other)| one == other).count();
        let near = |text: &str| text.chars().skip(at.saturating_sub(20)).take(60).collect::<String>();
        let (bytes, wanted_bytes) = (received.len(), wanted.len());
        panic!(
            "over {protocol:?}: {bytes} bytes instead of {wanted_bytes}; at {at} {:?} instead of {:?}",
            near(received),
            near(wanted)
        );
    }
}

/// A `traceparent` as the app received it.
#[derive(Debug, PartialEq, Eq)]
pub struct Parent {
    pub trace_id: String,
    pub parent_id: String,
    pub flags: String,
}

impl Hop {
    /// What the app received.
    pub fn received(&self) -> &Request {
        self.received.as_ref().unwrap_or_else(|| panic!("{:?}: the app received nothing", self.protocol))
    }

    /// All lines of a field at the app.
    pub fn lines(&self, name: &str) -> Vec<&str> {
        let fields = self.received().fields.0.iter();
        fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }

    /// The lines as one list.
    pub fn list(&self, name: &str) -> String {
        self.lines(name).join(",")
    }

    /// The one `traceparent`, which has to be valid in version 00 and without unknown flags.
    pub fn parent(&self) -> Parent {
        let lines = self.lines("traceparent");
        let [line] = lines.as_slice() else { panic!("{:?}: {lines:?}", self.protocol) };
        let parts: Vec<&str> = line.split('-').collect();
        let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        let is_zero = |text: &str| text.bytes().all(|byte| byte == b'0');
        assert!(lengths == [2, 32, 16, 2] && parts.iter().all(|part| is_hex(part)), "{line}");
        assert!(parts[0] == "00" && !is_zero(parts[1]) && !is_zero(parts[2]), "{line}");
        assert!(["00", "01", "02", "03"].contains(&parts[3]), "unknown flags: {line}");
        Parent { trace_id: parts[1].into(), parent_id: parts[2].into(), flags: parts[3].into() }
    }
}
