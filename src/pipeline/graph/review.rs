//! What was declared against what was observed.
//!
//! What: calls that nobody declared, declarations that nobody uses, and calls that went beyond what was declared of them.
//! Only services whose sidecars were asked are judged. How it fails: it cannot; a service that is not in the file has
//! declared nothing, so all its calls are undeclared.

use super::declared::{Dependency, Manifest};
use super::format::lines;
use super::map::{Link, Map, NodeKind};
use serde::Serialize;
use std::collections::HashMap;

/// Fewer calls say nothing of rates, shares and latencies.
const CALLS_MIN: u64 = 20;

/// What kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Called, and not declared.
    Undeclared,
    /// Declared, and not called.
    Unused,
    /// Beyond what was declared of it.
    Drifted,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Verdict; 3] = [Verdict::Undeclared, Verdict::Unused, Verdict::Drifted];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Undeclared => "undeclared",
            Verdict::Unused => "unused",
            Verdict::Drifted => "drifted",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// What kind.
    pub verdict: Verdict,
    /// Who calls.
    pub from: String,
    /// Who is called.
    pub to: String,
    /// Calls that were counted.
    pub calls: u64,
    /// What is declared, and what was observed instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Judges a map.
pub fn review(map: &Map<'_>, declared: &Manifest) -> Vec<Judged> {
    let mut judged = Vec::new();
    let mut calls_of: HashMap<usize, Vec<&Link<'_>>> = HashMap::new();
    for link in map.links.iter().filter(|link| link.source_calls.is_some()) {
        calls_of.entry(link.from).or_default().push(link);
    }
    for (at, node) in map.nodes.iter().enumerate().filter(|(_, node)| node.kind == NodeKind::Service) {
        let nothing = Vec::new();
        let dependencies = declared.services.get(&node.plain_name).unwrap_or(&nothing);
        let mut is_used = vec![false; dependencies.len()];
        for link in calls_of.remove(&at).unwrap_or_default() {
            let Some(to) = map.node(link.to).filter(|to| to.kind != NodeKind::NoRoute) else { continue };
            let is_it = |dependency: &Dependency| {
                dependency.service == to.plain_name
                    || dependency.service == to.name
                    || (!link.clusters.is_empty()
                        && link.clusters.iter().all(|it| dependency.is_reached_by(it)))
            };
            let mut found = dependencies.iter().zip(&mut is_used).filter(|(dependency, _)| is_it(dependency));
            let judge = |verdict, detail| Judged {
                verdict,
                from: node.name.clone(),
                to: to.name.clone(),
                calls: link.total.calls,
                detail,
            };
            match found.next() {
                None => judged.push(judge(Verdict::Undeclared, None)),
                Some((dependency, is_used)) => {
                    *is_used = true;
                    let drifts = drifts(dependency, link);
                    judged.extend(drifts.into_iter().map(|drift| judge(Verdict::Drifted, Some(drift))));
                }
            }
        }
        for (dependency, _) in dependencies.iter().zip(is_used).filter(|(_, is_used)| !is_used) {
            let (from, to) = (node.name.clone(), dependency.service.clone());
            judged.push(Judged { verdict: Verdict::Unused, from, to, calls: 0, detail: None });
        }
    }
    judged.sort_by(|a, b| (a.verdict, &a.from, &a.to).cmp(&(b.verdict, &b.from, &b.to)));
    judged
}

/// In which ways calls went beyond what was declared.
fn drifts(dependency: &Dependency, link: &Link<'_>) -> Vec<String> {
    let mut drifts = Vec::new();
    if link.total.calls < CALLS_MIN {
        return drifts;
    }
    if let Some(max) = dependency.max_rps.filter(|max| link.rate > *max) {
        drifts.push(format!("{:.1} calls a second, {max} are declared", link.rate));
    }
    let ratio = link.failure_ratio().unwrap_or(0.0);
    if let Some(max) = dependency.max_failure_ratio.filter(|max| ratio > *max) {
        drifts.push(format!("{ratio} of the calls fail, {max} is declared"));
    }
    if let (Some(max), Some(p99)) = (dependency.timeout, link.latency().p99)
        && p99 > max.as_secs_f64() * 1000.0
    {
        drifts.push(format!("p99 is {p99:.1} ms, {} is declared", crate::units::duration_text(max)));
    }
    drifts
}

/// A line for each finding.
pub fn text(judged: &[Judged]) -> String {
    if judged.is_empty() {
        return "as declared\n".into();
    }
    let rows = judged.iter().map(|it| {
        [
            it.verdict.name().to_owned(),
            super::format::plain(&it.from),
            super::format::plain(&it.to),
            super::format::plain(it.detail.as_deref().unwrap_or("")),
            it.calls.to_string(),
        ]
    });
    let head = ["VERDICT", "FROM", "TO", "DETAIL", "CALLS"].map(String::from);
    lines(&std::iter::once(head).chain(rows).collect::<Vec<_>>(), 4)
}
