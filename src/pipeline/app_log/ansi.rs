//! Colours and other orders to a terminal, taken out of a line (ECMA-48: CSI and OSC sequences).
//!
//! How it fails: an order that is cut ends with the line; an ESC that begins none is left, and escaped in the event.

use std::borrow::Cow;

const ESC: char = '\u{1b}';

/// The text without them.
pub(super) fn strip(text: &str) -> Cow<'_, str> {
    if memchr::memchr(b'\x1b', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(ESC) {
        out.push_str(before);
        rest = match after.as_bytes().first() {
            Some(b'[') => skip_csi(after),
            Some(b']') => skip_osc(after),
            _ => {
                out.push(ESC);
                after
            }
        };
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The same for a text that may be owned.
pub(super) fn stripped(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => strip(text),
        Cow::Owned(text) => match strip(&text) {
            Cow::Borrowed(_) => Cow::Owned(text),
            Cow::Owned(stripped) => Cow::Owned(stripped),
        },
    }
}

/// `[`, parameters and intermediates (0x20 to 0x3f), one final byte (0x40 to 0x7e).
fn skip_csi(after: &str) -> &str {
    let end = after.bytes().skip(1).position(|byte| !(0x20..=0x3f).contains(&byte)).map(|end| end + 1);
    match end {
        Some(end) if after.as_bytes().get(end).is_some_and(|byte| (0x40..=0x7e).contains(byte)) => {
            after.get(end + 1..).unwrap_or_default()
        }
        // Something else begins here: it is kept.
        Some(end) => after.get(end..).unwrap_or_default(),
        None => "",
    }
}

/// `]`, any text, BEL or ESC `\`.
fn skip_osc(after: &str) -> &str {
    match after.find(['\u{7}', ESC]) {
        Some(end) => {
            let rest = after.get(end..).unwrap_or_default();
            rest.strip_prefix("\u{1b}\\").or_else(|| rest.strip_prefix('\u{7}')).unwrap_or(rest)
        }
        None => "",
    }
}
