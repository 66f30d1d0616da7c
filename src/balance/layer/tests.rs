use super::*;
use crate::cluster::config::{Balance, ContextField, HashOn, SubsetFallback, SubsetFrom, SubsetValue};
use crate::cluster::{Config, Journal, Policy, Reason, Settings, Target};
use crate::exchange::{Connection, Direction, NoSink, Recorder, Sink};
use crate::svc::{Body, Fields, Frame, Source};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

fn cluster(endpoints: u8, set: impl FnOnce(&mut Balance)) -> Arc<Cluster> {
    let mut config = Config::default();
    set(&mut config.balance);
    let cluster = Cluster::new("c", Settings::of(&config, "a"), None, Journal::none());
    let targets: Vec<Target> = (0..endpoints)
        .map(|at| {
            let mut target = Target::new(([10, 0, 0, at], 80).into());
            target.zone = Some(if at % 2 == 0 { "a" } else { "b" }.into());
            target.labels.insert("license".into(), if at == 0 { "gold" } else { "free" }.into());
            target
        })
        .collect();
    cluster.update(&targets);
    Arc::new(cluster)
}

/// A request for `cluster`, from the client with this address.
fn exchange(cluster: &Arc<Cluster>, peer: &str) -> Exchange {
    let connection = Connection {
        direction: Direction::Outbound,
        peer: peer.parse().unwrap(),
        local: "127.0.0.1:15001".parse().unwrap(),
        is_tls: false,
        identity: None,
        is_trusted: true,
        serial: Default::default(),
    };
    let sink: Rc<dyn Sink> = Rc::new(NoSink);
    let (recorder, guard) = Recorder::start(&sink, &connection, Instant::now());
    std::mem::forget(guard); // the exchange is not over
    let ctx = Ctx::new(recorder, Rc::new(connection));
    *ctx.cluster.borrow_mut() = Some(Arc::clone(cluster));
    let mut head = RequestHead::new();
    head.set_path(b"/cart");
    Exchange { head: Box::new(head), body: Body::empty(), ctx }
}

fn balancing() -> Balancing {
    Balancing::new(Rc::new(RefCell::new(Rng::new(7))))
}

/// The name of the endpoint that the request goes to.
fn picked(exchange: &mut Exchange) -> String {
    balancing().before(exchange).map(|_| ()).unwrap();
    exchange.ctx.picked.borrow().as_ref().unwrap().endpoint().name.to_string()
}

fn answer(status: u16, fields: &[(&str, &str)], body: Body) -> Answer {
    let mut head = ResponseHead::new(status);
    for (name, value) in fields {
        head.fields.push(name.as_bytes(), value.as_bytes());
    }
    Ok(Response::new(head, body))
}

/// The endpoint's average now, in milliseconds.
fn average_ms(cluster: &Cluster) -> u128 {
    let set = cluster.endpoints();
    set.endpoints[0].load.average(clock_ns(Instant::now())).unwrap_or_default().as_millis()
}

