//! Request heads.

use super::head::{BadFraming, framing, has_bare_lf, span_of};
use super::{FIELDS_MAX, Framing, HeadLimits};
use crate::error::{Error, Kind, Result};
use crate::svc::fields::{Span, tokens};
use crate::svc::{Fields, Known, Method, RequestHead, Scheme, Version};
use std::mem::MaybeUninit;

/// A parsed request head, and what its connection has to know.
#[derive(Debug)]
pub struct Request {
    /// The head; `Host`, `Transfer-Encoding` and the protocol of an upgrade are taken out of its fields.
    pub head: RequestHead,
    /// How many bytes of the input it took.
    pub head_bytes: usize,
    /// How its content ends.
    pub framing: Framing,
    /// Whether the client wants to use the connection again.
    pub is_keep_alive: bool,
    /// Whether the client waits for `100 Continue`.
    pub expects_continue: bool,
}

/// Parses the request head at the start of `bytes`; `None` while it is incomplete.
///
/// # Errors
/// Every error is one after which the connection cannot be used: the end of the message is not known.
pub fn parse_request(bytes: &[u8], limits: &HeadLimits, scheme: Scheme) -> Result<Option<Request>> {
    if let Some(newer) = as_http_11(bytes) {
        return parse_plain(&newer, limits, scheme);
    }
    parse_plain(bytes, limits, scheme)
}

fn parse_plain(bytes: &[u8], limits: &HeadLimits, scheme: Scheme) -> Result<Option<Request>> {
    let mut slots = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; 128];
    if limits.fields_max <= slots.len() {
        return parse_into(bytes, limits, scheme, slots.get_mut(..limits.fields_max).unwrap_or_default());
    }
    let mut slots = vec![MaybeUninit::<httparse::Header<'_>>::uninit(); limits.fields_max.min(FIELDS_MAX)];
    parse_into(bytes, limits, scheme, &mut slots)
}

/// RFC 9110 §6.2: a higher minor version is a message of the highest that is spoken here. `httparse` knows only 1.0 and
/// 1.1, so the digit is changed in a copy; nobody sends this but to find out.
fn as_http_11(bytes: &[u8]) -> Option<Vec<u8>> {
    let end = memchr::memchr(b'\n', bytes)?.checked_sub(1)?;
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] = bytes.get(end.checked_sub(8)?..end)? else {
        return None;
    };
    let mut copy = bytes.to_vec();
    *copy.get_mut(end - 1)? = b'1';
    Some(copy)
}

fn parse_into<'b>(
    bytes: &'b [u8],
    limits: &HeadLimits,
    scheme: Scheme,
    slots: &mut [MaybeUninit<httparse::Header<'b>>],
) -> Result<Option<Request>> {
    let mut raw = httparse::Request::new(&mut []);
    let status = httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut raw, bytes, slots);
    let head_bytes = match status {
        Ok(httparse::Status::Complete(len)) if len <= limits.head_bytes_max => len,
        Ok(httparse::Status::Partial) if bytes.len() < limits.head_bytes_max => return Ok(None),
        Ok(_) => return Err(too_large(bytes, limits)),
        Err(error) => return Err(refuse(error, bytes, limits)),
    };
    let head = bytes.get(..head_bytes).unwrap_or(bytes);
    if has_bare_lf(head) {
        return Err(Error::new(Kind::MalformedRequest, "a line of the head ends in a bare LF"));
    }
    let (Some(method), Some(target), Some(version)) = (raw.method, raw.path, raw.version) else {
        return Ok(None);
    };
    if target.len() > limits.target_bytes_max {
        return Err(target_too_long(target.len(), limits));
    }
    let mut fields = Fields::with_bytes(head);
    for field in raw.headers.iter() {
        fields.index(span_of(head, field.name.as_bytes()), span_of(head, field.value));
    }
    let version = if version == 0 { Version::Http10 } else { Version::Http11 };
    let method = Method::from_known(method.as_bytes())
        .unwrap_or_else(|| Method::Other(span_of(head, method.as_bytes())));
    let target = span_of(head, target.as_bytes());
    finish(fields, method, target, version, scheme, head_bytes).map(Some)
}

