//! One stream: an exchange of its own.

use super::Settings;
use super::task::{Sending, Tasks};
use crate::error::{Error, Kind};
use crate::exchange::{
    Connection, Ctx, Exchange, Guard, Phase, Recorder, Response, Side, Sink, Tunnel, WeakCtx,
};
use crate::http1::chunked::is_allowed_trailer;
use crate::protocol::respond;
use crate::protocol::splice::{self, Silence, TUNNEL_LINGER};
use crate::svc::{Body, Fields, Frame, Known, Method, RequestHead, Scheme, Source, Timer, Version, http2};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;
use tower::Service;

/// The service that hyper calls for each stream of a connection.
pub(super) struct Streams<S> {
    stack: RefCell<S>,
    connection: Rc<Connection>,
    settings: Rc<Settings>,
    sink: Rc<dyn Sink>,
    active: Rc<Cell<usize>>,
    tasks: Tasks,
}

/// Counts a stream as active.
struct Active(Rc<Cell<usize>>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl<S> Streams<S> {
    pub(super) fn new(
        stack: S,
        connection: Rc<Connection>,
        settings: Rc<Settings>,
        sink: Rc<dyn Sink>,
        active: Rc<Cell<usize>>,
        tasks: Tasks,
    ) -> Streams<S> {
        Streams { stack: RefCell::new(stack), connection, settings, sink, active, tasks }
    }
}

type StreamFuture = Pin<Box<dyn Future<Output = Result<http::Response<Answer>, Infallible>>>>;

impl<S> hyper::service::Service<http::Request<Incoming>> for Streams<S>
where
    S: Service<Exchange, Response = Response, Error = Infallible>,
    S::Future: 'static,
{
    type Response = http::Response<Answer>;
    type Error = Infallible;
    type Future = StreamFuture;

    fn call(&self, mut request: http::Request<Incoming>) -> StreamFuture {
        self.active.set(self.active.get() + 1);
        let active = Active(Rc::clone(&self.active));
        let (recorder, guard) = Recorder::start(&self.sink, &self.connection, Instant::now());
        let is_connect = request.method() == http::Method::CONNECT;
        let upgrade = is_connect.then(|| hyper::upgrade::on(&mut request));
        let (parts, incoming) = request.into_parts();
        let scheme = if self.connection.is_tls { Scheme::Https } else { Scheme::Http };
        let (mut head, refused) = match self.check(&parts, scheme) {
            Ok(head) => (head, None),
            Err(error) => {
                (RequestHead { version: Version::Http2, scheme, ..RequestHead::new() }, Some(error))
            }
        };
        head.version = Version::Http2;
        recorder.note_request(&head);
        let is_tunnel = head.upgrade.is_some();
        if is_tunnel {
            as_upgrade(&mut head);
        }
        // hyper's server cannot send 100 (Continue); RFC 9110 §10.1.1 lets a server that is about to read skip it.
        if head.fields.get(Known::Expect).is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue")) {
            head.fields.remove(Known::Expect);
        }
        let method = head.method;
        let sending = self.tasks.watch(recorder.clone());
        let ctx = Ctx::new(recorder, Rc::clone(&self.connection));
        let body = if is_connect { Body::empty() } else { content(incoming, &ctx, &self.settings) };
        ctx.refused.replace(refused);
        let call = self.stack.borrow_mut().call(Exchange { head: Box::new(head), body, ctx: ctx.clone() });
        let settings = Rc::clone(&self.settings);
        Box::pin(async move {
            let Ok(response) = call.await;
            Ok(answer(response, upgrade, method, &settings, Served { ctx, guard, sending, _active: active }))
        })
    }
}

impl<S> Streams<S> {
    fn check(&self, parts: &http::request::Parts, scheme: Scheme) -> Result<RequestHead, Error> {
        if parts.headers.len() > self.settings.fields_max {
            let detail = format!("more than {} fields", self.settings.fields_max);
            return Err(Error::new(Kind::RequestHeadTooLarge, detail));
        }
        // h2 itself would refuse a list over its limit with a bare 431 that nobody hears of; it is given twice the room.
        let list_bytes: usize =
            parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        if list_bytes > self.settings.header_list_bytes_max as usize {
            let detail = format!(
                "a header list of {list_bytes} bytes, more than {}",
                self.settings.header_list_bytes_max
            );
            return Err(Error::new(Kind::RequestHeadTooLarge, detail));
        }
        let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
        if target > self.settings.target_bytes_max {
            let detail = format!("{target} bytes, more than {}", self.settings.target_bytes_max);
            return Err(Error::new(Kind::TargetTooLong, detail));
        }
        if let Some(protocol) = parts.extensions.get::<hyper::ext::Protocol>()
            && !protocol.as_str().eq_ignore_ascii_case("websocket")
        {
            return Err(Error::new(
                Kind::RequestRefused,
                "an extended CONNECT for something else than websocket",
            ));
        }
        http2::request_from(parts, scheme)
    }
}

