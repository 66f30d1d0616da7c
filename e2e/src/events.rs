//! The exchange events of a process, read from its file sink.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::wait_for;

/// The file of events, one JSON object a line.
#[derive(Clone, Debug)]
pub struct Events {
    path: PathBuf,
}

impl Events {
    /// Of the file at `path`.
    pub fn at(path: &Path) -> Self {
        Events { path: path.to_owned() }
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

    /// Every event of these schemas so far. A line that is still being written is left for the next look.
    /// All events so far, of whatever schema.
    ///
    /// # Panics
    /// When a whole line is not JSON.
    pub fn everything(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
            .collect()
    }

    /// The events of one schema so far.
    pub fn all(&self, schema: &str) -> Vec<Value> {
        self.of_schemas(&[schema])
    }

    fn of_schemas(&self, schemas: &[&str]) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        whole
            .lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("event {line}: {error}"))
            })
            .filter(|event| schemas.iter().any(|schema| event["schema"] == *schema))
            .collect()
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
