//! The inbound exchanges under way, and whom a call of the application serves: how a context gets through an application
//! that has never heard of it.
//!
//! What: each worker keeps the contexts that it handed to the application in a [`Shard`]; an outbound request looks
//! through all of them. What it brings decides, the most certain first:
//!
//! 1. a `traceparent`: its parent is never touched. The exchange whose span it names, or the exchanges of its trace where
//!    all of them have one context, can add fields to it;
//! 2. a request id, and another field that is echoed by configuration: the one exchange that has most of them. Two that have
//!    as much, one that has the one and another that has the other: nobody knows;
//! 3. nothing: the exchange that is alone. With two or more under way nobody can know, so there is no parent: those
//!    that it may be are told as links, and never decide anything.
//!
//! What makes that certain:
//!
//! - After an exchange that ended early (its client left, its time was over) the application may still work for it, for
//!   [`GHOST`]. Until then "alone" is not believed, nor are its ids, which a retry of its client has too.
//! - An application that calls out while it serves nobody does work of its own, which may fall into any exchange; so "alone"
//!   is believed again only after [`BACKGROUND`] without such a call.
//! - An exchange that is older than [`ALONE_MAX`] is a stream: it hides that the application calls out for itself, so it is not
//!   believed to be what a call serves.
//! - A full shard does not know all exchanges. Then nothing is believed but the span.
//!
//! What stays uncertain, and why "alone" can be switched off for a listener ([`Call::believes_sole`]): work of the
//! application's own (a timer, a queue, what goes on after an answer) is taken for that of the exchange that is alone until
//! one such call falls into a moment without any exchange. A service that is hardly ever idle may take long to get there. In
//! the same way a call that is made after its answer, with a request id that a later exchange brought again, is that later one's.
//!
//! Why so careful: Istio, Linkerd and Envoy leave this to the application, because a wrong parent is worse than none. Tools
//! that guess by time are wrong as soon as two requests overlap.
//!
//! Position: a word; [`crate::protocol`] enters and looks up, the end of the [`Record`](super::Record) leaves. Cost: a lock
//! of the worker's own for each inbound exchange, and a hash of its ids; for an outbound request a lock of each worker, and a
//! comparison with each exchange under way if it brings something, so it is cheap below some hundred of them.
//!
//! How it fails: a full shard takes no more exchanges, and then no call is given a parent.

mod search;
mod shard;
#[cfg(test)]
mod tests;

pub use shard::{Place, Shard};

use crate::context::TraceParent;
use arc_swap::ArcSwap;
use search::Search;
use shard::Belief;
use std::sync::Arc;
use std::time::Duration;

/// How long an application may still work for an exchange that ended early. The default request timeout is 15 s, and what
/// was begun is seldom longer at work than a minute.
pub const GHOST: Duration = Duration::from_secs(60);
/// How long an application that called out while it served nobody is taken to do so again: longer than the usual timers.
pub const BACKGROUND: Duration = Duration::from_secs(600);
/// For how long an exchange that is alone is believed to be the one that is served. The default request timeout is 15 s;
/// what lasts longer than a minute is a stream or a tunnel.
pub const ALONE_MAX: Duration = Duration::from_secs(60);
/// The most exchanges that a worker keeps.
pub const ENTRIES_MAX: usize = 65_536;
/// The most exchanges that are told as links.
pub const LINKS_MAX: usize = 8;
/// Longest context that is kept; a longer one is known by its ids only.
pub const TEXT_BYTES_MAX: usize = 16 << 10;

/// All of a process. See the module.
#[derive(Debug, Default)]
pub struct InFlight {
    /// One for each worker.
    shards: ArcSwap<Vec<Arc<Shard>>>,
    belief: Arc<Belief>,
}

/// What an exchange is known by.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    /// Its trace, with the span that the application is given as the parent. The span is this exchange's own.
    pub trace: TraceParent,
    /// Its request id; empty without one.
    pub request_id: &'a [u8],
    /// The value of the field that is echoed by configuration; empty without one.
    pub echo: &'a [u8],
}

