//! Events as PackedForward messages (Forward protocol v1,
//! <https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1>).
//!
//! What: one message for each tag: `[tag, entries, {"size": n, "chunk": id}]`, where the entries are the concatenated pairs
//! `[EventTime, record]`, and a record is the event with its types: texts, integers, doubles, booleans, arrays, maps.
//! The record is written straight from the event's bytes, without a tree between.
//! How it fails: an event that is no JSON object is an error; what is nested deeper than [`DEPTH_MAX`] goes as the text
//! that it is.

use crate::pipeline::event::{Text, Value, items, members};
use crate::pipeline::trace_view::moment;
use rmp_serde::Serializer;
use serde::ser::{Error as _, Serialize, SerializeMap, SerializeSeq};
use std::time::{SystemTime, UNIX_EPOCH};

/// Deepest nesting that is written as maps and arrays: servers limit theirs, and our stack is limited too.
const DEPTH_MAX: usize = 32;

/// Events of one tag, on their way.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// The pairs, one after the other.
    pub(super) bytes: Vec<u8>,
    /// Which events they are.
    pub(super) sequences: Vec<u64>,
}

impl Entries {
    /// Adds an event.
    ///
    /// # Errors
    /// It is no JSON object; nothing was added.
    pub(super) fn push(&mut self, sequence: u64, event: &[u8], time: Option<Text<'_>>) -> Result<(), String> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0x92, 0xd7, 0x00]); // an array of two; an extension of 8 bytes, of type 0
        self.bytes.extend_from_slice(&event_time(time));
        if let Err(error) = write(&mut self.bytes, &Object { json: event, depth: 0 }) {
            self.bytes.truncate(start);
            return Err(error);
        }
        self.sequences.push(sequence);
        Ok(())
    }

    /// The whole message.
    ///
    /// # Errors
    /// More than 4 GiB of entries.
    pub(super) fn message(&self, tag: &str, chunk: Option<&str>) -> Result<Vec<u8>, String> {
        let len = u32::try_from(self.bytes.len()).map_err(|_| "a batch of more than 4 GiB".to_owned())?;
        let mut message = Vec::with_capacity(self.bytes.len() + 128);
        message.push(0x93); // an array of three
        write(&mut message, &tag)?;
        message.push(0xc6); // bytes with a length of 32 bits
        message.extend_from_slice(&len.to_be_bytes());
        message.extend_from_slice(&self.bytes);
        write(&mut message, &Options { size: self.sequences.len(), chunk })?;
        Ok(message)
    }
}

/// Appends a value.
pub(super) fn write(into: &mut Vec<u8>, value: &impl Serialize) -> Result<(), String> {
    value.serialize(&mut Serializer::new(into)).map_err(|error| error.to_string())
}

/// Seconds and nanoseconds, big-endian. An event without a time, or of before 1970 or after 2106, happens now.
fn event_time(time: Option<Text<'_>>) -> [u8; 8] {
    let told = time.and_then(|text| moment::parse(&text.get())).and_then(|micros| {
        let seconds = u32::try_from(micros.div_euclid(1_000_000)).ok()?;
        Some((seconds, u32::try_from(micros.rem_euclid(1_000_000)).ok()? * 1000))
    });
    let (seconds, nanos) = told.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (u32::try_from(now.as_secs()).unwrap_or(u32::MAX), now.subsec_nanos())
    });
    (u64::from(seconds) << 32 | u64::from(nanos)).to_be_bytes()
}

struct Options<'a> {
    size: usize,
    chunk: Option<&'a str>,
}

impl Serialize for Options<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + usize::from(self.chunk.is_some())))?;
        map.serialize_entry("size", &self.size)?;
        if let Some(chunk) = self.chunk {
            map.serialize_entry("chunk", chunk)?;
        }
        map.end()
    }
}

/// A JSON object, as it is written.
struct Object<'a> {
    json: &'a [u8],
    depth: usize,
}

impl Serialize for Object<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // MessagePack says first how many entries there are; counting reads the text once more, and costs no memory.
        let mut all = members(self.json);
        let count = all.by_ref().count();
        if !all.is_whole() {
            return Err(S::Error::custom("the event is not a JSON object"));
        }
        let mut map = serializer.serialize_map(Some(count))?;
        for (name, value) in members(self.json) {
            map.serialize_entry(&*name.get(), &Item { value, depth: self.depth + 1 })?;
        }
        map.end()
    }
}

/// A value within an event.
struct Item<'a> {
    value: Value<'a>,
    depth: usize,
}

impl Serialize for Item<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Text(text) => serializer.serialize_str(&text.get()),
            Value::Int(number) => serializer.serialize_i64(number),
            Value::Double(number) => serializer.serialize_f64(number),
            Value::Bool(flag) => serializer.serialize_bool(flag),
            Value::Null => serializer.serialize_unit(),
            Value::Array(json) | Value::Object(json) if self.depth >= DEPTH_MAX => {
                serializer.serialize_str(&String::from_utf8_lossy(json))
            }
            Value::Object(json) => Object { json, depth: self.depth }.serialize(serializer),
            Value::Array(json) => {
                let mut list = serializer.serialize_seq(Some(items(json).count()))?;
                for value in items(json) {
                    list.serialize_element(&Item { value, depth: self.depth + 1 })?;
                }
                list.end()
            }
        }
    }
}
