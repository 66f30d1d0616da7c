//! Content codings (RFC 9110 §8.4): taken off before content is looked at, and put on again where it was changed.
//!
//! Known are `gzip`, `deflate` (RFC 1950, and the bare RFC 1951 that some send) and `zstd`. How it fails: a coding that is not
//! known (`br`), content that is damaged or cut, or that becomes too large (a decompression bomb), is not decoded; the caller takes it as
//! bytes.

use crate::record::Field;
use std::borrow::Cow;
use std::io::{self, Read, Write};

/// The most bytes that content may become.
pub const DECODED_BYTES_MAX: usize = 16 << 20;
/// Codings on top of each other; more are nobody's honest content.
const CODINGS_MAX: usize = 4;
/// The largest window of zstd: 8 MiB, which is what RFC 9659 allows for content.
const WINDOW_LOG_MAX: u32 = 23;

/// A coding that is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Zstd,
}

/// The codings of content, in the order in which they were put on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codings(Vec<Coding>);

impl Codings {
    /// What `content-encoding` says; `None`: something that is not known here.
    pub fn of(fields: &[Field]) -> Option<Codings> {
        let values = fields.iter().filter(|field| field.is(b"content-encoding"));
        let names = values.flat_map(|field| field.value.split(|b| *b == b','));
        Codings::named(names)
    }

    fn named<'n>(names: impl Iterator<Item = &'n [u8]>) -> Option<Codings> {
        let mut codings = Vec::new();
        for name in names.map(<[u8]>::trim_ascii) {
            codings.push(match name.to_ascii_lowercase().as_slice() {
                b"" | b"identity" => continue,
                b"gzip" | b"x-gzip" => Coding::Gzip,
                b"deflate" => Coding::Deflate,
                b"zstd" => Coding::Zstd,
                _ => return None,
            });
            if codings.len() > CODINGS_MAX {
                return None;
            }
        }
        Some(Codings(codings))
    }

    /// The one of gRPC's messages (`grpc-encoding`).
    pub fn of_messages(fields: &[Field]) -> Option<Codings> {
        Codings::named(fields.iter().filter(|field| field.is(b"grpc-encoding")).map(|field| &*field.value))
    }

    /// Whether content is as it is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Content as it was before; `None`: it is not what it says, or too large.
    pub fn decoded<'b>(&self, bytes: &'b [u8]) -> Option<Cow<'b, [u8]>> {
        let mut content = Cow::Borrowed(bytes);
        for coding in self.0.iter().rev() {
            content = Cow::Owned(coding.decoded(&content)?);
        }
        Some(content)
    }

    /// Content as it is sent.
    pub fn encoded(&self, bytes: Vec<u8>) -> Option<Vec<u8>> {
        self.0.iter().try_fold(bytes, |bytes, coding| coding.encoded(&bytes).ok())
    }
}

impl Coding {
    fn decoded(self, bytes: &[u8]) -> Option<Vec<u8>> {
        // RFC 1950 §2.2: the method is 8, and the first two bytes are a multiple of 31.
        let is_zlib = matches!(bytes, [a, b, ..] if a & 15 == 8 && (u32::from(*a) << 8 | u32::from(*b)).is_multiple_of(31));
        match self {
            // No content at all has no coding either, as answers to HEAD and 304 show.
            _ if bytes.is_empty() => Some(Vec::new()),
            Coding::Gzip => read(flate2::read::MultiGzDecoder::new(bytes)),
            Coding::Deflate if is_zlib => read(flate2::read::ZlibDecoder::new(bytes)),
            Coding::Deflate => read(flate2::read::DeflateDecoder::new(bytes)),
            Coding::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).ok()?;
                decoder.window_log_max(WINDOW_LOG_MAX).ok()?;
                read(decoder)
            }
        }
    }

    fn encoded(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let level = flate2::Compression::fast();
        match self {
            Coding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Coding::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Coding::Zstd => zstd::encode_all(bytes, 1),
        }
    }
}

/// One byte more than is allowed says that it is too much.
fn read(decoder: impl Read) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let len = decoder.take(DECODED_BYTES_MAX as u64 + 1).read_to_end(&mut out).ok()?;
    (len <= DECODED_BYTES_MAX).then_some(out)
}
