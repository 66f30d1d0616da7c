//! The table as a whole: what a user writes against what happens to a request.

mod actions;
mod hooks;
mod reference;
mod terms;

use super::config::{self, Route};
use super::*;
use crate::cluster::{self, Cluster, Target};
use crate::context::RequestType;
use crate::exchange::Direction;
use crate::http1::{HeadLimits, parse_request};
use crate::svc::{RequestHead, Scheme};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 1 << 16, fields_max: 100, target_bytes_max: 1 << 14 };

fn cluster(name: &str) -> Arc<Cluster> {
    let cluster = Cluster::plain(name, &cluster::Config::default());
    cluster.update(&[Target::new("127.0.0.1:8080".parse().unwrap())]);
    Arc::new(cluster)
}

/// Every cluster exists but those whose name starts with `missing`.
fn any_cluster(name: &str) -> Option<Arc<Cluster>> {
    (!name.starts_with("missing")).then(|| cluster(name))
}

fn routes(routes: Value) -> Vec<Route> {
    serde_json::from_value(routes).unwrap()
}

fn compile(list: Value, fallback: Fallback) -> Result<Table, CompileError> {
    let defaults = Defaults { request_timeout: Some(Duration::from_secs(15)), fallback };
    Table::compile(&routes(list), &any_cluster, defaults)
}

fn table(list: Value) -> Table {
    compile(list, Fallback::None).unwrap()
}

fn head(text: &str) -> RequestHead {
    let lines = text.replace('\n', "\r\n");
    let host = if lines.to_lowercase().contains("\r\nhost:") { "" } else { "Host: shop.example\r\n" };
    let (line, fields) = lines.split_once("\r\n").unwrap_or((&lines, ""));
    let text =
        format!("{line} HTTP/1.1\r\n{host}{fields}{}\r\n", if fields.is_empty() { "" } else { "\r\n" });
    parse_request(text.as_bytes(), &LIMITS, Scheme::Http).unwrap().unwrap().head
}

fn view<'a>(head: &'a RequestHead, context: ContextView<'a>) -> RequestView<'a> {
    RequestView { head, direction: Direction::Outbound, context, random: 0 }
}

/// The cluster that a request goes to; `404` without a route, else the status of a direct answer.
fn target(decision: &Decision<'_>) -> String {
    match &decision.action {
        Action::Cluster(cluster) => cluster.name.to_string(),
        Action::Redirect(redirect) => redirect.status().to_string(),
        Action::Respond(respond) => respond.status().to_string(),
        Action::NotFound { .. } => "404".into(),
    }
}

fn goes(table: &Table, request: &str) -> String {
    goes_with(table, request, ContextView::default())
}

fn goes_with(table: &Table, request: &str, context: ContextView<'_>) -> String {
    let head = head(request);
    target(&table.find(&view(&head, context)))
}

/// A table with one route that matches so; whether it takes the request.
fn takes(matches: &Value, request: &str) -> bool {
    takes_with(matches, request, ContextView::default())
}

fn takes_with(matches: &Value, request: &str, context: ContextView<'_>) -> bool {
    let table = table(json!([{ "match": matches, "cluster": "c" }]));
    goes_with(&table, request, context) == "c"
}

#[test]
fn hosts() {
    for (pattern, host, want) in [
        ("shop.example", "shop.example", true),
        ("shop.example", "SHOP.Example:8080", true),
        ("Shop.Example", "shop.example", true),
        ("shop.example", "shop.example.", true),
        ("shop.example.", "shop.example", true),
        ("shop.example", "xshop.example", false),
        ("shop.example", "a.shop.example", false),
        ("*.example", "a.example", true),
        ("*.example", "A.B.EXAMPLE:1", true),
        ("*.example", "example", false),
        ("*.example", "aexample", false),
        ("*.example", ".example", false),
        ("*", "anything", true),
        ("[::1]", "[::1]:80", true),
        ("[::1]", "[::2]", false),
    ] {
        assert_eq!(
            takes(&json!({ "host": pattern }), &format!("GET /\nHost: {host}")),
            want,
            "{pattern} {host}"
        );
    }
}

