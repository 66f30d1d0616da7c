//! The socket that a connection's loop and a request's content share, and the ways in which it ends.

use super::content::{Content, Progress};
use crate::svc::{Body, Input, Io, Output};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The socket and its buffers: the connection's loop and the content of the request both use them.
pub(super) struct Shared {
    pub(super) io: Io,
    pub(super) input: Input,
    pub(super) output: Output,
}

/// How much of later requests is read ahead while one is answered.
pub(super) const AHEAD_BYTES_MAX: usize = 64 * 1024;

/// How much of a request's unread content is skipped to keep the connection usable after an early answer, and for how
/// long.
pub(super) const SKIP_BYTES_MAX: u64 = 256 * 1024;
const SKIP_TIME_MAX: Duration = Duration::from_secs(1);

/// After an answer that ends the connection, so much is read and thrown away, for so long, to let the client see the
/// answer: closing a socket with unread bytes makes the kernel reset it, and the reset overtakes the answer.
const LINGER_BYTES_MAX: usize = 1024 * 1024;
const LINGER_TIME_MAX: Duration = Duration::from_secs(1);

/// Reads the rest of a request that was answered early; `false` when it does not end soon.
pub(super) async fn skip(content: Option<Content>) -> bool {
    let Some(content) = content else { return true };
    let mut body = Body::stream(content.clone());
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    tokio::time::timeout(SKIP_TIME_MAX, rest).await.is_ok() && content.progress() == Progress::Done
}

/// Closes our side, then reads until the client closes its own, within bounds.
pub(super) async fn linger(shared: &RefCell<Shared>) {
    let mut skipped = 0;
    let mut is_shut = false;
    let drained = poll_fn(|cx| {
        let mut shared = shared.borrow_mut();
        let Shared { io, input, .. } = &mut *shared;
        if !is_shut {
            match Pin::new(&mut *io).poll_shutdown(cx) {
                Poll::Ready(_) => is_shut = true,
                Poll::Pending => return Poll::Pending,
            }
        }
        loop {
            skipped += input.bytes.len();
            input.bytes.clear();
            if skipped > LINGER_BYTES_MAX {
                return Poll::Ready(());
            }
            match input.poll_fill(io, cx, AHEAD_BYTES_MAX) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    let _ = tokio::time::timeout(LINGER_TIME_MAX, drained).await;
}

/// Ends the connection so that the client sees a cut, where only the end of the stream says where content ends.
pub(super) fn cut(shared: &RefCell<Shared>, ends_with_close: bool) {
    if ends_with_close && let Some(tcp) = shared.borrow().io.socket().as_tcp() {
        let _ = socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO));
    }
}

/// The client's stream, borrowed only while it is polled.
pub(super) struct Client<'a>(pub(super) &'a RefCell<Shared>);

impl AsyncRead for Client<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Client<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_shutdown(cx)
    }
}
