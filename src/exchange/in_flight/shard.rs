//! The exchanges of one worker, and what follows from how they ended.
//!
//! What: entries lie side by side, those under way first, so that a look at all of them reads nothing else; who leaves
//! changes places with the last one. Used entries keep their buffers. How it fails: at [`ENTRIES_MAX`] an exchange is only
//! counted.

use super::search::Search;
use super::{BACKGROUND, ENTRIES_MAX, GHOST, Keys, TEXT_BYTES_MAX};
use crate::cluster::clock_ns;
use crate::context::TraceParent;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The most ids of exchanges that ended early that a worker remembers, at three for each.
const GHOST_IDS_MAX: usize = 65_536;
/// A used buffer that is larger is freed.
const SPARE_CONTEXT_BYTES_MAX: usize = 4 << 10;

/// What all workers know of the application. Written before the lock of a shard is given back, read after that lock was
/// taken; so whoever sees an exchange gone sees what came of it too.
#[derive(Debug, Default)]
pub(super) struct Belief {
    /// Whether an exchange was entered, ever: what is called before is how the application starts.
    has_served: AtomicBool,
    /// Until when somebody may be at work for an exchange that ended early.
    ghost_until_ns: AtomicU64,
    /// Until when calls may belong to nobody.
    background_until_ns: AtomicU64,
}

impl Belief {
    /// Whether the exchange that is alone is the one that is served.
    pub(super) fn in_sole(&self, now_ns: u64) -> bool {
        self.ghost_until_ns.load(Relaxed) <= now_ns && self.background_until_ns.load(Relaxed) <= now_ns
    }

    /// A call was made while nobody was served.
    pub(super) fn note_background(&self, now_ns: u64) {
        if self.has_served.load(Relaxed) {
            self.background_until_ns.fetch_max(after(now_ns, BACKGROUND), Relaxed);
        }
    }
}

/// The exchanges of one worker.
#[derive(Debug)]
pub struct Shard {
    belief: Arc<Belief>,
    slab: Mutex<Slab>,
}

/// An exchange's place, to be given back by [`Place::leave`]. One that is only dropped counts as an exchange that ended
/// early.
#[derive(Debug)]
pub struct Place {
    shard: Arc<Shard>,
    /// The entry's; `None`: it found no room.
    slot: Option<u32>,
    has_left: bool,
}

/// The entries of a shard.
#[derive(Debug, Default)]
pub(super) struct Slab {
    /// Those under way, then those that are free.
    entries: Vec<Entry>,
    /// How many are under way.
    live: usize,
    /// Where the entry of each slot is.
    positions: Vec<u32>,
    /// Exchanges that found no room.
    missed: usize,
    /// Until when somebody may be at work for an exchange that is not known here.
    blind_until_ns: u64,
    /// Ids of exchanges that ended early, and until when somebody may be at work for them.
    ghosts: HashMap<u64, u64, foldhash::fast::RandomState>,
    /// When those that are over are next removed.
    purge_at_ns: u64,
}

/// What is known of an exchange.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its name, which stays the same wherever it lies.
    slot: u32,
    pub(super) ids: Ids,
    /// When it was entered.
    pub(super) since_ns: u64,
    /// Its context, in the form of whoever entered it.
    pub(super) context: Vec<u8>,
}

/// What an exchange is found by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids {
    pub(super) trace: TraceParent,
    /// The hash of its request id.
    pub(super) request: u64,
    /// The hash of the field that is echoed by configuration.
    pub(super) echo: u64,
}

impl Ids {
    fn new(keys: &Keys<'_>) -> Ids {
        Ids { trace: keys.trace, request: hash(keys.request_id), echo: hash(keys.echo) }
    }
}