fn finish(
    mut fields: Fields,
    method: Method,
    target: Span,
    version: Version,
    scheme: Scheme,
    head_bytes: usize,
) -> Result<Request> {
    let is_http_10 = version == Version::Http10;
    let framing = framing(&mut fields, is_http_10).map_err(|bad| match bad {
        BadFraming::Ambiguous(why) => Error::new(Kind::MalformedRequest, why),
        BadFraming::Coding => Error::new(Kind::NotImplemented, "a transfer coding before `chunked`"),
    })?;
    let mut head = RequestHead {
        method,
        version,
        scheme,
        authority: Span::default(),
        path: target,
        query: None,
        upgrade: None,
        fields,
    };
    take_host(&mut head)?;
    split_target(&mut head, target)?;
    let options = connection_options(&head.fields);
    if options.is_upgrade && !is_http_10 {
        take_upgrade(&mut head);
    }
    Ok(Request {
        framing: framing.unwrap_or(Framing::None),
        is_keep_alive: options.is_keep_alive(is_http_10),
        expects_continue: !is_http_10
            && head
                .fields
                .get(Known::Expect)
                .is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue")),
        head,
        head_bytes,
    })
}

/// Moves Host from the fields to the authority. RFC 9112 §3.2: exactly one in HTTP/1.1.
fn take_host(head: &mut RequestHead) -> Result<()> {
    if head.fields.is_repeated(Known::Host) {
        return Err(Error::new(Kind::MalformedRequest, "Host is there more than once"));
    }
    match head.fields.span_of(Known::Host) {
        Some(value) => {
            head.authority = value;
            head.fields.remove(Known::Host);
            Ok(())
        }
        None if head.version == Version::Http10 => Ok(()),
        None => Err(Error::new(Kind::MalformedRequest, "Host is missing")),
    }
}

/// Splits the target by its form (RFC 9112 §3.2) into authority, path and query.
fn split_target(head: &mut RequestHead, target: Span) -> Result<()> {
    let text = head.fields.bytes(target);
    match text.first() {
        Some(b'/') => set_path_and_query(head, target),
        Some(b'*') if text.len() == 1 && head.method == Method::Options => head.path = target,
        _ if head.method == Method::Connect => {
            return Err(Error::new(Kind::MethodRefused, "CONNECT is not carried by a sidecar"));
        }
        _ => return absolute_form(head, target),
    }
    if head.method == Method::Connect {
        return Err(Error::new(Kind::MethodRefused, "CONNECT is not carried by a sidecar"));
    }
    Ok(())
}

/// `http://host:port/path?query`: its authority wins over Host (RFC 9112 §3.2.2).
fn absolute_form(head: &mut RequestHead, target: Span) -> Result<()> {
    let text = head.fields.bytes(target);
    let rest = text.iter().position(|byte| *byte == b':').and_then(|colon| {
        let (scheme, rest) = text.split_at_checked(colon)?;
        let is_http = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
        (is_http && rest.starts_with(b"://")).then_some(colon + 3)
    });
    let Some(start) = rest else {
        return Err(Error::new(Kind::MalformedRequest, "the target is neither a path nor an http URI"));
    };
    let after = text.get(start..).unwrap_or_default();
    let len = after.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(after.len());
    if len == 0 {
        return Err(Error::new(Kind::MalformedRequest, "the target's authority is empty"));
    }
    let base = target.start as usize;
    let rest = Span::new(base + start + len, after.len() - len);
    let has_slash = after.get(len) == Some(&b'/');
    head.authority = Span::new(base + start, len);
    if has_slash {
        set_path_and_query(head, rest);
    } else {
        // An empty path: `/`, but `*` for OPTIONS without a query (RFC 9112 §3.2.4).
        let query = (rest.len > 0).then(|| Span::new(rest.start as usize + 1, rest.len as usize - 1));
        let is_asterisk = head.method == Method::Options && query.is_none();
        head.set_path(if is_asterisk { b"*" } else { b"/" });
        head.query = query;
    }
    Ok(())
}

