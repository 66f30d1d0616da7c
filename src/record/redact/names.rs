//! Names whose values are replaced: header fields, parameters, members of JSON documents and forms.

use super::filter::{HEADER, Hits, NAME};
use foldhash::{HashSet, HashSetExt};

/// The longest name.
pub(super) const NAME_BYTES_MAX: usize = 64;
/// Header fields that say what the others mean.
const TELLING: &[&str] = &["content-encoding", "grpc-encoding", "transfer-encoding"];

/// See the module.
pub(super) struct Names {
    headers: HashSet<Box<[u8]>>,
    /// Without `_` and `-`, in lower case.
    fields: HashSet<Box<[u8]>>,
    query: HashSet<Box<[u8]>>,
    /// By the last three bytes of a name, whether one may end like this.
    header_ends: Ends,
    field_ends: Ends,
    /// A name is too short or too strange to be found by its end.
    is_always: bool,
}

struct Ends(Box<[u64; 64]>);

impl Ends {
    fn slot(end: [u8; 3]) -> u32 {
        let [a, b, c] = end;
        (u32::from_le_bytes([a, b, c, 0]) | 0x20_2020).wrapping_mul(0x9e37_79b1) >> 20
    }

    fn add(&mut self, end: [u8; 3]) {
        let slot = Ends::slot(end);
        if let Some(word) = self.0.get_mut(slot as usize / 64) {
            *word |= 1 << (slot % 64);
        }
    }

    #[inline]
    fn has(&self, name_end: Option<&[u8; 3]>) -> bool {
        let Some(end) = name_end else { return false };
        let slot = Ends::slot(*end);
        self.0.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// The last segment of a name such as `user[password]` or `user.password`, in lower case without `_` and `-`.
fn plain<'a>(name: &[u8], out: &'a mut [u8; NAME_BYTES_MAX]) -> Option<&'a [u8]> {
    let mut name = name;
    while let [rest @ .., b']' | b'[' | b'"' | b' '] = name {
        name = rest;
    }
    let name = name.rsplit(|byte| matches!(byte, b'.' | b'[' | b'/' | b':')).next()?;
    let mut len = 0;
    for byte in name.iter().filter(|byte| !matches!(byte, b'_' | b'-' | b' ')) {
        *out.get_mut(len)? = byte.to_ascii_lowercase();
        len += 1;
    }
    out.get(..len)
}

impl Names {
    pub(super) fn new(headers: &[String], fields: &[String], query: &[String]) -> Result<Names, String> {
        let mut names = Names {
            headers: HashSet::new(),
            fields: HashSet::new(),
            query: HashSet::new(),
            header_ends: Ends(Box::new([0; 64])),
            field_ends: Ends(Box::new([0; 64])),
            is_always: false,
        };
        let told: Vec<String> = TELLING.iter().map(|name| (*name).to_owned()).collect();
        for name in headers.iter().chain(&told) {
            match name.as_bytes() {
                [.., a, b, c] if name.len() <= NAME_BYTES_MAX && name.bytes().all(is_word) => {
                    names.header_ends.add([*a, *b, *c]);
                }
                _ if name.is_empty() || name.len() > NAME_BYTES_MAX => return Err(wrong("headers", name)),
                _ => names.is_always = true,
            }
            if !TELLING.contains(&name.as_str()) {
                names.headers.insert(name.as_bytes().into());
            }
        }
        for (name, is_field) in
            fields.iter().map(|name| (name, true)).chain(query.iter().map(|name| (name, false)))
        {
            let mut buffer = [0; NAME_BYTES_MAX];
            let plain = plain(name.as_bytes(), &mut buffer).filter(|plain| !plain.is_empty());
            let Some(plain) = plain else {
                return Err(wrong(if is_field { "fields" } else { "query" }, name));
            };
            match (name.as_bytes(), plain) {
                ([.., a, b, c], [.., x, y, z]) if name.bytes().all(is_word) => {
                    for end in [[*a, *b, *c], [*x, *y, *z]] {
                        names.field_ends.add(end);
                        names.field_ends.add(end.map(|byte| if byte == b'_' { b'-' } else { byte }));
                        names.field_ends.add(end.map(|byte| if byte == b'-' { b'_' } else { byte }));
                    }
                }
                _ => names.is_always = true,
            }
            let set = if is_field { &mut names.fields } else { &mut names.query };
            set.insert(plain.into());
        }
        Ok(names)
    }

