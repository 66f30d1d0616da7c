//! For tests: a cluster whose endpoints do what a script says, and exchanges that have been routed to it.

use super::circuit_breaker::CircuitBreaking;
use crate::cluster::{Cluster, Config, Outcome, Picked, Target};
use crate::context::RequestType;
use crate::error::{Error, Kind, Replay, Result};
use crate::exchange::{
    Answer, Connection, Ctx, Direction, Exchange, Guard, HookLayer, HookService, NoSink, Policy, Recorder,
    Response, Sink,
};
use crate::svc::{Body, Fields, Frame, Known, Method, RequestHead, ResponseHead, Source};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service};

pub(super) const MS: Duration = Duration::from_millis(1);

/// What an endpoint does with one attempt.
pub(super) struct Step {
    /// How long it takes.
    pub(super) time: Duration,
    /// Whether it reads the content first.
    pub(super) reads: bool,
    pub(super) play: Play,
}

pub(super) enum Play {
    Answer(ResponseHead, Body),
    /// No answer; whether the client has head and content back.
    Fail(Error, bool),
}

/// An answer after `time`.
pub(super) fn answer(status: u16, time: Duration) -> Step {
    Step { time, reads: true, play: Play::Answer(ResponseHead::new(status), Body::from("content")) }
}

/// An answer with these fields, at once.
pub(super) fn answer_with(status: u16, fields: &[(&str, &str)]) -> Step {
    let mut head = ResponseHead::new(status);
    for (name, value) in fields {
        head.fields.push(name.as_bytes(), value.as_bytes());
    }
    Step { time: Duration::ZERO, reads: true, play: Play::Answer(head, Body::empty()) }
}

/// A gRPC answer with this content behind its head, at once.
pub(super) fn grpc_answer(frames: Vec<(Duration, Frame)>) -> Step {
    let body = Body::stream(Frames::new(frames));
    Step { time: Duration::ZERO, reads: true, play: Play::Answer(ResponseHead::new(200), body) }
}

/// A failure. As the clients do, head and content are handed back where it may be repeated.
pub(super) fn failure(kind: Kind, replay: Replay) -> Step {
    let play = Play::Fail(Error::from(kind).with_replay(replay), replay != Replay::Never);
    Step { time: Duration::ZERO, reads: replay != Replay::Safe, play }
}

pub(super) fn refused() -> Step {
    failure(Kind::ConnectFailed, Replay::Safe)
}

pub(super) fn trailers(list: &[(&str, &str)]) -> Frame {
    let mut fields = Fields::new();
    for (name, value) in list {
        fields.push(name.as_bytes(), value.as_bytes());
    }
    Frame::Trailers(fields)
}

pub(super) fn data(text: &'static str) -> Frame {
    Frame::Data(Bytes::from_static(text.as_bytes()))
}

/// Content that comes bit by bit; `dropped` is told when it is cancelled.
pub(super) struct Frames {
    frames: VecDeque<(Duration, Frame)>,
    wait: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Whether it hangs at its end.
    hangs: bool,
    pub(super) dropped: Rc<Cell<bool>>,
}

impl Frames {
    pub(super) fn new(frames: Vec<(Duration, Frame)>) -> Frames {
        Frames { frames: frames.into(), wait: None, hangs: false, dropped: Rc::default() }
    }

    /// As [`Frames::new`], without an end.
    pub(super) fn endless(frames: Vec<(Duration, Frame)>) -> Frames {
        let mut endless = Frames::new(frames);
        endless.hangs = true;
        endless
    }
}

impl Source for Frames {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        let Some((time, _)) = self.frames.front() else {
            return if self.hangs { Poll::Pending } else { Poll::Ready(None) };
        };
        let wait = self.wait.get_or_insert_with(|| Box::pin(sleep(*time)));
        std::task::ready!(wait.as_mut().poll(cx));
        self.wait = None;
        Poll::Ready(self.frames.pop_front().map(|(_, frame)| Ok(frame)))
    }

    fn length(&self) -> Option<u64> {
        None
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.dropped.set(true);
    }
}

