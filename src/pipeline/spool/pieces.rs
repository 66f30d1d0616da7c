//! The bytes of a segment in memory: pieces of whole frames, as the writer filled them.
//!
//! Why pieces: what was written is never touched again, so the writer gives its buffer away and a cursor reads it where it
//! is; nothing is copied on the way from the encoder to the sinks. A piece lives as long as somebody has it: a batch that
//! a sink still holds keeps its bytes when the segment is given up. How it fails: it cannot.

use bytes::Bytes;

/// See the module.
#[derive(Default)]
pub(super) struct Pieces {
    /// Each with the place where it begins.
    all: Vec<(u64, Bytes)>,
    len: u64,
}

impl Pieces {
    /// A segment with its header, and no frame yet.
    pub(super) fn new(header: &[u8]) -> Pieces {
        let mut pieces = Pieces::default();
        pieces.push(Bytes::copy_from_slice(header));
        pieces
    }

    /// Appends whole frames.
    pub(super) fn push(&mut self, frames: Bytes) {
        if !frames.is_empty() {
            let at = self.len;
            self.len += frames.len() as u64;
            self.all.push((at, frames));
        }
    }

    /// The piece that has the byte at `offset`, and where in it that is.
    pub(super) fn at(&self, offset: u64) -> Option<(Bytes, usize)> {
        let index = self.all.partition_point(|(at, _)| *at <= offset).checked_sub(1)?;
        let (at, piece) = self.all.get(index)?;
        let at = usize::try_from(offset - at).ok()?;
        (at < piece.len()).then(|| (piece.clone(), at))
    }

    /// All of it, each piece with its place.
    pub(super) fn all(&self) -> Vec<(u64, Bytes)> {
        self.all.clone()
    }

    /// All but the header.
    pub(super) fn frames(&self) -> Vec<Bytes> {
        self.all.iter().skip(1).map(|(_, piece)| piece.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_found_in_its_piece() {
        let mut pieces = Pieces::new(b"head");
        for piece in [b"a".as_slice(), b"", b"bcd", b"ef"] {
            pieces.push(Bytes::copy_from_slice(piece));
        }
        let whole = b"headabcdef";
        for (at, byte) in whole.iter().enumerate() {
            let (piece, place) = pieces.at(at as u64).unwrap();
            assert_eq!(piece.get(place), Some(byte), "byte {at}");
        }
        assert!(pieces.at(whole.len() as u64).is_none());
        assert_eq!(pieces.frames().concat(), b"abcdef");
        for (at, piece) in pieces.all() {
            assert!(whole[at as usize..].starts_with(&piece));
        }
    }
}
