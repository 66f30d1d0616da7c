//! HAR 1.2: one JSON document with a list of entries, as browsers save it.
//!
//! A HAR tells less than an [`Entry`](crate::record::Entry): milliseconds, no pieces, no trailers, no resets, no context. What it has no member for
//! is in `_sidelight`, which other programs pass over, so that a file of ours is read back as it was. WebSocket messages are
//! in `_webSocketMessages`, as Chrome writes them. Source: <http://www.softwareishard.com/blog/har-12-spec/>.
//! How it fails: entries are cut out of the document one by one, so that a bad one is a problem with its place and the
//! next is read; only an end in the middle of the document is the end.

mod context;
mod members;
mod read;
mod websocket;
mod write;

pub(super) use read::Reader;
pub(super) use write::Writer;

use super::{base64, make};

/// The member with what HAR has none for.
const EXTENSION: &str = "_sidelight";

/// The member with WebSocket messages.
const MESSAGES: &str = "_webSocketMessages";
