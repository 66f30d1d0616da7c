//! Routes: exactly one action, options that fit it, names that exist.

use std::collections::HashMap;

use super::{Check, is_empty, written};
use crate::config::nearest::listed;
use crate::config::node::{Node, Span, Value, excerpt};

/// What a route may do; it does one of them.
pub(super) const ACTIONS: [&str; 4] = ["cluster", "split", "redirect", "respond"];
/// What only a route with an upstream can have.
const WITH_UPSTREAM: [&str; 6] = ["timeout", "retry", "hedge", "circuit_breaker", "mirror", "rewrite"];
/// Methods with a meaning (RFC 9110 §9.3, RFC 5789); others are allowed as they are.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"];

impl<'a> Check<'a, '_> {
    pub(super) fn routes(&mut self, direction: &str) {
        let routes = self.root.at(&[direction, "routes"]).map_or(&[][..], Node::items);
        let mut names: HashMap<&str, usize> = HashMap::new();
        for route in routes.iter().filter(|route| matches!(route.value, Value::Map(_) | Value::Null)) {
            if let Some(name) = route.get("name")
                && let Some(text) = name.text().filter(|text| !text.is_empty())
                && let Some(line) = names.insert(text, name.span.line)
            {
                let message = format!("route `{}` is written twice", excerpt(text));
                self.error(
                    name.span,
                    message,
                    format!("it is already on line {line}: events tell routes by name"),
                );
            }
            self.action(route, direction);
            self.split(route);
            self.redirect(route);
            self.rewrite(route);
            self.times(route);
            self.ignored_deadline(route);
            self.retry(route, direction);
            self.hedge(route);
            self.route_breaker(route);
            self.rate_limits(route);
            self.mirror(route);
            self.methods(route);
            self.header_edits(route);
        }
        self.reach(routes);
    }

    fn action(&mut self, route: &'a Node, direction: &str) {
        let actions = written(route, &ACTIONS);
        match actions.as_slice() {
            [] if direction == "outbound" => {
                let help = format!("add one of {}", listed(ACTIONS, "and"));
                self.error(route_span(route), "the route does nothing", help);
            }
            [(first, _), (second, span), ..] => {
                let message = format!("`{first}` and `{second}` exclude each other");
                self.error(*span, message, "keep one: a route does one thing");
            }
            _ => {}
        }
        if let Some(cluster) = route.get("cluster") {
            self.cluster_exists(cluster);
            self.not_tcp(cluster);
        }
        let answers = actions.iter().find(|(name, _)| matches!(*name, "redirect" | "respond"));
        if let Some((action, _)) = answers.filter(|_| actions.len() == 1) {
            for (name, span) in written(route, &WITH_UPSTREAM) {
                let message = format!("`{name}` has no effect: `{action}` asks no upstream");
                self.warning(span, message, format!("remove `{name}`"));
            }
        }
    }

    pub(super) fn not_tcp(&mut self, cluster: &Node) {
        let Some(name) = cluster.text() else { return };
        let protocol = self.root.at(&["clusters", name, "protocol"]);
        if protocol.and_then(Node::text) == Some("tcp") {
            let message = format!("cluster `{}` speaks `tcp`; a route carries HTTP", excerpt(name));
            self.error(cluster.span, message, "reach it with `outbound: { tcp: [{ address, cluster }] }`");
        }
    }

    fn split(&mut self, route: &'a Node) {
        let split = route.entry("split");
        if let Some(sticky) = route.entry("sticky").filter(|_| split.is_none()) {
            self.error(
                sticky.key_span,
                "`sticky` needs a `split`",
                "remove it, or add `split: [{ cluster, weight }]`",
            );
        }
        let Some(split) = split else { return };
        let parts = split.value.items();
        if is_empty(&split.value) {
            self.error(split.value.span, "the split has no part", "write `[{ cluster: …, weight: 1 }]`");
        }
        let weights: Vec<_> = parts.iter().filter_map(|part| part.get("weight")?.integer()).collect();
        if !parts.is_empty() && weights.len() == parts.len() && weights.iter().all(|weight| *weight == 0) {
            self.error(
                split.key_span,
                "all weights are 0: nothing would get a request",
                "give one cluster a weight",
            );
        }
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for cluster in parts.iter().filter_map(|part| part.get("cluster")) {
            self.cluster_exists(cluster);
            self.not_tcp(cluster);
            let Some(name) = cluster.text() else { continue };
            if let Some(line) = seen.insert(name, cluster.span.line) {
                let message = format!("cluster `{}` is twice in the split", excerpt(name));
                self.error(cluster.span, message, format!("it is already on line {line}: add the weights"));
            }
        }
    }

    fn redirect(&mut self, route: &'a Node) {
        let Some(entry) = route.entry("redirect") else { return };
        let redirect = &entry.value;
        if let Some(status) = redirect.get("status")
            && let Some(304..=306) = status.integer()
        {
            self.error(status.span, "this status is no redirection", "write 301, 302, 303, 307 or 308");
        }
        if let [(first, _), (second, span), ..] = written(redirect, &["path", "prefix"]).as_slice() {
            self.error(*span, format!("`{first}` and `{second}` exclude each other"), "keep one");
        }
        self.prefix_of(route, redirect);
        let is_section = matches!(redirect.value, Value::Map(_) | Value::Null);
        if is_section && written(redirect, &["host", "path", "prefix", "scheme"]).is_empty() {
            let help = "add one of `host`, `path`, `prefix` and `scheme`";
            self.error(entry.key_span, "the redirection leads to where the request came from", help);
        }
    }

    fn rewrite(&mut self, route: &'a Node) {
        let Some(rewrite) = route.get("rewrite") else { return };
        if let [(first, _), (second, span), ..] = written(rewrite, &["path", "prefix", "regex"]).as_slice() {
            self.error(*span, format!("`{first}` and `{second}` exclude each other"), "keep one");
        }
        self.prefix_of(route, rewrite);
    }

    /// A `prefix` in place of another needs that other.
    fn prefix_of(&mut self, route: &Node, options: &Node) {
        let Some(prefix) = options.entry("prefix") else { return };
        if route.at(&["match", "path", "prefix"]).is_none() {
            let message = "`prefix` takes the place of a matched prefix, and this route matches none";
            self.error(prefix.key_span, message, "add `match: { path: { prefix: … } }`, or use `path`");
        }
    }

    fn methods(&mut self, route: &Node) {
        let Some(method) = route.at(&["match", "method"]) else { return };
        let one = std::slice::from_ref(method);
        let methods = if matches!(method.value, Value::List(_)) { method.items() } else { one };
        for node in methods {
            let Some(text) = node.text() else { continue };
            let upper = text.to_ascii_uppercase();
            if http::Method::from_bytes(text.as_bytes()).is_err() {
                let message = format!("`{}` is not a method", excerpt(text));
                self.error(node.span, message, "write it as in `GET`");
            } else if upper != text && METHODS.contains(&upper.as_str()) {
                let message = format!("`{text}` matches nothing: methods are told apart by case");
                self.error(node.span, message, format!("write `{upper}`"));
            }
        }
    }
}

/// Where to point at for a route: its name, its first key, or its start.
pub(super) fn route_span(route: &Node) -> Span {
    let name = route.get("name").filter(|name| name.text().is_some_and(|text| !text.is_empty()));
    let first = route.entries().first().map(|entry| entry.key_span);
    name.map(|name| name.span).or(first).unwrap_or(route.span)
}