/// An extended CONNECT (RFC 8441) goes through the stack as what it is in HTTP/1.1: a GET that asks for an upgrade.
fn as_upgrade(head: &mut RequestHead) {
    head.method = Method::Get;
    if !head.fields.has(Known::SecWebsocketKey) {
        // RFC 6455 §4.1 wants 16 random bytes in base64; they guard nothing between proxy and server.
        head.fields.set(Known::SecWebsocketKey, b"c2lkZWxpZ2h0IHJmYzg0NA==");
    }
}

/// What lives as long as the stream.
struct Served {
    ctx: Ctx,
    guard: Guard,
    sending: Rc<Sending>,
    _active: Active,
}

fn answer(
    response: Response,
    upgrade: Option<hyper::upgrade::OnUpgrade>,
    method: Method,
    settings: &Settings,
    served: Served,
) -> http::Response<Answer> {
    let Response { mut head, body, tunnel } = response;
    if let (Some(tunnel), Some(upgrade)) = (tunnel, upgrade) {
        head.status = 200;
        head.fields.remove(Known::SecWebsocketAccept);
        served.ctx.recorder.tap_response(&head);
        let idle_timeout = served.ctx.idle_timeout(settings.tunnel_idle_timeout);
        tokio::task::spawn_local(run_tunnel(upgrade, tunnel, idle_timeout, served));
        return http2::response_to(&head, Answer::empty());
    }
    {
        let mut record = served.ctx.recorder.edit();
        record.phase = Phase::Response;
        record.status = head.status;
    }
    served.ctx.recorder.tap_response(&head);
    let is_bodiless = method == Method::Head || head.is_bodiless();
    let body = if is_bodiless { Body::empty() } else { body };
    if let Some(length) = body.length().filter(|_| !is_bodiless && !head.fields.has(Known::ContentLength)) {
        head.fields.set(Known::ContentLength, length.to_string().as_bytes());
    }
    let stall_timeout = served.ctx.idle_timeout(settings.body_timeout);
    served.sending.limit(stall_timeout);
    http2::response_to(&head, Answer::new(body, served, stall_timeout))
}

async fn run_tunnel(
    upgrade: hyper::upgrade::OnUpgrade,
    tunnel: Tunnel,
    idle_timeout: Option<Duration>,
    served: Served,
) {
    {
        let mut record = served.ctx.recorder.edit();
        (record.status, record.phase, record.is_tunnel) = (200, Phase::Response, true);
    }
    let Ok(client) = upgrade.await else { return };
    let mut client = TokioIo::new(client);
    let mut upstream = tunnel.io;
    let silence = Silence { both: idle_timeout, half_closed: Some(TUNNEL_LINGER) };
    let recorder = &served.ctx.recorder;
    let ahead = (Bytes::new(), tunnel.ahead);
    let moved = splice::run(&mut client, &mut upstream, ahead, silence, Some(recorder)).await;
    moved.record(recorder);
    if moved.error.is_none() {
        served.guard.complete();
    }
}

/// An answer's content on its way to hyper. Its end is the end of the exchange.
pub(super) struct Answer {
    body: Body,
    served: Option<Served>,
    stall_timeout: Option<Duration>,
    timer: Timer,
    deadline: Option<Instant>,
}

impl Answer {
    fn empty() -> Answer {
        Answer { body: Body::empty(), served: None, stall_timeout: None, timer: Timer::new(), deadline: None }
    }

    fn new(body: Body, served: Served, stall_timeout: Option<Duration>) -> Answer {
        let mut answer =
            Answer { body, served: Some(served), stall_timeout, timer: Timer::new(), deadline: None };
        answer.end_if_done();
        answer
    }

    /// hyper does not poll content that says it is at its end.
    fn end_if_done(&mut self) {
        if self.body.is_end() {
            self.complete();
        }
    }

    fn complete(&mut self) {
        if let Some(served) = self.served.take() {
            served.sending.is_over();
            served.guard.complete();
        }
    }

