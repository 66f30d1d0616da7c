//! What the writer, the cursors and everybody else share: the index of segments, the cursors, and the numbers.
//!
//! Locks: the index, then a cursor's file, then a cursor's account; each is held for a few steps and never over I/O but a
//! cursor's own file. Only the writer changes the list of segments; appending takes no lock at all.

use super::books::{Books, Settled, State};
use super::cursor::Cursor;
use super::segment::{Gap, Segment, lock};
use super::slots::{self, Slots};
use super::{Config, Reason};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The file that a process locks: one spool has a directory.
pub(super) const LOCK: &str = "lock";

/// Where a new cursor begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest event that is there.
    Beginning,
    /// At the next event.
    End,
}

/// Bytes that are not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The first sequence number of the segment, which its file's name begins with.
    pub segment: u64,
    /// The first byte.
    pub from: u64,
    /// The byte after the last.
    pub to: u64,
}

/// How the spool is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Events go through memory: there is no directory, or the disk refuses.
    pub is_in_memory: bool,
    /// Segments that some cursor has not had.
    pub segments: usize,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// The last sequence number that was given.
    pub assigned: u64,
    /// The last sequence number that cursors can read.
    pub published: u64,
    /// How often the disk refused bytes.
    pub write_errors: u64,
    /// Ranges of damaged bytes that cursors met, each cursor by itself.
    pub damaged_ranges: u64,
    /// Bytes of them.
    pub damaged_bytes: u64,
    /// The last of them.
    pub last_damage: Option<Damage>,
    /// Bytes that were read to open the spool.
    pub opening_bytes: u64,
}

/// The segments, oldest first, and the cursors.
#[derive(Default)]
pub(super) struct Index {
    pub(super) segments: VecDeque<Arc<Segment>>,
    pub(super) cursors: Vec<Arc<State>>,
}

impl Index {
    /// The segment in which `sequence` is, or else the first one after it.
    pub(super) fn find(&self, sequence: u64) -> Option<&Arc<Segment>> {
        let after = self.segments.partition_point(|segment| segment.first <= sequence);
        let holds = |segment: &&Arc<Segment>| !segment.is_sealed() || segment.last() >= sequence;
        let before = after.checked_sub(1).and_then(|at| self.segments.get(at));
        before.filter(holds).or_else(|| self.segments.get(after))
    }

    pub(super) fn position_of(&self, segment: &Arc<Segment>) -> Option<usize> {
        self.segments.iter().position(|other| Arc::ptr_eq(other, segment))
    }

    /// Settles a gap for the cursors that stand at or in it. Returns those; their positions should be persisted.
    pub(super) fn settle(&self, gap: Gap) -> Vec<Arc<State>> {
        let mut settled_by = Vec::new();
        for state in &self.cursors {
            let settled = &mut *lock(&state.settled);
            if settled.position + 1 >= gap.first && settled.position < gap.last {
                settled.drop(gap.last, gap.reason);
                settled_by.push(Arc::clone(state));
            }
        }
        settled_by
    }
}

/// What all share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) index: Mutex<Index>,
    pub(super) assigned: AtomicU64,
    pub(super) published: AtomicU64,
    pub(super) disk_bytes: AtomicU64,
    pub(super) memory_bytes: AtomicU64,
    pub(super) write_errors: AtomicU64,
    pub(super) is_in_memory: AtomicBool,
    pub(super) opening_bytes: u64,
    damage: Mutex<Damages>,
    waiting: AtomicUsize,
    gate: Mutex<()>,
    news: Condvar,
    /// Held for as long as anybody has the spool.
    _lock: Option<File>,
}

#[derive(Default)]
struct Damages {
    ranges: u64,
    bytes: u64,
    last: Option<Damage>,
}

impl Shared {
    pub(super) fn new(
        config: Config,
        index: Index,
        assigned: u64,
        disk_bytes: u64,
        opening_bytes: u64,
        lock: Option<File>,
    ) -> Shared {
        Shared {
            is_in_memory: AtomicBool::new(config.directory.is_none()),
            config,
            index: Mutex::new(index),
            assigned: AtomicU64::new(assigned),
            published: AtomicU64::new(assigned),
            disk_bytes: AtomicU64::new(disk_bytes),
            memory_bytes: AtomicU64::new(0),
            write_errors: AtomicU64::new(0),
            opening_bytes,
            damage: Mutex::default(),
            waiting: AtomicUsize::new(0),
            gate: Mutex::default(),
            news: Condvar::new(),
            _lock: lock,
        }
    }

    pub(super) fn assigned(&self) -> u64 {
        self.assigned.load(Ordering::Acquire)
    }

    pub(super) fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// Lets cursors read up to `last`, and wakes those that wait.
    pub(super) fn publish(&self, last: u64) {
        self.published.store(last, Ordering::Release);
        // Either this sees who waits, or who waits sees the number (see `wait`).
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.wake();
        }
    }

    pub(super) fn wake(&self) {
        drop(lock(&self.gate));
        self.news.notify_all();
    }

    /// Waits until there is something beyond `sequence`. Returns whether there is.
    pub(super) fn wait(&self, sequence: u64, is_over: impl Fn() -> bool, timeout: Duration) -> bool {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let is_quiet = |(): &mut ()| self.published() <= sequence && !is_over();
        let waited = self.news.wait_timeout_while(lock(&self.gate), timeout, is_quiet);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.published() > sequence
    }

    /// A cursor met bytes that are not what was written.
    pub(super) fn note_damage(&self, damage: Damage) {
        let damages = &mut *lock(&self.damage);
        damages.ranges += 1;
        if damages.ranges.is_power_of_two() {
            let (segment, from, to) = (damage.segment, damage.from, damage.to);
            tracing::warn!(segment, from, to, ranges = damages.ranges, "the spool has damaged bytes");
        }
        damages.bytes += damage.to - damage.from;
        damages.last = Some(damage);
    }
}

