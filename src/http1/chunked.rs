//! The chunked transfer coding (RFC 9112 §7.1), decoded strictly and with every part bounded.

use crate::svc::fields::Span;
use crate::svc::{Fields, Known, Output};
use bytes::Bytes;

/// What a step of the decoder found at the start of its input.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// More input is needed; so many bytes were consumed.
    More(usize),
    /// `skip` bytes of framing, then `len` bytes of content that are here.
    Data {
        /// Framing in front of the content.
        skip: usize,
        /// Content.
        len: usize,
    },
    /// The end; so many bytes were consumed. The trailer section, if any, is in [`Decoder::take_trailers`].
    End(usize),
}

/// Why a chunked body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Bounds of the coding's own bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all chunk extensions of one message.
    pub extension_bytes_max: usize,
    /// Bytes of the trailer section.
    pub trailer_bytes_max: usize,
    /// Fields of the trailer section.
    pub trailers_max: usize,
}

/// The state between two steps.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    extension_bytes: usize,
    limits: Limits,
    trailers: Option<Fields>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In front of a size line.
    Size,
    /// So much content of this chunk is still to come.
    Data(u64),
    /// In front of the CRLF after a chunk's content.
    DataEnd,
    /// In front of a trailer line or the last CRLF.
    Trailers,
    Done,
}

/// The longest size line that is looked at in one piece; extensions are counted on top by the limit.
const SIZE_DIGITS_MAX: usize = 16;

impl Decoder {
    /// A decoder in front of the first chunk.
    pub fn new(limits: Limits) -> Decoder {
        Decoder { state: State::Size, extension_bytes: 0, limits, trailers: None }
    }

