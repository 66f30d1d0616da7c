//! The connection loop.

use super::content::{Content, Limits as ContentLimits, Progress};
use super::finish::{AHEAD_BYTES_MAX, Client, SKIP_BYTES_MAX, Shared, cut, linger, skip};
use super::settings::Settings;
use super::wait::{Head, Wait, method_of, parse, scheme, skip_empty_lines};
use super::write::{Ended, Writing};
use crate::drain;
use crate::error::{Error, Kind};
use crate::exchange::{Connection, Ctx, Exchange, Guard, Phase, Recorder, Response, Sink};
use crate::http1::{self, Framing, Request};
use crate::protocol::splice::{self, Silence, TUNNEL_LINGER};
use crate::svc::{Body, Input, Io, Method, Output, RequestHead, Timer, Version};
use bytes::Bytes;
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use tokio::time::Instant;
use tower::Service;

/// Serves a connection until it ends. `ahead` is what was read to detect the protocol.
pub async fn serve<S>(
    io: Io,
    ahead: Bytes,
    stack: S,
    connection: Rc<Connection>,
    settings: Rc<Settings>,
    sink: Rc<dyn Sink>,
    watch: drain::Watch,
) where
    S: Service<Exchange, Response = Response, Error = Infallible>,
{
    let place = poll_fn(|cx| Poll::Ready(watch.register(cx.waker()))).await;
    let shared = Shared { io, input: Input::new(ahead), output: Output::default() };
    let shared = Rc::new(RefCell::new(shared));
    let mut server =
        Server { shared, stack, connection, settings, sink, place, timer: Timer::new(), served: 0 };
    while server.exchange().await == Next::Request {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Request,
    Close,
}

struct Server<S> {
    shared: Rc<RefCell<Shared>>,
    stack: S,
    connection: Rc<Connection>,
    settings: Rc<Settings>,
    sink: Rc<dyn Sink>,
    place: drain::Place,
    timer: Timer,
    served: usize,
}

/// An exchange that this connection is serving.
struct Serving {
    ctx: Ctx,
    method: Method,
    version: Version,
    is_keep_alive: bool,
    content: Option<Content>,
    received: Instant,
    is_half_closed: bool,
}

/// The client left, or cannot be written to.
struct Gone;

impl<S> Server<S>
where
    S: Service<Exchange, Response = Response, Error = Infallible>,
{
    /// One request and its answer.
    async fn exchange(&mut self) -> Next {
        let mut wait = Wait::default();
        match poll_fn(|cx| self.poll_head(&mut wait, cx)).await {
            Head::Request(request, started) => self.serve_request(request, started).await,
            Head::Refused(error, started, method) => self.refuse(error, started, method).await,
            Head::Closed => {
                let mut shared = self.shared.borrow_mut();
                // A close_notify where TLS is spoken; one try is enough, the client may be gone.
                let _ = Pin::new(&mut shared.io)
                    .poll_shutdown(&mut Context::from_waker(std::task::Waker::noop()));
                Next::Close
            }
        }
    }

    /// Waits for a whole head. Holds neither a buffer nor an armed timer of its own while the connection is idle.
    fn poll_head(&mut self, wait: &mut Wait, cx: &mut Context<'_>) -> Poll<Head> {
        let mut shared = self.shared.borrow_mut();
        let Shared { io, input, .. } = &mut *shared;
        loop {
            if input.bytes.len() > wait.parsed_len {
                skip_empty_lines(&mut input.bytes);
                if let Some(head) = parse(&mut input.bytes, wait, &self.settings, &self.connection) {
                    return Poll::Ready(head);
                }
            }
            let is_idle = input.bytes.is_empty();
            if is_idle && self.place.is_draining() {
                return Poll::Ready(Head::Closed);
            }
            match input.poll_fill(io, cx, AHEAD_BYTES_MAX) {
                Poll::Ready(Ok(0)) if !is_idle => {
                    let error = Error::new(Kind::MalformedRequest, "closed in the middle of the head");
                    return Poll::Ready(Head::Refused(error, wait.started(), method_of(&input.bytes)));
                }
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Head::Closed),
                Poll::Ready(Ok(_)) => continue,
                Poll::Pending => {}
            }
            let deadline = wait.deadline(is_idle && self.served > 0, &self.settings);
            return match self.timer.poll(cx, deadline) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) if is_idle => Poll::Ready(Head::Closed),
                Poll::Ready(()) => {
                    let method = method_of(&input.bytes);
                    Poll::Ready(Head::Refused(Kind::HeaderTimeout.into(), wait.started(), method))
                }
            };
        }
    }

    /// Answers what could not be parsed, through the stack like any other, and closes.
    async fn refuse(&mut self, error: Error, started: Instant, method: Option<Method>) -> Next {
        let mut head = RequestHead::new();
        head.scheme = scheme(&self.connection);
        // What method it was decides whether the answer has content (RFC 9110 §9.3.2).
        head.method = method.unwrap_or(Method::Get);
        let (mut serving, guard, exchange) = self.begin(head, Framing::None, started);
        if method.is_none() {
            serving.ctx.recorder.edit().method = Default::default();
        }
        serving.ctx.refused.replace(Some(error));
        serving.is_keep_alive = false;
        self.answer(serving, guard, exchange).await
    }

    async fn serve_request(&mut self, request: Request, started: Instant) -> Next {
        let Request { head, framing, is_keep_alive, expects_continue, .. } = request;
        let (mut serving, guard, exchange) = self.begin(head, framing, started);
        serving.is_keep_alive = is_keep_alive;
        serving.ctx.expects_continue.set(expects_continue);
        if let (Framing::Length(length), Some(max)) = (framing, self.settings.body_bytes_max)
            && length > max
        {
            let detail = format!("{length} bytes, more than {max}");
            serving.ctx.refused.replace(Some(Error::new(Kind::RequestBodyTooLarge, detail)));
        }
        self.answer(serving, guard, exchange).await
    }

    fn begin(&mut self, head: RequestHead, framing: Framing, started: Instant) -> (Serving, Guard, Exchange) {
        self.served += 1;
        let (recorder, guard) = Recorder::start(&self.sink, &self.connection, started);
        recorder.note_request(&head);
        let ctx = Ctx::new(recorder, Rc::clone(&self.connection));
        let content = match framing {
            Framing::None | Framing::Length(0) => None,
            framing => {
                let shared = Rc::clone(&self.shared);
                Some(Content::new(shared, &ctx, framing, self.content_limits()))
            }
        };
        let body = content.clone().map_or_else(Body::empty, Body::stream);
        let serving = Serving {
            ctx: ctx.clone(),
            method: head.method,
            version: head.version,
            is_keep_alive: false,
            content,
            received: started,
            is_half_closed: false,
        };
        (serving, guard, Exchange { head: Box::new(head), body, ctx })
    }

    fn content_limits(&self) -> ContentLimits {
        ContentLimits {
            chunked: self.settings.chunked,
            body_bytes_max: self.settings.body_bytes_max,
            stall_timeout: self.settings.body_timeout,
            buffer_bytes_max: self.settings.buffer_bytes_max,
        }
    }

    /// Calls the stack and writes what it answers.
    async fn answer(&mut self, mut serving: Serving, guard: Guard, exchange: Exchange) -> Next {
        let response = {
            let mut future = pin!(self.stack.call(exchange));
            poll_fn(|cx| self.poll_answer(future.as_mut(), &mut serving, cx)).await
        };
        let Ok(mut response) = response else { return Next::Close };
        if let Some(tunnel) = response.tunnel.take() {
            return self.tunnel(*response.head, tunnel, serving, guard).await;
        }
        let is_fatal = serving.ctx.recorder.edit().cause.is_some_and(|kind| kind.answer().is_fatal);
        serving.is_keep_alive &= !is_fatal && self.may_continue(&serving);
        let mut writing = Writing::new(response, serving.method, serving.version, &mut serving.is_keep_alive);
        writing.start(&mut self.shared.borrow_mut().output, &serving.ctx.recorder);
        let ended = poll_fn(|cx| self.poll_write(&mut writing, &mut serving, cx)).await;
        match ended {
            Ended::Complete => {
                serving.ctx.recorder.edit().response_bytes = writing.sent_bytes();
                guard.complete();
            }
            Ended::Cut(error) => {
                serving.ctx.recorder.edit().response_bytes = writing.sent_bytes();
                serving.ctx.recorder.fail(&error);
                drop(guard);
                cut(&self.shared, writing.ends_with_close());
                return Next::Close;
            }
            Ended::Gone => {
                serving.ctx.recorder.edit().response_bytes = writing.sent_bytes();
                return Next::Close;
            }
        }
        drop(writing);
        self.after(serving).await
    }

    /// Waits for the stack. Meanwhile relays interim responses, and notices a client that leaves.
    fn poll_answer<F>(
        &mut self,
        future: Pin<&mut F>,
        serving: &mut Serving,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response, Gone>>
    where
        F: Future<Output = Result<Response, Infallible>>,
    {
        if let Poll::Ready(Ok(response)) = future.poll(cx) {
            self.relay_interim(serving);
            return Poll::Ready(Ok(response));
        }
        self.relay_interim(serving);
        if let Poll::Ready(Err(_)) = self.poll_flush(cx) {
            return Poll::Ready(Err(Gone));
        }
        self.poll_gone(serving, cx).map(Err)
    }

    /// Ready when the client is no longer there.
    ///
    /// The end of its stream has two meanings: with the request, or right after it, a client that sends no more but
    /// reads on; later, a client that gave up. TCP does not tell them apart, the time does.
    fn poll_gone(&mut self, serving: &mut Serving, cx: &mut Context<'_>) -> Poll<Gone> {
        let is_reading = serving.content.as_ref().is_some_and(|content| content.progress() == Progress::Open);
        if is_reading || serving.is_half_closed {
            return Poll::Pending;
        }
        let mut shared = self.shared.borrow_mut();
        let Shared { io, input, .. } = &mut *shared;
        while input.bytes.len() < AHEAD_BYTES_MAX {
            match input.poll_fill(io, cx, AHEAD_BYTES_MAX) {
                Poll::Ready(Ok(0)) if serving.received.elapsed() < self.settings.half_close_grace => {
                    serving.is_half_closed = true;
                    // Requests that came before the end are still answered.
                    serving.is_keep_alive &= !input.bytes.is_empty();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Gone),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }

    fn relay_interim(&mut self, serving: &Serving) {
        let mut interim = serving.ctx.interim.borrow_mut();
        if interim.is_empty() {
            return;
        }
        let mut shared = self.shared.borrow_mut();
        for head in interim.drain(..) {
            // RFC 9110 §15.2: HTTP/1.0 has no interim responses.
            if serving.version != Version::Http10 {
                serving.ctx.recorder.tap_response(&head);
                http1::write_interim(shared.output.small(), &head);
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared.borrow_mut();
        let Shared { io, output, .. } = &mut *shared;
        if output.is_empty() { Poll::Ready(Ok(())) } else { output.poll_flush(io, cx) }
    }

    /// Whether another request may follow on this connection.
    fn may_continue(&self, serving: &Serving) -> bool {
        if self.place.is_closing() || self.settings.requests_max.is_some_and(|max| self.served >= max) {
            return false;
        }
        match &serving.content {
            None => true,
            Some(content) => match content.progress() {
                Progress::Done => true,
                Progress::Broken => false,
                // An early answer. A client that was never told to continue may send its content or not: nobody can
                // know what its next bytes are.
                Progress::Open => {
                    !serving.ctx.expects_continue.get()
                        && content.left().is_some_and(|left| left <= SKIP_BYTES_MAX)
                }
            },
        }
    }

    /// Moves the answer's content to the client.
    fn poll_write(
        &mut self,
        writing: &mut Writing,
        serving: &mut Serving,
        cx: &mut Context<'_>,
    ) -> Poll<Ended> {
        loop {
            let is_waiting = writing.poll_content(&self.shared, &serving.ctx.recorder, cx);
            match self.poll_flush(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(Ended::Gone),
                Poll::Ready(Ok(())) => {
                    if let Some(ended) = writing.take_ended() {
                        return Poll::Ready(ended);
                    }
                    if !is_waiting {
                        continue;
                    }
                    if self.poll_gone(serving, cx).is_ready() {
                        return Poll::Ready(Ended::Gone);
                    }
                }
                Poll::Pending => {}
            }
            let timeout = serving.ctx.idle_timeout(self.settings.body_timeout);
            return writing.poll_stall(&mut self.timer, timeout, is_waiting, cx);
        }
    }

    /// After a complete answer: the next request, or an end that lets the client read what it was told.
    async fn after(&mut self, serving: Serving) -> Next {
        let is_open = serving.content.as_ref().is_some_and(|content| content.progress() != Progress::Done);
        if serving.is_keep_alive && (!is_open || skip(serving.content).await) {
            return Next::Request;
        }
        linger(&self.shared).await;
        Next::Close
    }

    /// Writes the head of a switch of protocols, then moves bytes until both sides are done.
    async fn tunnel(
        &mut self,
        mut head: crate::svc::ResponseHead,
        tunnel: crate::exchange::Tunnel,
        serving: Serving,
        guard: Guard,
    ) -> Next {
        use crate::svc::Known;
        head.status = 101;
        head.fields.set(Known::Connection, b"upgrade");
        {
            let mut record = serving.ctx.recorder.edit();
            (record.status, record.phase, record.is_tunnel) = (101, Phase::Response, true);
        }
        serving.ctx.recorder.tap_response(&head);
        http1::write_interim(self.shared.borrow_mut().output.small(), &head);
        if poll_fn(|cx| self.poll_flush(cx)).await.is_err() {
            return Next::Close;
        }
        let ahead = self.shared.borrow_mut().input.bytes.split().freeze();
        let mut client = Client(&self.shared);
        let mut upstream = tunnel.io;
        let idle_timeout = serving.ctx.idle_timeout(self.settings.tunnel_idle_timeout);
        let silence = Silence { both: idle_timeout, half_closed: Some(TUNNEL_LINGER) };
        let (recorder, ahead) = (&serving.ctx.recorder, (ahead, tunnel.ahead));
        let moved = splice::run(&mut client, &mut upstream, ahead, silence, Some(recorder)).await;
        moved.record(recorder);
        if moved.error.is_none() {
            guard.complete();
        }
        Next::Close
    }
}
