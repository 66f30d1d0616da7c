//! The map: who calls whom, out of what each sidecar says.
//!
//! What: nodes and the links between them. A call between two services with sidecars is told of twice, by the one that
//! sent it and by the one that received it; the map has it once, with the sender's numbers, which are exact also for what
//! never arrived. Who sent it is known to the receiver by the certificate; without one it is one of "clients", and what
//! the senders say is taken off those. How it fails: where the two disagree, that is a [`Finding`].

mod builder;

use super::document::{Latency, Part, Protocol, Report, Way, ratio};
use super::histogram::millis;
use super::merge::Graph;
use super::moment::Moment;
use super::stats::Stats;
use builder::Builder;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// A service with a sidecar that says so.
    Service,
    /// A cluster of which no sidecar was asked.
    Cluster,
    /// A peer that is known by its certificate only.
    Peer,
    /// Everybody else who calls.
    Clients,
    /// Where calls went for which there was no route.
    NoRoute,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    /// Unlike that of any other node.
    pub name: String,
    /// What it is.
    pub kind: NodeKind,
    /// `service.namespace`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// `deployment.environment.name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub environment: String,
    /// Its versions.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub versions: BTreeSet<String>,
    /// Its zones.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub zones: BTreeSet<String>,
    /// Sidecars that were asked.
    pub instances: usize,
    /// The name without what makes it unlike others.
    #[serde(skip)]
    pub plain_name: String,
}

/// Who told of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reporter {
    /// The sidecar of who called.
    Source,
    /// The sidecar of who was called.
    Destination,
}

/// Calls of a link that have something in common.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Who told.
    pub reporter: Reporter,
    /// What they have in common, and their numbers.
    pub part: &'a Part,
}

/// Calls from one node to another.
#[derive(Clone, Debug, Default)]
pub struct Link<'a> {
    /// Index of the node that calls.
    pub from: usize,
    /// Index of the node that is called.
    pub to: usize,
    /// The numbers: of the source where it told.
    pub total: Stats,
    /// Calls a second, on average over the time that was counted.
    pub rate: f64,
    /// Calls that the source told of.
    pub source_calls: Option<u64>,
    /// Calls that the destination told of.
    pub destination_calls: Option<u64>,
    /// Calls that lost their context.
    pub lost_context: u64,
    /// In detail.
    pub rows: Vec<Row<'a>>,
    /// The clusters that stand for the destination at the source.
    pub clusters: BTreeSet<&'a str>,
    /// Latencies as the reports say, where there is no histogram.
    latency: Latency,
    /// The largest number of calls that may have arrived.
    arrivals_max: u64,
    /// Calls that have arrived for certain.
    arrivals_min: u64,
}

impl Link<'_> {
    /// Latencies in milliseconds.
    pub fn latency(&self) -> Latency {
        let histogram = &self.total.latency_ms;
        let quantile = |share| histogram.quantile(share).map(millis);
        match histogram.mean() {
            Some(mean) => Latency {
                mean: Some(millis(mean)),
                p50: quantile(0.5),
                p90: quantile(0.9),
                p99: quantile(0.99),
            },
            None => self.latency,
        }
    }

    /// The share that failed.
    pub fn failure_ratio(&self) -> Option<f64> {
        ratio(self.total.failures, self.total.calls)
    }

    /// The protocols.
    pub fn protocols(&self) -> BTreeSet<Protocol> {
        self.rows.iter().map(|row| row.part.protocol).collect()
    }

    /// Calls by the class of their error.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        let mut errors = BTreeMap::new();
        for outcome in &self.total.outcomes {
            if let Some(error) = outcome.error() {
                let calls: &mut u64 = errors.entry(error.into_owned()).or_default();
                *calls = calls.saturating_add(outcome.calls);
            }
        }
        errors
    }
}

/// Something that does not fit together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `mismatch`: a source and a destination count differently.
    pub kind: &'static str,
    /// Who calls; absent: all that call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Who is called.
    pub to: String,
    /// What it is about.
    pub text: String,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Map<'a> {
    /// In the order in which they were met; links name them by their index.
    pub nodes: Vec<Node>,
    /// By the names of their ends.
    pub links: Vec<Link<'a>>,
    /// What does not fit together.
    pub findings: Vec<Finding>,
    /// The first moment that is counted.
    pub since: Moment,
    /// The last one.
    pub at: Moment,
}

/// Names of clusters and the services that they are, where it cannot be seen.
pub type Aliases = BTreeMap<String, String>;

impl<'a> Map<'a> {
    /// The map of a graph.
    pub fn of(graph: &'a Graph, aliases: &'a Aliases) -> Map<'a> {
        Map::of_reports(graph.reports(), aliases, graph.since(), graph.at())
    }

    /// The map of what one sidecar says.
    pub fn of_report(report: &'a Report) -> Map<'a> {
        static NONE: Aliases = BTreeMap::new();
        Map::of_reports(std::iter::once(report), &NONE, report.since, report.at)
    }

    fn of_reports(
        reports: impl Iterator<Item = &'a Report> + Clone,
        aliases: &'a Aliases,
        since: Moment,
        at: Moment,
    ) -> Map<'a> {
        let mut builder = Builder::default();
        reports.clone().for_each(|report| builder.service(&report.service));
        for report in reports {
            let own = builder.services.get(&(&*report.service.namespace, &*report.service.name)).copied();
            let Some(own) = own else { continue };
            let seconds = report.at.since(report.since).as_secs_f64().max(1.0);
            for edge in &report.edges {
                match edge.direction {
                    Way::Outbound => builder.outbound(report, own, edge, aliases, seconds),
                    Way::Inbound => builder.inbound(report, own, edge, seconds),
                }
            }
        }
        let findings = builder.settle();
        let Builder { nodes, mut links, .. } = builder;
        let name = |index: usize| nodes.get(index).map_or("", |node: &Node| node.name.as_str());
        links.retain(|link| link.total.calls > 0);
        links.sort_by(|a, b| (name(a.from), name(a.to)).cmp(&(name(b.from), name(b.to))));
        Map { nodes, links, findings, since, at }
    }

    /// A node of a link.
    pub fn node(&self, index: usize) -> Option<&Node> {
        self.nodes.get(index)
    }

    /// The name of a node of a link.
    pub fn name(&self, index: usize) -> &str {
        self.nodes.get(index).map_or("", |node| &node.name)
    }

    /// How long was counted, in seconds; at least one.
    pub fn seconds(&self) -> f64 {
        self.at.since(self.since).as_secs_f64().max(1.0)
    }
}
