//! `retry`, `hedge` and `timeout` of routes: settings that could multiply, that leave no time, or that never apply.

use std::collections::HashSet;
use std::time::Duration;

use super::{Check, is_empty, timeout};
use crate::config::nearest::listed;
use crate::config::node::{Entry, Node, Span, Value, excerpt};
use crate::limits;
use crate::route::config::{Backoff, Hedge, HedgeAfter, Retry, RetryOn, Timeouts};
use crate::units::{Timeout, duration_text};

/// More retries than this multiply over hops.
const RETRIES_MAX: u32 = 3;
/// Statuses of requests that are wrong: the same request gets the same answer.
const WRONG_REQUEST: [u16; 13] = [400, 401, 402, 403, 405, 406, 410, 411, 413, 414, 415, 422, 431];
/// Methods that are not idempotent (RFC 9110 §9.2.2, RFC 5789).
const NOT_IDEMPOTENT: [&str; 3] = ["POST", "PATCH", "CONNECT"];

impl<'a> Check<'a, '_> {
    /// The time for a whole exchange, and the key that says so; `None` where it is not valid.
    fn request_timeout(&self, route: &Node) -> Option<(Option<Duration>, &'static str)> {
        let own = route.at(&["timeout", "request"]);
        match timeout(own) {
            Some(time) => Some((time, "timeout.request")),
            None if own.is_some() => None,
            None => Some((self.default_timeout()?, "limits.request_timeout")),
        }
    }

    /// `limits.request_timeout`.
    pub(super) fn default_timeout(&self) -> Option<Option<Duration>> {
        match self.root.at(&["limits", "request_timeout"]) {
            Some(node) => timeout(Some(node)),
            None => Some(limits::Config::default().request_timeout),
        }
    }

    pub(super) fn times(&mut self, route: &Node) {
        let Some(node) = route.get("timeout") else { return };
        let stream = timeout(node.get("stream")).flatten();
        for key in ["request", "per_try", "idle"] {
            let time = node.get(key).and_then(|node| Some((node, timeout(Some(node))??)));
            if let (Some((place, time)), Some(stream)) = (time, stream)
                && time > stream
            {
                let message = format!(
                    "this is never reached: the exchange ends after `stream` ({})",
                    duration_text(stream)
                );
                self.warning(place.span, message, "make `stream` the longer one");
            }
        }
        let Some(per_try) = node.get("per_try") else { return };
        let Some((Some(whole), name)) = self.request_timeout(route) else { return };
        let Some(Some(one)) = timeout(Some(per_try)) else { return };
        if one > whole {
            let whole = duration_text(whole);
            let message = format!("one try may take longer than the whole request (`{name}`: {whole})");
            self.error(per_try.span, message, format!("write at most `{whole}`"));
        }
    }

    pub(super) fn retry(&mut self, route: &'a Node, direction: &str) {
        let Some(entry) = route.entry("retry") else { return };
        if !matches!(entry.value.value, Value::Map(_) | Value::Null) {
            return;
        }
        if entry.value.get("limit").is_none() {
            self.warning(entry.key_span, "`retry` has no `limit`: it is 2", "add `limit: 2`");
        }
        let Some(retry) = self.read::<Retry>(&entry.value) else { return };
        self.statuses(&entry.value, &retry);
        self.backoff(&entry.value, &retry.backoff);
        if retry.limit == 0 {
            return;
        }
        let empty = entry.value.get("on").filter(|on| is_empty(on) && retry.statuses.is_empty());
        if let Some(on) = empty {
            self.warning(on.span, "no failure is retried", "write `limit: 0`, or name failures in `on`");
        }
        self.never_sent_again(route, entry, "retried");
        self.conditions(route, &entry.value, &retry);
        self.multiplies(entry, &retry, direction);
        self.tries_fit(route, entry, &retry);
    }

    fn statuses(&mut self, node: &Node, retry: &Retry) {
        let covered = |status: u16| {
            let name = match status {
                502..=504 if retry.on.contains(&RetryOn::GatewayError) => "gateway_error",
                500..=599 if retry.on.contains(&RetryOn::ServerError) => "5xx",
                409 if retry.on.contains(&RetryOn::Retriable4xx) => "retriable_4xx",
                429 if retry.on.contains(&RetryOn::RateLimited) => "rate_limited",
                _ => return None,
            };
            Some(name)
        };
        let items = node.get("statuses").map_or(&[][..], Node::items);
        let mut seen = HashSet::new();
        for (item, status) in items.iter().zip(retry.statuses.iter().copied()) {
            if !(100..=599).contains(&status) {
                self.error(item.span, format!("{status} is not a status"), "write one from 400 to 599");
            } else if status < 400 {
                self.error(item.span, format!("{status} is no failure"), "write statuses from 400 to 599");
            } else if !seen.insert(status) {
                self.warning(item.span, format!("{status} is already in the list"), "remove it");
            } else if WRONG_REQUEST.contains(&status) {
                let message =
                    format!("{status} says that the request is wrong: the same request gets the same answer");
                self.warning(item.span, message, "remove it");
            } else if let Some(name) = covered(status) {
                self.warning(
                    item.span,
                    format!("{status} is retried already: `on` has `{name}`"),
                    "remove it",
                );
            }
        }
    }

    fn backoff(&mut self, node: &Node, backoff: &Backoff) {
        let Some(written) = node.get("backoff").filter(|_| backoff.base > backoff.max) else { return };
        let (base, max) = (duration_text(backoff.base), duration_text(backoff.max));
        let place = written.get("base").or(written.get("max")).map_or(written.span, |node| node.span);
        let message = format!("`base` ({base}) is above `max` ({max})");
        self.error(place, message, format!("write `max: {base}` or more, or a shorter `base`"));
    }

    /// Retries and hedges that no request or no budget allows.
    fn never_sent_again(&mut self, route: &'a Node, entry: &Entry, done: &str) {
        if route.at(&["match", "context", "request_type"]).and_then(Node::text) == Some("TRACE") {
            let message = format!("this route is for TRACE requests, which are never {done}");
            self.warning(entry.key_span, message, format!("remove `{}`", entry.key));
        }
        if let Some(cluster) = self.without_budget(route) {
            let message =
                format!("nothing is {done}: the `retry_budget` of cluster `{}` is 0", excerpt(&cluster.key));
            self.warning(entry.key_span, message, "write `retry_budget: { percent: 20 }`, or remove it");
        }
    }

    fn conditions(&mut self, route: &Node, node: &Node, retry: &Retry) {
        let items = node.get("on").map_or(&[][..], Node::items);
        let http1 = self.http1_cluster(route);
        for (index, (item, on)) in items.iter().zip(&retry.on).enumerate() {
            let name = item.text().unwrap_or_default();
            if retry.on.get(..index).is_some_and(|before| before.contains(on)) {
                self.warning(item.span, format!("`{name}` is already in the list"), "remove it");
            } else if let Some(cluster) = http1.filter(|_| is_grpc(*on)) {
                let message = format!(
                    "`{name}` is a gRPC status, and cluster `{}` speaks `http1`: it never happens",
                    excerpt(cluster)
                );
                self.warning(item.span, message, "write `protocol: http2` for the cluster, or remove it");
            }
        }
    }

    /// The route's cluster, if it speaks HTTP/1.1 only.
    fn http1_cluster(&self, route: &Node) -> Option<&'a str> {
        let cluster = self.root.get("clusters")?.entry(route.get("cluster")?.text()?)?;
        let is_http1 = cluster.value.get("protocol").and_then(Node::text) == Some("http1");
        is_http1.then_some(cluster.key.as_str())
    }

    /// Retries at several hops multiply: three hops with five tries each are 125 requests for one.
    fn multiplies(&mut self, entry: &Entry, retry: &Retry, direction: &str) {
        let tries = u64::from(retry.limit) + 1;
        if retry.limit > RETRIES_MAX {
            let place = entry.value.get("limit").map_or(entry.key_span, |node| node.span);
            let message = format!(
                "retries multiply over hops: {tries} tries at each of three hops are {} requests for one",
                tries.pow(3)
            );
            self.warning(place, message, format!("write at most {RETRIES_MAX}"));
        }
        let on = retry.on.iter().position(|on| is_answer(*on));
        if direction == "inbound" && (on.is_some() || !retry.statuses.is_empty()) {
            let item = on.and_then(|index| entry.value.get("on")?.items().get(index));
            let place = item.map_or(entry.key_span, |item| item.span);
            let message = format!(
                "callers retry too, so tries multiply: {tries} here for each of theirs, on a service that fails already"
            );
            let help =
                "retry where the call is made; inbound, keep to `connect_failure` and `refused_stream`";
            self.warning(place, message, help);
        }
    }

    /// Tries that are cut by the whole request's timeout. Only some conditions retry a try that took too long.
    fn tries_fit(&mut self, route: &Node, entry: &Entry, retry: &Retry) {
        let is_slow_retried = retry
            .on
            .iter()
            .any(|on| matches!(on, RetryOn::GatewayError | RetryOn::ServerError | RetryOn::DeadlineExceeded));
        let per_try = route.at(&["timeout", "per_try"]);
        let (Some(node), Some(Some(one)), true) = (per_try, timeout(per_try), is_slow_retried) else {
            return;
        };
        let Some((Some(whole), name)) = self.request_timeout(route) else { return };
        let tries = retry.limit + 1;
        let waits = longest_waits(&retry.backoff, retry.limit);
        let all = one.saturating_mul(tries).saturating_add(waits);
        if one > whole || all <= whole {
            return; // the first is an error already
        }
        let message = format!(
            "{tries} tries and the waits between them take up to {}, and the request ends after {} (`{name}`)",
            duration_text(all),
            duration_text(whole)
        );
        let left = whole.saturating_sub(waits).as_millis() / u128::from(tries);
        let shorter = match u64::try_from(left).unwrap_or(u64::MAX) {
            0 => String::new(),
            left => format!("write `{}` or less, ", duration_text(Duration::from_millis(left))),
        };
        let fewer = if entry.value.get("limit").is_some() { "a lower `limit`" } else { "a `limit`" };
        self.warning(node.span, message, format!("{shorter}{fewer}, or a longer `timeout.request`"));
    }

    pub(super) fn hedge(&mut self, route: &'a Node) {
        let Some(entry) = route.entry("hedge") else { return };
        let Some(hedge) = self.read::<Hedge>(&entry.value) else { return };
        self.never_sent_again(route, entry, "hedged");
        let place = |key: &str| entry.value.get(key).map_or(entry.key_span, |node| node.span);
        let (key, earliest) = match hedge.after {
            HedgeAfter::Fixed(time) => ("after", time),
            HedgeAfter::Quantile(_) => ("min", hedge.min),
        };
        self.too_late(route, place(key), earliest);
        if key == "after" && hedge.min != Hedge::default().min {
            let message = "`min` has no effect: `after` is a time of its own";
            self.warning(place("min"), message, "remove it, or write `after: p95`");
        }
        let is_idempotent =
            route.at(&["retry", "idempotent"]).is_some_and(|node| matches!(node.value, Value::Bool(true)));
        let method = route.at(&["match", "method"]);
        let methods: Vec<&str> = match method {
            Some(node) if node.text().is_some() => node.text().into_iter().collect(),
            Some(node) => node.items().iter().filter_map(Node::text).collect(),
            None => Vec::new(),
        };
        let is_never = !methods.is_empty() && methods.iter().all(|method| NOT_IDEMPOTENT.contains(method));
        if is_never && !is_idempotent {
            let message = format!(
                "{}: not idempotent, so only requests with an `idempotency-key` are hedged",
                listed(methods, "and")
            );
            let help =
                "add `retry: { idempotent: true }` if these requests may be repeated, or remove `hedge`";
            self.warning(entry.key_span, message, help);
        }
    }

    /// A hedge that would go out after the request, or its try, is over.
    fn too_late(&mut self, route: &Node, place: Span, earliest: Duration) {
        let per_try =
            timeout(route.at(&["timeout", "per_try"])).flatten().map(|time| (time, "timeout.per_try"));
        let whole = self.request_timeout(route).and_then(|(time, name)| Some((time?, name)));
        let over = per_try.into_iter().chain(whole).min_by_key(|(time, _)| *time);
        if let Some((time, name)) = over.filter(|(time, _)| earliest >= *time) {
            let time = duration_text(time);
            let message = format!("no hedge is ever sent: it would be over by then (`{name}`: {time})");
            self.warning(place, message, format!("write a time well below `{time}`, or `p95`"));
        }
    }

    /// Timeouts as a whole, where they are valid.
    pub(super) fn ignored_deadline(&mut self, route: &Node) {
        let Some(node) = route.get("timeout") else { return };
        let Some(times) = self.read::<Timeouts>(node) else { return };
        let has_none =
            times.request == Some(Timeout::Never) && times.stream.is_none_or(|time| time == Timeout::Never);
        let idle = times.idle == Some(Timeout::Never);
        if has_none && idle && times.deadline == crate::route::config::Deadline::Ignore {
            let place = node.get("deadline").map_or(node.span, |node| node.span);
            let message =
                "nothing ends an exchange of this route: every timeout is `none` and deadlines are ignored";
            self.warning(place, message, "write a time for `idle`");
        }
    }
}