/// What an outbound request brings, as the application sent it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Call<'a> {
    /// Its `traceparent` (or that of another format). With one, nothing else is looked at.
    pub trace: Option<TraceParent>,
    /// Its request id; empty without one.
    pub request_id: &'a [u8],
    /// The value of the field that is echoed by configuration; empty without one.
    pub echo: &'a [u8],
    /// Whether the exchange that is alone is believed to be the one.
    pub believes_sole: bool,
}

/// Which exchange a call serves, and how that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The one whose span is the call's parent: exact.
    Span,
    /// It carries the trace of one or more, under a span of its own, and all of them have the context that was found. Which
    /// of them it serves is not known.
    Trace,
    /// The only one with its request id.
    RequestId,
    /// The only one with its echoed field, and no other has its request id.
    Echo,
    /// The only one.
    Sole,
    /// There are some, and nobody knows which: no parent. Never for a call with a trace.
    Lost,
    /// There is none: a call of the application's own; or it has a trace that none of them can add to.
    Nobody,
}

/// What was found. Buffers are reused.
#[derive(Debug, Default)]
pub struct Found {
    /// The exchange's trace, with the span that the application was given as the parent; for [`Match::Trace`] that of any
    /// one of them. `None` for [`Match::Lost`] and [`Match::Nobody`].
    pub trace: Option<TraceParent>,
    /// Its context, in the form of whoever entered it; empty where it is too long to be kept.
    pub context: Vec<u8>,
    /// For [`Match::Lost`]: trace and span of those that it may be, at most [`LINKS_MAX`].
    pub links: Vec<([u8; 16], [u8; 8])>,
}

impl InFlight {
    /// Nobody is under way.
    pub fn new() -> Arc<InFlight> {
        Arc::default()
    }

    /// A shard for one more worker; kept as long as this is.
    pub fn shard(&self) -> Arc<Shard> {
        let shard = Arc::new(Shard::new(&self.belief));
        self.shards.rcu(|shards| shards.iter().chain([&shard]).map(Arc::clone).collect::<Vec<_>>());
        shard
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.shards.load().iter().map(|shard| shard.count()).sum()
    }

    /// Whether "alone" is believed at `now_ns`, by the clock of [`clock_ns`](crate::cluster::clock_ns).
    pub fn believes_sole(&self, now_ns: u64) -> bool {
        self.belief.in_sole(now_ns)
    }

    /// Shows all that have this trace, or without one this request id (compared by its hash; the context has the id itself)
    /// to `seen`, with their contexts. It decides nothing and is remembered nowhere. `seen` is called under a worker's lock,
    /// so it only copies.
    pub fn look_up(
        &self,
        trace_id: Option<[u8; 16]>,
        request_id: &[u8],
        mut seen: impl FnMut(&TraceParent, &[u8]),
    ) {
        let request = shard::hash(request_id);
        for shard in self.shards.load().iter() {
            shard.each(|entry| {
                let is_meant = match trace_id {
                    Some(trace_id) => entry.ids.trace.trace_id == trace_id,
                    None => request != 0 && entry.ids.request == request,
                };
                if is_meant {
                    seen(&entry.ids.trace, &entry.context);
                }
            });
        }
    }

    /// Looks for the exchange that `call` serves. Once for each call: one that serves nobody is remembered as such.
    pub fn find(&self, call: &Call<'_>, now_ns: u64, found: &mut Found) -> Match {
        let mut search = Search::new(call, now_ns, found);
        for shard in self.shards.load().iter() {
            shard.look(&mut search);
        }
        // Asked after all shards were looked at: who left early in between has said so by now.
        let result = search.result(|| self.belief.in_sole(now_ns));
        if result == Match::Nobody && call.trace.is_none() {
            self.belief.note_background(now_ns);
        }
        result
    }
}
