//! One segment: a header, then frames. On disk or in memory the bytes are the same.
//!
//! A header is there twice (a bit that flips in one costs nothing): magic (8), version (4), salt (4), first sequence
//! (8), epoch (8), generation (4), length of the instance's name (4), the name (up to 84), CRC32C (4). The file's name
//! says the first sequence and the generation, so that the directory alone is the index. A segment out of which events
//! were taken (see `sieve`) is a new file of the next generation; the first is 0.

use super::frame::{self, Kind, Step, u32_at, u64_at};
use super::pieces::Pieces;
use super::{Class, Reason};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes before the first frame: two copies of the header.
pub(super) const HEADER_BYTES: usize = 256;
const COPY_BYTES: usize = HEADER_BYTES / 2;
const MAGIC: &[u8; 8] = b"SLSPOOL\n";
const VERSION: u32 = 1;
const NAME_BYTES_MAX: usize = 84;
/// Bytes of a seal: count and bytes of each class.
const SEAL_BYTES: usize = 16 * Class::ALL.len();

/// A mutex that a panic elsewhere does not spoil: what it guards is whole after each statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who writes a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header<'a> {
    pub(super) salt: u32,
    pub(super) first: u64,
    pub(super) epoch: u64,
    pub(super) generation: u32,
    pub(super) instance: &'a [u8],
}

impl<'a> Header<'a> {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut copy = [0; COPY_BYTES];
        copy[0..8].copy_from_slice(MAGIC);
        copy[8..12].copy_from_slice(&VERSION.to_le_bytes());
        copy[12..16].copy_from_slice(&self.salt.to_le_bytes());
        copy[16..24].copy_from_slice(&self.first.to_le_bytes());
        copy[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        copy[32..36].copy_from_slice(&self.generation.to_le_bytes());
        let name = self.instance.get(..NAME_BYTES_MAX).unwrap_or(self.instance);
        copy[36..40].copy_from_slice(&(name.len() as u32).to_le_bytes());
        copy[40..].iter_mut().zip(name).for_each(|(to, from)| *to = *from);
        let sum = crc32c::crc32c(&copy[..COPY_BYTES - 4]);
        copy[COPY_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
        let mut header = [0; HEADER_BYTES];
        header[..COPY_BYTES].copy_from_slice(&copy);
        header[COPY_BYTES..].copy_from_slice(&copy);
        header
    }

    /// Reads either copy.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Header<'a>> {
        bytes.chunks_exact(COPY_BYTES).take(2).find_map(|copy| {
            let is_whole = crc32c::crc32c(copy.get(..COPY_BYTES - 4)?) == u32_at(copy, COPY_BYTES - 4);
            let name_bytes = u32_at(copy, 36) as usize;
            (is_whole && copy.starts_with(MAGIC) && u32_at(copy, 8) == VERSION).then_some(Header {
                salt: u32_at(copy, 12),
                first: u64_at(copy, 16),
                epoch: u64_at(copy, 24),
                generation: u32_at(copy, 32),
                instance: copy.get(40..40 + name_bytes.min(NAME_BYTES_MAX))?,
            })
        })
    }
}

/// What is in a segment, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) counts: [u64; Class::ALL.len()],
    pub(super) bytes: [u64; Class::ALL.len()],
}

impl Tally {
    pub(super) fn add(&mut self, class: Class, bytes: usize) {
        self.counts[class as usize] += 1;
        self.bytes[class as usize] += bytes as u64;
    }

    pub(super) fn join(&mut self, other: &Tally) {
        self.counts.iter_mut().zip(other.counts).for_each(|(to, from)| *to += from);
        self.bytes.iter_mut().zip(other.bytes).for_each(|(to, from)| *to += from);
    }

    pub(super) fn has(&self, class: Class) -> bool {
        self.counts[class as usize] > 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.counts == [0; Class::ALL.len()]
    }

    /// The frame that ends a segment.
    pub(super) fn seal(&self, out: &mut Vec<u8>, salt: u32, last: u64) {
        let mut payload = [0; SEAL_BYTES];
        let numbers = self.counts.iter().chain(&self.bytes);
        for (to, from) in payload.chunks_exact_mut(8).zip(numbers) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        frame::encode(out, salt, Kind::Seal, last, &payload);
    }

    fn unseal(payload: &[u8]) -> Tally {
        let mut tally = Tally::default();
        let numbers = tally.counts.iter_mut().chain(&mut tally.bytes);
        numbers.enumerate().for_each(|(at, number)| *number = u64_at(payload, at * 8));
        tally
    }

    /// What the seal at the end of a file says: its last sequence and its content.
    pub(super) fn read(file: &File, len: u64, salt: u32) -> Option<(u64, Tally)> {
        let mut bytes = [0; frame::HEAD_BYTES + SEAL_BYTES];
        let at = len.checked_sub(bytes.len() as u64)?;
        file.read_exact_at(&mut bytes, at).ok()?;
        match frame::step(&bytes, salt, true) {
            Step::Frame { kind: Kind::Seal, sequence, payload, len } if len == bytes.len() => {
                Some((sequence, Tally::unseal(payload)))
            }
            _ => None,
        }
    }
}

