//! Which protocol a client speaks, from its first bytes.
//!
//! Decided as soon as the bytes allow it: the HTTP/2 preface is told from HTTP/1 at its first differing byte. A client
//! that says nothing within the budget is taken for opaque, which is right for protocols where the server speaks
//! first and costs them the budget: such a port should be declared (`app_protocol: tcp`).

/// A protocol, as far as the first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Detected {
    /// A request line.
    Http1,
    /// The connection preface of HTTP/2 (RFC 9113 §3.4).
    Http2,
    /// A TLS ClientHello.
    Tls,
    /// Anything else.
    Opaque,
}

impl Detected {
    /// The name in metrics and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Detected::Http1 => "http1",
            Detected::Http2 => "http2",
            Detected::Tls => "tls",
            Detected::Opaque => "opaque",
        }
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest method that is taken for HTTP; registered methods have up to 17 letters.
const METHOD_BYTES_MAX: usize = 24;

/// How many bytes are looked at for the end of a request line before it is taken for opaque.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// What `bytes` are the start of; `None` while several answers are possible.
pub fn detect(bytes: &[u8]) -> Option<Detected> {
    // Empty lines may come before a request (RFC 9112 §2.2).
    let mut bytes = bytes;
    while let Some(rest) = bytes.strip_prefix(b"\r\n") {
        bytes = rest;
    }
    match bytes {
        [] | [b'\r'] => return None,
        // A handshake record of TLS 1.x (RFC 8446 §5.1): type 22, legacy version 3.x.
        [0x16] => return None,
        [0x16, 0x03, ..] => return Some(Detected::Tls),
        _ => {}
    }
    if bytes.starts_with(PREFACE) {
        return Some(Detected::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return None;
    }
    request_line(bytes)
}

/// A token, a space, and a target that looks like one; what comes then is the parser's business, so that a malformed
/// request is answered 400 rather than passed on as bytes.
fn request_line(bytes: &[u8]) -> Option<Detected> {
    let method = bytes.iter().position(|byte| !byte.is_ascii_alphabetic() && !b"-_".contains(byte));
    let end = match method {
        None if bytes.len() > METHOD_BYTES_MAX => return Some(Detected::Opaque),
        None => return None,
        Some(end) if end == 0 || end > METHOD_BYTES_MAX => return Some(Detected::Opaque),
        Some(end) => end,
    };
    let rest = bytes.get(end..).unwrap_or_default();
    // A blank, then anything: only a line that names HTTP is HTTP.
    if !matches!(rest.first(), Some(b' ' | b'\t')) {
        return Some(Detected::Opaque);
    }
    if matches!(rest.trim_ascii_start().first(), Some(b'/' | b'*')) || is_http_uri(rest.trim_ascii_start()) {
        return Some(Detected::Http1);
    }
    match memchr::memchr(b'\n', rest) {
        Some(at) => {
            let line = rest.get(..at).unwrap_or_default();
            let is_http = memchr::memmem::find(line, b" HTTP/").is_some();
            Some(if is_http { Detected::Http1 } else { Detected::Opaque })
        }
        None if rest.len() > LINE_BYTES_MAX => Some(Detected::Opaque),
        None => None,
    }
}

fn is_http_uri(target: &[u8]) -> bool {
    let scheme = target.get(..4);
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"http"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_decide() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Detected::Http1),
            (b"GET /", Detected::Http1),
            (b"\r\n\r\nPOST /", Detected::Http1),
            (b"OPTIONS *", Detected::Http1),
            (b"get http://a/", Detected::Http1),
            (b"CONNECT a:443 HTTP/1.1\r\n", Detected::Http1),
            (b"GET bad target HTTP/1.1\r\n", Detected::Http1),
            (b"M-SEARCH /", Detected::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Detected::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nXX", Detected::Http1),
            (b"\x16\x03\x01\x02\x00\x01", Detected::Tls),
            (b"\x16\x04", Detected::Opaque),
            (b"*1\r\n$4\r\nPING\r\n", Detected::Opaque),
            (b"HELO mail.example\r\n", Detected::Opaque),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Detected::Opaque),
            (b"SSH-2.0-OpenSSH_9\r\n", Detected::Opaque),
        ] {
            assert_eq!(detect(bytes), Some(expected), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn undecided_while_more_than_one_answer_is_possible() {
        for bytes in [&b""[..], b"\r", b"\r\n", b"P", b"PR", b"PRI * HTTP/2.0\r\n", b"GET", b"GET ", b"\x16"]
        {
            assert_eq!(detect(bytes), None, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    proptest::proptest! {
        #[test]
        fn more_bytes_never_change_an_answer(bytes: Vec<u8>, more: Vec<u8>) {
            if let Some(first) = detect(&bytes) {
                let all = [bytes, more].concat();
                proptest::prop_assert_eq!(detect(&all), Some(first));
            }
        }
    }
}
