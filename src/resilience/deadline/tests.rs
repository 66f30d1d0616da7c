//! What a caller may say of its deadline, what becomes of it, and how it gets through the app.

use super::super::mock::{Asked, World};
use super::*;
use crate::cluster::Config;
use crate::context::TraceParent;
use crate::exchange::{Connection, Ctx, Guard, NoSink, Policy, Recorder, Sink};
use crate::svc::{Body, Method};
use std::rc::Rc;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test(start_paused = true)]
async fn what_a_request_says_itself() {
    use DeadlineSource::{GrpcTimeout, Header};
    let start = Instant::now();
    let long = ms(9_999_999_999);
    for (is_grpc, list, expected, malformed) in [
        (true, &[("grpc-timeout", "250m")][..], Some((ms(250), Some(ms(250)), GrpcTimeout)), 0),
        (true, &[("grpc-timeout", "0n")], Some((ms(0), Some(ms(0)), GrpcTimeout)), 0),
        (false, &[("grpc-timeout", "250m")], None, 0),
        (true, &[("grpc-timeout", "soon")], None, 1),
        (true, &[("grpc-timeout", "1S"), ("grpc-timeout", "2S")], None, 1),
        (false, &[("x-envoy-expected-rq-timeout-ms", "250")], Some((ms(250), None, Header)), 0),
        (false, &[("x-envoy-expected-rq-timeout-ms", "9999999999")], Some((long, None, Header)), 0),
        (false, &[("x-envoy-expected-rq-timeout-ms", "0")], None, 1),
        (false, &[("x-envoy-expected-rq-timeout-ms", "")], None, 1),
        (false, &[("x-envoy-expected-rq-timeout-ms", "-1")], None, 1),
        (false, &[("x-envoy-expected-rq-timeout-ms", "1.5")], None, 1),
        (false, &[("x-envoy-expected-rq-timeout-ms", "99999999999")], None, 1),
        (false, &[("x-envoy-expected-rq-timeout-ms", "1"), ("x-envoy-expected-rq-timeout-ms", "2")], None, 1),
        // Both: a proxy in front waits for the head, the caller for all of it.
        (
            true,
            &[("grpc-timeout", "9S"), ("x-envoy-expected-rq-timeout-ms", "250")],
            Some((ms(250), Some(ms(9000)), Header)),
            0,
        ),
        (
            true,
            &[("grpc-timeout", "1S"), ("x-envoy-expected-rq-timeout-ms", "5000")],
            Some((ms(1000), Some(ms(1000)), GrpcTimeout)),
            0,
        ),
        (
            true,
            &[("grpc-timeout", "?"), ("x-envoy-expected-rq-timeout-ms", "250")],
            Some((ms(250), None, Header)),
            1,
        ),
    ] {
        let mut fields = Fields::new();
        for (name, value) in list {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        let expected = expected.map(|(head, whole, source)| {
            (Deadline { head: start + head, whole: whole.map(|whole| start + whole) }, source)
        });
        let expected = Own { deadline: expected, malformed };
        assert_eq!(Own::read(&fields, is_grpc, start), expected, "{list:?}");
    }
}

/// A request that comes to a listener.
struct Request<'a> {
    direction: Direction,
    is_trusted: bool,
    trace: u8,
    request_id: &'a str,
    is_grpc: bool,
    fields: &'a [(&'a str, &'a str)],
}

const INBOUND: Request<'static> = Request {
    direction: Direction::Inbound,
    is_trusted: true,
    trace: 1,
    request_id: "r1",
    is_grpc: false,
    fields: &[],
};
const OUTBOUND: Request<'static> = Request { direction: Direction::Outbound, ..INBOUND };

/// What became of it.
struct Came {
    ctx: Ctx,
    head: Box<RequestHead>,
    result: Result<()>,
    _guard: Guard,
}

impl Request<'_> {
    fn come(&self, table: &Arc<Table>, policy: Policy) -> Came {
        let connection = Rc::new(Connection {
            direction: self.direction,
            peer: ([127, 0, 0, 1], 50000).into(),
            local: ([127, 0, 0, 1], 15001).into(),
            is_tls: false,
            identity: None,
            is_trusted: self.is_trusted,
            serial: Default::default(),
        });
        let sink: Rc<dyn Sink> = Rc::new(NoSink);
        let (recorder, guard) = Recorder::start(&sink, &connection, Instant::now());
        {
            let mut record = recorder.edit();
            record.trace =
                TraceParent { version: 0, trace_id: [self.trace; 16], parent_id: [1; 8], flags: 0 };
            record.request_id = record.store(self.request_id.as_bytes());
            record.is_grpc = self.is_grpc;
        }
        let ctx = Ctx::new(recorder, connection);
        ctx.deadline.set(policy.timeout.map(|timeout| Instant::now() + timeout));
        *ctx.policy.borrow_mut() = Some(Arc::new(policy));
        let mut head = RequestHead::new();
        for (name, value) in self.fields {
            head.fields.push(name.as_bytes(), value.as_bytes());
        }
        let mut exchange = Exchange { head: Box::new(head), body: Body::empty(), ctx: ctx.clone() };
        let result = Deadlines::new(Arc::clone(table)).before(&mut exchange).map(|_| ());
        Came { ctx, head: exchange.head, result, _guard: guard }
    }
}

