//! The spool: one append-only log between the pipeline's thread and its sinks.
//!
//! What: the [`Writer`] (the pipeline's thread has it) appends encoded events; each sink reads them through a [`Cursor`]
//! of its own, on a thread of its own, at its own pace. [`Spool`] is the handle for everybody else: cursors made and
//! removed, [`Books`], [`Status`]. Why one log: a sink that is down costs a place in it, and nothing else; what a sink
//! has had is one number, and survives the process. The log of Kafka and the buffers of Vector are its ancestors; what
//! they and others lost, and why this does not, is said where it is decided.
//!
//! - [`frame`], [`segment`]: the bytes; [`sieve`]: a segment without some of its events; [`slots`]: a cursor's file
//! - [`open`]: what the last process left; [`writer`]: appending, [`outage`]: while the disk refuses; [`budget`]: too much
//! - [`pieces`]: a segment in memory; [`cursor`], [`batch`]: reading; [`books`]: what became of every event; [`index`]: what the threads have in common
//!
//! # The books
//! Each event gets the next sequence number, also one that is lost before it is written ([`Writer::skip`]). A cursor
//! settles sequence numbers in order, each once: delivered, or dropped for a [`Reason`]. So for each cursor, in every
//! reading and across restarts, `produced = delivered + dropped + queued`: all four are differences of three numbers.
//! What is missing in the log is found when the cursor comes there, and is dropped as `corrupt` or `lost`.
//!
//! # Sequence and epoch
//! The sequence goes on after a restart, and the epoch changes. The numbers that were given to events of the last instants
//! before a SIGKILL are given again: an event's id is (instance, epoch, sequence), so no two are the same. An instance
//! must not have two spools: a directory is locked.
//!
//! # What survives what
//! - SIGKILL: everything up to the last [`Writer::tick`] (it hands all bytes to the kernel). With power lost: what the
//!   kernel had written, and every audit event for which [`Writer::sync_audit`] returned `Ok`.
//! - A torn end is cut when the spool is opened; a damaged frame is skipped and counted; a damaged header is there twice.
//! - A disk that is full or broken: events go on through memory, bounded, to sinks that keep up; when the disk takes bytes
//!   again, what is in memory goes there first.
//! - Opening reads the names, the ends of the files and the last file: a backlog costs no time and no memory.
//!
//! # How it fails
//! Never towards its caller, never by panic, never by waiting for a sink. What does not fit is dropped, oldest first, debug
//! events before others and audit events last, and counted for each cursor that had not had it. The one wait is for the
//! disk: `write` when the kernel has too many dirty pages, and `fdatasync` for audit events.

mod batch;
mod books;
mod budget;
mod config;
mod cursor;
mod frame;
mod index;
mod open;
mod outage;
mod pieces;
mod segment;
mod sieve;
mod slots;
mod writer;

pub use batch::{Batch, Event};
pub use books::Books;
pub use config::Config;
pub use cursor::Cursor;
pub use index::{Damage, Spool, Start, Status};
pub(in crate::pipeline) use slots::is_name;
pub use writer::Writer;

/// How much an event matters: what is dropped first, and what must be on disk before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Dropped first.
    Debug = 0,
    /// An exchange, and all else.
    Event = 1,
    /// Who changed what: dropped last, never silently.
    Audit = 2,
}

impl Class {
    /// All, by importance.
    pub const ALL: [Class; 3] = [Class::Debug, Class::Event, Class::Audit];

    /// `debug`, `event` or `audit`.
    pub fn name(self) -> &'static str {
        match self {
            Class::Debug => "debug",
            Class::Event => "event",
            Class::Audit => "audit",
        }
    }
}

/// Why a sink does not get an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The way to the pipeline's thread was full.
    QueueFull = 0,
    /// The event is longer than `event_bytes_max`.
    TooLarge = 1,
    /// The spool had more than `disk_bytes_max`.
    DiskBudget = 2,
    /// The disk failed, or there is none, and memory had more than `memory_bytes_max`.
    Memory = 3,
    /// Its bytes are not what was written.
    Corrupt = 4,
    /// It was written, and is not there: power failed, or somebody deleted files.
    Lost = 5,
    /// The sink would not have it ([`Cursor::reject`]); it went to the dead letters.
    Rejected = 6,
}

impl Reason {
    /// All, in the order of [`Books::dropped`]. A number, once given, is never given to another: files hold it.
    pub const ALL: [Reason; 7] = [
        Reason::QueueFull,
        Reason::TooLarge,
        Reason::DiskBudget,
        Reason::Memory,
        Reason::Corrupt,
        Reason::Lost,
        Reason::Rejected,
    ];

    /// The label of metrics.
    pub fn name(self) -> &'static str {
        match self {
            Reason::QueueFull => "queue_full",
            Reason::TooLarge => "too_large",
            Reason::DiskBudget => "disk_budget",
            Reason::Memory => "memory",
            Reason::Corrupt => "corrupt",
            Reason::Lost => "lost",
            Reason::Rejected => "rejected",
        }
    }
}

#[cfg(test)]
mod tests;
