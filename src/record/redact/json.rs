//! Values of JSON documents, replaced where they stand.
//!
//! A text becomes a token of the length that it has in the document, escapes counted as they are written; the digits of a
//! number become other digits; `true`, `false` and `null` stay; of an object or array all values are replaced, names stay. A
//! document that ends too early is read as far as it goes; one that is wrong is an error, since where a value begins is not
//! known any more. Several documents after one another are fine.

use super::names::{NAME_BYTES_MAX, Names};
use super::token::Tokens;
use memchr::memchr2;

/// Deepest nesting.
const DEPTH_MAX: usize = 128;
/// The most segments of a pointer.
const SEGMENTS_MAX: usize = 63;

/// The content is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrong;

/// A JSON pointer with `*` and `**`.
pub(super) struct Pointer {
    segments: Vec<Segment>,
}

enum Segment {
    Name(Vec<u8>),
    Any,
    Deep,
}

impl Pointer {
    pub(super) fn parse(text: &str) -> Result<Pointer, String> {
        let wrong = |what: &str| format!("recording.redact.json: {text:?} {what}");
        let Some(path) = text.strip_prefix('/') else {
            return Err(wrong(
                "is not a JSON pointer; begin it with /, such as /card/number or /**/password",
            ));
        };
        let segments: Vec<Segment> = path
            .split('/')
            .map(|segment| match segment {
                "*" => Segment::Any,
                "**" => Segment::Deep,
                name => Segment::Name(name.replace("~1", "/").replace("~0", "~").into_bytes()),
            })
            .collect();
        if segments.len() > SEGMENTS_MAX {
            return Err(wrong("has too many segments; the most are 63"));
        }
        Ok(Pointer { segments })
    }

    /// The set of segments that may come next, with those added that `**` can leave out.
    fn closure(&self, mut set: u64) -> u64 {
        for (index, segment) in self.segments.iter().enumerate() {
            if set >> index & 1 == 1 && matches!(segment, Segment::Deep) {
                set |= 1 << (index + 1);
            }
        }
        set
    }

    /// The set behind a member of this name.
    fn step(&self, set: u64, name: &[u8]) -> u64 {
        let mut next = 0;
        for (index, segment) in self.segments.iter().enumerate().filter(|(index, _)| set >> index & 1 == 1) {
            match segment {
                Segment::Name(wanted) if wanted != name => {}
                Segment::Name(_) | Segment::Any => next |= 1 << (index + 1),
                Segment::Deep => next |= 1 << index,
            }
        }
        self.closure(next)
    }

    fn is_end(&self, set: u64) -> bool {
        set >> self.segments.len() & 1 == 1
    }
}

#[derive(Clone, Copy)]
struct Frame {
    is_object: bool,
    is_redacted: bool,
    /// The element.
    index: usize,
}

/// Memory that is used again.
#[derive(Default)]
pub(super) struct Scratch {
    frames: Vec<Frame>,
    /// For each frame and pointer, where the pointer is.
    sets: Vec<u64>,
    name: Vec<u8>,
}

/// What is replaced.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) names: &'a Names,
    pub(super) pointers: &'a [Pointer],
}

