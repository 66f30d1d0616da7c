//! `circuit_breaker` of clusters and routes, and `retry_budget`: caps that are never reached because another one is
//! before them, and times that contradict.

use std::time::Duration;

use super::Check;
use super::cluster::Cluster;
use crate::cluster::config::{Breaker, CircuitBreaker, RetryBudget};
use crate::config::node::{Entry, Node, excerpt};
use crate::route::config::RouteBreaker;
use crate::units::duration_text;

impl<'a> Check<'a, '_> {
    pub(super) fn circuit_breaker(&mut self, cluster: &Cluster<'a>) {
        let Some(node) = cluster.node.get("circuit_breaker") else { return };
        let Some(caps) = self.read::<CircuitBreaker>(node) else { return };
        self.below(node, "requests_per_account", caps.requests_per_account, "requests", caps.requests);
        self.below(node, "retries", caps.retries, "requests", caps.requests);
        if let (Some(node), Some(breaker)) = (node.get("breaker"), &caps.breaker) {
            self.breaker(node, breaker);
        }
    }

    pub(super) fn route_breaker(&mut self, route: &'a Node) {
        let Some(node) = route.get("circuit_breaker") else { return };
        let Some(caps) = self.read::<RouteBreaker>(node) else { return };
        self.below(node, "requests_per_account", caps.requests_per_account, "requests", caps.requests);
        self.below(node, "retries", caps.retries, "requests", caps.requests);
        if let (Some(node), Some(breaker)) = (node.get("breaker"), &caps.breaker) {
            self.breaker(node, breaker);
        }
        let Some(name) = route.get("cluster").and_then(Node::text) else { return };
        let all = match self.root.at(&["clusters", name, "circuit_breaker"]) {
            Some(node) => self.read::<CircuitBreaker>(node),
            None => self.root.at(&["clusters", name]).map(|_| CircuitBreaker::default()),
        };
        let Some(all) = all else { return };
        for (key, own, all) in [
            ("requests", caps.requests, all.requests),
            ("retries", caps.retries, all.retries),
            ("requests_per_account", caps.requests_per_account, all.requests_per_account),
        ] {
            if let (Some(node), Some(own), Some(all)) = (node.get(key), own, all)
                && own > all
            {
                let message =
                    format!("this cap is never reached: cluster `{}` is capped at {all}", excerpt(name));
                let help = format!(
                    "write at most {all}, or raise `clusters.{}.circuit_breaker.{key}`",
                    excerpt(name)
                );
                self.warning(node.span, message, help);
            }
        }
    }

    /// A cap that another one is reached before.
    fn below(&mut self, node: &Node, key: &str, part: Option<usize>, whole: &str, all: Option<usize>) {
        if let (Some(node), Some(part), Some(all)) = (node.get(key), part, all)
            && part > all
        {
            let message = format!("this cap is never reached: `{whole}` is {all}");
            self.warning(node.span, message, format!("write less than {all}, or raise `{whole}`"));
        }
    }

    fn breaker(&mut self, node: &Node, breaker: &Breaker) {
        if breaker.backoff_min > breaker.backoff_max {
            let (least, most) = (duration_text(breaker.backoff_min), duration_text(breaker.backoff_max));
            let place = node.get("backoff_min").or(node.get("backoff_max"));
            let message = format!("`backoff_min` ({least}) is above `backoff_max` ({most})");
            self.error(
                place.map_or(node.span, |node| node.span),
                message,
                format!("write `backoff_max: {least}` or more"),
            );
        }
    }

    pub(super) fn retry_budget(&mut self, cluster: &Cluster<'a>) {
        let Some(entry) = cluster.node.entry("retry_budget") else { return };
        let Some(budget) = self.read::<RetryBudget>(&entry.value) else { return };
        // Some hundred retries a second for each proxy are no bound.
        if budget.percent == 100 {
            let place = entry.value.get("percent").map_or(entry.key_span, |node| node.span);
            let message = "as many retries as requests: a cluster that fails would get twice its load";
            self.warning(place, message, "write 20");
        }
        if budget.ttl > Duration::from_secs(60) {
            let place = entry.value.get("ttl").map_or(entry.key_span, |node| node.span);
            let message = "retries saved up for so long all come at once when the cluster fails";
            self.warning(place, message, "write `10s`, at most `60s`");
        }
    }

    /// The clusters of a route whose budget allows no retry at all.
    pub(super) fn without_budget(&self, route: &'a Node) -> Option<&'a Entry> {
        let split = route.get("split").map_or(&[][..], Node::items).iter();
        let names = route.get("cluster").into_iter().chain(split.filter_map(|part| part.get("cluster")));
        let clusters = self.root.get("clusters")?;
        names.filter_map(|name| clusters.entry(name.text()?)).find(|cluster| {
            let budget = cluster.value.get("retry_budget").and_then(|node| self.read::<RetryBudget>(node));
            budget.is_some_and(|budget| budget.percent == 0 && budget.per_second_min == 0)
        })
    }
}
