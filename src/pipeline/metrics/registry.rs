//! Everything that can be scraped, in one place.
//!
//! What: the workers' blocks and cells, the listeners' counters, the clusters of the configuration in force, and the
//! accounts of the pipeline. Why one object: the scraper, the admin page and the tests read the same numbers.
//! How it fails: a combination of labels beyond [`SERIES_MAX`] is given the `_other` cell, and each exchange counted
//! there is counted once more in `sidelight_metrics_overflow_total`.

use super::block::{Block, Cell, Key, Writer};
use super::connections::ConnectionStats;
use super::exemplars::Table;
use crate::cluster::Cluster;
use crate::error::Kind;
use crate::exchange::Direction;
use crate::pipeline::app_log::Stats;
use crate::pipeline::graph::{self, Live};
use crate::pipeline::{Accounts, Service};
use crate::quota::Limits;
use crate::resilience::admission::Admission;
use crate::resilience::overload::Overload;
use arc_swap::ArcSwap;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Combinations of labels that have series of their own.
pub const SERIES_MAX: usize = 1000;

/// One [`Cell`] for each worker that has met the labels.
pub(super) type Cells = Vec<(usize, Arc<Cell>)>;

/// What can be scraped.
pub struct Registry {
    pub(super) service: Service,
    pub(super) started_at: SystemTime,
    pub(super) blocks: Vec<Arc<Block>>,
    pub(super) series: DashMap<Key, Cells, foldhash::fast::RandomState>,
    series_count: AtomicUsize,
    pub(super) overflow: AtomicU64,
    /// By series; written by the pipeline's thread.
    pub(super) exemplars: Mutex<Table>,
    pub(super) connections: Mutex<Vec<Arc<ConnectionStats>>>,
    pub(super) clusters: ArcSwap<Vec<Arc<Cluster>>>,
    pub(super) limits: OnceLock<Arc<Limits>>,
    pub(super) admissions: ArcSwap<Vec<Arc<Admission>>>,
    pub(super) overload: OnceLock<Arc<Overload>>,
    pub(super) app_output: OnceLock<Arc<Stats>>,
    pub(super) recorder: OnceLock<crate::record::Recorder>,
    pub(super) config: Mutex<ConfigState>,
    pub(super) accounts: Accounts,
    pub(super) graph: Live,
    pub(super) graph_metrics: graph::config::MetricsConfig,
}

/// What became of configurations.
#[derive(Clone, Debug, Default)]
pub(super) struct ConfigState {
    /// The revision in force.
    pub(super) revision: Arc<str>,
    /// When it came into force.
    pub(super) loaded_at: Option<SystemTime>,
    /// Configurations that came into force, the first one included.
    pub(super) applied: u64,
    /// Configurations that were refused.
    pub(super) refused: u64,
    /// Whether the last one was refused.
    pub(super) is_last_refused: bool,
}

/// One cause of failed exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CauseCount {
    /// Inbound or outbound.
    pub direction: Direction,
    /// The cause.
    pub cause: Kind,
    /// How many exchanges ended with it.
    pub count: u64,
    /// When the last one ended, to the second.
    pub last: SystemTime,
}

