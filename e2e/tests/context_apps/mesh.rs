//! An application between sidecars, and calls with a context that nobody else has.
//!
//! Whom a call serves is in its path: an application that serves `/call/7` asks for `/seen/7`. So the events alone tell
//! whether a parent is the true one.

use crate::seen::Seen;
use e2e::{App, RawClient, Request, Response, Setup, Sidelight, StrictBackend};
use serde_json::{Value, json};
use std::ops::RangeInclusive;
use std::thread;

/// Members of others, which go on byte for byte.
pub const TRACESTATE: &str = "vendor=a1,tenant@other=2:3";

/// Callers at once, where there are many.
pub const CALLERS: usize = 50;

/// What each of them asks for, one after the other.
pub const CALLS: usize = 10;

/// Routes of the application's sidecar that tell whose context a call was given.
pub const ROUTES: &str = "routes:
  - { name: tracer, match: { host: next, context: { request_type: TRACE } }, cluster: next }
  - { name: gold, match: { host: next, context: { license: gold } }, cluster: next }
  - { name: anybody, match: { host: next }, cluster: next }";

pub struct Mesh {
    pub proxy: Sidelight,
    pub next_proxy: Sidelight,
    pub next: StrictBackend,
    pub app: App,
}

impl Mesh {
    /// `client → sidecar → e2e/apps/<script> → sidecar → sidecar of next → next`.
    pub fn around(script: &str, settings: &[(&str, &str)]) -> Mesh {
        let next = StrictBackend::start();
        let next_proxy = Sidelight::start(&Setup::app(next.address()));
        let at = App::reserve();
        let cluster = format!("next: {{ endpoints: [\"{}\"] }}", next_proxy.inbound());
        let setup = Setup::app(at.address()).section("clusters", &cluster).section("outbound", ROUTES);
        let proxy = Sidelight::start(&setup);
        let app = App::start(script, at, proxy.outbound(), settings);
        Mesh { proxy, next_proxy, next, app }
    }

    /// One whole exchange with the application's sidecar.
    pub fn ask(&self, request: String) -> Response {
        let answer = RawClient::connect(self.proxy.inbound()).ask(&request);
        let answer = answer.unwrap_or_else(|fault| panic!("{fault}, after {request}"));
        assert_eq!(answer.status, 200, "{} after {request}", answer.text());
        answer
    }

    /// What `next` received, and the three events, of call `number`, the only one that is under way.
    pub fn follow(&self, number: usize) -> Hop {
        self.ask(request(number, "", &id(number)));
        let mut received = self.next.take_after(1);
        assert!(received.violations.is_empty(), "{:?}", received.violations);
        let event = |proxy: &Sidelight, what: &str, direction: &str, path: String| {
            proxy.events().find(&format!("the {what} event of call {number}"), |event| {
                event["sidelight.direction"] == direction && event["url.path"] == path.as_str()
            })
        };
        Hop {
            request: received.whole.remove(0),
            inbound: event(&self.proxy, "inbound", "inbound", format!("/call/{number}")),
            outbound: event(&self.proxy, "outbound", "outbound", format!("/seen/{number}")),
            next: event(&self.next_proxy, "next", "inbound", format!("/seen/{number}")),
        }
    }

    /// What became of `count` calls, once it is all written down.
    pub fn seen(&self, count: usize) -> Seen {
        Seen::of(self, count, count)
    }

    /// As many callers as that, each with as many calls one after the other.
    pub fn crowd(&self) -> Seen {
        thread::scope(|scope| {
            for caller in 0..CALLERS {
                scope.spawn(move || {
                    for number in (1 + caller * CALLS)..=((caller + 1) * CALLS) {
                        self.ask(request(number, "", &id(number)));
                    }
                });
            }
        });
        let all = CALLERS * CALLS;
        let seen = self.seen(all);
        let crowded = seen.outbound.values().filter(|call| seen.under_way(call) >= CALLERS / 5).count();
        assert!(crowded > all / 2, "only {crowded} calls of {all} were made while many were under way");
        seen
    }

    /// These calls, each made when all of them are being served, and answered when all were made. `id`: their request ids.
    pub fn overlap(&self, numbers: RangeInclusive<usize>, id: fn(usize) -> String) {
        let steps = |key: &str, step: &str| -> String {
            numbers.clone().map(|number| format!("&{key}={step}:{number}")).collect()
        };
        let query = format!("?{}{}", steps("after", "began"), steps("until", "called"));
        thread::scope(|scope| {
            for number in numbers.clone() {
                let request = request(number, &query, &id(number));
                scope.spawn(move || self.ask(request));
            }
        });
    }
}

