//! Which bytes are a host and a port (RFC 3986 §3.2.2, §3.2.3; RFC 9110 §4.2.1).

use std::net::Ipv6Addr;

/// DNS ends at 253 bytes (RFC 1035 §2.3.4 without the root's dot); nothing longer is a host that could be reached.
const HOST_BYTES_MAX: usize = 255;

/// How many bytes of `authority` are its host and port: all of them, or all but the colon of an empty port.
///
/// # Errors
/// What is wrong: it is empty, has user information, is a list, or has bytes that no host has.
pub(super) fn check(authority: &[u8]) -> Result<usize, &'static str> {
    let host_bytes = if authority.first() == Some(&b'[') { ipv6(authority)? } else { name(authority)? };
    if host_bytes == 0 {
        return Err("the host is empty");
    }
    if host_bytes > HOST_BYTES_MAX {
        return Err("the host is longer than 255 bytes");
    }
    match authority.get(host_bytes..).unwrap_or_default() {
        [] => Ok(authority.len()),
        [b':'] => Ok(host_bytes),
        [b':', port @ ..] if is_port(port) => Ok(authority.len()),
        [b':', ..] => Err("the port is not a number from 0 to 65535"),
        _ => Err("there is something between the host and its port"),
    }
}

/// The length of `[` IPv6 address `]` at the start. Zones (RFC 6874) mean nothing to another machine.
fn ipv6(authority: &[u8]) -> Result<usize, &'static str> {
    let end = memchr::memchr(b']', authority).ok_or("the bracket of an IPv6 address is not closed")?;
    let inner = authority.get(1..end).unwrap_or_default();
    let is_address = std::str::from_utf8(inner).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
    if is_address { Ok(end + 1) } else { Err("what is in brackets is not an IPv6 address") }
}

/// The length of a name or an IPv4 address at the start: up to the colon or the end.
fn name(authority: &[u8]) -> Result<usize, &'static str> {
    let mut at = 0;
    loop {
        while authority.get(at).is_some_and(|byte| CLASS[usize::from(*byte)] == NAME) {
            at += 1;
        }
        let Some(byte) = authority.get(at) else { return Ok(at) };
        match CLASS[usize::from(*byte)] {
            COLON => return Ok(at),
            PERCENT => {
                let decoded = authority.get(at + 1..at + 3).and_then(super::path::from_hex);
                if !decoded.is_some_and(|byte| byte > b' ' && byte != 0x7f) {
                    return Err("the host has a broken escape");
                }
                at += 3;
            }
            _ => return Err(complaint(*byte)),
        }
    }
}

fn complaint(byte: u8) -> &'static str {
    match byte {
        b'@' => "the authority has user information",
        b',' => "the host is a list",
        b'/' | b'\\' | b'?' | b'#' => "the host has a path",
        _ => "the host has a character that no host has",
    }
}

/// `*DIGIT` in RFC 3986; here up to five of them, at most 65535.
fn is_port(digits: &[u8]) -> bool {
    let value = digits.iter().try_fold(0u32, |sum, byte| {
        byte.is_ascii_digit().then(|| sum.saturating_mul(10).saturating_add(u32::from(byte - b'0')))
    });
    digits.len() <= 5 && value.is_some_and(|port| port <= 65_535)
}

const OTHER: u8 = 0;
const NAME: u8 = 1;
const COLON: u8 = 2;
const PERCENT: u8 = 3;

/// `reg-name` without the comma: a list of hosts is refused, though the grammar would take it for a name.
const CLASS: [u8; 256] = {
    let mut table = [OTHER; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => NAME,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => NAME,
            b':' => COLON,
            b'%' => PERCENT,
            _ => OTHER,
        };
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        for good in [
            "a",
            "shop.example",
            "SHOP.example.",
            "my_app",
            "127.0.0.1",
            "a:0",
            "a:80",
            "a:65535",
            "[::1]",
            "[::1]:80",
            "[::ffff:1.2.3.4]",
            "a%41",
            "a~b!c",
            "256.1.1.1",
            "a:00080",
        ] {
            assert_eq!(check(good.as_bytes()), Ok(good.len()), "{good}");
        }
        assert_eq!(check(b"a:"), Ok(1));
        assert_eq!(check(b"[::1]:"), Ok(5));
    }

    #[test]
    fn what_is_no_host_and_port() {
        let long = "a".repeat(256);
        for bad in [
            "",
            ":",
            ":80",
            "a b",
            " a",
            "a ",
            "a\tb",
            "a,b",
            "u@a",
            "u:p@a",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "http://a",
            "a:x",
            "a:65536",
            "a:000080",
            "a:+80",
            "a:-1",
            "a:8 0",
            "a:80:80",
            "::1",
            "[::1",
            "::1]",
            "[a]",
            "[]",
            "[::1]x",
            "[::1]80",
            "[fe80::1%25eth0]",
            "caf\u{e9}",
            "\"a\"",
            "<a>",
            "a%",
            "a%4",
            "a%zz",
            "a%00",
            "a%20",
            "a%7F",
            "a\0",
            &long,
        ] {
            assert!(check(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_passes_has_no_second_reading(text in "[a-z0-9.:@,/%\\[\\] -]{0,20}") {
            if let Ok(bytes) = check(text.as_bytes()) {
                let kept = &text[..bytes];
                proptest::prop_assert_eq!(check(kept.as_bytes()), Ok(bytes));
                proptest::prop_assert!(!kept.contains(['@', ',', '/', ' ']));
            }
        }
    }
}
