//! A TCP server whose every connection is the test's.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::wire::{Wire, listen_on_loopback};

/// The server; it accepts no more when dropped.
#[derive(Debug)]
pub struct RawServer {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
}

impl RawServer {
    /// Starts; `serve` runs in a thread of its own for each connection, which is numbered from 0.
    ///
    /// # Panics
    /// When loopback has no port left.
    pub fn start(serve: impl Fn(Wire, usize) + Send + Sync + 'static) -> Self {
        let listener = listen_on_loopback();
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
                thread::spawn(move || serve(Wire::new(stream), number));
            }
        });
        RawServer { address, stopped, connections }
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

impl Drop for RawServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address); // wakes the acceptor, which then sees the flag
    }
}
