//! Reads the recording again, and puts its exchanges into the order of their starts.
//!
//! A thread of its own, ahead of the pacing thread by a bounded number of bytes. What [`super::plan`] marked as held
//! was read beforehand. A recording that is small as a whole is kept, and later passes do not read it again. How it
//! fails: what could be indexed and now cannot be read is counted, and the rest goes on.

use super::plan::{AHEAD_BYTES_MAX, Plan, UNWANTED};
use super::source::Source;
use crate::record::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// Exchanges that wait between the two threads; their bytes are bounded by [`AHEAD_BYTES_MAX`] as well.
pub(super) const QUEUE: usize = 4096;

/// An exchange whose turn is next.
pub(super) struct Fed {
    pub entry: Arc<Entry>,
    /// In [`Plan::items`].
    pub place: u32,
    pub pass: u32,
}

pub(super) struct Feed {
    pub source: Arc<dyn Source>,
    pub plan: Arc<Plan>,
    pub passes: u32,
    pub out: SyncSender<Fed>,
    /// Bytes that were handed over and not taken yet.
    pub waiting_bytes: Arc<AtomicU64>,
    pub is_stopped: Box<dyn Fn() -> bool + Send>,
}

/// The receiver is gone, or the run is stopped: not a failure.
struct Over;

impl Feed {
    /// Runs to the end; says how many exchanges could not be read.
    pub(super) fn run(self) -> u64 {
        let mut unreadable = 0;
        let held = if self.plan.has_held { self.held() } else { HashMap::new() };
        let total: u64 = self.plan.items.iter().map(|item| u64::from(item.bytes)).sum();
        let mut kept: Option<Vec<(u32, Arc<Entry>)>> =
            (self.passes > 1 && total <= AHEAD_BYTES_MAX).then(Vec::new);
        for pass in 0..self.passes {
            let done = match &mut kept {
                Some(kept) if pass > 0 => kept
                    .iter()
                    .try_for_each(|(place, entry)| self.hand(Arc::clone(entry), *place, pass))
                    .map(|()| 0),
                _ => self.read(pass, &held, kept.as_mut()),
            };
            match done {
                Ok(missing) => {
                    unreadable += missing;
                    // Nothing can be read any more: another pass would not end either.
                    if missing >= self.plan.items.len() as u64 {
                        break;
                    }
                }
                Err(Over) => break,
            }
            if kept.as_ref().is_some_and(Vec::is_empty) {
                break;
            }
        }
        unreadable
    }

    fn held(&self) -> HashMap<u32, Arc<Entry>> {
        let mut held = HashMap::new();
        for (position, entry) in self.source.entries().filter_map(Result::ok).enumerate() {
            let place = self.plan.places.get(position).copied().unwrap_or(UNWANTED);
            if self.plan.items.get(place as usize).is_some_and(|item| item.is_held) {
                held.insert(place, Arc::new(entry));
            }
        }
        held
    }

    fn read(
        &self,
        pass: u32,
        held: &HashMap<u32, Arc<Entry>>,
        mut keep: Option<&mut Vec<(u32, Arc<Entry>)>>,
    ) -> Result<u64, Over> {
        let (mut next, mut missing) = (0u32, 0u64);
        let mut early: BTreeMap<u32, Arc<Entry>> = BTreeMap::new();
        let mut hand = |place: u32, entry: Arc<Entry>| {
            if let Some(kept) = &mut keep {
                kept.push((place, Arc::clone(&entry)));
            }
            self.hand(entry, place, pass)
        };
        let mut advance = |early: &mut BTreeMap<u32, Arc<Entry>>, next: &mut u32| -> Result<(), Over> {
            while let Some(entry) = early.remove(next).or_else(|| held.get(next).cloned()) {
                hand(*next, entry)?;
                *next += 1;
            }
            Ok(())
        };
        for (position, entry) in self.source.entries().filter_map(Result::ok).enumerate() {
            let place = self.plan.places.get(position).copied().unwrap_or(UNWANTED);
            let Some(item) = self.plan.items.get(place as usize) else { continue };
            // A file that changed under us is not what was planned.
            if item.is_held || item.sequence != entry.sequence {
                continue;
            }
            early.insert(place, Arc::new(entry));
            advance(&mut early, &mut next)?;
        }
        // What is left waits for places that were not read: they are passed over.
        let count = self.plan.items.len() as u32;
        while next < count {
            advance(&mut early, &mut next)?;
            if next < count {
                missing += 1;
                next += 1;
            }
        }
        Ok(missing)
    }

    fn hand(&self, entry: Arc<Entry>, place: u32, pass: u32) -> Result<(), Over> {
        let bytes = self.plan.items.get(place as usize).map_or(0, |item| u64::from(item.bytes));
        // One that is larger than the bound goes alone.
        while self.waiting_bytes.load(Ordering::Acquire) > AHEAD_BYTES_MAX {
            if (self.is_stopped)() {
                return Err(Over);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if (self.is_stopped)() {
            return Err(Over);
        }
        self.waiting_bytes.fetch_add(bytes, Ordering::AcqRel);
        self.out.send(Fed { entry, place, pass }).map_err(|_| Over)
    }
}
