//! What a bucket is for: parts of a key, and where in a request their values are.

use crate::context::RequestType;
use crate::svc::{Known, RequestHead};
use std::fmt;
use std::net::IpAddr;

/// A part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Which customer.
    AccountId,
    /// Who.
    UserId,
    /// What they bought.
    License,
    /// STANDARD or TRACE.
    RequestType,
    /// The client's address, without its port.
    SourceAddress,
    /// The method.
    Method,
    /// The path as it is matched, without its query and before a route rewrites it.
    Path,
    /// The first field of this name.
    Header {
        /// Its name, in lower case.
        name: Box<[u8]>,
        /// The same, where it is one of the known ones.
        known: Option<Known>,
    },
}

/// A request, as rate limits see it. What is absent is empty.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Method, path and fields.
    pub head: &'a RequestHead,
    /// Which customer.
    pub account_id: &'a [u8],
    /// Who.
    pub user_id: &'a [u8],
    /// What they bought.
    pub license: &'a [u8],
    /// Real work or a tracer bullet.
    pub request_type: RequestType,
    /// The client's address: [`Octets::bytes`].
    pub address: &'a [u8],
}

impl Part {
    /// The value of this part in `request`.
    #[inline]
    pub fn of<'a>(&'a self, request: &Caller<'a>) -> &'a [u8] {
        match self {
            Part::AccountId => request.account_id,
            Part::UserId => request.user_id,
            Part::License => request.license,
            Part::RequestType => request.request_type.as_str().as_bytes(),
            Part::SourceAddress => request.address,
            Part::Method => request.head.method_bytes(),
            Part::Path => request.head.path(),
            // The authority is no field of the head.
            Part::Header { known: Some(Known::Host), .. } => request.head.authority(),
            Part::Header { known: Some(known), .. } => request.head.fields.get(*known).unwrap_or_default(),
            Part::Header { name, known: None } => request.head.fields.named(name).next().unwrap_or_default(),
        }
    }

    /// The bytes that [`Part::of`] gives for what a user writes as `text`; `None` when no request can have it.
    pub fn value(&self, text: &str) -> Option<Box<[u8]>> {
        match self {
            Part::SourceAddress => Some(Octets::from(text.parse::<IpAddr>().ok()?).bytes().into()),
            Part::RequestType => {
                RequestType::parse(text.as_bytes()).map(|found| found.as_str().as_bytes().into())
            }
            _ => Some(text.as_bytes().into()),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::AccountId => f.write_str("account_id"),
            Part::UserId => f.write_str("user_id"),
            Part::License => f.write_str("license"),
            Part::RequestType => f.write_str("request_type"),
            Part::SourceAddress => f.write_str("source_address"),
            Part::Method => f.write_str("method"),
            Part::Path => f.write_str("path"),
            Part::Header { name, .. } => write!(f, "header.{}", String::from_utf8_lossy(name)),
        }
    }
}

/// The octets of an address. An IPv4 address that is mapped into IPv6 is the IPv4 address: both are one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Octets {
    bytes: [u8; 16],
    len: usize,
}

impl Octets {
    /// Four or sixteen of them.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl From<IpAddr> for Octets {
    fn from(address: IpAddr) -> Octets {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                let mut bytes = [0; 16];
                bytes[..4].copy_from_slice(&[a, b, c, d]);
                Octets { bytes, len: 4 }
            }
            IpAddr::V6(address) => Octets { bytes: address.octets(), len: 16 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svc::Method;

    #[test]
    fn each_part_finds_its_value() {
        let mut head = RequestHead::new();
        head.method = Method::Post;
        head.set_path(b"/a/b");
        head.set_query(Some(b"c=d"));
        head.set_authority(b"shop.example:80");
        head.fields.push(b"X-Tenant", b"t1");
        head.fields.push(b"x-tenant", b"t2");
        head.fields.push(b"User-Agent", b"curl");
        let address = Octets::from("::ffff:10.0.0.7".parse::<IpAddr>().unwrap());
        let caller = Caller {
            head: &head,
            account_id: b"a1",
            user_id: b"u1",
            license: b"gold",
            request_type: RequestType::Trace,
            address: address.bytes(),
        };
        let header = |name: &str| Part::Header {
            name: name.as_bytes().into(),
            known: Known::classify(name.as_bytes()),
        };
        for (part, name, value) in [
            (Part::AccountId, "account_id", &b"a1"[..]),
            (Part::UserId, "user_id", b"u1"),
            (Part::License, "license", b"gold"),
            (Part::RequestType, "request_type", b"TRACE"),
            (Part::SourceAddress, "source_address", &[10, 0, 0, 7]),
            (Part::Method, "method", b"POST"),
            (Part::Path, "path", b"/a/b"),
            (header("x-tenant"), "header.x-tenant", b"t1"),
            (header("user-agent"), "header.user-agent", b"curl"),
            (header("host"), "header.host", b"shop.example:80"),
            (header("x-none"), "header.x-none", b""),
            (header("accept"), "header.accept", b""),
        ] {
            assert_eq!((part.to_string().as_str(), part.of(&caller)), (name, value));
        }
    }

    #[test]
    fn overrides_are_compared_with_what_requests_have() {
        assert_eq!(Part::SourceAddress.value("10.0.0.7").as_deref(), Some(&[10, 0, 0, 7][..]));
        assert_eq!(Part::SourceAddress.value("::ffff:10.0.0.7").as_deref(), Some(&[10, 0, 0, 7][..]));
        assert_eq!(Part::SourceAddress.value("::1").map(|bytes| bytes.len()), Some(16));
        assert_eq!(Part::SourceAddress.value("10.0.0.0/8"), None);
        assert_eq!(Part::RequestType.value("trace").as_deref(), Some(&b"TRACE"[..]));
        assert_eq!(Part::RequestType.value("other"), None);
        assert_eq!(Part::License.value("gold").as_deref(), Some(&b"gold"[..]));
    }
}
