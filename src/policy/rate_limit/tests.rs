//! The hook, on exchanges.

use super::*;
use crate::context::RequestType;
use crate::exchange::{Connection, Direction, NoSink, Policy, Recorder, Sink};
use crate::quota::{Part, Rate, Settings};
use crate::svc::{Body, Known, Method, RequestHead, ResponseHead};
use std::collections::BTreeMap;
use std::rc::Rc;
use tokio::time::advance;

fn rate(requests: u32, seconds: u64) -> Rate {
    Rate { requests, per: Duration::from_secs(seconds), burst: requests }
}

fn limit(name: &str, key: &[Part], rate: Rate) -> Settings {
    Settings {
        name: name.into(),
        key: key.to_vec(),
        rate,
        overrides: BTreeMap::new(),
        keys_max: 100,
        has_headers: false,
    }
}

/// What the tests vary in a request.
#[derive(Clone, Copy)]
struct Asked<'a> {
    account: &'a str,
    request_type: RequestType,
    method: Method,
    tenant: &'a str,
    address: &'a str,
}

const ANYBODY: Asked<'static> = Asked {
    account: "",
    request_type: RequestType::Standard,
    method: Method::Get,
    tenant: "",
    address: "10.0.0.9",
};

struct Route(Arc<Policy>);

impl Route {
    fn new(limits: Vec<Settings>) -> Route {
        let limit = |settings| Arc::new(RateLimit::new(settings, Instant::now()));
        let rate_limits = limits.into_iter().map(limit).collect();
        Route(Arc::new(Policy { name: "r".into(), rate_limits, ..Policy::default() }))
    }

    fn ask(&self, asked: Asked<'_>) -> (Exchange, Result<Option<Response>>) {
        let connection = Connection {
            direction: Direction::Inbound,
            peer: format!("{}:1234", asked.address).parse().unwrap(),
            local: "127.0.0.1:15006".parse().unwrap(),
            is_tls: false,
            identity: None,
            is_trusted: true,
            serial: Default::default(),
        };
        let sink: Rc<dyn Sink> = Rc::new(NoSink);
        let (recorder, guard) = Recorder::start(&sink, &connection, Instant::now());
        std::mem::forget(guard); // the exchange is not over
        {
            let mut record = recorder.edit();
            record.account_id = record.store(asked.account.as_bytes());
            record.request_type = asked.request_type;
        }
        let mut head = RequestHead::new();
        head.method = asked.method;
        head.set_path(b"/a");
        if !asked.tenant.is_empty() {
            head.fields.push(b"X-Tenant", asked.tenant.as_bytes());
        }
        let ctx = Ctx::new(recorder, Rc::new(connection));
        *ctx.policy.borrow_mut() = Some(Arc::clone(&self.0));
        let mut exchange = Exchange { head: Box::new(head), body: Body::empty(), ctx };
        let answer = RateLimiting.before(&mut exchange);
        (exchange, answer)
    }

    fn allows(&self, asked: Asked<'_>) -> bool {
        self.ask(asked).1.is_ok()
    }

    /// How many of these are allowed.
    fn count(&self, asked: Asked<'_>, requests: usize) -> usize {
        (0..requests).filter(|_| self.allows(asked)).count()
    }
}