/// Sequence numbers without an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) reason: Reason,
}

impl Gap {
    pub(super) fn encode(&self, out: &mut Vec<u8>, salt: u32) {
        let mut payload = [0; 9];
        payload[..8].copy_from_slice(&(self.last - self.first + 1).to_le_bytes());
        payload[8] = self.reason as u8;
        frame::encode(out, salt, Kind::Gap, self.first, &payload);
    }

    /// The gap that a frame says; none for a frame that says nonsense.
    pub(super) fn decode(first: u64, payload: &[u8]) -> Option<Gap> {
        let count = u64_at(payload, 0).checked_sub(1)?;
        let reason = Reason::ALL.get(usize::from(*payload.get(8)?))?;
        Some(Gap { first, last: first.checked_add(count)?, reason: *reason })
    }
}

/// Where a segment's bytes are.
pub(super) enum Storage {
    /// In the file of its name.
    File,
    /// Here.
    Memory(Mutex<Pieces>),
}

/// A segment, as the writer and all readers share it.
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) generation: u32,
    /// None: the header cannot be read, and so nothing of it.
    pub(super) salt: Option<u32>,
    pub(super) storage: Storage,
    /// Bytes that may be read.
    pub(super) len: AtomicU64,
    /// The last sequence number that may be read here; final once it is sealed.
    pub(super) last: AtomicU64,
    /// Nothing more is written to it.
    pub(super) is_sealed: AtomicBool,
    /// None: not known.
    pub(super) tally: Mutex<Option<Tally>>,
}

impl Segment {
    pub(super) fn new(first: u64, generation: u32, salt: Option<u32>, storage: Storage) -> Segment {
        Segment {
            first,
            generation,
            salt,
            storage,
            len: AtomicU64::new(0),
            last: AtomicU64::new(first.saturating_sub(1)),
            is_sealed: AtomicBool::new(false),
            tally: Mutex::new(None),
        }
    }

    /// One that is complete.
    pub(super) fn sealed(self, len: u64, last: u64, tally: Option<Tally>) -> Segment {
        self.len.store(len, Ordering::Release);
        self.last.store(last, Ordering::Release);
        self.is_sealed.store(true, Ordering::Release);
        *lock(&self.tally) = tally;
        self
    }

    pub(super) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.is_sealed.load(Ordering::Acquire)
    }

    pub(super) fn seal(&self) {
        self.is_sealed.store(true, Ordering::Release);
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self.storage, Storage::File)
    }

    pub(super) fn tally(&self) -> Option<Tally> {
        *lock(&self.tally)
    }

    pub(super) fn path(&self, directory: &Path) -> PathBuf {
        directory.join(name(self.first, self.generation))
    }
}

/// The name of a segment's file.
pub(super) fn name(first: u64, generation: u32) -> String {
    format!("{first:020}-{generation}.seg")
}

/// What the name of a segment's file says.
pub(super) fn parse_name(name: &str) -> Option<(u64, u32)> {
    let (first, generation) = name.strip_suffix(".seg")?.split_once('-')?;
    let (first, generation) = (first.parse().ok()?, generation.parse().ok()?);
    (self::name(first, generation) == name).then_some((first, generation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_damage_to_one_of_its_copies() {
        let header = Header { salt: 5, first: 9, epoch: 7, generation: 1, instance: b"checkout-1" };
        let whole = header.encode();
        for at in 0..HEADER_BYTES {
            let mut bytes = whole;
            bytes[at] ^= 1;
            assert_eq!(Header::decode(&bytes), Some(header), "byte {at}");
        }
        let mut bytes = whole;
        (bytes[20], bytes[COPY_BYTES + 20]) = (0xFF, 0xFF);
        assert_eq!(Header::decode(&bytes), None);
        assert_eq!(Header::decode(&whole[..COPY_BYTES - 1]), None);
    }

    #[test]
    fn names_are_read_as_written_and_others_left_alone() {
        assert_eq!(parse_name(&name(42, 3)), Some((42, 3)));
        for foreign in ["42-0.seg", "x.seg", "00000000000000000042-0.seg.tmp", "lock", "-.seg"] {
            assert_eq!(parse_name(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_gap_that_says_nonsense_is_none() {
        let gap = Gap { first: 10, last: 12, reason: Reason::Memory };
        let mut bytes = Vec::new();
        gap.encode(&mut bytes, 1);
        let Step::Frame { payload, sequence, .. } = frame::step(&bytes, 1, true) else { panic!("no frame") };
        assert_eq!(Gap::decode(sequence, payload), Some(gap));
        assert_eq!(Gap::decode(10, &[0; 9]), None, "no numbers");
        assert_eq!(Gap::decode(10, &[1, 0, 0, 0, 0, 0, 0, 0, 99]), None, "no such reason");
        assert_eq!(Gap::decode(10, &[0xFF; 9]), None, "beyond the last number");
        assert_eq!(Gap::decode(10, &[]), None);
    }
}
