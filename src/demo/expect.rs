//! What a run must have shown; what it did not show fails it.

use super::terminal::{Style, Terminal};

/// The expectations so far.
#[derive(Debug, Default)]
pub(super) struct Expectations(Vec<(bool, String)>);

impl Expectations {
    /// Notes whether something was observed.
    pub(super) fn expect(&mut self, is_met: bool, what: impl Into<String>) {
        self.0.push((is_met, what.into()));
    }

    /// Prints them; whether all were met.
    pub(super) fn tell(&self, terminal: Terminal) -> bool {
        terminal.heading("Was it as expected?");
        for (is_met, what) in &self.0 {
            let mark =
                if *is_met { terminal.paint(Style::Good, "✓") } else { terminal.paint(Style::Bad, "✗") };
            terminal.line(&format!("   {mark} {what}"));
        }
        self.0.iter().all(|(is_met, _)| *is_met)
    }
}
