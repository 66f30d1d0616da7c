//! What Envoy's tap filter writes: `TraceWrapper` messages, as JSON or as Protocol Buffers with their lengths before them.
//!
//! A buffered trace is an exchange; streamed segments of one `trace_id` are put together until nothing more of it can wait.
//! Times are there only since Envoy writes `headers_received_time`; without them, exchanges begin at 0. Source:
//! <https://github.com/envoyproxy/envoy/tree/main/api/envoy/data/tap/v3>; the numbers of fields are from there.
//! How it fails: a bad record is a problem, the next is read; a length beyond the file ends it, for nothing tells where
//! the next record is. What waits is bounded, and what had to go early is marked truncated.

mod json;
mod proto;
mod stitch;
mod write;

pub(super) use write::Writer;

use super::json::{Json, Taken};
use super::{Import, Notes, Problem, RECORD_BYTES_MAX, base64, make, moment};
use crate::record::{Entry, Field};
use bytes::Bytes;
use std::io::{self, BufRead, Read};

/// How traces are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coding {
    /// JSON, bodies in Base64 (`JSON_BODY_AS_BYTES`).
    #[default]
    Json,
    /// `PROTO_BINARY_LENGTH_DELIMITED`.
    Proto,
}

/// Content of a trace.
#[derive(Debug, Default)]
struct Body {
    bytes: Bytes,
    is_truncated: bool,
}

/// One side of a buffered trace.
#[derive(Debug, Default)]
struct Message {
    headers: Vec<Field>,
    body: Body,
    trailers: Vec<Field>,
    /// Nanoseconds since 1970; 0: not known.
    received_ns: u64,
}

/// A piece of a streamed trace.
#[derive(Debug)]
enum Piece {
    RequestHeaders(Vec<Field>),
    RequestBody(Body),
    RequestTrailers(Vec<Field>),
    ResponseHeaders(Vec<Field>),
    ResponseBody(Body),
    ResponseTrailers(Vec<Field>),
}

/// A `TraceWrapper`.
#[derive(Debug)]
enum Trace {
    Buffered {
        request: Message,
        response: Option<Message>,
        peer: String,
    },
    Segment {
        id: u64,
        piece: Piece,
    },
    /// Of a transport socket: bytes and not exchanges.
    Socket,
}

/// Whether a file begins as a message with its length: the wrapper has one field, and that is the whole.
pub(super) fn is_message(start: &[u8]) -> bool {
    let Some((len, rest)) = crate::record::wire::varint(start) else { return false };
    let Some((tag, rest)) = crate::record::wire::varint(rest) else { return false };
    let Some((inner, _)) = crate::record::wire::varint(rest) else { return false };
    let head = |value: u64| (64 - value.max(1).leading_zeros() as u64).div_ceil(7);
    matches!(tag, 0x0a | 0x12 | 0x1a | 0x22) && Some(len) == inner.checked_add(1 + head(inner))
}

/// Reads traces.
pub(super) struct Reader<R> {
    json: Json<R>,
    /// `None` before the first byte was seen.
    is_json: Option<bool>,
    is_ended: bool,
    raw: Vec<u8>,
    number: u64,
    /// Where the trace begins that was read last.
    at: (u64, u64),
    traces: stitch::Traces,
    notes: Notes,
}

impl<R: BufRead> Reader<R> {
    pub fn new(input: R) -> Reader<R> {
        Reader {
            json: Json::new(input),
            is_json: None,
            is_ended: false,
            raw: Vec::new(),
            number: 0,
            at: (0, 1),
            traces: stitch::Traces::default(),
            notes: Notes::default(),
        }
    }

    /// The next trace, with its place; `None` at the end.
    fn trace(&mut self) -> io::Result<Option<Result<Trace, Problem>>> {
        let is_json = match self.is_json {
            Some(is_json) => is_json,
            // A message of 123 bytes begins with a brace, too; but its first lengths do not go together in JSON.
            None => {
                let first = self.json.start()?;
                *self.is_json.insert(!is_message(&first))
            }
        };
        self.number += 1;
        if is_json { self.json_trace() } else { self.proto_trace() }
    }

