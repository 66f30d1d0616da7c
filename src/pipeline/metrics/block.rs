//! What one worker counts: counters of its own, and a histogram cell for each combination of labels that it has met.
//!
//! Why so: with one writer for each number an update is a load, an add and a store; looking a cell up compares four
//! machine words, no texts. How it fails: a combination beyond the registry's cap counts into `_other`; the worker's
//! own table is bounded and starts anew when it is full, its cells stay in the registry.

use super::context::{self, SOURCES};
use super::histogram::{Durations, Sizes, add};
use super::registry::Registry;
use crate::error::Kind;
use crate::exchange::{Direction, Record};
use crate::svc::Version;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

/// Entries of a worker's own table. Reloads leave entries behind (the labels are new objects then), so it is larger
/// than the registry's cap, and bounded.
const LOCAL_SERIES_MAX: usize = 4096;

/// Rows of [`Block::causes`]: every [`Kind`], and one for exchanges without a cause.
pub(super) const CAUSES: usize = Kind::ALL.len() + 1;

/// Methods that are a label of their own; OpenTelemetry wants all others as `_OTHER`.
pub(super) const METHODS: [&str; 12] =
    ["", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY", "_OTHER"];

/// The position of a method in [`METHODS`].
pub(crate) fn method_class(method: &[u8]) -> u8 {
    match method {
        b"" => 0,
        b"GET" => 1,
        b"HEAD" => 2,
        b"POST" => 3,
        b"PUT" => 4,
        b"DELETE" => 5,
        b"CONNECT" => 6,
        b"OPTIONS" => 7,
        b"TRACE" => 8,
        b"PATCH" => 9,
        b"QUERY" => 10,
        _ => METHOD_OTHER,
    }
}

/// [`method_class`] of a method that is not in the list.
pub(crate) const METHOD_OTHER: u8 = 11;

/// The counters of one worker. Its worker is the only writer.
#[derive(Default)]
#[repr(align(128))]
pub struct Block {
    /// Records handed out: exchanges that began.
    pub(super) started: AtomicU64,
    /// Records that came back: exchanges that ended, each an event.
    pub(super) produced: AtomicU64,
    /// Events that found the ring full.
    pub(super) dropped: AtomicU64,
    /// Bytes that opaque connections and tunnels received from clients.
    pub(super) received_bytes: AtomicU64,
    /// Bytes that they sent to clients.
    pub(super) sent_bytes: AtomicU64,
    /// Exchanges that ended, by direction and cause.
    pub(super) causes: Causes,
    /// Unix seconds of the last exchange with that cause, either direction.
    pub(super) cause_at: Causes,
    /// Context fields that were refused.
    pub(super) context_dropped: PerDirection,
    /// Context fields whose two carriers disagreed.
    pub(super) context_disagreed: PerDirection,
}

/// A number for each direction.
#[derive(Default)]
pub(super) struct PerDirection([AtomicU64; 2]);

impl PerDirection {
    /// The number of a direction.
    pub(super) fn get(&self, direction: Direction) -> &AtomicU64 {
        let [inbound, outbound] = &self.0;
        match direction {
            Direction::Inbound => inbound,
            Direction::Outbound => outbound,
        }
    }
}

/// A number for each direction and cause; the last row is "no cause".
pub(super) struct Causes([[AtomicU64; CAUSES]; 2]);

impl Default for Causes {
    fn default() -> Self {
        Causes([const { [const { AtomicU64::new(0) }; CAUSES] }; 2])
    }
}

impl Causes {
    /// The number of a direction and cause.
    pub(super) fn get(&self, direction: Direction, cause: Option<Kind>) -> &AtomicU64 {
        let [inbound, outbound] = &self.0;
        let row = match direction {
            Direction::Inbound => inbound,
            Direction::Outbound => outbound,
        };
        let [rows @ .., none] = row;
        cause.and_then(|kind| rows.get(kind as usize)).unwrap_or(none)
    }
}

impl Block {
    /// Exchanges that ended, so far.
    pub(crate) fn produced(&self) -> u64 {
        self.produced.load(Ordering::Acquire)
    }

    /// Events that found the ring full, so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Acquire)
    }

    /// Counts an event that found the ring full. For the worker only.
    #[inline]
    pub(crate) fn count_dropped(&self) {
        // Release: who sees the drop also sees that the event was produced before.
        self.dropped.store(self.dropped.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// Counts an exchange that begins. For the worker only.
    #[inline]
    pub(crate) fn count_started(&self) {
        add(&self.started, 1);
    }

    /// Counts bytes of an opaque connection or tunnel. For the worker only.
    #[inline]
    pub(crate) fn count_transferred(&self, received_bytes: u64, sent_bytes: u64) {
        add(&self.received_bytes, received_bytes);
        add(&self.sent_bytes, sent_bytes);
    }
}

/// The labels of a series.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Inbound or outbound.
    pub direction: Direction,
    /// The cluster, if one was chosen.
    pub cluster: Option<Arc<str>>,
    /// The route, if one matched.
    pub route: Option<Arc<str>>,
    /// The route's path pattern.
    pub pattern: Option<Arc<str>>,
    /// The position of the method among the known ones.
    pub method: u8,
    /// The status that the client was given; 0 without one.
    pub status: u16,
    /// The client's protocol version.
    pub version: Version,
    /// Whether the client's connection is TLS.
    pub is_tls: bool,
    /// What went wrong.
    pub cause: Option<Kind>,
}

impl Key {
    pub(super) fn of(record: &Record) -> Key {
        Key {
            direction: record.direction,
            cluster: record.cluster.clone(),
            route: record.route.clone(),
            pattern: record.pattern.clone(),
            method: method_class(record.text(record.method)),
            status: record.status,
            version: record.version,
            is_tls: record.is_tls,
            cause: record.cause,
        }
    }

    /// The labels of everything beyond the cap.
    pub(super) fn other(direction: Direction) -> Key {
        Key {
            direction,
            cluster: Some("_other".into()),
            route: Some("_other".into()),
            pattern: None,
            method: METHOD_OTHER,
            status: 0,
            version: Version::Http11,
            is_tls: false,
            cause: None,
        }
    }
}

/// What is counted for one worker and one [`Key`].
pub struct Cell {
    /// How long exchanges took.
    pub(super) duration: Durations,
    /// Content bytes from clients.
    pub(super) request_body: Sizes,
    /// Content bytes to clients.
    pub(super) response_body: Sizes,
    /// Attempts beyond the first.
    pub(super) retries: AtomicU64,
    /// How the parents were found, in the order of [`SOURCES`]; of outbound exchanges only.
    pub(super) parents: [AtomicU64; SOURCES.len()],
}

impl Default for Cell {
    fn default() -> Self {
        Cell {
            duration: Durations::durations(),
            request_body: Sizes::sizes(),
            response_body: Sizes::sizes(),
            retries: AtomicU64::new(0),
            parents: [const { AtomicU64::new(0) }; SOURCES.len()],
        }
    }
}

/// [`Key`] as machine words: labels by the address of their text, the rest packed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LocalKey {
    cluster: usize,
    route: usize,
    pattern: usize,
    rest: u64,
}

