//! Where a request came from and where it was meant to go.

use super::{json, keys};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The client's address. Most events in a row have the same, so the last text is kept.
pub(super) struct Client {
    ip: IpAddr,
    piece: Vec<u8>,
}

impl Client {
    pub(super) fn new() -> Client {
        Client { ip: Ipv4Addr::UNSPECIFIED.into(), piece: Vec::new() }
    }

    /// Appends address and port.
    #[inline]
    pub(super) fn write(&mut self, out: &mut Vec<u8>, peer: SocketAddr) {
        if peer.ip() != self.ip || self.piece.is_empty() {
            self.learn(peer.ip());
        }
        out.extend_from_slice(&self.piece);
        json::number(out, u64::from(peer.port()));
    }

    #[cold]
    fn learn(&mut self, ip: IpAddr) {
        self.ip = ip;
        self.piece.clear();
        self.piece.extend_from_slice(keys::CLIENT_ADDRESS);
        // Writing into memory does not fail. A mapped IPv4 address is shown as what it is.
        let _ = write!(self.piece, "{}\"", ip.to_canonical());
        self.piece.extend_from_slice(keys::CLIENT_PORT);
    }
}

/// Host and port of an authority. What is not a port is part of the host.
pub(super) fn host_and_port(authority: &[u8]) -> (&[u8], Option<u16>) {
    let Some(colon) = authority.iter().rposition(|byte| *byte == b':') else { return (authority, None) };
    let (host, port) = (authority.get(..colon), authority.get(colon + 1..).and_then(port_number));
    match (host, port) {
        (Some([b'[', host @ .., b']']), Some(port)) => (host, Some(port)),
        (Some(host), Some(port)) if host.iter().all(|byte| *byte != b':') => (host, Some(port)),
        _ => match authority {
            [b'[', host @ .., b']'] => (host, None),
            _ => (authority, None),
        },
    }
}

fn port_number(digits: &[u8]) -> Option<u16> {
    if !(1..=5).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0_u32, |number, digit| number * 10 + u32::from(digit - b'0'));
    u16::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_split_only_where_there_is_a_port() {
        for (given, host, port) in [
            ("shop.example", "shop.example", None),
            ("shop.example:80", "shop.example", Some(80)),
            ("[::1]:80", "::1", Some(80)),
            ("[::1]", "::1", None),
            ("::1", "::1", None),
            ("a:b", "a:b", None),
            ("a:+1", "a:+1", None),
            ("a:", "a:", None),
            ("a:99999", "a:99999", None),
            (":", ":", None),
            ("", "", None),
        ] {
            assert_eq!(host_and_port(given.as_bytes()), (host.as_bytes(), port), "{given}");
        }
    }

    #[test]
    fn the_kept_address_is_never_another_clients() {
        let mut client = Client::new();
        for (peer, want) in [
            ("0.0.0.0:1", "0.0.0.0"),
            ("127.0.0.1:65535", "127.0.0.1"),
            ("127.0.0.1:2", "127.0.0.1"),
            ("[::ffff:10.0.0.1]:3", "10.0.0.1"),
            ("[2001:db8::1]:4", "2001:db8::1"),
        ] {
            let peer: SocketAddr = peer.parse().unwrap();
            let mut out = Vec::new();
            client.write(&mut out, peer);
            let want = format!(r#","client.address":"{want}","client.port":{}"#, peer.port());
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }
}
