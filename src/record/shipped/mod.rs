//! A recording somewhere else: frames of segments as events of the pipeline, and segments made of such events again.
//!
//! What: with `recording.sinks` every frame that was appended to a segment is handed on as one or more [`Piece`]s, each of
//! which becomes an event of [`SCHEMA`] and goes to the sinks that are named, so to Kafka, NATS or an S3 store. Why frames:
//! they are redacted, compressed and perhaps sealed by then, have their sums with them, and give the same file byte for
//! byte. A [`Collector`] makes the files again, of [`Lines`] that come in any order and more than once.
//! How it fails: a piece that the pipeline drops is in the pipeline's books, and a gap in the file that is made: the
//! reader of segments goes on behind it. The files in `recording.directory` do not depend on any of this.

mod collector;
mod covered;
mod lines;

#[cfg(test)]
mod tests;

pub use collector::{Collected, Collector, Taken, Wrong};
pub use lines::{Line, Lines};

use crate::svc::base64;
use std::sync::Arc;

/// The schema of the events.
pub const SCHEMA: &str = "sidelight/recording_frame/1";

/// What an event of any version of it begins with, as the pipeline encodes events.
pub const EVENT_START: &[u8] = br#"{"schema":"sidelight/recording_frame/"#;

/// The longest piece: 171 KiB in Base64. Of what events go to, NATS, Kafka and Kinesis take the least: 1 MiB by default.
pub const PIECE_BYTES_MAX: usize = 128 << 10;

/// The shortest piece, whatever the bounds of events are.
const PIECE_BYTES_MIN: usize = 1 << 10;

/// What an event has beside the piece: its head, and who tells it.
const EVENT_HEAD_BYTES: usize = 4 << 10;

/// A stretch of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The id of the recording.
    pub recording: &'a str,
    /// The number of the segment, from 1.
    pub segment: u32,
    /// Where in the segment it begins.
    pub offset: u64,
    /// What stands there.
    pub bytes: &'a [u8],
}

impl Piece<'_> {
    /// The members of its event, as a JSON object.
    pub fn members(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len().div_ceil(3) * 4 + 200);
        out.extend_from_slice(b"{\"sidelight.recording.id\":");
        let id = serde_json::Value::from(self.recording);
        out.extend_from_slice(
            format!(
                "{id},\"sidelight.recording.segment\":{},\"sidelight.recording.offset\":{}",
                self.segment, self.offset
            )
            .as_bytes(),
        );
        out.extend_from_slice(b",\"sidelight.recording.data\":\"");
        base64::encode(&mut out, self.bytes);
        out.extend_from_slice(b"\"}");
        out
    }
}

/// Takes a piece on its way. It must not wait: the recorder's thread calls it.
pub type Ship = Arc<dyn Fn(&Piece<'_>) + Send + Sync>;

/// Where the frames of segments go, beside their files.
#[derive(Clone)]
pub struct Shipping {
    ship: Ship,
    piece_bytes_max: usize,
}

impl Shipping {
    /// In pieces for events of at most so many bytes (`pipeline.spool.event_bytes_max`).
    pub fn new(event_bytes_max: usize, ship: Ship) -> Shipping {
        let room = event_bytes_max.saturating_sub(EVENT_HEAD_BYTES) / 4 * 3;
        Shipping { ship, piece_bytes_max: room.clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX) }
    }

    /// Hands on a frame that was written at `offset`.
    pub fn frame(&self, recording: &str, segment: u32, offset: u64, frame: &[u8]) {
        let mut offset = offset;
        for bytes in frame.chunks(self.piece_bytes_max) {
            (self.ship)(&Piece { recording, segment, offset, bytes });
            offset += bytes.len() as u64;
        }
    }
}

/// Whether a file with this beginning (4 KiB are enough) has events of a sidelight, a line each. What a consumer prints in
/// front of an event, such as its key, is passed over.
pub fn is_events(start: &[u8]) -> bool {
    let line = start.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty());
    let line = line.unwrap_or_default();
    let after = |name: &[u8]| memchr::memmem::find(line, name).and_then(|at| line.get(at + name.len()..));
    after(b"\"schema\"")
        .and_then(|rest| rest.trim_ascii_start().strip_prefix(b":"))
        .is_some_and(|rest| rest.trim_ascii_start().starts_with(b"\"sidelight/"))
}
