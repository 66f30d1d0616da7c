//! Targets for `vegeta attack -format=json`: one JSON object a line, the content in Base64.
//!
//! Source: <https://github.com/tsenart/vegeta#-format>. Vegeta sends at a rate of its own; the recorded times are left out.

use super::make;
use super::{Export, Notes, base64};
use crate::record::Entry;
use serde_json::{Map, Value, json};
use std::io::{self, Write};

/// Writes targets.
pub(super) struct Writer<W> {
    out: W,
    notes: Notes,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Writer<W> {
        Writer { out, notes: Notes::default() }
    }
}

impl<W: Write> Export for Writer<W> {
    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let Some((head, body)) = make::sendable(entry, &mut self.notes) else { return Ok(()) };
        self.notes.add("times are left out: vegeta sends at a rate of its own");
        let mut fields: Map<String, Value> = Map::new();
        for field in head.fields.iter().filter(|field| !make::is_framing(field)) {
            let name = make::text_of(&field.name, &mut self.notes);
            let value = make::text_of(&field.value, &mut self.notes).into();
            if let Some(values) = fields.entry(name).or_insert_with(|| json!([])).as_array_mut() {
                values.push(value);
            }
        }
        let mut target = json!({
            "method": make::text_of(&head.method, &mut self.notes),
            "url": make::text_of(make::url(head).as_bytes(), &mut self.notes),
        });
        if let Value::Object(members) = &mut target {
            if !body.is_empty() {
                members.insert("body".into(), base64::encode(&body).into());
            }
            if !fields.is_empty() {
                members.insert("header".into(), fields.into());
            }
        }
        writeln!(self.out, "{target}")
    }

    fn finish(mut self: Box<Self>) -> io::Result<Notes> {
        self.out.flush()?;
        Ok(self.notes)
    }
}
