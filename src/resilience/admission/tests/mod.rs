mod fairness;
mod threads;

use super::*;
use crate::context::{RequestType, Rng};
use crate::exchange::{Answer, Connection, Direction, Exchange, Guard, NoSink, Recorder, Response, Sink};
use crate::limits;
use crate::resilience::config::{Fair, Limit};
use crate::resilience::overload::Usage;
use crate::svc::{Body, RequestHead, ResponseHead};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service};

const MS: Duration = Duration::from_millis(1);

/// A service with so many slots, each of which works at one request for some time.
#[derive(Clone)]
struct Slots {
    slots: Rc<Semaphore>,
    time: Rc<Cell<Duration>>,
    status: Rc<Cell<u16>>,
    served: Rc<Cell<usize>>,
    most: Rc<Cell<u32>>,
    active: Rc<Cell<u32>>,
    /// The accounts, in the order in which they came.
    order: Rc<RefCell<Vec<String>>>,
    /// If there is one, times are between half and one and a half.
    chance: Option<Rc<RefCell<Rng>>>,
}

impl Slots {
    fn new(slots: usize, time: Duration) -> Slots {
        Slots {
            slots: Rc::new(Semaphore::new(slots)),
            time: Rc::new(Cell::new(time)),
            status: Rc::new(Cell::new(200)),
            served: Rc::default(),
            most: Rc::default(),
            active: Rc::default(),
            order: Rc::default(),
            chance: None,
        }
    }

    fn uneven(slots: usize, time: Duration, seed: u64) -> Slots {
        Slots { chance: Some(Rc::new(RefCell::new(Rng::new(seed)))), ..Slots::new(slots, time) }
    }

    fn time(&self) -> Duration {
        let factor = self.chance.as_ref().map_or(1.0, |rng| 0.5 + uniform(&mut rng.borrow_mut()));
        self.time.get().mul_f64(factor)
    }
}

/// From 0 to 1.
fn uniform(rng: &mut Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

impl Service<Exchange> for Slots {
    type Response = Response;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Answer>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, exchange: Exchange) -> Self::Future {
        let own = self.clone();
        {
            let mut record = exchange.ctx.recorder.edit();
            record.attempts = 1;
            let account = String::from_utf8_lossy(record.text(record.account_id)).into_owned();
            own.order.borrow_mut().push(account);
        }
        own.active.set(own.active.get() + 1);
        own.most.set(own.most.get().max(own.active.get()));
        Box::pin(async move {
            let slot = own.slots.acquire().await.unwrap();
            sleep(own.time()).await;
            drop(slot);
            own.active.set(own.active.get() - 1);
            own.served.set(own.served.get() + 1);
            drop(exchange);
            Ok(Response::new(ResponseHead::new(own.status.get()), Body::empty()))
        })
    }
}

/// Who asks.
#[derive(Clone, Copy, Default)]
struct Who {
    account: &'static str,
    license: &'static str,
    is_trace: bool,
}

fn of(account: &'static str, license: &'static str) -> Who {
    Who { account, license, is_trace: false }
}

/// An exchange that is under way; dropping it ends it.
struct Asked {
    ctx: Ctx,
    exchange: Option<Exchange>,
    _guard: Guard,
}

fn ask(who: Who) -> Asked {
    let connection = Rc::new(Connection {
        direction: Direction::Inbound,
        peer: ([10, 0, 0, 1], 50000).into(),
        local: ([127, 0, 0, 1], 15006).into(),
        is_tls: false,
        identity: None,
        is_trusted: true,
        serial: Default::default(),
    });
    let sink: Rc<dyn Sink> = Rc::new(NoSink);
    let (recorder, guard) = Recorder::start(&sink, &connection, Instant::now());
    {
        let mut record = recorder.edit();
        record.account_id = record.store(who.account.as_bytes());
        record.license = record.store(who.license.as_bytes());
        if who.is_trace {
            record.request_type = RequestType::Trace;
        }
    }
    let ctx = Ctx::new(recorder, connection);
    let exchange = Exchange { head: Box::new(RequestHead::new()), body: Body::empty(), ctx: ctx.clone() };
    Asked { ctx, exchange: Some(exchange), _guard: guard }
}

/// A listener, its service, and what it lets in.
struct World {
    admission: Arc<Admission>,
    cell: AdmissionCell,
    overload: Arc<Overload>,
    slots: Slots,
}

fn tiers(names: &[&str]) -> LoadShed {
    LoadShed { tiers: names.iter().map(ToString::to_string).collect(), fair: Fair::AccountId }
}

fn fixed(limit: u32) -> Concurrency {
    Concurrency { limit: Limit::Fixed(limit), ..Concurrency::default() }
}

