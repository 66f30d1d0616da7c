//! The edges of one sidecar, counted from the records of exchanges.
//!
//! What: one [`Stats`] for each combination of peer or cluster, protocol, route, license and request type. A record is found
//! by one hash over its texts and costs no allocation when its edge is known. Why on the pipeline's thread: a worker pays
//! nothing for it. How it fails: records that the ring refused are not in the table; the metrics have them, and the
//! document says how many are missing. Beyond [`Config::edges_max`] all else of a peer or cluster is one edge, `_other`;
//! beyond as much again, all of it is one for each direction. Licenses are what callers write: the first
//! [`LICENSES_MAX`] are told apart.

use super::config::Config;
use super::document::{Part, Protocol};
use super::moment::Moment;
use super::stats::{Outcome, Stats};
use crate::context::RequestType;
use crate::exchange::{Direction, Record};
use crate::svc::Version;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// Licenses that are told apart; further ones are `_other`.
pub const LICENSES_MAX: usize = 32;
/// Ways to end that are told apart for an edge.
const OUTCOMES_MAX: usize = 32;
/// How often idle edges are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// What is beyond a cap.
pub(super) const OTHER: &str = "_other";

/// What tells an edge from another one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    direction: Direction,
    /// Inbound: the peer's identity; outbound: the cluster.
    end: Option<Arc<str>>,
    protocol: Protocol,
    route: Option<Arc<str>>,
    /// The place in [`Table::licenses`], from 1.
    license: u8,
    request_type: RequestType,
}

impl Key {
    fn is_of(&self, seen: &Seen<'_>) -> bool {
        self.license == seen.license
            && self.direction == seen.direction
            && self.protocol == seen.protocol
            && self.request_type == seen.request_type
            && self.end.as_deref() == seen.end.map(|end| &**end)
            && self.route.as_deref() == seen.route.map(|route| &**route)
    }
}

/// [`Key`] of a record, not yet owned.
#[derive(Clone, Copy)]
struct Seen<'a> {
    direction: Direction,
    end: Option<&'a Arc<str>>,
    protocol: Protocol,
    route: Option<&'a Arc<str>>,
    license: u8,
    request_type: RequestType,
}

impl Seen<'_> {
    /// What of it is no text.
    #[inline]
    fn small(&self) -> u32 {
        let small = [self.direction as u8, self.protocol as u8, self.license, self.request_type as u8];
        u32::from_ne_bytes(small)
    }

    fn hash(&self, with: &foldhash::fast::RandomState) -> u64 {
        let mut hasher = with.build_hasher();
        hasher.write_u32(self.small());
        self.end.hash(&mut hasher);
        self.route.hash(&mut hasher);
        hasher.finish()
    }

    fn to_key(self) -> Key {
        Key {
            direction: self.direction,
            end: self.end.cloned(),
            protocol: self.protocol,
            route: self.route.cloned(),
            license: self.license,
            request_type: self.request_type,
        }
    }
}

/// Edges that were met lately, found by the addresses of their texts: records of one edge point to the same texts.
#[derive(Default)]
struct Recent {
    places: Vec<Option<Met>>,
}

/// How many of them: a power of two.
const RECENT_MAX: usize = 64;

struct Met {
    small: u32,
    /// Kept, so that no other text can come to have the address.
    end: Option<Arc<str>>,
    route: Option<Arc<str>>,
    /// The place of its slot.
    at: usize,
}

#[inline]
fn address(text: Option<&Arc<str>>) -> usize {
    text.map_or(0, |text| Arc::as_ptr(text).cast::<u8>().addr())
}

impl Recent {
    #[inline]
    fn index(seen: &Seen<'_>) -> usize {
        let mixed = address(seen.end).rotate_left(9) ^ address(seen.route) ^ seen.small() as usize;
        mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as usize) >> (usize::BITS - RECENT_MAX.ilog2())
    }

    #[inline]
    fn find(&self, seen: &Seen<'_>) -> Option<usize> {
        let met = self.places.get(Recent::index(seen))?.as_ref()?;
        let is_it = met.small == seen.small()
            && address(met.end.as_ref()) == address(seen.end)
            && address(met.route.as_ref()) == address(seen.route);
        is_it.then_some(met.at)
    }

    #[cold]
    fn learn(&mut self, seen: &Seen<'_>, at: usize) {
        if self.places.is_empty() {
            self.places.resize_with(RECENT_MAX, || None);
        }
        if let Some(place) = self.places.get_mut(Recent::index(seen)) {
            let (end, route) = (seen.end.cloned(), seen.route.cloned());
            *place = Some(Met { small: seen.small(), end, route, at });
        }
    }
}

