//! Hedges, breakers, rate limits and mirrors of a route: what is written against what requests read.

use super::*;
use crate::exchange::{Hedge, Policy};
use crate::quota::{Limits, Part, Rate};

fn policy(table: &Table) -> Arc<Policy> {
    let head = head("GET /");
    Arc::clone(table.find(&view(&head, ContextView::default())).policy.unwrap())
}

fn policy_of(route: Value) -> Arc<Policy> {
    policy(&table(json!([route])))
}

fn problems(route: Value) -> Vec<String> {
    let error = compile(json!([route]), Fallback::None).unwrap_err();
    error.problems.into_iter().map(|problem| problem.what).collect()
}

#[test]
fn hedges() {
    let hedge = |hedge: Value| policy_of(json!({ "cluster": "c", "hedge": hedge })).hedge;
    let ms = Duration::from_millis;
    assert_eq!(hedge(Value::Null), None);
    assert_eq!(hedge(json!({})), Some(Hedge { quantile: Some(950), time: ms(1) }));
    assert_eq!(
        hedge(json!({ "after": "p99.9", "min": "5ms" })),
        Some(Hedge { quantile: Some(999), time: ms(5) })
    );
    assert_eq!(hedge(json!({ "after": "30ms" })), Some(Hedge { quantile: None, time: ms(30) }));
    let both = json!({ "cluster": "c", "hedge": { "after": "0s" } });
    assert_eq!(problems(both), ["`hedge.after: 0s` would send every request twice"]);
}

#[test]
fn breakers() {
    assert!(policy_of(json!({ "cluster": "c" })).breakers.is_none());
    let config = json!({ "requests": 7, "requests_per_account": 2, "breaker": {} });
    let policy = policy_of(json!({ "name": "r", "cluster": "c", "circuit_breaker": config }));
    let breakers = policy.breakers.as_ref().unwrap();
    assert_eq!((breakers.scope, &*breakers.name, breakers.requests.limit), ("route", "r", 7));
    assert_eq!(
        (breakers.connections.limit, breakers.retries.limit),
        (u64::MAX, u64::MAX),
        "not a route's matter"
    );
}

#[test]
fn mirrors() {
    let mirror = |mirror: Value| policy_of(json!({ "cluster": "c", "mirror": mirror })).mirror.clone();
    let all = mirror(json!({ "cluster": "m" })).unwrap();
    assert_eq!((&*all.cluster.name, all.millionths, all.requests_max), ("m", 1_000_000, 64));
    assert_eq!(all.timeout, Duration::from_secs(5));
    for (percent, millionths) in [(12.5, 125_000), (0.0001, 1), (0.000_000_1, 1), (100.0, 1_000_000)] {
        let some = mirror(json!({ "cluster": "m", "percent": percent, "requests_max": 3, "timeout": "1s" }))
            .unwrap();
        assert_eq!(
            (some.millionths, some.requests_max, some.timeout),
            (millionths, 3, Duration::from_secs(1))
        );
    }
    assert!(mirror(json!({ "cluster": "m", "percent": 0.0 })).is_none());
    assert_eq!(
        problems(json!({ "cluster": "c", "mirror": { "cluster": "missing", "percent": 101.0 } })),
        ["`mirror`: there is no cluster `missing`", "`mirror.percent: 101` is not from 0 to 100"]
    );
}

#[test]
fn rate_limits() {
    let route = json!({ "cluster": "c", "rate_limit": [
        { "requests": 5, "per": "1m" },
        { "name": "mine", "key": ["license", { "header": "X-Tenant" }], "requests": 10, "burst": 20, "keys_max": 7,
          "headers": true, "overrides": { "gold": { "requests": 100 }, "free": { "requests": 1, "burst": 3 } } },
        { "key": ["account_id", "path"] },
        { "key": ["account_id", "path"], "per": "1h" },
    ] });
    let policy = policy_of(route);
    let names: Vec<&str> = policy.rate_limits.iter().map(|limit| &*limit.name).collect();
    assert_eq!(names, ["all", "mine", "account_id+path", "account_id+path-2"]);
    let minute = policy.rate_limits[0].settings();
    assert_eq!(minute.rate, Rate { requests: 5, per: Duration::from_secs(60), burst: 5 });
    assert!(minute.key.is_empty() && !minute.has_headers);
    let mine = policy.rate_limits[1].settings();
    let rate = |requests, burst| Rate { requests, per: Duration::from_secs(1), burst };
    assert_eq!(mine.rate, rate(10, 20));
    assert_eq!(mine.key, [Part::License, Part::Header { name: (*b"x-tenant").into(), known: None }]);
    let overrides: Vec<(&[u8], Rate)> =
        mine.overrides.iter().map(|(value, rate)| (&**value, *rate)).collect();
    assert_eq!(overrides, [(&b"free"[..], rate(1, 3)), (b"gold", rate(100, 100))]);
    assert_eq!((mine.keys_max, mine.has_headers), (7, true));
}