    fn json_trace(&mut self) -> io::Result<Option<Result<Trace, Problem>>> {
        // Some tools put traces into a list.
        while self.json.peek()?.is_some_and(|byte| matches!(byte, b'[' | b',' | b']')) {
            for byte in *b"[,]" {
                let _ = self.json.take_byte(byte)?;
            }
        }
        if self.json.peek()?.is_none() {
            return Ok(None);
        }
        let (offset, line, number) = (self.json.offset, self.json.line, self.number);
        self.at = (offset, line);
        let problem =
            |message: String| Err(Problem::new(offset, Some(line), format!("trace {number}: {message}")));
        Ok(Some(match self.json.take_value(&mut self.raw, RECORD_BYTES_MAX)? {
            Taken::Whole => match serde_json::from_slice(&self.raw) {
                Ok(value) => json::trace(&value).or_else(problem),
                Err(error) => problem(error.to_string()),
            },
            Taken::TooLong(bytes) => {
                problem(format!("{bytes} bytes are more than {RECORD_BYTES_MAX}; passed over"))
            }
            Taken::Cut => problem("the file ends within it".into()),
            Taken::None => {
                for byte in *b":}" {
                    let _ = self.json.take_byte(byte)?;
                }
                problem("no JSON object where a trace has to begin".into())
            }
        }))
    }

    fn proto_trace(&mut self) -> io::Result<Option<Result<Trace, Problem>>> {
        let offset = self.json.offset;
        let number = self.number;
        self.at = (offset, 0);
        let problem =
            |message: String| Some(Err(Problem::new(offset, None, format!("trace {number}: {message}"))));
        let mut len = 0u64;
        for index in 0..10 {
            let mut byte = [0];
            if self.json.read(&mut byte)? == 0 {
                self.is_ended = true;
                return Ok(if index == 0 { None } else { problem("the file ends within its length".into()) });
            }
            let [byte] = byte;
            len |= u64::from(byte & 0x7f) << (7 * index).min(63);
            if byte & 0x80 == 0 {
                break;
            }
        }
        let kept = len.min(RECORD_BYTES_MAX as u64 + 1);
        self.raw.clear();
        let there = (&mut self.json).take(kept).read_to_end(&mut self.raw)? as u64;
        if there < kept {
            self.is_ended = true;
            return Ok(problem(format!("it says that it has {len} bytes, and {there} are there")));
        }
        if len > RECORD_BYTES_MAX as u64 {
            let passed = io::copy(&mut (&mut self.json).take(len - kept), &mut io::sink())?;
            self.is_ended = passed < len - kept;
            return Ok(problem(format!("{len} bytes are more than {RECORD_BYTES_MAX}; passed over")));
        }
        let raw = Bytes::copy_from_slice(&self.raw);
        Ok(Some(match proto::trace(&raw) {
            Some(trace) => Ok(trace),
            None => return Ok(problem("no TraceWrapper; passed over".into())),
        }))
    }

    fn step(&mut self) -> io::Result<Option<Result<Entry, Problem>>> {
        loop {
            if let Some(ready) = self.traces.ready(self.is_ended, &mut self.notes) {
                return Ok(Some(Ok(ready)));
            }
            if self.is_ended {
                return Ok(None);
            }
            let next = self.trace()?;
            let ((offset, line), number) = (self.at, self.number);
            let line = (self.is_json == Some(true)).then_some(line);
            let problem = |what: &str| Problem::new(offset, line, format!("trace {number}: {what}"));
            match next {
                None => self.is_ended = true,
                Some(Err(problem)) => return Ok(Some(Err(problem))),
                Some(Ok(Trace::Socket)) => {
                    self.notes.add("traces of transport sockets are left out: they are bytes, not exchanges")
                }
                Some(Ok(Trace::Buffered { request, response, peer })) => {
                    let made = stitch::buffered(request, response, peer, self.number, &mut self.notes);
                    return Ok(Some(made.map_err(problem)));
                }
                Some(Ok(Trace::Segment { id, piece })) => {
                    if let Err(what) = self.traces.add(id, piece) {
                        return Ok(Some(Err(problem(what))));
                    }
                }
            }
        }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Entry, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().unwrap_or_else(|error| {
            self.is_ended = true;
            Some(Err(self.json.problem(format!("cannot be read: {error}"))))
        })
    }
}

impl<R: BufRead> Import for Reader<R> {
    fn notes(&self) -> &Notes {
        &self.notes
    }
}