fn set_path_and_query(head: &mut RequestHead, target: Span) {
    let start = target.start as usize;
    match memchr::memchr(b'?', head.fields.bytes(target)) {
        Some(at) => {
            head.path = Span::new(start, at);
            head.query = Some(Span::new(start + at + 1, target.len as usize - at - 1));
        }
        None => head.path = target,
    }
}

/// Moves the upgrade's protocol from the fields to the head, when there is exactly one.
fn take_upgrade(head: &mut RequestHead) {
    if head.fields.is_repeated(Known::Upgrade) {
        return;
    }
    head.upgrade = head.fields.span_of(Known::Upgrade);
}

/// What the `Connection` field says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionOptions {
    pub(super) is_close: bool,
    pub(super) is_keep: bool,
    pub(super) is_upgrade: bool,
}

impl ConnectionOptions {
    pub(super) fn is_keep_alive(self, is_http_10: bool) -> bool {
        !self.is_close && (!is_http_10 || self.is_keep)
    }
}

pub(super) fn connection_options(fields: &Fields) -> ConnectionOptions {
    let mut options = ConnectionOptions::default();
    if !fields.has(Known::Connection) {
        return options;
    }
    if !fields.is_repeated(Known::Connection) {
        // As nearly all that say it say it.
        match fields.get(Known::Connection) {
            Some(b"keep-alive") => return ConnectionOptions { is_keep: true, ..options },
            Some(b"close") => return ConnectionOptions { is_close: true, ..options },
            _ => {}
        }
    }
    for option in fields.all(Known::Connection).flat_map(tokens) {
        options.is_close |= option.eq_ignore_ascii_case(b"close");
        options.is_keep |= option.eq_ignore_ascii_case(b"keep-alive");
        options.is_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
    }
    options
}

fn refuse(error: httparse::Error, bytes: &[u8], limits: &HeadLimits) -> Error {
    use httparse::Error as E;
    match error {
        E::TooManyHeaders => {
            Error::new(Kind::RequestHeadTooLarge, format!("more than {} fields", limits.fields_max))
        }
        E::Version if is_other_version(bytes) => {
            Error::new(Kind::VersionNotSupported, "only HTTP/1.0 and HTTP/1.1 are spoken in this form")
        }
        E::HeaderName => Error::new(Kind::MalformedRequest, "a field name is not a token"),
        E::HeaderValue => Error::new(Kind::MalformedRequest, "a field value has a control character"),
        E::NewLine => Error::new(Kind::MalformedRequest, "a line end is not CRLF"),
        E::Token => {
            Error::new(Kind::MalformedRequest, "the method or the target has a character that is not allowed")
        }
        E::Version => Error::new(Kind::MalformedRequest, "the request line does not end in an HTTP version"),
        E::Status => Error::new(Kind::MalformedRequest, "the start line is malformed"),
    }
}

/// Whether the request line is right but for a version that is not ours: `GET / HTTP/3.7`.
fn is_other_version(bytes: &[u8]) -> bool {
    let line =
        bytes.split(|byte| *byte == b'\r').find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _] => false,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] => {
            major.is_ascii_digit() && minor.is_ascii_digit()
        }
        _ => false,
    }
}

fn too_large(bytes: &[u8], limits: &HeadLimits) -> Error {
    let line = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    if line > limits.target_bytes_max {
        return target_too_long(line, limits);
    }
    Error::new(Kind::RequestHeadTooLarge, format!("more than {} bytes", limits.head_bytes_max))
}

