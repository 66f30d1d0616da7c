//! What request and response heads share: the strictness beyond `httparse`, and the framing fields.

use super::Framing;
use crate::svc::fields::{Span, tokens};
use crate::svc::{Fields, Known};

/// Where `part`, a slice of `whole`, lies in it.
pub(super) fn span_of(whole: &[u8], part: &[u8]) -> Span {
    Span::new((part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize), part.len())
}

/// Whether every LF of the head ends a CRLF. `httparse` takes a bare LF for a line end, as RFC 9112 §2.2 lets it; but
/// a neighbour that does not is how requests are smuggled.
pub(super) fn has_bare_lf(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head.get(at - 1) != Some(&b'\r'))
}

/// Why the framing fields of a message cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadFraming {
    /// Refused as ambiguous or malformed.
    Ambiguous(&'static str),
    /// A transfer coding that is not implemented.
    Coding,
}

/// The framing that Content-Length and Transfer-Encoding ask for; `None` where neither is there.
///
/// Transfer-Encoding is removed: it is hop-by-hop, and the writer decides anew. Content-Length stays, as checked.
pub(super) fn framing(fields: &mut Fields, is_http_10: bool) -> Result<Option<Framing>, BadFraming> {
    if fields.has(Known::TransferEncoding) {
        return transfer_encoding(fields, is_http_10).map(Some);
    }
    let Some(value) = fields.get(Known::ContentLength) else { return Ok(None) };
    if fields.is_repeated(Known::ContentLength) {
        return Err(BadFraming::Ambiguous("Content-Length is there more than once"));
    }
    match decimal(value) {
        Some(length) => Ok(Some(Framing::Length(length))),
        None => Err(BadFraming::Ambiguous("Content-Length is not a number")),
    }
}

fn transfer_encoding(fields: &mut Fields, is_http_10: bool) -> Result<Framing, BadFraming> {
    if is_http_10 {
        return Err(BadFraming::Ambiguous("Transfer-Encoding in HTTP/1.0"));
    }
    if fields.has(Known::ContentLength) {
        return Err(BadFraming::Ambiguous("Content-Length together with Transfer-Encoding"));
    }
    if fields.is_repeated(Known::TransferEncoding) {
        return Err(BadFraming::Ambiguous("Transfer-Encoding is there more than once"));
    }
    let value = fields.get(Known::TransferEncoding).unwrap_or_default();
    if !value.eq_ignore_ascii_case(b"chunked") {
        return Err(unsupported_coding(value));
    }
    fields.remove(Known::TransferEncoding);
    Ok(Framing::Chunked)
}

/// A well-formed list that ends in `chunked` is merely not implemented; anything else leaves the framing unknown.
fn unsupported_coding(value: &[u8]) -> BadFraming {
    let codings: Vec<&[u8]> = tokens(value).collect();
    let is_list = value.split(|byte| *byte == b',').all(|token| !token.trim_ascii().is_empty());
    let is_known = |coding: &&[u8]| {
        [&b"gzip"[..], b"x-gzip", b"deflate", b"compress", b"x-compress"]
            .iter()
            .any(|known| coding.eq_ignore_ascii_case(known))
    };
    match codings.split_last() {
        Some((last, others))
            if is_list
                && last.eq_ignore_ascii_case(b"chunked")
                && !others.is_empty()
                && others.iter().all(is_known) =>
        {
            BadFraming::Coding
        }
        _ => BadFraming::Ambiguous("Transfer-Encoding is not exactly `chunked`"),
    }
}

/// `1*DIGIT` that fits a `u64`.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &[(&str, &str)], is_http_10: bool) -> Result<Option<Framing>, BadFraming> {
        let mut fields = Fields::new();
        for (name, value) in list {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        framing(&mut fields, is_http_10)
    }

    #[test]
    fn content_length_is_one_number() {
        assert_eq!(check(&[("content-length", "42")], false), Ok(Some(Framing::Length(42))));
        assert_eq!(check(&[], false), Ok(None));
        for bad in ["", "+1", "-1", "0x10", "1 2", "1,1", "18446744073709551616", "1_0", "\u{0661}"] {
            assert!(check(&[("content-length", bad)], false).is_err(), "{bad:?}");
        }
        assert!(check(&[("content-length", "1"), ("content-length", "1")], false).is_err());
    }

    #[test]
    fn transfer_encoding_is_exactly_chunked() {
        assert_eq!(check(&[("transfer-encoding", "Chunked")], false), Ok(Some(Framing::Chunked)));
        assert_eq!(check(&[("transfer-encoding", "gzip, chunked")], false), Err(BadFraming::Coding));
        for bad in [
            "chunked, chunked",
            "identity, chunked",
            ", chunked",
            "xchunked",
            "chunked;a",
            "gzip",
            "",
            "chunked\x0b",
        ] {
            assert!(
                matches!(check(&[("transfer-encoding", bad)], false), Err(BadFraming::Ambiguous(_))),
                "{bad:?}"
            );
        }
        let twice = [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
        assert!(check(&twice, false).is_err());
        assert!(check(&[("transfer-encoding", "chunked")], true).is_err());
        assert!(check(&[("transfer-encoding", "chunked"), ("content-length", "1")], false).is_err());
    }
}
