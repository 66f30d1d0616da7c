//! One frame: how it is written, and how the next one is found where bytes are not what they were.
//!
//! Little endian: magic (4), CRC32C of the rest of the head (4), CRC32C of the payload (4), payload length (4), kind (1),
//! zeros (3), sequence of the frame in its segment (8), payload. Why two sums: a head that is whole says how far to skip
//! when only the payload is damaged. How it fails: [`find`] always moves on by at least a byte.

/// Bytes before the payload.
pub const HEAD_BYTES: usize = 28;
/// The longest payload: far above what is written (a block is 256 KiB before compression, an index some MiB).
pub const PAYLOAD_BYTES_MAX: usize = 256 << 20;
const MAGIC: [u8; 4] = *b"\xF5SLr";

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The segment's head, JSON; the first frame.
    Head,
    /// A piece of a block.
    Block,
    /// What became of all exchanges so far, JSON.
    Books,
    /// What is where.
    Index,
    /// Where the index is; the last frame.
    End,
    /// Of a later version; passed over.
    Other(u8),
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Head => 1,
            Kind::Block => 2,
            Kind::Books => 3,
            Kind::Index => 4,
            Kind::End => 5,
            Kind::Other(code) => code,
        }
    }

    fn of(code: u8) -> Kind {
        match code {
            1 => Kind::Head,
            2 => Kind::Block,
            3 => Kind::Books,
            4 => Kind::Index,
            5 => Kind::End,
            other => Kind::Other(other),
        }
    }
}

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it holds.
    pub kind: Kind,
    /// How long the payload is.
    pub len: usize,
    /// 0, 1, 2 … in the segment.
    pub sequence: u64,
    sum: u32,
}

impl Head {
    /// The head at the beginning of `bytes`, if there is one.
    pub fn read(bytes: &[u8]) -> Option<Head> {
        let head: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
        let word = |at: usize| head.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        if head[..4] != MAGIC || word(4)? != crc32c::crc32c(&head[8..]) {
            return None;
        }
        let len = usize::try_from(word(12)?).ok().filter(|len| *len <= PAYLOAD_BYTES_MAX)?;
        let sequence = u64::from_le_bytes(head[20..28].try_into().ok()?);
        Some(Head { kind: Kind::of(head[16]), len, sequence, sum: word(8)? })
    }

    /// Whether this is its payload.
    pub fn is_payload(&self, payload: &[u8]) -> bool {
        payload.len() == self.len && crc32c::crc32c(payload) == self.sum
    }
}

/// Appends a frame. The payload is bounded by [`PAYLOAD_BYTES_MAX`] by those who make it.
pub fn put(out: &mut Vec<u8>, kind: Kind, sequence: u64, payload: &[u8]) {
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    head[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    head[16] = kind.code();
    head[20..28].copy_from_slice(&sequence.to_le_bytes());
    let sum = crc32c::crc32c(&head[8..]);
    head[4..8].copy_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
}

/// Where the next head may begin, from the second byte on: at the next magic, or at the last bytes that could be the
/// beginning of one.
pub fn find(bytes: &[u8]) -> usize {
    let rest = bytes.get(1..).unwrap_or_default();
    match memchr::memmem::find(rest, &MAGIC) {
        Some(at) => at + 1,
        None => bytes.len().saturating_sub(MAGIC.len() - 1).max(1),
    }
}
