//! A listener, as one worker sees it: what happens to a connection from its first byte.
//!
//! Detection reads until the bytes decide ([`detect`]), within a budget. A client that says nothing at all within the
//! budget is counted and logged, and goes on being waited for as HTTP: it is never quietly handed to the application
//! as bytes, because that would take every policy off it. A port where the server speaks first is declared
//! (`app_protocol: tcp`, `outbound.tcp`), and then nothing is detected.

use super::http::HttpStack;
use super::opaque::Carriage;
use super::settings::Settings;
use crate::cluster::{Cluster, Protocol};
use crate::connect::TcpDial;
use crate::context::config::Trust;
use crate::drain;
use crate::error::{Error, Kind};
use crate::exchange::{Connection, Direction, Sink};
use crate::identity::{ALPN_HTTP2, ServerTls, verify};
use crate::pipeline::metrics::connections::{Connected, ConnectionStats, Detected as Counted};
use crate::protocol::detect::{Detected, detect};
use crate::protocol::{http1, http2};
use crate::svc::{Io, Socket};
use bytes::{Bytes, BytesMut};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// What a listener is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Traffic to the application.
    Inbound,
    /// Traffic from the application.
    Outbound,
    /// Bytes to the cluster of this name.
    Tcp(String),
}

impl Role {
    /// The name in logs, metrics and announcements.
    pub fn name(&self) -> String {
        match self {
            Role::Inbound => "inbound".into(),
            Role::Outbound => "outbound".into(),
            Role::Tcp(cluster) => format!("tcp:{cluster}"),
        }
    }

    /// Which side of the application it is on.
    pub fn direction(&self) -> Direction {
        match self {
            Role::Inbound => Direction::Inbound,
            Role::Outbound | Role::Tcp(_) => Direction::Outbound,
        }
    }
}

/// Where a listener's connections may go.
#[derive(Clone)]
pub struct Traffic {
    /// Where bytes go that are not HTTP; `None`: nowhere.
    pub opaque: Option<Arc<Cluster>>,
    /// Which protocol the clients are expected to speak.
    pub protocol: Protocol,
    /// TLS, where the listener has it.
    pub tls: Option<Arc<ServerTls>>,
    /// Whose context fields are believed.
    pub trust: Trust,
}

/// A listener, as one worker sees it. Replaced as a whole by a reload; connections keep the one they began with, but
/// their routes change with the table.
pub struct Site {
    pub(super) role: Role,
    pub(super) traffic: Traffic,
    pub(super) settings: Settings,
    pub(super) stack: HttpStack,
    pub(super) carriage: Carriage,
    pub(super) sink: Rc<dyn Sink>,
    pub(super) dial: TcpDial,
    pub(super) watch: drain::Watch,
    pub(super) stats: Arc<ConnectionStats>,
    pub(super) has_warned: AtomicBool,
}

/// The first bytes of a connection.
enum First {
    Bytes(Detected),
    /// The budget is over; what came does not decide.
    Undecided,
    /// The client closed before it said anything.
    Closed,
}

impl Site {
    /// Serves one connection to its end.
    pub async fn serve(self: Rc<Self>, stream: TcpStream, peer: SocketAddr, connected: Connected) {
        let connection = self.connection(&stream, peer);
        let is_declared = matches!(self.role, Role::Tcp(_))
            || (self.traffic.protocol == Protocol::Tcp && self.traffic.tls.is_none());
        let io = Io::tcp(stream);
        if is_declared {
            connected.detected(Counted::Tcp);
            return self.opaque(io, Bytes::new(), &connection).await;
        }
        self.detect_and_serve(io, connection, &connected).await;
    }

    /// Tells of a connection that is closed at once, because there are too many.
    pub(super) fn refuse(&self, stream: &TcpStream, peer: SocketAddr) {
        self.carriage.refuse(&self.connection(stream, peer), &Kind::ConnectionLimit.into());
    }

