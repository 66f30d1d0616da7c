//! What became of many calls, and whether each was given what is its own and nothing else.

use crate::mesh::{Mesh, carries_context, has_context, route_of, trace};
use e2e::{Request, Sidelight, wait_for};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// The most candidates for a parent that an event names.
pub const LINKS_MAX: usize = 8;

/// What became of many calls, by their numbers.
pub struct Seen {
    /// What `next` received.
    pub requests: HashMap<usize, Request>,
    /// The events of the application's sidecar.
    pub inbound: HashMap<usize, Value>,
    pub outbound: HashMap<usize, Value>,
}

impl Seen {
    /// Once as many requests to the application, and as many calls, are whole and written down.
    pub fn of(mesh: &Mesh, requests: usize, calls: usize) -> Seen {
        let received = mesh.next.take_after(calls);
        assert!(received.violations.is_empty(), "{:?}", received.violations);
        let by_number = received.whole.into_iter().map(|request| (last_number(request.path()), request));
        Seen {
            requests: by_number.collect(),
            inbound: events(&mesh.proxy, "inbound", requests),
            outbound: events(&mesh.proxy, "outbound", calls),
        }
    }

    /// The call was given the context of the request that it serves, all of it and on the wire too.
    pub fn is_given(&self, number: usize, source: &str) {
        let (own, call) = (&self.inbound[&number], &self.outbound[&number]);
        assert_eq!(call["sidelight.parent.source"], source, "call {number}: {call}");
        assert_eq!(call["trace_id"], trace(number), "call {number}: {call}");
        assert_eq!(call["parent_id"], own["span_id"], "call {number}: {call}");
        assert_eq!(call["request_id"], own["request_id"], "call {number}: {call}");
        has_context(call, number, "call");
        assert_eq!(call["sidelight.route"], route_of(number), "call {number}: {call}");
        assert!(call.get("sidelight.links").is_none(), "call {number}: {call}");
        carries_context(&self.requests[&number], number, "call");
    }

    /// Nothing of anybody was given to the call: no parent, no context, no route that wants one. Gives the candidates that
    /// its event names, each of which is a request that was served.
    pub fn is_lost(&self, number: usize) -> HashSet<String> {
        let call = &self.outbound[&number];
        assert_eq!(call["sidelight.parent.source"], "lost", "call {number}: {call}");
        assert!(call.get("parent_id").is_none(), "call {number}: {call}");
        let is_new = self.inbound.values().all(|other| other["trace_id"] != call["trace_id"]);
        assert!(is_new, "call {number} is in the trace of a request that may be another's: {call}");
        for field in ["account_id", "user_id", "license", "flags"] {
            assert!(call.get(field).is_none(), "call {number} has a {field} from somewhere: {call}");
        }
        assert_eq!(call["request_type"], "STANDARD", "call {number}: {call}");
        assert_eq!(call["sidelight.route"], "anybody", "call {number}: {call}");
        let fields = &self.requests[&number].fields;
        for header in
            ["x-account-id", "x-user-id", "x-license", "x-request-type", "x-feature-flags", "baggage"]
        {
            assert!(!fields.has(header), "call {number} was sent with {header}: {:?}", fields.get(header));
        }
        assert!(!fields.has("tracestate"), "call {number}: {:?}", fields.get("tracestate"));
        let sent = fields.get("traceparent").and_then(|sent| sent.split('-').nth(1)).unwrap_or_default();
        assert_eq!(call["trace_id"], sent, "call {number}");

        let links = call["sidelight.links"].as_array().unwrap_or_else(|| panic!("no links: {call}"));
        let named: HashSet<String> = links.iter().map(span).collect();
        assert_eq!(named.len(), links.len(), "call {number}: a candidate is named twice: {call}");
        assert!((1..=LINKS_MAX).contains(&named.len()), "call {number}: {call}");
        let served = self.spans_of(self.inbound.keys().copied());
        assert!(named.is_subset(&served), "call {number}: a candidate that nobody ever was: {call}");
        named
    }

    /// The call has an id of its own, for it was told none.
    pub fn has_new_request_id(&self, number: usize) {
        let call = &self.outbound[&number];
        let is_new = self.inbound.values().all(|other| other["request_id"] != call["request_id"]);
        assert!(is_new && call["request_id"].is_string(), "call {number}: {call}");
    }

    /// The spans of the requests with these numbers, as links name them.
    pub fn spans_of(&self, numbers: impl Iterator<Item = usize>) -> HashSet<String> {
        numbers.map(|number| span(&self.inbound[&number])).collect()
    }

    /// How many requests were being served when a call began.
    pub fn under_way(&self, call: &Value) -> usize {
        let (at, _) = times(call);
        self.inbound.values().map(times).filter(|(begin, end)| (*begin..*end).contains(&at)).count()
    }
}

/// Every event of a direction of a sidecar, by the number of its call, once there are as many.
pub fn events(proxy: &Sidelight, direction: &str, count: usize) -> HashMap<usize, Value> {
    wait_for(&format!("{count} {direction} events"), || {
        let events = proxy.events().exchanges();
        let of = events.into_iter().filter(|event| event["sidelight.direction"] == direction);
        let by_number = of.map(|event| (last_number(event["url.path"].as_str().unwrap_or_default()), event));
        Some(by_number.collect::<HashMap<_, _>>()).filter(|events| events.len() >= count)
    })
}

fn last_number(path: &str) -> usize {
    let number = path.rsplit('/').next().and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("no number in {path}"))
}

/// Trace and span of an event or a link.
pub fn span(of: &Value) -> String {
    let text = |name: &str| of[name].as_str().unwrap_or_else(|| panic!("no {name}: {of}")).to_owned();
    format!("{}-{}", text("trace_id"), text("span_id"))
}

/// Seconds since midnight, when an event's exchange began, and when it ended.
fn times(event: &Value) -> (f64, f64) {
    let text = event["timestamp"].as_str().unwrap_or_default();
    let part = |from: usize, to: usize| text.get(from..to).and_then(|digits| digits.parse::<f64>().ok());
    let begin = part(11, 13).zip(part(14, 16)).zip(part(17, 26)).map(|((h, m), s)| h * 3600.0 + m * 60.0 + s);
    let begin = begin.unwrap_or_else(|| panic!("no time: {event}"));
    (begin, begin + event["sidelight.duration_ms"].as_f64().unwrap_or_default() / 1000.0)
}
