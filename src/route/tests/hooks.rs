//! The hooks, on an exchange.

use super::*;
use crate::context::Rng;
use crate::error::{Error, Kind};
use crate::exchange::{Answer, Connection, Ctx, Exchange, Hook, NoSink, Recorder, Response, Sink};
use crate::svc::{Body, Known, ResponseHead};
use std::cell::RefCell;
use std::rc::Rc;
use tokio::time::Instant;

fn exchange(request: &str) -> Exchange {
    let connection = Connection {
        direction: Direction::Outbound,
        peer: "10.0.0.9:1".parse().unwrap(),
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
    Exchange { head: Box::new(head(request)), body: Body::empty(), ctx }
}

fn routing(table: Table) -> Routing {
    Routing::new(TableCell::new(Arc::new(table)), Rc::new(RefCell::new(Rng::new(1))))
}

/// Routes and rewrites a request.
fn run(list: Value, request: &str) -> (Exchange, Result<Option<Response>, Error>) {
    let mut exchange = exchange(request);
    let answer = match routing(table(list)).before(&mut exchange) {
        Ok(None) => Rewriting.before(&mut exchange),
        answer => answer,
    };
    (exchange, answer)
}

fn rewritten(list: Value, request: &str) -> Result<String, Error> {
    let (exchange, answer) = run(list, request);
    answer?;
    let head = &exchange.head;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(format!("{}{}", text(head.authority()), text(head.path())))
}

#[test]
fn a_decision_is_written_into_the_exchange() {
    let list = json!([{ "name": "v1", "match": { "path": { "prefix": "/v1" } }, "cluster": "c", "timeout": { "request": "3s" } }]);
    let (exchange, answer) = run(list, "GET /v1/x");
    assert!(answer.unwrap().is_none());
    let record = exchange.ctx.recorder.edit();
    assert_eq!((record.route.as_deref(), record.pattern.as_deref()), (Some("v1"), Some("/v1/*")));
    assert_eq!(record.cluster.as_deref(), Some("c"));
    assert_eq!(exchange.ctx.deadline.get(), Some(record.started + Duration::from_secs(3)));
    assert_eq!(&*exchange.ctx.policy().unwrap().name, "v1");
    assert_eq!(&*exchange.ctx.cluster().unwrap().name, "c");
}

#[test]
fn the_context_of_the_record_decides() {
    let list = json!([
        { "match": { "context": { "license": "gold" } }, "cluster": "gold" },
        { "cluster": "standard" },
    ]);
    for (license, want) in [("gold", "gold"), ("silver", "standard"), ("", "standard")] {
        let mut exchange = exchange("GET /");
        {
            let mut record = exchange.ctx.recorder.edit();
            record.license = record.store(license.as_bytes());
        }
        routing(table(list.clone())).before(&mut exchange).unwrap();
        assert_eq!(&*exchange.ctx.cluster().unwrap().name, want, "{license}");
    }
}

#[test]
fn without_a_route_it_is_404_and_the_event_has_the_nearest_names() {
    let table = compile(json!([]), Fallback::ClusterByHost(vec![cluster("payments")])).unwrap();
    let mut exchange = exchange("GET /\nHost: paymnets");
    let error = routing(table).before(&mut exchange).err().unwrap();
    assert_eq!(error.kind(), Kind::RouteNotFound);
    let record = exchange.ctx.recorder.edit();
    assert_eq!((record.hint.as_str(), record.cause), ("payments", Some(Kind::RouteNotFound)));
    assert!(record.route.is_none() && exchange.ctx.policy().is_none());
}

#[test]
fn redirections_and_direct_answers_come_from_the_proxy() {
    let (exchange, answer) =
        run(json!([{ "name": "r", "redirect": { "scheme": "https", "status": 308 } }]), "GET /a");
    let response = answer.unwrap().unwrap();
    assert_eq!(response.head.status, 308);
    assert_eq!(response.head.fields.get(Known::Location), Some(&b"https://shop.example/a"[..]));
    assert_eq!(exchange.ctx.recorder.edit().route.as_deref(), Some("r"));
    let list = json!([{ "respond": { "status": 503, "body": "closed", "headers": { "Retry-After": "60" } },
                        "headers": { "response": { "set": { "x-a": "1" } } } }]);
    let response = run(list, "GET /").1.unwrap().unwrap();
    assert_eq!((response.head.status, response.body.length()), (503, Some(6)));
    let names: Vec<&[u8]> = response.head.fields.iter().map(|(name, _, _)| name).collect();
    assert_eq!(names, [&b"retry-after"[..], b"content-type", b"x-a"]);
}

/// Refuses what comes to the route `closed`, and marks answers.
#[derive(Clone)]
struct Gate;

impl Hook for Gate {
    fn before(&self, exchange: &mut Exchange) -> Result<Option<Response>, Error> {
        let policy = exchange.ctx.policy();
        assert!(exchange.ctx.recorder.edit().route.is_some(), "the decision is known");
        if &*policy.unwrap().name == "closed" { Err(Kind::RateLimited.into()) } else { Ok(None) }
    }

    fn after(&self, _: &Ctx, answer: &mut Answer) {
        if let Ok(response) = answer {
            response.head.fields.push(b"x-gate", b"1");
        }
    }
}

#[test]
fn a_gate_stands_before_whatever_a_route_does() {
    for (action, status) in [
        (json!({ "cluster": "c" }), None),
        (json!({ "redirect": { "host": "h" } }), Some(301)),
        (json!({ "respond": {} }), Some(200)),
    ] {
        let list = |name: &str| {
            let mut route = action.clone();
            route["name"] = name.into();
            json!([{ "match": { "path": { "exact": "/none" } }, "cluster": "c" }, route])
        };
        let mut closed = exchange("GET /");
        let error = routing(table(list("closed"))).behind(Gate).before(&mut closed).err().unwrap();
        assert_eq!(
            (error.kind(), closed.ctx.recorder.edit().route.as_deref()),
            (Kind::RateLimited, Some("closed"))
        );
        let mut open = exchange("GET /");
        let hook = routing(table(list("open"))).behind(Gate);
        let own = hook.before(&mut open).unwrap();
        assert_eq!(own.as_ref().map(|response| response.head.status), status);
        let mut answer = Ok(own.unwrap_or_else(|| Response::new(ResponseHead::new(204), Body::empty())));
        hook.after(&open.ctx, &mut answer);
        assert!(answer.unwrap().head.fields.named(b"x-gate").next().is_some());
    }
    let mut lost = exchange("GET /");
    let error = routing(table(json!([]))).behind(Gate).before(&mut lost).err().unwrap();
    assert_eq!(error.kind(), Kind::RouteNotFound, "what has no route is not asked about");
}

#[test]
fn a_table_is_swapped_between_requests() {
    let cell = TableCell::new(Arc::new(table(json!([{ "cluster": "old" }]))));
    let hook = Routing::new(cell.clone(), Rc::new(RefCell::new(Rng::new(1))));
    let goes = |hook: &Routing| {
        let mut exchange = exchange("GET /");
        hook.before(&mut exchange).unwrap();
        exchange.ctx.cluster().unwrap().name.to_string()
    };
    assert_eq!(goes(&hook), "old");
    let old = cell.swap(Arc::new(table(json!([{ "cluster": "new" }]))));
    assert_eq!((goes(&hook), old.len(), cell.load().len()), ("new".to_owned(), 1, 1));
}

#[test]
fn paths_and_hosts_are_rewritten() {
    for (rewrite, request, want) in [
        (json!({ "path": "/x" }), "GET /old/a", "shop.example/x"),
        (json!({ "prefix": "/new" }), "GET /old/a", "shop.example/new/a"),
        (json!({ "prefix": "/new/" }), "GET /old/a", "shop.example/new/a"),
        (json!({ "prefix": "/" }), "GET /old/a", "shop.example/a"),
        (json!({ "prefix": "/" }), "GET /old", "shop.example/"),
        (
            json!({ "regex": { "pattern": "^/old/(\\w+)$", "substitution": "/new/$1/x" } }),
            "GET /old/a",
            "shop.example/new/a/x",
        ),
        (json!({ "regex": { "pattern": "^/old/", "substitution": "" } }), "GET /old/a", "shop.example/a"),
        (json!({ "regex": { "pattern": "zzz", "substitution": "" } }), "GET /old/a", "shop.example/old/a"),
        (json!({ "host": "internal:81" }), "GET /old/a", "internal:81/old/a"),
        (json!({ "host": "internal", "prefix": "/n" }), "GET /old/a", "internal/n/a"),
    ] {
        let list = json!([{ "match": { "path": { "prefix": "/old" } }, "cluster": "c", "rewrite": rewrite }]);
        assert_eq!(rewritten(list, request).unwrap(), want, "{rewrite}");
    }
    let list = json!([{ "cluster": "c", "rewrite": { "path": "/x" } }]);
    assert_eq!(rewritten(list, "OPTIONS *").unwrap(), "shop.example*");
}

#[test]
fn a_pattern_cannot_make_a_path_climb() {
    let list = json!([{ "cluster": "c", "rewrite": { "regex": { "pattern": "^/static(.*)$", "substitution": "/files/$1" } } }]);
    assert_eq!(rewritten(list.clone(), "GET /static/a").unwrap(), "shop.example/files//a");
    assert_eq!(rewritten(list, "GET /static../secret").unwrap_err().kind(), Kind::RequestRefused);
}

#[test]
fn fields_are_edited_on_the_way_in_and_out() {
    let edits = json!({ "remove": ["X-Gone"], "set": { "X-Set": "new" }, "append": { "x-more": "2" } });
    let list = json!([{ "cluster": "c", "headers": { "request": edits, "response": edits } }]);
    let (exchange, answer) = run(list, "GET /\nx-gone: 1\nX-Set: old\nX-More: 1");
    answer.unwrap();
    let shown = |fields: &crate::svc::Fields| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_lowercase();
        fields.iter().map(|(name, value, _)| format!("{}={}", text(name), text(value))).collect::<Vec<_>>()
    };
    assert_eq!(shown(&exchange.head.fields), ["x-more=1", "x-set=new", "x-more=2"]);
    let mut head = ResponseHead::new(200);
    head.fields.push(b"X-Gone", b"1");
    let mut answer = Ok(Response::new(head, Body::empty()));
    Rewriting.after(&exchange.ctx, &mut answer);
    assert_eq!(shown(&answer.unwrap().head.fields), ["x-set=new", "x-more=2"]);
}
