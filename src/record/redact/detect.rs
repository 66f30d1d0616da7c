//! Secrets that are known by their shape, replaced where they stand.
//!
//! Shapes as their owners document them: RFC 7519 (JWT), RFC 7468 (PEM), RFC 6750 (bearer tokens), RFC 3986 (passwords in
//! addresses), AWS' unique identifiers of IAM, GitHub's and GitLab's token prefixes, Slack, Stripe, Google, npm, SendGrid,
//! Shopify, DigitalOcean, Vault.

use super::card;
use super::filter::{AT, CARD, CREDENTIAL, Hits, JWT};
use super::token::Tokens;
use memchr::memmem;
use std::ops::Range;

/// Beginnings of credentials, the fewest characters that follow, and which of those that are no letters or digits.
const PREFIXES: &[(&[u8], usize, &[u8])] = &[
    (b"ghp_", 20, b"_"),
    (b"gho_", 20, b"_"),
    (b"ghu_", 20, b"_"),
    (b"ghs_", 20, b"_"),
    (b"ghr_", 20, b"_"),
    (b"github_pat_", 20, b"_"),
    (b"glpat-", 16, b"_-."),
    (b"xoxb-", 10, b"-"),
    (b"xoxp-", 10, b"-"),
    (b"xoxa-", 10, b"-"),
    (b"xoxr-", 10, b"-"),
    (b"xoxs-", 10, b"-"),
    (b"xoxo-", 10, b"-"),
    (b"xoxc-", 10, b"-"),
    (b"xoxd-", 10, b"-%/+="),
    (b"xoxe-", 10, b"-"),
    (b"xoxe.", 10, b"-."),
    (b"sk_live_", 10, b"_"),
    (b"rk_live_", 10, b"_"),
    (b"sk_test_", 10, b"_"),
    (b"rk_test_", 10, b"_"),
    (b"AIza", 30, b"_-"),
    (b"npm_", 30, b""),
    (b"dop_v1_", 30, b""),
    (b"shpat_", 20, b""),
    (b"hvs.", 20, b"_-"),
    (b"SG.", 30, b"._-"),
    (b"GOCSPX-", 20, b"_-"),
    (b"ya29.", 20, b"_-."),
    (b"sk-ant-", 20, b"_-"),
    (b"sk-proj-", 20, b"_-"),
];
const LOCAL_BYTES_MAX: usize = 128;
const DOMAIN_BYTES_MAX: usize = 253;

/// Replaces what `hits` tells of. `is_binary`: fields have lengths before them, and what follows one is not a part of it.
pub(super) fn redact(bytes: &mut [u8], hits: Hits, is_binary: bool, tokens: &mut Tokens) {
    if hits & CREDENTIAL != 0 {
        credentials(bytes, is_binary, tokens);
    }
    if hits & JWT != 0 {
        jwts(bytes, is_binary, tokens);
    }
    if hits & AT != 0 {
        addresses(bytes, is_binary, tokens);
    }
    if hits & CARD != 0 {
        cards(bytes, is_binary, tokens);
    }
}

/// Length of what `is` takes at the beginning of `bytes[from..]`.
fn run(bytes: &[u8], from: usize, is: impl Fn(u8) -> bool) -> usize {
    bytes.get(from..).unwrap_or_default().iter().take_while(|byte| is(**byte)).count()
}

/// Where a value ends that has its length before it.
fn framed(bytes: &[u8], range: Range<usize>, is_binary: bool) -> Range<usize> {
    if !is_binary {
        return range;
    }
    let before = bytes.get(..range.start).unwrap_or_default();
    let len = match before {
        [.., a, b] if a & 0x80 != 0 && b & 0x80 == 0 => usize::from(a & 0x7f) | usize::from(*b) << 7,
        [.., b] => usize::from(*b),
        [] => return range,
    };
    if (6..range.len()).contains(&len) { range.start..range.start + len } else { range }
}

fn secret(bytes: &mut [u8], range: Range<usize>, tokens: &mut Tokens) {
    if let Some(value) = bytes.get_mut(range) {
        tokens.secret(value);
    }
}