/// Takes a lock. What it guards is plain numbers, so a panic elsewhere leaves nothing half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// A registry over the blocks of the workers.
    pub(crate) fn new(service: Service, blocks: Vec<Arc<Block>>, accounts: Accounts) -> Registry {
        Registry {
            service,
            started_at: SystemTime::now(),
            blocks,
            series: DashMap::default(),
            series_count: AtomicUsize::new(0),
            overflow: AtomicU64::new(0),
            exemplars: Mutex::default(),
            connections: Mutex::default(),
            clusters: ArcSwap::default(),
            limits: OnceLock::new(),
            admissions: ArcSwap::default(),
            overload: OnceLock::new(),
            app_output: OnceLock::new(),
            recorder: OnceLock::new(),
            config: Mutex::default(),
            accounts,
            graph: Live::default(),
            graph_metrics: graph::config::MetricsConfig::default(),
        }
    }

    /// The same, with the graph of this process, and the names under which it is shown.
    pub(crate) fn with_graph(
        service: Service,
        blocks: Vec<Arc<Block>>,
        accounts: Accounts,
        graph: Live,
        graph_metrics: graph::config::MetricsConfig,
    ) -> Registry {
        Registry { graph, graph_metrics, ..Registry::new(service, blocks, accounts) }
    }

    /// The dependency graph of this process.
    pub fn graph(&self) -> &Live {
        &self.graph
    }

    /// The counters of a listener; the same ones for the same name. Names come from the configuration.
    pub fn connections(&self, listener: &str) -> Arc<ConnectionStats> {
        let mut all = lock(&self.connections);
        if let Some(known) = all.iter().find(|stats| &*stats.listener == listener) {
            return Arc::clone(known);
        }
        let stats = Arc::new(ConnectionStats::new(listener));
        all.push(Arc::clone(&stats));
        stats
    }

    /// Notes that a configuration came into force, with these clusters.
    pub fn config_applied(&self, revision: &str, clusters: Vec<Arc<Cluster>>) {
        self.clusters.store(Arc::new(clusters));
        let mut config = lock(&self.config);
        config.revision = revision.into();
        config.loaded_at = Some(SystemTime::now());
        config.applied += 1;
        config.is_last_refused = false;
    }

    /// Notes that a configuration was refused and the old one stays.
    pub fn config_refused(&self) {
        let mut config = lock(&self.config);
        config.refused += 1;
        config.is_last_refused = true;
    }

    /// What became of the events.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Exchanges that are under way, both directions.
    pub fn active(&self) -> u64 {
        let ended: u64 = self.sum(|block| &block.produced);
        self.sum(|block| &block.started).saturating_sub(ended)
    }

    /// Exchanges that ended.
    pub fn ended(&self) -> u64 {
        self.sum(|block| &block.produced)
    }

    /// The causes that occurred, the most recent first.
    pub fn causes(&self) -> Vec<CauseCount> {
        let mut causes = Vec::new();
        for direction in [Direction::Inbound, Direction::Outbound] {
            for cause in Kind::ALL {
                let count = self.exchanges(direction, Some(cause));
                let last = self
                    .blocks
                    .iter()
                    .map(|block| block.cause_at.get(direction, Some(cause)).load(Ordering::Relaxed));
                let last = UNIX_EPOCH + Duration::from_secs(last.max().unwrap_or(0));
                if count > 0 {
                    causes.push(CauseCount { direction, cause, count, last });
                }
            }
        }
        causes.sort_by_key(|row| std::cmp::Reverse((row.last, row.count)));
        causes
    }

    /// Exchanges that ended with that cause.
    pub(super) fn exchanges(&self, direction: Direction, cause: Option<Kind>) -> u64 {
        self.blocks.iter().map(|block| block.causes.get(direction, cause).load(Ordering::Relaxed)).sum()
    }

    pub(super) fn sum(&self, counter: impl Fn(&Block) -> &AtomicU64) -> u64 {
        self.blocks.iter().map(|block| counter(block).load(Ordering::Acquire)).sum()
    }

    /// The worker's side, once for each worker.
    pub(crate) fn writer(self: &Arc<Self>, worker: usize) -> Writer {
        let block = self.blocks.get(worker).cloned().unwrap_or_default();
        Writer::new(worker, block, Arc::clone(self))
    }

    /// Counts an exchange beyond the cap.
    pub(super) fn count_overflow(&self) {
        self.overflow.fetch_add(1, Ordering::Relaxed);
    }

    /// The worker's cell for these labels, and whether it is the one for what is beyond the cap.
    pub(super) fn cell(&self, worker: usize, key: Key) -> (Arc<Cell>, bool) {
        let direction = key.direction;
        match self.entry(worker, key, true) {
            Some(cell) => (cell, false),
            None => (self.entry(worker, Key::other(direction), false).unwrap_or_default(), true),
        }
    }

    /// The worker's cell for these labels; `None` when there is no room for more.
    fn entry(&self, worker: usize, key: Key, is_bounded: bool) -> Option<Arc<Cell>> {
        match self.series.entry(key) {
            Entry::Occupied(mut cells) => {
                if let Some((_, cell)) = cells.get().iter().find(|(owner, _)| *owner == worker) {
                    return Some(Arc::clone(cell));
                }
                let cell = Arc::<Cell>::default();
                cells.get_mut().push((worker, Arc::clone(&cell)));
                Some(cell)
            }
            Entry::Vacant(place) => {
                if is_bounded && self.series_count.fetch_add(1, Ordering::Relaxed) >= SERIES_MAX {
                    self.series_count.fetch_sub(1, Ordering::Relaxed);
                    return None;
                }
                let cell = Arc::<Cell>::default();
                place.insert(vec![(worker, Arc::clone(&cell))]);
                Some(cell)
            }
        }
    }
}
