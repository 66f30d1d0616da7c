//! Fields of forms and parameters of queries, replaced where they stand.

use super::json::Wrong;
use super::names::{NAME_BYTES_MAX, Names};
use super::token::Tokens;
use memchr::{memchr, memmem};

/// The most parts of a form.
const PARTS_MAX: usize = 4096;

/// Replaces values of `name=value` pairs.
pub(super) fn pairs(bytes: &mut [u8], names: &Names, tokens: &mut Tokens) {
    for pair in bytes.split_mut(|byte| matches!(byte, b'&' | b';' | b'#' | b'?')) {
        let Some(equals) = memchr(b'=', pair) else { continue };
        let (name, value) = pair.split_at_mut(equals);
        let mut plain = [0; NAME_BYTES_MAX * 2];
        if unescape(name, &mut plain).is_some_and(|name| names.is_query(name))
            && let Some(value) = value.get_mut(1..)
        {
            tokens.secret(value.trim_ascii_end_mut());
        }
    }
}

/// Replaces parameters of addresses that stand in a text, and, where the text is nothing else, pairs in it.
pub(super) fn embedded(bytes: &mut [u8], is_text: bool, names: &Names, tokens: &mut Tokens) {
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr(b'=', rest)) {
        let equals = at + found;
        at = equals + 1;
        let before = bytes.get(equals.saturating_sub(NAME_BYTES_MAX + 6)..equals).unwrap_or_default();
        let is_name =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'[' | b']');
        let start = before.iter().rposition(|byte| !is_name(byte)).map_or(0, |at| at + 1);
        let name = before.get(start..).unwrap_or_default();
        let (name, mark) = match (before.get(..start), name.strip_prefix(b"u0026")) {
            (Some([.., b'\\']), Some(name)) => (name, Some(b'&')), // as some write & in JSON
            (Some([.., mark]), _) => (name, Some(*mark)),
            _ => (name, None),
        };
        let is_parameter = matches!(mark, Some(b'?' | b'&' | b';' | b'#'));
        if !(is_parameter || is_text) || !names.is_query(name) {
            continue;
        }
        let is_end = |byte: &u8| byte.is_ascii_whitespace() || b"\"'&<>;)\\#,}".contains(byte);
        let rest = bytes.get(at..).unwrap_or_default();
        let len = rest.iter().position(is_end).unwrap_or(rest.len());
        if let Some(value) = bytes.get_mut(at..at + len) {
            tokens.secret(value);
        }
        at += len;
    }
}

/// Replaces parameters of an address: what follows `?` and `#`.
pub(super) fn address(bytes: &mut [u8], names: &Names, tokens: &mut Tokens) {
    if let Some(query) = memchr::memchr2(b'?', b'#', bytes)
        && let Some(query) = bytes.get_mut(query + 1..)
    {
        pairs(query, names, tokens);
    }
}

trait TrimEnd {
    fn trim_ascii_end_mut(&mut self) -> &mut Self;
}

impl TrimEnd for [u8] {
    fn trim_ascii_end_mut(&mut self) -> &mut [u8] {
        let len = self.trim_ascii_end().len();
        self.get_mut(..len).unwrap_or_default()
    }
}

fn unescape<'a>(name: &[u8], out: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut len = 0;
    let mut rest = name;
    while let Some((byte, after)) = rest.split_first() {
        let (byte, after) = match (byte, after) {
            (b'%', [a, b, after @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                match (digit(*a), digit(*b)) {
                    (Some(a), Some(b)) => ((a * 16 + b) as u8, after),
                    _ => (b'%', after),
                }
            }
            (byte, after) => (*byte, after),
        };
        *out.get_mut(len)? = byte;
        len += 1;
        rest = after;
    }
    out.get(..len)
}

/// Replaces parts of `multipart/form-data` (RFC 7578) by their name. The boundary is its first line.
pub(super) fn parts(bytes: &mut [u8], names: &Names, tokens: &mut Tokens) -> Result<(), Wrong> {
    let start = memmem::find(bytes, b"--").ok_or(Wrong)?;
    let line = bytes.get(start..).and_then(|rest| memmem::find(rest, b"\r\n")).ok_or(Wrong)?;
    let boundary = bytes.get(start..start + line).unwrap_or_default().trim_ascii_end().to_vec();
    if !(3..=256).contains(&boundary.len()) {
        return Err(Wrong);
    }
    let mut at = start + line + 2;
    for _ in 0..PARTS_MAX {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(head_len) = memmem::find(rest, b"\r\n\r\n") else {
            // The end, or a head that was cut off.
            return if memmem::find(rest, b"--").is_some() || rest.len() < 4096 {
                Ok(())
            } else {
                Err(Wrong)
            };
        };
        let is_secret =
            name(rest.get(..head_len).unwrap_or_default()).is_some_and(|name| names.is_query(name));
        let body = at + head_len + 4;
        let end = memmem::find_iter(bytes.get(body - 2..).unwrap_or_default(), &boundary)
            .map(|found| body - 2 + found)
            .find(|found| bytes.get(found.saturating_sub(2)..*found) == Some(b"\r\n"));
        let body_end = end.map_or(bytes.len(), |end| end - 2).max(body);
        if let Some(value) = bytes.get_mut(body..body_end) {
            match is_secret {
                true => tokens.secret(value),
                false => super::json::loose(value, names, tokens)?,
            }
        }
        let Some(end) = end else { return Ok(()) };
        at = end + boundary.len();
        if bytes.get(at..).is_some_and(|rest| rest.starts_with(b"--")) {
            return Ok(());
        }
        at += 2;
    }
    Err(Wrong)
}

/// The name in the head of a part.
fn name(head: &[u8]) -> Option<&[u8]> {
    for found in memmem::find_iter(head, b"name=") {
        let is_apart =
            found.checked_sub(1).and_then(|at| head.get(at)).is_some_and(|byte| !byte.is_ascii_alphabetic());
        let rest = head.get(found + 5..)?;
        if !is_apart {
            continue; // filename=
        }
        return match rest.strip_prefix(b"\"") {
            Some(quoted) => quoted.get(..memchr(b'"', quoted)?),
            None => Some(rest.split(|byte| matches!(byte, b';' | b'\r' | b' ')).next()?),
        };
    }
    None
}
