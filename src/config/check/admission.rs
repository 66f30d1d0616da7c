//! `concurrency`, `load_shed` and `limits.overload`: bounds in the wrong order, and keys without effect.

use std::collections::{BTreeSet, HashMap};

use super::Check;
use crate::config::nearest::nearest;
use crate::config::node::{Entry, Node, Value, excerpt};
use crate::limits::Overload;
use crate::resilience::config::{Concurrency, Fair, Limit, LoadShed};
use crate::units::duration_text;

/// What only `limit: auto` looks at.
const AUTO_KEYS: [&str; 8] = [
    "min",
    "max",
    "percentile",
    "update_interval",
    "buffer_percent",
    "min_rtt_interval",
    "min_rtt_jitter_percent",
    "min_rtt_requests",
];

impl<'a> Check<'a, '_> {
    pub(super) fn admission(&mut self) {
        let licenses = self.licenses();
        for direction in ["inbound", "outbound"] {
            let Some(listener) = self.root.get(direction) else { continue };
            if let Some(entry) = listener.entry("concurrency") {
                self.concurrency(entry);
            }
            if let Some(node) = listener.get("load_shed") {
                self.load_shed(node, direction, listener.get("concurrency").is_some(), &licenses);
            }
        }
        self.overload();
    }

    fn concurrency(&mut self, entry: &Entry) {
        let Some(config) = self.read::<Concurrency>(&entry.value) else { return };
        let place = |key: &str| entry.value.get(key).map_or(entry.key_span, |node| node.span);
        let defaults = Concurrency::default();
        if config.min > config.max {
            let key = if entry.value.get("min").is_some() { "min" } else { "max" };
            let message = format!("`min` ({}) is above `max` ({})", config.min, config.max);
            self.error(place(key), message, "make `max` the larger one");
        }
        if config.limit != Limit::Auto {
            let as_auto = Concurrency {
                limit: config.limit,
                queue_max: config.queue_max,
                queue_timeout: config.queue_timeout,
                ..defaults.clone()
            };
            let first = AUTO_KEYS.iter().find_map(|key| entry.value.entry(key)).filter(|_| config != as_auto);
            if let Some(first) = first {
                let message =
                    "a fixed `limit` does not look at the latency: the keys of `auto` have no effect";
                self.warning(first.key_span, message, "write `limit: auto`, or remove them");
            }
        } else if config.update_interval >= config.min_rtt_interval {
            let message = format!(
                "the best latency is measured as often as the limit changes (`update_interval`: {})",
                duration_text(config.update_interval)
            );
            let key = if entry.value.get("update_interval").is_some() {
                "update_interval"
            } else {
                "min_rtt_interval"
            };
            self.error(place(key), message, "make `min_rtt_interval` much longer than `update_interval`");
        }
        if let Some(Some(whole)) = self.default_timeout()
            && config.queue_timeout >= whole
        {
            let message = format!(
                "who waits so long has no time left (`limits.request_timeout`: {})",
                duration_text(whole)
            );
            self.warning(place("queue_timeout"), message, "write a small part of the request's timeout");
        }
        if let Some(node) = entry.value.entry("queue_timeout")
            && config.queue_max == 0
            && config.queue_timeout != defaults.queue_timeout
        {
            let message = "`queue_timeout` has no effect: `queue_max` is 0, so nobody waits";
            self.warning(node.key_span, message, "remove it, or write a `queue_max`");
        }
    }

    fn load_shed(&mut self, node: &Node, direction: &str, has_concurrency: bool, licenses: &BTreeSet<&str>) {
        let Some(config) = self.read::<LoadShed>(node) else { return };
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for item in node.get("tiers").map_or(&[][..], Node::items) {
            let Some(tier) = item.text() else { continue };
            if tier.is_empty() {
                let message = "requests without a license are below all tiers already";
                self.error(item.span, message, "remove the empty text");
            } else if let Some(line) = seen.insert(tier, item.span.line) {
                let message = format!("`{}` is in two tiers", excerpt(tier));
                self.error(item.span, message, format!("it is already on line {line}: keep one"));
            } else if !licenses.contains(tier) {
                let others =
                    licenses.iter().copied().filter(|name| !config.tiers.iter().any(|tier| tier == name));
                if let Some(near) = nearest(tier, others) {
                    let message = format!("no other part of this file knows the license `{}`", excerpt(tier));
                    self.warning(item.span, message, format!("is it `{}`?", excerpt(near)));
                }
            }
        }
        if has_concurrency {
            return;
        }
        let tiers = node.entry("tiers").filter(|_| !config.tiers.is_empty());
        if let Some(tiers) = tiers {
            let message = "the tiers only count when memory runs out: nothing bounds the requests at once";
            self.warning(
                tiers.key_span,
                message,
                format!("add `concurrency: {{ limit: auto }}` to `{direction}`"),
            );
        } else if let Some(fair) = node.entry("fair").filter(|_| config.fair != Fair::default()) {
            let message = "`fair` has no effect: nothing bounds the requests at once";
            self.warning(
                fair.key_span,
                message,
                format!("add `concurrency: {{ limit: auto }}` to `{direction}`"),
            );
        }
    }

    /// Every license that a route tells apart.
    fn licenses(&self) -> BTreeSet<&'a str> {
        let mut licenses = BTreeSet::new();
        for direction in ["inbound", "outbound"] {
            for route in self.root.at(&[direction, "routes"]).map_or(&[][..], Node::items) {
                let Some(node) = route.at(&["match", "context", "license"]) else { continue };
                match &node.value {
                    Value::Text(text) => licenses.extend([text.as_str()]),
                    _ => licenses.extend(node.items().iter().filter_map(Node::text)),
                }
            }
        }
        licenses
    }

    fn overload(&mut self) {
        let Some(node) = self.root.at(&["limits", "overload"]) else { return };
        let Some(config) = self.read::<Overload>(node) else { return };
        let steps = [
            ("shed_percent", config.shed_percent),
            ("keepalive_percent", config.keepalive_percent),
            ("refuse_percent", config.refuse_percent),
        ];
        for pair in steps.windows(2) {
            let [(first, low), (second, high)] = pair else { continue };
            if low > high {
                let place = node.get(first).or(node.get(second)).map_or(node.span, |node| node.span);
                let message =
                    format!("`{first}` ({low}) is above `{second}` ({high}): the steps come in this order");
                self.error(place, message, format!("write `{second}: {low}` or more, or a lower `{first}`"));
            }
        }
    }
}
