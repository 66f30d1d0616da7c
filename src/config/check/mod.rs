//! What a schema cannot say: names that must exist, keys that need or exclude each other, numbers that contradict.
//!
//! The checks read the tree, not the typed configuration, so that one wrong key does not hide the problems elsewhere;
//! a value that the schema refused already is passed over here. Where the numbers of one section are weighed against
//! each other, that section is read with its defaults, or passed over whole.
//!
//! What cannot work is an error; what works, but hardly as it was meant, is a warning. What is written with its default
//! value never is: `--print-config` writes every key, and its file passes without a word.

mod admission;
mod balance;
mod bounds;
mod breaker;
mod cluster;
mod clusters;
mod context;
mod dependencies;
mod files;
mod headers;
mod health;
mod listeners;
mod outlier;
mod quota;
mod reach;
mod recording;
mod retry;
mod routes;
mod sinks;

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use super::diagnostics::{Diagnostic, HELPED_MAX};
use super::nearest::{listed, nearest};
use super::node::{Node, Span, Value, excerpt};
use super::read;
use crate::units;

/// Checks a whole tree; `base` is the directory of relative paths, absent where no file is to be looked at.
pub fn check(root: &Node, base: Option<&Path>, problems: &mut Vec<Diagnostic>) {
    let refused = problems.iter().filter_map(|problem| problem.span).collect();
    let mut check = Check { root, problems, refused };
    check.service();
    check.bounds();
    check.listeners();
    check.admission();
    check.clusters();
    check.routes("inbound");
    check.routes("outbound");
    check.pipeline();
    check.sinks(base);
    check.recording(base);
    check.context(base);
    check.dependencies(base);
    if let Some(base) = base {
        check.files(base);
    }
}

/// The tree, and where problems go.
struct Check<'a, 'p> {
    root: &'a Node,
    problems: &'p mut Vec<Diagnostic>,
    /// Where the schema found something.
    refused: HashSet<Span>,
}

impl<'a> Check<'a, '_> {
    fn error(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Diagnostic::error(message).at(span).help(help));
    }

    fn warning(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Diagnostic::warning(message).at(span).help(help));
    }

    /// A section with its defaults; `None` where it is not valid, which the schema said already.
    fn read<T: serde::de::DeserializeOwned>(&self, node: &Node) -> Option<T> {
        if self.is_refused(node) { None } else { read::from_node(node).ok() }
    }

    /// Whether the schema found something in a value of this section.
    fn is_refused(&self, node: &Node) -> bool {
        !self.refused.is_empty()
            && (self.refused.contains(&node.span)
                || node.items().iter().any(|item| self.is_refused(item))
                || node.entries().iter().any(|entry| self.is_refused(&entry.value)))
    }

    /// `service.zone`, if it is known.
    fn zone(&self) -> Option<&'a str> {
        self.root.at(&["service", "zone"]).and_then(Node::text).filter(|zone| !zone.is_empty())
    }

    fn service(&mut self) {
        if self.root.at(&["service", "name"]).is_none() {
            let span =
                self.root.get("service").map_or(Span { line: 1, column: 1, length: 1 }, |node| node.span);
            let message = "`service.name` is not set: events will say `unknown_service`";
            self.warning(span, message, "add `name: …` to `service`");
        }
        if let Some(name) = self.root.at(&["service", "name"]).filter(|name| name.text() == Some("")) {
            self.error(
                name.span,
                "`service.name` is empty",
                "write the service's name, or leave the key out",
            );
        }
    }

    fn pipeline(&mut self) {
        let Some(entry) = self.root.get("pipeline").and_then(|node| node.entry("sinks")) else { return };
        if entry.value.entries().is_empty() {
            self.warning(entry.key_span, "there is no sink: events go nowhere", "add `stdout: {}`");
        }
    }

    /// Reports a cluster that does not exist.
    fn cluster_exists(&mut self, node: &Node) {
        let Some(name) = node.text() else { return };
        let known = self.root.get("clusters").map_or(&[][..], |clusters| clusters.entries());
        if known.iter().any(|entry| entry.key == name) {
            return;
        }
        let names = || known.iter().map(|entry| entry.key.as_str());
        let is_helped = self.problems.len() < HELPED_MAX;
        let help = match is_helped.then(|| nearest(name, names())).flatten() {
            Some(near) => format!("write `{near}`"),
            None if known.is_empty() => {
                format!("add `clusters: {{ {}: {{ endpoints: […] }} }}`", excerpt(name))
            }
            None if known.len() <= 12 => format!("the clusters are {}", listed(names(), "and")),
            None => format!("add `{}` to `clusters`", excerpt(name)),
        };
        self.error(node.span, format!("there is no cluster `{}`", excerpt(name)), help);
    }
}

/// The keys of `node` that are written, out of `names`, with where.
fn written(node: &Node, names: &[&'static str]) -> Vec<(&'static str, Span)> {
    let find = |name: &&'static str| node.entry(name).map(|entry| (*name, entry.key_span));
    let mut found: Vec<_> = names.iter().filter_map(find).collect();
    found.sort_by_key(|(_, span)| *span);
    found
}

/// Whether it is a list without items.
fn is_empty(node: &Node) -> bool {
    matches!(node.value, Value::List(_) | Value::Null) && node.items().is_empty()
}

/// A duration, `Some(None)` for `none`; `None` where there is nothing valid.
fn timeout(node: Option<&Node>) -> Option<Option<Duration>> {
    match node?.text()? {
        units::NONE => Some(None),
        text => units::parse_duration(text).ok().map(Some),
    }
}

/// A size in bytes.
fn size(node: &Node) -> Option<u64> {
    match &node.value {
        Value::Text(text) => units::parse_size(text).ok(),
        _ => node.integer().and_then(|bytes| u64::try_from(bytes).ok()),
    }
}

/// A number of things, in the type of most limits.
fn count_of(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// `1 endpoint`, `3 endpoints`.
fn endpoints_text(count: usize) -> String {
    if count == 1 { "1 endpoint".into() } else { format!("{count} endpoints") }
}
