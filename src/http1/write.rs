//! Writing heads.
//!
//! Fields that came in one piece and were not touched stand one behind the other in the head's buffer; such a run is
//! copied at once, with the line ends between them.

use crate::svc::fields::Span;
use crate::svc::{Fields, Known, Method, RequestHead, ResponseHead};

/// What content follows a head, as the writer of the body will frame it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// None, and the fields stay as they are: HEAD, 304.
    Unsaid,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Until the connection closes.
    Close,
}

/// Writes a request head for an HTTP/1.1 upstream.
///
/// `Content-Length` and `Transfer-Encoding` are written from `content`, `Connection` and `Upgrade` only for an upgrade.
pub fn write_request(out: &mut Vec<u8>, head: &RequestHead, content: Content) {
    out.extend_from_slice(head.method_bytes());
    out.push(b' ');
    out.extend_from_slice(head.path());
    if let Some(query) = head.query() {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(head.authority());
    out.extend_from_slice(b"\r\n");
    // RFC 9110 §10.1.4: whoever sends TE nominates it, so that it goes no further than the next hop.
    if head.fields.has(Known::Te) {
        out.extend_from_slice(b"connection: te\r\n");
    }
    if let Some(protocol) = head.upgrade() {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
        out.extend_from_slice(protocol);
        out.extend_from_slice(b"\r\n");
    }
    // No content and no field: only methods that usually have content say so (RFC 9110 §8.6).
    let is_silent =
        content == Content::Length(0) && !matches!(head.method, Method::Post | Method::Put | Method::Patch);
    write_fields(out, &head.fields, if is_silent { Content::Unsaid } else { content });
}

/// What a response says about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It stays open, as is usual in HTTP/1.1.
    Usual,
    /// It stays open, and an HTTP/1.0 client has to be told so.
    KeepAlive,
    /// It ends with this response.
    Close,
}

/// Writes a final response head.
pub fn write_response(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    content: Content,
    persistence: Persistence,
    date: &[u8],
) {
    write_status_line(out, head);
    match persistence {
        Persistence::Usual => {}
        Persistence::KeepAlive => out.extend_from_slice(b"connection: keep-alive\r\n"),
        Persistence::Close => out.extend_from_slice(b"connection: close\r\n"),
    }
    // RFC 9110 §6.6.1: whoever forwards a response without a date adds the time of its arrival.
    if !head.fields.has(Known::Date) {
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(date);
        out.extend_from_slice(b"\r\n");
    }
    write_fields(out, &head.fields, content);
}

/// Writes an interim response (1xx).
pub fn write_interim(out: &mut Vec<u8>, head: &ResponseHead) {
    write_status_line(out, head);
    write_fields(out, &head.fields, Content::Unsaid);
}

fn write_status_line(out: &mut Vec<u8>, head: &ResponseHead) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_decimal(out, u64::from(head.status));
    out.push(b' ');
    let reason = head.fields.bytes(head.reason);
    if reason.is_empty() {
        out.extend_from_slice(reason_of(head.status).as_bytes());
    } else {
        out.extend_from_slice(reason);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_fields(out: &mut Vec<u8>, fields: &Fields, content: Content) {
    let buffer = fields.buffer();
    let mut run: Option<(usize, usize)> = None;
    for (name, value, known) in fields.spans() {
        if known == Some(Known::ContentLength) && content != Content::Unsaid {
            continue;
        }
        let (start, end) = (name.start as usize, (value.start + value.len) as usize);
        run = match run {
            Some((first, last)) if is_next_line(buffer, last, start) && is_one_line(name, value) => {
                Some((first, end))
            }
            _ => {
                flush(out, buffer, run);
                if is_one_line(name, value) {
                    Some((start, end))
                } else {
                    out.extend_from_slice(fields.bytes(name));
                    out.extend_from_slice(b": ");
                    out.extend_from_slice(fields.bytes(value));
                    out.extend_from_slice(b"\r\n");
                    None
                }
            }
        };
    }
    flush(out, buffer, run);
    match content {
        Content::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            write_decimal(out, length);
            out.extend_from_slice(b"\r\n\r\n");
        }
        Content::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n"),
        Content::Close | Content::Unsaid => out.extend_from_slice(b"\r\n"),
    }
}

