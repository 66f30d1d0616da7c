//! Reading: where one sink is in the log.
//!
//! What: [`Cursor::read`] fills a [`Batch`] with the next events, [`Cursor::commit`] settles those that the sink has
//! delivered, [`Cursor::rewind`] goes back to the last that is settled. Reading ahead of commits is allowed.
//! What is missing in the log is known by the sequence: it waits as a gap until the events before it are committed, and is
//! then settled as dropped. A place in a file is a hint only: whatever is found there must fit the sequence, or the segment
//! is read from its beginning, so that a file that was damaged or exchanged costs time and not events.
//! How it fails: a block that cannot be read is tried three times, then skipped; no error stops a cursor for ever.

use super::batch::{Batch, Entry};
use super::books::{Books, Place, State};
use super::frame::{self, Kind, Step};
use super::index::{LOCK, Shared};
use super::segment::{Gap, HEADER_BYTES, Segment, Storage, lock};
use super::{Damage, Reason};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Gaps that wait for a commit; with more nothing is read until there is one.
const GAPS_MAX: usize = 65_536;
/// Remembered places of batches that wait for a commit; without one it is only searched longer after a crash.
const MARKS_MAX: usize = 1024;
/// How often a block is tried.
const TRIES_MAX: u32 = 3;
/// What is skipped when it cannot be read.
const BLOCK_BYTES: u64 = 4096;

/// A segment that is being read.
struct Open {
    segment: Arc<Segment>,
    /// None: in memory, or gone.
    file: Option<File>,
    offset: u64,
}

/// Where a read began.
struct Mark {
    next: u64,
    place: Place,
}

/// What was read at once.
struct Window<'a> {
    bytes: &'a [u8],
    /// The piece that it is in, as the batch knows it; absent: the batch's own buffer.
    piece: Option<usize>,
    /// Where in that it begins.
    at: usize,
}

enum Next {
    /// There may be more.
    More,
    /// Not now.
    Enough,
}

/// One sink's place in the log. Dropped, it is written down, and can be had again by its name.
pub struct Cursor {
    shared: Arc<Shared>,
    state: Arc<State>,
    /// The last number that was read, or found missing.
    sequence: u64,
    open: Option<Open>,
    gaps: VecDeque<Gap>,
    marks: VecDeque<Mark>,
    /// Bytes were skipped since the last frame.
    is_damaged: bool,
    /// Bytes that the next frame needs.
    needs: usize,
    failures: u32,
    persisted_at: Option<Instant>,
}

