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
}

impl Dial for TcpDial {
    fn dial(&self, address: SocketAddr) -> Dialing {
        let settings = *self;
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            if let Some(time) = settings.keepalive_time {
                let keepalive =
                    socket2::TcpKeepalive::new().with_time(time).with_interval(settings.keepalive_interval);
                // Some containers forbid the option; the connection works without it.
                let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
            }
            Ok(Io::Plain(Socket::tcp(stream)))
        })
    }
}
