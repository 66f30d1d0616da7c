//! Whether two versions answer alike: answers compared value by value, and runs judged with the noise taken out.
//!
//! What: [`differences`] of two answers to one request, under [`Rules`]; a [`Tally`] of a run, which tells a regression
//! from noise by statistics instead of a fixed threshold; [`Findings`] for people and machines.
//! Why: ids, times and races make answers of the same version differ. A fixed threshold cries wolf on small runs and is deaf on
//! large ones.
//! How it fails: what cannot be parsed is compared as text or bytes; what is not all there is not compared, and
//! counted. Nothing here waits or grows without a bound.

mod body;
mod bound;
pub mod calls;
pub mod coding;
mod difference;
pub mod downstream;
mod findings;
mod heads;
mod json;
mod judge;
pub mod latency;
mod message;
pub mod rules;
mod seen;
pub mod shape;
mod tally;
#[cfg(test)]
mod tests;

pub use calls::Call;
pub use difference::{Difference, Kind};
pub use downstream::Downstream;
pub use findings::{Example, Field, Findings, Group, Judgement, LatencyFinding, Mode, Verdict};
pub use rules::Rules;
pub use seen::Seen;
pub use tally::{Case, Options, Tally};

/// Where two answers to one request differ: each path and kind once.
pub fn differences(rules: &Rules, left: &Seen<'_>, right: &Seen<'_>) -> Vec<Difference> {
    let mut found = difference::Found::default();
    if left.error != right.error && !rules.is_ignored("error") {
        found.add("error", Kind::Value, left.error, right.error);
    }
    if left.status != right.status && !rules.is_ignored("status") {
        found.add("status", Kind::Value, &left.status.to_string(), &right.status.to_string());
    }
    // Without an answer its absence is the one difference.
    if left.status != 0 && right.status != 0 {
        heads::compare(rules, left, right, &mut found);
        if !left.is_truncated && !right.is_truncated && left.error.is_empty() && right.error.is_empty() {
            body::compare(rules, left, right, &mut found);
        }
    }
    found.list
}
