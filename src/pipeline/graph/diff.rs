//! What became different between two graphs: the changelog of an architecture.
//!
//! What: links are compared by the names of their ends and their protocol; those that are in both are compared by their
//! rates, not by their counts, which depend on how long was counted. How it fails: it cannot; a graph and itself differ in
//! nothing.

use super::format::lines;
use super::map::{Link, Map, NodeKind};
use serde::Serialize;
use std::collections::BTreeMap;

/// A share of failed calls that grew by this, and doubled, is a change.
const FAILURES_GREW: f64 = 0.01;
/// A latency that grew by this share, and by this many milliseconds, is a change.
const LATENCY_GREW: f64 = 0.5;
const LATENCY_GREW_MS: f64 = 5.0;
/// Fewer calls say nothing of shares and latencies.
const CALLS_MIN: u64 = 20;

/// What kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A link that was not there.
    New,
    /// A link that is no more.
    Gone,
    /// More of its calls fail.
    Errors,
    /// Its calls take longer.
    Latency,
}

impl Change {
    /// All of them.
    pub const ALL: [Change; 4] = [Change::New, Change::Gone, Change::Errors, Change::Latency];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Change::New => "new",
            Change::Gone => "gone",
            Change::Errors => "errors",
            Change::Latency => "latency",
        }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// What kind.
    pub change: Change,
    /// Who calls.
    pub from: String,
    /// Who is called.
    pub to: String,
    /// The protocols.
    pub protocol: String,
    /// What it was; of a new link its calls a second, and nothing.
    pub before: Option<f64>,
    /// What it is.
    pub after: Option<f64>,
    /// Of what: `calls_per_second`, `failure_ratio`, `p99_ms`.
    pub measure: &'static str,
}

type Links<'a> = BTreeMap<(&'a str, &'a str, String), &'a Link<'a>>;

fn links<'a>(map: &'a Map<'a>) -> Links<'a> {
    let is_call = |link: &&Link<'_>| map.node(link.to).is_some_and(|node| node.kind != NodeKind::NoRoute);
    let links = map.links.iter().filter(is_call);
    links
        .map(|link| {
            let protocols: Vec<&str> =
                link.protocols().into_iter().map(|protocol| protocol.as_str()).collect();
            ((map.name(link.from), map.name(link.to), protocols.join(",")), link)
        })
        .collect()
}

/// Every difference: new and gone links, then what is worse, each by names.
pub fn diff<'a>(before: &'a Map<'a>, after: &'a Map<'a>) -> Vec<Difference> {
    let (old, new) = (links(before), links(after));
    let mut differences = Vec::new();
    for (key, link) in &new {
        match old.get(key) {
            None => differences.push(difference(
                Change::New,
                key,
                "calls_per_second",
                None,
                Some(rounded(link.rate)),
            )),
            Some(old) => differences.extend(worse(key, old, link)),
        }
    }
    for (key, link) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
        differences.push(difference(Change::Gone, key, "calls_per_second", Some(rounded(link.rate)), None));
    }
    differences.sort_by_key(|difference| difference.change);
    differences
}

fn rounded(rate: f64) -> f64 {
    (rate * 1000.0).round() / 1000.0
}

fn difference(
    change: Change,
    (from, to, protocol): &(&str, &str, String),
    measure: &'static str,
    before: Option<f64>,
    after: Option<f64>,
) -> Difference {
    let (from, to, protocol) = ((*from).to_owned(), (*to).to_owned(), protocol.clone());
    Difference { change, from, to, protocol, before, after, measure }
}

fn worse(key: &(&str, &str, String), old: &Link<'_>, new: &Link<'_>) -> Vec<Difference> {
    let mut found = Vec::new();
    if old.total.calls < CALLS_MIN || new.total.calls < CALLS_MIN {
        return found;
    }
    let (before, after) = (old.failure_ratio().unwrap_or(0.0), new.failure_ratio().unwrap_or(0.0));
    if after - before >= FAILURES_GREW && after >= 2.0 * before {
        found.push(difference(Change::Errors, key, "failure_ratio", Some(before), Some(after)));
    }
    if let (Some(before), Some(after)) = (old.latency().p99, new.latency().p99)
        && after > before * (1.0 + LATENCY_GREW)
        && after - before >= LATENCY_GREW_MS
    {
        found.push(difference(Change::Latency, key, "p99_ms", Some(before), Some(after)));
    }
    found
}

/// A line for each difference.
pub fn text(differences: &[Difference]) -> String {
    if differences.is_empty() {
        return "no difference\n".into();
    }
    let rows = differences.iter().map(|difference| {
        let number = |number: Option<f64>| number.map_or("-".to_owned(), |number| number.to_string());
        [
            difference.change.name().to_owned(),
            super::format::plain(&difference.from),
            super::format::plain(&difference.to),
            difference.protocol.clone(),
            difference.measure.to_owned(),
            number(difference.before),
            number(difference.after),
        ]
    });
    let head = ["CHANGE", "FROM", "TO", "PROTOCOL", "MEASURE", "BEFORE", "AFTER"].map(String::from);
    lines(&std::iter::once(head).chain(rows).collect::<Vec<_>>(), 5)
}
