//! A header or trailer section as one buffer and a list of spans.

use super::Known;
use std::cell::RefCell;
use std::fmt;
use std::mem::ManuallyDrop;

/// A place in the buffer of a [`Fields`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// How many bytes.
    pub len: u32,
}

impl Span {
    /// From byte `start`, `len` bytes long. Heads are bounded far below 4 GiB, so the casts are exact.
    pub fn new(start: usize, len: usize) -> Span {
        Span { start: start as u32, len: len as u32 }
    }

    /// Whether it spans nothing.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

const UNKNOWN: u8 = u8::MAX;

#[derive(Clone, Copy)]
struct Field {
    name: Span,
    value: Span,
    known: u8,
    is_live: bool,
}

/// A header section, in order, with repeated fields kept apart, names as they came.
///
/// Removing a field only marks it; setting one appends. The storage comes from, and returns to, a free list of the
/// thread, so a request costs no allocation once a worker is warm.
pub struct Fields(ManuallyDrop<Box<Inner>>);

struct Inner {
    bytes: Vec<u8>,
    list: Vec<Field>,
    /// For each known field: 1 + the index of its first live occurrence, or 0.
    first: [u16; Known::COUNT],
    /// For each known field, a bit: there may be more than one live occurrence.
    repeated: u64,
}

const _: () = assert!(Known::COUNT <= 64);

/// How many spare sections a thread keeps, and how large one may be to be kept: bounds the memory of the free list.
const SPARE_MAX: usize = 256;
const SPARE_BYTES_MAX: usize = 8 * 1024;

/// The boxes are what is handed out and taken back; unboxing them would cost the allocation that this saves.
#[allow(clippy::vec_box)] // in a type alias the lint is not always raised
type Spare = RefCell<Vec<Box<Inner>>>;

thread_local! {
    static SPARE: Spare = const { RefCell::new(Vec::new()) };
}

impl Drop for Fields {
    fn drop(&mut self) {
        // SAFETY: this is drop; nobody reads the storage through `self` any more.
        let inner = unsafe { ManuallyDrop::take(&mut self.0) };
        if inner.bytes.capacity() > SPARE_BYTES_MAX {
            return;
        }
        // The thread may be ending, then there is no list any more and the storage is simply freed.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_MAX {
                spare.push(inner);
            }
        });
    }
}

impl Inner {
    const fn empty() -> Inner {
        Inner { bytes: Vec::new(), list: Vec::new(), first: [0; Known::COUNT], repeated: 0 }
    }
}

impl Default for Fields {
    fn default() -> Self {
        Fields::new()
    }
}

impl Clone for Fields {
    fn clone(&self) -> Self {
        let mut copy = Fields::new();
        copy.0.bytes.extend_from_slice(&self.0.bytes);
        copy.0.list.extend_from_slice(&self.0.list);
        copy.0.first = self.0.first;
        copy.0.repeated = self.0.repeated;
        copy
    }
}

impl Fields {
    /// An empty section.
    pub fn new() -> Fields {
        let spare = SPARE.with(|spare| spare.borrow_mut().pop());
        match spare {
            Some(mut inner) => {
                inner.bytes.clear();
                inner.list.clear();
                inner.first = [0; Known::COUNT];
                inner.repeated = 0;
                Fields(ManuallyDrop::new(inner))
            }
            None => Fields(ManuallyDrop::new(Box::new(Inner::empty()))),
        }
    }

    /// A section whose buffer starts with `bytes` (a whole head, to be indexed with [`Fields::index`]).
    pub fn with_bytes(bytes: &[u8]) -> Fields {
        let mut fields = Fields::new();
        fields.0.bytes.extend_from_slice(bytes);
        fields
    }

    /// Adds a field whose name and value are already in the buffer.
    pub fn index(&mut self, name: Span, value: Span) {
        let known = Known::classify(self.bytes(name)).map_or(UNKNOWN, |known| known as u8);
        self.insert(Field { name, value, known, is_live: true });
    }

    fn insert(&mut self, field: Field) {
        if field.known != UNKNOWN {
            let inner = &mut **self.0;
            let slot = &mut inner.first[field.known as usize];
            if *slot == 0 {
                // Sections are bounded to far fewer than 65,535 fields by `limits`.
                *slot = u16::try_from(inner.list.len() + 1).unwrap_or(u16::MAX);
            } else {
                inner.repeated |= 1 << field.known;
            }
        }
        self.0.list.push(field);
    }