/// Whether name and value stand as `name: value` in the buffer.
fn is_one_line(name: Span, value: Span) -> bool {
    name.start + name.len + 2 == value.start
}

/// Whether exactly a CRLF lies between `last` and `start`.
fn is_next_line(buffer: &[u8], last: usize, start: usize) -> bool {
    start == last + 2 && buffer.get(last..start) == Some(b"\r\n")
}

fn flush(out: &mut Vec<u8>, buffer: &[u8], run: Option<(usize, usize)>) {
    if let Some(lines) = run.and_then(|(first, last)| buffer.get(first..last)) {
        out.extend_from_slice(lines);
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes a number in decimal digits.
pub(crate) fn write_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + (number % 10) as u8;
        number /= 10;
        at -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// The reason phrase of a status (RFC 9110 §15); clients ignore it.
fn reason_of(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{HeadLimits, parse_interim_or_final, parse_request};
    use crate::svc::Scheme;

    const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 4096, fields_max: 32, target_bytes_max: 1024 };

    fn rewrite(text: &str, edit: impl Fn(&mut RequestHead), content: Content) -> String {
        let mut request = parse_request(text.as_bytes(), &LIMITS, Scheme::Http).unwrap().unwrap();
        edit(&mut request.head);
        let mut out = Vec::new();
        write_request(&mut out, &request.head, content);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn untouched_fields_are_written_as_they_came() {
        let text = "GET /a?b HTTP/1.1\r\nHost: h\r\nAccept: x\r\nX-Odd:y\r\nX-Tab:\tz  \r\nX-Last: 1\r\n\r\n";
        let expected =
            "GET /a?b HTTP/1.1\r\nhost: h\r\nAccept: x\r\nX-Odd: y\r\nX-Tab:\tz\r\nX-Last: 1\r\n\r\n";
        assert_eq!(rewrite(text, |_| {}, Content::Length(0)), expected);
    }

    #[test]
    fn edits_and_framing_are_written() {
        let text = "POST / HTTP/1.1\r\nHost: h\r\nA: 1\r\nContent-Length: 3\r\nB: 2\r\nC: 3\r\n\r\nabc";
        let written = rewrite(
            text,
            |head| {
                head.fields.remove_named(b"b");
                head.fields.push(b"d", b"4");
                head.set_authority(b"other");
                head.set_path(b"/new");
            },
            Content::Chunked,
        );
        assert_eq!(
            written,
            "POST /new HTTP/1.1\r\nhost: other\r\nA: 1\r\nC: 3\r\nd: 4\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        assert!(rewrite(text, |_| {}, Content::Length(3)).ends_with("content-length: 3\r\n\r\n"));
        assert!(rewrite(text, |_| {}, Content::Length(0)).ends_with("content-length: 0\r\n\r\n"));
    }

    #[test]
    fn a_response_has_a_date_and_a_reason() {
        let text = "HTTP/1.1 404 Gone Fishing\r\nX: 1\r\nContent-Length: 9\r\n\r\n";
        let response = parse_interim_or_final(text.as_bytes(), &LIMITS, Method::Get).unwrap().unwrap();
        let mut out = Vec::new();
        write_response(&mut out, &response.head, Content::Unsaid, Persistence::Close, b"now");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 404 Gone Fishing\r\nconnection: close\r\ndate: now\r\nX: 1\r\nContent-Length: 9\r\n\r\n"
        );
        let mut out = Vec::new();
        write_response(&mut out, &ResponseHead::new(503), Content::Length(0), Persistence::Usual, b"now");
        assert_eq!(out, b"HTTP/1.1 503 Service Unavailable\r\ndate: now\r\ncontent-length: 0\r\n\r\n");
    }

    #[test]
    fn decimals() {
        for number in [0, 7, 10, 1234, u64::MAX] {
            let mut out = Vec::new();
            write_decimal(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }
}
