//! Opening sockets: a seam, so that simulations and tests put a network of their own here.

use crate::svc::{Io, Socket};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;
use tokio::net::TcpStream;

/// A connection that is being opened.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Io>>>>;

/// Opens connections.
pub trait Dial {
    /// Connects to `address`. The caller bounds the time.
    fn dial(&self, address: SocketAddr) -> Dialing;
}

/// Real sockets.
#[derive(Clone, Copy, Debug)]
pub struct TcpDial {
    /// When TCP keep-alive starts on an idle connection.
    pub keepalive_time: Option<Duration>,
    /// How often it repeats.
    pub keepalive_interval: Duration,
    /// After how many without an answer the connection is given up.
    pub keepalive_probes: u32,
}

impl TcpDial {
    /// Sets keep-alive as configured. Some containers forbid the option; a connection works without it.
    pub fn keep_alive(&self, stream: &TcpStream) {
        let Some(time) = self.keepalive_time else { return };
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(time)
            .with_interval(self.keepalive_interval)
            .with_retries(self.keepalive_probes);
        let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
    }
}

impl Dial for TcpDial {
    fn dial(&self, address: SocketAddr) -> Dialing {
        let settings = *self;
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            settings.keep_alive(&stream);
            Ok(Io::Plain(Socket::tcp(stream)))
        })
    }
}