impl Cursor {
    pub(super) fn new(shared: Arc<Shared>, state: Arc<State>) -> Cursor {
        let sequence = lock(&state.settled).position;
        Cursor {
            shared,
            state,
            sequence,
            open: None,
            gaps: VecDeque::new(),
            marks: VecDeque::new(),
            is_damaged: false,
            needs: 0,
            failures: 0,
            persisted_at: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Its account.
    pub fn books(&self) -> Books {
        self.state.books(|| self.shared.assigned())
    }

    /// The last number that is settled: delivered, or dropped; also by the spool, for want of room.
    pub fn position(&self) -> u64 {
        lock(&self.state.settled).position
    }

    /// Whether it was removed: its sink should end.
    pub fn is_removed(&self) -> bool {
        self.state.is_removed.load(Ordering::Acquire)
    }

    /// Whether its reader was asked to come to an end ([`super::Spool::end`]).
    pub fn is_ending(&self) -> bool {
        self.state.is_ending.load(Ordering::Acquire)
    }

    /// Waits until there is something to read, or the reader should end, at most `timeout`. Returns whether there is
    /// something.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.shared.wait(self.sequence, || self.is_removed() || self.is_ending(), timeout)
    }

    /// Reads the next events into `batch`, whose content goes. Returns how many; 0: there are none now.
    pub fn read(&mut self, batch: &mut Batch) -> usize {
        batch.clear();
        if lock(&self.state.settled).position > self.sequence {
            // What comes next here was dropped meanwhile.
            self.open = None;
        }
        while batch.entries.len() < batch.events_max
            && batch.filled < batch.bytes_max
            && self.gaps.len() < GAPS_MAX
            && !self.is_removed()
            && (self.open.is_some() || self.locate())
        {
            match self.fill(batch) {
                Next::More => {}
                Next::Enough => break,
            }
        }
        self.settle(0);
        if batch.is_empty() && self.state.is_behind() {
            // A sink that is idle commits no more: this is its last.
            self.state.persist();
        }
        batch.len()
    }

    /// All events up to `sequence` that were read are delivered, but for those that were rejected.
    pub fn commit(&mut self, sequence: u64, now: Instant) {
        self.settle(sequence.min(self.sequence));
        let interval = self.shared.config.progress_interval;
        if self.persisted_at.is_none_or(|at| now.duration_since(at) >= interval) {
            self.persisted_at = Some(now);
            self.state.persist();
        }
    }

    /// The event `sequence` was read, but not committed, and the sink will not have it: it counts as dropped when it is
    /// committed. The caller keeps it elsewhere. An event that must not be rejected any more is left as it is.
    pub fn reject(&mut self, sequence: u64) {
        let at = self.gaps.partition_point(|gap| gap.last < sequence);
        let is_event = self.gaps.get(at).is_none_or(|gap| gap.first > sequence);
        if is_event && sequence <= self.sequence && sequence > lock(&self.state.settled).position {
            self.gaps.insert(at, Gap { first: sequence, last: sequence, reason: Reason::Rejected });
        }
    }

    /// Goes back to the first event that is not committed. What was rejected since is forgotten.
    pub fn rewind(&mut self) {
        self.sequence = lock(&self.state.settled).position;
        self.open = None;
        self.gaps.clear();
        self.marks.clear();
        self.is_damaged = false;
    }

    /// Writes the position down now, whatever the interval. Returns whether a restart would find it.
    pub fn persist(&mut self) -> bool {
        self.state.persist()
    }

    /// Settles all up to `last`, events as delivered and gaps as dropped; and the gaps right behind what is settled.
    fn settle(&mut self, last: u64) {
        let settled = &mut *lock(&self.state.settled);
        while let Some(gap) = self.gaps.front() {
            if gap.first > last.max(settled.position) + 1 {
                break;
            }
            settled.deliver(gap.first - 1);
            settled.drop(gap.last, gap.reason);
            self.gaps.pop_front();
        }
        settled.deliver(last);
        while self.marks.get(1).is_some_and(|mark| mark.next <= settled.position + 1) {
            self.marks.pop_front();
        }
        let is_all = settled.position >= self.sequence;
        match (&self.open, self.marks.front()) {
            (Some(open), _) if is_all => {
                settled.place = Place { first: open.segment.first, offset: open.offset };
                self.marks.clear();
            }
            (_, Some(mark)) => settled.place = mark.place,
            (_, None) => {}
        }
    }

    /// Opens the segment that has the next event. Returns whether there is one.
    fn locate(&mut self) -> bool {
        // A segment may go between the look into the index and the look into the directory.
        for is_last in [false, false, true] {
            let Some((segment, place)) = self.find() else { return false };
            let mut open = Open { segment, file: None, offset: HEADER_BYTES as u64 };
            if let (Storage::File, Some(directory)) = (&open.segment.storage, &self.shared.config.directory) {
                match File::open(open.segment.path(directory)) {
                    Ok(file) => open.file = Some(file),
                    // Somebody deleted it; but with the directory away, it may come back.
                    Err(error) if is_gone(&error) && is_last && directory.join(LOCK).exists() => {}
                    Err(error) if is_gone(&error) && !is_last => continue,
                    Err(error) => {
                        self.failures = self.failures.saturating_add(1);
                        self.warn("cannot open a segment; trying again", &error);
                        return false;
                    }
                }
            }
            if place.first == open.segment.first && self.is_at_next(&open, place.offset) {
                open.offset = place.offset;
            }
            self.is_damaged = false;
            self.needs = 0;
            self.open = Some(open);
            return true;
        }
        false
    }

    /// The segment that has the next event, and the place where it may be.
    fn find(&mut self) -> Option<(Arc<Segment>, Place)> {
        let index = lock(&self.shared.index);
        let settled = lock(&self.state.settled);
        if settled.position > self.sequence {
            self.sequence = settled.position;
            self.gaps.clear();
            self.marks.clear();
        }
        index.find(self.sequence + 1).map(|segment| (Arc::clone(segment), settled.place))
    }

    /// Whether no event that is still to be read lies before `offset`.
    fn is_at_next(&self, open: &Open, offset: u64) -> bool {
        if offset >= open.segment.len() {
            return offset == open.segment.len() && open.segment.last() <= self.sequence;
        }
        let mut head = [0; frame::HEAD_BYTES];
        let first = match (open.bytes(&mut head, offset), open.segment.salt) {
            (Ok(()), Some(salt)) => frame::first(&head, salt),
            _ => None,
        };
        offset >= HEADER_BYTES as u64 && first.is_some_and(|first| first <= self.sequence + 1)
    }

    /// Reads once, and takes the events out of what was read.
    fn fill(&mut self, batch: &mut Batch) -> Next {
        let Some(open) = &mut self.open else { return Next::Enough };
        let is_sealed = open.segment.is_sealed();
        let len = open.segment.len();
        if open.offset >= len {
            if !is_sealed {
                return Next::Enough;
            }
            let last = open.segment.last();
            self.open = None;
            self.miss(last);
            return Next::More;
        }
        let is_gone = open.file.is_none() && open.segment.is_file();
        let Some(salt) = open.segment.salt.filter(|_| !is_gone) else {
            open.offset = len;
            if !is_gone {
                self.damaged(0, len);
            }
            return Next::More;
        };
        let room = batch.bytes_max.saturating_sub(batch.filled).max(self.needs);
        let offset = open.offset;
        if let Storage::Memory(pieces) = &open.segment.storage {
            let found = lock(pieces).at(offset);
            let Some((bytes, at)) = found else {
                return self.unreadable(&io::ErrorKind::UnexpectedEof.into(), len);
            };
            self.mark();
            let end = bytes.len().min(at.saturating_add(room));
            let piece = Some(batch.keep(bytes.clone()));
            let window = Window { bytes: bytes.get(at..end).unwrap_or_default(), piece, at };
            return self.take(batch, &window, end == bytes.len(), salt);
        }
        let start = batch.filled;
        let end = start + room.min((len - offset).try_into().unwrap_or(usize::MAX));
        let mut bytes = std::mem::take(&mut batch.bytes);
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        let next = match open.bytes(&mut bytes[start..end], offset) {
            Ok(()) => {
                self.mark();
                let window = Window { bytes: &bytes[start..end], piece: None, at: start };
                self.take(batch, &window, offset + (end - start) as u64 >= len, salt)
            }
            Err(error) => self.unreadable(&error, len),
        };
        batch.bytes = bytes;
        next
    }

    /// A read has worked: remembers where it began.
    fn mark(&mut self) {
        self.failures = 0;
        self.needs = 0;
        if let Some(open) = self.open.as_ref().filter(|_| self.marks.len() < MARKS_MAX) {
            let place = Place { first: open.segment.first, offset: open.offset };
            self.marks.push_back(Mark { next: self.sequence + 1, place });
        }
    }

    /// Takes the events out of what was read. `is_end`: a frame that goes on behind it was cut.
    fn take(&mut self, batch: &mut Batch, window: &Window<'_>, is_end: bool, salt: u32) -> Next {
        let assigned = self.shared.assigned();
        let (start, mut at) = (batch.filled, 0);
        let mut next = Next::More;
        while at < window.bytes.len() && batch.entries.len() < batch.events_max && self.gaps.len() < GAPS_MAX
        {
            let Some(open) = &mut self.open else { break };
            let offset = open.offset;
            let bytes = window.bytes.get(at..).unwrap_or_default();
            let used = match frame::step(bytes, salt, is_end) {
                Step::More(needs) => {
                    self.needs = needs;
                    // The start of a frame is read again with the rest of it; a frame that is larger than what is left
                    // comes first in the next batch.
                    if !batch.entries.is_empty() && start + at + needs > batch.bytes_max {
                        next = Next::Enough;
                    }
                    break;
                }
                Step::Skip(used) => {
                    self.damaged(offset, offset + used as u64);
                    used
                }
                // A number that was never given: not ours, whatever the sums say.
                Step::Frame { sequence, len, .. } if sequence > assigned => {
                    self.damaged(offset, offset + len as u64);
                    len
                }
                Step::Frame { kind: Kind::Event(class), sequence, payload, len } => {
                    if sequence > self.sequence {
                        let end = window.at + at + len;
                        self.miss(sequence - 1);
                        self.sequence = sequence;
                        let (piece, start) = (window.piece, end - payload.len());
                        batch.entries.push(Entry { sequence, class, piece, start, end });
                    }
                    self.is_damaged = false;
                    len
                }
                Step::Frame { kind: Kind::Gap, sequence, payload, len } => {
                    if let Some(gap) = Gap::decode(sequence, payload).filter(|gap| gap.last <= assigned) {
                        self.miss(gap.first - 1);
                        self.push(gap.last, gap.reason);
                    }
                    self.is_damaged = false;
                    len
                }
                Step::Frame { kind: Kind::Seal, len, .. } => len,
            };
            at += used;
            if let Some(open) = &mut self.open {
                open.offset += used as u64;
            }
        }
        // What was passed over takes no room.
        batch.filled = if batch.entries.is_empty() { 0 } else { start + at };
        next
    }

    /// Nothing says where the events up to `last` are.
    #[inline]
    fn miss(&mut self, last: u64) {
        if last <= self.sequence {
            return;
        }
        let reason = if self.is_damaged { Reason::Corrupt } else { Reason::Lost };
        self.push(last, reason);
    }

    /// The numbers up to `last` have no event.
    fn push(&mut self, last: u64, reason: Reason) {
        let first = self.sequence + 1;
        if last < first {
            return;
        }
        self.sequence = last;
        match self.gaps.back_mut() {
            Some(gap) if gap.reason == reason && gap.last + 1 == first => gap.last = last,
            _ => self.gaps.push_back(Gap { first, last, reason }),
        }
    }

    fn damaged(&mut self, from: u64, to: u64) {
        self.is_damaged = true;
        if let Some(open) = &self.open {
            self.shared.note_damage(Damage { segment: open.segment.first, from, to });
        }
    }

    /// A read failed: tries again later, and skips in the end.
    fn unreadable(&mut self, error: &io::Error, len: u64) -> Next {
        self.failures += 1;
        let is_short = error.kind() == io::ErrorKind::UnexpectedEof;
        if self.failures < TRIES_MAX && !is_short {
            self.warn("cannot read a segment; trying again", error);
            return Next::Enough;
        }
        self.failures = 0;
        self.needs = 0;
        let Some(open) = &mut self.open else { return Next::Enough };
        let from = open.offset;
        // A file that is shorter than it was has nothing more.
        let to = if is_short { len } else { (from / BLOCK_BYTES + 1).saturating_mul(BLOCK_BYTES).min(len) };
        open.offset = to;
        self.damaged(from, to);
        Next::More
    }

    /// Says so the first time, the second, the fourth …: a sink asks often.
    fn warn(&self, what: &'static str, error: &io::Error) {
        if self.failures.is_power_of_two() {
            tracing::warn!(cursor = self.state.name, failures = self.failures, %error, "{what}");
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

impl Open {
    /// Reads from `offset` on, all of `into`.
    fn bytes(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        match (&self.segment.storage, &self.file) {
            (Storage::File, Some(file)) => file.read_exact_at(into, offset),
            (Storage::Memory(pieces), _) => {
                let (piece, at) = lock(pieces).at(offset).ok_or(io::ErrorKind::UnexpectedEof)?;
                let from = piece.get(at..).and_then(|from| from.get(..into.len()));
                into.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            (Storage::File, None) => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.state.persist();
        self.state.is_taken.store(false, Ordering::Release);
    }
}