    /// The bytes at `span`.
    #[inline]
    pub fn bytes(&self, span: Span) -> &[u8] {
        self.0.bytes.get(span.start as usize..(span.start + span.len) as usize).unwrap_or_default()
    }

    /// The whole buffer, for turning it into shared bytes once.
    pub fn buffer(&self) -> &[u8] {
        &self.0.bytes
    }

    /// Copies `bytes` into the buffer and says where they are.
    pub fn store(&mut self, bytes: &[u8]) -> Span {
        let span = Span::new(self.0.bytes.len(), bytes.len());
        self.0.bytes.extend_from_slice(bytes);
        span
    }

    /// The first value of a known field.
    #[inline]
    pub fn get(&self, known: Known) -> Option<&[u8]> {
        let field = self.0.list.get((self.0.first[known as usize] as usize).wrapping_sub(1))?;
        Some(self.bytes(field.value))
    }

    /// Where the first value of a known field is.
    pub fn span_of(&self, known: Known) -> Option<Span> {
        self.0.list.get((self.0.first[known as usize] as usize).wrapping_sub(1)).map(|field| field.value)
    }

    /// Whether a known field is there.
    #[inline]
    pub fn has(&self, known: Known) -> bool {
        self.0.first[known as usize] != 0
    }

    /// Whether a known field occurs more than once.
    #[inline]
    pub fn is_repeated(&self, known: Known) -> bool {
        self.0.repeated & (1 << known as u8) != 0 && self.all(known).nth(1).is_some()
    }

    /// Every value of a known field, in order.
    pub fn all(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        let start = (self.0.first[known as usize] as usize).wrapping_sub(1);
        self.0
            .list
            .get(start..)
            .unwrap_or_default()
            .iter()
            .filter(move |field| field.is_live && field.known == known as u8)
            .map(|field| self.bytes(field.value))
    }

    /// Every value of the field of this name, in any case, in order.
    pub fn named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(field, _, _)| field.eq_ignore_ascii_case(name)).map(|(_, value, _)| value)
    }

    /// Every field that is left, in order: name as it came, value, and which known field it is.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8], Option<Known>)> {
        self.0.list.iter().filter(|field| field.is_live).map(|field| {
            let known = Known::ALL.get(field.known as usize).copied();
            (self.bytes(field.name), self.bytes(field.value), known)
        })
    }

    /// As [`Fields::iter`], with the values as spans of [`Fields::buffer`].
    pub fn spans(&self) -> impl Iterator<Item = (Span, Span, Option<Known>)> {
        self.0
            .list
            .iter()
            .filter(|field| field.is_live)
            .map(|field| (field.name, field.value, Known::ALL.get(field.known as usize).copied()))
    }

    /// How many fields are left.
    pub fn len(&self) -> usize {
        self.0.list.iter().filter(|field| field.is_live).count()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.0.list.iter().all(|field| !field.is_live)
    }

    /// Removes every occurrence of a known field; `false` when there was none.
    pub fn remove(&mut self, known: Known) -> bool {
        let first = self.0.first[known as usize] as usize;
        if first == 0 {
            return false;
        }
        for field in self.0.list.iter_mut().skip(first - 1) {
            if field.known == known as u8 {
                field.is_live = false;
            }
        }
        self.0.first[known as usize] = 0;
        self.0.repeated &= !(1 << known as u8);
        true
    }

    /// Removes every field of this name, in any case; `false` when there was none.
    pub fn remove_named(&mut self, name: &[u8]) -> bool {
        if let Some(known) = Known::classify(name) {
            return self.remove(known);
        }
        let Inner { bytes, list, .. } = &mut **self.0;
        let mut is_removed = false;
        for field in list.iter_mut().filter(|field| field.is_live && field.name.len as usize == name.len()) {
            let start = field.name.start as usize;
            if bytes.get(start..start + name.len()).is_some_and(|it| it.eq_ignore_ascii_case(name)) {
                field.is_live = false;
                is_removed = true;
            }
        }
        is_removed
    }

    /// Removes every field whose name `is_gone` takes.
    pub fn remove_where(&mut self, is_gone: impl Fn(&[u8]) -> bool) {
        let Inner { bytes, list, first, repeated } = &mut **self.0;
        for field in list.iter_mut().filter(|field| field.is_live) {
            let start = field.name.start as usize;
            if !bytes.get(start..start + field.name.len as usize).is_some_and(&is_gone) {
                continue;
            }
            field.is_live = false;
            // All fields of a known name are gone with it.
            if let Some(first) = first.get_mut(field.known as usize) {
                *first = 0;
                *repeated &= !(1 << field.known);
            }
        }
    }

    /// Replaces a known field by one value.
    pub fn set(&mut self, known: Known, value: &[u8]) {
        self.remove(known);
        self.append(known, value);
    }

    /// Replaces a known field by one value, in place where a single value of the same length is there.
    pub fn overwrite(&mut self, known: Known, value: &[u8]) {
        match self.span_of(known) {
            Some(span) if span.len as usize == value.len() && !self.is_repeated(known) => {
                let start = span.start as usize;
                if let Some(place) = self.0.bytes.get_mut(start..start + value.len()) {
                    place.copy_from_slice(value);
                }
            }
            _ => self.set(known, value),
        }
    }

    /// Adds a value to a known field.
    pub fn append(&mut self, known: Known, value: &[u8]) {
        let name = self.store(known.name().as_bytes());
        let value = self.store(value);
        self.insert(Field { name, value, known: known as u8, is_live: true });
    }

    /// Adds a field by name. Name and value must be valid; the edges check them.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let name = self.store(name);
        let value = self.store(value);
        self.index(name, value);
    }

    /// Replaces a field by name.
    pub fn set_named(&mut self, name: &[u8], value: &[u8]) {
        self.remove_named(name);
        self.push(name, value);
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter()
                    .map(|(name, value, _)| (String::from_utf8_lossy(name), String::from_utf8_lossy(value))),
            )
            .finish()
    }
}