/// One call on its way.
pub struct Hop {
    pub request: Request,
    pub inbound: Value,
    pub outbound: Value,
    pub next: Value,
}

impl Hop {
    /// The trace and who it is for came through, with nothing of anybody else's.
    pub fn crossed(&self, name: &str, number: usize) {
        for event in [&self.inbound, &self.outbound, &self.next] {
            assert_eq!(event["trace_id"], trace(number), "{name}: {event}");
            has_context(event, number, name);
        }
        assert_eq!(self.next["parent_id"], self.outbound["span_id"], "{name}: {}", self.next);
        assert_eq!(self.outbound["sidelight.route"], route_of(number), "{name}: {}", self.outbound);
        carries_context(&self.request, number, name);
    }

    /// The request id came through.
    pub fn kept_its_id(&self, name: &str, number: usize) {
        assert_eq!(self.outbound["request_id"], id(number), "{name}");
        assert_eq!(self.request.fields.get("x-request-id"), Some(id(number).as_str()), "{name}");
    }

    /// The call's parent is the exchange that it served, and this is how that is known.
    pub fn is_child(&self, name: &str, source: &str) {
        assert_eq!(self.outbound["parent_id"], self.inbound["span_id"], "{name}: {}", self.outbound);
        assert_eq!(self.outbound["sidelight.parent.source"], source, "{name}: {}", self.outbound);
    }
}

/// An event is for whom call `number` is.
pub fn has_context(event: &Value, number: usize, name: &str) {
    assert_eq!(event["account_id"], format!("account-{number}"), "{name}: {event}");
    assert_eq!(event["user_id"], format!("user-{number}"), "{name}: {event}");
    assert_eq!(event["license"], "gold", "{name}: {event}");
    assert_eq!(event["request_type"], type_of(number), "{name}: {event}");
    assert_eq!(event["flags"], json!(["a", "b"]), "{name}: {event}");
}

/// A request that was sent on is for whom call `number` is, and others' members of its carriers are as they were.
pub fn carries_context(request: &Request, number: usize, name: &str) {
    let fields = &request.fields;
    let traceparent = fields.get("traceparent").unwrap_or_default();
    assert!(traceparent.starts_with(&format!("00-{}-", trace(number))), "{name}: {traceparent}");
    let tracestate = fields.get("tracestate").unwrap_or_default();
    assert!(tracestate.ends_with(TRACESTATE), "{name}: {tracestate}");
    for (header, value) in [
        ("x-user-id", format!("user-{number}")),
        ("x-account-id", format!("account-{number}")),
        ("x-license", "gold".into()),
        ("x-request-type", type_of(number).into()),
        ("x-feature-flags", "a,b".into()),
    ] {
        assert_eq!(fields.get(header), Some(value.as_str()), "{name}: {header}");
    }
    let baggage = fields.list("baggage");
    assert!(baggage.iter().any(|member| member == "theirs=1"), "{name}: {baggage:?}");
    assert!(baggage.contains(&format!("account.id=account-{number}")), "{name}: {baggage:?}");
}

pub fn trace(number: usize) -> String {
    format!("0af7651916cd43dd8448eb21{number:08x}")
}

pub fn id(number: usize) -> String {
    format!("request-{number}")
}

/// Tracer bullets fly among the others.
pub fn type_of(number: usize) -> &'static str {
    if number % 2 == 1 { "TRACE" } else { "STANDARD" }
}

/// The route of [`ROUTES`] that a call with its context takes.
pub fn route_of(number: usize) -> &'static str {
    if number % 2 == 1 { "tracer" } else { "gold" }
}

/// `GET /call/<number>` with a context that nobody else has.
pub fn request(number: usize, query: &str, id: &str) -> String {
    format!(
        "GET /call/{number}{query} HTTP/1.1\r\nHost: app.example\r\ntraceparent: 00-{}-b7ad6b7169203331-01\r\n\
         tracestate: {TRACESTATE}\r\nbaggage: theirs=1\r\nx-request-id: {id}\r\nx-user-id: user-{number}\r\n\
         x-account-id: account-{number}\r\nx-license: gold\r\nx-request-type: {}\r\nx-feature-flags: a,b\r\n\r\n",
        trace(number),
        type_of(number)
    )
}
