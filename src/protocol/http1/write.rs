//! Writing an answer: its head, then its content as it comes.

use super::finish::Shared;
use crate::error::{Error, Kind};
use crate::exchange::{Phase, Recorder, Response, Side};
use crate::http1::{self, Content as Follows, Persistence, chunked};
use crate::protocol::{date, respond};
use crate::svc::{Body, Frame, Known, Method, Output, ResponseHead, Timer, Version};
use std::cell::RefCell;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// How writing an answer ended.
pub(super) enum Ended {
    /// All of it was taken by the socket.
    Complete,
    /// The content broke off; the client must see that it did.
    Cut(Error),
    /// The client is no longer there.
    Gone,
}

/// An answer that is being written.
pub(super) struct Writing {
    head: Box<ResponseHead>,
    body: Body,
    follows: Follows,
    persistence: Persistence,
    ended: Option<Ended>,
    sent_bytes: u64,
    /// When the content stalls, if nothing moves until then.
    deadline: Option<Instant>,
}

impl Writing {
    /// Decides the framing. `is_keep_alive` becomes false where the end of the content is the end of the connection.
    pub(super) fn new(
        response: Response,
        method: Method,
        version: Version,
        is_keep_alive: &mut bool,
    ) -> Writing {
        let Response { head, body, .. } = response;
        let (follows, body) = if method == Method::Head || head.is_bodiless() {
            (Follows::Unsaid, Body::empty())
        } else {
            match body.length() {
                Some(length) => (Follows::Length(length), body),
                None if version == Version::Http10 => (Follows::Close, body),
                None => (Follows::Chunked, body),
            }
        };
        *is_keep_alive &= follows != Follows::Close;
        let persistence = match (*is_keep_alive, version) {
            (false, _) => Persistence::Close,
            (true, Version::Http10) => Persistence::KeepAlive,
            (true, _) => Persistence::Usual,
        };
        Writing { head, body, follows, persistence, ended: None, sent_bytes: 0, deadline: None }
    }

    /// Puts the head in front of the content.
    pub(super) fn start(&mut self, output: &mut Output, recorder: &Recorder) {
        self.head.fields.remove(Known::Connection);
        let now = {
            let record = recorder.edit();
            record.upstream_first_byte.map_or_else(Instant::now, |since| record.started + since)
        };
        date::with(now, |date| {
            http1::write_response(output.small(), &self.head, self.follows, self.persistence, date)
        });
        {
            let mut record = recorder.edit();
            record.phase = Phase::Response;
            record.status = self.head.status;
        }
        recorder.tap_response(&self.head);
    }

    /// Content bytes that were handed to the socket.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Whether only the end of the connection tells the end of the content.
    pub(super) fn ends_with_close(&self) -> bool {
        self.follows == Follows::Close
    }

    /// The end, once there is nothing left to flush.
    pub(super) fn take_ended(&mut self) -> Option<Ended> {
        self.ended.take()
    }

    /// Takes content as long as there is room for it; `true` when the upstream makes us wait.
    pub(super) fn poll_content(
        &mut self,
        shared: &RefCell<Shared>,
        recorder: &Recorder,
        cx: &mut Context<'_>,
    ) -> bool {
        while self.ended.is_none() && shared.borrow().output.has_room() {
            // Not borrowed while the content is polled: an upload that still runs reads from the same connection.
            let frame = match self.body.poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => return true,
            };
            self.deadline = None;
            let output = &mut shared.borrow_mut().output;
            match frame {
                Some(Ok(Frame::Data(data))) => {
                    self.sent_bytes += data.len() as u64;
                    recorder.tap_data(Side::Response, &data);
                    match self.follows {
                        Follows::Chunked => chunked::write_chunk(output, data),
                        _ => output.push(data),
                    }
                }
                Some(Ok(Frame::Trailers(fields))) => {
                    if let Some(status) = respond::grpc_status(fields.get(Known::GrpcStatus)) {
                        recorder.edit().grpc_status = Some(status);
                    }
                    recorder.tap_trailers(Side::Response, &fields);
                    self.finish(output, Some(&fields));
                }
                None => self.finish(output, None),
                Some(Err(error)) => self.ended = Some(Ended::Cut(error)),
            }
        }
        false
    }

    fn finish(&mut self, output: &mut Output, trailers: Option<&crate::svc::Fields>) {
        if self.follows == Follows::Chunked {
            chunked::write_last_chunk(output, trailers);
        }
        self.ended = Some(Ended::Complete);
    }

    /// Waits; ready when neither side moved for too long.
    pub(super) fn poll_stall(
        &mut self,
        timer: &mut Timer,
        timeout: Option<Duration>,
        is_upstream_waiting: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Ended> {
        let Some(timeout) = timeout else { return Poll::Pending };
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + timeout);
        match timer.poll(cx, deadline) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) if is_upstream_waiting => {
                Poll::Ready(Ended::Cut(Kind::ResponseBodyTimeout.into()))
            }
            Poll::Ready(()) => Poll::Ready(Ended::Cut(Error::new(Kind::ClientGone, "stopped reading"))),
        }
    }
}
