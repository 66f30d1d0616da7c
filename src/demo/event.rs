//! The sidecars' event files, as anybody could read them.

use serde_json::Value;
use std::fs;
use std::path::Path;

const EXCHANGE: &str = "sidelight/exchange/1";

/// One event.
#[derive(Clone, Debug)]
pub(super) struct Event(Value);

impl Event {
    /// The text of a field; empty when it is absent.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The number of a field; 0 when it is absent.
    pub(super) fn number(&self, name: &str) -> u64 {
        self.0.get(name).and_then(Value::as_u64).unwrap_or(0)
    }

    /// The milliseconds of a field; 0 when it is absent.
    pub(super) fn millis(&self, name: &str) -> f64 {
        self.0.get(name).and_then(Value::as_f64).unwrap_or(0.0)
    }

    /// What no other event has: the process and its count. A sink that sends an event again sends the same.
    pub(super) fn id(&self) -> (u64, u64) {
        let number = |name: &str| self.0["id"][name].as_u64().unwrap_or(0);
        (number("epoch"), number("sequence"))
    }

    /// Whether it is a span of a trace that is recorded.
    pub(super) fn is_recorded_span(&self) -> bool {
        matches!(self.text("schema"), EXCHANGE | "sidelight/span/1") && self.0["sampled"] == true
    }

    /// Whether it is an inbound exchange.
    pub(super) fn is_inbound(&self) -> bool {
        self.text("sidelight.direction") == "inbound"
    }
}

/// The exchanges in a file, in the order in which they ended. A file that is not there has none; a line that is not
/// JSON is one that is being written.
pub(super) fn exchanges(file: &Path) -> Vec<Event> {
    events(file, EXCHANGE)
}

/// The events of one schema in a file.
pub(super) fn events(file: &Path, schema: &str) -> Vec<Event> {
    let mut events = all(file);
    events.retain(|event| event.text("schema") == schema);
    events
}

/// All events in a file.
pub(super) fn all(file: &Path) -> Vec<Event> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).map(Event).collect()
}

/// The middle of a list of durations, in milliseconds; 0 for none.
pub(super) fn median(mut millis: Vec<f64>) -> f64 {
    millis.sort_by(f64::total_cmp);
    millis.get(millis.len() / 2).copied().unwrap_or(0.0)
}
