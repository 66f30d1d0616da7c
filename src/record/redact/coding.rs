//! Compressed content: read within bounds, and written again where something in it was replaced.
//!
//! How it fails: what is not what it says, or becomes too large (a decompression bomb), is withheld.

use super::json::Wrong;
use super::message::Coding;
use std::io::{self, Read, Write};

/// The most bytes that content may become.
pub(super) const DECODED_BYTES_MAX: usize = 16 << 20;
/// How much larger it may become, beyond a floor.
pub(super) const RATIO_MAX: usize = 200;
pub(super) const FLOOR_BYTES: usize = 1 << 20;
/// Largest window of zstd that is allowed: 8 MiB, as RFC 8878 says for content.
const WINDOW_LOG_MAX: u32 = 23;

/// Decodes into `out`. What ends too early is read as far as it goes.
pub(super) fn decode(coding: Coding, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Wrong> {
    out.clear();
    match coding {
        Coding::Gzip => read(flate2::read::MultiGzDecoder::new(bytes), bytes.len(), out),
        Coding::Deflate => match bytes {
            [a, b, ..] if a & 15 == 8 && (u32::from(*a) << 8 | u32::from(*b)).is_multiple_of(31) => {
                read(flate2::read::ZlibDecoder::new(bytes), bytes.len(), out)
            }
            _ => read(flate2::read::DeflateDecoder::new(bytes), bytes.len(), out),
        },
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(|_| Wrong)?;
            decoder.window_log_max(WINDOW_LOG_MAX).map_err(|_| Wrong)?;
            read(decoder, bytes.len(), out)
        }
        Coding::Identity | Coding::Unknown => Err(Wrong),
    }
}

fn read(mut reader: impl Read, encoded: usize, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let most = encoded.saturating_mul(RATIO_MAX).clamp(FLOOR_BYTES, DECODED_BYTES_MAX);
    let mut buffer = [0; 16 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) if out.len() + len > most => return Err(Wrong),
            Ok(len) => out.extend_from_slice(buffer.get(..len).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(_) => return Err(Wrong),
        }
    }
}

/// Encodes in the same coding.
pub(super) fn encode(coding: Coding, bytes: &[u8]) -> Result<Vec<u8>, Wrong> {
    let level = flate2::Compression::fast();
    let encoded = match coding {
        Coding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).and_then(|()| encoder.finish())
        }
        Coding::Deflate => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).and_then(|()| encoder.finish())
        }
        Coding::Zstd => zstd::encode_all(bytes, 1),
        Coding::Identity | Coding::Unknown => return Err(Wrong),
    };
    encoded.map_err(|_| Wrong)
}
