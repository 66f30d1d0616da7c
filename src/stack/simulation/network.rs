//! The simulated network: endpoints that are slow, dead, stopped, partitioned, that lie or answer garbage.

use crate::connect::Dial;
use crate::connect::dial::Dialing;
use crate::context::Rng;
use crate::svc::{Io, Socket};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;
use tokio::time::Instant;

/// What is wrong with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// It takes so many times longer.
    Slow(u32),
    /// Its process is gone: connections are reset, new ones are refused.
    Killed,
    /// Packets to it are lost: nothing is accepted, nothing comes back.
    Partitioned,
    /// Its process is stopped: connections are accepted by the kernel, nothing is answered.
    Stopped,
    /// It answers what is not HTTP.
    Garbage,
    /// It answers so many percent of its requests with 503, at once.
    Failing(u32),
    /// It resets the connection after it has read, and carried out, the request.
    Resetting,
    /// Its health checks are wrong about it.
    Lying(Lie),
}

/// How an endpoint lies when it is asked how it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// It passes its checks, and answers every request with 503.
    Fails,
    /// It passes its checks, and never answers a request.
    Hangs,
    /// It passes its checks, and resets the connection after it has carried out a request.
    Resets,
    /// It fails its checks, and serves requests as it should.
    PlaysDead,
}

/// What health checks ask for. An endpoint does with it what it does with every request, unless it lies.
pub(super) const CHECK_PATH: &str = "/healthz";

const GARBAGE: &str = "\x15\x03\x01 this is not HTTP\r\n\r\n";
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// An endpoint.
pub(super) struct Server {
    pub(super) fault: Cell<Fault>,
    /// How long a request takes.
    pub(super) service: Cell<Duration>,
    /// How many it works on at once; the others wait.
    slots: usize,
    busy: Cell<usize>,
    freed: Notify,
    /// Rung when the process is killed.
    killed: Notify,
    /// Requests that reached it, checks not counted.
    pub(super) asked: Cell<u64>,
    /// When it answered each of them.
    pub(super) answered: RefCell<Vec<Instant>>,
}

/// All endpoints, by port.
pub(super) struct Network {
    pub(super) servers: HashMap<u16, Rc<Server>>,
    /// How often each request, by its path, was carried out.
    pub(super) executed: Rc<RefCell<HashMap<String, u32>>>,
    /// Requests that reached an endpoint's machine.
    pub(super) attempts: Rc<Cell<u64>>,
    rng: Rc<RefCell<Rng>>,
}

impl Network {
    /// Endpoints at ports 1 to `count`, that take `service` for a request and work on `slots` at once.
    pub(super) fn new(count: u16, service: Duration, slots: usize, seed: u64) -> Network {
        let server = || {
            Rc::new(Server {
                fault: Cell::new(Fault::None),
                service: Cell::new(service),
                slots,
                busy: Cell::new(0),
                freed: Notify::new(),
                killed: Notify::new(),
                asked: Cell::new(0),
                answered: RefCell::default(),
            })
        };
        Network {
            servers: (1..=count).map(|port| (port, server())).collect(),
            executed: Rc::default(),
            attempts: Rc::default(),
            rng: Rc::new(RefCell::new(Rng::new(seed ^ 0x006e_6574))),
        }
    }

    /// Something goes wrong with an endpoint, or is right again.
    pub(super) fn set(&self, port: u16, fault: Fault) {
        let Some(server) = self.servers.get(&port) else { return };
        server.fault.set(fault);
        if fault == Fault::Killed {
            server.killed.notify_waiters();
        }
    }

    /// Asks an endpoint how it is, on a connection of its own.
    pub(super) async fn check(&self, address: SocketAddr) -> Result<(), String> {
        let mut io = self.dial(address).await.map_err(|error| error.to_string())?;
        let request = format!("GET {CHECK_PATH} HTTP/1.1\r\nhost: c\r\n\r\n");
        io.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let head = read_head(&mut io).await.ok_or("no answer")?;
        if head.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(head) }
    }
}

