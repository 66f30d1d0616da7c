//! An HTTP/1.1 server that accepts nothing RFC 9112 does not allow, keeps what it received, and answers by script.

use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::message::{Framing, Request, read_request_body, read_request_head};
use crate::wait_for;
use crate::wire::{Fault, Wire, listen_on_loopback};

/// Pooled connections may idle for a whole table of cases.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// What the backend does with a request whose head it has read.
#[derive(Clone, Debug)]
pub enum Step {
    /// Reads the body and keeps the request; sends `100 Continue` first when the request expects it.
    ReadBody,
    /// Reads the body and keeps the request, without a `100 Continue`.
    ReadBodyUnasked,
    /// Sends these bytes as they are.
    Send(Vec<u8>),
    /// Does nothing for so long.
    Pause(Duration),
    /// Listens for so long: a byte that comes meanwhile is a violation.
    Silence(Duration),
    /// Waits until the peer closes or resets, counts it (see [`StrictBackend::wait_for_hang_up`]), and ends.
    AwaitHangUp,
    /// Sends back whatever comes until the end, keeping it in the request's `body`: the far end of a tunnel.
    Echo,
    /// Closes.
    Close,
    /// Closes with a reset.
    Reset,
}

/// The steps for one path.
#[derive(Clone, Debug)]
pub struct Script(pub Vec<Step>);

impl Script {
    /// Reads the request, then sends `bytes`; the connection stays open.
    pub fn reply(bytes: impl AsRef<[u8]>) -> Self {
        Script(vec![Step::ReadBody, Step::Send(bytes.as_ref().to_vec())])
    }

    /// Sends `bytes` before it reads the body, then reads it.
    pub fn early(bytes: impl AsRef<[u8]>) -> Self {
        Script(vec![Step::Send(bytes.as_ref().to_vec()), Step::ReadBodyUnasked])
    }

    /// One step more.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.0.push(step);
        self
    }

    /// Closes at the end.
    #[must_use]
    pub fn close(self) -> Self {
        self.then(Step::Close)
    }

    fn standard() -> Self {
        let body = r#"{"ok":true}"#;
        let head =
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/json\r\n";
        Script::reply(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))
    }
}

/// What reached the backend since the last look.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Whole requests, in the order they ended.
    pub whole: Vec<Request>,
    /// Requests whose body never ended; each with what came of it.
    pub cut: Vec<Request>,
    /// Everything that no proxy may send.
    pub violations: Vec<String>,
}