impl World {
    fn new(concurrency: Option<Concurrency>, slots: Slots) -> World {
        World::within(concurrency, &tiers(&["free", "gold"]), slots)
    }

    fn within(concurrency: Option<Concurrency>, load_shed: &LoadShed, slots: Slots) -> World {
        let overload = Arc::new(Overload::new(&limits::Overload::default()));
        let admission = Admission::new("inbound", concurrency.as_ref(), load_shed, &overload, None, 7);
        let admission = Arc::new(admission);
        World { cell: AdmissionCell::new(Arc::clone(&admission)), admission, overload, slots }
    }

    fn service(&self) -> Admit<Slots> {
        AdmissionLayer(self.cell.clone()).layer(self.slots.clone())
    }

    /// Sends a request and waits for the whole exchange.
    fn spawn(&self, who: Who) -> JoinHandle<Told> {
        let mut service = self.service();
        tokio::task::spawn_local(async move {
            let start = Instant::now();
            let mut asked = ask(who);
            let answer = service.call(asked.exchange.take().unwrap()).await;
            Told {
                answer: answer.map(|response| response.head.status),
                waited: asked.ctx.recorder.edit().notes.as_ref().and_then(|notes| notes.admission_wait),
                time: start.elapsed(),
            }
        })
    }

    fn snapshot(&self) -> Snapshot {
        self.admission.snapshot()
    }

    fn memory(&self, percent: u64) {
        let usage = Usage { used_bytes: percent << 20, limit_bytes: 100 << 20, of: "cgroup" };
        self.overload.observe(Some(usage));
    }
}

#[derive(Debug)]
struct Told {
    answer: Result<u16, Error>,
    waited: Option<Duration>,
    time: Duration,
}

impl Told {
    fn refusal(&self) -> (Kind, &'static str, u64, u64) {
        let error = self.answer.as_ref().unwrap_err();
        let refusal = error.refusal().unwrap();
        assert_eq!((refusal.scope, &*refusal.name, error.replay()), ("listener", "inbound", Replay::Safe));
        (error.kind(), refusal.breaker, refusal.limit, refusal.current)
    }
}

/// Runs on one thread with a clock that does not move by itself.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    LocalSet::new().block_on(&runtime.unwrap(), test);
}

#[test]
fn without_a_limit_everything_goes_on_and_nothing_is_counted() {
    run(async {
        let world = World::new(None, Slots::new(1000, MS));
        let told: Vec<_> = (0..100).map(|_| world.spawn(Who::default())).collect();
        for told in told {
            let told = told.await.unwrap();
            assert_eq!((told.answer.unwrap(), told.waited), (200, None));
        }
        assert_eq!((world.slots.most.get(), world.snapshot().concurrency), (100, None));
    });
}

#[test]
fn no_more_than_the_limit_are_under_way_and_the_rest_waits_its_turn() {
    run(async {
        let world = World::new(Some(fixed(3)), Slots::new(100, 10 * MS));
        let told: Vec<_> = (0..10).map(|_| world.spawn(of("a", ""))).collect();
        sleep(MS).await;
        let now = world.snapshot().concurrency.unwrap();
        assert_eq!((now.limit, now.in_flight, now.waiting, now.is_adaptive), (3, 3, 7, false));
        for (index, told) in told.into_iter().enumerate() {
            let told = told.await.unwrap();
            assert_eq!(told.answer.unwrap(), 200);
            let rounds = index as u32 / 3;
            assert_eq!(told.waited, (rounds > 0).then_some(rounds * 10 * MS), "request {index}");
        }
        let after = world.snapshot();
        let now = after.concurrency.as_ref().unwrap();
        assert_eq!((now.in_flight, now.waiting, world.slots.most.get()), (0, 0, 3));
        assert_eq!(after.total(|tier| tier.waited), 7);
    });
}

#[test]
fn who_waits_too_long_is_refused_with_the_limit_and_the_current_value() {
    run(async {
        let config = Concurrency { queue_timeout: 20 * MS, ..fixed(2) };
        let world = World::new(Some(config), Slots::new(2, 50 * MS));
        let told: Vec<_> = (0..3).map(|_| world.spawn(of("a", "gold"))).collect();
        let mut last = None;
        for told in told {
            last = Some(told.await.unwrap());
        }
        let last = last.unwrap();
        assert_eq!(last.refusal(), (Kind::ConcurrencyLimit, "concurrency", 2, 3));
        assert_eq!((last.time, last.waited), (20 * MS, Some(20 * MS)));
        assert_eq!(last.answer.unwrap_err().detail(), "2 requests are under way, and 2 may be; waited 20ms");
        let after = world.snapshot();
        let gold = after.tiers.last().unwrap();
        assert_eq!((gold.tier.as_str(), gold.timed_out, gold.waited, gold.waiting), ("gold", 1, 1, 0));
        assert_eq!(after.concurrency.unwrap().in_flight, 0);
    });
}

