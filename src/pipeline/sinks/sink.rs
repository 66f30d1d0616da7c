//! What a sink is, as its thread drives it.

use crate::pipeline::spool::Batch;
use std::time::{Duration, Instant};

/// How a sink wants its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Most events at once.
    pub(crate) events_max: usize,
    /// Most bytes at once, as they stand in the spool.
    pub(crate) bytes_max: usize,
    /// How long an event may wait for others to go with it.
    pub(crate) linger: Duration,
    /// How often [`Sink::idle`] is called when there is nothing to send.
    pub(crate) idle_interval: Duration,
    /// How long one [`Sink::send`] may take; the sink keeps to it.
    pub(crate) timeout: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            events_max: 1024,
            bytes_max: 1 << 20,
            linger: Duration::from_millis(200),
            idle_interval: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
        }
    }
}

/// One place that events go to. It has a thread of its own, so every call may block, for as long as `deadline` says.
pub(crate) trait Sink: Send {
    /// How it wants its events; asked once.
    fn pace(&self) -> Pace;

    /// Sends the events, in order. They are whole JSON objects without a line end.
    ///
    /// # Errors
    /// None of them was taken, or so many that all may be sent again (the same events come again, perhaps with more
    /// behind them); a sink that knows which were taken may remember their sequence numbers and leave those out.
    fn send(&mut self, batch: &Batch, deadline: Instant) -> Result<Sent, Failure>;

    /// Is called when there is nothing to send: what is due by time. Returns what is delivered meanwhile.
    ///
    /// # Errors
    /// As [`Sink::send`]: everything that is not settled comes again.
    fn idle(&mut self, deadline: Instant) -> Result<Sent, Failure> {
        let _ = deadline;
        Ok(Sent::nothing())
    }

    /// Opens what it writes to anew (SIGHUP), where that means something.
    fn reopen(&mut self) {}

    /// The last call, after the last event: what is held goes out.
    ///
    /// # Errors
    /// As [`Sink::send`]; what is not settled is sent by the next process.
    fn close(&mut self, deadline: Instant) -> Result<Sent, Failure> {
        self.idle(deadline)
    }
}

/// What became of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// All events up to this sequence number are settled; `None`: nothing more than before.
    pub(crate) through: Option<u64>,
    /// Those among them that the other side would not have, for ever, and why.
    pub(crate) rejected: Vec<(u64, String)>,
    /// Of those that are settled: events that this sink has no form for, and has not sent.
    pub(crate) passed_over: u64,
}

impl Sent {
    /// Everything in `batch` is delivered.
    pub(crate) fn all(batch: &Batch) -> Sent {
        Sent { through: batch.last_sequence(), ..Sent::default() }
    }

    /// Nothing is settled that was not before.
    pub(crate) fn nothing() -> Sent {
        Sent::default()
    }
}

/// Why nothing was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It may work later: the same events are sent again.
    Retry {
        /// One line for people.
        reason: String,
        /// Not before this long, where the other side said so (Retry-After).
        after: Option<Duration>,
    },
    /// The other side will not have these events whatever happens: each is tried alone, and what is refused alone goes to
    /// the dead letters.
    Refused {
        /// One line for people.
        reason: String,
    },
}

impl Failure {
    /// It may work later.
    pub(crate) fn retry(reason: impl Into<String>) -> Failure {
        Failure::Retry { reason: reason.into(), after: None }
    }

    /// It never will.
    pub(crate) fn refused(reason: impl Into<String>) -> Failure {
        Failure::Refused { reason: reason.into() }
    }

    /// What is told to people.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Failure::Retry { reason, .. } | Failure::Refused { reason } => reason,
        }
    }
}
