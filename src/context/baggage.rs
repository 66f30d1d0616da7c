//! The `baggage` header of W3C Baggage, <https://www.w3.org/TR/baggage/>.
//!
//! What: finds the business fields among the members, and writes the list again with our members first and
//! everybody else's untouched and in order. Why ours go first: when a hop behind us must shorten the list, it
//! cuts from the right.
//!
//! Strict in what is believed, generous in what is removed: a field is read only under its exact key, but a
//! member goes also when its key becomes ours after the percent-decoding that some SDKs apply to keys. Otherwise
//! `user%2Eid=mallory` would pass a boundary that drops `user.id`, and an application would read it.
//! Of several members with one key the last counts, as in OpenTelemetry's SDKs.
//!
//! How it fails: foreign members are not judged. Those that do not fit the limits, which are the least that the
//! specification asks for, are left out whole and counted. Properties of our own members are not kept.

use super::fields::Field;
use super::trim_ows;
use super::words::has_escapes;
use memchr::memchr_iter;

/// The most members that are written: the least that W3C lets a hop carry.
pub const MEMBERS_MAX: usize = 64;
/// The most bytes that are written unless the caller says otherwise, commas included: the least that W3C lets a
/// hop carry.
pub const BYTES_MAX: usize = 8192;

/// The business fields that were found, still percent-encoded, as slices of the header values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found<'a> {
    raw: [Option<&'a [u8]>; Field::COUNT],
    /// Members whose key had come before, and which replaced the earlier value.
    pub repeated: usize,
    /// Whether there is a member whose key is one of ours only for a receiver that decodes keys: to be removed.
    pub is_disguised: bool,
    /// Whether a member of ours has properties, which some SDKs take for a part of the value.
    pub has_properties: bool,
}

impl<'a> Found<'a> {
    /// The encoded value of `field`; give it to [`decode`] before use.
    pub fn raw(&self, field: Field) -> Option<&'a [u8]> {
        self.raw.get(field.index()).copied().flatten()
    }

    /// Whether no business field was found, nor anything that could be taken for one.
    pub fn is_empty(&self) -> bool {
        !self.is_disguised && self.raw.iter().all(Option::is_none)
    }
}

/// Finds the business fields in the values of all `baggage` headers.
pub fn find<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Found<'a> {
    let mut found = Found::default();
    for member in values.into_iter().flat_map(members) {
        let (key, rest) = key_of(member);
        // Without a value it says nothing to us, but nobody knows to whom else.
        let Some((field, value)) = Field::from_baggage_key(key).zip(value_of(rest)) else {
            found.is_disguised |= claims_field(key);
            continue;
        };
        found.has_properties |= rest.len() > 1 + value.len() && rest.contains(&b';');
        if let Some(slot) = found.raw.get_mut(field.index()) {
            found.repeated += usize::from(slot.is_some());
            *slot = Some(value);
        }
    }
    found
}

/// Key and value of every member of all `baggage` headers, in order; values are still percent-encoded, properties are left
/// out, and what has no `=` has no value.
pub fn entries<'a>(
    values: impl IntoIterator<Item = &'a [u8]>,
) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
    values.into_iter().flat_map(members).map(|member| {
        let (key, rest) = key_of(member);
        (key, value_of(rest))
    })
}

/// The key of a member, and what follows it.
fn key_of(member: &[u8]) -> (&[u8], &[u8]) {
    // Keys are too short for a vectorised search.
    let end = member.iter().position(|byte| matches!(byte, b'=' | b';')).unwrap_or(member.len());
    let (key, rest) = member.split_at_checked(end).unwrap_or((member, &[]));
    (trim_ows(key), rest)
}

/// The value in what follows a key.
fn value_of(rest: &[u8]) -> Option<&[u8]> {
    let value = rest.strip_prefix(b"=")?;
    let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
    value.get(..end).map(trim_ows)
}

