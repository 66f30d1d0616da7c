//! Key files, as people write them: YAML or JSON, with errors that say where, which key, and what to write instead.
//!
//! Why not the types of serde at once: their messages quote what they found, and here that may be a secret. So
//! any tree is read, with the place of each value, and all messages are our own. They quote names, never values.

use super::token::{KEY_ID_BYTES_MAX, is_name};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Location, Spanned};
use std::fmt;

/// The largest key file in bytes; eight keys need less than two thousand.
pub(in crate::context) const FILE_BYTES_MAX: usize = 64 << 10;

/// Why a key file is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError {
    /// The line, from 1 on; 0 when it is about the file as a whole.
    pub line: u64,
    /// The column, from 1 on; 0 when it is about the file as a whole.
    pub column: u64,
    /// The id of the key that it is about.
    pub key: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: &'static str,
}

impl KeyError {
    pub(in crate::context) fn new(
        place: Option<Location>,
        message: impl Into<String>,
        help: &'static str,
    ) -> KeyError {
        let (line, column) = place.map_or((0, 0), |place| (place.line(), place.column()));
        KeyError { line, column, key: None, message: message.into(), help }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}, column {}: ", self.line, self.column)?;
        }
        if let Some(key) = &self.key {
            write!(f, "key `{key}`: ")?;
        }
        write!(f, "{}: {}", self.message, self.help)
    }
}

impl std::error::Error for KeyError {}

const FORM_HELP: &str = "write `active: k1` and `keys: { k1: { algorithm: …, … } }`";

/// A key file whose form is right.
pub(in crate::context) struct KeyFile {
    active: Option<(String, Location)>,
    pub keys: Vec<Listed>,
}

/// One entry of `keys`.
pub(in crate::context) struct Listed {
    pub id: String,
    place: Location,
    entries: Vec<Entry>,
}

struct Entry {
    name: String,
    place: Location,
    value: Value,
}

impl KeyFile {
    pub(in crate::context) fn parse(text: &str, keys_max: usize) -> Result<KeyFile, KeyError> {
        if text.len() > FILE_BYTES_MAX {
            return Err(KeyError::new(None, "the key file is larger than 64 KiB", FORM_HELP));
        }
        let root: Spanned<Value> = serde_yaml::from_str(text).map_err(|error| {
            // The parser's own words may quote the file.
            KeyError::new(error.location(), "this is not valid YAML, or a key is written twice", FORM_HELP)
        })?;
        let Value::Map(entries) = root.value else {
            return Err(KeyError::new(Some(root.referenced), "this is not a key file", FORM_HELP));
        };
        let mut file = KeyFile { active: None, keys: Vec::new() };
        let mut end = root.referenced;
        for Entry { name, place, value } in entries {
            end = place;
            match (name.as_str(), value) {
                ("active", Value::Text(id)) => file.active = Some((id, place)),
                ("active", _) => {
                    return Err(KeyError::new(Some(place), "`active` is not the id of a key", FORM_HELP));
                }
                ("keys", Value::Map(keys)) => {
                    file.keys = keys.into_iter().map(Listed::read).collect::<Result<_, _>>()?;
                }
                ("keys", _) => {
                    return Err(KeyError::new(Some(place), "`keys` has no ids with keys", FORM_HELP));
                }
                _ => {
                    return Err(KeyError::new(Some(place), unknown(&name), "write `active` and `keys` only"));
                }
            }
        }
        if file.keys.is_empty() {
            return Err(KeyError::new(Some(end), "there is no key", FORM_HELP));
        }
        if file.keys.len() > keys_max {
            let message = format!("{} keys", file.keys.len());
            return Err(KeyError::new(
                Some(end),
                message,
                "keep at most 8: the one that signs, and those before it",
            ));
        }
        Ok(file)
    }

    /// The index of the key that `active` names.
    pub(in crate::context) fn active(
        &self,
        can_sign: impl Fn(usize) -> bool,
    ) -> Result<Option<usize>, KeyError> {
        let Some((id, place)) = &self.active else { return Ok(None) };
        let error =
            |message: &str, help| KeyError { key: shown(id), ..KeyError::new(Some(*place), message, help) };
        let Some(index) = self.keys.iter().position(|key| key.id == *id) else {
            return Err(error("`active` names a key that is not in `keys`", "name one of them"));
        };
        if !can_sign(index) {
            let help = "write its `private` half here, or remove `active`: then keys only verify";
            return Err(error("`active` names a key that cannot sign", help));
        }
        Ok(Some(index))
    }
}

impl Listed {
    fn read(Entry { name: id, place, value }: Entry) -> Result<Listed, KeyError> {
        if !is_name(&id, KEY_ID_BYTES_MAX) {
            let help = "an id has 1 to 16 of `A-Z a-z 0-9 _ -`, as in `k1`";
            return Err(KeyError {
                key: shown(&id),
                ..KeyError::new(Some(place), "a key cannot have this id", help)
            });
        }
        let Value::Map(entries) = value else {
            let error = KeyError::new(Some(place), "this is not a key", "write `{ algorithm: …, … }`");
            return Err(KeyError { key: Some(id), ..error });
        };
        Ok(Listed { id, place, entries })
    }

    /// The text under `name`.
    pub(in crate::context) fn text(&self, name: &str) -> Option<&str> {
        match &self.entries.iter().find(|entry| entry.name == name)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Refuses every name that is not among `names`, and every value that is no text.
    pub(in crate::context) fn only(&self, names: &[&str]) -> Result<(), KeyError> {
        for entry in &self.entries {
            if !names.contains(&entry.name.as_str()) {
                let error = KeyError::new(
                    Some(entry.place),
                    unknown(&entry.name),
                    "see `algorithm`: hmac_sha256 has `secret`, ed25519 has `private` or `public`",
                );
                return Err(KeyError { key: Some(self.id.clone()), ..error });
            }
            if !matches!(entry.value, Value::Text(_)) {
                let message = format!("`{}` is no text", entry.name);
                return Err(self.error(&entry.name, message, "write it in quotes"));
            }
        }
        Ok(())
    }

    /// What is wrong with the value under `name`, or with the key when there is none.
    pub(in crate::context) fn error(
        &self,
        name: &str,
        message: impl Into<String>,
        help: &'static str,
    ) -> KeyError {
        let entry = self.entries.iter().find(|entry| entry.name == name);
        let place = entry.map_or(self.place, |entry| entry.place);
        KeyError { key: Some(self.id.clone()), ..KeyError::new(Some(place), message, help) }
    }
}

/// A name that may be quoted: a secret in the place of a name is longer.
fn shown(name: &str) -> Option<String> {
    is_name(name, KEY_ID_BYTES_MAX).then(|| name.to_owned())
}

fn unknown(name: &str) -> String {
    shown(name).map_or_else(|| "an unknown name".to_owned(), |name| format!("`{name}` is unknown here"))
}

/// Any YAML.
enum Value {
    Text(String),
    Map(Vec<Entry>),
    Other,
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a mapping")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                while list.next_element::<Value>()?.is_some() {}
                Ok(Value::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Spanned<Value>>()? {
                    entries.push(Entry { name, place: value.referenced, value: value.value });
                }
                Ok(Value::Map(entries))
            }
        }

        deserializer.deserialize_any(Any)
    }
}
