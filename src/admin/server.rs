//! A very small HTTP/1.1 server: one request for each connection, everything bounded.
//!
//! Why not hyper: what is needed is a head, a little content and an answer; the data path's server brings options that
//! nobody needs here, and a defect there must not take the view of it away. How it fails: a caller that takes longer
//! than [`TIMEOUT`] is cut off; with [`CONNECTIONS_MAX`] open, a further one is answered 503 and closed.

use super::State;
use super::answer::{Answer, answer};
use super::request::{self, Request};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;

/// How long the answer to a change waits until the record of it is durable.
const DURABLE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a caller may take to send a request, and again to take the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of one listener at a time.
const CONNECTIONS_MAX: usize = 64;
/// How long to wait after the system refused a connection (too many open files), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Which paths are served, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything, to this machine.
    Admin,
    /// `/metrics`, `/live` and `/ready`, to anybody who can connect.
    Telemetry,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// The path of a Unix socket, written `unix:/path`.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Address::Unix(path.into())),
            Some(path) => Err(format!("`{path}` is not an absolute path")),
            None => text
                .parse()
                .map(Address::Tcp)
                .map_err(|_| format!("`{text}` is neither `ip:port` nor `unix:/path`")),
        }
    }
}

impl Address {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Address::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Address::Unix(_) => true,
        }
    }
}

/// A socket that listens.
pub struct Listener {
    socket: Socket,
    role: Role,
}

enum Socket {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener, PathBuf),
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Socket::Unix(_, path) = self {
            // It may be gone already.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Opens a listener; within a tokio runtime.
///
/// # Errors
/// The address is taken, or is not local although the role is [`Role::Admin`].
pub fn bind(address: &Address, role: Role) -> io::Result<Listener> {
    if role == Role::Admin && !address.is_local() {
        let what = "the admin API listens on loopback addresses and Unix sockets only";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    let socket = match address {
        Address::Tcp(address) => {
            Socket::Tcp(tokio::net::TcpListener::from_std(crate::listener::bind(*address)?)?)
        }
        Address::Unix(path) => Socket::Unix(bind_unix(path)?, path.clone()),
    };
    Ok(Listener { socket, role })
}

/// A socket file that nobody listens on any more is replaced; anything else is not touched.
fn bind_unix(path: &Path) -> io::Result<tokio::net::UnixListener> {
    let is_socket = std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    tokio::net::UnixListener::bind(path)
}

impl Listener {
    /// The address that it got; `None` for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }
}

/// Serves until the future is dropped; runs on the control runtime.
pub async fn serve(listener: Listener, state: Arc<State>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Connections end with the server.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = match &listener.socket {
            Socket::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Socket::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        };
        while connections.try_join_next().is_some() {}
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            stream.refuse();
            continue;
        };
        let (state, role) = (Arc::clone(&state), listener.role);
        connections.spawn(async move {
            match stream {
                Stream::Tcp(stream) => converse(stream, role, false, &state).await,
                Stream::Unix(stream) => converse(stream, role, true, &state).await,
            }
            drop(place);
        });
    }
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

impl Stream {
    /// Says that there is no room, if that can be said at once.
    fn refuse(self) {
        let answer = Answer::refusal((503, "too many connections")).to_bytes(false);
        // A caller who cannot take it is closed all the same.
        let _ = match self {
            Stream::Tcp(stream) => stream.try_write(&answer),
            Stream::Unix(stream) => stream.try_write(&answer),
        };
    }
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, role: Role, is_unix: bool, state: &State) {
    let (mut answer, is_head) = match tokio::time::timeout(TIMEOUT, read(&mut stream)).await {
        Err(_) => (Answer::refusal((408, "the request did not arrive in time")), false),
        Ok(Err(refusal)) => (Answer::refusal(refusal), false),
        Ok(Ok(None)) => return,
        Ok(Ok(Some(request))) => (answer(&request, role, is_unix, state), request.method == "HEAD"),
    };
    if let Some(durable) = answer.take_after() {
        // A disk that hangs must not keep the caller for ever: the change is made in any case.
        let _ = tokio::time::timeout(DURABLE_TIMEOUT, durable).await;
    }
    let sent = async {
        stream.write_all(&answer.to_bytes(is_head)).await?;
        stream.shutdown().await?;
        // What the caller still sends is read, or the system would reset the connection under the answer.
        tokio::io::copy(&mut (&mut stream).take(CONTENT_DISCARDED_MAX), &mut tokio::io::sink()).await
    };
    // The caller is gone or too slow; there is nobody to tell.
    let _ = tokio::time::timeout(TIMEOUT, sent).await;
}

/// How much of a refused request's content is read before the connection is closed.
const CONTENT_DISCARDED_MAX: u64 = 1024 * 1024;

/// Reads one request; `None` when the caller left before it was complete.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Request>, request::Refusal> {
    let mut bytes = Vec::with_capacity(1024);
    let head = loop {
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => {}
        }
        if let Some(head) = request::parse(&bytes)? {
            break head;
        }
    };
    let mut request = head.request;
    request.content = bytes.split_off(head.head_bytes.min(bytes.len()));
    request.content.truncate(head.content_bytes);
    let missing = (head.content_bytes - request.content.len()) as u64;
    match stream.take(missing).read_to_end(&mut request.content).await {
        Ok(read) if read as u64 == missing => Ok(Some(request)),
        _ => Ok(None),
    }
}
