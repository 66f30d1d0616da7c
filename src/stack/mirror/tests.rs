//! Copies on a network that the test makes: what is asserted is what the mirror saw, what was counted, and what is
//! left behind.

use super::*;
use crate::cluster::{self, Cluster, Target};
use crate::connect::dial::Dialing;
use crate::context::{Rng, TraceParent};
use crate::exchange::{Connection, Direction, Mirror, Record};
use crate::limits;
use crate::stack::Settings;
use crate::svc::{Body, Io, Socket};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

#[derive(Clone, Copy)]
enum Behaviour {
    Refuse,
    Silent,
    Answer(&'static str),
    /// An answer that never ends.
    Endless,
}

const OK: Behaviour = Behaviour::Answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");

struct Network {
    behaviour: Cell<Behaviour>,
    seen: Rc<RefCell<Vec<String>>>,
    dials: Cell<usize>,
}

impl Dial for Network {
    fn dial(&self, _address: SocketAddr) -> Dialing {
        self.dials.set(self.dials.get() + 1);
        let (behaviour, seen) = (self.behaviour.get(), Rc::clone(&self.seen));
        Box::pin(async move {
            if matches!(behaviour, Behaviour::Refuse) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (near, far) = tokio::io::duplex(64 * 1024);
            tokio::task::spawn_local(serve(far, behaviour, seen));
            Ok(Io::Plain(Socket::other(Box::new(near))))
        })
    }
}

async fn serve(mut stream: DuplexStream, behaviour: Behaviour, seen: Rc<RefCell<Vec<String>>>) {
    loop {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            request.push(byte);
        }
        seen.borrow_mut().push(String::from_utf8(request).unwrap());
        match behaviour {
            Behaviour::Answer(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
            Behaviour::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
                return;
            }
            Behaviour::Silent | Behaviour::Refuse => {}
        }
    }
}

#[derive(Default)]
struct Records(RefCell<Vec<Record>>);

impl Sink for Records {
    fn exchange(&self, record: Box<Record>) {
        self.0.borrow_mut().push(*record);
    }
}

struct Fixture {
    outlet: Rc<dyn Outlet>,
    mirrors: Mirrors,
    network: Rc<Network>,
    records: Rc<Records>,
    policy: Arc<Policy>,
    cluster: Arc<Cluster>,
}

impl Fixture {
    fn new(behaviour: Behaviour) -> Fixture {
        let cluster = Arc::new(Cluster::plain("shadow", &cluster::Config::default()));
        cluster.update(&[Target::new(SocketAddr::from(([127, 0, 0, 1], 7)))]);
        let network =
            Rc::new(Network { behaviour: Cell::new(behaviour), seen: Rc::default(), dials: Cell::new(0) });
        let records = Rc::new(Records::default());
        let mirrors = Mirrors::new(Rc::clone(&records) as Rc<dyn Sink>);
        let balancing = Balancing::new(Rc::new(RefCell::new(Rng::new(1))));
        let settings = Settings::new(&limits::Config::default()).upstream;
        let outlet = mirrors.outlet(Rc::clone(&network) as Rc<dyn Dial>, settings, balancing);
        let mirror = Mirror {
            cluster: Arc::clone(&cluster),
            millionths: 1_000_000,
            requests_max: 2,
            timeout: Duration::from_secs(5),
        };
        let policy = Arc::new(Policy { mirror: Some(mirror), name: "r".into(), ..Policy::default() });
        Fixture { outlet, mirrors, network, records, policy, cluster }
    }

    fn send(&self) -> bool {
        let mut head = RequestHead::new();
        head.set_authority(b"shop");
        head.set_path(b"/cart");
        head.fields.push(b"sidelight-mirror", b"1");
        head.fields.push(b"x-account-id", b"a1");
        self.outlet.send(Duplicate {
            policy: Arc::clone(&self.policy),
            head: Box::new(head),
            body: Body::empty(),
            trace: TraceParent { version: 0, trace_id: [1; 16], parent_id: [2; 8], flags: 1 },
            parent_id: [3; 8],
            connection: Rc::new(Connection {
                direction: Direction::Inbound,
                peer: SocketAddr::from(([127, 0, 0, 1], 1)),
                local: SocketAddr::from(([127, 0, 0, 1], 2)),
                is_tls: false,
                identity: None,
                is_trusted: true,
                serial: Default::default(),
            }),
        })
    }

    /// How many were sent, and failed.
    fn counts(&self) -> (u64, u64) {
        (self.cluster.stats.mirrored.get(), self.cluster.stats.mirror_failures.get())
    }

    fn is_idle(&self) -> bool {
        self.mirrors.under_way.borrow().is_empty()
    }
}

async fn after(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn copies_reach_the_mirror_over_connections_of_their_own_and_leave_a_record() {
    let fixture = Fixture::new(OK);
    for _ in 0..3 {
        assert!(fixture.send());
        after(1).await;
    }
    assert_eq!((fixture.counts(), fixture.network.dials.get(), fixture.is_idle()), ((3, 0), 1, true));
    let seen = fixture.network.seen.borrow();
    assert!(
        seen[0].starts_with("GET /cart HTTP/1.1\r\nhost: shop\r\nsidelight-mirror: 1\r\n"),
        "{}",
        seen[0]
    );
    let records = fixture.records.0.borrow();
    let record = &records[0];
    assert_eq!((record.status, record.response_bytes, record.cause), (200, 2, None));
    assert_eq!((record.trace.trace_id, record.parent_id), ([1; 16], Some([3; 8])));
    assert_eq!(record.text(record.account_id), b"a1");
    assert_eq!((record.cluster.as_deref(), record.route.as_deref()), (Some("shadow"), Some("r")));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_mirror_that_fails_is_counted_in_each_of_its_ways() {
    for (behaviour, failures, cause) in [
        (Behaviour::Refuse, 1, Some(Kind::ConnectFailed)),
        (Behaviour::Answer("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"), 1, None),
        (Behaviour::Answer("HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"), 0, None),
        (Behaviour::Answer("SSH-2.0-nonsense\r\n\r\n"), 1, Some(Kind::UpstreamProtocol)),
        (Behaviour::Endless, 0, None),
        (Behaviour::Silent, 1, Some(Kind::RequestTimeout)),
    ] {
        let fixture = Fixture::new(behaviour);
        assert!(fixture.send());
        after(4900).await;
        let is_silent = matches!(behaviour, Behaviour::Silent);
        assert_eq!(fixture.is_idle(), !is_silent, "{cause:?}");
        after(200).await;
        assert!(fixture.is_idle());
        assert_eq!(fixture.counts(), (1, failures), "{cause:?}");
        assert_eq!(fixture.records.0.borrow()[0].cause, cause);
        let endpoint = fixture.cluster.endpoints().endpoints[0].clone();
        let failed = endpoint.stats.failures.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(failed, failures, "balancing learns from copies too");
        let read = fixture.records.0.borrow()[0].response_bytes as usize;
        assert!(read <= ANSWER_BYTES_MAX + 256 * 1024, "{read} bytes of an answer that nobody wants");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn no_more_are_under_way_than_the_route_says() {
    let fixture = Fixture::new(Behaviour::Silent);
    assert!(fixture.send() && fixture.send() && !fixture.send());
    assert_eq!(fixture.counts(), (2, 0));
    after(5001).await;
    fixture.network.behaviour.set(OK);
    assert!(fixture.send());
    after(1).await;
    assert_eq!((fixture.counts(), fixture.is_idle()), ((3, 2), true));
}
