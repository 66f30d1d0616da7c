//! What stubs were asked, told when they end.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Calls that got a recorded answer.
    pub served: u64,
    /// Those that got an answer which was given before, as there were no more.
    pub repeated: u64,
    /// Calls that are not in the recording.
    pub unmatched: u64,
    /// Recorded answers that nobody asked for.
    pub unused: u64,
    /// Which, 100 at most.
    pub unmatched_calls: BTreeMap<String, u64>,
    /// Which, 100 at most.
    pub unused_calls: BTreeMap<String, u64>,
}

/// For a terminal.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} calls served ({} with an answer given before), {} not in the recording, {} recorded answers unused",
            self.served, self.repeated, self.unmatched, self.unused
        )?;
        for (what, calls) in [("not in the recording", &self.unmatched_calls), ("unused", &self.unused_calls)]
        {
            for (call, count) in calls.iter().take(20) {
                writeln!(f, "  {what}: {call} ({count}×)")?;
            }
        }
        Ok(())
    }
}
