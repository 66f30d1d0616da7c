//! Byte streams: a TCP socket, or one that TLS wraps; one concrete type, so that codecs have no type parameter.

use bytes::{Buf, Bytes};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Any other transport: simulated networks and in-memory pipes of tests.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

enum Transport {
    Tcp(TcpStream),
    Other(Box<dyn Stream>),
}

/// A transport, with bytes that were read ahead (to detect the protocol) given back first.
pub struct Socket {
    ahead: Bytes,
    transport: Transport,
}

/// The stream that a codec speaks on.
pub enum Io {
    /// Cleartext.
    Plain(Socket),
    /// TLS, we are the server.
    TlsServer(Box<tokio_rustls::server::TlsStream<Socket>>),
    /// TLS, we are the client.
    TlsClient(Box<tokio_rustls::client::TlsStream<Socket>>),
}

impl Socket {
    /// A TCP connection.
    pub fn tcp(stream: TcpStream) -> Socket {
        Socket { ahead: Bytes::new(), transport: Transport::Tcp(stream) }
    }

    /// Any other transport.
    pub fn other(stream: Box<dyn Stream>) -> Socket {
        Socket { ahead: Bytes::new(), transport: Transport::Other(stream) }
    }

    /// Gives `ahead` back, to be read before anything else.
    pub fn rewind(&mut self, ahead: Bytes) {
        self.ahead = ahead;
    }

    /// The TCP connection, where it is one.
    pub fn as_tcp(&self) -> Option<&TcpStream> {
        match &self.transport {
            Transport::Tcp(stream) => Some(stream),
            Transport::Other(_) => None,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let len = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead[..len]);
            self.ahead.advance(len);
            return Poll::Ready(Ok(()));
        }
        match &mut self.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Other(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Other(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Other(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Tcp(_) => true,
            Transport::Other(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Other(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Other(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl Io {
    /// Cleartext TCP.
    pub fn tcp(stream: TcpStream) -> Io {
        Io::Plain(Socket::tcp(stream))
    }

    /// The socket under everything.
    pub fn socket(&self) -> &Socket {
        match self {
            Io::Plain(socket) => socket,
            Io::TlsServer(stream) => stream.get_ref().0,
            Io::TlsClient(stream) => stream.get_ref().0,
        }
    }

    /// Whether TLS protects it.
    pub fn is_tls(&self) -> bool {
        !matches!(self, Io::Plain(_))
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::TlsServer(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
            Io::TlsClient(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::TlsServer(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
            Io::TlsClient(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Io::TlsServer(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, bufs),
            Io::TlsClient(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::TlsServer(stream) => stream.is_write_vectored(),
            Io::TlsClient(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::TlsServer(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Io::TlsClient(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::TlsServer(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Io::TlsClient(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