impl Dial for Network {
    fn dial(&self, address: SocketAddr) -> Dialing {
        let Some(server) = self.servers.get(&address.port()).map(Rc::clone) else {
            return Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) });
        };
        let connection = Connection {
            server,
            executed: Rc::clone(&self.executed),
            attempts: Rc::clone(&self.attempts),
            rng: Rc::clone(&self.rng),
        };
        Box::pin(async move {
            tokio::time::sleep(Duration::from_micros(200)).await;
            match connection.server.fault.get() {
                Fault::Killed => return Err(io::ErrorKind::ConnectionRefused.into()),
                Fault::Partitioned => std::future::pending().await,
                _ => {}
            }
            let (near, far) = tokio::io::duplex(64 * 1024);
            tokio::task::spawn_local(connection.run(far));
            Ok(Io::Plain(Socket::other(Box::new(near))))
        })
    }
}

struct Connection {
    server: Rc<Server>,
    executed: Rc<RefCell<HashMap<String, u32>>>,
    attempts: Rc<Cell<u64>>,
    rng: Rc<RefCell<Rng>>,
}

impl Connection {
    async fn run(self, mut stream: DuplexStream) {
        let server = Rc::clone(&self.server);
        tokio::select! {
            biased;
            () = server.killed.notified() => {}
            () = self.serve(&mut stream) => {}
        }
    }

    async fn serve(&self, stream: &mut DuplexStream) {
        while let Some(path) = read_request(stream).await {
            let is_check = path == CHECK_PATH;
            if !is_check {
                self.attempts.set(self.attempts.get() + 1);
                self.server.asked.set(self.server.asked.get() + 1);
            }
            if self.wait_while_silent().await.is_err() {
                return;
            }
            let Some(answer) = self.answer(path).await else { return };
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
            if !is_check {
                self.server.answered.borrow_mut().push(Instant::now());
            }
        }
    }

    /// A stopped process goes on where it was; what a partition swallowed is gone.
    async fn wait_while_silent(&self) -> Result<(), ()> {
        loop {
            match self.server.fault.get() {
                Fault::Stopped => tokio::time::sleep(Duration::from_millis(5)).await,
                Fault::Partitioned => std::future::pending().await,
                Fault::Killed => return Err(()),
                _ => return Ok(()),
            }
        }
    }

    async fn answer(&self, path: String) -> Option<&'static str> {
        let server = &self.server;
        let is_check = path == CHECK_PATH;
        match server.fault.get() {
            Fault::Garbage => return Some(GARBAGE),
            Fault::Failing(percent) if self.rng.borrow_mut().next_u64() % 100 < u64::from(percent) => {
                return Some(UNAVAILABLE);
            }
            Fault::Lying(Lie::PlaysDead) if is_check => return Some(UNAVAILABLE),
            Fault::Lying(Lie::Fails) if !is_check => return Some(UNAVAILABLE),
            Fault::Lying(Lie::Hangs) if !is_check => std::future::pending().await,
            _ => {}
        }
        while server.busy.get() >= server.slots {
            server.freed.notified().await;
        }
        let place = Place::take(Rc::clone(server));
        // Most requests take about the service time, some twice as long.
        let spread = 50 + self.rng.borrow_mut().next_u64() % 100;
        let factor = if let Fault::Slow(factor) = server.fault.get() { factor } else { 1 };
        tokio::time::sleep(server.service.get() * factor * spread as u32 / 100).await;
        drop(place);
        *self.executed.borrow_mut().entry(path).or_default() += 1;
        match server.fault.get() {
            Fault::Resetting => None,
            Fault::Lying(Lie::Resets) if !is_check => None,
            _ => Some(OK),
        }
    }
}

/// One of the slots of a server; free again when it is dropped, also with a connection that is cut.
struct Place(Rc<Server>);

impl Place {
    fn take(server: Rc<Server>) -> Place {
        server.busy.set(server.busy.get() + 1);
        Place(server)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
        self.0.freed.notify_one();
    }
}

/// Reads a request; its path.
async fn read_request(stream: &mut DuplexStream) -> Option<String> {
    read_head(stream).await?.split(' ').nth(1).map(str::to_owned)
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut piece = [0; 1];
        if stream.read(&mut piece).await.ok()? == 0 {
            return None;
        }
        head.extend_from_slice(&piece);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}
