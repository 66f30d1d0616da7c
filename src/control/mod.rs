//! The control side: makes a running configuration out of a written one, and replaces it whole or not at all.

mod compile;
mod explain;
mod reload;
mod snapshot;

pub use compile::{APP_CLUSTER, Compiled, Current, Refused, compile, offline, tables};
pub use explain::{Question, explain};
pub use reload::{Control, SetLogLevel, Start};
pub use snapshot::{Refusal, Snapshot};
