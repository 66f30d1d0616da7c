//! The control side: makes a running configuration out of a written one, and replaces it whole or not at all.

mod clusters;
mod compile;
mod explain;
mod journal;
pub mod recording;
mod reload;
mod snapshot;

pub use compile::{APP_CLUSTER, Compiled, Current, Refused, Surroundings, compile, offline};
pub use explain::{Question, explain};
pub use journal::read as read_journal;
pub use reload::{Control, SetLogLevel, Start};
pub use snapshot::{Refusal, Snapshot};