fn failures(cluster: &Cluster) -> u64 {
    cluster.endpoints().endpoints[0].stats.failures.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn a_usual_request_notes_its_endpoint_and_nothing_else() {
    let cluster = cluster(1, |_| {});
    let mut exchange = exchange(&cluster, "10.9.9.9:1");
    assert_eq!(picked(&mut exchange), "10.0.0.0:80");
    let record = exchange.ctx.recorder.edit();
    assert_eq!(record.endpoint.as_deref(), Some("10.0.0.0:80"));
    assert_eq!(record.endpoint_zone.as_deref(), Some("a"));
    assert!(record.notes.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_unusual_is_noted_and_counted() {
    let all_out = cluster(3, |_| {});
    for endpoint in &all_out.endpoints().endpoints {
        all_out.leave_out(endpoint, Reason::CheckFailed);
    }
    let mut panicking = exchange(&all_out, "10.9.9.9:1");
    picked(&mut panicking);
    assert!(panicking.ctx.recorder.edit().note().is_panic);
    assert_eq!(all_out.stats.panic_picks.get(), 1);

    let hashed = cluster(3, |balance| {
        balance.policy = Policy::Maglev;
        balance.hash_on = vec![HashOn::Header("x-session".into())];
    });
    let mut without = exchange(&hashed, "10.9.9.9:1");
    picked(&mut without);
    assert!(without.ctx.recorder.edit().note().is_hash_missing);
    assert_eq!(hashed.stats.hash_missing.get(), 1);

    // Ten endpoints of which half are here, and as many callers: all stay, until a retry has to leave.
    let zoned = cluster(10, |_| {});
    let mut local = exchange(&zoned, "10.9.9.9:1");
    picked(&mut local);
    assert!(local.ctx.recorder.edit().notes.is_none(), "the own zone is the usual case");
    let here: Vec<u64> = zoned.endpoints().endpoints.iter().step_by(2).map(|endpoint| endpoint.id).collect();
    local.ctx.tried.borrow_mut().extend(here);
    picked(&mut local);
    assert_eq!(local.ctx.recorder.edit().note().is_local_zone, Some(false));
    assert_eq!((zoned.stats.picks_local.get(), zoned.stats.picks_remote.get()), (1, 1));
    local.ctx.tried.borrow_mut().clear();
    picked(&mut local);
    assert_eq!(
        local.ctx.recorder.edit().note().is_local_zone,
        Some(true),
        "of this attempt, not of the one before"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_is_hashed_by_the_first_that_it_has() {
    let hashed = |on: Vec<HashOn>| {
        cluster(50, |balance| {
            balance.policy = Policy::Maglev;
            balance.hash_on = on;
        })
    };
    let place = |on: &HashOn, peer: &str, set: &dyn Fn(&mut Exchange)| {
        let cluster = hashed(vec![on.clone()]);
        let mut exchange = exchange(&cluster, peer);
        set(&mut exchange);
        let place = picked(&mut exchange);
        let is_missing =
            exchange.ctx.recorder.edit().notes.as_ref().is_some_and(|notes| notes.is_hash_missing);
        (!is_missing).then_some(place)
    };
    let header = |name: &'static str, value: &'static str| {
        move |exchange: &mut Exchange| exchange.head.fields.push(name.as_bytes(), value.as_bytes())
    };
    let account = |value: &'static str| {
        move |exchange: &mut Exchange| {
            let mut record = exchange.ctx.recorder.edit();
            record.account_id = record.store(value.as_bytes());
        }
    };
    let target = |path: &'static str, query: &'static str| {
        move |exchange: &mut Exchange| {
            exchange.head.set_path(path.as_bytes());
            exchange.head.set_query(Some(query.as_bytes()));
        }
    };
    let peer = "10.9.9.9:1";
    let session = HashOn::Header("X-Session".into());
    let first = place(&session, peer, &header("x-session", "s1")).unwrap();
    assert_eq!(place(&session, "10.1.1.1:1", &header("X-SESSION", "s1")), Some(first.clone()));
    assert_ne!(place(&session, peer, &header("x-session", "s2")), Some(first.clone()));
    assert_eq!(place(&session, peer, &header("x-session", "")), None, "an empty one says nothing");

    // The same text is the same key, wherever it is.
    assert_eq!(
        place(&HashOn::Cookie("id".into()), peer, &header("cookie", "a=b; id=s1;c=d")),
        Some(first.clone())
    );
    assert_eq!(place(&HashOn::Cookie("id".into()), peer, &header("cookie", "xid=s1; id2=s1")), None);
    assert_eq!(place(&HashOn::Query("q".into()), peer, &target("/", "a=1&q=s1&q=s2")), Some(first.clone()));
    assert_eq!(place(&HashOn::Query("q".into()), peer, &target("/", "a=q&qq=s1")), None);
    assert_eq!(place(&HashOn::Context(ContextField::AccountId), peer, &account("s1")), Some(first.clone()));
    assert_eq!(place(&HashOn::Path, peer, &target("s1", "x")), Some(first));

    let address = |peer| place(&HashOn::SourceAddress, peer, &|_| {});
    assert_eq!(address("10.9.9.9:1"), address("10.9.9.9:2"), "its port does not matter");
    assert_eq!(address("10.9.9.9:1"), address("[::ffff:10.9.9.9]:3"));
    assert_ne!(address("10.9.9.9:1"), address("10.9.9.8:1"));

    let both = hashed(vec![session.clone(), HashOn::SourceAddress]);
    let mut with = exchange(&both, peer);
    header("x-session", "s1")(&mut with);
    assert_eq!(Some(picked(&mut with)), place(&session, peer, &header("x-session", "s1")));
    let mut without = exchange(&both, peer);
    assert_eq!(Some(picked(&mut without)), address(peer));
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_to_its_subset() {
    let by = |from: SubsetFrom, fallback| {
        cluster(4, move |balance| {
            balance.subset.insert("license".into(), SubsetValue::Request(from));
            balance.subset_fallback = fallback;
        })
    };
    let license = || SubsetFrom::Context(ContextField::License);
    let gold = |exchange: &mut Exchange, value: &str| {
        let mut record = exchange.ctx.recorder.edit();
        record.license = record.store(value.as_bytes());
    };
    let cluster = by(license(), SubsetFallback::None);
    let mut wanted = exchange(&cluster, "10.9.9.9:1");
    gold(&mut wanted, "gold");
    assert_eq!(picked(&mut wanted), "10.0.0.0:80");
    let mut unknown = exchange(&cluster, "10.9.9.9:1");
    gold(&mut unknown, "silver");
    let error = balancing().before(&mut unknown).err().unwrap();
    assert_eq!(error.kind(), Kind::NoHealthyEndpoint);
    assert_eq!(error.detail(), "cluster c: no endpoint has license silver");

    let cluster = by(SubsetFrom::Header("x-tier".into()), SubsetFallback::Any);
    let mut header = exchange(&cluster, "10.9.9.9:1");
    header.head.fields.push(b"x-tier", b"gold");
    assert_eq!(picked(&mut header), "10.0.0.0:80");
    let mut without = exchange(&cluster, "10.9.9.9:1");
    picked(&mut without);
    assert!(without.ctx.recorder.edit().note().is_subset_fallback);
    assert_eq!(cluster.stats.subset_fallbacks.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn errors_tell_why_there_is_no_endpoint() {
    let refused = |cluster: &Arc<Cluster>| {
        let error = balancing().before(&mut exchange(cluster, "10.9.9.9:1")).err().unwrap();
        (error.kind(), error.detail().to_owned())
    };
    let none = cluster(0, |_| {});
    assert_eq!(refused(&none), (Kind::NoEndpoint, "cluster c".into()));
    none.mark_stale("SERVFAIL");
    assert_eq!(refused(&none), (Kind::DnsFailed, "cluster c: SERVFAIL".into()));
    let out = cluster(3, |balance| balance.panic_threshold = 0);
    for (at, endpoint) in out.endpoints().endpoints.iter().enumerate() {
        out.leave_out(endpoint, if at == 0 { Reason::Ejected } else { Reason::CheckFailed });
    }
    let detail = "cluster c: none of 3 endpoints is healthy, check_failed 2, ejected 1".into();
    assert_eq!(refused(&out), (Kind::NoHealthyEndpoint, detail));
}

/// What the endpoint's average is right after an answer that came after 10 ms.
async fn learned_ms(is_grpc: bool, mut answer: Answer) -> u128 {
    let cluster = cluster(1, |_| {});
    let mut exchange = exchange(&cluster, "10.9.9.9:1");
    exchange.ctx.recorder.edit().is_grpc = is_grpc;
    picked(&mut exchange);
    tokio::time::advance(Duration::from_millis(10)).await;
    balancing().after(&exchange.ctx, &mut answer);
    average_ms(&cluster)
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_refuses_is_left_alone_for_as_long_as_it_asks() {
    let empty = Body::empty;
    for (status, fields, expected_ms) in [
        (200, &[][..], 10),
        (200, &[("retry-after", "60")][..], 10), // it answered
        (404, &[], 10),
        (429, &[], 5000),
        (429, &[("retry-after", "60")], 60_000),
        (503, &[("retry-after", "1")], 5000),
        (503, &[("Retry-After", "100000")], 300_000),
        (503, &[("retry-after", "soon")], 5000),
        (503, &[("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")], 300_000),
    ] {
        let learned = learned_ms(false, answer(status, fields, empty())).await;
        assert_eq!(learned, expected_ms, "{status} {fields:?}");
    }
    assert_eq!(learned_ms(false, Err(Kind::UpstreamClosed.into())).await, 5000);
    for (fields, expected_ms) in [
        (&[("grpc-status", "0")][..], 10),
        (&[("grpc-status", "5")], 10),
        (&[("grpc-status", "14")], 5000),
        (&[("grpc-status", "8"), ("grpc-retry-pushback-ms", "7000")], 7000),
        (&[("grpc-status", "8"), ("grpc-retry-pushback-ms", "-1")], 5000),
        (&[("grpc-status", "0"), ("grpc-retry-pushback-ms", "7000")], 10),
    ] {
        assert_eq!(learned_ms(true, answer(200, fields, empty())).await, expected_ms, "{fields:?}");
    }
    assert_eq!(learned_ms(true, answer(503, &[("retry-after", "9")], empty())).await, 9000);
}

/// Content of frames that are here.
struct Frames(VecDeque<Result<Frame>>);

impl Source for Frames {
    fn poll_frame(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        Poll::Ready(self.0.pop_front())
    }

    fn length(&self) -> Option<u64> {
        None
    }
}

fn message() -> Result<Frame> {
    Ok(Frame::Data(Bytes::from_static(b"message")))
}

fn trailers(list: &[(&str, &str)]) -> Result<Frame> {
    let mut fields = Fields::new();
    for (name, value) in list {
        fields.push(name.as_bytes(), value.as_bytes());
    }
    Ok(Frame::Trailers(fields))
}

/// A call whose head came after 10 ms and whose content is these frames, one a minute: the cluster and what is left.
async fn call(frames: Vec<Result<Frame>>) -> (Arc<Cluster>, Exchange, Body) {
    let cluster = cluster(1, |_| {});
    let mut exchange = exchange(&cluster, "10.9.9.9:1");
    exchange.ctx.recorder.edit().is_grpc = true;
    picked(&mut exchange);
    tokio::time::advance(Duration::from_millis(10)).await;
    let mut answer = answer(200, &[], Body::stream(Frames(frames.into())));
    balancing().after(&exchange.ctx, &mut answer);
    assert_eq!(average_ms(&cluster), 10, "how long it took is known with the head");
    (cluster, exchange, answer.unwrap().body)
}

async fn read(body: &mut Body) -> usize {
    let mut frames = 0;
    loop {
        tokio::time::advance(Duration::from_secs(60)).await;
        match body.frame().await {
            Some(Ok(_)) => frames += 1,
            Some(Err(_)) | None => return frames,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_grpc_call_is_judged_by_its_trailers() {
    for (status, expected) in [("0", 0), ("5", 0), ("13", 1), ("14", 1)] {
        let (cluster, _exchange, mut body) =
            call(vec![message(), trailers(&[("grpc-status", status)])]).await;
        assert_eq!(failures(&cluster), 0);
        assert_eq!(read(&mut body).await, 2);
        assert_eq!(failures(&cluster), expected, "{status}");
        let health = &cluster.endpoints().endpoints[0].health;
        assert_eq!(u64::from(health.consecutive_5xx.load(Ordering::Relaxed)), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_costs_what_a_failure_costs_however_long_it_lasted() {
    let frames = vec![message(), trailers(&[("grpc-status", "8"), ("grpc-retry-pushback-ms", "20000")])];
    let (cluster, _exchange, mut body) = call(frames).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    body.frame().await;
    body.frame().await;
    assert_eq!(average_ms(&cluster), 20_000);
    let (cluster, _exchange, mut body) = call(vec![message(), Err(Kind::ResponseIncomplete.into())]).await;
    body.frame().await;
    body.frame().await;
    assert_eq!((average_ms(&cluster), failures(&cluster)), (5000, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_waited_for_says_nothing_of_the_endpoint() {
    let (cluster, exchange, mut body) = call(vec![message(), trailers(&[("grpc-status", "14")])]).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    body.frame().await;
    drop(body);
    assert_eq!(failures(&cluster), 0);
    assert!(average_ms(&cluster) <= 10, "a minute of content is not a minute of waiting");
    drop(exchange);
    assert!(average_ms(&cluster) <= 10);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_given_up_says_nothing_of_the_next_attempt() {
    let (cluster, mut exchange, body) = call(vec![message()]).await;
    tokio::time::advance(Duration::from_millis(1)).await;
    picked(&mut exchange);
    drop(body);
    assert!(exchange.ctx.attempt_started.get().is_some(), "the new attempt is still to be learned from");
    balancing().after(&exchange.ctx, &mut answer(503, &[], Body::empty()));
    assert_eq!(failures(&cluster), 1);
}
