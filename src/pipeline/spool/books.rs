//! What became of every event, as one cursor has it.

use super::Reason;
use super::segment::lock;
use super::slots::Slots;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The account of one cursor: `produced = delivered + dropped + queued`, always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Books {
    /// The cursor.
    pub cursor: String,
    /// The last sequence number that is settled.
    pub position: u64,
    /// Events since the cursor was made.
    pub produced: u64,
    /// Those that were committed.
    pub delivered: u64,
    /// Those that it did not get, for each of [`Reason::ALL`].
    pub dropped: [u64; Reason::ALL.len()],
    /// Those that it has not had yet.
    pub queued: u64,
}

impl Books {
    /// All that were dropped.
    pub fn dropped_all(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Whether nothing is missing and nothing too much.
    pub fn is_balanced(&self) -> bool {
        self.produced == self.delivered + self.dropped_all() + self.queued
    }
}

/// Where in a file the next event is. A hint: what is found there is believed only if it fits the sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The segment's first sequence number; 0: unknown.
    pub(super) first: u64,
    pub(super) offset: u64,
}

/// What a cursor has settled: all numbers up to `position`, each once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// The last sequence number before the cursor was made.
    pub(super) start: u64,
    pub(super) position: u64,
    pub(super) delivered: u64,
    pub(super) dropped: [u64; Reason::ALL.len()],
    pub(super) place: Place,
}

impl Settled {
    pub(super) fn at(start: u64) -> Settled {
        Settled { start, position: start, ..Settled::default() }
    }

    /// All up to `last` were delivered.
    pub(super) fn deliver(&mut self, last: u64) {
        self.delivered += last.saturating_sub(self.position);
        self.position = self.position.max(last);
    }

    /// All up to `last` were dropped.
    pub(super) fn drop(&mut self, last: u64, reason: Reason) {
        self.dropped[reason as usize] += last.saturating_sub(self.position);
        self.position = self.position.max(last);
    }

    /// Whether the numbers can be true: a damaged file could say anything.
    pub(super) fn is_sound(&self) -> bool {
        let settled = self.dropped.iter().try_fold(self.delivered, |sum, count| sum.checked_add(*count));
        self.position.checked_sub(self.start).is_some_and(|count| settled == Some(count))
    }
}

/// A cursor, as its reader, the writer and whoever looks at the books share it.
pub(super) struct State {
    pub(super) name: String,
    /// A reader has it.
    pub(super) is_taken: AtomicBool,
    /// It is gone for good.
    pub(super) is_removed: AtomicBool,
    /// Whoever has it is asked to come to an end.
    pub(super) is_ending: AtomicBool,
    pub(super) settled: Mutex<Settled>,
    /// The position that a restart would find.
    pub(super) persisted: AtomicU64,
    /// None: in memory only.
    slots: Mutex<Option<Slots>>,
}

impl State {
    pub(super) fn new(name: &str, settled: Settled, slots: Option<Slots>, persisted: u64) -> State {
        State {
            name: name.into(),
            is_taken: AtomicBool::new(false),
            is_removed: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
            settled: Mutex::new(settled),
            persisted: AtomicU64::new(persisted),
            slots: Mutex::new(slots),
        }
    }

    /// Writes the position down. Returns whether a restart would find it.
    pub(super) fn persist(&self) -> bool {
        let mut slots = lock(&self.slots);
        let settled = *lock(&self.settled);
        let is_written = match &mut *slots {
            _ if self.is_removed.load(Ordering::Acquire) => return false,
            Some(slots) => slots.write(&settled).is_ok(),
            None => true,
        };
        if is_written {
            self.persisted.store(settled.position, Ordering::Release);
        }
        is_written
    }

    /// Whether a restart would find less than is settled.
    pub(super) fn is_behind(&self) -> bool {
        self.persisted.load(Ordering::Acquire) != lock(&self.settled).position
    }

    /// Forgets the file: what is written from now on would be of a cursor that is gone.
    pub(super) fn remove(&self) {
        let mut slots = lock(&self.slots);
        self.is_removed.store(true, Ordering::Release);
        *slots = None;
    }

    /// The account. `assigned` is asked after the position is known, so that it is not less.
    pub(super) fn books(&self, assigned: impl FnOnce() -> u64) -> Books {
        let settled = lock(&self.settled);
        let assigned = assigned().max(settled.position);
        Books {
            cursor: self.name.clone(),
            position: settled.position,
            produced: assigned - settled.start,
            delivered: settled.delivered,
            dropped: settled.dropped,
            queued: assigned - settled.position,
        }
    }
}