/// Undoes the percent-encoding of a value. Returns `raw` itself when there is nothing to undo, else `buffer`,
/// whose content is replaced. A `%` without two hex digits stays as it is (as in the WHATWG URL standard), and
/// what is not UTF-8 becomes U+FFFD (as W3C demands).
pub fn decode<'a>(raw: &'a [u8], buffer: &'a mut Vec<u8>) -> &'a [u8] {
    if !raw.contains(&b'%') {
        return raw;
    }
    buffer.clear();
    let mut rest = raw;
    while let Some((byte, after)) = next_decoded(rest) {
        buffer.push(byte);
        rest = after;
    }
    if std::str::from_utf8(buffer).is_err() {
        // No honest sender comes here, so the copy costs nobody.
        let replaced = String::from_utf8_lossy(buffer).into_owned();
        buffer.clear();
        buffer.extend_from_slice(replaced.as_bytes());
    }
    buffer
}

/// Whether the values of all `baggage` headers may go on as they came: at most [`MEMBERS_MAX`] members and `bytes_max`
/// bytes, commas included. Empty members count here, so that this is no more than a search for commas.
pub fn fits<'a>(values: impl IntoIterator<Item = &'a [u8]>, bytes_max: usize) -> bool {
    let (mut members, mut bytes) = (0, 0);
    for value in values {
        members += 1 + memchr_iter(b',', value).count();
        bytes += value.len() + 1; // the comma that would join it with the next
    }
    members <= MEMBERS_MAX && bytes <= bytes_max.saturating_add(1)
}

/// What [`write()`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Members in the list that was written, ours included.
    pub members: usize,
    /// Members that were left out because of [`MEMBERS_MAX`] or [`BYTES_MAX`].
    pub dropped: usize,
}

/// Appends the list to send to `out`: the given fields, then the members of the `existing` header values, without
/// any that claims to be a business field. Field values are plain text and are percent-encoded here; a field without
/// a baggage key, or with an empty value, is not written. Nothing is appended when there is no member.
pub fn write<'a, 'b>(
    existing: impl IntoIterator<Item = &'a [u8]>,
    fields: impl IntoIterator<Item = (Field, &'b [u8])>,
    out: &mut Vec<u8>,
) -> Written {
    write_within(BYTES_MAX, existing, fields, out)
}

/// [`write()`] with another limit than [`BYTES_MAX`] for the list.
pub fn write_within<'a, 'b>(
    bytes_max: usize,
    existing: impl IntoIterator<Item = &'a [u8]>,
    fields: impl IntoIterator<Item = (Field, &'b [u8])>,
    out: &mut Vec<u8>,
) -> Written {
    let ours = fields.into_iter().filter_map(|(field, value)| Some(Member::new(field.baggage_key()?, value)));
    write_members(bytes_max, existing, ours, |_| false, out)
}

/// [`write_within()`] with members of any key in front; of the existing ones, also those go whose key `is_ours` claims.
pub fn write_members<'a, 'b>(
    bytes_max: usize,
    existing: impl IntoIterator<Item = &'a [u8]>,
    ours: impl IntoIterator<Item = Member<'b>>,
    is_ours: impl Fn(&[u8]) -> bool,
    out: &mut Vec<u8>,
) -> Written {
    let mut list = List { start: out.len(), out, bytes_max, written: Written::default() };
    for Member { key, value, is_word } in ours.into_iter().filter(|member| !member.value.is_empty()) {
        list.append(|out| {
            out.extend_from_slice(key.as_bytes());
            out.push(b'=');
            // Of all that a valid id may have, only these two are written otherwise.
            if is_word && !has_escapes(value) {
                out.extend_from_slice(value);
            } else {
                encode(value, out);
            }
        });
    }
    for member in existing.into_iter().flat_map(members) {
        let (key, _) = key_of(member);
        if !claims_field(key) && !is_ours(key) {
            list.append(|out| out.extend_from_slice(member));
        }
    }
    list.written
}

/// A member of ours.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    key: &'a str,
    value: &'a [u8],
    /// Whether the value is a valid one of a field whose values are words.
    is_word: bool,
}

impl<'a> Member<'a> {
    /// Any key and value.
    pub fn new(key: &'a str, value: &'a [u8]) -> Member<'a> {
        Member { key, value, is_word: false }
    }

    /// A field and a valid value; `None` where the field has no key.
    pub fn of(field: Field, value: &'a [u8]) -> Option<Member<'a>> {
        let is_word = field != Field::Flags;
        debug_assert!(!is_word || value.is_empty() || field.is_valid(value));
        field.baggage_key().map(|key| Member { key, value, is_word })
    }
}

/// A list under construction at the end of a buffer.
struct List<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    bytes_max: usize,
    written: Written,
}