impl Shard {
    pub(super) fn new(belief: &Arc<Belief>) -> Shard {
        Shard { belief: Arc::clone(belief), slab: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Slab> {
        // If a caller's closure panics in `enter`, its entry is not counted yet: the slab is whole.
        self.slab.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self) -> usize {
        self.lock().count()
    }

    pub(super) fn look(&self, search: &mut Search<'_>) {
        search.look(&self.lock());
    }

    pub(super) fn each(&self, see: impl FnMut(&Entry)) {
        self.lock().live().iter().for_each(see);
    }

    /// Enters an exchange, before the application is given it. `context` appends what is to be handed to the calls that
    /// serve it; it is called under the shard's lock, so it only copies.
    pub fn enter(
        self: &Arc<Self>,
        keys: &Keys<'_>,
        now_ns: u64,
        context: impl FnOnce(&mut Vec<u8>),
    ) -> Place {
        if !self.belief.has_served.load(Relaxed) {
            self.belief.has_served.store(true, Relaxed);
        }
        let ids = Ids::new(keys);
        let slot = self.lock().enter(ids, now_ns, context);
        Place { shard: Arc::clone(self), slot, has_left: false }
    }

    fn leave(&self, slot: Option<u32>, is_whole: bool, now_ns: u64) {
        let ghost_until_ns = (!is_whole).then(|| after(now_ns, GHOST));
        if let Some(until_ns) = ghost_until_ns {
            self.belief.ghost_until_ns.fetch_max(until_ns, Relaxed);
        }
        self.lock().leave(slot, ghost_until_ns, now_ns);
    }
}

impl Place {
    /// The exchange ended. `is_whole`: the application is done with it, because it answered all that it was given of it to
    /// the end, or was given nothing. Not whole is one whose answer was cut, or made by the proxy instead, or that was
    /// tried more than once.
    pub fn leave(mut self, is_whole: bool, now_ns: u64) {
        self.has_left = true;
        self.shard.leave(self.slot, is_whole, now_ns);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.has_left {
            self.shard.leave(self.slot, false, clock_ns(Instant::now()));
        }
    }
}

impl Slab {
    /// How many are under way, with those that are not known.
    pub(super) fn count(&self) -> usize {
        self.live + self.missed
    }

    /// Those under way that are known.
    pub(super) fn live(&self) -> &[Entry] {
        self.entries.get(..self.live).unwrap_or_default()
    }

    /// Whether somebody may be at work for an exchange that is not known here.
    pub(super) fn is_blind(&self, now_ns: u64) -> bool {
        self.missed > 0 || self.blind_until_ns > now_ns
    }

    /// Whether somebody may be at work for an exchange with this id, which ended early.
    pub(super) fn is_ghost(&self, id: u64, now_ns: u64) -> bool {
        id != 0 && self.ghosts.get(&id).is_some_and(|until_ns| *until_ns > now_ns)
    }

    fn enter(&mut self, ids: Ids, now_ns: u64, context: impl FnOnce(&mut Vec<u8>)) -> Option<u32> {
        if self.live == self.entries.len() && self.live < ENTRIES_MAX {
            let slot = self.live as u32;
            self.entries.push(Entry { slot, ids, since_ns: now_ns, context: Vec::new() });
            self.positions.push(slot);
        }
        let Some(entry) = self.entries.get_mut(self.live) else {
            self.missed += 1;
            return None;
        };
        (entry.ids, entry.since_ns) = (ids, now_ns);
        entry.context.clear();
        context(&mut entry.context);
        if entry.context.len() > TEXT_BYTES_MAX {
            entry.context = Vec::new();
        }
        self.live += 1;
        Some(entry.slot)
    }

    fn leave(&mut self, slot: Option<u32>, ghost_until_ns: Option<u64>, now_ns: u64) {
        let Some(slot) = slot else {
            self.missed = self.missed.saturating_sub(1);
            self.blind_until_ns = self.blind_until_ns.max(ghost_until_ns.unwrap_or_default());
            return;
        };
        let position = self.positions.get(slot as usize).map_or(usize::MAX, |position| *position as usize);
        let Some(last) = self.live.checked_sub(1).filter(|last| position <= *last) else { return };
        self.live = last;
        if position != last {
            self.entries.swap(position, last);
            for place in [position, last] {
                let slot = self.entries.get(place).map(|entry| entry.slot as usize);
                if let Some(known) = slot.and_then(|slot| self.positions.get_mut(slot)) {
                    *known = place as u32;
                }
            }
        }
        let Some(left) = self.entries.get_mut(last) else { return };
        if left.context.capacity() > SPARE_CONTEXT_BYTES_MAX {
            left.context = Vec::new();
        }
        if let Some(until_ns) = ghost_until_ns {
            let ids = left.ids;
            self.remember(ids, until_ns, now_ns);
        }
    }

    fn remember(&mut self, ids: Ids, until_ns: u64, now_ns: u64) {
        let ids = [hash(&ids.trace.trace_id), ids.request, ids.echo];
        if self.purge_at_ns <= now_ns {
            self.ghosts.retain(|_, until_ns| *until_ns > now_ns);
            self.purge_at_ns = after(now_ns, GHOST / 4);
        }
        if self.ghosts.len() + ids.len() > GHOST_IDS_MAX {
            self.blind_until_ns = self.blind_until_ns.max(until_ns);
            return;
        }
        for id in ids.into_iter().filter(|id| *id != 0) {
            let known = self.ghosts.entry(id).or_default();
            *known = until_ns.max(*known);
        }
    }
}

fn after(now_ns: u64, time: Duration) -> u64 {
    now_ns.saturating_add(ns(time))
}

pub(super) fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// 0 for nothing, and for nothing else. Seeded at random for each process. Whoever takes a context because of an id compares
/// the id itself, which it has kept there, so that not even a collision makes a parent.
#[inline]
pub(super) fn hash(bytes: &[u8]) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    static KEY: std::sync::LazyLock<foldhash::quality::RandomState> =
        std::sync::LazyLock::new(Default::default);
    if bytes.is_empty() {
        return 0;
    }
    let mut hasher = KEY.build_hasher();
    hasher.write(bytes);
    hasher.finish().max(1)
}