    /// Whether the end was decoded.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailer section, once the end was decoded; without the fields that must not be there.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        self.trailers.take()
    }

    /// Decodes what is at the start of `input`. The caller consumes what the step says before it calls again.
    ///
    /// # Errors
    /// [`Malformed`] where the coding is broken or a bound is passed; the message cannot be continued.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, Malformed> {
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            match self.state {
                State::Size => match self.size_line(rest)? {
                    Some((used, 0)) => {
                        at += used;
                        self.state = State::Trailers;
                    }
                    Some((used, size)) => {
                        at += used;
                        self.state = State::Data(size);
                    }
                    None => return Ok(Step::More(at)),
                },
                State::Data(left) => {
                    if rest.is_empty() {
                        return Ok(Step::More(at));
                    }
                    let len = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let left = left - len as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok(Step::Data { skip: at, len });
                }
                State::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        at += 2;
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(Step::More(at)),
                    _ => return Err(Malformed("a chunk does not end where its size says")),
                },
                State::Trailers => match self.trailer_section(rest)? {
                    Some(used) => {
                        self.state = State::Done;
                        return Ok(Step::End(at + used));
                    }
                    None => return Ok(Step::More(at)),
                },
                State::Done => return Ok(Step::End(at)),
            }
        }
    }

    /// `size [;extension] CRLF`: how many bytes it takes, and the size.
    fn size_line(&mut self, rest: &[u8]) -> Result<Option<(usize, u64)>, Malformed> {
        let mut size = 0u64;
        let mut digits = 0;
        while let Some(digit) = rest.get(digits).and_then(|byte| (*byte as char).to_digit(16)) {
            if digits == SIZE_DIGITS_MAX {
                return Err(Malformed("a chunk's size has too many digits"));
            }
            size = (size << 4) | u64::from(digit);
            digits += 1;
        }
        let tail = rest.get(digits..).unwrap_or_default();
        match tail {
            _ if digits == 0 && !rest.is_empty() => Err(Malformed("a chunk's size is not hexadecimal")),
            [b'\r', b'\n', ..] => Ok(Some((digits + 2, size))),
            [] | [b'\r'] => Ok(None),
            [b';' | b' ' | b'\t', ..] => Ok(self.extension(tail)?.map(|used| (digits + used, size))),
            _ => Err(Malformed("a chunk's size is followed by something else than an extension")),
        }
    }

    /// The length of the extension and its CRLF. Extensions carry nothing for us; they are bounded and dropped.
    fn extension(&mut self, tail: &[u8]) -> Result<Option<usize>, Malformed> {
        let left = self.limits.extension_bytes_max.saturating_sub(self.extension_bytes);
        let Some(end) = memchr::memchr2(b'\n', b'\r', tail) else {
            return if tail.len() > left {
                Err(Malformed("the chunk extensions are too long"))
            } else {
                Ok(None)
            };
        };
        let text = tail.get(..end).unwrap_or_default();
        if text.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(Malformed("a chunk extension has a control character"));
        }
        // Blanks may stand around the semicolon, but nothing else may come before it.
        if !matches!(text.trim_ascii_start().first(), Some(b';')) {
            return Err(Malformed("a chunk's size is followed by something else than an extension"));
        }
        if text.len() > left {
            return Err(Malformed("the chunk extensions are too long"));
        }
        match tail.get(end..) {
            Some([b'\r', b'\n', ..]) => {
                self.extension_bytes += text.len();
                Ok(Some(end + 2))
            }
            Some([b'\r']) => Ok(None),
            _ => Err(Malformed("a chunk's size line does not end in CRLF")),
        }
    }

    /// The trailer section with its last CRLF: how many bytes it takes.
    fn trailer_section(&mut self, rest: &[u8]) -> Result<Option<usize>, Malformed> {
        match rest {
            [b'\r', b'\n', ..] => return Ok(Some(2)),
            [] | [b'\r'] => return Ok(None),
            _ => {}
        }
        let bound = self.limits.trailer_bytes_max;
        let mut slots = vec![httparse::EMPTY_HEADER; self.limits.trailers_max];
        let (used, list) = match httparse::parse_headers(rest, &mut slots) {
            Ok(httparse::Status::Complete(done)) => done,
            Ok(httparse::Status::Partial) if rest.len() < bound => return Ok(None),
            Ok(httparse::Status::Partial) => return Err(Malformed("the trailer section is too long")),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(Malformed("the trailer section has too many fields"));
            }
            Err(_) => return Err(Malformed("the trailer section is malformed")),
        };
        let section = rest.get(..used).unwrap_or_default();
        if used > bound {
            return Err(Malformed("the trailer section is too long"));
        }
        if super::head::has_bare_lf(section) {
            return Err(Malformed("a trailer line ends in a bare LF"));
        }
        let mut trailers = Fields::with_bytes(section);
        for field in list.iter().filter(|field| is_allowed_trailer(field.name.as_bytes())) {
            let start = |part: &[u8]| (part.as_ptr() as usize).wrapping_sub(section.as_ptr() as usize);
            trailers.index(
                Span::new(start(field.name.as_bytes()), field.name.len()),
                Span::new(start(field.value), field.value.len()),
            );
        }
        self.trailers = (!trailers.is_empty()).then_some(trailers);
        Ok(Some(used))
    }
}

/// Whether a field may come in a trailer section. RFC 9110 §6.5.1: not what framing, routing, authentication or the
/// context are decided by; whoever believed a late one could be deceived.
pub fn is_allowed_trailer(name: &[u8]) -> bool {
    use Known as K;
    match Known::classify(name) {
        Some(
            K::Host
            | K::Connection
            | K::ContentLength
            | K::TransferEncoding
            | K::Te
            | K::Trailer
            | K::Upgrade
            | K::Expect
            | K::KeepAlive
            | K::ProxyConnection
            | K::ProxyAuthorization
            | K::ProxyAuthenticate
            | K::MaxForwards
            | K::Http2Settings
            | K::ContentType
            | K::ContentEncoding
            | K::Authorization
            | K::Cookie
            | K::SetCookie
            | K::Forwarded
            | K::XForwardedFor
            | K::XForwardedProto
            | K::XRequestId
            | K::XUserId
            | K::XAccountId
            | K::XLicense
            | K::XRequestType
            | K::XFeatureFlags
            | K::Traceparent
            | K::Tracestate
            | K::Baggage,
        ) => false,
        _ => !name.starts_with(b":"),
    }
}

/// Writes one chunk. Only while [`Output::has_room`]; large data is not copied.
pub fn write_chunk(output: &mut Output, data: Bytes) {
    write_hex(output.small(), data.len());
    output.small().extend_from_slice(b"\r\n");
    output.push_with_tail(data, b"\r\n");
}

