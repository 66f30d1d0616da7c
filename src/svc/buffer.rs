//! Read buffers from a free list of the thread, and output that joins small writes.
//!
//! A connection that waits holds no buffer: it takes one when its socket is readable and gives it back when nothing is
//! left in it. That is most of the difference between 2 and 20 KiB for an idle connection.

use bytes::{BufMut, Bytes, BytesMut};
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The first size of a read buffer: a usual request with its head fits many times.
const READ_BYTES_MIN: usize = 8 * 1024;
const SPARE_MAX: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
    static SPARE_OUTPUT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// What was read and not yet used. Grows while reads fill it, up to a limit.
#[derive(Debug, Default)]
pub struct Input {
    /// The bytes; consumers split from the front.
    pub bytes: BytesMut,
    /// How much the next read asks for.
    step: usize,
}

impl Input {
    /// An input that starts with what was read ahead.
    pub fn new(ahead: Bytes) -> Input {
        Input { bytes: BytesMut::from(ahead), step: READ_BYTES_MIN }
    }

    /// Reads once: how many bytes came; 0 at the end of the stream. At most `bytes_max` are asked for at once.
    pub fn poll_fill<T: AsyncRead + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
        bytes_max: usize,
    ) -> Poll<io::Result<usize>> {
        if self.bytes.capacity() == 0 {
            self.bytes = SPARE.with(|spare| spare.borrow_mut().pop()).unwrap_or_default();
        }
        if self.bytes.capacity() - self.bytes.len() < self.step / 2 {
            self.bytes.reserve(self.step.max(READ_BYTES_MIN));
        }
        let room = self.bytes.chunk_mut();
        let asked = room.len();
        // SAFETY: `ReadBuf` takes uninitialised memory and only ever initialises it.
        let mut buf = ReadBuf::uninit(unsafe { room.as_uninit_slice_mut() });
        let result = Pin::new(io).poll_read(cx, &mut buf);
        let read = buf.filled().len();
        match result {
            Poll::Ready(Ok(())) => {
                // SAFETY: `ReadBuf` says that the first `read` bytes of the room are initialised.
                unsafe { self.bytes.advance_mut(read) };
                if read == asked && self.step < bytes_max {
                    self.step = (self.step * 2).min(bytes_max);
                }
                Poll::Ready(Ok(read))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.release();
                Poll::Pending
            }
        }
    }

    /// Gives the buffer back when nothing is in it.
    pub fn release(&mut self) {
        if !self.bytes.is_empty() || self.bytes.capacity() == 0 {
            return;
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        // Reclaims the front that was split off, if nobody holds it any more; otherwise it is not worth keeping.
        if self.step > READ_BYTES_MIN || !bytes.try_reclaim(READ_BYTES_MIN) {
            self.step = READ_BYTES_MIN;
            return;
        }
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_MAX {
                spare.push(bytes);
            }
        });
    }
}

/// The first size of an output buffer: a usual head and a small body.
const OUTPUT_BYTES_MIN: usize = 2 * 1024;

/// Data up to this size is copied behind what is already waiting, to leave in one write; larger data is not copied.
const JOIN_BYTES_MAX: usize = 16 * 1024;

/// What is to be written: some small bytes, then at most one large piece.
#[derive(Debug, Default)]
pub struct Output {
    small: Vec<u8>,
    sent: usize,
    large: Bytes,
    /// What follows the large piece.
    tail: &'static [u8],
    /// Bytes that the socket took since the connection began.
    pub written_bytes: u64,
}

impl Output {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.sent == self.small.len() && self.large.is_empty()
    }

    /// Whether more can be added before a flush.
    pub fn has_room(&self) -> bool {
        self.large.is_empty() && self.small.len() < JOIN_BYTES_MAX * 2
    }

    /// The small bytes, to append to. Only while [`Output::has_room`].
    pub fn small(&mut self) -> &mut Vec<u8> {
        if self.small.capacity() == 0 {
            let spare = SPARE_OUTPUT.with(|spare| spare.borrow_mut().pop());
            self.small = spare.unwrap_or_else(|| Vec::with_capacity(OUTPUT_BYTES_MIN));
        }
        &mut self.small
    }

    /// Adds content. Only while [`Output::has_room`].
    pub fn push(&mut self, data: Bytes) {
        self.push_with_tail(data, b"");
    }

    /// Adds content and what follows it. Only while [`Output::has_room`].
    pub fn push_with_tail(&mut self, data: Bytes, tail: &'static [u8]) {
        if data.len() <= JOIN_BYTES_MAX {
            let small = self.small();
            small.extend_from_slice(&data);
            small.extend_from_slice(tail);
        } else {
            self.large = data;
            self.tail = tail;
        }
    }

    /// Writes until nothing is left.
    pub fn poll_flush<T: AsyncWrite + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let small = self.small.get(self.sent..).unwrap_or_default();
            let written = if self.large.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, small))?
            } else if small.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, &self.large))?
            } else {
                let parts = [IoSlice::new(small), IoSlice::new(&self.large)];
                ready!(Pin::new(&mut *io).poll_write_vectored(cx, &parts))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written_bytes += written as u64;
            let of_small = written.min(small.len());
            self.sent += of_small;
            bytes::Buf::advance(&mut self.large, written - of_small);
            if self.large.is_empty() && !self.tail.is_empty() {
                let tail = std::mem::take(&mut self.tail);
                self.small().extend_from_slice(tail);
            }
        }
        self.release();
        Pin::new(io).poll_flush(cx)
    }

    /// Gives the buffer back: nothing is left in it.
    fn release(&mut self) {
        self.sent = 0;
        let mut small = std::mem::take(&mut self.small);
        if small.capacity() == 0 || small.capacity() > JOIN_BYTES_MAX * 2 {
            return;
        }
        small.clear();
        let _ = SPARE_OUTPUT.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_MAX {
                spare.push(small);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn an_input_without_bytes_holds_no_memory() {
        let (mut client, mut server) = tokio::io::duplex(64);
        let mut input = Input::new(Bytes::new());
        let pending = std::future::poll_fn(|cx| Poll::Ready(input.poll_fill(&mut server, cx, 1024)));
        assert!(pending.await.is_pending());
        assert_eq!(input.bytes.capacity(), 0);
        client.write_all(b"hello").await.unwrap();
        let read = std::future::poll_fn(|cx| input.poll_fill(&mut server, cx, 1024)).await.unwrap();
        assert_eq!((read, &input.bytes[..]), (5, &b"hello"[..]));
    }

    #[tokio::test]
    async fn output_keeps_its_order_through_a_narrow_pipe() {
        let (mut client, mut server) = tokio::io::duplex(7);
        let mut output = Output::default();
        output.small().extend_from_slice(b"head ");
        output.push(Bytes::from_static(b"small "));
        output.push(Bytes::from(vec![b'x'; JOIN_BYTES_MAX + 1]));
        assert!(!output.has_room());
        let reader = async {
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            all
        };
        let writer = async {
            std::future::poll_fn(|cx| output.poll_flush(&mut server, cx)).await.unwrap();
            drop(server);
        };
        let (all, ()) = tokio::join!(reader, writer);
        assert!(all.starts_with(b"head small xxx") && all.len() == 11 + JOIN_BYTES_MAX + 1);
        assert!(output.is_empty() && output.written_bytes == all.len() as u64);
    }
}
