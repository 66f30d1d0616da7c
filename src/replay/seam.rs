//! Where sessions and comparison are put in.
//!
//! Both are plain objects that the engine calls: a [`Session`] lives on a driver's thread and sees all exchanges of an
//! account in their order, before they are sent and after they were answered; a [`Collector`] lives on a thread of its
//! own and gets each exchange with what every target answered. Neither can slow the schedule: the way to the collector
//! is bounded, and what does not fit is counted as `not compared`.

use super::Answer;
use crate::record::{Entry, RequestHead};
use bytes::Bytes;
use std::sync::Arc;

/// Whose state it is: an account of the recording (or a connection, where no account is known), a clone of it, and the
/// target that it talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    /// The account, or the connection without one; the same in each run of the same recording.
    pub key: u64,
    /// 0, and the clones from 1.
    pub clone: u32,
    /// Which target, from 0.
    pub target: u32,
}

/// A request that is about to be sent. Framing fields are made right afterwards.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// Its head, with the fields of the replay in it.
    pub head: RequestHead,
    /// Its content, where it is held as a whole (up to 1 MiB); `None` where it streams, and cannot be rewritten.
    pub body: Option<Bytes>,
    /// Which pass over the recording (`--loop`), from 0.
    pub pass: u32,
}

/// What learns from answers and changes later requests. One object for each driver thread.
pub trait Session: Send {
    /// Changes a request before it is sent.
    fn rewrite(&mut self, actor: &Actor, entry: &Entry, request: &mut Request);
    /// Sees what was answered to it.
    fn learn(&mut self, actor: &Actor, entry: &Entry, answer: &Answer);
}

/// What compares answers.
pub trait Collector: Send {
    /// One exchange, and the answer of each target in the order of the targets; `None` for one that it was not sent to.
    fn take(&mut self, entry: &Entry, answers: &[Option<Answer>]);
    /// The end of the run: the document that goes into the result, and whether the comparison passed.
    fn finish(self: Box<Self>) -> (serde_json::Value, bool);
}

/// Makes a [`Session`] for each driver.
pub type SessionFactory = Arc<dyn Fn() -> Box<dyn Session> + Send + Sync>;

/// What the caller puts in; nothing by default.
#[derive(Default)]
pub struct Hooks {
    /// Sessions.
    pub session: Option<SessionFactory>,
    /// Comparison.
    pub collector: Option<Box<dyn Collector>>,
}