#[test]
fn without_a_queue_or_time_for_it_the_limit_refuses_at_once() {
    run(async {
        for config in [
            Concurrency { queue_max: 0, ..fixed(1) },
            Concurrency { queue_timeout: Duration::ZERO, ..fixed(1) },
        ] {
            let world = World::new(Some(config), Slots::new(9, 50 * MS));
            let first = world.spawn(Who::default());
            tokio::task::yield_now().await;
            let second = world.spawn(Who::default()).await.unwrap();
            assert_eq!(second.refusal(), (Kind::ConcurrencyLimit, "concurrency", 1, 2));
            assert_eq!((second.time, second.waited), (Duration::ZERO, None));
            assert_eq!(first.await.unwrap().answer.unwrap(), 200);
        }
    });
}

#[test]
fn a_higher_tier_goes_first_and_a_full_queue_turns_the_lowest_away() {
    run(async {
        let world = World::new(Some(Concurrency { queue_max: 4, ..fixed(1) }), Slots::new(9, 10 * MS));
        let mut told = vec![world.spawn(of("first", ""))];
        tokio::task::yield_now().await;
        let trace = Who { account: "t", license: "gold", is_trace: true };
        for who in [trace, of("n", ""), of("f", "free"), of("g", "gold"), of("g2", "gold"), of("f2", "free")]
        {
            told.push(world.spawn(who));
            tokio::task::yield_now().await;
        }
        let mut ended = Vec::new();
        for told in told {
            ended.push(told.await.unwrap());
        }
        // TRACE made room for g2, the one without a license for f2.
        for victim in [1, 2] {
            assert_eq!(ended[victim].refusal(), (Kind::LoadShed, "load_shed", 4, 5));
            assert_eq!(ended[victim].time, Duration::ZERO);
        }
        assert_eq!(*world.slots.order.borrow(), ["first", "g", "g2", "f", "f2"]);
        let shed: Vec<_> =
            world.snapshot().tiers.iter().map(|tier| (tier.tier.clone(), tier.shed_queue)).collect();
        let expected = [("_trace", 1), ("_none", 1), ("free", 0), ("gold", 0)];
        assert_eq!(shed, expected.map(|(name, count)| (name.to_owned(), count)));
    });
}

#[test]
fn a_client_that_leaves_gives_up_its_place_in_the_queue() {
    run(async {
        let world = World::new(Some(fixed(1)), Slots::new(9, 10 * MS));
        let first = world.spawn(of("a", ""));
        tokio::task::yield_now().await;
        let leaving = world.spawn(of("b", ""));
        let staying = world.spawn(of("c", ""));
        sleep(MS).await;
        leaving.abort();
        sleep(MS).await;
        assert_eq!(world.snapshot().concurrency.unwrap().waiting, 1);
        assert_eq!(staying.await.unwrap().time, 20 * MS);
        assert_eq!(first.await.unwrap().answer.unwrap(), 200);
        assert_eq!(*world.slots.order.borrow(), ["a", "c"]);
    });
}

/// It was given a place, and left before it could take it: the next one has it.
#[test]
fn a_place_that_is_given_to_one_who_has_left_is_passed_on() {
    run(async {
        let world = World::new(Some(fixed(1)), Slots::new(9, 10 * MS));
        let mut service = world.service();
        let (mut first, mut second) = (ask(of("a", "")), ask(of("b", "")));
        let begun = service.call(first.exchange.take().unwrap());
        let mut waits = Box::pin(service.call(second.exchange.take().unwrap()));
        assert!(futures_poll(waits.as_mut()).is_pending());
        let third = world.spawn(of("c", ""));
        tokio::task::yield_now().await;
        assert_eq!(world.snapshot().concurrency.unwrap().waiting, 2);
        drop((begun, first));
        // Ends with its last handle: the place goes to `second`, which does not look.
        assert_eq!(world.snapshot().concurrency.unwrap().waiting, 1);
        drop((waits, second));
        assert_eq!(third.await.unwrap().answer.unwrap(), 200);
        assert_eq!(world.snapshot().concurrency.unwrap().in_flight, 0);
    });
}

fn futures_poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(std::task::Waker::noop()))
}

/// A place is held until the content is through, and not only to the head.
#[test]
fn a_place_is_held_until_the_exchange_ends() {
    run(async {
        let world = World::new(Some(fixed(1)), Slots::new(9, 10 * MS));
        let mut asked = ask(of("a", ""));
        let answer = world.service().call(asked.exchange.take().unwrap()).await;
        assert_eq!(answer.unwrap().head.status, 200);
        let second = world.spawn(of("b", ""));
        sleep(100 * MS).await;
        assert_eq!(world.snapshot().concurrency.unwrap().waiting, 1);
        drop(asked);
        assert_eq!(second.await.unwrap().waited, Some(100 * MS));
    });
}

