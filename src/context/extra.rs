//! `context.fields`: further fields of the context, which a user names: a tenant, a region, a cost centre.
//!
//! What: a configuration becomes a list of at most [`FIELDS_MAX`], ordered by name, so that every sidecar signs them in one
//! order; a field is found by its header or by its baggage key. Why compiled: the question is asked for every
//! header of every request. Where there are no such fields it is one comparison, and else the length of a name rules out
//! nearly all (one bit for each length).
//!
//! How it fails: a configuration that clashes with the names that sidelight or HTTP knows, or with itself, is refused
//! with every [`Problem`] at once. A value that breaks its field's rules counts as absent and is reported, as with the
//! built-in fields ([`merge`](super::fields::merge)).

mod config;
mod names;

use super::fields::{Merged, Source};
use super::{baggage, signature, trim_ows};
use crate::units::{AUTO, NONE};
pub use config::{Alphabet, Believe, Config};
use names::{Wrong, check_baggage_key, check_header, check_name};
use std::collections::BTreeMap;

/// The most further fields: each one costs on every request.
pub const FIELDS_MAX: usize = 16;
/// The most bytes of a field's name.
pub const NAME_BYTES_MAX: usize = 32;
/// The most bytes of a header's name or a baggage key; their lengths are bits of a `u64`.
pub const CARRIER_BYTES_MAX: usize = 63;
/// The most bytes that a value may be allowed.
pub const VALUE_BYTES_MAX: usize = 1024;
/// The most bytes that the values of all further fields may be allowed together: half of what baggage may have.
pub const VALUES_BYTES_MAX: usize = 4096;

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The name of the field.
    pub field: String,
    /// The key in it that is wrong; `None`: its name, or that it is there at all.
    pub key: Option<&'static str>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

/// The further fields of a configuration, ordered by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    list: Box<[ExtraField]>,
    /// A bit for each length that the name of a header has.
    header_lengths: u64,
    /// A bit for each length that a key in baggage has.
    key_lengths: u64,
}

/// One further field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraField {
    /// The name in configuration, events and signatures.
    pub name: Box<str>,
    /// The header that carries it, in lower case.
    pub header: Option<Box<str>>,
    /// The key in baggage that carries it.
    pub baggage_key: Option<Box<str>>,
    /// The longest value.
    pub bytes_max: usize,
    /// Which characters a value may have.
    pub alphabet: Alphabet,
    /// Whose values are believed.
    pub believe: Believe,
}

impl ExtraField {
    /// Whether `value` may be a value of this field.
    pub fn is_valid(&self, value: &[u8]) -> bool {
        !value.is_empty() && value.len() <= self.bytes_max && self.alphabet.holds(value)
    }

    /// Decides the value, as [`merge`](super::fields::merge) does for a built-in field: the header's when it is valid, else
    /// baggage's. `baggage` is the decoded value.
    pub fn merge<'a>(&self, plain: Option<&'a [u8]>, baggage: Option<&'a [u8]>) -> Merged<'a> {
        let present = |value: Option<&'a [u8]>| value.map(trim_ows).filter(|value| !value.is_empty());
        let (plain, baggage) = (present(plain), present(baggage));
        let valid = |value: &&[u8]| self.is_valid(value);
        let (plain_valid, baggage_valid) = (plain.filter(valid), baggage.filter(valid));
        let from_plain = plain_valid.map(|value| (value, Source::Plain));
        Merged {
            value: from_plain.or_else(|| baggage_valid.map(|value| (value, Source::Baggage))),
            disagreement: plain_valid.zip(baggage_valid).is_some_and(|(one, other)| one != other),
            invalid: plain.is_some() != plain_valid.is_some() || baggage.is_some() != baggage_valid.is_some(),
        }
    }
}

