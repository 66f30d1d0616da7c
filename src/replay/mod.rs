//! Replay: recorded traffic, sent again.
//!
//! What: an index of the recording is made ([`plan`]); one thread reads it again in the order of starts ([`feed`]), one
//! waits for each exchange's time on an absolute [`schedule`] and hands it over ([`pace`]), one or more send and read
//! the answers ([`driver`]), and [`engine`] adds up and judges ([`verdict`]). The loop is open: a slow target makes
//! latency, not a lower rate. A replayer that cannot keep up says INVALID, and never slows down in silence.
//!
//! Sessions and comparison are put in by [`seam`]. What must not happen by mistake is in [`safety`].

mod answer;
mod capacity;
pub mod compare;
mod driver;
mod engine;
mod feed;
mod histogram;
mod judge;
mod pace;
mod plan;
pub mod report;
mod request;
pub mod safety;
pub mod schedule;
pub mod seam;
pub mod session;
mod source;
pub mod stub;
mod tally;
mod target;
pub mod verdict;

pub use answer::Answer;
pub use engine::{Options, Passes, Progress, run};
pub use histogram::{Histogram, PERCENTILES, Summary};
pub use pace::Stop;
pub use plan::{Plan, Wanted};
pub use source::{Entries, Events, Source};
pub use target::Target;

#[cfg(test)]
mod tests;
