//! An HTTP/2 server made of raw frames: the test says what happens on each connection.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::frames::{Peer, data, headers};

/// Pooled connections may idle for a whole test.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// The server; it accepts no more when dropped.
#[derive(Debug)]
pub struct Http2Server {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
}

impl Http2Server {
    /// Starts; `serve` runs in a thread of its own for each connection, which is numbered from 0.
    ///
    /// # Panics
    /// When loopback has no port left.
    pub fn start(serve: impl Fn(&mut Peer, usize) + Send + Sync + 'static) -> Self {
        Http2Server::with_settings(&[], serve)
    }

    /// The same with other SETTINGS.
    ///
    /// # Panics
    /// When loopback has no port left.
    pub fn with_settings(
        settings: &'static [(u16, u32)],
        serve: impl Fn(&mut Peer, usize) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind on loopback");
        let address = listener.local_addr().expect("own address");
        let (stopped, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (flag, count, serve) = (stopped.clone(), connections.clone(), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if flag.load(Ordering::SeqCst) {
                    return;
                }
                let number = count.fetch_add(1, Ordering::SeqCst);
                let serve = serve.clone();
                thread::spawn(move || {
                    if let Ok(mut peer) = Peer::accept(stream, settings) {
                        peer.wire().set_patience(IDLE_MAX);
                        serve(&mut peer, number);
                    }
                });
            }
        });
        Http2Server { address, stopped, connections }
    }

    /// A server that answers every request with 200 and `{"ok":true}`.
    pub fn plain() -> Self {
        Http2Server::start(|peer, _| {
            while let Ok(Some(stream)) = peer.next_head() {
                answer(peer, stream);
            }
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Http2Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address); // wakes the acceptor, which then sees the flag
    }
}

/// Sends 200 with `{"ok":true}` on `stream`.
pub fn answer(peer: &mut Peer, stream: u32) {
    let fields = [(":status", "200"), ("content-type", "application/json"), ("content-length", "11")];
    peer.send([headers(stream, &fields, false), data(stream, r#"{"ok":true}"#, true)].concat());
}