#[test]
fn paths() {
    for (path, request, want) in [
        (json!({ "exact": "/a" }), "/a", true),
        (json!({ "exact": "/a" }), "/a?b=/c", true),
        (json!({ "exact": "/a" }), "/a/", false),
        (json!({ "exact": "/a" }), "/A", false),
        (json!({ "prefix": "/v1" }), "/v1", true),
        (json!({ "prefix": "/v1" }), "/v1/", true),
        (json!({ "prefix": "/v1" }), "/v1/x/y", true),
        (json!({ "prefix": "/v1" }), "/v10", false),
        (json!({ "prefix": "/v1" }), "/x/v1", false),
        (json!({ "prefix": "/v1/" }), "/v1", true),
        (json!({ "prefix": "/v1/" }), "/v10", false),
        (json!({ "prefix": "/" }), "/", true),
        (json!({ "prefix": "/" }), "/x", true),
        (json!({ "regex": "^/a/\\d+$" }), "/a/42", true),
        (json!({ "regex": "^/a/\\d+$" }), "/a/42/", false),
        (json!({ "regex": "b" }), "/abc", true),
    ] {
        assert_eq!(takes(&json!({ "path": path }), &format!("GET {request}")), want, "{path} {request}");
    }
    assert!(!takes(&json!({ "path": { "prefix": "/" } }), "OPTIONS *"));
    assert!(takes(&json!({}), "OPTIONS *"));
}

#[test]
fn methods() {
    for (methods, method, want) in [
        (json!("GET"), "GET", true),
        (json!("GET"), "HEAD", false),
        (json!(["GET", "POST"]), "POST", true),
        (json!("get"), "GET", false),
        (json!("BREW"), "BREW", true),
        (json!(["GET", "BREW"]), "BREWS", false),
    ] {
        assert_eq!(takes(&json!({ "method": methods }), &format!("{method} /")), want, "{methods} {method}");
    }
}

#[test]
fn headers() {
    for (test, fields, want) in [
        (json!("b"), "X-A: b", true),
        (json!("b"), "X-A: B", false),
        (json!("b"), "X-B: b", false),
        (json!({ "exact": "b" }), "X-A: c\nx-a: b", true),
        (json!({ "prefix": "ab" }), "X-A: abc", true),
        (json!({ "prefix": "ab" }), "X-A: a", false),
        (json!({ "regex": "^b+$" }), "X-A: bbb", true),
        (json!({ "regex": "^b+$" }), "X-A: abb", false),
        (json!({ "present": true }), "X-A:", true),
        (json!({ "present": true }), "X-B: 1", false),
        (json!({ "present": false }), "X-B: 1", true),
        (json!({ "present": false }), "X-A: 1", false),
    ] {
        assert_eq!(
            takes(&json!({ "headers": { "x-A": test } }), &format!("GET /\n{fields}")),
            want,
            "{test} {fields}"
        );
    }
    assert!(
        takes(&json!({ "headers": { "Content-Type": "a/b" } }), "GET /\ncontent-type: a/b"),
        "a known field"
    );
    assert!(!takes(&json!({ "headers": { "accept": { "present": true } } }), "GET /"), "a known field");
}

#[test]
fn query_parameters() {
    for (test, query, want) in [
        (json!("1"), "?a=1", true),
        (json!("1"), "?b=0&a=1", true),
        (json!("1"), "?a=2&a=1", false),
        (json!("x y"), "?a=x%20y", true),
        (json!("x y"), "?%61=x+y", true),
        (json!({ "prefix": "x/" }), "?a=x%2fy", true),
        (json!({ "regex": "^\\d$" }), "?a=7", true),
        (json!({ "present": true }), "?a", true),
        (json!({ "present": true }), "", false),
        (json!({ "present": false }), "?b=1", true),
        (json!({ "present": false }), "", true),
        (json!({ "present": false }), "?a=1", false),
    ] {
        assert_eq!(
            takes(&json!({ "query": { "a": test } }), &format!("GET /{query}")),
            want,
            "{test} {query}"
        );
    }
}

#[test]
fn context_fields() {
    let context = ContextView {
        license: b"gold",
        account_id: b"a1",
        user_id: b"u1",
        flags: b"beta, new-cart",
        request_type: RequestType::Trace,
    };
    for (wanted, want) in [
        (json!({ "license": "gold" }), true),
        (json!({ "license": ["silver", "gold"] }), true),
        (json!({ "license": "Gold" }), false),
        (json!({ "account_id": ["a1", "a2"] }), true),
        (json!({ "account_id": "a2" }), false),
        (json!({ "user_id": "u1", "account_id": "a1" }), true),
        (json!({ "user_id": "u1", "account_id": "a2" }), false),
        (json!({ "request_type": "TRACE" }), true),
        (json!({ "request_type": "STANDARD" }), false),
        (json!({ "flags": "beta" }), true),
        (json!({ "flags": ["new-cart", "beta"] }), true),
        (json!({ "flags": ["beta", "gamma"] }), false),
        (json!({ "flags": "bet" }), false),
    ] {
        assert_eq!(takes_with(&json!({ "context": wanted }), "GET /", context), want, "{wanted}");
    }
    for wanted in [json!({ "license": "gold" }), json!({ "account_id": "" }), json!({ "flags": "beta" })] {
        assert!(!takes(&json!({ "context": wanted }), "GET /"), "{wanted}: a request without context");
    }
    assert!(takes(&json!({ "context": { "request_type": "STANDARD" } }), "GET /"));
}