/// Replaces in a document what the rules say.
pub(super) fn redact(
    bytes: &mut [u8],
    rules: Rules<'_>,
    scratch: &mut Scratch,
    tokens: &mut Tokens,
) -> Result<(), Wrong> {
    let count = rules.pointers.len();
    scratch.frames.clear();
    scratch.sets.clear();
    scratch.sets.extend(rules.pointers.iter().map(|pointer| pointer.closure(1)));
    let root = rules.pointers.iter().zip(&scratch.sets).any(|(pointer, set)| pointer.is_end(*set));
    let mut at = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let mut wants_value = true;
    loop {
        at += bytes.get(at..).unwrap_or_default().iter().take_while(|b| b" \t\r\n".contains(b)).count();
        let Some(byte) = bytes.get(at).copied() else { return Ok(()) };
        let frame = scratch.frames.last().copied();
        if !wants_value {
            match (byte, frame) {
                (b',', Some(_)) => at += 1,
                (b'}', Some(frame)) if frame.is_object => {
                    (at, wants_value) = (close(scratch, at, count), false)
                }
                (b']', Some(frame)) if !frame.is_object => {
                    (at, wants_value) = (close(scratch, at, count), false)
                }
                (0x1e, None) => at += 1, // RFC 7464
                // Nothing is open that could end.
                (b'}' | b']', None) => return Err(Wrong),
                (_, None) => {}
                _ => return Err(Wrong),
            }
            if matches!(byte, b'}' | b']') {
                continue;
            }
            wants_value = true;
            at += bytes.get(at..).unwrap_or_default().iter().take_while(|b| b" \t\r\n".contains(b)).count();
        }
        let Some(byte) = bytes.get(at).copied() else { return Ok(()) };
        let is_redacted = match frame {
            None => root,
            Some(frame) if frame.is_object => {
                if byte == b'}' {
                    (at, wants_value) = (close(scratch, at, count), false);
                    continue;
                }
                if byte != b'"' {
                    return Err(Wrong);
                }
                let Some(end) = string(bytes, at)? else { return Ok(()) };
                unescape(bytes.get(at + 1..end).unwrap_or_default(), &mut scratch.name)?;
                at = end + 1;
                at +=
                    bytes.get(at..).unwrap_or_default().iter().take_while(|b| b" \t\r\n".contains(b)).count();
                match bytes.get(at) {
                    None => return Ok(()),
                    Some(b':') => at += 1,
                    Some(_) => return Err(Wrong),
                }
                at +=
                    bytes.get(at..).unwrap_or_default().iter().take_while(|b| b" \t\r\n".contains(b)).count();
                enter(rules, scratch, count, frame)
                    || scratch.name.len() <= NAME_BYTES_MAX * 2 && rules.names.is_field(&scratch.name)
            }
            Some(frame) => {
                if byte == b']' {
                    (at, wants_value) = (close(scratch, at, count), false);
                    continue;
                }
                if count > 0 {
                    scratch.name.clear();
                    scratch.name.extend_from_slice(frame.index.to_string().as_bytes());
                }
                let is_redacted = enter(rules, scratch, count, frame);
                if let Some(last) = scratch.frames.last_mut() {
                    last.index += 1;
                }
                is_redacted
            }
        };
        // A value. The sets of its pointers are the last ones.
        match bytes.get(at).copied() {
            None => return Ok(()),
            Some(b @ (b'{' | b'[')) => {
                if scratch.frames.len() >= DEPTH_MAX {
                    return Err(Wrong);
                }
                scratch.frames.push(Frame { is_object: b == b'{', is_redacted, index: 0 });
                at += 1;
                continue;
            }
            Some(b'"') => {
                let end = string(bytes, at)?;
                let close = end.unwrap_or(bytes.len());
                if let Some(value) = bytes.get_mut(at + 1..close) {
                    if is_redacted {
                        tokens.secret(value);
                    } else if rules.names.has_fields() && memchr::memchr(b'\\', value).is_some() {
                        loose(value, rules.names, tokens)?;
                    }
                }
                let Some(end) = end else { return Ok(()) };
                at = end + 1;
            }
            Some(b'-' | b'0'..=b'9') => {
                let rest = bytes.get(at..).unwrap_or_default();
                let len = rest
                    .iter()
                    .take_while(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E'))
                    .count();
                if let Some(value) = bytes.get_mut(at..at + len).filter(|_| is_redacted) {
                    tokens.digits(value);
                }
                at += len;
            }
            Some(_) => {
                let rest = bytes.get(at..).unwrap_or_default();
                let word = [&b"true"[..], b"false", b"null"]
                    .into_iter()
                    .find(|word| rest.starts_with(word) || word.starts_with(rest))
                    .ok_or(Wrong)?;
                at += word.len();
            }
        }
        if count > 0 && !scratch.frames.is_empty() {
            scratch.sets.truncate(scratch.sets.len().saturating_sub(count));
        }
        wants_value = false;
    }
}

/// Pushes the sets of a member, and tells whether it is replaced.
fn enter(rules: Rules<'_>, scratch: &mut Scratch, count: usize, frame: Frame) -> bool {
    let from = scratch.sets.len().saturating_sub(count);
    let mut is_redacted = frame.is_redacted;
    for (index, pointer) in rules.pointers.iter().enumerate() {
        let set = scratch.sets.get(from + index).copied().unwrap_or(0);
        let next = pointer.step(set, &scratch.name);
        is_redacted |= pointer.is_end(next);
        scratch.sets.push(next);
    }
    is_redacted
}

/// Leaves an object or array.
fn close(scratch: &mut Scratch, at: usize, count: usize) -> usize {
    scratch.frames.pop();
    if !scratch.frames.is_empty() {
        scratch.sets.truncate(scratch.sets.len().saturating_sub(count));
    }
    at + 1
}

/// Where the string that begins at `at` has its last quote; `None`: it has none.
fn string(bytes: &[u8], at: usize) -> Result<Option<usize>, Wrong> {
    let mut from = at + 1;
    loop {
        let Some(found) = bytes.get(from..).and_then(|rest| memchr2(b'"', b'\\', rest)) else {
            return Ok(None);
        };
        if bytes.get(from + found) == Some(&b'"') {
            return Ok(Some(from + found));
        }
        from += found + 2;
    }
}

/// The name without escapes.
fn unescape(name: &[u8], out: &mut Vec<u8>) -> Result<(), Wrong> {
    out.clear();
    let mut rest = name;
    while let Some((byte, after)) = rest.split_first() {
        if *byte != b'\\' {
            out.push(*byte);
            rest = after;
            continue;
        }
        let (escape, after) = after.split_first().ok_or(Wrong)?;
        rest = after;
        match escape {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => {
                let (hex, after) = after.split_first_chunk::<4>().ok_or(Wrong)?;
                let code = std::str::from_utf8(hex)
                    .ok()
                    .and_then(|hex| u32::from_str_radix(hex, 16).ok())
                    .ok_or(Wrong)?;
                let character = char::from_u32(code).unwrap_or('\u{fffd}');
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
            }
            other => out.push(*other),
        }
    }
    Ok(())
}

/// Replaces values behind quoted names in what is not a document as a whole: events of a stream, scripts, a document
/// within a text of another one.
pub(super) fn loose(bytes: &mut [u8], names: &Names, tokens: &mut Tokens) -> Result<(), Wrong> {
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr(b':', rest)) {
        let colon = at + found;
        at = colon + 1;
        if names.before_colon(bytes, colon) == 0 || !is_field_before(bytes, colon, names) {
            continue;
        }
        at += bytes.get(at..).unwrap_or_default().iter().take_while(|b| b" \t\r\n".contains(b)).count();
        let slashes = bytes.get(at..).unwrap_or_default().iter().take_while(|b| **b == b'\\').count();
        match bytes.get(at + slashes) {
            Some(b'"') => {
                let start = at + slashes + 1;
                let end = quote(bytes, start, slashes);
                if let Some(value) = bytes.get_mut(start..end) {
                    tokens.secret(value);
                }
                at = end;
            }
            Some(b'-' | b'0'..=b'9') => {
                let len = bytes
                    .get(at..)
                    .unwrap_or_default()
                    .iter()
                    .take_while(|b| b"-+.eE0123456789".contains(b))
                    .count();
                if let Some(value) = bytes.get_mut(at..at + len) {
                    tokens.digits(value);
                }
                at += len;
            }
            Some(b'{' | b'[') => return Err(Wrong), // how far it goes is not known
            _ => {}
        }
    }
    Ok(())
}

/// The quote that ends a text whose quotes have this many backslashes before them; without its backslashes.
fn quote(bytes: &[u8], start: usize, slashes: usize) -> usize {
    let mut run = 0;
    for (index, byte) in bytes.iter().enumerate().skip(start) {
        match byte {
            b'\\' => run += 1,
            b'"' if run <= slashes => return index - run,
            b'"' if slashes == 0 && run % 2 == 0 => return index,
            _ => run = 0,
        }
    }
    bytes.len()
}

fn is_field_before(bytes: &[u8], colon: usize, names: &Names) -> bool {
    let name = bytes.get(..colon).unwrap_or_default().trim_ascii_end();
    let Some(name) = name.strip_suffix(b"\"") else { return false };
    let end = name.iter().rposition(|byte| *byte != b'\\').map_or(0, |at| at + 1);
    let name = name.get(..end).unwrap_or_default();
    let start = memchr::memrchr(b'"', name).map_or(0, |at| at + 1);
    let name = name.get(start..).unwrap_or_default();
    name.len() <= NAME_BYTES_MAX * 2 && names.is_field(name)
}
