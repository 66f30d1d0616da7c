//! What a forward server says: MessagePack, bounded, in any of the spellings that servers use.
//!
//! Ruby's servers write texts as `bin` or `str` as it comes, so both are [`Answer::Bytes`]. How it fails: what is not
//! MessagePack, is nested more than [`DEPTH_MAX`] deep or longer than [`BYTES_MAX`] is an error.

use rmp_serde::Deserializer;
use rmp_serde::decode::Error;
use serde::de::{Deserialize, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::io::{Cursor, ErrorKind};

/// Longest answer: HELO and PONG are some hundred bytes.
pub(super) const BYTES_MAX: usize = 16 << 10;
/// HELO is an array that holds a map.
const DEPTH_MAX: usize = 8;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// `str` or `bin`.
    Bytes(Vec<u8>),
    /// `true` or `false`.
    Bool(bool),
    /// An array.
    List(Vec<Answer>),
    /// A map, in the order of its entries.
    Map(Vec<(Answer, Answer)>),
    /// Nil, a number, an extension: nothing of it is looked at.
    Other,
}

impl Answer {
    /// Reads the first value; `Ok(None)`: it is not whole yet. Returns how many bytes it took, too.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<(Answer, usize)>, String> {
        let mut cursor = Cursor::new(bytes);
        let mut reader = Deserializer::new(&mut cursor);
        reader.set_max_depth(DEPTH_MAX);
        match Answer::deserialize(&mut reader) {
            Ok(answer) => Ok(Some((answer, usize::try_from(cursor.position()).unwrap_or(bytes.len())))),
            Err(Error::InvalidMarkerRead(error) | Error::InvalidDataRead(error))
                if error.kind() == ErrorKind::UnexpectedEof =>
            {
                if bytes.len() < BYTES_MAX {
                    Ok(None)
                } else {
                    Err(format!("more than {BYTES_MAX} bytes"))
                }
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// The bytes, if it is a text.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Answer::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The value of a map's entry.
    pub(super) fn entry(&self, name: &str) -> Option<&Answer> {
        match self {
            Answer::Map(entries) => {
                entries.iter().find(|(key, _)| key.bytes() == Some(name.as_bytes())).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// What follows the name in a message of the handshake: `["HELO", …]`.
    pub(super) fn message(&self, name: &str) -> Option<&[Answer]> {
        match self {
            Answer::List(items) => {
                let (first, rest) = items.split_first()?;
                (first.bytes() == Some(name.as_bytes())).then_some(rest)
            }
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Answer, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Answer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Answer, E> {
        Ok(Answer::Bool(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Answer, E> {
        Ok(Answer::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Answer, E> {
        Ok(Answer::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Answer, E> {
        Ok(Answer::Other)
    }

    fn visit_unit<E>(self) -> Result<Answer, E> {
        Ok(Answer::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Answer, E> {
        Ok(Answer::Bytes(text.as_bytes().to_vec()))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Answer, E> {
        Ok(Answer::Bytes(bytes.to_vec()))
    }

    fn visit_newtype_struct<D: serde::Deserializer<'de>>(self, extension: D) -> Result<Answer, D::Error> {
        extension.deserialize_any(AnyValue)?;
        Ok(Answer::Other)
    }

    // The lengths that are claimed are not believed: nothing is reserved before it was read.
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Answer, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Answer::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Answer, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Answer::Map(map))
    }
}
