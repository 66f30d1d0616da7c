//! One frame of a segment: how it is written, and how the next one is found where bytes are not what they were.
//!
//! Layout, little endian: magic (4), CRC of the rest of the head (4), CRC of the payload (4), payload length (4), kind
//! (1), zeros (3), sequence (8), payload. Both checksums are CRC32C (RFC 3720 B.4, an instruction of x86-64 and arm64).
//! Why two: a head that is whole says how far to skip and which event was lost when only the payload is damaged; and a
//! reader that searches for the next frame never sums what only looks like one.
//! Why salted: each segment has a random salt in both sums, so that a payload (an application's log line may hold
//! anything) cannot contain bytes that pass for a frame of this segment. The first byte of the magic occurs in no UTF-8.
//! A spool that never sees a disk has no salt ([`UNSUMMED`]), and no sums: memory is believed.
//! How it fails: [`step`] always moves on by at least a byte, asks for more, or gives a frame that is whole.

use super::Class;

/// Bytes before the payload.
pub(super) const HEAD_BYTES: usize = 28;
const MAGIC: [u8; 4] = [0xF5, b'S', b'L', b'f'];

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An event.
    Event(Class),
    /// Sequence numbers that have no event: how many from the frame's on (8), the reason (1).
    Gap,
    /// The end of a segment: what is in it.
    Seal,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Event(class) => 1 + class as u8,
            Kind::Gap => 16,
            Kind::Seal => 17,
        }
    }

    fn of(code: u8) -> Option<Kind> {
        match code {
            16 => Some(Kind::Gap),
            17 => Some(Kind::Seal),
            _ => {
                let class = Class::ALL.get(usize::from(code.checked_sub(1)?))?;
                Some(Kind::Event(*class))
            }
        }
    }
}

/// The salt of frames without sums.
pub(super) const UNSUMMED: u32 = 0;

#[inline]
fn sum(salt: u32, bytes: &[u8]) -> u32 {
    if salt == UNSUMMED { 0 } else { crc32c::crc32c_append(salt, bytes) }
}

#[inline]
fn head(salt: u32, kind: Kind, sequence: u64, payload: &[u8]) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[0..4].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&sum(salt, payload).to_le_bytes());
    head[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    head[16] = kind.code();
    head[20..28].copy_from_slice(&sequence.to_le_bytes());
    let sum = sum(salt, &head[8..]);
    head[4..8].copy_from_slice(&sum.to_le_bytes());
    head
}

/// Appends a frame. The caller bounds the payload (see `Config::event_bytes_max`).
#[inline]
pub(super) fn encode(out: &mut Vec<u8>, salt: u32, kind: Kind, sequence: u64, payload: &[u8]) {
    out.reserve(HEAD_BYTES + payload.len());
    out.extend_from_slice(&head(salt, kind, sequence, payload));
    out.extend_from_slice(payload);
}

/// Leaves room for a frame's head, behind which the payload is written. Where it begins, for [`finish`].
#[inline]
pub(super) fn begin(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    at
}

/// Makes a frame of what was written since [`begin`].
#[inline]
pub(super) fn finish(out: &mut [u8], at: usize, salt: u32, kind: Kind, sequence: u64) {
    let payload = out.get(at + HEAD_BYTES..).unwrap_or_default();
    let head = head(salt, kind, sequence, payload);
    if let Some(room) = out.get_mut(at..at + HEAD_BYTES) {
        room.copy_from_slice(&head);
    }
}

/// What is next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// A whole frame of so many bytes.
    Frame { kind: Kind, sequence: u64, payload: &'a [u8], len: usize },
    /// So many bytes are needed, from here, to tell.
    More(usize),
    /// So many bytes are no frame, or a damaged one.
    Skip(usize),
}

/// Looks at the first frame of `bytes`. `is_end`: the segment has no more than these.
#[inline]
pub(super) fn step(bytes: &[u8], salt: u32, is_end: bool) -> Step<'_> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        return if is_end { Step::Skip(bytes.len()) } else { Step::More(HEAD_BYTES) };
    };
    let Some((kind, payload_bytes)) = read_head(head, salt) else {
        return Step::Skip(to_next(bytes, is_end));
    };
    let len = HEAD_BYTES + payload_bytes;
    let Some(payload) = rest.get(..payload_bytes) else {
        // A head that is whole is no accident: what follows it was cut.
        return if is_end { Step::Skip(bytes.len()) } else { Step::More(len) };
    };
    if sum(salt, payload) != u32_at(head, 8) {
        return Step::Skip(len);
    }
    Step::Frame { kind, sequence: u64_at(head, 20), payload, len }
}

