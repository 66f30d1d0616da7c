//! The hook around a service that the test makes: what is asserted is which copies are handed in, and when.

use super::*;
use crate::cluster::{Cluster, Config};
use crate::error::{Error, Kind};
use crate::exchange::{Guard, HookLayer, NoSink, Recorder, Sink};
use crate::svc::{Fields, Frame, ResponseHead, Source};
use bytes::Bytes;
use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tower::{Layer, Service};

/// Takes copies until there are too many.
#[derive(Default)]
struct Taken {
    copies: RefCell<Vec<Duplicate>>,
    is_full: Cell<bool>,
}

impl Outlet for Taken {
    fn send(&self, copy: Duplicate) -> bool {
        if !self.is_full.get() {
            self.copies.borrow_mut().push(copy);
        }
        !self.is_full.get()
    }
}

/// Reads the content, as far as the test says, and answers.
#[derive(Clone)]
struct Upstream {
    reads_max: usize,
    error: Option<Kind>,
}

impl Service<Exchange> for Upstream {
    type Response = Response;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Answer>>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut exchange: Exchange) -> Self::Future {
        let Upstream { reads_max, error } = *self;
        Box::pin(async move {
            for _ in 0..reads_max {
                if exchange.body.frame().await.is_none() {
                    break;
                }
            }
            match error {
                Some(kind) => Err(kind.into()),
                None => Ok(Response::new(ResponseHead::new(200), Body::empty())),
            }
        })
    }
}

/// Content in pieces; counts how often it is asked.
#[derive(Clone, Default)]
struct Pieces(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    pieces: Vec<&'static str>,
    asked: usize,
}

impl Source for Pieces {
    fn poll_frame(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        let mut state = self.0.borrow_mut();
        state.asked += 1;
        let piece = (!state.pieces.is_empty()).then(|| state.pieces.remove(0));
        Poll::Ready(piece.map(|piece| Ok(Frame::Data(Bytes::from_static(piece.as_bytes())))))
    }

    fn length(&self) -> Option<u64> {
        None
    }
}

struct Fixture {
    taken: Rc<Taken>,
    cluster: Arc<Cluster>,
    mirroring: Mirroring,
    millionths: Option<u32>,
    upstream: Upstream,
    is_trusted: bool,
    direction: Direction,
    request_type: RequestType,
}

impl Fixture {
    fn new() -> Fixture {
        let taken = Rc::new(Taken::default());
        let rng = Rc::new(RefCell::new(Rng::new(1)));
        Fixture {
            mirroring: Mirroring::new(Rc::clone(&taken) as Rc<dyn Outlet>, rng, 64),
            taken,
            cluster: Arc::new(Cluster::plain("shadow", &Config::default())),
            millionths: Some(1_000_000),
            upstream: Upstream { reads_max: usize::MAX, error: None },
            is_trusted: true,
            direction: Direction::Inbound,
            request_type: RequestType::Standard,
        }
    }

    fn start(
        &self,
        edit: impl FnOnce(&mut RequestHead),
        body: Body,
    ) -> (Pin<Box<dyn Future<Output = Answer>>>, Ctx, Guard) {
        let connection = Connection {
            direction: self.direction,
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
            local: SocketAddr::from(([127, 0, 0, 1], 2)),
            is_tls: false,
            identity: None,
            is_trusted: self.is_trusted,
            serial: Default::default(),
        };
        let sink: Rc<dyn Sink> = Rc::new(NoSink);
        let (recorder, guard) = Recorder::start(&sink, &connection, Instant::now());
        let mut head = RequestHead::new();
        head.set_authority(b"shop.example:8080");
        head.set_path(b"/cart");
        {
            let mut record = recorder.edit();
            record.trace = TraceParent { version: 0, trace_id: [7; 16], parent_id: [9; 8], flags: 1 };
            record.request_type = self.request_type;
            head.fields.push(b"traceparent", &record.trace.to_bytes());
        }
        edit(&mut head);
        let ctx = Ctx::new(recorder, Rc::new(connection));
        let mirror = self.millionths.map(|millionths| Mirror {
            cluster: Arc::clone(&self.cluster),
            millionths,
            requests_max: 8,
            timeout: Duration::from_secs(1),
        });
        *ctx.policy.borrow_mut() = Some(Arc::new(Policy { mirror, ..Policy::default() }));
        let mut service = HookLayer(self.mirroring.clone()).layer(self.upstream.clone());
        let exchange = Exchange { head: Box::new(head), body, ctx: ctx.clone() };
        (Box::pin(service.call(exchange)), ctx, guard)
    }