impl Came {
    fn is_over(&self) -> bool {
        matches!(&self.result, Err(error) if error.kind() == Kind::DeadlineExceeded)
    }

    /// How much time there is for the head.
    fn left(&self) -> Option<Duration> {
        self.ctx.deadline.get().map(|at| at - Instant::now())
    }

    fn source(&self) -> Option<DeadlineSource> {
        self.ctx.recorder.edit().notes.as_ref().and_then(|notes| notes.deadline_source)
    }

    /// What an attempt is told: `grpc-timeout` and `x-envoy-expected-rq-timeout-ms`.
    fn told(&mut self) -> (Option<String>, Option<String>) {
        announce(&self.ctx, &mut self.head);
        let get =
            |known| self.head.fields.get(known).map(|value| String::from_utf8_lossy(value).into_owned());
        (get(Known::GrpcTimeout), get(Known::XEnvoyExpectedRqTimeoutMs))
    }
}

fn routes(timeout: Option<Duration>) -> Policy {
    Policy { timeout, ..Policy::default() }
}

fn told(grpc: Option<&str>, header: Option<&str>) -> (Option<String>, Option<String>) {
    (grpc.map(str::to_owned), header.map(str::to_owned))
}

#[tokio::test(start_paused = true)]
async fn the_earlier_of_route_and_caller_counts_and_the_callers_is_carried_on() {
    let table = Arc::new(Table::default());
    let five = [("x-envoy-expected-rq-timeout-ms", "5000")];
    for (timeout, left, is_callers) in
        [(Some(ms(15_000)), ms(5000), true), (Some(ms(2000)), ms(2000), false), (None, ms(5000), true)]
    {
        let mut came = Request { fields: &five, ..OUTBOUND }.come(&table, routes(timeout));
        assert_eq!((came.left(), came.ctx.is_callers_deadline.get()), (Some(left), is_callers));
        tokio::time::advance(ms(1500)).await;
        assert_eq!(came.told(), told(None, Some("3500")), "less what has passed");
        let noted = came.ctx.recorder.edit().note().deadline;
        assert_eq!((noted, came.source()), (Some(ms(5000)), Some(DeadlineSource::Header)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_grpc_deadline_is_carried_on_as_one() {
    let table = Arc::new(Table::default());
    let fields = [("grpc-timeout", "5S")];
    let mut came =
        Request { is_grpc: true, fields: &fields, ..OUTBOUND }.come(&table, routes(Some(ms(2000))));
    tokio::time::advance(ms(1000)).await;
    assert_eq!(came.told(), told(Some("4000000u"), None), "a stream may outlast the timeout for its head");
    tokio::time::advance(ms(1000)).await;
    assert_eq!(came.told(), told(Some("3000000u"), None), "each attempt anew");
}

#[tokio::test(start_paused = true)]
async fn a_route_that_sets_a_timeout_says_so_to_the_next_hop() {
    let table = Arc::new(Table::default());
    let announces = || Policy { announces_deadline: true, ..routes(Some(ms(2000))) };
    assert_eq!(OUTBOUND.come(&table, announces()).told(), told(None, Some("2000")));
    // It is for the head, so a gRPC server must not take it for the whole call.
    let grpc = Request { is_grpc: true, ..OUTBOUND };
    assert_eq!(grpc.come(&table, announces()).told(), told(None, Some("2000")));
    let fields = [("grpc-timeout", "5S")];
    let both = Request { fields: &fields, ..grpc };
    assert_eq!(both.come(&table, announces()).told(), told(Some("5000000u"), Some("2000")));
    assert_eq!(
        OUTBOUND.come(&table, routes(Some(ms(2000)))).told(),
        told(None, None),
        "the usual limit is not said"
    );
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_has_passed_ends_it_at_once() {
    let table = Arc::new(Table::default());
    let fields = [("grpc-timeout", "0n")];
    let came = Request { is_grpc: true, fields: &fields, ..INBOUND }.come(&table, routes(None));
    assert!(came.is_over());
    assert_eq!(came.ctx.recorder.edit().note().deadline, Some(Duration::ZERO));
    drop(came);
    assert!(table.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_malformed_deadline_is_left_out_and_counted() {
    let table = Arc::new(Table::default());
    let fields = [("x-envoy-expected-rq-timeout-ms", "soon")];
    let came = Request { fields: &fields, ..INBOUND }.come(&table, routes(Some(ms(2000))));
    assert_eq!((came.left(), came.source()), (Some(ms(2000)), None));
    assert_eq!(came.ctx.recorder.edit().context_dropped, 1);
    assert!(table.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_route_that_ignores_deadlines_passes_the_fields_on_as_they_came() {
    let table = Arc::new(Table::default());
    let five = [("x-envoy-expected-rq-timeout-ms", "5000")];
    let ignores = || Policy { ignores_deadline: true, announces_deadline: true, ..routes(Some(ms(15_000))) };
    let mut came = Request { fields: &five, ..OUTBOUND }.come(&table, ignores());
    tokio::time::advance(ms(1000)).await;
    assert_eq!((came.left(), came.source()), (Some(ms(14_000)), None));
    assert_eq!(came.told(), told(None, Some("5000")));
    let _inbound = Request { fields: &five, ..INBOUND }.come(&table, routes(None));
    assert_eq!(OUTBOUND.come(&table, ignores()).source(), None);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_gets_through_an_application_that_passes_on_an_id() {
    let table = Arc::new(Table::default());
    let fields = [("grpc-timeout", "5S")];
    let inbound = Request { is_grpc: true, fields: &fields, ..INBOUND }.come(&table, routes(None));
    tokio::time::advance(ms(1000)).await;
    for (trace, request_id, source) in [
        (1, "r1", Some(DeadlineSource::Inbound)),
        (1, "other", Some(DeadlineSource::Inbound)),
        (2, "r1", Some(DeadlineSource::Inbound)),
        (2, "other", None),
    ] {
        let came = Request { trace, request_id, ..OUTBOUND }.come(&table, routes(Some(ms(15_000))));
        assert_eq!(came.source(), source, "{trace} {request_id}");
        assert_eq!(came.left(), Some(if source.is_some() { ms(4000) } else { ms(15_000) }));
    }
    // In the form that fits what goes out: a gRPC call as a whole, anything else for its head.
    let mut grpc = Request { is_grpc: true, ..OUTBOUND }.come(&table, routes(None));
    assert_eq!(grpc.told(), told(Some("4000000u"), None));
    assert_eq!(OUTBOUND.come(&table, routes(None)).told(), told(None, Some("4000")));
    // What it says itself comes first.
    let own = [("x-envoy-expected-rq-timeout-ms", "9000")];
    let came = Request { fields: &own, ..OUTBOUND }.come(&table, routes(None));
    assert_eq!((came.source(), came.left()), (Some(DeadlineSource::Header), Some(ms(9000))));
    // Nobody waits any longer: what is begun for it now is in vain.
    tokio::time::advance(ms(4001)).await;
    assert!(OUTBOUND.come(&table, routes(None)).is_over());
    drop(inbound);
    assert!(table.is_empty());
    assert_eq!(OUTBOUND.come(&table, routes(None)).source(), None, "work behind the answer is not bounded");
}

#[tokio::test(start_paused = true)]
async fn a_bound_on_the_head_alone_does_not_become_one_on_a_grpc_call() {
    let table = Arc::new(Table::default());
    let fields = [("x-envoy-expected-rq-timeout-ms", "5000")];
    let _inbound = Request { fields: &fields, ..INBOUND }.come(&table, routes(None));
    let mut came = Request { is_grpc: true, ..OUTBOUND }.come(&table, routes(None));
    assert_eq!(of_caller(&came.ctx).unwrap().whole, None);
    assert_eq!(came.told(), told(None, Some("5000")));
}

#[tokio::test(start_paused = true)]
async fn nothing_gets_through_the_application_from_who_is_not_trusted() {
    let table = Arc::new(Table::default());
    let fields = [("x-envoy-expected-rq-timeout-ms", "1")];
    let came = Request { fields: &fields, is_trusted: false, ..INBOUND }.come(&table, routes(None));
    assert_eq!(came.left(), Some(ms(1)), "its own request it may bound");
    assert!(table.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_set_no_deadline_is_not_bound_by_one_of_the_same_trace() {
    let table = Arc::new(Table::default());
    let fields = [("x-envoy-expected-rq-timeout-ms", "1000")];
    let bounded = Request { fields: &fields, ..INBOUND }.come(&table, routes(None));
    let unbounded = Request { request_id: "r2", ..INBOUND }.come(&table, routes(None));
    assert_eq!(Request { request_id: "r3", ..OUTBOUND }.come(&table, routes(None)).source(), None);
    let own = OUTBOUND.come(&table, routes(None));
    assert_eq!(own.source(), Some(DeadlineSource::Inbound), "the request id tells them apart");
    drop((bounded, unbounded));
    assert!(table.is_empty());
}

#[tokio::test(start_paused = true)]
async fn plain_requests_hold_nothing() {
    let table = Arc::new(Table::default());
    let mut came = OUTBOUND.come(&table, routes(Some(ms(15_000))));
    assert!(came.ctx.holds.borrow().is_empty() && came.ctx.recorder.edit().notes.is_none());
    assert_eq!(came.told(), told(None, None));
    let world = World::new(&Config::default(), 1);
    let mut asked = Asked::new(&world, Policy::default(), Method::Get);
    let mut exchange = asked.take();
    assert!(Deadlines::new(table).before(&mut exchange).unwrap().is_none());
}
