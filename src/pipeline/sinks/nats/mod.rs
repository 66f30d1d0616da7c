//! Events to NATS JetStream, by the client of its makers.
//!
//! What: each event is published with its id (instance-epoch-sequence) as `Nats-Msg-Id`, so that the server itself drops
//! what comes twice within its window, and counts as delivered when the stream has acknowledged it. All events of a batch
//! are published before the first acknowledgement is waited for.
//!
//! The client answers the server's pings and moves to another server by itself, so its runtime has a thread of its own and
//! runs between batches too. What was not acknowledged on the connection that broke comes again; what was acknowledged
//! does not.
//!
//! How it fails: no server, no stream for the subject, a stream that is full, a missing acknowledgement: the same events come
//! again. An event that is larger than the server or the stream takes: refused.
//!
//! Without the feature `nats` of the build, a configuration that names it is an error.

pub mod config;
pub use config::Config;

#[cfg(feature = "nats")]
mod session;
#[cfg(feature = "nats")]
mod sink;
#[cfg(feature = "nats")]
mod target;
#[cfg(test)]
#[cfg(feature = "nats")]
mod tests;

#[cfg(not(feature = "nats"))]
mod absent;
#[cfg(not(feature = "nats"))]
pub use absent::Nats;
#[cfg(feature = "nats")]
pub use sink::Nats;
