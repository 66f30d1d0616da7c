//! The exchange events of a process, read from its file sink.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::wait_for;

/// The file of events, one JSON object a line.
#[derive(Clone, Debug)]
pub struct Events {
    path: PathBuf,
    kills: usize,
}

impl Events {
    /// Of the file at `path`.
    pub fn at(path: &Path) -> Self {
        Events { path: path.to_owned(), kills: 0 }
    }

    /// Of a process that was killed so often: each kill may have cut the line that was being written, which the next
    /// process ends before it writes.
    #[must_use]
    pub fn with_kills(self, kills: usize) -> Self {
        Events { kills, ..self }
    }

    /// Every event of an exchange, or of a connection that was carried as bytes, written so far.
    ///
    /// # Panics
    /// When a whole line is not JSON.
    pub fn exchanges(&self) -> Vec<Value> {
        self.of_schemas(&["sidelight/exchange/1", "sidelight/connection/1"])
    }

    /// Every event so far of a connection that was carried as bytes, or refused before any HTTP.
    ///
    /// # Panics
    /// When a whole line is not JSON.
    pub fn connections(&self) -> Vec<Value> {
        self.of_schemas(&["sidelight/connection/1"])
    }

    /// All events so far, of whatever schema. A line that is still being written is left for the next look.
    ///
    /// # Panics
    /// When a whole line is not JSON, but for as many cut ones as there were kills.
    pub fn everything(&self) -> Vec<Value> {
        let text = std::fs::read(&self.path).unwrap_or_default();
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(&[][..], |end| &text[..end]);
        let mut cut = 0;
        let mut events = Vec::new();
        for line in whole.split(|&byte| byte == b'\n').filter(|_| !whole.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(event) => events.push(event),
                Err(error) if error.is_eof() && cut < self.kills => cut += 1,
                Err(error) => panic!("event {}: {error}", String::from_utf8_lossy(line)),
            }
        }
        events
    }

    /// The events of one schema so far.
    pub fn all(&self, schema: &str) -> Vec<Value> {
        self.of_schemas(&[schema])
    }

    fn of_schemas(&self, schemas: &[&str]) -> Vec<Value> {
        let mut events = self.everything();
        events.retain(|event| schemas.iter().any(|schema| event["schema"] == *schema));
        events
    }

    /// Waits until `count` exchange events are there; gives all.
    pub fn wait(&self, count: usize) -> Vec<Value> {
        wait_for(&format!("{count} events"), || {
            let events = self.exchanges();
            (events.len() >= count).then_some(events)
        })
    }

    /// Waits until `count` events of connections are there; gives all.
    pub fn wait_connections(&self, count: usize) -> Vec<Value> {
        wait_for(&format!("{count} events of connections"), || {
            let events = self.connections();
            (events.len() >= count).then_some(events)
        })
    }

    /// Waits for the event of the exchange with this request id.
    pub fn of(&self, request_id: &str) -> Value {
        wait_for(&format!("the event of request {request_id}"), || {
            self.exchanges().into_iter().find(|event| event["request_id"] == request_id)
        })
    }

    /// Waits for an event that `is_it` accepts.
    pub fn find(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || self.exchanges().into_iter().find(|event| is_it(event)))
    }
}
