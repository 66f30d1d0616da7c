//! A request to the admin API: its head, and whether this caller may ask at all.
//!
//! httparse reads the head. A page of another site must not reach a proxy through somebody's browser: the Host has to be
//! loopback or an IP address (a name could be made to point here: DNS rebinding), and the Origin of a change has to be
//! this server's. How it fails: the refusal names the rule.

use std::net::IpAddr;

/// How large a head may be.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How many fields it may have.
const FIELDS_MAX: usize = 64;
/// How large content may be.
pub(super) const CONTENT_BYTES_MAX: usize = 64 * 1024;

/// What was asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    /// Without the question mark, as it came; empty without one.
    pub(super) query: String,
    pub(super) host: Option<String>,
    pub(super) origin: Option<String>,
    pub(super) accept: String,
    pub(super) authorization: Option<String>,
    pub(super) content: Vec<u8>,
}

/// A refusal: status and what is said.
pub(super) type Refusal = (u16, &'static str);

/// A head that was read, and how long the content behind it is.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) request: Request,
    pub(super) head_bytes: usize,
    pub(super) content_bytes: usize,
}

/// Reads the head at the beginning of `bytes`; `None` when it is not complete.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Head>, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    let head_bytes = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err((431, "the header section is too large"));
        }
        Err(_) => return Err((400, "not an HTTP/1.1 request")),
    };
    let target = parsed.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: parsed.method.unwrap_or_default().into(),
        path: path.into(),
        query: query.into(),
        ..Request::default()
    };
    let mut content_bytes = None;
    for field in parsed.headers.iter() {
        let value = String::from_utf8_lossy(field.value).trim().to_owned();
        match field.name.to_ascii_lowercase().as_str() {
            "host" if request.host.is_some() => return Err((400, "more than one Host")),
            "host" => request.host = Some(value),
            "origin" => request.origin = Some(value),
            "accept" => {
                if !request.accept.is_empty() {
                    request.accept.push(',');
                }
                request.accept.push_str(&value);
            }
            "authorization" => request.authorization = Some(value),
            "transfer-encoding" => return Err((411, "send content with a Content-Length")),
            "content-length" => {
                if content_bytes.is_some() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err((400, "Content-Length is not one number"));
                }
                content_bytes = Some(value.parse::<usize>().unwrap_or(usize::MAX));
            }
            _ => {}
        }
    }
    if request.host.is_none() && parsed.version == Some(1) {
        return Err((400, "no Host"));
    }
    let content_bytes = content_bytes.unwrap_or(0);
    if content_bytes > CONTENT_BYTES_MAX {
        return Err((413, "the content is too large"));
    }
    Ok(Some(Head { request, head_bytes, content_bytes }))
}

impl Request {
    /// Whether the Host cannot be a name that somebody else made point here.
    pub(super) fn check_host(&self) -> Result<(), Refusal> {
        let Some(host) = &self.host else { return Ok(()) };
        let name = host_of(host);
        let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        if name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok() {
            return Ok(());
        }
        Err((403, "the Host must be localhost or an IP address"))
    }

    /// Whether the request does not come from another site's page.
    pub(super) fn check_origin(&self) -> Result<(), Refusal> {
        let Some(origin) = &self.origin else { return Ok(()) };
        match (origin.strip_prefix("http://"), &self.host) {
            (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
            _ => Err((403, "the Origin is another site")),
        }
    }

    /// The first value of a parameter of the query, as it came.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let mut parameters = self.query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        parameters.find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The token that the caller brought.
    pub(super) fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.authorization.as_deref()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }

    /// Whether the caller names one of these media types with a quality above zero.
    pub(super) fn accepts(&self, media: &[&str]) -> bool {
        self.accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let is_refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
            !is_refused && media.iter().any(|media| name.eq_ignore_ascii_case(media))
        })
    }
}

/// A Host without its port.
fn host_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Result<Option<Head>, Refusal> {
        parse(text.as_bytes())
    }

    #[test]
    fn a_head_is_read_when_it_is_complete() {
        assert!(request("GET / HTTP/1.1\r\nHost: lo").unwrap().is_none());
        let head = request("POST /drain?x=1 HTTP/1.1\r\nHost: [::1]:15000\r\nContent-Length: 2\r\n\r\n{}");
        let head = head.unwrap().unwrap();
        assert_eq!((head.request.method.as_str(), head.request.path.as_str()), ("POST", "/drain"));
        assert_eq!(head.content_bytes, 2);
        for (query, value) in [
            ("?x=1", None),
            ("?format=dot", Some("dot")),
            ("?a&format=dot=&format=b", Some("dot=")),
            ("?format", Some("")),
            ("", None),
        ] {
            let head = request(&format!("GET /graph{query} HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap().unwrap();
            assert_eq!(
                (head.request.path.as_str(), head.request.parameter("format")),
                ("/graph", value),
                "{query}"
            );
        }
    }

    #[test]
    fn what_cannot_be_understood_safely_is_refused() {
        let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nx: {}", "a".repeat(HEAD_BYTES_MAX));
        let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "x: 1\r\n".repeat(FIELDS_MAX + 1));
        for (text, status) in [
            ("nonsense\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
            (long.as_str(), 431),
            (many.as_str(), 431),
        ] {
            assert_eq!(request(text).unwrap_err().0, status, "{text:.60}");
        }
    }

    #[test]
    fn only_hosts_that_cannot_be_rebound_are_served() {
        let with = |host: &str| Request { host: Some(host.into()), ..Request::default() };
        for host in ["localhost", "LOCALHOST:15000", "127.0.0.1:15000", "[::1]:15000", "[::1]", "10.1.2.3"] {
            assert!(with(host).check_host().is_ok(), "{host}");
        }
        for host in
            ["evil.example", "evil.example:15000", "localhost.evil.example", "127.0.0.1.evil.example", ""]
        {
            assert!(with(host).check_host().is_err(), "{host}");
        }
    }

    #[test]
    fn only_pages_of_this_server_may_change_something() {
        let from = |origin: &str| Request {
            host: Some("127.0.0.1:15000".into()),
            origin: Some(origin.into()),
            ..Request::default()
        };
        assert!(from("http://127.0.0.1:15000").check_origin().is_ok());
        for origin in ["null", "http://127.0.0.1:8080", "http://evil.example", "https://127.0.0.1:15000", ""]
        {
            assert!(from(origin).check_origin().is_err(), "{origin}");
        }
    }
}