/// Writes the last chunk and the trailer section.
pub fn write_last_chunk(output: &mut Output, trailers: Option<&Fields>) {
    let out = output.small();
    out.extend_from_slice(b"0\r\n");
    for (name, value, _) in trailers.into_iter().flat_map(Fields::iter) {
        if is_allowed_trailer(name) {
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn write_hex(out: &mut Vec<u8>, number: usize) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(char::from_digit(((number >> (place * 4)) & 0xf) as u32, 16).unwrap_or('0') as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { extension_bytes_max: 16, trailer_bytes_max: 64, trailers_max: 4 };

    /// Decodes `input` given in pieces of `piece` bytes.
    fn decode(input: &[u8], piece: usize) -> Result<(Vec<u8>, Option<Fields>, usize), Malformed> {
        let mut decoder = Decoder::new(LIMITS);
        let (mut buffer, mut content, mut used) = (Vec::new(), Vec::new(), 0);
        let mut pieces = input.chunks(piece);
        loop {
            let (consumed, is_more) = match decoder.step(&buffer)? {
                Step::More(consumed) => (consumed, true),
                Step::Data { skip, len } => {
                    content.extend_from_slice(&buffer[skip..skip + len]);
                    (skip + len, false)
                }
                Step::End(consumed) => return Ok((content, decoder.take_trailers(), used + consumed)),
            };
            buffer.drain(..consumed);
            used += consumed;
            if is_more {
                buffer.extend_from_slice(pieces.next().ok_or(Malformed("ended"))?);
            }
        }
    }

    #[test]
    fn content_and_trailers_whatever_the_pieces() {
        let input = b"4\r\nWiki\r\n6;a=b\r\npedia \r\nD\r\nin\r\n\r\nchunks.\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\nnext";
        for piece in 1..=input.len() {
            let (content, trailers, used) = decode(input, piece).unwrap();
            assert_eq!(content, b"Wikipedia in\r\n\r\nchunks.", "{piece}");
            let trailers = trailers.unwrap();
            assert_eq!(trailers.named(b"x-sum").next(), Some(&b"1"[..]));
            assert_eq!(trailers.len(), 1, "host must not come in a trailer section");
            assert_eq!(&input[used..], b"next");
        }
    }

    #[test]
    fn what_is_refused() {
        for input in [
            &b"x\r\n"[..],
            b"0x1\r\na\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b" 1\r\na\r\n",
            b"1\na\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n0\r\n\r\n",
            b"00000000000000001\r\na\r\n",
            b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\na\r\n",
            b"1;a\nb\r\n",
            b"1 x\r\na\r\n",
            b"1;\x00\r\n",
            b"0\r\nX: 1\n\r\n",
            b"0\r\nX : 1\r\n\r\n",
            b"0\r\na: 1\r\nb: 1\r\nc: 1\r\nd: 1\r\ne: 1\r\n\r\n",
        ] {
            for piece in [1, 7, 100] {
                let result = decode(input, piece);
                assert!(
                    matches!(result, Err(Malformed(why)) if why != "ended"),
                    "{:?}",
                    String::from_utf8_lossy(input)
                );
            }
        }
    }

    #[test]
    fn extensions_are_bounded_over_the_whole_message() {
        let many = b"1;12345\r\na\r\n".repeat(4);
        assert_eq!(decode(&many, 64), Err(Malformed("the chunk extensions are too long")));
    }

    impl PartialEq for Fields {
        fn eq(&self, other: &Fields) -> bool {
            self.iter().eq(other.iter())
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end_without_a_panic(input: Vec<u8>, piece in 1usize..9) {
            let _ = decode(&input, piece);
        }

        #[test]
        fn what_is_encoded_is_decoded(chunks in proptest::collection::vec(proptest::collection::vec(0u8.., 1..50), 0..8), piece in 1usize..40) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let (content, trailers, used) = decode(&wire, piece).unwrap();
            proptest::prop_assert_eq!(content, chunks.concat());
            proptest::prop_assert!(trailers.is_none());
            proptest::prop_assert_eq!(used, wire.len());
        }
    }
}