    /// Sends a request; what was noted.
    async fn send(&self, edit: impl FnOnce(&mut RequestHead), body: Body) -> Option<MirrorNote> {
        let (answer, ctx, _guard) = self.start(edit, body);
        let answer = answer.await;
        assert_eq!(
            answer.err().map(|error| error.kind()),
            self.upstream.error,
            "the answer is the primary's"
        );
        assert!(ctx.holds.borrow().is_empty());
        ctx.recorder.edit().notes.as_ref().and_then(|notes| notes.mirror)
    }

    fn count(&self) -> usize {
        self.taken.copies.borrow().len()
    }

    fn last(&self) -> Duplicate {
        self.taken.copies.borrow_mut().pop().expect("a copy")
    }

    fn skipped(&self) -> u64 {
        self.cluster.stats.mirror_skipped.get()
    }
}

fn streaming(pieces: &[&'static str]) -> (Pieces, Body) {
    let state = State { pieces: pieces.to_vec(), ..State::default() };
    let pieces = Pieces(Rc::new(RefCell::new(state)));
    (pieces.clone(), Body::stream(pieces))
}

async fn text(mut body: Body) -> String {
    let mut text = String::new();
    while let Some(Ok(Frame::Data(data))) = body.frame().await {
        text.push_str(std::str::from_utf8(&data).unwrap());
    }
    text
}

fn value(fields: &Fields, name: &[u8]) -> String {
    let values: Vec<_> =
        fields.named(name).map(|value| String::from_utf8_lossy(value).into_owned()).collect();
    values.join("|")
}

#[tokio::test]
async fn a_request_without_content_is_copied_at_once_marked_and_with_a_span_of_its_own() {
    let fixture = Fixture::new();
    let edit = |head: &mut RequestHead| {
        head.set_query(Some(b"a=b"));
        head.fields.push(b"x-account-id", b"a1");
        head.fields.push(b"expect", b"100-continue");
    };
    let (answer, ctx, _guard) = fixture.start(edit, Body::empty());
    assert_eq!(fixture.count(), 1, "before the primary was asked");
    let copy = fixture.last();
    assert_eq!((copy.head.authority(), copy.head.path()), (&b"shop.example:8080"[..], &b"/cart"[..]));
    assert_eq!(copy.head.query(), Some(&b"a=b"[..]));
    let fields = &copy.head.fields;
    assert_eq!((value(fields, MARK), value(fields, b"x-account-id")), ("1".into(), "a1".into()));
    assert!(!fields.has(Known::Expect));
    let trace = TraceParent::parse(fields.get(Known::Traceparent).unwrap()).unwrap();
    assert_eq!((trace, trace.trace_id, copy.parent_id), (copy.trace, [7; 16], [9; 8]));
    assert_ne!(trace.parent_id, [9; 8]);
    assert!(copy.body.is_end());
    assert_eq!(answer.await.unwrap().head.status, 200);
    assert_eq!(ctx.recorder.edit().notes.as_ref().unwrap().mirror, Some(MirrorNote::Sent));
}

#[tokio::test]
async fn content_is_copied_when_the_answer_is_there_and_never_read_for_the_copy() {
    let mut fixture = Fixture::new();
    for error in [None, Some(Kind::UpstreamClosed)] {
        fixture.upstream.error = error;
        let (pieces, body) = streaming(&["a", "b"]);
        let (answer, _ctx, _guard) = fixture.start(|_| {}, body);
        assert_eq!(fixture.count(), 0, "the content is not known yet");
        let _ = answer.await;
        assert_eq!(pieces.0.borrow().asked, 3, "the primary asked for two pieces and the end");
        let copy = fixture.last();
        assert_eq!(copy.body.length(), Some(2));
        assert_eq!(text(copy.body).await, "ab");
        assert_eq!(pieces.0.borrow().asked, 3);
    }
    let note = fixture.send(|head| head.method = Method::Post, Body::from("all here")).await;
    assert_eq!((note, text(fixture.last().body).await.as_str()), (Some(MirrorNote::Sent), "all here"));
}

#[tokio::test]
async fn content_that_is_too_long_or_not_complete_means_no_copy() {
    let mut fixture = Fixture::new();
    let long = "x".repeat(65).leak();
    assert_eq!(fixture.send(|_| {}, streaming(&[long]).1).await, Some(MirrorNote::Body));
    assert_eq!(fixture.skipped(), 1);
    // One that says before that it is too long is not kept at all.
    struct Long;
    impl Source for Long {
        fn poll_frame(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
            Poll::Ready(None)
        }
        fn length(&self) -> Option<u64> {
            Some(65)
        }
    }
    assert_eq!(fixture.send(|_| {}, Body::stream(Long)).await, Some(MirrorNote::Body));
    // An answer before the content was read.
    fixture.upstream.reads_max = 1;
    assert_eq!(fixture.send(|_| {}, streaming(&["a", "b"]).1).await, Some(MirrorNote::Body));
    assert_eq!((fixture.skipped(), fixture.count()), (3, 0));
}

#[tokio::test]
async fn too_many_copies_are_counted_and_noted() {
    let fixture = Fixture::new();
    fixture.taken.is_full.set(true);
    assert_eq!(fixture.send(|_| {}, Body::empty()).await, Some(MirrorNote::TooMany));
    assert_eq!(fixture.send(|_| {}, streaming(&["a"]).1).await, Some(MirrorNote::TooMany));
    assert_eq!((fixture.skipped(), fixture.count()), (2, 0));
}

#[tokio::test]
async fn a_copy_is_not_copied_again_unless_the_mark_is_not_believed() {
    let mut fixture = Fixture::new();
    let marked = |head: &mut RequestHead| head.fields.push(b"Sidelight-Mirror", b"1");
    assert_eq!(fixture.send(marked, Body::empty()).await, None);
    fixture.is_trusted = false;
    fixture.direction = Direction::Outbound;
    assert_eq!(fixture.send(marked, Body::empty()).await, None);
    assert_eq!(fixture.count(), 0);
    fixture.direction = Direction::Inbound;
    assert_eq!(fixture.send(marked, Body::empty()).await, Some(MirrorNote::Sent));
    assert_eq!(value(&fixture.last().head.fields, MARK), "1", "our own mark, once");
}

#[tokio::test]
async fn conversations_and_tracer_bullets_are_never_copied() {
    let mut fixture = Fixture::new();
    let upgrade = |head: &mut RequestHead| head.upgrade = Some(head.fields.store(b"websocket"));
    assert_eq!(fixture.send(upgrade, Body::empty()).await, None);
    assert_eq!(fixture.send(|head| head.method = Method::Connect, Body::empty()).await, None);
    assert_eq!(fixture.send(|head| head.method = Method::Trace, Body::empty()).await, None);
    fixture.request_type = RequestType::Trace;
    assert_eq!(fixture.send(|_| {}, Body::empty()).await, None);
    assert_eq!((fixture.count(), fixture.skipped()), (0, 0));
}

#[tokio::test]
async fn the_share_that_is_copied_is_the_one_that_is_configured() {
    for (millionths, expected) in [(Some(1_000_000), 10_000), (Some(250_000), 2_500), (Some(0), 0), (None, 0)]
    {
        let mut fixture = Fixture::new();
        fixture.millionths = millionths;
        for _ in 0..10_000 {
            fixture.send(|_| {}, Body::empty()).await;
        }
        assert!(fixture.count().abs_diff(expected) <= expected / 20, "{millionths:?}: {}", fixture.count());
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_the_copy_with_it() {
    let fixture = Fixture::new();
    let (pieces, body) = streaming(&["a"]);
    let (answer, ctx, guard) = fixture.start(|_| {}, body);
    assert_eq!(Rc::strong_count(&pieces.0), 2);
    drop((answer, guard, ctx));
    assert_eq!((fixture.count(), Rc::strong_count(&pieces.0)), (0, 1));
}