#[test]
fn memory_sheds_by_tier_and_then_refuses_all_also_without_a_limit() {
    run(async {
        let world = World::new(None, Slots::new(99, MS));
        let trace = Who { account: "t", license: "gold", is_trace: true };
        let everybody = [trace, of("n", "unknown"), of("f", "free"), of("g", "gold")];
        let (ok, shed, refused) = (None, Some(Kind::LoadShed), Some(Kind::Overloaded));
        let table = [
            (50, [ok, ok, ok, ok]),
            (85, [shed, shed, ok, ok]),
            (91, [shed, shed, shed, ok]),
            (94, [shed, shed, shed, ok]),
            (96, [refused, refused, refused, refused]),
            (80, [ok, ok, ok, ok]),
        ];
        for (percent, expected) in table {
            world.memory(percent);
            for (who, expected) in everybody.into_iter().zip(expected) {
                let told = world.spawn(who).await.unwrap();
                assert_eq!(
                    told.answer.as_ref().err().map(Error::kind),
                    expected,
                    "{percent} %: {}",
                    who.license
                );
                if let Some(kind) = expected {
                    assert_eq!(told.refusal(), (kind, "memory", 100 << 20, percent << 20));
                }
            }
        }
        let counts: Vec<_> =
            world.snapshot().tiers.iter().map(|tier| (tier.shed_memory, tier.refused_memory)).collect();
        assert_eq!(counts, [(3, 1), (3, 1), (2, 1), (0, 1)]);
    });
}

#[test]
fn a_reload_keeps_who_is_under_way_and_what_was_learned() {
    run(async {
        let world = World::new(Some(fixed(2)), Slots::new(9, 50 * MS));
        let told: Vec<_> = (0..4).map(|_| world.spawn(of("a", "gold"))).collect();
        sleep(MS).await;
        let reload = |concurrency: Option<&Concurrency>, names: &[&str], old: &Admission| {
            let new = Admission::new("inbound", concurrency, &tiers(names), &world.overload, Some(old), 7);
            let new = Arc::new(new);
            world.cell.swap(Arc::clone(&new));
            new
        };
        let lower = reload(Some(&fixed(1)), &["free", "gold"], &world.admission);
        let now = lower.snapshot().concurrency.unwrap();
        assert_eq!((now.limit, now.in_flight, now.waiting), (1, 2, 2));
        // More places: who waits has them at once.
        let higher = reload(Some(&fixed(4)), &["free", "gold"], &lower);
        for told in told {
            assert!(told.await.unwrap().time <= 51 * MS);
        }
        let after = higher.snapshot();
        assert_eq!((after.tiers[3].waited, after.concurrency.unwrap().in_flight), (2, 0));
        let none = reload(None, &["free"], &higher);
        assert_eq!((none.snapshot().concurrency, none.snapshot().total(|tier| tier.waited)), (None, 0));
    });
}

/// The limit follows the latency, through the whole layer, and a failure that comes fast does not raise it.
#[test]
fn an_adaptive_limit_finds_the_slots_of_the_service() {
    run(async {
        let config = Concurrency { queue_max: 100_000, ..Concurrency::default() };
        let world = World::new(Some(config), Slots::uneven(10, 20 * MS, 1));
        let clients: Vec<_> = (0..60)
            .map(|_| {
                let mut service = world.service();
                tokio::task::spawn_local(async move {
                    loop {
                        let mut asked = ask(of("a", ""));
                        let _ = service.call(asked.exchange.take().unwrap()).await;
                        sleep(MS / 10).await;
                    }
                })
            })
            .collect();
        sleep(Duration::from_secs(20)).await;
        let now = world.snapshot().concurrency.unwrap();
        assert!(now.is_adaptive && (10..=30).contains(&now.limit), "{now:?}");
        let min_rtt = now.min_rtt_ms.unwrap();
        assert!((18.0..=30.0).contains(&min_rtt), "{now:?}");
        let before = world.slots.served.get();
        sleep(Duration::from_secs(4)).await;
        let rate = (world.slots.served.get() - before) / 4;
        assert!(rate >= 480, "{rate} of 500 in a second");
        // It fails now, at once.
        world.slots.time.set(MS / 10);
        world.slots.status.set(503);
        sleep(Duration::from_secs(4)).await;
        assert_eq!(world.snapshot().concurrency.unwrap().min_rtt_ms, Some(min_rtt));
        clients.iter().for_each(JoinHandle::abort);
    });
}
