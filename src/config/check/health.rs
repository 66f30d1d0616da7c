//! `clusters.*.health`: exactly one kind of check, times that fit each other, and checks that the endpoints can answer.

use super::cluster::Cluster;
use super::{Check, written};
use crate::cluster::config::{HealthCheck, HttpCheck};
use crate::config::nearest::listed;
use crate::config::node::{Entry, Node, excerpt};
use crate::units::duration_text;

const KINDS: [&str; 3] = ["http", "grpc", "tcp"];

/// Whether a key belongs elsewhere, as `path` does: the schema said where.
fn is_unknown(entry: &Entry) -> bool {
    matches!(
        entry.key.as_str(),
        "path" | "host" | "method" | "statuses" | "body" | "service" | "send" | "receive"
    )
}

impl<'a> Check<'a, '_> {
    pub(super) fn health(&mut self, cluster: &Cluster<'a>) {
        let Some(entry) = cluster.node.entry("health") else { return };
        let kinds = written(&entry.value, &KINDS);
        match kinds.as_slice() {
            [] if self.is_refused(&entry.value) || entry.value.entries().iter().any(is_unknown) => {}
            [] => {
                let help = format!("add one of {}, as in `http: {{ path: /health }}`", listed(KINDS, "and"));
                self.error(entry.key_span, "the check asks nothing", help);
            }
            [(first, _), (second, span), ..] => {
                let message = format!("`{first}` and `{second}` exclude each other");
                self.error(*span, message, "keep one: an endpoint is asked in one way");
            }
            _ => {}
        }
        let Some(check) = self.read::<HealthCheck>(&entry.value) else { return };
        self.check_times(entry, &check);
        if check.port.is_none() {
            self.check_protocol(&entry.value, cluster);
        }
        if let (Some(node), Some(http)) = (entry.value.get("http"), &check.http) {
            self.http_check(node, http);
        }
    }

    fn check_times(&mut self, entry: &Entry, check: &HealthCheck) {
        let place = |keys: [&str; 2]| {
            let written = keys.iter().find_map(|key| entry.value.get(key));
            written.map_or(entry.key_span, |node| node.span)
        };
        let interval = duration_text(check.interval);
        if check.timeout >= check.interval {
            let message = format!(
                "a check that hangs ({}) takes until the next one is due (`interval`: {interval}): an endpoint that hangs is noticed late",
                duration_text(check.timeout)
            );
            let help = "make `timeout` shorter than `interval`";
            self.warning(place(["timeout", "interval"]), message, help);
        }
        if check.fast_interval > check.interval {
            let message = format!(
                "`fast_interval` ({}) is slower than `interval` ({interval})",
                duration_text(check.fast_interval)
            );
            self.warning(
                place(["fast_interval", "interval"]),
                message,
                format!("write `fast_interval: {interval}` or less"),
            );
        }
    }

    /// Whether the port of the traffic can answer.
    fn check_protocol(&mut self, node: &Node, cluster: &Cluster<'a>) {
        let protocol = cluster.node.get("protocol").and_then(Node::text).unwrap_or_default();
        match protocol {
            "http1" => {
                if let Some(grpc) = node.entry("grpc") {
                    let message = format!("gRPC needs HTTP/2, and cluster `{}` speaks `http1`", cluster.name);
                    let help = "write `http: { path: … }`, or the `port` of a gRPC server";
                    self.error(grpc.key_span, message, help);
                }
            }
            "tcp" => {
                for key in ["http", "grpc"] {
                    if let Some(kind) = node.entry(key) {
                        let message =
                            format!("cluster `{}` speaks `tcp`: it may not answer this check", cluster.name);
                        self.warning(kind.key_span, message, "write `tcp: {}`, or add the `port` that does");
                    }
                }
            }
            _ => {}
        }
    }

    fn http_check(&mut self, node: &Node, http: &HttpCheck) {
        if let Some(method) = node.get("method") {
            let upper = http.method.to_ascii_uppercase();
            if http::Method::from_bytes(http.method.as_bytes()).is_err() || upper == "CONNECT" {
                let message = format!("`{}` is not a method for a check", excerpt(&http.method));
                self.error(method.span, message, "write `GET`");
            } else if upper != http.method && ["GET", "HEAD", "OPTIONS"].contains(&upper.as_str()) {
                let message = format!(
                    "`{}` is not a known method: methods are told apart by case",
                    excerpt(&http.method)
                );
                self.error(method.span, message, format!("write `{upper}`"));
            } else if !["GET", "HEAD", "OPTIONS"].contains(&upper.as_str()) {
                let message = format!(
                    "a check is sent every few seconds: `{}` may change something",
                    excerpt(&http.method)
                );
                self.warning(method.span, message, "write `GET`");
            }
        }
        if let Some(statuses) = node.get("statuses").filter(|_| http.statuses.is_empty()) {
            self.error(statuses.span, "no status is healthy", "write `[\"200-299\"]`");
        }
        if let Some(body) = node.entry("body") {
            if http.method == "HEAD" {
                self.error(body.key_span, "an answer to HEAD has no body", "write `method: GET`");
            } else if http.body.as_deref() == Some("") {
                self.warning(
                    body.value.span,
                    "every body contains an empty text",
                    "remove `body`, or write what it must contain",
                );
            }
        }
    }
}
