//! Bytes from a pipe, as lines.
//!
//! How it fails: of a line that is too long the beginning is kept, and the rest is counted as it comes and forgotten, so that
//! one without an end holds no more memory than one that fits.

/// How much is read at once.
pub(super) const READ_BYTES: usize = 64 << 10;

/// A line in the buffer, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    start: usize,
    end: usize,
    /// Bytes that were cut off.
    pub(super) cut_bytes: u64,
}

/// What was read and is not told yet.
pub(super) struct Lines {
    bytes: Vec<u8>,
    line_bytes_max: usize,
    /// Of the line that is in the buffer, so many bytes were forgotten.
    cut_bytes: u64,
    /// Whole lines end here.
    told: usize,
}

impl Lines {
    pub(super) fn new(line_bytes_max: usize) -> Lines {
        Lines { bytes: Vec::new(), line_bytes_max, cut_bytes: 0, told: 0 }
    }

    /// Reads once and appends the lines that are whole now; how many bytes came, 0 at the end.
    ///
    /// # Errors
    /// As `read` has them.
    pub(super) fn read(
        &mut self,
        from: &mut impl std::io::Read,
        lines: &mut Vec<Line>,
    ) -> std::io::Result<usize> {
        let old = self.bytes.len();
        self.bytes.resize(old + READ_BYTES, 0);
        let read = from.read(self.bytes.get_mut(old..).unwrap_or_default());
        let count = read.as_ref().map_or(0, |count| *count);
        self.bytes.truncate(old + count);
        self.split(old, lines);
        read
    }

    /// The rest, which has no line end, as the last line.
    pub(super) fn end(&mut self, lines: &mut Vec<Line>) {
        if !self.bytes.is_empty() {
            lines.push(Line { start: 0, end: self.bytes.len(), cut_bytes: self.cut_bytes });
        }
        (self.told, self.cut_bytes) = (self.bytes.len(), 0);
    }

    fn split(&mut self, old: usize, lines: &mut Vec<Line>) {
        let max = self.line_bytes_max;
        let new = self.bytes.get(old..).unwrap_or_default();
        let mut start = 0;
        for at in memchr::memchr_iter(b'\n', new) {
            let end = old + at;
            let cut = (end - start).saturating_sub(max);
            let cut_bytes = std::mem::take(&mut self.cut_bytes) + cut as u64;
            lines.push(Line { start, end: end - cut, cut_bytes });
            start = end + 1;
        }
        self.told = start;
        let rest = self.bytes.len() - start;
        if rest > max {
            self.cut_bytes += (rest - max) as u64;
            self.bytes.truncate(start + max);
        }
    }

    /// The bytes of a line.
    pub(super) fn get(&self, line: Line) -> &[u8] {
        self.bytes.get(line.start..line.end).unwrap_or_default()
    }

    /// Forgets what was told.
    pub(super) fn settle(&mut self) {
        self.bytes.drain(..self.told.min(self.bytes.len()));
        self.told = 0;
        if self.bytes.is_empty() && self.bytes.capacity() > 4 * READ_BYTES {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The lines of `text`, which comes in pieces of these sizes.
    fn lines(text: &[u8], max: usize, sizes: &[usize]) -> Vec<(Vec<u8>, u64)> {
        let mut buffer = Lines::new(max);
        let mut found = Vec::new();
        let mut rest = text;
        let mut sizes = sizes.iter().copied().cycle();
        loop {
            let mut spans = Vec::new();
            let (mut piece, after) =
                rest.split_at(sizes.next().unwrap_or(7).clamp(1, READ_BYTES).min(rest.len()));
            rest = after;
            let count = buffer.read(&mut piece, &mut spans).unwrap();
            if count == 0 {
                buffer.end(&mut spans);
            }
            found.extend(spans.iter().map(|line| (buffer.get(*line).to_vec(), line.cut_bytes)));
            buffer.settle();
            if count == 0 {
                return found;
            }
        }
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        for sizes in [[1], [2], [5], [100]] {
            let found = lines(b"one\n\ntwo\r\nthree", 8, &sizes);
            let want: [(&[u8], u64); 4] = [(b"one", 0), (b"", 0), (b"two\r", 0), (b"three", 0)];
            assert_eq!(found, want.map(|(line, cut)| (line.to_vec(), cut)), "{sizes:?}");
            let found = lines(b"0123456789\nnext\n01234567\nabcdefghijkl", 8, &sizes);
            let want: [(&[u8], u64); 4] =
                [(b"01234567", 2), (b"next", 0), (b"01234567", 0), (b"abcdefgh", 4)];
            assert_eq!(found, want.map(|(line, cut)| (line.to_vec(), cut)), "{sizes:?}");
        }
        assert!(lines(b"", 8, &[1]).is_empty());
    }

    #[test]
    fn a_line_without_an_end_takes_no_more_room_than_one_that_fits() {
        let mut buffer = Lines::new(1000);
        let (mut spans, block) = (Vec::new(), vec![b'x'; READ_BYTES]);
        for _ in 0..200 {
            buffer.read(&mut &*block, &mut spans).unwrap();
            buffer.settle();
        }
        assert!(buffer.bytes.capacity() <= 4 * READ_BYTES, "{}", buffer.bytes.capacity());
        buffer.read(&mut &b"\n"[..], &mut spans).unwrap();
        assert_eq!(spans.len(), 1);
        assert_eq!(
            (buffer.get(spans[0]).len(), spans[0].cut_bytes),
            (1000, (200 * READ_BYTES - 1000) as u64)
        );
    }

    proptest! {
        #[test]
        fn every_byte_is_in_a_line_or_counted(
            text in "[ab\n]{0,200}",
            max in 1_usize..20,
            sizes in prop::collection::vec(1_usize..30, 1..6),
        ) {
            let found = lines(text.as_bytes(), max, &sizes);
            let whole: Vec<&str> = text.lines().collect();
            prop_assert_eq!(found.len(), whole.len());
            for ((line, cut), whole) in found.iter().zip(whole) {
                prop_assert_eq!(line.as_slice(), &whole.as_bytes()[..whole.len().min(max)]);
                prop_assert_eq!(*cut, whole.len().saturating_sub(max) as u64);
            }
        }
    }
}