#[derive(Debug)]
struct Shared {
    received: Mutex<Received>,
    scripts: Mutex<HashMap<String, Script>>,
    sockets: Mutex<Vec<TcpStream>>,
    connections: AtomicUsize,
    hang_ups: AtomicUsize,
    stopped: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The server; it ends when dropped.
#[derive(Debug)]
pub struct StrictBackend {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl StrictBackend {
    /// Starts on a free port of loopback.
    ///
    /// # Panics
    /// When loopback has no port left.
    pub fn start() -> Self {
        let listener = listen_on_loopback();
        let address = listener.local_addr().expect("own address");
        let shared = Arc::new(Shared {
            received: Mutex::default(),
            scripts: Mutex::default(),
            sockets: Mutex::default(),
            connections: AtomicUsize::new(0),
            hang_ups: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let acceptor = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if acceptor.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let number = acceptor.connections.fetch_add(1, Ordering::SeqCst);
                let shared = acceptor.clone();
                thread::spawn(move || serve(&shared, stream, number));
            }
        });
        StrictBackend { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, requests for `path` are answered by `script`.
    pub fn script(&self, path: &str, script: Script) {
        lock(&self.shared.scripts).insert(path.to_owned(), script);
    }

    /// What came since the last call.
    pub fn take(&self) -> Received {
        std::mem::take(&mut *lock(&self.shared.received))
    }

    /// Waits until `count` whole requests are there, then takes all.
    pub fn take_after(&self, count: usize) -> Received {
        wait_for(&format!("{count} requests at the backend"), || {
            (lock(&self.shared.received).whole.len() >= count).then_some(())
        });
        self.take()
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Waits until the peer of `count` connections in [`Step::AwaitHangUp`] has hung up.
    pub fn wait_for_hang_up(&self, count: usize) {
        wait_for("the upstream connection to be closed", || {
            (self.shared.hang_ups.load(Ordering::SeqCst) >= count).then_some(())
        });
    }

    /// Closes every connection, as a server does with those that were idle for too long.
    pub fn close_connections(&self) {
        for socket in lock(&self.shared.sockets).drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for StrictBackend {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address); // wakes the acceptor, which then sees the flag
        self.close_connections();
    }
}

fn serve(shared: &Shared, stream: TcpStream, number: usize) {
    let mut wire = Wire::new(stream);
    wire.set_patience(IDLE_MAX);
    lock(&shared.sockets).push(wire.handle());
    loop {
        wire.record();
        let mut request = match read_request_head(&mut wire) {
            Ok(request) => request,
            Err(fault) => {
                refuse(shared, &mut wire, &fault, number);
                return;
            }
        };
        request.connection = number;
        let script = lock(&shared.scripts).get(request.path()).cloned().unwrap_or_else(Script::standard);
        let closes = request.fields.list("connection").iter().any(|option| option == "close");
        let is_kept = play(shared, &mut wire, request, script);
        if closes || !is_kept {
            wire.close();
            return;
        }
    }
}

fn refuse(shared: &Shared, wire: &mut Wire, fault: &Fault, number: usize) {
    match fault {
        Fault::Closed | Fault::Silence(_) => {}
        other => {
            let raw = String::from_utf8_lossy(&wire.recorded()).into_owned();
            let entry = format!("connection {number}: {other}; after {raw:?}");
            lock(&shared.received).violations.push(entry);
        }
    }
    let _ = wire.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    wire.close();
}

/// Runs the steps; `false` when the connection ended with them.
fn play(shared: &Shared, wire: &mut Wire, mut request: Request, script: Script) -> bool {
    let mut is_read = false;
    for step in script.0 {
        match step {
            Step::ReadBody | Step::ReadBodyUnasked if is_read => {}
            Step::ReadBody | Step::ReadBodyUnasked => {
                let waits = request.framing != Framing::None && request.fields.has("expect");
                if matches!(step, Step::ReadBody) && waits {
                    let _ = wire.send(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                is_read = true;
                if !read_body(shared, wire, &mut request) {
                    return false;
                }
            }
            Step::Send(bytes) => {
                let _ = wire.send(&bytes);
            }
            Step::Pause(time) => thread::sleep(time),
            Step::Silence(time) => {
                if let Some(early) = wire.within(time) {
                    let entry = format!("{} {}: early bytes {early:?}", request.method, request.target);
                    lock(&shared.received).violations.push(entry);
                }
            }
            Step::AwaitHangUp => {
                let _ = wire.to_end("hang-up", &mut Vec::new());
                shared.hang_ups.fetch_add(1, Ordering::SeqCst);
                return false;
            }
            Step::Echo => {
                echo(shared, wire, &mut request);
                return false;
            }
            Step::Close => {
                keep_unread(shared, request, is_read);
                wire.close();
                return false;
            }
            Step::Reset => {
                keep_unread(shared, request, is_read);
                if let Ok(idle) =
                    TcpListener::bind("127.0.0.1:0").and_then(|l| TcpStream::connect(l.local_addr()?))
                {
                    lock(&shared.sockets).clear(); // a second handle would keep the connection from its reset
                    std::mem::replace(wire, Wire::new(idle)).reset();
                }
                return false;
            }
        }
    }
    keep_unread(shared, request, is_read);
    true
}

fn keep_unread(shared: &Shared, request: Request, is_read: bool) {
    if !is_read {
        let mut received = lock(&shared.received);
        if request.framing == Framing::None {
            received.whole.push(request)
        } else {
            received.cut.push(request)
        }
    }
}

fn read_body(shared: &Shared, wire: &mut Wire, request: &mut Request) -> bool {
    let outcome = read_request_body(wire, request);
    request.raw = wire.recorded();
    let mut received = lock(&shared.received);
    match outcome {
        Ok(()) => {
            received.whole.push(request.clone());
            true
        }
        Err(fault) => {
            if let Fault::Violation(rule) = fault {
                received.violations.push(format!("{} {}: {rule}", request.method, request.target));
            }
            received.cut.push(request.clone());
            false
        }
    }
}

fn echo(shared: &Shared, wire: &mut Wire, request: &mut Request) {
    loop {
        let mut part = Vec::new();
        if wire.exact(1, "tunnel", &mut part).is_err() {
            break;
        }
        let more = wire.pending().len() as u64;
        if wire.exact(more, "tunnel", &mut part).is_err() || wire.send(&part).is_err() {
            break;
        }
        request.body.extend_from_slice(&part);
    }
    lock(&shared.received).whole.push(request.clone());
}
