//! One connection to a forward server: TCP, TLS or a Unix socket.
//!
//! How it fails: every error is one line that says what was being done; after one the connection is of no more use. Nothing
//! here has a deadline of its own: the caller has one for all.

use super::answer::{Answer, BYTES_MAX};
use super::handshake::Keys;
use crate::identity::{Alpn, ClientTls};
use crate::units::HostPort;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// Where the server is.
pub(super) enum Target {
    /// TCP, with TLS where there is a configuration for it.
    Tcp(HostPort, Option<ClientTls>),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(address, _) => address.fmt(f),
            Target::Unix(path) => path.display().fmt(f),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// An open connection.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
}

impl Connection {
    /// Connects, and shakes hands where there are keys. `say` is told what is under way.
    pub(super) async fn open(
        target: &Target,
        keys: Option<&Keys>,
        say: impl Fn(&'static str),
    ) -> Result<Connection, String> {
        say("connecting");
        let stream: Box<dyn Stream> = match target {
            Target::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(cannot("connect"))?),
            Target::Tcp(address, tls) => {
                let host = address.host.trim_end_matches('.');
                let stream = TcpStream::connect((host, address.port)).await.map_err(cannot("connect"))?;
                // The last piece of a batch must not wait for the acknowledgement of the one before (Nagle).
                stream.set_nodelay(true).map_err(cannot("set up the socket"))?;
                match tls {
                    None => Box::new(stream),
                    Some(tls) => {
                        say("shaking hands by TLS");
                        let peer = stream.peer_addr().map_err(cannot("connect"))?;
                        let name = tls.server_name_of(&address.to_string(), &peer);
                        let connector = TlsConnector::from(tls.config(Alpn::None));
                        Box::new(connector.connect(name, stream).await.map_err(cannot("shake hands by TLS"))?)
                    }
                }
            }
        };
        let mut connection = Connection { stream, unread: Vec::new() };
        if let Some(keys) = keys {
            say("waiting for HELO (has the server a shared key?)");
            let (ping, asked) = keys.ping(&connection.read().await?)?;
            connection.write(&ping).await?;
            say("waiting for PONG");
            keys.check(&asked, &connection.read().await?)?;
        }
        Ok(connection)
    }

    /// Sends everything.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).await.map_err(cannot("send"))?;
        self.stream.flush().await.map_err(cannot("send"))
    }

    /// The next thing that the server says.
    pub(super) async fn read(&mut self) -> Result<Answer, String> {
        loop {
            if !self.unread.is_empty() {
                let answer = Answer::read(&self.unread);
                if let Some((answer, len)) = answer.map_err(|why| format!("the answer is garbage: {why}"))? {
                    self.unread.drain(..len);
                    return Ok(answer);
                }
            }
            let room = BYTES_MAX.saturating_sub(self.unread.len()) as u64;
            let len =
                (&mut self.stream).take(room).read_buf(&mut self.unread).await.map_err(cannot("read"))?;
            if len == 0 {
                return Err("the server closed the connection".into());
            }
        }
    }

    /// Whether the server has neither closed it nor said something that nobody asked for.
    pub(super) async fn is_quiet(&mut self) -> bool {
        // Lets the runtime look at its sockets, which it does only between two polls.
        tokio::task::yield_now().await;
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        let look = |context: &mut std::task::Context<'_>| {
            Poll::Ready(Pin::new(&mut self.stream).poll_read(context, &mut buffer).is_pending())
        };
        std::future::poll_fn(look).await && self.unread.is_empty()
    }
}

/// `cannot connect: connection refused`.
fn cannot(what: &'static str) -> impl Fn(io::Error) -> String {
    move |error| format!("cannot {what}: {error}")
}
