//! Stubs: a recording answers the outbound calls of a service, so that it is exercised alone, without its dependencies.
//!
//! What: [`Answers`] are loaded from a recording's outbound side; [`serve`] gives them over HTTP/1.1 and HTTP/2 without
//! TLS, gRPC with its trailers; a [`Report`] tells what was asked, what was not known and what was not asked.
//! Why: a replay against a service whose dependencies are live does twice what they did once, and is as noisy as they are.
//! How it fails: a call that is not known gets 502 with a problem document which names the nearest recorded ones; a recorded reset is a
//! reset again. Bounded: connections, streams, content and answers.

mod answers;
mod body;
mod report;
mod server;
#[cfg(test)]
mod tests;

pub use answers::{Answers, Call};
pub use report::Report;
pub use server::serve;

/// When an answer is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Latency {
    /// At once.
    #[default]
    None,
    /// As long after the call, and in the rhythm, as it was recorded.
    Recorded,
}

/// How stubs behave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// When an answer is given.
    pub latency: Latency,
}