    fn connection(&self, stream: &TcpStream, peer: SocketAddr) -> Connection {
        Connection {
            direction: self.role.direction(),
            peer,
            local: stream.local_addr().unwrap_or(peer),
            is_tls: false,
            identity: None,
            is_trusted: self.traffic.trust == Trust::All,
            serial: Default::default(),
        }
    }

    async fn detect_and_serve(&self, mut io: Io, connection: Connection, connected: &Connected) {
        let mut ahead = BytesMut::new();
        let first = self.first_bytes(&mut io, &mut ahead, connected).await;
        let ahead = ahead.freeze();
        match (first, &self.traffic.tls) {
            (First::Closed, _) => {}
            (First::Bytes(Detected::Tls), Some(tls)) => {
                let tls = Arc::clone(tls);
                self.tls(io, ahead, connection, &tls, connected).await;
            }
            (_, Some(_)) => {
                connected.handshake_failed();
                let error = Error::new(Kind::RequestRefused, "cleartext on a listener that requires TLS");
                self.carriage.refuse(&connection, &error);
            }
            (First::Bytes(detected), None) => self.dispatch(detected, io, ahead, connection, connected).await,
            (First::Undecided, None) => {
                self.dispatch(Detected::Http1, io, ahead, connection, connected).await
            }
        }
    }

    async fn dispatch(
        &self,
        detected: Detected,
        io: Io,
        ahead: Bytes,
        connection: Connection,
        connected: &Connected,
    ) {
        // Where nothing but HTTP is expected, what is no request is answered as a bad one.
        let is_http_only = self.traffic.opaque.is_none() || self.traffic.protocol == Protocol::Http1;
        let detected = if is_http_only && detected == Detected::Opaque { Detected::Http1 } else { detected };
        connected.detected(match detected {
            Detected::Http1 => Counted::Http1,
            Detected::Http2 => Counted::Http2,
            Detected::Tls => Counted::Tls,
            Detected::Opaque => Counted::Tcp,
        });
        match detected {
            Detected::Http1 => self.http1(io, ahead, connection).await,
            Detected::Http2 => self.http2(io, ahead, connection).await,
            Detected::Tls | Detected::Opaque => self.opaque(io, ahead, &connection).await,
        }
    }

    /// Reads until the bytes decide, or the budget is over.
    async fn first_bytes(&self, io: &mut Io, ahead: &mut BytesMut, connected: &Connected) -> First {
        match tokio::time::timeout(self.settings.detect_timeout, read_first(io, ahead)).await {
            Ok(first) => first,
            Err(_) => {
                connected.detect_timeout();
                self.warn_once();
                if ahead.is_empty() {
                    // Still nothing: a client that opened its connection early. It has until the header timeout.
                    let rest = self.settings.header_timeout.saturating_sub(self.settings.detect_timeout);
                    return tokio::time::timeout(rest, read_first(io, ahead)).await.unwrap_or(First::Closed);
                }
                First::Undecided
            }
        }
    }