impl List<'_> {
    /// Appends one member, or takes it back whole when it goes over a limit.
    fn append(&mut self, member: impl FnOnce(&mut Vec<u8>)) {
        if self.written.members == MEMBERS_MAX {
            self.written.dropped += 1;
            return;
        }
        let before = self.out.len();
        if before > self.start {
            self.out.push(b',');
        }
        member(self.out);
        if self.out.len() - self.start > self.bytes_max {
            self.out.truncate(before);
            self.written.dropped += 1;
        } else {
            self.written.members += 1;
        }
    }
}

/// The members of one header value, without the whitespace around them and without empty ones.
fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut begin = 0;
    memchr_iter(b',', value)
        .chain([value.len()])
        .map(move |end| {
            let member = value.get(begin..end).unwrap_or_default();
            begin = end + 1;
            trim_ows(member)
        })
        .filter(|member| !member.is_empty())
}

/// Whether a byte of a key may be read as another one, or as none: receivers decode `%xx` and `+`, and strip what Unicode calls
/// whitespace, in Latin-1 or in UTF-8.
pub(super) fn is_ambiguous(byte: u8) -> bool {
    matches!(byte, b'%' | b'+') || !byte.is_ascii_graphic()
}

/// Whether a receiver might take this key for one of ours: exactly, or after decoding `%xx` and `+` and
/// removing the whitespace that appears by that.
fn claims_field(key: &[u8]) -> bool {
    if !key.iter().copied().any(is_ambiguous) {
        return Field::from_baggage_key(key).is_some();
    }
    let mut decoded = [0; KEY_BYTES_MAX];
    let (mut len, mut rest) = (0, key);
    while let Some((byte, after)) = next_decoded(rest) {
        rest = after;
        if byte == b'+' || !byte.is_ascii_graphic() {
            continue; // at the ends it is trimmed; inside, no key of ours can come out, and one less foreign key does no harm
        }
        let Some(slot) = decoded.get_mut(len) else { return false };
        *slot = byte;
        len += 1;
    }
    decoded.get(..len).and_then(Field::from_baggage_key).is_some()
}

/// The longest of our keys.
const KEY_BYTES_MAX: usize = "feature.flags".len();

/// The first byte of a percent-encoded text, decoded, and what follows it.
fn next_decoded(text: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    if let [b'%', high, low, rest @ ..] = text
        && let (Some(high), Some(low)) = (digit(*high), digit(*low))
    {
        return Some(((high << 4) | low, rest));
    }
    text.split_first().map(|(byte, rest)| (*byte, rest))
}

/// Percent-encodes what may not stand in a value, and `%` itself.
fn encode(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    loop {
        let plain = rest.iter().position(|byte| !PLAIN[usize::from(*byte)]).unwrap_or(rest.len());
        let (before, from) = rest.split_at(plain);
        out.extend_from_slice(before);
        let Some((byte, after)) = from.split_first() else { return };
        let [high, low] = [byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)]);
        out.extend_from_slice(&[b'%', high, low]);
        rest = after;
    }
}

/// RFC 3986 §2.1 asks for capitals here.
const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// W3C's baggage-octet without `%`, and without `+`, which receivers that decode as in a form take for a space.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte <= 0x7e {
        table[byte] = !matches!(byte as u8, b'"' | b',' | b';' | b'\\' | b'%' | b'+');
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;
