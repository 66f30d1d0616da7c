//! Files of other programs, unpacked as they are read: gzip (RFC 1952) and zstd (RFC 8878), told by their first bytes.
//!
//! How it fails: what is damaged or cut off is an error of the reader where it is found, after everything before it. A file
//! that becomes more than [`TIMES_MAX`] times as long is refused there: gzip cannot do more, and nobody waits for a bomb.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// How many times as long as the file its content may be.
const TIMES_MAX: u64 = 2000;
/// What is taken from a small file in any case.
const BYTES_FREE: u64 = 64 << 20;
/// What is read at once.
const BUFFER_BYTES: usize = 256 << 10;
/// How far back a zstd frame may look, as a power of two: 128 MiB, as the `zstd` program has it.
const WINDOW_LOG_MAX: u32 = 27;

/// Opens a file that may be packed.
///
/// # Errors
/// It cannot be read.
pub fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let file = File::open(path)?;
    let left = file.metadata()?.len().saturating_mul(TIMES_MAX).saturating_add(BYTES_FREE);
    let mut input = BufReader::with_capacity(BUFFER_BYTES, file);
    let start = input.fill_buf()?;
    let unpacked: Box<dyn Read> = if start.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(input))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
        decoder.window_log_max(WINDOW_LOG_MAX)?;
        Box::new(decoder)
    } else {
        return Ok(Box::new(input));
    };
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, Bounded { input: unpacked, left })))
}

/// Reads so much, and then refuses.
struct Bounded {
    input: Box<dyn Read>,
    left: u64,
}

impl Read for Bounded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                let what =
                    format!("unpacked, it is more than {TIMES_MAX} times as long as the file: a bomb?");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> (Vec<u8>, io::Result<()>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let (mut out, mut input) = (Vec::new(), open(file.path()).unwrap());
        let mut piece = vec![0; 1 << 20];
        loop {
            match input.read(&mut piece) {
                Ok(0) => return (out, Ok(())),
                Ok(read) => out.extend_from_slice(&piece[..read]),
                Err(error) => return (out, Err(error)),
            }
        }
    }

    #[test]
    fn what_was_packed_is_read_whoever_packed_it_and_in_how_many_pieces() {
        let [one, two] = [b"one ".repeat(1000), b"two ".repeat(100_000)];
        let all = [one.clone(), two.clone()].concat();
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
        let cases = [
            all.clone(),
            gzip(&all),
            zstd(&all),
            [gzip(&one), gzip(&two)].concat(),
            [zstd(&one), zstd(&two)].concat(),
        ];
        for (number, packed) in cases.iter().enumerate() {
            let (read, end) = read(packed);
            assert!(read == all && end.is_ok(), "case {number}: {} bytes, {end:?}", read.len());
        }
    }

    #[test]
    fn what_is_cut_off_is_read_up_to_there_and_told() {
        // Not compressible, so that a cut is a cut of the content.
        let all: Vec<u8> = (0..300_000_u64).flat_map(|number| (number * number).to_le_bytes()).collect();
        for packed in [gzip(&all), zstd::encode_all(&all[..], 1).unwrap()] {
            let (read, end) = read(&packed[..packed.len() / 2]);
            assert!(
                end.is_err() && !read.is_empty() && all.starts_with(&read),
                "{} bytes, {end:?}",
                read.len()
            );
        }
    }

    #[test]
    fn a_bomb_is_given_up() {
        let bomb = zstd::encode_all(io::repeat(b'a').take(400 << 20), 19).unwrap();
        assert!(bomb.len() < 100 << 10, "{} bytes", bomb.len());
        let (read, end) = read(&bomb);
        let bound = bomb.len() as u64 * TIMES_MAX + BYTES_FREE;
        assert!(
            read.len() as u64 <= bound && end.unwrap_err().to_string().contains("bomb"),
            "{}",
            read.len()
        );
    }
}
