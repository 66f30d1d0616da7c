//! An HTTP/2 server made of raw frames: the test says what happens on each connection.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::frames::{Peer, Stream, data, headers};
use crate::raw_server::RawServer;
use crate::setup::Setup;
use crate::sidelight::Sidelight;

/// Pooled connections may idle for a whole test.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// The server; it accepts no more when dropped.
#[derive(Debug)]
pub struct Http2Server {
    server: RawServer,
    received: Arc<Mutex<Vec<Stream>>>,
}

impl Http2Server {
    /// Starts; `serve` runs in a thread of its own for each connection, which is numbered from 0.
    pub fn start(serve: impl Fn(&mut Peer, usize) + Send + Sync + 'static) -> Self {
        Http2Server::with_settings(&[], serve)
    }

    /// The same with other SETTINGS.
    pub fn with_settings(
        settings: &'static [(u16, u32)],
        serve: impl Fn(&mut Peer, usize) + Send + Sync + 'static,
    ) -> Self {
        let server = RawServer::start(move |wire, number| {
            if let Ok(mut peer) = Peer::accept(wire, settings) {
                peer.wire().set_patience(IDLE_MAX);
                serve(&mut peer, number);
            }
        });
        Http2Server { server, received: Arc::default() }
    }

    /// A server that reads each request whole, keeps it, and lets `reply` answer it, one after the other.
    pub fn answering(reply: impl Fn(&mut Peer, u32, &Stream) + Send + Sync + 'static) -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = received.clone();
        let mut server = Http2Server::start(move |peer, _| {
            while let Ok(Some(stream)) = peer.next_head() {
                let Ok(request) = peer.finish(stream) else { return };
                // Kept first: whoever has the answer may look for the request.
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
                reply(peer, stream, &request);
                peer.forget(stream);
            }
        });
        server.received = received;
        server
    }

    /// A server that answers every request with 200 and `{"ok":true}`.
    pub fn plain() -> Self {
        Http2Server::answering(|peer, stream, _| answer(peer, stream))
    }

    /// The requests that [`Http2Server::answering`] received since the last call.
    pub fn take(&self) -> Vec<Stream> {
        std::mem::take(&mut *self.received.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.server.connections()
    }
}

/// Sends 200 with `{"ok":true}` on `stream`.
pub fn answer(peer: &mut Peer, stream: u32) {
    let fields = [(":status", "200"), ("content-type", "application/json"), ("content-length", "11")];
    peer.send([headers(stream, &fields, false), data(stream, r#"{"ok":true}"#, true)].concat());
}

/// A sidecar with the cluster `other` at an HTTP/2 server.
pub fn before_http2(upstream: &Http2Server) -> Sidelight {
    let cluster = format!("other:\n  endpoints: [\"{}\"]\n  protocol: http2", upstream.address());
    Sidelight::start(&Setup::bare().section("clusters", &cluster))
}

/// The fields of an HTTP/2 request to the cluster `other`.
pub fn to_other<'a>(method: &'a str, path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let pseudo = [(":method", method), (":scheme", "http"), (":authority", "other"), (":path", path)];
    [&pseudo, more].concat()
}