#[inline]
fn read_head(head: &[u8; HEAD_BYTES], salt: u32) -> Option<(Kind, usize)> {
    let is_whole = head[..4] == MAGIC && sum(salt, &head[8..]) == u32_at(head, 4);
    let kind = Kind::of(head[16]).filter(|_| is_whole)?;
    Some((kind, u32_at(head, 12) as usize))
}

/// The first sequence number that comes with or after a frame whose head is whole.
pub(super) fn first(head: &[u8; HEAD_BYTES], salt: u32) -> Option<u64> {
    let sequence = u64_at(head, 20);
    // A seal has the number of the last event before it.
    read_head(head, salt)
        .map(|(kind, _)| if kind == Kind::Seal { sequence.saturating_add(1) } else { sequence })
}

/// How far it is to what may be the next frame.
fn to_next(bytes: &[u8], is_end: bool) -> usize {
    let later = bytes.get(1..).unwrap_or_default();
    match memchr::memmem::find(later, &MAGIC) {
        Some(at) => 1 + at,
        None if is_end => bytes.len(),
        // The magic may begin in the last three.
        None => bytes.len().saturating_sub(MAGIC.len() - 1).max(1),
    }
}

/// Four bytes, or zeros.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(<[u8]>::first_chunk);
    four.map_or(0, |four| u32::from_le_bytes(*four))
}

/// Eight bytes, or zeros.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let eight = bytes.get(at..).and_then(<[u8]>::first_chunk);
    eight.map_or(0, |eight| u64::from_le_bytes(*eight))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SALT: u32 = 0x1234_5678;

    fn frame(sequence: u64, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&mut bytes, SALT, Kind::Event(Class::Event), sequence, payload);
        bytes
    }

    /// All payloads that a reader finds, with their sequence numbers, and how many bytes it skipped.
    fn walk(mut bytes: &[u8], salt: u32) -> (Vec<(u64, Vec<u8>)>, usize) {
        let (mut found, mut skipped) = (Vec::new(), 0);
        while !bytes.is_empty() {
            match step(bytes, salt, true) {
                Step::Frame { sequence, payload, len, .. } => {
                    found.push((sequence, payload.to_vec()));
                    bytes = &bytes[len..];
                }
                Step::Skip(len) => {
                    assert!(len > 0, "a reader moves on");
                    skipped += len;
                    bytes = &bytes[len..];
                }
                Step::More(_) => panic!("there is no more"),
            }
        }
        (found, skipped)
    }

    #[test]
    fn the_checksum_is_the_one_that_others_compute() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c::crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn a_frame_inside_a_payload_is_never_taken_for_one() {
        // Whoever writes a payload knows the format, but not the salt.
        let mut inner = Vec::new();
        encode(&mut inner, 0, Kind::Event(Class::Audit), 7, b"forged");
        let mut bytes = frame(1, &inner);
        bytes[5] ^= 1;
        assert_eq!(walk(&bytes, SALT), (Vec::new(), bytes.len()));
    }

    #[test]
    fn a_damaged_payload_costs_one_frame_and_a_damaged_head_no_other() {
        for at in [2, 13, 25, HEAD_BYTES + 1] {
            let mut bytes = [frame(1, b"one"), frame(2, b"two"), frame(3, b"three")].concat();
            let second = frame(1, b"one").len();
            bytes[second + at] ^= 0x40;
            let (found, skipped) = walk(&bytes, SALT);
            assert_eq!(found, [(1, b"one".to_vec()), (3, b"three".to_vec())], "byte {at}");
            assert_eq!(skipped, frame(2, b"two").len(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_to_their_end(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(MAGIC[0]), Just(b'S')], 0..400),
        ) {
            let (found, skipped) = walk(&bytes, SALT);
            prop_assert!(found.is_empty());
            prop_assert_eq!(skipped, bytes.len());
        }

        #[test]
        fn what_was_written_is_read_and_cut_where_it_ends(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 1..6),
            cut in 0usize..400,
        ) {
            let frames: Vec<Vec<u8>> = (1..).zip(&payloads).map(|(at, payload)| frame(at, payload)).collect();
            let bytes = frames.concat();
            let cut = cut.min(bytes.len());
            let (found, skipped) = walk(&bytes[..cut], SALT);
            let mut whole = 0;
            let count = frames.iter().take_while(|frame| { whole += frame.len(); whole <= cut }).count();
            let expected: Vec<(u64, Vec<u8>)> = (1..).zip(payloads).take(count).collect();
            prop_assert_eq!(found, expected);
            prop_assert!(skipped < HEAD_BYTES + 50);
        }
    }
}