fn credentials(bytes: &mut [u8], is_binary: bool, tokens: &mut Tokens) {
    for (prefix, least, more) in PREFIXES {
        let mut at = 0;
        while let Some(found) = bytes.get(at..).and_then(|rest| memmem::find(rest, prefix)) {
            let start = at + found;
            let body = start + prefix.len();
            let len = run(bytes, body, |byte| byte.is_ascii_alphanumeric() || more.contains(&byte));
            at = body + len;
            if len >= *least {
                let range = framed(bytes, start..at, is_binary);
                secret(bytes, range, tokens);
            }
        }
    }
    for prefix in [b"AKIA", b"ASIA", b"ABIA", b"ACCA"] {
        let mut at = 0;
        while let Some(found) = bytes.get(at..).and_then(|rest| memmem::find(rest, prefix)) {
            let start = at + found;
            let len = run(bytes, start, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
            let is_free =
                !start.checked_sub(1).and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_uppercase);
            at = start + len;
            if is_free && (len == 20 || len > 20 && is_binary) {
                secret(bytes, start..start + 20, tokens);
            }
        }
    }
    bearers(bytes, is_binary, tokens);
    private_keys(bytes, tokens);
}

fn bearers(bytes: &mut [u8], is_binary: bool, tokens: &mut Tokens) {
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'b', b'B', rest)) {
        at += found + 1;
        let word = bytes.get(at - 1..at + 5).unwrap_or_default();
        if !word.eq_ignore_ascii_case(b"bearer") {
            continue;
        }
        let gap = match bytes.get(at + 5..).unwrap_or_default() {
            [b'%', b'2', b'0', ..] => 3,
            [b' ' | b'+' | b':' | b'=', b' ', ..] => 2,
            [b' ' | b'+' | b':' | b'=', ..] => 1,
            _ => continue,
        };
        let start = at + 5 + gap;
        let len = run(bytes, start, |byte| byte.is_ascii_alphanumeric() || b"._~+/=-".contains(&byte));
        if len >= 12 {
            let range = framed(bytes, start..start + len, is_binary);
            secret(bytes, range, tokens);
        }
        at = start + len;
    }
}

/// Private keys in PEM: all of the base64 between the lines, up to the end of the content where the last one is missing.
fn private_keys(bytes: &mut [u8], tokens: &mut Tokens) {
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| memmem::find(rest, b"-----BEGIN ")) {
        let label = at + found + 11;
        let label_len =
            run(bytes, label, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ');
        at = label + label_len;
        if bytes.get(label..at).is_none_or(|label| memmem::find(label, b"PRIVATE KEY").is_none()) {
            continue;
        }
        at += run(bytes, at, |byte| byte == b'-');
        loop {
            match bytes.get(at) {
                None => return,
                Some(b'-') if bytes.get(at..).is_some_and(|rest| rest.starts_with(b"-----END")) => break,
                Some(b'\\') => at += 2, // an escape of JSON
                Some(b'\r' | b'\n' | b' ' | b'\t' | b':' | b',' | b'-' | b'%') => at += 1,
                Some(byte) if byte.is_ascii_alphanumeric() || b"+/=".contains(byte) => {
                    let len = run(bytes, at, |byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
                    secret(bytes, at..at + len, tokens);
                    at += len;
                }
                Some(_) => break,
            }
        }
    }
}

fn jwts(bytes: &mut [u8], is_binary: bool, tokens: &mut Tokens) {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| memmem::find(rest, b"eyJ")) {
        let start = at + found;
        let head = run(bytes, start, is_part);
        at = start + head.max(3);
        if head < 10 || bytes.get(at) != Some(&b'.') {
            continue;
        }
        let mut parts = 1;
        while parts < 5 && bytes.get(at) == Some(&b'.') {
            at += 1 + run(bytes, at + 1, is_part);
            parts += 1;
        }
        if parts >= 3 || at - start > 40 {
            let range = framed(bytes, start..at, is_binary);
            secret(bytes, range, tokens);
        }
    }
}

/// What an `@` may look like.
const AT_SIGNS: [&[u8]; 3] = [b"@", b"%40", b"\\u0040"];