#[test]
fn the_first_match_wins_wherever_the_index_finds_it() {
    let table = table(json!([
        { "match": { "path": { "regex": "^/first" } }, "cluster": "regex" },
        { "match": { "host": "shop.example", "path": { "exact": "/a" }, "method": "POST" }, "cluster": "post" },
        { "match": { "host": "*.example", "path": { "prefix": "/a" } }, "cluster": "wildcard" },
        { "match": { "host": "shop.example", "path": { "exact": "/a" } }, "cluster": "shadowed" },
        { "match": { "context": { "account_id": "a1" } }, "cluster": "account" },
        { "match": { "path": { "prefix": "/a/b" } }, "cluster": "deep" },
        { "cluster": "all" },
        { "match": { "path": { "exact": "/never" } }, "cluster": "never" },
    ]));
    let account = ContextView { account_id: b"a1", ..ContextView::default() };
    assert_eq!(goes(&table, "GET /first"), "regex");
    assert_eq!(goes(&table, "POST /a"), "post");
    assert_eq!(goes(&table, "GET /a"), "wildcard");
    assert_eq!(goes(&table, "GET /a/b\nHost: other"), "deep");
    assert_eq!(goes_with(&table, "GET /a/b\nHost: other", account), "account");
    assert_eq!(goes(&table, "GET /never"), "all");
}

#[test]
fn more_lists_than_fit_the_stack_are_merged_all_the_same() {
    let deep: Vec<String> = (1..40).map(|depth| "/a".repeat(depth)).collect();
    let list: Vec<Value> = deep
        .iter()
        .map(|path| json!({ "match": { "path": { "prefix": path }, "method": "POST" }, "cluster": "no" }))
        .chain([json!({ "match": { "path": { "prefix": "/a" } }, "cluster": "yes" })])
        .collect();
    let table = table(Value::Array(list));
    assert_eq!(goes(&table, &format!("GET {}", deep.last().unwrap())), "yes");
    let head = head(&format!("GET {}", deep.last().unwrap()));
    assert_eq!(table.explain(&view(&head, ContextView::default())).considered.len(), 39);
}

#[test]
fn many_patterns_keep_their_order() {
    let mut list: Vec<Value> = (0..50)
        .map(|n| json!({ "match": { "path": { "regex": format!("^/{n}\\d*$") } }, "cluster": format!("c{n}") }))
        .collect();
    list.insert(25, json!({ "match": { "path": { "exact": "/49" } }, "cluster": "exact" }));
    let table = table(Value::Array(list));
    assert_eq!(goes(&table, "GET /17"), "c1");
    assert_eq!(goes(&table, "GET /49"), "c4");
    assert_eq!(goes(&table, "GET /x"), "404");
    assert_eq!(goes(&table, "GET /0"), "c0");
}

#[test]
fn a_crowd_under_one_path_is_found_by_its_account() {
    let list = (0..2000).map(|n| {
        json!({ "match": { "path": { "prefix": "/api" }, "context": { "account_id": format!("a{n}") } }, "cluster": format!("c{n}") })
    });
    let table = table(list.collect());
    let context = ContextView { account_id: b"a1234", ..ContextView::default() };
    assert_eq!(goes_with(&table, "GET /api/x", context), "c1234");
    assert_eq!(goes_with(&table, "GET /other", context), "404");
}

#[test]
fn outbound_without_a_route_the_host_names_the_cluster() {
    let clusters = ["payments", "Inventory", "search"].map(cluster).to_vec();
    let table = compile(json!([]), Fallback::ClusterByHost(clusters)).unwrap();
    for (host, want) in [
        ("payments", "payments"),
        ("PAYMENTS:8080", "payments"),
        ("inventory", "Inventory"),
        ("payments.ns.svc", "404"),
        ("paymets", "404"),
    ] {
        assert_eq!(goes(&table, &format!("GET /\nHost: {host}")), want, "{host}");
    }
    for (host, hint) in [("paymets", "payments"), ("payments.ns.svc", "payments"), ("zzz", "")] {
        let head = head(&format!("GET /\nHost: {host}"));
        let Action::NotFound { hint: found } = table.find(&view(&head, ContextView::default())).action else {
            panic!("{host} is no cluster");
        };
        assert_eq!(found, hint, "{host}");
    }
    let head = head("GET /\nHost: payments");
    let decision = table.find(&view(&head, ContextView::default()));
    let policy = decision.policy.unwrap();
    assert_eq!((&*policy.name, policy.timeout), ("payments", Some(Duration::from_secs(15))));
    assert!(
        policy.retry.on.connect_failure && policy.retry.on.refused_stream && policy.retry.retries_max == 2
    );
}