fn target_too_long(len: usize, limits: &HeadLimits) -> Error {
    Error::new(Kind::TargetTooLong, format!("{len} bytes, more than {}", limits.target_bytes_max))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 1024, fields_max: 8, target_bytes_max: 64 };

    fn parse(text: &str) -> Result<Option<Request>> {
        parse_request(text.as_bytes(), &LIMITS, Scheme::Http)
    }

    fn refused(text: &str) -> Kind {
        parse(text).expect_err(text).kind()
    }

    #[test]
    fn the_forms_of_a_target() {
        for (line, authority, path, query) in [
            ("GET /a?b HTTP/1.1", "h", "/a", Some("b")),
            ("GET / HTTP/1.1", "h", "/", None),
            ("GET /? HTTP/1.1", "h", "/", Some("")),
            ("OPTIONS * HTTP/1.1", "h", "*", None),
            ("GET http://other:80/x?y HTTP/1.1", "other:80", "/x", Some("y")),
            ("GET HTTP://other HTTP/1.1", "other", "/", None),
            ("GET http://other?q HTTP/1.1", "other", "/", Some("q")),
            ("OPTIONS http://other HTTP/1.1", "other", "*", None),
        ] {
            let request = parse(&format!("{line}\r\nHost: h\r\n\r\n")).unwrap().unwrap();
            assert_eq!(request.head.authority(), authority.as_bytes(), "{line}");
            assert_eq!(request.head.path(), path.as_bytes(), "{line}");
            assert_eq!(request.head.query(), query.map(str::as_bytes), "{line}");
            assert!(!request.head.fields.has(Known::Host));
        }
    }

    #[test]
    fn a_head_is_incomplete_until_its_empty_line() {
        let text = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        for end in 0..text.len() {
            assert!(parse(&text[..end]).unwrap().is_none(), "{end}");
        }
        assert_eq!(parse(text).unwrap().unwrap().head_bytes, text.len());
    }

    #[test]
    fn what_is_refused_and_how() {
        for (text, kind) in [
            ("GET / HTTP/1.1\r\n\r\n", Kind::MalformedRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Kind::MalformedRequest),
            ("GET / HTTP/1.1\nHost: a\n\n", Kind::MalformedRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\n\r\n", Kind::MalformedRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", Kind::MalformedRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\n X: 1\r\n\r\n", Kind::MalformedRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", Kind::MalformedRequest),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Kind::VersionNotSupported),
            ("GET /\r\nHost: a\r\n\r\n", Kind::MalformedRequest),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Kind::MalformedRequest),
            ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Kind::MalformedRequest),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", Kind::MethodRefused),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Kind::NotImplemented),
        ] {
            assert_eq!(refused(text), kind, "{text:?}");
        }
        assert_eq!(
            refused(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(64))),
            Kind::TargetTooLong
        );
        assert_eq!(refused(&format!("GET /{}", "a".repeat(1100))), Kind::TargetTooLong);
        let many: String = (0..9).map(|n| format!("x{n}: 1\r\n")).collect();
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\n{many}\r\n")), Kind::RequestHeadTooLarge);
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(1024));
        assert_eq!(refused(&long), Kind::RequestHeadTooLarge);
    }

    #[test]
    fn a_higher_minor_version_is_taken_for_1_1() {
        let request = parse("GET / HTTP/1.7\r\nHost: h\r\n\r\n").unwrap().unwrap();
        assert_eq!((request.head.version, request.head.path()), (Version::Http11, &b"/"[..]));
        assert_eq!(refused("GET /  HTTP/1.1\r\nHost: h\r\n\r\n"), Kind::MalformedRequest);
    }

    #[test]
    fn keep_alive_and_expect_and_upgrade() {
        let request = parse("GET / HTTP/1.0\r\n\r\n").unwrap().unwrap();
        assert!(!request.is_keep_alive);
        let request = parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").unwrap().unwrap();
        assert!(request.is_keep_alive);
        let request = parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n\r\n").unwrap().unwrap();
        assert!(!request.is_keep_alive);
        let request = parse(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nExpect: 100-Continue\r\n\r\n",
        )
        .unwrap()
        .unwrap();
        assert_eq!(request.head.upgrade(), Some(&b"websocket"[..]));
        assert!(request.expects_continue && request.is_keep_alive);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes: Vec<u8>) {
            let _ = parse_request(&bytes, &LIMITS, Scheme::Http);
        }

        #[test]
        fn mutations_of_a_request_are_parsed_or_refused(at in 0usize..90, byte: u8) {
            let mut bytes =
                b"POST http://h:1/a/b?c=d HTTP/1.1\r\nHost: h:1\r\nContent-Length: 3\r\nConnection: close, x\r\n\r\nabc".to_vec();
            if let Some(slot) = bytes.get_mut(at) { *slot = byte; }
            if let Ok(Some(request)) = parse_request(&bytes, &LIMITS, Scheme::Http) {
                proptest::prop_assert!(request.head_bytes <= bytes.len());
            }
        }
    }
}