struct Slot {
    key: Key,
    stats: Stats,
}

/// A side of the graph: everything inbound, or one cluster.
pub(super) type Side = (bool, Option<Arc<str>>);

/// See the module.
pub(crate) struct Table {
    edges_max: usize,
    idle: Duration,
    slots: Vec<Slot>,
    /// Place of a slot by the hash of its key, or the first free number above it.
    index: HashMap<u64, usize, foldhash::fast::RandomState>,
    hasher: foldhash::fast::RandomState,
    recent: Recent,
    licenses: Vec<Box<[u8]>>,
    other: Arc<str>,
    /// Calls of edges that are no longer shown.
    gone: BTreeMap<Side, u64>,
    /// Calls that are in an `_other` edge.
    overflow: u64,
    swept_at: Moment,
}

impl Table {
    pub(crate) fn new(config: &Config) -> Table {
        Table {
            edges_max: config.edges_max.max(1),
            idle: config.idle,
            slots: Vec::new(),
            index: HashMap::default(),
            hasher: foldhash::fast::RandomState::default(),
            recent: Recent::default(),
            licenses: Vec::new(),
            other: OTHER.into(),
            gone: BTreeMap::new(),
            overflow: 0,
            swept_at: Moment::default(),
        }
    }

    /// Counts an exchange that ended. Returns the cluster of an outbound edge that was not there before.
    pub(crate) fn count<'a>(&mut self, record: &'a Record) -> Option<&'a Arc<str>> {
        let is_outbound = record.direction == Direction::Outbound;
        let seen = Seen {
            direction: record.direction,
            end: if is_outbound { record.cluster.as_ref() } else { record.identity.as_ref() },
            protocol: protocol(record),
            route: record.route.as_ref(),
            license: self.license(record.text(record.license)),
            request_type: record.request_type,
        };
        let (at, is_new) = self.place(seen);
        let slot = self.slots.get_mut(at)?;
        add(&mut slot.stats, record);
        seen.end.filter(|_| is_new && is_outbound)
    }

    fn license(&mut self, license: &[u8]) -> u8 {
        if license.is_empty() {
            return 0;
        }
        let known = self.licenses.iter().position(|known| **known == *license);
        let at = known.unwrap_or_else(|| {
            if self.licenses.len() < LICENSES_MAX {
                self.licenses.push(license.into());
                return self.licenses.len() - 1;
            }
            LICENSES_MAX
        });
        u8::try_from(at + 1).unwrap_or(u8::MAX)
    }

    /// The edge of what was seen, and whether it is new.
    #[inline]
    fn place(&mut self, seen: Seen<'_>) -> (usize, bool) {
        if let Some(at) = self.recent.find(&seen) {
            return (at, false);
        }
        match self.find(&seen) {
            Ok(at) => {
                self.recent.learn(&seen, at);
                (at, false)
            }
            Err(free) if self.slots.len() < self.edges_max => (self.insert(free, seen), true),
            Err(_) => self.place_beyond(seen),
        }
    }

    #[cold]
    fn place_beyond(&mut self, seen: Seen<'_>) -> (usize, bool) {
        self.overflow = self.overflow.saturating_add(1);
        let other = Arc::clone(&self.other);
        let rest = |end| Seen {
            end,
            protocol: Protocol::Other,
            route: Some(&other),
            license: u8::MAX,
            request_type: RequestType::Standard,
            ..seen
        };
        let of_end = rest(seen.end);
        match self.find(&of_end) {
            Ok(at) => (at, false),
            Err(free) if self.slots.len() < 2 * self.edges_max => (self.insert(free, of_end), true),
            Err(_) => {
                let of_all = rest(Some(&other));
                (self.find(&of_all).unwrap_or_else(|free| self.insert(free, of_all)), false)
            }
        }
    }

    /// Where it is, or the number under which it may be put.
    fn find(&self, seen: &Seen<'_>) -> Result<usize, u64> {
        let mut hash = seen.hash(&self.hasher);
        while let Some(at) = self.index.get(&hash) {
            if self.slots.get(*at).is_some_and(|slot| slot.key.is_of(seen)) {
                return Ok(*at);
            }
            hash = hash.wrapping_add(1);
        }
        Err(hash)
    }

    #[cold]
    fn insert(&mut self, free: u64, seen: Seen<'_>) -> usize {
        let at = self.slots.len();
        self.index.insert(free, at);
        self.slots.push(Slot { key: seen.to_key(), stats: Stats::default() });
        at
    }

    /// Forgets edges that had no call for a long time, now and then.
    pub(crate) fn sweep(&mut self, now: Moment) {
        if now.since(self.swept_at) < SWEEP_EVERY {
            return;
        }
        self.swept_at = now;
        let idle = self.idle;
        let gone = self.slots.extract_if(.., |slot| now.since(slot.stats.last_seen) > idle);
        let mut is_changed = false;
        for Slot { key, stats } in gone {
            is_changed = true;
            let calls = if key.protocol == Protocol::Tcp { 0 } else { stats.calls };
            *self.gone.entry(side(&key)).or_default() += calls;
        }
        if is_changed {
            self.recent = Recent::default();
            self.index.clear();
            for at in 0..self.slots.len() {
                let Some(slot) = self.slots.get(at) else { break };
                let key = slot.key.clone();
                let seen = Seen {
                    direction: key.direction,
                    end: key.end.as_ref(),
                    protocol: key.protocol,
                    route: key.route.as_ref(),
                    license: key.license,
                    request_type: key.request_type,
                };
                let mut hash = seen.hash(&self.hasher);
                while self.index.contains_key(&hash) {
                    hash = hash.wrapping_add(1);
                }
                self.index.insert(hash, at);
            }
        }
    }

    /// Every edge, by the side that it is on, and how many calls of that side are no longer shown.
    pub(super) fn sides(&self) -> BTreeMap<Side, (Vec<Part>, u64)> {
        let mut sides: BTreeMap<Side, (Vec<Part>, u64)> = BTreeMap::new();
        for (side, calls) in &self.gone {
            sides.entry(side.clone()).or_default().1 = *calls;
        }
        for Slot { key, stats } in &self.slots {
            let (is_outbound, _) = side(key);
            let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
            let part = Part {
                peer: if is_outbound { None } else { text(&key.end) },
                protocol: key.protocol,
                route: text(&key.route),
                license: self.license_text(key.license),
                request_type: Cow::Borrowed(match key.request_type {
                    RequestType::Standard => "STANDARD",
                    RequestType::Trace => "TRACE",
                }),
                stats: stats.clone(),
            };
            sides.entry(side(key)).or_default().0.push(part);
        }
        for (parts, _) in sides.values_mut() {
            parts.sort_by(|a, b| a.order().cmp(&b.order()));
        }
        sides
    }

    fn license_text(&self, license: u8) -> Option<String> {
        let at = usize::from(license).checked_sub(1)?;
        let text = self.licenses.get(at).map(|text| String::from_utf8_lossy(text).into_owned());
        Some(text.unwrap_or_else(|| OTHER.into()))
    }

    /// Calls that are in an `_other` edge because there are too many.
    pub(super) fn overflow(&self) -> u64 {
        self.overflow
    }

    /// How many edges there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}

