//! What the admin API reads and changes, of a running proxy.

use crate::admin;
use crate::control::{Control, Snapshot, recording};
use serde_json::Value;

/// The control side, as the admin API knows it.
pub(super) struct Bridge(pub(super) Control);

impl admin::Control for Bridge {
    fn snapshot(&self) -> Snapshot {
        self.0.snapshot()
    }

    fn drain(&self) -> bool {
        self.0.ask_to_drain()
    }

    fn explain(&self, question: &Value) -> Result<Value, String> {
        self.0.explain(question)
    }

    fn recording(&self) -> Value {
        recording::status(self.0.recorder())
    }

    fn record(&self, given: &Value) -> Result<Value, String> {
        recording::demand(self.0.recorder(), given)
    }

    fn stop_recording(&self, id: Option<&str>) -> usize {
        self.0.recorder().withdraw(id)
    }

    fn set_log_level(&self, level: &str) -> Result<(), String> {
        self.0.set_log_level(level)
    }
}