#[test]
fn inbound_without_a_route_or_an_action_it_goes_to_the_app() {
    let list = json!([{ "name": "slow", "match": { "path": { "prefix": "/slow" } }, "timeout": { "request": "60s" } }]);
    let table = compile(list, Fallback::App(cluster("app"))).unwrap();
    for (path, name, seconds) in [("/slow/x", "slow", 60), ("/x", "app", 15)] {
        let head = head(&format!("GET {path}"));
        let decision = table.find(&view(&head, ContextView::default()));
        let policy = decision.policy.unwrap();
        assert_eq!(target(&decision), "app");
        assert_eq!((&*policy.name, policy.timeout), (name, Some(Duration::from_secs(seconds))));
    }
}

#[test]
fn policies_say_what_the_route_says() {
    let table = table(json!([
        { "match": { "path": { "prefix": "/v1/" } }, "cluster": "c", "timeout": { "request": "none", "per_try": "2s" },
          "retry": { "limit": 5, "on": ["reset", "gateway_error"] } },
    ]));
    let head = head("GET /v1/x");
    let decision = table.find(&view(&head, ContextView::default()));
    let policy = decision.policy.unwrap();
    assert_eq!((&*policy.name, policy.pattern.as_deref()), ("route-0", Some("/v1/*")));
    assert_eq!((policy.timeout, policy.per_try_timeout), (None, Some(Duration::from_secs(2))));
    assert_eq!(policy.retry.retries_max, 5);
    assert!(policy.retry.on.reset && policy.retry.on.gateway_error && !policy.retry.on.connect_failure);
}

#[test]
fn every_problem_is_told_at_once_with_its_route() {
    let bad = json!([
        { "name": "none" },
        { "name": "two", "cluster": "c", "respond": {} },
        { "cluster": "missing" },
        { "name": "split", "split": [{ "cluster": "c", "weight": 0 }] },
        { "name": "sticky", "cluster": "c", "sticky": "account_id" },
        { "name": "pattern", "match": { "path": { "regex": "(" } }, "cluster": "c" },
        { "name": "path", "match": { "path": { "exact": "a" } }, "cluster": "c" },
        { "name": "dots", "match": { "path": { "prefix": "/a/../b" } }, "cluster": "c" },
        { "name": "port", "match": { "host": "a:80" }, "cluster": "c" },
        { "name": "star", "match": { "host": "a*.b" }, "cluster": "c" },
        { "name": "header", "match": { "headers": { "host": "a" } }, "cluster": "c" },
        { "name": "prefix", "rewrite": { "prefix": "/x" }, "cluster": "c" },
        { "name": "both", "rewrite": { "path": "/x", "regex": { "pattern": "a", "substitution": "b" } }, "cluster": "c" },
        { "name": "context", "headers": { "request": { "set": { "X-Account-Id": "a" } } }, "cluster": "c" },
        { "name": "framing", "headers": { "response": { "remove": ["Content-Length"] } }, "cluster": "c" },
        { "name": "hop", "headers": { "request": { "append": { "connection": "x" } } }, "cluster": "c" },
        { "name": "hosts", "headers": { "request": { "set": { "host": "x" } } }, "cluster": "c" },
        { "name": "value", "headers": { "request": { "set": { "x": "a\r\nb: c" } } }, "cluster": "c" },
        { "name": "status", "redirect": { "status": 305 } },
        { "name": "location", "redirect": { "host": "a/b" } },
        { "name": "answer", "respond": { "status": 204, "body": "x" } },
    ]);
    let error = compile(bad, Fallback::None).unwrap_err();
    let named: Vec<&str> = error.problems.iter().map(|problem| problem.route.as_str()).collect();
    assert_eq!(
        named,
        [
            "none", "two", "route-2", "split", "sticky", "pattern", "path", "dots", "port", "star", "header",
            "prefix", "both", "context", "framing", "hop", "hosts", "value", "status", "location", "answer",
        ]
    );
    assert!(error.to_string().contains("route `route-2`: there is no cluster `missing`"), "{error}");
    let twins = Fallback::ClusterByHost(vec![cluster("a"), cluster("A")]);
    assert!(compile(json!([]), twins).is_err());
}