fn side(key: &Key) -> Side {
    match key.direction {
        Direction::Inbound => (false, None),
        Direction::Outbound => (true, key.end.clone()),
    }
}

fn protocol(record: &Record) -> Protocol {
    let upstream = record.upstream_version.filter(|_| record.direction == Direction::Outbound);
    match upstream.unwrap_or(record.version) {
        _ if record.is_opaque => Protocol::Tcp,
        _ if record.is_grpc => Protocol::Grpc,
        Version::Http10 | Version::Http11 => Protocol::Http1,
        Version::Http2 => Protocol::Http2,
    }
}

#[inline]
fn add(stats: &mut Stats, record: &Record) {
    let outcome = Outcome {
        status: record.status,
        grpc_status: record.grpc_status,
        cause: Cow::Borrowed(record.cause.map_or("", |kind| kind.cause())),
        calls: 1,
    };
    stats.calls += 1;
    stats.failures += u64::from(outcome.is_failure(record.is_opaque));
    stats.attempts += u64::from(record.attempts);
    stats.retries += u64::from(record.retries());
    stats.request_bytes = stats.request_bytes.saturating_add(record.request_bytes);
    stats.response_bytes = stats.response_bytes.saturating_add(record.response_bytes);
    stats.latency_ms.observe(record.duration);
    stats.ended(&outcome, OUTCOMES_MAX);
    let ended = record.started_at.checked_add(record.duration).unwrap_or(record.started_at);
    stats.seen(Moment::of(ended));
}
