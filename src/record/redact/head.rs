//! Fields of heads and trailers, and the address of a request.

use super::detect;
use super::filter::{Filter, NAME};
use super::form;
use super::message::{Told, each_field};
use super::names::Names;
use super::token::Tokens;
use crate::record::entry::number as n;
use std::ops::Range;

/// Words before a credential that say what it is.
const SCHEMES: &[&[u8]] = &[
    b"bearer",
    b"basic",
    b"digest",
    b"negotiate",
    b"ntlm",
    b"token",
    b"apikey",
    b"api-key",
    b"dpop",
    b"hoba",
    b"mutual",
    b"vapid",
    b"gnap",
    b"privatetoken",
    b"aws4-hmac-sha256",
    b"aws4-ecdsa-p256-sha256",
    b"sharedkey",
    b"scram-sha-1",
    b"scram-sha-256",
];

/// What heads are redacted with.
pub(super) struct Rules<'a> {
    pub(super) filter: &'a Filter,
    pub(super) names: &'a Names,
    pub(super) tokens: &'a mut Tokens,
}

impl Rules<'_> {
    /// Redacts an event that has fields, in place.
    pub(super) fn redact(&mut self, bytes: &mut [u8], event: Range<usize>) {
        let mut at = event.start;
        while at < event.end {
            let Some((number, value, next)) = each_field(bytes, at, event.end) else { return };
            at = next;
            match number {
                n::TARGET => {
                    if let Some(target) = bytes.get_mut(value) {
                        form::address(target, self.names, self.tokens);
                        self.detect(target);
                    }
                }
                n::FIELD => self.field(bytes, value),
                _ => {}
            }
        }
    }

    fn field(&mut self, bytes: &mut [u8], field: Range<usize>) {
        let (mut name, mut value) = (0..0, 0..0);
        let mut at = field.start;
        while at < field.end {
            let Some((number, range, next)) = each_field(bytes, at, field.end) else { return };
            match number {
                n::NAME => name = range,
                n::VALUE => value = range,
                _ => {}
            }
            at = next;
        }
        let name_bytes = bytes.get(name).unwrap_or_default();
        let is_secret = self.names.is_header(name_bytes);
        let is_cookie = name_bytes.eq_ignore_ascii_case(b"cookie");
        let is_set_cookie = name_bytes.eq_ignore_ascii_case(b"set-cookie");
        let Some(value) = bytes.get_mut(value) else { return };
        match (is_secret, is_cookie, is_set_cookie) {
            (true, true, _) => value.split_mut(|byte| *byte == b';').for_each(|pair| self.cookie(pair)),
            (true, _, true) => {
                if let Some(pair) = value.split_mut(|byte| *byte == b';').next() {
                    self.cookie(pair);
                }
            }
            (true, ..) => self.credential(value),
            _ => self.detect(value),
        }
    }

    fn cookie(&mut self, pair: &mut [u8]) {
        let start = memchr::memchr(b'=', pair).map_or(0, |at| at + 1);
        let Some(value) = pair.get_mut(start..) else { return };
        let skip = value.len() - value.trim_ascii_start().len();
        let Some(value) = value.get_mut(skip..) else { return };
        match value {
            [b'"', value @ .., b'"'] => self.tokens.secret(value),
            value => self.tokens.secret(value),
        }
    }

    fn credential(&mut self, value: &mut [u8]) {
        let scheme = memchr::memchr(b' ', value).filter(|space| {
            let scheme = value.get(..*space).unwrap_or_default();
            SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme))
        });
        let start = scheme.map_or(0, |space| space + 1);
        if let Some(value) = value.get_mut(start..) {
            self.tokens.secret(value);
        }
    }

    /// What is known by its shape, and parameters of addresses.
    pub(super) fn detect(&mut self, value: &mut [u8]) {
        let hits = self.filter.scan(value, self.names);
        if hits == 0 {
            return;
        }
        if hits & NAME != 0 {
            form::address(value, self.names, self.tokens);
        }
        detect::redact(value, hits, false, self.tokens);
    }
}

/// What a head says about the content that follows it.
pub(super) fn told(bytes: &[u8], event: Range<usize>, told: &mut Told) {
    let mut at = event.start;
    while at < event.end {
        let Some((number, value, next)) = each_field(bytes, at, event.end) else { return };
        at = next;
        match number {
            n::UPGRADE => {
                told.is_websocket = bytes.get(value).is_some_and(|v| v.eq_ignore_ascii_case(b"websocket"))
            }
            n::HEAD_STATUS => told.status = value.start as u64,
            n::FIELD => {
                let (mut name, mut text) = (0..0, 0..0);
                let mut inner = value.start;
                while inner < value.end {
                    let Some((number, range, next)) = each_field(bytes, inner, value.end) else { return };
                    match number {
                        n::NAME => name = range,
                        n::VALUE => text = range,
                        _ => {}
                    }
                    inner = next;
                }
                told.field(bytes.get(name).unwrap_or_default(), bytes.get(text).unwrap_or_default());
            }
            _ => {}
        }
    }
}