impl LocalKey {
    pub(super) fn of(record: &Record) -> LocalKey {
        let cause = record.cause.map_or(u8::MAX, |kind| kind as u8);
        let bits = [
            record.direction as u8,
            method_class(record.text(record.method)),
            record.version as u8,
            u8::from(record.is_tls),
            cause,
            0,
            0,
            0,
        ];
        LocalKey {
            cluster: address(&record.cluster),
            route: address(&record.route),
            pattern: address(&record.pattern),
            rest: u64::from_le_bytes(bits) | u64::from(record.status) << 48,
        }
    }
}

impl LocalKey {
    /// A number below `1 << bits` that is the same for equal keys.
    #[inline]
    pub(super) fn place(&self, bits: u32) -> usize {
        let mixed =
            self.cluster.rotate_left(9) ^ self.route.rotate_left(18) ^ self.pattern ^ self.rest as usize;
        let mixed = mixed ^ (self.rest >> 32) as usize;
        // Addresses are multiples of 8 or 16; the product moves their differing bits to the top.
        mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as usize) >> (usize::BITS - bits)
    }
}

fn address(text: &Option<Arc<str>>) -> usize {
    text.as_ref().map_or(0, |text| Arc::as_ptr(text).cast::<u8>().addr())
}

/// A cell, with the labels whose addresses name it: they are kept alive so that no other text can get the address.
struct Local {
    _labels: [Option<Arc<str>>; 3],
    cell: Arc<Cell>,
    is_other: bool,
}

/// A worker's side of the metrics.
pub(crate) struct Writer {
    worker: usize,
    block: Arc<Block>,
    registry: Arc<Registry>,
    cells: HashMap<LocalKey, Local, foldhash::fast::RandomState>,
}

impl Writer {
    pub(super) fn new(worker: usize, block: Arc<Block>, registry: Arc<Registry>) -> Writer {
        Writer { worker, block, registry, cells: HashMap::default() }
    }

    /// The worker's counters.
    pub(crate) fn block(&self) -> &Arc<Block> {
        &self.block
    }

    /// Counts an exchange that ended.
    pub(crate) fn count(&mut self, record: &Record) {
        let block = &*self.block;
        add(&block.produced, 1);
        add(block.causes.get(record.direction, record.cause), 1);
        if record.cause.is_some() {
            let ended = record.started_at.checked_add(record.duration).unwrap_or(UNIX_EPOCH);
            let seconds = ended.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            block.cause_at.get(record.direction, record.cause).store(seconds, Ordering::Relaxed);
        }
        if record.context_dropped > 0 {
            add(block.context_dropped.get(record.direction), u64::from(record.context_dropped));
        }
        if record.context_disagreed > 0 {
            add(block.context_disagreed.get(record.direction), u64::from(record.context_disagreed));
        }
        if record.is_opaque {
            block.count_transferred(record.request_bytes, record.response_bytes);
            return; // no HTTP, so nothing for HTTP's histograms
        }
        let key = LocalKey::of(record);
        if let Some(local) = self.cells.get(&key) {
            return local.count(record, &self.registry);
        }
        self.learn(key, record);
        if let Some(local) = self.cells.get(&key) {
            local.count(record, &self.registry);
        }
    }

    #[cold]
    fn learn(&mut self, key: LocalKey, record: &Record) {
        if self.cells.len() >= LOCAL_SERIES_MAX {
            self.cells.clear();
        }
        let (cell, is_other) = self.registry.cell(self.worker, Key::of(record));
        let labels = [record.cluster.clone(), record.route.clone(), record.pattern.clone()];
        self.cells.insert(key, Local { _labels: labels, cell, is_other });
    }
}

impl Local {
    #[inline]
    fn count(&self, record: &Record, registry: &Registry) {
        let cell = &*self.cell;
        cell.duration.observe_duration(record.duration);
        cell.request_body.observe(record.request_bytes);
        cell.response_body.observe(record.response_bytes);
        if record.direction == Direction::Outbound
            && let Some(count) = cell.parents.get(context::position(record.parent_source))
        {
            add(count, 1);
        }
        if record.attempts > 1 {
            add(&cell.retries, u64::from(record.retries()));
        }
        if self.is_other {
            registry.count_overflow();
        }
    }
}
