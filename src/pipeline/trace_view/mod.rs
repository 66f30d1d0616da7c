//! One trace, put together again from the event files of several sidecars.
//!
//! What: [`find`] reads event files and gives the [`Trace`] that an [`Id`] means; [`text()`] and [`document()`] show it as a
//! tree; [`list`] tells which traces there are. Why: the events hold all that a tracing backend would show, so the
//! question "what became of this request" needs none. Memory is bounded: only the spans of the trace are kept, and a line
//! that does not contain the id is not parsed.
//!
//! - [`source`]: files and streams, line by line; [`reading`]: what was read, and what could not be
//! - [`span`]: an event as a span; [`moment`]: its time; [`search`]: which events belong together; [`tree`]: how they hang
//! - [`mod@text`], [`mod@document`], [`listing`]: for people, for programs, many at once; [`style`]: colours, units, hostile texts
//!
//! How it fails: a file that cannot be read is an error; a line that cannot is counted and named, and the rest is read.
//! Parents that are missing, that name themselves or each other, and clocks that disagree are shown as they are: nothing
//! is put in order silently.

mod document;
mod listing;
pub(super) mod moment;
mod reading;
mod search;
mod source;
mod span;
mod style;
mod text;
mod tree;

pub use document::document;
pub use listing::{Filter, Listing, Summary, list};
pub use reading::{Fault, FileRead, Reading};
pub use search::{Answer, Id, find};
pub use source::Source;
pub use span::{Clock, Context, Kind, Link, Span};
pub use style::Look;
pub use text::text;
pub use tree::{Node, Root, Trace};

#[cfg(test)]
mod tests;