#[test]
fn rate_limits_that_cannot_work_are_refused() {
    for (limit, what) in [
        (json!({ "requests": 0 }), "rate limit `all`: `requests`, `burst` and `per` are above zero"),
        (json!({ "burst": 0 }), "rate limit `all`: `requests`, `burst` and `per` are above zero"),
        (json!({ "per": "0s" }), "rate limit `all`: `requests`, `burst` and `per` are above zero"),
        (json!({ "keys_max": 0 }), "rate limit `all`: `keys_max: 0` leaves no bucket"),
        (
            json!({ "requests": 1, "per": "10000h", "burst": 1_000_000 }),
            "rate limit `all`: more than one request in a nanosecond, or a `burst` that takes more than a century",
        ),
        (json!({ "overrides": { "a": { "requests": 1 } } }), "rate limit `all`: `overrides` needs a `key`"),
        (
            json!({ "key": ["account_id"], "overrides": { "a": { "requests": 0 } } }),
            "rate limit `account_id`: `requests`, `burst` and `per` are above zero",
        ),
        (
            json!({ "key": ["source_address"], "overrides": { "10.0.0.0/8": { "requests": 1 } } }),
            "rate limit `source_address`: `overrides.10.0.0.0/8` is no source_address",
        ),
        (
            json!({ "key": ["request_type"], "overrides": { "TEST": { "requests": 1 } } }),
            "rate limit `request_type`: `overrides.TEST` is no request_type",
        ),
        (
            json!({ "name": "für alle" }),
            "rate limit `für alle`: a name that stands in header fields is in ASCII",
        ),
        (
            json!({ "key": [{ "header": "a b" }] }),
            "rate limit `header.a b`: `key.header: a b` is not a field name",
        ),
        (
            json!({ "key": [{ "header": "X-Account-Id" }] }),
            "rate limit `header.x-account-id`: `key.header: X-Account-Id`: write `account_id`",
        ),
    ] {
        assert_eq!(problems(json!({ "cluster": "c", "rate_limit": [limit] })), [what]);
    }
    let twins = json!({ "cluster": "c", "rate_limit": [{ "name": "a" }, { "name": "a" }] });
    assert_eq!(problems(twins), ["two rate limits are named `a`"]);
    let many: Vec<Value> = (0..17).map(|_| json!({})).collect();
    assert_eq!(problems(json!({ "cluster": "c", "rate_limit": many })), ["it has more than 16 rate limits"]);
}

#[test]
fn a_new_table_goes_on_with_the_limits_of_the_old_one() {
    let limits = Limits::default();
    let list = |requests: u32| {
        json!([{ "name": "r", "cluster": "c", "circuit_breaker": { "requests": 1 },
                 "rate_limit": [{ "name": "kept" }, { "name": "changed", "requests": requests }] }])
    };
    let compiled = |list: Value| {
        let defaults = Defaults { request_timeout: None, fallback: Fallback::None };
        policy(&Table::compile_within(limits.of("outbound"), &routes(list), &any_cluster, defaults).unwrap())
    };
    let (old, new) = (compiled(list(1)), compiled(list(2)));
    assert!(Arc::ptr_eq(&old.rate_limits[0], &new.rate_limits[0]));
    assert!(!Arc::ptr_eq(&old.rate_limits[1], &new.rate_limits[1]));
    assert!(Arc::ptr_eq(old.breakers.as_ref().unwrap(), new.breakers.as_ref().unwrap()));
    let alone = policy(&table(list(1)));
    assert!(!Arc::ptr_eq(&old.rate_limits[0], &alone.rate_limits[0]), "a table of its own shares nothing");
}

#[test]
fn an_explanation_says_the_terms() {
    let list = json!([
        { "name": "r", "match": { "path": { "exact": "/a" } }, "cluster": "c",
          "timeout": { "idle": "none", "stream": "1m" },
          "retry": { "limit": 1, "on": ["5xx", "unavailable", "retriable_4xx"], "statuses": [425], "idempotent": true },
          "hedge": {}, "mirror": { "cluster": "m", "percent": 0.5 },
          "circuit_breaker": { "requests": 5, "requests_per_account": 2, "breaker": {} },
          "rate_limit": [{ "key": ["license"], "overrides": { "gold": { "requests": 1000 } } }, { "key": ["source_address"] }] },
        { "name": "moved", "redirect": { "scheme": "https" }, "rate_limit": [{ "requests": 1, "per": "1m" }] },
        { "name": "never", "cluster": "c", "retry": { "limit": 0 } },
    ]);
    let table = table(list);
    let context = ContextView { license: b"gold", ..ContextView::default() };
    let to_a = head("GET /a");
    let explanation = table.explain(&view(&to_a, context));
    assert_eq!(
        explanation.to_string(),
        "outbound GET shop.example/a\n  \
         yes  r\n\
         cluster    c\n\
         endpoints  127.0.0.1:8080\n\
         balance    peak_ewma\n\
         caps       connections 0 of 1024, pending 0 of 1024, requests 0 of 1024\n\
         timeout    15s\n\
         idle       none\n\
         stream     1m\n\
         retries    1 on 5xx, retriable_4xx, unavailable, 425, whatever the method is\n\
         backoff    25ms, at most 250ms\n\
         hedge      after p95 of the cluster's latency, at least 1ms\n\
         mirror     0.5 % to m, 64 at once\n\
         rate limit license: 1000 in 1s, 1000 at once; 1000 left\n\
         rate limit source_address: 100 in 1s, 100 at once\n\
         route caps requests 0 of 5, requests_per_account 0 of 2, breaker closed\n"
    );
    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["timeout"], "15s", "terms are part of the explanation, not below it");
    assert_eq!(json["rate_limits"][0]["left"], 1000);
    assert_eq!(
        json["verdict"]["cluster"]["caps"][2],
        json!({ "what": "requests", "limit": 1024, "active": 0, "state": "closed" })
    );
    let to_b = head("GET /b");
    let text = table.explain(&view(&to_b, context)).to_string();
    assert!(
        text.ends_with(
            "redirect   301 to https://shop.example/b\nrate limit all: 1 in 1m, 1 at once; 1 left\n"
        ),
        "{text}"
    );
}
