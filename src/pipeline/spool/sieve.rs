//! A segment without its less important events: what is left when there is too much.
//!
//! What: frames go in, those of a class that is kept come out as they were, and the numbers of all others as gaps that say
//! why. A cursor reads the result like any segment, and its books are right. It is fed in pieces, so that a large file is
//! done a few milliseconds at a time.

use super::frame::{self, Kind, Step};
use super::segment::{Gap, Tally};
use super::{Class, Reason};

/// What a sieve keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// This class and what matters more.
    From(Class),
    /// Nothing.
    None,
}

/// One segment on its way through.
pub(super) struct Sieve {
    /// What goes into the new segment; the caller takes it.
    pub(super) out: Vec<u8>,
    pub(super) tally: Tally,
    salt: u32,
    keep: Keep,
    reason: Reason,
    /// The next number.
    next: u64,
    gap: Option<Gap>,
    is_damaged: bool,
}

impl Sieve {
    /// For a segment that begins with `first`.
    pub(super) fn new(salt: u32, first: u64, keep: Keep, reason: Reason) -> Sieve {
        let (out, tally) = (Vec::new(), Tally::default());
        Sieve { out, tally, salt, keep, reason, next: first, gap: None, is_damaged: false }
    }

    /// Takes frames. Returns how many bytes were used, and how many are needed for the next frame.
    pub(super) fn feed(&mut self, bytes: &[u8], is_end: bool) -> (usize, usize) {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            at += match frame::step(rest, self.salt, is_end) {
                Step::More(needs) => return (at, needs),
                Step::Skip(len) => {
                    self.is_damaged = true;
                    len
                }
                Step::Frame { kind, sequence, payload, len } => {
                    match kind {
                        Kind::Event(class) if sequence >= self.next => {
                            self.event(class, sequence, rest.get(..len).unwrap_or_default());
                        }
                        Kind::Gap => {
                            if let Some(gap) = Gap::decode(sequence, payload) {
                                self.miss(gap.first);
                                self.skip(gap.last, gap.reason);
                            }
                        }
                        Kind::Event(_) | Kind::Seal => {}
                    }
                    self.is_damaged = false;
                    len
                }
            };
        }
        (at, 0)
    }

    /// Ends the segment, which has all numbers up to `last`.
    pub(super) fn finish(&mut self, last: u64) {
        self.miss(last + 1);
        self.write_gap();
        self.tally.seal(&mut self.out, self.salt, last);
    }

    fn event(&mut self, class: Class, sequence: u64, frame: &[u8]) {
        self.miss(sequence);
        if matches!(self.keep, Keep::From(floor) if class >= floor) {
            self.write_gap();
            self.out.extend_from_slice(frame);
            self.tally.add(class, frame.len());
            self.next = sequence + 1;
        } else {
            self.skip(sequence, self.reason);
        }
    }

    /// Nothing says where the events before `sequence` are.
    fn miss(&mut self, sequence: u64) {
        let reason = if self.is_damaged { Reason::Corrupt } else { Reason::Lost };
        self.skip(sequence.saturating_sub(1), reason);
    }

    fn skip(&mut self, last: u64, reason: Reason) {
        let first = self.next;
        if last < first {
            return;
        }
        self.next = last + 1;
        match &mut self.gap {
            Some(gap) if gap.reason == reason => gap.last = last,
            _ => {
                self.write_gap();
                self.gap = Some(Gap { first, last, reason });
            }
        }
    }

    fn write_gap(&mut self) {
        if let Some(gap) = self.gap.take() {
            gap.encode(&mut self.out, self.salt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u32 = 9;

    fn walk(bytes: &[u8]) -> Vec<String> {
        let (mut at, mut found) = (0, Vec::new());
        while at < bytes.len() {
            let Step::Frame { kind, sequence, payload, len } = frame::step(&bytes[at..], SALT, true) else {
                panic!("damaged")
            };
            at += len;
            found.push(match kind {
                Kind::Event(class) => format!("{} {sequence}", class.name()),
                Kind::Gap => {
                    let gap = Gap::decode(sequence, payload).unwrap();
                    format!("{} {}-{}", gap.reason.name(), gap.first, gap.last)
                }
                Kind::Seal => format!("seal {sequence}"),
            });
        }
        found
    }

    fn segment() -> Vec<u8> {
        let mut bytes = Vec::new();
        let classes = [Class::Debug, Class::Event, Class::Audit, Class::Debug, Class::Debug];
        for (sequence, class) in (1..).zip(classes) {
            frame::encode(&mut bytes, SALT, Kind::Event(class), sequence, b"payload");
        }
        Gap { first: 6, last: 8, reason: Reason::QueueFull }.encode(&mut bytes, SALT);
        frame::encode(&mut bytes, SALT, Kind::Event(Class::Event), 9, b"payload");
        bytes
    }

    fn sift(bytes: &[u8], keep: Keep, last: u64, piece: usize) -> Vec<String> {
        let mut sieve = Sieve::new(SALT, 1, keep, Reason::DiskBudget);
        let (mut from, mut to) = (0, 0);
        while from < bytes.len() {
            to = bytes.len().min(to + piece);
            from += sieve.feed(&bytes[from..to], to == bytes.len()).0;
        }
        sieve.finish(last);
        walk(&sieve.out)
    }

    #[test]
    fn what_matters_stays_and_every_number_is_accounted_for() {
        for piece in [1, 30, 10_000] {
            let no_debug = sift(&segment(), Keep::From(Class::Event), 9, piece);
            let expected = [
                "disk_budget 1-1",
                "event 2",
                "audit 3",
                "disk_budget 4-5",
                "queue_full 6-8",
                "event 9",
                "seal 9",
            ];
            assert_eq!(no_debug, expected);
            let audit = sift(&segment(), Keep::From(Class::Audit), 9, piece);
            let expected = [
                "disk_budget 1-2",
                "audit 3",
                "disk_budget 4-5",
                "queue_full 6-8",
                "disk_budget 9-9",
                "seal 9",
            ];
            assert_eq!(audit, expected);
            let nothing = sift(&segment(), Keep::None, 12, piece);
            let expected = ["disk_budget 1-5", "queue_full 6-8", "disk_budget 9-9", "lost 10-12", "seal 12"];
            assert_eq!(nothing, expected);
        }
    }

    #[test]
    fn damage_stays_told_apart_from_what_was_given_up() {
        let mut bytes = segment();
        bytes[30] ^= 1;
        let found = sift(&bytes, Keep::From(Class::Audit), 9, 10_000);
        assert_eq!(found[..3], ["corrupt 1-1", "disk_budget 2-2", "audit 3"]);
    }
}
