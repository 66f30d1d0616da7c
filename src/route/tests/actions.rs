//! What is done with a request once its route is known, and how that is explained.

use super::*;
use std::collections::BTreeMap;

fn split(sticky: Value) -> Table {
    let arms = json!([{ "cluster": "a", "weight": 90 }, { "cluster": "none", "weight": 0 }, { "cluster": "b", "weight": 10 }]);
    table(json!([{ "split": arms, "sticky": sticky }]))
}

#[test]
fn a_split_gives_each_arm_its_share() {
    let table = split(Value::Null);
    let head = head("GET /");
    let mut counts = BTreeMap::new();
    for step in 0..1000u128 {
        let random = (step << 64).div_ceil(1000) as u64; // evenly over all numbers
        let request = RequestView { random, ..view(&head, ContextView::default()) };
        *counts.entry(target(&table.find(&request))).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([("a".to_owned(), 900), ("b".to_owned(), 100)]));
}

#[test]
fn a_sticky_split_gives_an_account_the_same_arm_each_time() {
    let table = split(json!("account_id"));
    let head = head("GET /");
    let mut on_b = 0;
    for number in 0..10_000 {
        let account = format!("account-{number}");
        let context = ContextView { account_id: account.as_bytes(), ..ContextView::default() };
        let at = |random| target(&table.find(&RequestView { random, ..view(&head, context) }));
        let arm = at(0);
        assert_eq!(at(u64::MAX), arm, "{account}");
        on_b += usize::from(arm == "b");
    }
    assert_eq!(on_b, 988, "a tenth of 10,000, as this hash spreads these names");
    let at = |random| target(&table.find(&RequestView { random, ..view(&head, ContextView::default()) }));
    assert_eq!((at(0), at(u64::MAX)), ("a".to_owned(), "b".to_owned()), "without an account: at random");
}

#[test]
fn redirections_keep_what_is_not_replaced() {
    for (redirect, request, location) in [
        (json!({ "scheme": "https" }), "GET /a?b=c\nHost: shop.example:8080", "https://shop.example/a?b=c"),
        (json!({ "host": "new.example" }), "GET /a", "http://new.example/a"),
        (json!({ "host": "new.example:8443", "scheme": "https" }), "GET /?q", "https://new.example:8443/?q"),
        (json!({ "path": "/x" }), "GET /old/a?b\nHost: h:80", "http://h:80/x?b"),
        (json!({ "prefix": "/new" }), "GET /old/a", "http://shop.example/new/a"),
        (json!({ "prefix": "/new/" }), "GET /old", "http://shop.example/new"),
        (json!({ "prefix": "/" }), "GET /old", "http://shop.example/"),
        (json!({ "prefix": "/" }), "GET /old/a/", "http://shop.example/a/"),
        (json!({ "host": "[::1]:1" }), "GET /old", "http://[::1]:1/old"),
    ] {
        let matches = if redirect.get("prefix").is_some() {
            json!({ "path": { "prefix": "/old" } })
        } else {
            json!({})
        };
        let table = table(json!([{ "match": matches, "redirect": redirect }]));
        let head = head(request);
        let request = view(&head, ContextView::default());
        let Action::Redirect(found) = table.find(&request).action else {
            panic!("{redirect} is a redirection")
        };
        assert_eq!(String::from_utf8(found.location(&request)).unwrap(), location, "{redirect}");
        assert_eq!(found.answer(&request).head.status, 301);
    }
}

#[test]
fn an_explanation_says_why_each_route_did_not_match() {
    let list = json!([
        { "name": "host", "match": { "host": "other.example" }, "cluster": "c" },
        { "name": "path", "match": { "path": { "prefix": "/v1" } }, "cluster": "c" },
        { "name": "method", "match": { "path": { "exact": "/v2" }, "method": ["POST", "BREW"] }, "cluster": "c" },
        { "name": "header", "match": { "headers": { "x-a": { "prefix": "b" } } }, "cluster": "c" },
        { "name": "account", "match": { "context": { "account_id": ["a1", "a2"] } }, "cluster": "c" },
        { "name": "flag", "match": { "context": { "flags": "beta" } }, "cluster": "c" },
        { "name": "split", "split": [{ "cluster": "x", "weight": 9 }, { "cluster": "y", "weight": 1 }], "sticky": "license",
          "timeout": { "per_try": "2s" } },
        { "name": "later", "cluster": "c" },
    ]);
    let table = table(list);
    let head = head("GET /v2\nX-A: 1");
    let context = ContextView { account_id: b"a9", ..ContextView::default() };
    let explanation = table.explain(&view(&head, context));
    let text = explanation.to_string();
    assert_eq!(
        text,
        "outbound GET shop.example/v2\n  \
         no   host: host is `shop.example`, wanted `other.example`\n  \
         no   path: path is `/v2`, wanted `/v1/` or below\n  \
         no   method: method is GET, wanted POST or BREW\n  \
         no   header: headers.x-a is `1`, wanted a value that starts with `b`\n  \
         no   account: context.account_id is `a9`, wanted `a1` or `a2`\n  \
         no   flag: context.flags is none, wanted `beta`\n  \
         yes  split\n\
         cluster    x (at random, there is no license of x 9 : y 1)\n\
         endpoints  127.0.0.1:8080\n\
         balance    peak_ewma\n\
         caps       connections 0 of 1024, pending 0 of 1024, requests 0 of 1024\n\
         timeout    15s\n\
         per try    2s\n\
         retries    2 on connect_failure, refused_stream\n\
         backoff    25ms, at most 250ms\n"
    );
    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["considered"][4]["wanted"], "`a1` or `a2`");
    assert_eq!(json["verdict"]["cluster"]["name"], "x");
}

#[test]
fn an_explanation_is_short_however_many_routes_there_are() {
    let list = (0..500).map(|n| json!({ "match": { "path": { "exact": format!("/{n}") } }, "cluster": "c" }));
    let table = table(list.collect());
    let head = head("GET /x\nHost: nowhere");
    let explanation = table.explain(&view(&head, ContextView::default()));
    assert_eq!(
        (explanation.considered.len(), explanation.omitted, explanation.route.clone()),
        (50, 450, None)
    );
    assert_eq!(explanation.verdict, Verdict::NotFound { hint: String::new() });
    assert!(explanation.to_string().ends_with("  no   450 more\n  no route matches\nanswer     404\n"));
}