/// The longest sum of waits: `base × (2^n − 1)` before the n-th, at most `max`.
fn longest_waits(backoff: &Backoff, retries: u32) -> Duration {
    let wait = |n: u32| backoff.base.saturating_mul(1u32.checked_shl(n).map_or(u32::MAX, |power| power - 1));
    (1..=retries).map(|n| wait(n).min(backoff.max)).fold(Duration::ZERO, Duration::saturating_add)
}

/// Whether it is about what the upstream did, not about whether it could be reached.
fn is_answer(on: RetryOn) -> bool {
    !matches!(on, RetryOn::ConnectFailure | RetryOn::RefusedStream)
}

fn is_grpc(on: RetryOn) -> bool {
    matches!(
        on,
        RetryOn::Cancelled
            | RetryOn::DeadlineExceeded
            | RetryOn::Internal
            | RetryOn::ResourceExhausted
            | RetryOn::Unavailable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_add_up() {
        let backoff = Backoff::default();
        let waits: Vec<u128> = (0..5).map(|retries| longest_waits(&backoff, retries).as_millis()).collect();
        assert_eq!(waits, [0, 25, 25 + 75, 25 + 75 + 175, 25 + 75 + 175 + 250]);
        assert!(longest_waits(&Backoff { base: Duration::MAX, max: Duration::MAX }, 40) == Duration::MAX);
    }
}