fn answered(exchange: &Exchange, status: u16) -> Vec<(String, String)> {
    let mut answer: Answer = Ok(Response::new(ResponseHead::new(status), Body::empty()));
    RateLimiting.after(&exchange.ctx, &mut answer);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let response = answer.unwrap();
    response.head.fields.iter().map(|(name, value, _)| (text(name), text(value))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_what_it_was_and_when_to_come_again() {
    let route = Route::new(vec![limit("per-account", &[Part::AccountId], rate(2, 1))]);
    let asked = Asked { account: "a1", ..ANYBODY };
    assert_eq!(route.count(asked, 2), 2);
    advance(Duration::from_millis(100)).await;
    let (exchange, answer) = route.ask(asked);
    let error = answer.err().unwrap();
    assert_eq!((error.kind(), error.replay()), (Kind::RateLimited, Replay::Safe));
    assert_eq!(error.detail(), "`per-account` allows 2 in 1s, 2 at once; the next one in 400ms");
    let want = Refusal {
        breaker: "rate_limit",
        scope: "route",
        name: "per-account".into(),
        limit: 2,
        current: 3,
        retry_after: Some(Duration::from_millis(400)),
        fields: vec![
            ("ratelimit-policy", r#""per-account";q=2;w=1"#.into()),
            ("ratelimit", r#""per-account";r=0;t=1"#.into()),
        ],
    };
    assert_eq!(error.refusal(), Some(&want));
    assert_eq!(exchange.ctx.recorder.edit().note().rate_limit, Some(("per-account".into(), 0)));
    assert!(route.allows(Asked { account: "a2", ..asked }), "another account has its own");
    advance(Duration::from_millis(400)).await;
    assert!(route.allows(asked), "that was the time");
}

#[tokio::test(start_paused = true)]
async fn a_route_without_limits_is_let_through_and_so_is_a_request_without_a_route() {
    let (mut exchange, answer) = Route::new(Vec::new()).ask(ANYBODY);
    assert!(answer.unwrap().is_none());
    assert_eq!(answered(&exchange, 200), []);
    *exchange.ctx.policy.borrow_mut() = None;
    assert!(RateLimiting.before(&mut exchange).unwrap().is_none());
    assert!(exchange.ctx.recorder.edit().notes.is_none() && exchange.ctx.holds.borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn every_part_of_a_request_can_be_a_key() {
    let tenant = Part::Header { name: (*b"x-tenant").into(), known: None };
    for (part, other) in [
        (Part::AccountId, Asked { account: "a2", ..ANYBODY }),
        (Part::RequestType, Asked { request_type: RequestType::Trace, ..ANYBODY }),
        (Part::Method, Asked { method: Method::Post, ..ANYBODY }),
        (Part::SourceAddress, Asked { address: "10.0.0.10", ..ANYBODY }),
        (tenant, Asked { tenant: "t1", ..ANYBODY }),
    ] {
        let route = Route::new(vec![limit("l", std::slice::from_ref(&part), rate(1, 1))]);
        assert_eq!((route.count(ANYBODY, 3), route.count(other, 3)), (1, 1), "{part}");
    }
    let route = Route::new(vec![limit("l", &[], rate(1, 1))]);
    let trace = Asked { request_type: RequestType::Trace, account: "a2", ..ANYBODY };
    assert!(route.allows(trace) && !route.allows(ANYBODY), "a TRACE request counts like others");
}

#[tokio::test(start_paused = true)]
async fn what_one_limit_refuses_costs_the_others_nothing() {
    let route = Route::new(vec![
        limit("wide", &[], rate(100, 1000)),
        limit("narrow", &[Part::AccountId], rate(1, 1000)),
        limit("last", &[], rate(100, 1000)),
    ]);
    let loud = Asked { account: "loud", ..ANYBODY };
    assert_eq!(route.count(loud, 1000), 1);
    let others = (0..200).filter(|n| route.allows(Asked { account: &format!("a{n}"), ..ANYBODY })).count();
    assert_eq!(others, 99, "the wide one was not used up by what the narrow one refused");
    let counts = |at: usize| (route.0.rate_limits[at].allowed(), route.0.rate_limits[at].refused());
    assert_eq!((counts(0), counts(1), counts(2)), ((100, 101), (100, 999), (100, 0)));
}

#[tokio::test(start_paused = true)]
async fn of_several_limits_that_refuse_the_longest_wait_is_told() {
    let route = Route::new(vec![
        limit("second", &[], rate(1, 1)),
        limit("hour", &[], rate(1, 3600)),
        limit("minute", &[], rate(1, 60)),
    ]);
    assert!(route.allows(ANYBODY));
    let (exchange, answer) = route.ask(ANYBODY);
    let error = answer.err().unwrap();
    let refusal = error.refusal().unwrap();
    assert_eq!((&*refusal.name, refusal.retry_after), ("hour", Some(Duration::from_secs(3600))));
    assert_eq!(exchange.ctx.recorder.edit().note().rate_limit, Some(("hour".into(), 0)));
    advance(Duration::from_secs(3600)).await;
    assert!(route.allows(ANYBODY), "whoever waits that long passes");
}

#[tokio::test(start_paused = true)]
async fn answers_say_what_is_left_where_that_is_wanted() {
    let shown = |settings: Settings| Settings { has_headers: true, ..settings };
    let route = Route::new(vec![
        shown(limit("second", &[], rate(10, 1))),
        limit("silent", &[], rate(5, 1)),
        shown(limit("hour", &[Part::AccountId], rate(3, 3600))),
    ]);
    let (exchange, answer) = route.ask(ANYBODY);
    assert!(answer.unwrap().is_none());
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        answered(&exchange, 200),
        [
            field("ratelimit-policy", r#""second";q=10;w=1, "hour";q=3;w=3600"#),
            field("ratelimit", r#""second";r=9;t=1, "hour";r=2;t=2400"#),
        ]
    );
    assert_eq!(
        exchange.ctx.recorder.edit().note().rate_limit,
        Some(("hour".into(), 2)),
        "the one to run out first"
    );
    let mut failed: Answer = Err(Kind::UpstreamClosed.into());
    RateLimiting.after(&exchange.ctx, &mut failed);
    assert_eq!(failed.err().unwrap().kind(), Kind::UpstreamClosed);
}

#[tokio::test(start_paused = true)]
async fn fields_of_the_upstream_stay() {
    let route = Route::new(vec![Settings { has_headers: true, ..limit("mine", &[], rate(1, 1)) }]);
    let (exchange, _) = route.ask(ANYBODY);
    let mut head = ResponseHead::new(200);
    head.fields.push(b"RateLimit", br#""theirs";r=5;t=1"#);
    head.fields.append(Known::ContentType, b"text/plain");
    let mut answer: Answer = Ok(Response::new(head, Body::empty()));
    RateLimiting.after(&exchange.ctx, &mut answer);
    let response = answer.unwrap();
    let values: Vec<&[u8]> = response.head.fields.named(b"ratelimit").collect();
    assert_eq!(values, [br#""theirs";r=5;t=1"#, &br#""mine";r=0;t=1"#[..]]);
}