/// One attempt, as the endpoint saw it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) port: u16,
    /// Since the world began.
    pub(super) at: Duration,
    pub(super) fields: Vec<(String, String)>,
    pub(super) content: String,
}

impl Seen {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// Stands for balancing and the upstream.
#[derive(Clone)]
pub(super) struct Mock(Rc<World>);

pub(super) type Inner = HookService<CircuitBreaking, Mock>;

/// A cluster and what its endpoints do, attempt by attempt.
pub(super) struct World {
    pub(super) cluster: Arc<Cluster>,
    steps: RefCell<VecDeque<Step>>,
    /// What comes once the script is over.
    pub(super) usual: Cell<(u16, Duration)>,
    pub(super) seen: RefCell<Vec<Seen>>,
    /// Whether what an answer says of its endpoint is learned with its head, as for all but gRPC calls.
    pub(super) learns_early: Cell<bool>,
    /// Attempts that were given up before they ended.
    pub(super) cancelled: Cell<usize>,
    start: Instant,
}

impl World {
    pub(super) fn new(config: &Config, endpoints: u16) -> Rc<World> {
        let cluster = Arc::new(Cluster::plain("c", config));
        let targets: Vec<_> =
            (1..=endpoints).map(|port| Target::new(([127, 0, 0, 1], port).into())).collect();
        cluster.update(&targets);
        Rc::new(World {
            cluster,
            steps: RefCell::default(),
            usual: Cell::new((200, Duration::ZERO)),
            seen: RefCell::default(),
            learns_early: Cell::new(true),
            cancelled: Cell::new(0),
            start: Instant::now(),
        })
    }

    pub(super) fn script(self: &Rc<Self>, steps: Vec<Step>) -> &Rc<Self> {
        self.steps.borrow_mut().extend(steps);
        self
    }

    /// The cluster's part of the stack.
    pub(super) fn service(self: &Rc<Self>) -> Inner {
        HookLayer(CircuitBreaking).layer(Mock(Rc::clone(self)))
    }

    pub(super) fn ports(&self) -> Vec<u16> {
        self.seen.borrow().iter().map(|seen| seen.port).collect()
    }

    pub(super) fn attempts(&self) -> usize {
        self.seen.borrow().len()
    }

    /// Exchanges that are under way at this endpoint.
    pub(super) fn in_flight(&self, port: u16) -> u32 {
        let set = self.cluster.endpoints();
        let endpoint = set.endpoints.iter().find(|endpoint| endpoint.address.port() == port);
        endpoint.unwrap().load.in_flight.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Tells when an attempt is dropped before its end.
struct Watch(Rc<World>, bool);

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.1 {
            self.0.cancelled.set(self.0.cancelled.get() + 1);
        }
    }
}

impl Service<Exchange> for Mock {
    type Response = Response;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Answer>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, exchange: Exchange) -> Self::Future {
        let world = Rc::clone(&self.0);
        let Exchange { head, mut body, ctx } = exchange;
        let set = world.cluster.endpoints();
        let tried = ctx.tried.borrow().clone();
        let endpoint = set.endpoints.iter().find(|endpoint| !tried.contains(&endpoint.id));
        let endpoint = Arc::clone(endpoint.unwrap_or(&set.endpoints[0]));
        let port = endpoint.address.port();
        ctx.recorder.edit().attempts += 1;
        ctx.recorder.edit().endpoint = Some(endpoint.name.clone());
        *ctx.picked.borrow_mut() = Some(Picked::new(endpoint));
        ctx.attempt_started.set(Some(Instant::now()));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let fields = head.fields.iter().map(|(name, value, _)| (text(name), text(value))).collect();
        let index = world.seen.borrow().len();
        world.seen.borrow_mut().push(Seen {
            port,
            at: world.start.elapsed(),
            fields,
            content: String::new(),
        });
        let step = world.steps.borrow_mut().pop_front().unwrap_or_else(|| {
            let (status, time) = world.usual.get();
            answer(status, time)
        });
        Box::pin(async move {
            let mut watch = Watch(Rc::clone(&world), false);
            let back = body.replay();
            if step.reads {
                while let Some(Ok(frame)) = body.frame().await {
                    if let Frame::Data(data) = frame {
                        world.seen.borrow_mut()[index].content.push_str(std::str::from_utf8(&data).unwrap());
                    }
                }
            }
            sleep(step.time).await;
            watch.1 = true;
            match step.play {
                Play::Answer(head, body) => {
                    if world.learns_early.get() {
                        let status = head.status;
                        ctx.settle(Outcome::Answered { status, grpc: None, retry_after: None }, None);
                    }
                    Ok(Response::new(head, body))
                }
                Play::Fail(error, gives_back) => {
                    ctx.settle(Outcome::Failed(error.kind()), None);
                    if let Some(back) = back.filter(|back| gives_back && back.is_intact()) {
                        *ctx.unsent.borrow_mut() = Some((head, back));
                    }
                    Err(error)
                }
            }
        })
    }
}

