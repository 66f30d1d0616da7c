//! A cursor's file: two slots that are written in turn.
//!
//! Why not a new file and a rename: overwriting in place needs no space on a full disk and no directory entry, and costs
//! a tenth. A write that is torn damages one slot; the other has what was true before. The slots are a page apart, so no
//! sector holds both. How it fails: with both damaged the cursor is as if new, at the beginning of the log: its sink gets
//! events twice rather than not at all.
//! Nothing here waits for the disk: with power lost a cursor may be where it was some seconds before, and its sink gets
//! those events twice.

use super::Reason;
use super::books::{Place, Settled};
use super::frame::{u32_at, u64_at};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"SLCURSR\n";
const SLOT_BYTES: usize = 256;
const SLOT_EVERY: u64 = 4096;
const NUMBERS: usize = 6 + Reason::ALL.len();
const NAME_BYTES_MAX: usize = 64;

/// The file of one cursor.
pub(super) struct Slots {
    file: File,
    /// How often it was written; the last bit says which slot is newer.
    generation: u64,
}

/// Whether a cursor can have this name: it is the name of a file.
pub(in crate::pipeline) fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain) && !name.starts_with('.')
}

/// The path of a cursor's file.
pub(super) fn path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.cursor"))
}

/// The cursor whose file has this name.
pub(super) fn parse_name(name: &str) -> Option<&str> {
    name.strip_suffix(".cursor").filter(|name| is_name(name))
}

impl Slots {
    /// Opens or makes the file. Also what it says, if it says something.
    pub(super) fn open(directory: &Path, name: &str) -> io::Result<(Slots, Option<Settled>)> {
        let path = path(directory, name);
        // Not truncated: what is there is what the last process had settled.
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).open(path)?;
        if file.metadata()?.len() < SLOT_EVERY + SLOT_BYTES as u64 {
            // Has its space from here on: a disk that is full until this cursor's progress is known would stay full.
            let _ = file
                .write_all_at(&[0; SLOT_BYTES], 0)
                .and_then(|()| file.write_all_at(&[0; SLOT_BYTES], SLOT_EVERY));
        }
        let newest = [0, SLOT_EVERY].into_iter().filter_map(|at| read(&file, at)).max_by_key(|slot| slot.0);
        let (generation, settled) = newest.unzip();
        Ok((Slots { file, generation: generation.unwrap_or(0) }, settled))
    }

    /// Writes the older slot.
    pub(super) fn write(&mut self, settled: &Settled) -> io::Result<()> {
        let generation = self.generation + 1;
        let mut slot = [0; SLOT_BYTES];
        slot[..8].copy_from_slice(MAGIC);
        let numbers: [u64; 6] = [
            generation,
            settled.start,
            settled.position,
            settled.delivered,
            settled.place.first,
            settled.place.offset,
        ];
        let numbers = numbers.iter().chain(&settled.dropped);
        for (to, from) in slot[8..SLOT_BYTES - 4].chunks_exact_mut(8).zip(numbers) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        let sum = crc32c::crc32c(&slot[..SLOT_BYTES - 4]);
        slot[SLOT_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
        self.file.write_all_at(&slot, (generation & 1) * SLOT_EVERY)?;
        self.generation = generation;
        Ok(())
    }
}

fn read(file: &File, at: u64) -> Option<(u64, Settled)> {
    let mut slot = [0; SLOT_BYTES];
    file.read_exact_at(&mut slot, at).ok()?;
    let is_whole = crc32c::crc32c(&slot[..SLOT_BYTES - 4]) == u32_at(&slot, SLOT_BYTES - 4);
    if !is_whole || !slot.starts_with(MAGIC) {
        return None;
    }
    let mut numbers = [0; NUMBERS];
    numbers.iter_mut().enumerate().for_each(|(at, number)| *number = u64_at(&slot, 8 + at * 8));
    let [generation, start, position, delivered, first, offset, dropped @ ..] = numbers;
    let settled = Settled { start, position, delivered, dropped, place: Place { first, offset } };
    settled.is_sound().then_some((generation, settled))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(position: u64) -> Settled {
        let mut settled = Settled::at(3);
        settled.drop(4, Reason::Rejected);
        settled.deliver(position);
        settled.place = Place { first: 1, offset: 777 };
        settled
    }

    #[test]
    fn the_newest_slot_that_is_whole_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let (mut slots, found) = Slots::open(directory.path(), "otlp").unwrap();
        assert_eq!(found, None);
        for position in 5..10 {
            slots.write(&settled(position)).unwrap();
            let (_, found) = Slots::open(directory.path(), "otlp").unwrap();
            assert_eq!(found, Some(settled(position)));
        }
        let file = path(directory.path(), "otlp");
        let whole = std::fs::read(&file).unwrap();
        let second = SLOT_EVERY as usize;
        for at in (0..SLOT_BYTES).chain(second..second + SLOT_BYTES) {
            slots.file.write_all_at(&[whole[at] ^ 1], at as u64).unwrap();
            let (_, found) = Slots::open(directory.path(), "otlp").unwrap();
            let position = found.map(|settled| settled.position);
            assert!(position == Some(9) || position == Some(8), "byte {at}: {position:?}");
            slots.file.write_all_at(&whole[at..=at], at as u64).unwrap();
        }
    }

    #[test]
    fn a_new_file_has_the_space_of_both_slots() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let (mut slots, _) = Slots::open(directory.path(), "s").unwrap();
        slots.file.sync_all().unwrap();
        let blocks = slots.file.metadata().unwrap().blocks();
        (5..9).for_each(|position| slots.write(&settled(position)).unwrap());
        slots.file.sync_all().unwrap();
        assert_eq!(slots.file.metadata().unwrap().blocks(), blocks, "progress needs no more space");
    }

    #[test]
    fn a_write_torn_at_any_byte_leaves_the_position_before_it() {
        let directory = tempfile::tempdir().unwrap();
        let (mut slots, _) = Slots::open(directory.path(), "s").unwrap();
        (5..7).for_each(|position| slots.write(&settled(position)).unwrap());
        let file = path(directory.path(), "s");
        let before = std::fs::read(&file).unwrap();
        slots.write(&settled(7)).unwrap();
        let after = std::fs::read(&file).unwrap();
        let at = SLOT_EVERY as usize;
        for cut in 0..=SLOT_BYTES {
            slots.file.write_all_at(&before, 0).unwrap();
            slots.file.write_all_at(&after[at..at + cut], at as u64).unwrap();
            let (_, found) = Slots::open(directory.path(), "s").unwrap();
            let position = found.unwrap().position;
            assert!(position == 6 || (position == 7 && cut > 8), "cut at {cut}: {position}");
        }
    }

    #[test]
    fn names_are_names_of_files() {
        for good in ["otlp", "kafka-eu_1.2"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".hidden", "a/b", "..", "ä", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