    /// What is to be looked at in any case.
    pub(super) fn always(&self) -> Hits {
        if self.is_always { HEADER | NAME } else { 0 }
    }

    /// Whether there are any fields.
    pub(super) fn has_fields(&self) -> bool {
        !self.fields.is_empty()
    }

    /// Whether a header field of this name is replaced.
    pub(super) fn is_header(&self, name: &[u8]) -> bool {
        let mut buffer = [0; NAME_BYTES_MAX];
        let Some(lower) = buffer.get_mut(..name.len()) else { return false };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.headers.contains(&*lower)
    }

    /// Whether a member or form field of this name is replaced.
    pub(super) fn is_field(&self, name: &[u8]) -> bool {
        plain(name, &mut [0; NAME_BYTES_MAX]).is_some_and(|name| self.fields.contains(name))
    }

    /// Whether a parameter of this name is replaced.
    pub(super) fn is_query(&self, name: &[u8]) -> bool {
        plain(name, &mut [0; NAME_BYTES_MAX])
            .is_some_and(|name| self.fields.contains(name) || self.query.contains(name))
    }

    /// Whether one of the names may be before this colon, in quotes.
    #[inline]
    pub(super) fn before_colon(&self, bytes: &[u8], colon: usize) -> Hits {
        let mut name = bytes.get(..colon).unwrap_or_default();
        while let [rest @ .., b' ' | b'\n' | b'\r' | b'\t'] = name {
            name = rest;
        }
        let name = match name {
            [name @ .., b'\\', b'"'] => name, // a document in a text of another one
            [name @ .., b'"'] => name,
            _ => return 0,
        };
        if self.field_ends.has(name.last_chunk()) { self.word_before(name) } else { 0 }
    }

    /// Whether one of the names may be before this `=`, or, as in a part of a form, behind it.
    #[inline]
    pub(super) fn before_equals(&self, bytes: &[u8], equals: usize) -> Hits {
        let name = bytes.get(..equals).unwrap_or_default();
        let before = match name {
            [.., b'n' | b'N', b'a' | b'A', b'm' | b'M', b'e' | b'E'] => self.word_after(bytes, equals + 1),
            [name @ .., b']'] => self.word_before(name),
            [name @ .., b'%', b'5', b'D' | b'd'] => self.word_before(name),
            _ => 0,
        };
        if self.field_ends.has(name.last_chunk()) { before | self.word_before(name) } else { before }
    }

    /// Whether the name of a header field ends here.
    #[inline]
    pub(super) fn before_value(&self, bytes: &[u8], tag: usize) -> Hits {
        let name = bytes.get(..tag).unwrap_or_default();
        if self.header_ends.has(name.last_chunk()) { self.header_before(name) } else { 0 }
    }

    #[cold]
    fn header_before(&self, name: &[u8]) -> Hits {
        let from = name.iter().rposition(|byte| !is_word(*byte)).map_or(0, |at| at + 1);
        let word = name.get(from.max(name.len().saturating_sub(NAME_BYTES_MAX + 1))..).unwrap_or_default();
        let is_one = |word: &[u8]| {
            self.is_header(word) || TELLING.iter().any(|told| told.as_bytes().eq_ignore_ascii_case(word))
        };
        // The byte of its length may look like a letter.
        if is_one(word) || is_one(word.get(1..).unwrap_or_default()) { HEADER } else { 0 }
    }

    #[cold]
    fn word_before(&self, name: &[u8]) -> Hits {
        let name = name.get(name.len().saturating_sub(NAME_BYTES_MAX + 1)..).unwrap_or_default();
        let from = name.iter().rposition(|byte| !is_word(*byte)).map_or(0, |at| at + 1);
        if self.is_query(name.get(from..).unwrap_or_default()) { NAME } else { 0 }
    }

    #[cold]
    fn word_after(&self, bytes: &[u8], at: usize) -> Hits {
        let rest = bytes.get(at..).unwrap_or_default();
        let rest = rest.strip_prefix(b"\"").unwrap_or(rest);
        let end = rest.iter().take(256).position(|byte| matches!(byte, b'"' | b';' | b'\r')).unwrap_or(256);
        if self.is_query(rest.get(..end).unwrap_or(rest)) { NAME } else { 0 }
    }
}

fn wrong(list: &str, name: &str) -> String {
    format!("recording.redact.{list}: {name:?} is not a name of 1 to {NAME_BYTES_MAX} characters")
}