fn addresses(bytes: &mut [u8], is_binary: bool, tokens: &mut Tokens) {
    for sign in AT_SIGNS {
        let mut from = 0;
        while let Some(found) = bytes.get(from..).and_then(|rest| memmem::find(rest, sign)) {
            let at = from + found..from + found + sign.len();
            from = at.end;
            if let Some(password) = password(bytes, at.start) {
                secret(bytes, password, tokens);
            } else if let Some(address) = address(bytes, &at, is_binary) {
                let (start, end) = (address.start, address.end);
                if let Some(value) = bytes.get_mut(address) {
                    tokens.email(value, at.start - start..at.end - start);
                }
                from = end;
            }
        }
    }
}

/// The password of an address such as `https://user:password@host`.
fn password(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let before = bytes.get(at.saturating_sub(256)..at)?;
    let slashes = memmem::rfind(before, b"://")?;
    let user = before.get(slashes + 3..)?;
    if user.iter().any(|byte| matches!(byte, b'/' | b' ' | b'"' | b'\n' | b'<' | b'>' | b'?')) {
        return None;
    }
    let colon = memchr::memchr(b':', user)?;
    let start = at - (user.len() - colon - 1);
    (start < at).then_some(start..at)
}

fn address(bytes: &[u8], at: &Range<usize>, is_binary: bool) -> Option<Range<usize>> {
    let is_local = |byte: u8| {
        byte.is_ascii_alphanumeric() || b"._+-!#$&*^{}|~".contains(&byte) || byte >= 0x80 && !is_binary
    };
    let mut start = at.start;
    while start > 0 && at.start - start < LOCAL_BYTES_MAX {
        match bytes.get(start.saturating_sub(3)..start)? {
            [b'%', b'2', b'B' | b'b' | b'E' | b'e' | b'D' | b'd'] | [b'%', b'5', b'F' | b'f'] => start -= 3,
            [b'%', a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => break,
            [.., last] if is_local(*last) => start -= 1,
            _ => break,
        }
    }
    if start.checked_sub(1).and_then(|at| bytes.get(at)) == Some(&b'\\') {
        // The rest of an escape of JSON.
        start += match bytes.get(start..at.start) {
            Some([b'u', hex @ ..]) if hex.iter().take(4).filter(|b| b.is_ascii_hexdigit()).count() == 4 => 5,
            _ => 1,
        };
    }
    while start < at.start && bytes.get(start).is_some_and(|byte| b".{}|&#$*!-+^~".contains(byte)) {
        start += 1;
    }
    let is_domain =
        |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-' || byte >= 0x80 && !is_binary;
    let mut end = at.end + run(bytes, at.end, is_domain).min(DOMAIN_BYTES_MAX);
    if is_binary {
        // The byte of the length may look like the first character.
        let first = bytes.get(start).map_or(0, |byte| usize::from(*byte));
        if first >= 0x20 && first < end - start && first + 8 >= end - start {
            (start, end) = (start + 1, start + 1 + first);
        } else {
            end = framed(bytes, start..end, true).end;
        }
    }
    while end > at.end && bytes.get(end - 1).is_some_and(|byte| matches!(byte, b'.' | b'-')) {
        end -= 1;
    }
    let domain = bytes.get(at.end..end)?;
    let dot = memchr::memrchr(b'.', domain)?;
    let top = domain.get(dot + 1..)?;
    let is_top = top.len() >= 2
        && top.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte >= 0x80);
    (start < at.start && dot > 0 && is_top && !top.iter().all(u8::is_ascii_digit)).then_some(start..end)
}

fn cards(bytes: &mut [u8], is_binary: bool, tokens: &mut Tokens) {
    let mut at = 0;
    while at < bytes.len() {
        at += match bytes.get(at..).and_then(|rest| rest.iter().position(u8::is_ascii_digit)) {
            Some(skip) => skip,
            None => return,
        };
        let (found, next) = card::from(bytes, at);
        if let Some(range) = found {
            let range = framed(bytes, range, is_binary);
            if let Some(value) = bytes.get_mut(range) {
                tokens.digits(value);
            }
        }
        at = next;
    }
}
