//! The graph of this process: counted by the pipeline's thread, read by whoever asks.
//!
//! What: a [`Table`] behind a lock that the pipeline's thread takes once for each visit of its rings, so that a new edge is
//! seen with the next visit, and what the service [declared](Declared). How it fails: a reader holds the pipeline's thread
//! up for as long as copying the table takes, some milliseconds for thousands of edges; workers never wait for it.

use super::config::Config;
use super::declared::{Declared, State};
use super::document::{self, About, Report, SCHEMA, Way, ratio};
use super::moment::Moment;
use super::table::Table;
use crate::exchange::Record;
use crate::pipeline::Service;
use crate::pipeline::metrics::Edge as Counted;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// The schema of the event of a call that nobody declared.
pub const DEPENDENCY: &str = "sidelight/dependency/1";
/// Events that wait for the pipeline's thread; there are no more clusters than the configuration has.
const EVENTS_MAX: usize = 256;

/// See the module.
pub struct Live {
    inner: Mutex<Inner>,
    epoch: u64,
}

struct Inner {
    table: Table,
    declared: Declared,
    /// Undeclared clusters that were told of.
    told: BTreeSet<String>,
    events: Vec<Value>,
}

impl Default for Live {
    fn default() -> Self {
        Live::new(&Config::default(), 0)
    }
}

/// The right to count, for one visit.
pub(crate) struct Visit<'a>(MutexGuard<'a, Inner>);

impl Live {
    /// An empty graph of the process that began at `epoch`, in microseconds since 1970: that of its events.
    pub fn new(config: &Config, epoch: u64) -> Live {
        let inner = Inner {
            table: Table::new(config),
            declared: Declared::default(),
            told: BTreeSet::new(),
            events: Vec::new(),
        };
        Live { inner: Mutex::new(inner), epoch }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing in it is half done between two of its methods.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the service depends on from now on.
    pub fn declare(&self, declared: Declared) {
        let mut inner = self.inner();
        inner.told.retain(|cluster| declared.is_undeclared(cluster));
        inner.declared = declared;
    }

    /// For the pipeline's thread: to count what a visit finds.
    pub(crate) fn visit(&self) -> Visit<'_> {
        Visit(self.inner())
    }

    /// Counts records as one visit of the pipeline's thread does.
    pub fn count_all<'a>(&self, records: impl IntoIterator<Item = &'a Record>) {
        let mut visit = self.visit();
        records.into_iter().for_each(|record| visit.count(record));
    }

    /// What is known, with the exact numbers of the metrics.
    pub fn report(
        &self,
        service: &Service,
        since: SystemTime,
        at: SystemTime,
        counted: &[Counted],
    ) -> Report {
        let mut inner = self.inner();
        inner.table.sweep(Moment::of(at));
        let mut edges = document::edges(&service.name, counted, &inner.table);
        let overflow = inner.table.overflow();
        let depends_on = states(&inner.declared, &edges);
        for edge in edges.iter_mut().filter(|edge| edge.direction == Way::Outbound) {
            let of = edge.to.as_deref().and_then(|cluster| inner.declared.of_cluster(cluster));
            edge.service = of.filter(|of| edge.to.as_ref() != Some(&of.service)).map(|of| of.service.clone());
        }
        drop(inner);
        let calling = || counted.iter().filter(|edge| edge.direction == crate::exchange::Direction::Outbound);
        let (lost, served) = (calling().map(Counted::lost).sum(), calling().map(Counted::served).sum());
        Report {
            schema: SCHEMA.into(),
            service: About::of(service),
            epoch: self.epoch,
            since: Moment::of(since),
            at: Moment::of(at),
            lost_context: lost,
            lost_ratio: ratio(lost, served),
            overflow,
            depends_on,
            edges,
        }
    }

    /// How many edges are kept, and how many calls are beyond the cap.
    pub(crate) fn size(&self) -> (usize, u64) {
        let inner = self.inner();
        (inner.table.len(), inner.table.overflow())
    }
}

impl Visit<'_> {
    /// Counts an exchange that ended.
    #[inline]
    pub(crate) fn count(&mut self, record: &Record) {
        let inner = &mut *self.0;
        if let Some(cluster) = inner.table.count(record) {
            inner.meet(cluster, record);
        }
    }

    /// Forgets what is idle, now and then, and gives the events that are to be written.
    pub(crate) fn end(mut self, now: SystemTime) -> Vec<Value> {
        let inner = &mut *self.0;
        inner.table.sweep(Moment::of(now));
        std::mem::take(&mut inner.events)
    }
}

impl Inner {
    #[cold]
    fn meet(&mut self, cluster: &str, record: &Record) {
        let is_news = self.declared.is_undeclared(cluster) && !self.told.contains(cluster);
        if !is_news || self.events.len() >= EVENTS_MAX {
            return;
        }
        self.told.insert(cluster.to_owned());
        let mut event = json!({
            "sidelight.dependency.state": "undeclared",
            "sidelight.cluster": cluster,
        });
        if let Some(route) = &record.route {
            event["sidelight.route"] = route.as_ref().into();
        }
        tracing::warn!(cluster, "a call to a cluster that service.depends_on does not declare");
        self.events.push(event);
    }
}

/// Each declared dependency, and each that was called though it is not declared.
fn states(declared: &Declared, edges: &[document::Edge]) -> Vec<State> {
    let called = || {
        let outbound = edges.iter().filter(|edge| edge.direction == Way::Outbound);
        outbound.filter_map(|edge| Some((edge.to.as_deref()?, edge.calls)))
    };
    let mut states = Vec::new();
    for dependency in &declared.dependencies {
        let calls = called().filter(|(cluster, _)| dependency.is_reached_by(cluster));
        let calls = calls.fold(0_u64, |sum, (_, calls)| sum.saturating_add(calls));
        states.push(State {
            service: dependency.service.clone(),
            criticality: Some(dependency.criticality),
            state: if calls > 0 { "used" } else { "unused" }.into(),
            calls,
        });
    }
    for (cluster, calls) in called().filter(|(cluster, _)| declared.is_undeclared(cluster)) {
        let state = "undeclared".into();
        states.push(State { service: cluster.to_owned(), criticality: None, state, calls });
    }
    states
}
