//! What a cursor reads at once: events in one buffer, which is used again and again, so that reading allocates nothing; or
//! where they are, in pieces of a segment in memory.

use super::Class;
use super::frame::HEAD_BYTES;
use bytes::Bytes;
use std::ops::Range;

/// Events in one buffer, used again and again.
pub struct Batch {
    pub(super) bytes: Vec<u8>,
    /// Pieces of segments in memory that entries point into.
    pieces: Vec<Bytes>,
    /// Bytes that were read; in `bytes`, where they come from a file, entries may point into so many.
    pub(super) filled: usize,
    pub(super) entries: Vec<Entry>,
    pub(super) bytes_max: usize,
    pub(super) events_max: usize,
    /// The part that is looked at.
    window: Option<Range<usize>>,
}

pub(super) struct Entry {
    pub(super) sequence: u64,
    pub(super) class: Class,
    /// The piece that it is in; absent: the batch's own buffer.
    pub(super) piece: Option<usize>,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// One event of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its number.
    pub sequence: u64,
    /// How much it matters.
    pub class: Class,
    /// What was appended.
    pub payload: &'a [u8],
}

impl Batch {
    /// For at most so many bytes and events; one event that is longer than that is read alone.
    pub fn new(bytes_max: usize, events_max: usize) -> Batch {
        let (bytes_max, events_max) = (bytes_max.max(HEAD_BYTES), events_max.max(1));
        let (bytes, pieces, entries) = (Vec::new(), Vec::new(), Vec::new());
        Batch { bytes, pieces, filled: 0, entries, bytes_max, events_max, window: None }
    }

    /// Leaves all events but those in `range` (of the whole batch) out of sight, until it is called again or the batch is
    /// read again.
    pub fn narrow(&mut self, range: Range<usize>) {
        self.window = Some(range);
    }

    fn seen(&self) -> &[Entry] {
        match &self.window {
            None => &self.entries,
            Some(range) => self.entries.get(range.clone()).unwrap_or_default(),
        }
    }

    /// Whether there is an event of this class in the whole batch.
    pub fn has(&self, class: Class) -> bool {
        self.entries.iter().any(|entry| entry.class == class)
    }

    /// Takes out the events that are not to be kept. Returns how many those are. The whole batch is looked at.
    pub fn retain(&mut self, is_kept: impl Fn(&Event<'_>) -> bool) -> usize {
        if self.entries.iter().all(|entry| is_kept(&self.event(entry))) {
            return 0;
        }
        let entries = std::mem::take(&mut self.entries);
        let before = entries.len();
        self.entries = entries.into_iter().filter(|entry| is_kept(&self.event(entry))).collect();
        before - self.entries.len()
    }

    /// The bytes of the events.
    pub fn bytes(&self) -> usize {
        self.seen().iter().map(|entry| entry.end - entry.start).sum()
    }

    /// The events, in order.
    pub fn events(&self) -> impl ExactSizeIterator<Item = Event<'_>> {
        self.seen().iter().map(|entry| self.event(entry))
    }

    /// The event `sequence`, wherever in the whole batch it is.
    pub fn find(&self, sequence: u64) -> Option<Event<'_>> {
        let at = self.entries.binary_search_by_key(&sequence, |entry| entry.sequence).ok()?;
        self.entries.get(at).map(|entry| self.event(entry))
    }

    fn event(&self, entry: &Entry) -> Event<'_> {
        let bytes = match entry.piece {
            Some(piece) => self.pieces.get(piece).map(|piece| &**piece).unwrap_or_default(),
            None => &self.bytes,
        };
        Event {
            sequence: entry.sequence,
            class: entry.class,
            payload: bytes.get(entry.start..entry.end).unwrap_or_default(),
        }
    }

    /// Keeps a piece for entries. Returns its number.
    pub(super) fn keep(&mut self, piece: Bytes) -> usize {
        self.pieces.push(piece);
        self.pieces.len() - 1
    }

    /// How many events.
    pub fn len(&self) -> usize {
        self.seen().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.seen().is_empty()
    }

    /// The number of the last event: what to commit when all were delivered.
    pub fn last_sequence(&self) -> Option<u64> {
        self.seen().last().map(|entry| entry.sequence)
    }

    pub(super) fn clear(&mut self) {
        self.filled = 0;
        self.window = None;
        self.entries.clear();
        self.pieces.clear();
        // One huge event must not pin its size for ever.
        if self.bytes.len() > self.bytes_max {
            self.bytes.truncate(self.bytes_max);
            self.bytes.shrink_to_fit();
        }
    }
}