/// The tokens of a comma-separated field value, trimmed, without empty ones (RFC 9110 §5.6.1).
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Whether `byte` may stand in a token (RFC 9110 §5.6.2).
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether `value` is a field value that may be written: no control characters but tab (RFC 9110 §5.5).
pub fn is_field_value(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in list {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    #[test]
    fn known_fields_are_found_in_any_case() {
        let fields = fields(&[("X-Other", "1"), ("CONTENT-length", "5"), ("Via", "a"), ("via", "b")]);
        assert_eq!(fields.get(Known::ContentLength), Some(&b"5"[..]));
        assert!(fields.is_repeated(Known::Via) && !fields.is_repeated(Known::ContentLength));
        assert_eq!(fields.all(Known::Via).collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(fields.get(Known::Host), None);
        assert_eq!(fields.named(b"x-other").count(), 1);
    }

    #[test]
    fn what_a_name_decides_is_removed_whether_it_is_known_or_not() {
        let mut fields = fields(&[("via", "a"), ("X-One", "1"), ("Via", "b"), ("x-two", "2"), ("host", "h")]);
        fields.remove_where(|name| {
            name.eq_ignore_ascii_case(b"via") || name.to_ascii_lowercase().starts_with(b"x-")
        });
        assert_eq!(fields.iter().map(|(name, ..)| name).collect::<Vec<_>>(), [b"host"]);
        assert!(
            !fields.has(Known::Via) && !fields.is_repeated(Known::Via) && fields.get(Known::Via).is_none()
        );
        fields.append(Known::Via, b"c");
        assert_eq!(fields.all(Known::Via).collect::<Vec<_>>(), [b"c"]);
        assert!(fields.has(Known::Host) && !fields.is_repeated(Known::Via));
    }

    #[test]
    fn set_replaces_every_occurrence_and_keeps_the_others_in_order() {
        let mut fields = fields(&[("via", "a"), ("x", "1"), ("via", "b"), ("y", "2")]);
        fields.set(Known::Via, b"c");
        let left: Vec<_> = fields.iter().map(|(name, value, _)| (name.to_vec(), value.to_vec())).collect();
        assert_eq!(
            left,
            [
                (b"x".to_vec(), b"1".to_vec()),
                (b"y".to_vec(), b"2".to_vec()),
                (b"via".to_vec(), b"c".to_vec())
            ]
        );
        assert!(!fields.is_repeated(Known::Via));
        assert!(fields.remove_named(b"X") && !fields.remove_named(b"X"));
        assert_eq!(fields.len(), 2);
    }

    #[test]
    fn a_section_from_the_free_list_is_empty() {
        drop(fields(&[("via", "a"), ("x", "1")]));
        let again = Fields::new();
        assert!(again.is_empty() && !again.has(Known::Via) && again.buffer().is_empty());
    }
}
