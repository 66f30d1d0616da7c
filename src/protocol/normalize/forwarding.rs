//! Who forwarded a request: `Via` (RFC 9110 §7.6.3), and towards the app `X-Forwarded-For` and `X-Forwarded-Proto`.
//!
//! `Via` is written in both directions of travel through a sidecar. The others tell the app about the client, so they
//! are written inbound only. What a peer outside the mesh says of those before it is a claim, and goes.

use crate::exchange::{Connection, Direction};
use crate::svc::{Fields, Known, RequestHead, Scheme, Version};
use std::net::IpAddr;

/// An IPv6 address in its longest form.
const IP_BYTES_MAX: usize = 45;

/// Adds this hop.
pub(super) fn append(head: &mut RequestHead, connection: &Connection) {
    let via: &[u8] = match head.version {
        Version::Http10 => b"1.0 sidelight",
        Version::Http11 => b"1.1 sidelight",
        Version::Http2 => b"2 sidelight",
    };
    head.fields.append(Known::Via, via);
    if connection.direction == Direction::Inbound {
        if !connection.is_trusted {
            remove_claims(&mut head.fields);
        }
        append_client(&mut head.fields, connection);
    }
}

/// Removes what an untrusted peer says of those before it: every `x-forwarded-*`, `forwarded`, and `x-real-ip`.
fn remove_claims(fields: &mut Fields) {
    let is_claim = |name: &[u8]| {
        name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"x-forwarded-"))
            || name.eq_ignore_ascii_case(b"x-real-ip")
    };
    fields.remove_where(is_claim);
    fields.remove(Known::Forwarded);
}

fn append_client(fields: &mut Fields, connection: &Connection) {
    let mut ip = Text::new();
    ip.write(connection.peer.ip());
    if fields.has(Known::XForwardedFor) {
        // One field: many apps read the first only.
        let mut list = Vec::new();
        for value in fields.all(Known::XForwardedFor).filter(|value| !value.is_empty()) {
            list.extend_from_slice(value);
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(ip.as_bytes());
        fields.set(Known::XForwardedFor, &list);
    } else {
        fields.append(Known::XForwardedFor, ip.as_bytes());
    }
    if !fields.has(Known::XForwardedProto) {
        let scheme = if connection.is_tls { Scheme::Https } else { Scheme::Http };
        fields.append(Known::XForwardedProto, scheme.as_str().as_bytes());
    }
}

/// An IP address as text, on the stack.
struct Text {
    bytes: [u8; IP_BYTES_MAX],
    len: usize,
}

impl Text {
    fn new() -> Text {
        Text { bytes: [0; IP_BYTES_MAX], len: 0 }
    }

    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
    }

    /// An IPv4 client of a socket that speaks both is named as what it is. IPv4 is written by hand: it is in each
    /// request, and the formatter takes ten times as long.
    fn write(&mut self, ip: IpAddr) {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                for (at, octet) in ip.octets().into_iter().enumerate() {
                    if at > 0 {
                        self.push(b'.');
                    }
                    if octet >= 100 {
                        self.push(b'0' + octet / 100);
                    }
                    if octet >= 10 {
                        self.push(b'0' + octet / 10 % 10);
                    }
                    self.push(b'0' + octet % 10);
                }
            }
            IpAddr::V6(ip) => ip.to_string().bytes().for_each(|byte| self.push(byte)),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: &str = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";

    #[test]
    fn addresses_are_written_as_the_standard_library_does() {
        for text in [
            "0.0.0.0",
            "1.20.100.255",
            "127.0.0.1",
            "99.9.199.10",
            "::1",
            "2001:db8::1",
            "::ffff:10.0.0.9",
            LONGEST,
        ] {
            let ip: IpAddr = text.parse().unwrap();
            let mut written = Text::new();
            written.write(ip);
            assert_eq!(written.as_bytes(), ip.to_canonical().to_string().as_bytes());
        }
    }
}
