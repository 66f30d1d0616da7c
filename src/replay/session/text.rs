//! Where a value may stand in a request, and how it is replaced there: always as a whole, never as a part of a word.
//!
//! A text is looked up whole, then in ever smaller parts (words, `name=value`, query, path segments), so the longest match
//! wins. JSON is walked token by token and everything else of it stays as it was, to the byte.

use std::borrow::Cow;

/// What splits a text, from the coarsest to the finest. `.` is none of them: it is within tokens.
const LEVELS: [&[u8]; 5] = [b" \t,;\"'<>()[]{}", b"?#&", b"=", b"/", b":|"];

/// Says what a value is now; `None`: it stays.
pub(super) type Replace<'a> = &'a mut dyn FnMut(&str) -> Option<String>;

/// The text with all known values replaced; `None`: there are none.
pub(super) fn substituted(text: &str, replace: Replace<'_>) -> Option<String> {
    level(text, &LEVELS, replace)
}

fn level(text: &str, levels: &[&[u8]], replace: Replace<'_>) -> Option<String> {
    if text.len() < 2 {
        return None;
    }
    if let Some(now) = whole(text, replace) {
        return Some(now);
    }
    let at = levels.iter().position(|marks| text.bytes().any(|b| marks.contains(&b)))?;
    let (marks, finer) = levels.get(at..)?.split_first()?;
    let mut out = String::with_capacity(text.len());
    let mut is_changed = false;
    // The marks are ASCII, so what is between them is whole characters.
    for piece in text.split_inclusive(|c: char| c.is_ascii() && marks.contains(&(c as u8))) {
        let (part, mark) = match piece.char_indices().next_back() {
            Some((at, last)) if last.is_ascii() && marks.contains(&(last as u8)) => piece.split_at(at),
            _ => (piece, ""),
        };
        match level(part, finer, replace) {
            Some(now) => {
                is_changed = true;
                out.push_str(&now);
            }
            None => out.push_str(part),
        }
        out.push_str(mark);
    }
    is_changed.then_some(out)
}

/// A value as it is, or as it is when its percent-encoding is taken off; then it is put on again.
pub(super) fn whole(text: &str, replace: Replace<'_>) -> Option<String> {
    if let Some(now) = replace(text) {
        return Some(now);
    }
    let plain = unescaped(text)?;
    replace(&plain).map(|now| escaped(&now))
}

/// Takes percent-encoding off; `None`: there is none, or what is left is no text.
pub(super) fn unescaped(text: &str) -> Option<String> {
    if !text.contains(['%', '+']) {
        return None;
    }
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
                (digit()? << 4 | digit()?) as u8
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

/// Percent-encodes all but RFC 3986's unreserved letters, so it fits a path, a query, a form and a cookie.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Path segments and query values. What is put in is encoded where it has to be.
pub(super) fn substituted_target(target: &str, replace: Replace<'_>) -> Option<String> {
    let mut encoded = |text: &str| {
        let now = replace(text)?;
        let fits = now.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$'()*,;:@%".contains(&b));
        Some(if fits { now } else { escaped(&now) })
    };
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut is_changed = false;
    let mut each = |text: &str, mark: char, is_pair: bool, out: &mut String| {
        for (index, part) in text.split(mark).enumerate() {
            if index > 0 {
                out.push(mark);
            }
            let (name, value) = match part.split_once('=') {
                Some((name, value)) if is_pair => (Some(name), value),
                _ => (None, part),
            };
            if let Some(name) = name {
                out.push_str(name);
                out.push('=');
            }
            // A segment is found first as it is, then without its encoding; `+` is a letter in a path.
            let plain = unescaped(value).filter(|_| is_pair || !value.contains('+'));
            let now = encoded(value).or_else(|| plain.and_then(|plain| encoded(&plain)));
            is_changed |= now.is_some();
            out.push_str(now.as_deref().unwrap_or(value));
        }
    };
    let mut out = String::with_capacity(target.len());
    each(path, '/', false, &mut out);
    if let Some(query) = query {
        out.push('?');
        each(query, '&', true, &mut out);
    }
    is_changed.then_some(out)
}

/// A form's values.
pub(super) fn substituted_form(form: &str, replace: Replace<'_>) -> Option<String> {
    let now = substituted_target(&format!("?{form}"), replace)?;
    now.strip_prefix('?').map(str::to_owned)
}

/// JSON whose strings (names too) and numbers are replaced; `None`: nothing was.
pub(super) fn substituted_json(json: &[u8], replace: Replace<'_>) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(json.len());
    let mut rest = json;
    let mut is_changed = false;
    while let Some((first, after)) = rest.split_first() {
        let token = match first {
            b'"' => 1 + string_end(after)?,
            b'-' | b'0'..=b'9' => {
                rest.iter().position(|b| !b"+-.eE0123456789".contains(b)).unwrap_or(rest.len())
            }
            _ => {
                out.push(*first);
                rest = after;
                continue;
            }
        };
        let (token, after) = rest.split_at_checked(token)?;
        rest = after;
        let now = match first {
            b'"' => {
                let text: Cow<'_, str> = match token.contains(&b'\\') {
                    true => serde_json::from_slice::<String>(token).ok()?.into(),
                    false => std::str::from_utf8(token.get(1..token.len() - 1)?).ok()?.into(),
                };
                // A sentence is not taken apart; a path, an address or a credential is.
                let now = match replace(&text) {
                    Some(now) => Some(now),
                    None if is_composed(&text) => substituted(&text, replace),
                    None => None,
                };
                now.and_then(|now| serde_json::to_vec(&now).ok())
            }
            _ => std::str::from_utf8(token).ok().and_then(&mut *replace).map(|now| match is_number(&now) {
                true => now.into_bytes(),
                false => serde_json::to_vec(&now).unwrap_or_default(),
            }),
        };
        is_changed |= now.is_some();
        out.extend_from_slice(now.as_deref().unwrap_or(token));
    }
    is_changed.then_some(out)
}

/// Where a string ends, behind its closing mark.
fn string_end(mut bytes: &[u8]) -> Option<usize> {
    let all = bytes.len();
    loop {
        let at = memchr::memchr2(b'"', b'\\', bytes)?;
        if bytes.get(at) == Some(&b'"') {
            return Some(all - bytes.len() + at + 1);
        }
        bytes = bytes.get(at + 2..)?;
    }
}

fn is_number(text: &str) -> bool {
    serde_json::from_str::<serde_json::Number>(text).is_ok()
}

fn is_composed(text: &str) -> bool {
    text.starts_with('/')
        || text.starts_with("http")
        || text.starts_with("Bearer ")
        || text.starts_with("urn:")
}