    fn warn_once(&self) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                listener = self.role.name(),
                "a client said nothing within limits.detect_timeout; if the server speaks first on this port, declare \
                 it: service.app_protocol: tcp, or a listener under outbound.tcp"
            );
        }
    }

    async fn tls(
        &self,
        io: Io,
        ahead: Bytes,
        mut connection: Connection,
        tls: &ServerTls,
        connected: &Connected,
    ) {
        let Io::Plain(mut socket) = io else { return };
        socket.rewind(ahead);
        let stream = match self.handshake(socket, tls).await {
            Ok(stream) => stream,
            Err(error) => {
                connected.handshake_failed();
                return self.carriage.refuse(&connection, &error);
            }
        };
        let session = stream.get_ref().1;
        let is_http2 = session.alpn_protocol() == Some(ALPN_HTTP2);
        // Also for a resumed session: its certificate may have expired since its first handshake.
        match verify::peer(session.peer_certificates(), SystemTime::now()) {
            Ok(identity) => connection.identity = identity,
            Err(error) => {
                let error = Error::new(Kind::RequestRefused, format!("the client's certificate: {error}"));
                return self.carriage.refuse(&connection, &error);
            }
        }
        connection.is_tls = true;
        connection.is_trusted = match self.traffic.trust {
            Trust::All => true,
            Trust::None => false,
            Trust::Mtls => connection.identity.is_some(),
        };
        let mut io = Io::TlsServer(Box::new(stream));
        if is_http2 {
            return self.dispatch(Detected::Http2, io, Bytes::new(), connection, connected).await;
        }
        if self.traffic.protocol == Protocol::Tcp {
            return self.dispatch(Detected::Opaque, io, Bytes::new(), connection, connected).await;
        }
        let mut ahead = BytesMut::new();
        let detected = match self.first_bytes(&mut io, &mut ahead, connected).await {
            First::Closed => return,
            First::Bytes(detected) => detected,
            First::Undecided => Detected::Http1,
        };
        self.dispatch(detected, io, ahead.freeze(), connection, connected).await;
    }

    async fn handshake(
        &self,
        socket: Socket,
        tls: &ServerTls,
    ) -> Result<tokio_rustls::server::TlsStream<Socket>, Error> {
        let acceptor = tokio_rustls::TlsAcceptor::from(tls.config());
        let timeout = self.settings.tls_handshake_timeout;
        match tokio::time::timeout(timeout, acceptor.accept(socket)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(Error::new(Kind::MalformedRequest, format!("TLS handshake: {error}"))),
            Err(_) => Err(Error::new(Kind::HeaderTimeout, "TLS handshake")),
        }
    }

    async fn http1(&self, io: Io, ahead: Bytes, connection: Connection) {
        let (stack, settings) = (self.stack.clone(), Rc::clone(&self.settings.http1));
        let (sink, watch) = (Rc::clone(&self.sink), self.watch.clone());
        http1::serve(io, ahead, stack, Rc::new(connection), settings, sink, watch).await;
    }

    async fn http2(&self, io: Io, ahead: Bytes, connection: Connection) {
        let io = match io {
            Io::Plain(mut socket) => {
                socket.rewind(ahead);
                Io::Plain(socket)
            }
            tls if ahead.is_empty() => tls,
            // HTTP/2 in TLS without ALPN: what was read to find out is given back in front of the stream.
            tls => {
                let mut socket = Socket::other(Box::new(tls));
                socket.rewind(ahead);
                Io::Plain(socket)
            }
        };
        let (stack, settings) = (self.stack.clone(), Rc::clone(&self.settings.http2));
        let (sink, watch) = (Rc::clone(&self.sink), self.watch.clone());
        // Boxed: hyper's connection is large, and most connections of a sidecar are HTTP/1.
        let connection = Rc::new(connection);
        let served = http2::serve(io, stack, Rc::clone(&connection), settings, sink, watch);
        if let Some(abuse) = Box::pin(served).await {
            self.carriage.refuse(&connection, &Error::new(Kind::ClientAbuse, abuse));
        }
    }

    async fn opaque(&self, io: Io, ahead: Bytes, connection: &Connection) {
        let is_http_only = matches!(self.traffic.protocol, Protocol::Http1 | Protocol::Http2);
        match &self.traffic.opaque {
            Some(cluster) if !is_http_only => {
                Box::pin(self.carriage.run(io, ahead, connection, cluster)).await;
            }
            _ => {
                let error =
                    Error::new(Kind::MalformedRequest, "not HTTP, and nothing says where bytes go from here");
                self.carriage.refuse(connection, &error);
            }
        }
    }
}

async fn read_first(io: &mut Io, ahead: &mut BytesMut) -> First {
    loop {
        if let Some(detected) = detect(ahead) {
            return First::Bytes(detected);
        }
        match io.read_buf(ahead).await {
            Ok(0) if ahead.is_empty() => return First::Closed,
            Ok(0) => return First::Undecided,
            Ok(_) => {}
            Err(_) => return First::Closed,
        }
    }
}
