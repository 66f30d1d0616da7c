//! Request and response heads.

use super::fields::{Fields, Span};
use std::net::SocketAddr;

/// An HTTP version that sidelight speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

impl Version {
    /// The value of OpenTelemetry's `network.protocol.version`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
            Version::Http2 => "2",
        }
    }
}

/// The scheme of the request's target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// A request method; those of RFC 9110 and RFC 5789 by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each variant is the method's own name
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    /// Any other token; where its text is.
    Other(Span),
}

impl Method {
    /// The method of this name, case-sensitive (RFC 9110 §9.1).
    pub fn from_known(name: &[u8]) -> Option<Method> {
        Some(match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"CONNECT" => Method::Connect,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"PATCH" => Method::Patch,
            _ => return None,
        })
    }

    /// The text of a known method.
    pub const fn known_name(self) -> Option<&'static str> {
        Some(match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Connect => "CONNECT",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
            Method::Other(_) => return None,
        })
    }

    /// Whether repeating the request does nothing more (RFC 9110 §9.2.2).
    pub const fn is_idempotent(self) -> bool {
        matches!(
            self,
            Method::Get | Method::Head | Method::Put | Method::Delete | Method::Options | Method::Trace
        )
    }
}

/// A request's head. The spans point into the buffer of `fields`; `host` is not among the fields: the authority holds
/// it, and the codecs write it.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// What to do.
    pub method: Method,
    /// The version that the client spoke.
    pub version: Version,
    /// The scheme, as the client's connection tells.
    pub scheme: Scheme,
    /// Host and port as the client wrote them; empty when an HTTP/1.0 client named none.
    pub authority: Span,
    /// The path, normalised once [`crate::protocol`]'s rules have passed; `*` for OPTIONS.
    pub path: Span,
    /// What follows `?`; `None` without one.
    pub query: Option<Span>,
    /// `:protocol` of an extended CONNECT (RFC 8441), or the `Upgrade` token of an HTTP/1.1 upgrade.
    pub upgrade: Option<Span>,
    /// Everything else.
    pub fields: Fields,
}

impl RequestHead {
    /// An empty GET, for tests and for building a head by parts.
    pub fn new() -> RequestHead {
        RequestHead {
            method: Method::Get,
            version: Version::Http11,
            scheme: Scheme::Http,
            authority: Span::default(),
            path: Span::default(),
            query: None,
            upgrade: None,
            fields: Fields::new(),
        }
    }

    /// The method's text.
    pub fn method_bytes(&self) -> &[u8] {
        match self.method {
            Method::Other(span) => self.fields.bytes(span),
            known => known.known_name().unwrap_or_default().as_bytes(),
        }
    }

    /// Host and port.
    pub fn authority(&self) -> &[u8] {
        self.fields.bytes(self.authority)
    }

    /// The host without its port (and with the brackets of an IPv6 literal).
    pub fn host(&self) -> &[u8] {
        host_of(self.authority())
    }

    /// The path.
    pub fn path(&self) -> &[u8] {
        self.fields.bytes(self.path)
    }

    /// What follows `?`.
    pub fn query(&self) -> Option<&[u8]> {
        self.query.map(|span| self.fields.bytes(span))
    }

    /// The protocol that the client wants to switch to.
    pub fn upgrade(&self) -> Option<&[u8]> {
        self.upgrade.map(|span| self.fields.bytes(span))
    }

    /// Replaces host and port.
    pub fn set_authority(&mut self, authority: &[u8]) {
        self.authority = self.fields.store(authority);
    }

    /// Replaces the path.
    pub fn set_path(&mut self, path: &[u8]) {
        self.path = self.fields.store(path);
    }

    /// Replaces the query.
    pub fn set_query(&mut self, query: Option<&[u8]>) {
        self.query = query.map(|query| self.fields.store(query));
    }
}

impl Default for RequestHead {
    fn default() -> Self {
        RequestHead::new()
    }
}

/// The host of `host[:port]`, brackets of an IPv6 literal kept.
pub fn host_of(authority: &[u8]) -> &[u8] {
    let end = match authority.first() {
        Some(b'[') => memchr::memchr(b']', authority).map_or(authority.len(), |at| at + 1),
        _ => memchr::memchr(b':', authority).unwrap_or(authority.len()),
    };
    authority.get(..end).unwrap_or(authority)
}

/// A response's head.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// The status code, 100–999 as RFC 9110 §15 lets it be carried.
    pub status: u16,
    /// The version that the upstream spoke.
    pub version: Version,
    /// The reason phrase, if there was one; HTTP/2 has none.
    pub reason: Span,
    /// The header section.
    pub fields: Fields,
}

impl ResponseHead {
    /// A head with this status and no field.
    pub fn new(status: u16) -> ResponseHead {
        ResponseHead { status, version: Version::Http11, reason: Span::default(), fields: Fields::new() }
    }

    /// Whether it says that a gateway, or what is behind it, failed: 502, 503 and 504.
    pub fn is_gateway_error(&self) -> bool {
        matches!(self.status, 502..=504)
    }

    /// Whether a response with this status has no content, whatever its fields say (RFC 9110 §6.4.1).
    pub fn is_bodiless(&self) -> bool {
        matches!(self.status, 100..=199 | 204 | 304)
    }
}

/// Where a connection comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The other end.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_authority() {
        for (authority, host) in
            [("a", "a"), ("a:80", "a"), ("[::1]", "[::1]"), ("[::1]:80", "[::1]"), ("", ""), ("[::1", "[::1")]
        {
            assert_eq!(host_of(authority.as_bytes()), host.as_bytes(), "{authority}");
        }
    }

    #[test]
    fn idempotent_methods_are_those_of_rfc_9110() {
        for (method, expected) in [
            ("GET", true),
            ("PUT", true),
            ("DELETE", true),
            ("POST", false),
            ("PATCH", false),
            ("CONNECT", false),
        ] {
            assert_eq!(Method::from_known(method.as_bytes()).unwrap().is_idempotent(), expected, "{method}");
        }
        assert_eq!(Method::from_known(b"get"), None);
    }
}