    fn note(&mut self, frame: &Frame) {
        let Some(served) = &self.served else { return };
        let recorder = &served.ctx.recorder;
        match frame {
            Frame::Data(data) => {
                recorder.edit().response_bytes += data.len() as u64;
                recorder.tap_data(Side::Response, data);
            }
            Frame::Trailers(fields) => {
                if let Some(status) = respond::grpc_status(fields.get(Known::GrpcStatus)) {
                    recorder.edit().grpc_status = Some(status);
                }
                recorder.tap_trailers(Side::Response, fields);
            }
        }
    }

    fn fail(&mut self, error: Error) -> Error {
        if let Some(served) = self.served.take() {
            served.sending.is_over();
            served.ctx.recorder.fail(&error);
        }
        error
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let frame = match this.body.poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let Some(timeout) = this.stall_timeout else { return Poll::Pending };
                let deadline = *this.deadline.get_or_insert_with(|| Instant::now() + timeout);
                ready!(this.timer.poll(cx, deadline));
                return Poll::Ready(Some(Err(this.fail(Kind::ResponseBodyTimeout.into()))));
            }
        };
        this.deadline = None;
        match frame {
            None => {
                this.complete();
                Poll::Ready(None)
            }
            Some(Err(error)) => Poll::Ready(Some(Err(this.fail(error)))),
            Some(Ok(frame)) => {
                this.note(&frame);
                this.end_if_done();
                if let Some(served) = &this.served {
                    served.sending.moved();
                }
                Poll::Ready(Some(Ok(match frame {
                    Frame::Data(data) => http_body::Frame::data(data),
                    Frame::Trailers(fields) => {
                        this.complete();
                        http_body::Frame::trailers(http2::map_from(&fields))
                    }
                })))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end()
    }
}

fn content(incoming: Incoming, ctx: &Ctx, settings: &Settings) -> Body {
    use hyper::body::Body as _;
    if incoming.is_end_stream() {
        return Body::empty();
    }
    Body::stream(Content {
        incoming,
        recorder: ctx.recorder.clone(),
        ctx: ctx.downgrade(),
        body_bytes_max: settings.body_bytes_max,
        stall_timeout: settings.body_timeout,
        total_bytes: 0,
        timer: Timer::new(),
        deadline: None,
    })
}

/// A request's content from hyper.
struct Content {
    incoming: Incoming,
    recorder: Recorder,
    /// Weak, because the exchange may hold this content, for another attempt.
    ctx: WeakCtx,
    body_bytes_max: Option<u64>,
    stall_timeout: Option<Duration>,
    total_bytes: u64,
    timer: Timer,
    deadline: Option<Instant>,
}

impl Source for Content {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        use hyper::body::Body as _;
        let frame = match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let Some(timeout) = self.ctx.idle_timeout(self.stall_timeout) else { return Poll::Pending };
                let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + timeout);
                ready!(self.timer.poll(cx, deadline));
                return Poll::Ready(Some(Err(Kind::RequestBodyTimeout.into())));
            }
        };
        self.deadline = None;
        let frame = match frame {
            None => return Poll::Ready(None),
            Some(Err(error)) => {
                let error = Error::new(Kind::ClientGone, error.to_string());
                return Poll::Ready(Some(Err(error)));
            }
            Some(Ok(frame)) => frame,
        };
        match frame.into_data() {
            Ok(data) => {
                self.total_bytes += data.len() as u64;
                self.recorder.edit().request_bytes = self.total_bytes;
                self.recorder.tap_data(Side::Request, &data);
                if self.body_bytes_max.is_some_and(|max| self.total_bytes > max) {
                    return Poll::Ready(Some(Err(Kind::RequestBodyTooLarge.into())));
                }
                if data.is_empty() {
                    return self.poll_frame(cx);
                }
                Poll::Ready(Some(Ok(Frame::Data(data))))
            }
            Err(frame) => match frame.into_trailers() {
                Ok(map) => {
                    let trailers = trailers(&map);
                    self.recorder.tap_trailers(Side::Request, &trailers);
                    Poll::Ready(Some(Ok(Frame::Trailers(trailers))))
                }
                Err(_) => self.poll_frame(cx),
            },
        }
    }

    fn length(&self) -> Option<u64> {
        use hyper::body::Body as _;
        self.incoming.size_hint().exact()
    }

    fn is_end(&self) -> bool {
        use hyper::body::Body as _;
        self.incoming.is_end_stream()
    }
}

/// A trailer section without the fields that must not be in one.
fn trailers(map: &http::HeaderMap) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in map.iter().filter(|(name, _)| is_allowed_trailer(name.as_str().as_bytes())) {
        fields.push(name.as_str().as_bytes(), value.as_bytes());
    }
    fields
}