/// The handle of the spool for everybody but its writer.
#[derive(Clone)]
pub struct Spool(pub(super) Arc<Shared>);

impl Spool {
    /// The cursor `name`, at the place where it was left, or else where `start` says. Its events are kept until it had
    /// them, also while nobody has the cursor, until [`Spool::remove`].
    ///
    /// # Errors
    /// Somebody has it (`AlreadyExists`), or `name` is not made of 1 to 64 letters, digits and `-_.` (`InvalidInput`).
    /// When its file cannot be opened it works all the same, but a restart does not know it.
    pub fn cursor(&self, name: &str, start: Start) -> io::Result<Cursor> {
        if !slots::is_name(name) {
            let text = format!(
                "`{name}` cannot be the name of a cursor: letters, digits, `-`, `_` and `.`, at most 64"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let shared = &self.0;
        let state = match self.state(name) {
            Some(state) => state,
            None => self.register(name, start),
        };
        if state.is_taken.swap(true, Ordering::AcqRel) {
            let text = format!("the cursor `{name}` is in use");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        state.is_ending.store(false, Ordering::Release);
        Ok(Cursor::new(Arc::clone(shared), state))
    }

    fn state(&self, name: &str) -> Option<Arc<State>> {
        lock(&self.0.index).cursors.iter().find(|state| state.name == name).cloned()
    }

    fn register(&self, name: &str, start: Start) -> Arc<State> {
        let opened = self.0.config.directory.as_deref().map(|directory| Slots::open(directory, name));
        if let Some(Err(error)) = &opened {
            tracing::warn!(cursor = name, %error, "cannot open a cursor's file: a restart will not know it");
        }
        // What it says is of one that was removed: all others were read when the spool was opened.
        let slots = opened.and_then(Result::ok).map(|(slots, _)| slots);
        let mut index = lock(&self.0.index);
        if let Some(state) = index.cursors.iter().find(|state| state.name == name) {
            return Arc::clone(state);
        }
        let position = match (start, index.segments.front()) {
            (Start::End, _) => self.0.assigned(),
            (Start::Beginning, Some(oldest)) => oldest.first - 1,
            (Start::Beginning, None) => self.0.published(),
        };
        let state = Arc::new(State::new(name, Settled::at(position), slots, position));
        index.cursors.push(Arc::clone(&state));
        drop(index);
        state.persist();
        state
    }

    /// Forgets the cursor `name`: its events are kept for it no longer, and whoever has it reads nothing more. Returns
    /// whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        let Some(state) = self.state(name) else { return false };
        lock(&self.0.index).cursors.retain(|other| !Arc::ptr_eq(other, &state));
        state.remove();
        if let Some(directory) = &self.0.config.directory
            && let Err(error) = std::fs::remove_file(slots::path(directory, name))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(cursor = name, %error, "cannot delete a cursor's file");
        }
        self.0.wake();
        true
    }

    /// Asks whoever has the cursor `name` to come to an end: it does not wait for events any more ([`Cursor::is_ending`]).
    /// The cursor stays, for whoever asks for it next.
    pub fn end(&self, name: &str) {
        if let Some(state) = self.state(name) {
            state.is_ending.store(true, Ordering::Release);
            self.0.wake();
        }
    }

    /// Whether anybody wants events.
    pub fn has_cursors(&self) -> bool {
        !lock(&self.0.index).cursors.is_empty()
    }

    /// The last sequence number that was given.
    pub fn assigned(&self) -> u64 {
        self.0.assigned()
    }

    /// Forgets all cursors but these: those of sinks that are configured no longer.
    pub fn retain(&self, names: &[&str]) {
        let cursors: Vec<String> =
            lock(&self.0.index).cursors.iter().map(|state| state.name.clone()).collect();
        for name in cursors.iter().filter(|name| !names.contains(&name.as_str())) {
            self.remove(name);
        }
    }

    /// The account of each cursor.
    pub fn books(&self) -> Vec<Books> {
        let cursors = lock(&self.0.index).cursors.clone();
        cursors.iter().map(|state| state.books(|| self.0.assigned())).collect()
    }

    /// How the spool is.
    pub fn status(&self) -> Status {
        let shared = &*self.0;
        let segments = lock(&shared.index).segments.len();
        let damages = lock(&shared.damage);
        Status {
            is_in_memory: shared.is_in_memory.load(Ordering::Acquire),
            segments,
            disk_bytes: shared.disk_bytes.load(Ordering::Acquire),
            memory_bytes: shared.memory_bytes.load(Ordering::Acquire),
            assigned: shared.assigned(),
            published: shared.published(),
            write_errors: shared.write_errors.load(Ordering::Acquire),
            damaged_ranges: damages.ranges,
            damaged_bytes: damages.bytes,
            last_damage: damages.last.clone(),
            opening_bytes: shared.opening_bytes,
        }
    }
}

/// All that is missing before `first` is lost: for cursors of files that are gone.
pub(super) fn settle_lost(settled: &mut Settled, first: u64) {
    settled.drop(first.saturating_sub(1), Reason::Lost);
}
