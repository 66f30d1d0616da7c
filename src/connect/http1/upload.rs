//! A request's content on its way to the upstream.

use crate::error::Result;
use crate::http1::chunked;
use crate::svc::{Body, Frame, Io, Output};
use bytes::Bytes;
use std::task::{Context, Poll};

/// What is left to send of a request's content.
pub(super) struct Upload {
    pub(super) body: Body,
    pub(super) is_chunked: bool,
    pub(super) is_done: bool,
    /// The upstream no longer takes it; its answer may still come.
    pub(super) is_refused: bool,
}

impl Upload {
    /// Moves content to the connection until it is done or one side makes us wait.
    pub(super) fn poll(
        &mut self,
        io: &mut Io,
        output: &mut Output,
        cx: &mut Context<'_>,
    ) -> Poll<Result<()>> {
        loop {
            if self.is_refused {
                return Poll::Ready(Ok(()));
            }
            let mut is_waiting = false;
            while !self.is_done && output.has_room() && !is_waiting {
                match self.body.poll_frame(cx) {
                    Poll::Ready(Some(Ok(Frame::Data(data)))) => self.push(output, data),
                    Poll::Ready(Some(Ok(Frame::Trailers(fields)))) => {
                        self.end(output, Some(&fields));
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => self.end(output, None),
                    Poll::Pending => is_waiting = true,
                }
            }
            match output.poll_flush(io, cx) {
                Poll::Ready(Ok(())) if self.is_done => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if is_waiting => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                // The upstream may have answered before it closed: that answer counts.
                Poll::Ready(Err(_)) => self.is_refused = true,
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn push(&self, output: &mut Output, data: Bytes) {
        if !self.is_chunked {
            output.push(data);
            return;
        }
        chunked::write_chunk(output, data);
    }

    fn end(&mut self, output: &mut Output, trailers: Option<&crate::svc::Fields>) {
        self.is_done = true;
        if self.is_chunked {
            chunked::write_last_chunk(output, trailers);
        }
    }
}