/// An exchange that has been routed. The guard ends its record.
pub(super) struct Asked {
    pub(super) ctx: Ctx,
    pub(super) exchange: Option<Exchange>,
    _guard: Guard,
}

impl Asked {
    pub(super) fn new(world: &World, policy: Policy, method: Method) -> Asked {
        let connection = Rc::new(Connection {
            direction: Direction::Outbound,
            peer: ([127, 0, 0, 1], 50000).into(),
            local: ([127, 0, 0, 1], 15001).into(),
            is_tls: false,
            identity: None,
            is_trusted: true,
            serial: Default::default(),
        });
        let sink: Rc<dyn Sink> = Rc::new(NoSink);
        let (recorder, guard) = Recorder::start(&sink, &connection, Instant::now());
        let mut head = RequestHead::new();
        head.method = method;
        let ctx = Ctx::new(recorder, connection);
        *ctx.policy.borrow_mut() = Some(Arc::new(policy));
        *ctx.cluster.borrow_mut() = Some(Arc::clone(&world.cluster));
        let exchange = Exchange { head: Box::new(head), body: Body::empty(), ctx: ctx.clone() };
        Asked { ctx, exchange: Some(exchange), _guard: guard }
    }

    pub(super) fn field(mut self, name: &str, value: &str) -> Asked {
        let head = &mut self.exchange.as_mut().unwrap().head;
        head.fields.push(name.as_bytes(), value.as_bytes());
        self
    }

    pub(super) fn body(mut self, body: Body) -> Asked {
        self.exchange.as_mut().unwrap().body = body;
        self
    }

    pub(super) fn grpc(self) -> Asked {
        self.ctx.recorder.edit().is_grpc = true;
        self.field(Known::ContentType.name(), "application/grpc")
    }

    pub(super) fn trace(self) -> Asked {
        self.ctx.recorder.edit().request_type = RequestType::Trace;
        self
    }

    pub(super) fn deadline(self, time: Duration) -> Asked {
        self.ctx.deadline.set(Some(Instant::now() + time));
        self
    }

    pub(super) fn take(&mut self) -> Exchange {
        self.exchange.take().unwrap()
    }

    /// Sends it; the status, or what went wrong.
    pub(super) async fn send<S>(&mut self, service: &mut S) -> Result<Response>
    where
        S: Service<Exchange, Response = Response, Error = Error>,
    {
        service.call(self.take()).await
    }

    pub(super) fn denied(&self) -> Option<&'static str> {
        self.ctx.recorder.edit().notes.as_ref().and_then(|notes| notes.retry_denied)
    }

    pub(super) fn reasons(&self) -> String {
        self.ctx.recorder.edit().notes.as_ref().map(|notes| notes.retry_reasons.clone()).unwrap_or_default()
    }
}

/// All of a body: its data, and the gRPC status of its trailers; an error is its cause.
pub(super) async fn read(mut body: Body) -> (String, Option<u8>, Option<Kind>) {
    let (mut text, mut status) = (String::new(), None);
    loop {
        match body.frame().await {
            Some(Ok(Frame::Data(data))) => text.push_str(std::str::from_utf8(&data).unwrap()),
            Some(Ok(Frame::Trailers(fields))) => status = crate::svc::grpc::status(&fields),
            Some(Err(error)) => return (text, status, Some(error.kind())),
            None => return (text, status, None),
        }
    }
}
