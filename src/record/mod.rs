//! Recording: real traffic, kept so that it can be sent again.
//!
//! What: where a rule asks for it, a worker's tap writes what passes into a buffer, as [events](entry::Event); when the
//! exchange ends, the buffer goes to one thread, which redacts it, compresses it and appends it to a [segment]. Nothing
//! here blocks the data path: what does not fit is shed, whole exchanges at a time, and counted.
//!
//! - [`entry`]: what is recorded of an exchange; [`wire`]: its bytes; [`messages`]: gRPC messages and WebSocket frames in it
//! - `capture`: the tap; [`rules`]: what is recorded; [`recorder`]: the thread; [`redact`], [`seal`]: what is not to be read
//! - [`segment`]: a file; [`store`]: a directory of them that is written; [`recording`]: one that is read
//! - [`shipped`]: a recording somewhere else, as events of the pipeline
//! - [`formats`]: what other programs write and read
//! - [`header`]: what a segment says of itself, and the books; [`error`]: what is wrong with one, and where

mod books;
mod capture;
pub mod config;
pub mod entry;
pub mod error;
pub mod formats;
pub mod header;
pub mod messages;
pub mod recorder;
pub mod recording;
pub mod redact;
pub mod rules;
pub mod seal;
pub mod segment;
pub mod shipped;
pub mod store;
pub mod wire;

pub use capture::Taps;
pub use config::Config;
pub use entry::{Content, Entry, Event, Field, RequestHead, ResponseHead, Side, What};
pub use error::{Error, Problem};
pub use header::{Books, Header};
pub use recorder::{About, Recorder, Setup, Status, Told};
pub use recording::{Entries, Events, Query, Recording, Segment};
pub use rules::{RouteRule, Rule, Rules};
pub use store::Writer;

#[cfg(test)]
mod tests;