impl Extra {
    /// Reads what a user configured.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(fields: &BTreeMap<String, Config>) -> Result<Extra, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut list: Vec<ExtraField> = Vec::new();
        for (name, config) in fields {
            let mut report = |key, (message, help): (String, String)| {
                problems.push(Problem { field: name.clone(), key, message, help });
            };
            if let Err(problem) = check_name(name) {
                report(None, problem);
            }
            let header = carrier(&config.header, || format!("x-{}", name.replace('_', "-")));
            let header = header.map(|name| name.to_ascii_lowercase().into_boxed_str());
            let baggage_key = carrier(&config.baggage, || name.replace('_', "."));
            if let Some(Err(problem)) = header.as_deref().map(check_header) {
                report(Some("header"), problem);
            }
            if let Some(Err(problem)) = baggage_key.as_deref().map(check_baggage_key) {
                report(Some("baggage"), problem);
            }
            if header.is_none() && baggage_key.is_none() {
                let message = "nothing carries this field".to_owned();
                report(None, (message, "write a `header`, a `baggage` key, or both".to_owned()));
            }
            if !(1..=VALUE_BYTES_MAX).contains(&config.length_max) {
                let message = format!("values of {} bytes", config.length_max);
                report(Some("length_max"), (message, format!("write 1 to {VALUE_BYTES_MAX}")));
            }
            let twin = |of: &dyn Fn(&ExtraField) -> bool| list.iter().find(|field| of(field));
            if let Some(other) = twin(&|field| header.is_some() && field.header == header) {
                report(Some("header"), shared("header", &other.name));
            }
            if let Some(other) = twin(&|field| baggage_key.is_some() && field.baggage_key == baggage_key) {
                report(Some("baggage"), shared("key in baggage", &other.name));
            }
            list.push(ExtraField {
                name: name.as_str().into(),
                header,
                baggage_key,
                bytes_max: config.length_max,
                alphabet: config.alphabet,
                believe: config.believe,
            });
        }
        if let Some(first_over) = list.get(FIELDS_MAX) {
            let message = format!("{} further fields: each one costs on every request", list.len());
            problems.push(Problem {
                field: first_over.name.to_string(),
                key: None,
                message,
                help: format!("keep at most {FIELDS_MAX}"),
            });
        }
        problems.extend(too_long_together(&list));
        if problems.is_empty() { Ok(Extra::new(list)) } else { Err(problems) }
    }

    fn new(list: Vec<ExtraField>) -> Extra {
        let lengths = |of: fn(&ExtraField) -> Option<&str>| {
            list.iter().filter_map(of).fold(0, |bits, name| bits | length_bit(name.len()))
        };
        let header_lengths = lengths(|field| field.header.as_deref());
        let key_lengths = lengths(|field| field.baggage_key.as_deref());
        Extra { list: list.into(), header_lengths, key_lengths }
    }

    /// How many there are: their indexes are `0..len`.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = &ExtraField> {
        self.list.iter()
    }

    /// The field at `index`.
    pub fn get(&self, index: usize) -> Option<&ExtraField> {
        self.list.get(index)
    }

    /// The index of the field whose header has this name, in any case.
    #[inline]
    pub fn from_header(&self, name: &[u8]) -> Option<usize> {
        if self.header_lengths & length_bit(name.len()) == 0 {
            return None;
        }
        self.list.iter().position(|field| {
            field.header.as_ref().is_some_and(|header| name.eq_ignore_ascii_case(header.as_bytes()))
        })
    }

    /// The index of the field with this key in baggage. Keys there are case-sensitive.
    #[inline]
    pub fn from_baggage_key(&self, key: &[u8]) -> Option<usize> {
        if self.key_lengths & length_bit(key.len()) == 0 {
            return None;
        }
        self.list.iter().position(|field| field.baggage_key.as_ref().is_some_and(|own| own.as_bytes() == key))
    }

    /// Whether a receiver might take this key in baggage for one of these, or for the [signature's](signature::BAGGAGE_KEY):
    /// as it is, or after the percent-decoding that some SDKs apply to keys. Such members are removed, as those are that
    /// claim a built-in field.
    pub fn claims_baggage_key(&self, key: &[u8]) -> bool {
        let own = self.list.iter().filter_map(|field| field.baggage_key.as_deref());
        if key.iter().copied().any(baggage::is_ambiguous) {
            own.chain([signature::BAGGAGE_KEY]).any(|own| decoded(key).eq(own.bytes()))
        } else {
            self.from_baggage_key(key).is_some() || key == signature::BAGGAGE_KEY.as_bytes()
        }
    }
}

/// The bit of a length; that of all lengths that no name has is none.
const fn length_bit(bytes: usize) -> u64 {
    if bytes > CARRIER_BYTES_MAX { 0 } else { 1 << bytes }
}

/// A key as a generous receiver reads it: `%xx` decoded, `+` and whatever may be whitespace left out.
fn decoded(key: &[u8]) -> impl Iterator<Item = u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut rest = key;
    std::iter::from_fn(move || {
        if let [b'%', high, low, after @ ..] = rest
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            rest = after;
            return Some((high << 4) | low);
        }
        let (byte, after) = rest.split_first()?;
        rest = after;
        Some(*byte)
    })
    .filter(|byte| *byte != b'+' && byte.is_ascii_graphic())
}

/// The name that a configuration gives a carrier.
fn carrier(text: &str, derived: impl FnOnce() -> String) -> Option<Box<str>> {
    match text {
        NONE => None,
        AUTO => Some(derived().into()),
        name => Some(name.into()),
    }
}

fn shared(what: &str, other: &str) -> Wrong {
    (format!("`{other}` has the same {what}"), "give each field its own".to_owned())
}

fn too_long_together(list: &[ExtraField]) -> Option<Problem> {
    let in_baggage = list.iter().filter(|field| field.baggage_key.is_some());
    let bytes = in_baggage.fold(0_usize, |sum, field| sum.saturating_add(field.bytes_max));
    let last = list.last().filter(|_| bytes > VALUES_BYTES_MAX)?;
    Some(Problem {
        field: last.name.to_string(),
        key: Some("length_max"),
        message: format!("together, values of {bytes} bytes would fill the baggage"),
        help: format!(
            "keep the sum of `length_max` at {VALUES_BYTES_MAX}, or some fields out with `baggage: none`"
        ),
    })
}

#[cfg(test)]
mod tests;
