//! Whom the service talks to, out of the series that are counted anyway: what the dependency graph is drawn from.
//!
//! How it fails: clusters beyond the registry's cap are one, `_other`. TCP that is carried as bytes is not in the series.

use super::context::{SOURCES, position};
use super::histogram::Totals;
use super::registry::{Cells, Registry};
use super::text::{Kind, Page};
use crate::exchange::{Direction, ParentSource};
use crate::pipeline::graph::format::prometheus;
use crate::pipeline::graph::{Map, Report};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

/// The exchanges with all clients, or with one cluster, since the process started.
#[derive(Clone, Debug)]
pub struct Edge {
    /// Inbound: from the clients; outbound: to a cluster.
    pub direction: Direction,
    /// The cluster; `None` for the clients, and for outbound exchanges for which none was chosen.
    pub cluster: Option<Arc<str>>,
    /// Exchanges that ended.
    pub calls: u64,
    /// Those that were answered with a 5xx, or not at all.
    pub failures: u64,
    durations: Totals,
    parents: [u64; SOURCES.len()],
}

impl Edge {
    fn new(direction: Direction, cluster: Option<Arc<str>>) -> Edge {
        let (durations, parents) = (Totals::default(), [0; SOURCES.len()]);
        Edge { direction, cluster, calls: 0, failures: 0, durations, parents }
    }

    /// How long exchanges took on average; `None` before the first one.
    pub fn mean(&self) -> Option<Duration> {
        self.durations.sum.checked_div(self.durations.count()).map(Duration::from_nanos)
    }

    /// How long the fastest `share` of them took at most (0.99: all but one in a hundred), estimated as Prometheus does:
    /// evenly spread in their bucket. What took longer than the last bound (10 s) is reckoned as that. `None` before the
    /// first one.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.durations.count();
        let rank = share * count as f64;
        let (mut lower, mut before) = (0, 0);
        for (upper, here) in self.durations.bounds.iter().zip(&self.durations.buckets) {
            if *here > 0 && (before + here) as f64 >= rank {
                let part = (rank - before as f64) / *here as f64;
                return Some(Duration::from_nanos(lower + ((upper - lower) as f64 * part) as u64));
            }
            (lower, before) = (*upper, before + here);
        }
        (count > 0).then(|| Duration::from_nanos(lower))
    }

    /// How many parents were found in each way, by the name of the [`ParentSource`], the most certain first. All 0 for
    /// inbound exchanges.
    pub fn parents(&self) -> impl Iterator<Item = (&'static str, u64)> {
        SOURCES.iter().map(|source| source.as_str()).zip(self.parents)
    }

    /// Calls that some exchange under way made, and nobody knows which.
    pub fn lost(&self) -> u64 {
        self.parents_by(ParentSource::Lost)
    }

    /// Calls that have a parent, or lost it: all but those that belong to nobody.
    pub fn served(&self) -> u64 {
        self.parents.iter().sum::<u64>() - self.parents_by(ParentSource::Root)
    }

    fn parents_by(&self, source: ParentSource) -> u64 {
        self.parents.get(position(source)).copied().unwrap_or_default()
    }

    fn add(&mut self, status: u16, cells: &Cells) {
        let mut durations = Totals::default();
        for (_, cell) in cells {
            cell.duration.collect(&mut durations);
            for (sum, count) in self.parents.iter_mut().zip(&cell.parents) {
                *sum += count.load(Ordering::Relaxed);
            }
        }
        let calls = durations.count();
        self.calls += calls;
        if status == 0 || status >= 500 {
            self.failures += calls;
        }
        self.durations.merge(&durations);
    }
}

impl Registry {
    /// The clients first, in one edge that is always there, then the clusters with outbound exchanges, by name.
    pub fn edges(&self) -> Vec<Edge> {
        let mut clients = Edge::new(Direction::Inbound, None);
        let mut clusters: BTreeMap<Option<Arc<str>>, Edge> = BTreeMap::new();
        // Copied out first, so that no part of the map is locked for long: a worker may wait for it.
        let series: Vec<(Direction, Option<Arc<str>>, u16, Cells)> = self
            .series
            .iter()
            .map(|entry| {
                let key = entry.key();
                (key.direction, key.cluster.clone(), key.status, entry.value().clone())
            })
            .collect();
        for (direction, cluster, status, cells) in series {
            match direction {
                Direction::Inbound => clients.add(status, &cells),
                Direction::Outbound => clusters
                    .entry(cluster)
                    .or_insert_with_key(|cluster| Edge::new(Direction::Outbound, cluster.clone()))
                    .add(status, &cells),
            }
        }
        std::iter::once(clients).chain(clusters.into_values()).collect()
    }

    /// The dependency graph of this process, as it is now.
    pub fn graph_report(&self) -> Report {
        self.graph.report(&self.service, self.started_at, SystemTime::now(), &self.edges())
    }

    pub(super) fn render_graph(&self, page: &mut Page) {
        let (edges, overflow) = self.graph.size();
        page.family("sidelight_graph_edges", Kind::Gauge, "Edges of the dependency graph that are kept.");
        page.number(&[], edges as u64);
        page.family(
            "sidelight_graph_overflow",
            Kind::Counter,
            "Exchanges that the graph has in an _other edge because there are too many.",
        );
        page.number(&[], overflow);
        let report = self.graph_report();
        let of = |state: &'static str| report.depends_on.iter().filter(move |it| it.state == state);
        if of("undeclared").next().is_some() {
            let help = "Calls to clusters that service.depends_on does not declare.";
            page.family("sidelight_dependency_undeclared_calls", Kind::Counter, help);
            for state in of("undeclared") {
                page.number(&[("sidelight_cluster", &state.service)], state.calls);
            }
        }
        if report.depends_on.iter().any(|state| state.criticality.is_some()) {
            let help = "Whether a declared dependency was called since the start.";
            page.family("sidelight_dependency_used", Kind::Gauge, help);
            for state in of("used").chain(of("unused")) {
                page.number(&[("dependency", &state.service)], u64::from(state.calls > 0));
            }
        }
        prometheus::families(&Map::of_report(&report), self.graph_metrics, page);
    }

    /// When the counting began.
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }
}
