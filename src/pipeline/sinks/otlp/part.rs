//! The message of one kind of telemetry, as it grows event by event.

use super::call::PREFIX_BYTES;
use super::log;
use super::proto::{self, Open};
use super::resource::{self, Known};
use super::span::{self, Became, Tools};
use crate::pipeline::Service;
use std::borrow::Cow;

/// What all messages have in common.
pub(super) struct Frame {
    resource: Box<[u8]>,
    scope: Box<[u8]>,
    known: Known,
    tools: Tools,
}

impl Frame {
    pub(super) fn new(service: &Service) -> Frame {
        let (resource, scope) = (resource::encoded(service), resource::scope());
        Frame { resource, scope, known: Known::new(service), tools: Tools::default() }
    }
}

/// A message: `Export…Request { resource_…s = 1 { resource = 1, scope_…s = 2 { scope = 1, items = 2 } } }`, the same for
/// the three kinds.
#[derive(Default)]
pub(super) struct Part {
    /// The message, with room for gRPC's prefix before it.
    pub(super) out: Vec<u8>,
    /// The events that it is made of.
    pub(super) sequences: Vec<u64>,
    open: Option<(Open, Open)>,
}

/// How an event is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Span,
    Log,
}

impl Part {
    pub(super) fn clear(&mut self) {
        self.out.clear();
        self.sequences.clear();
        self.open = None;
    }

    /// Appends an event of ours.
    #[inline]
    pub(super) fn push(&mut self, frame: &mut Frame, form: Form, sequence: u64, payload: &[u8]) -> Became {
        // Protocol Buffers' texts are UTF-8, or the whole message is refused.
        let payload = match str::from_utf8(payload) {
            Ok(_) => Cow::Borrowed(payload),
            Err(_) => Cow::Owned(String::from_utf8_lossy(payload).into_owned().into_bytes()),
        };
        if self.open.is_none() {
            self.begin(frame);
        }
        self.out.reserve(payload.len() * 2);
        let became = match form {
            Form::Span => span::write(&mut self.out, &mut frame.tools, &frame.known, &payload),
            Form::Log => log::write(&mut self.out, &mut frame.tools, &frame.known, &payload),
        };
        if became == Became::Written {
            self.sequences.push(sequence);
        }
        became
    }

    fn begin(&mut self, frame: &Frame) {
        self.make_room();
        let resource = proto::open(&mut self.out, 1);
        self.out.extend_from_slice(&frame.resource);
        let scope = proto::open(&mut self.out, 2);
        self.out.extend_from_slice(&frame.scope);
        self.open = Some((resource, scope));
    }

    fn make_room(&mut self) {
        if self.out.is_empty() {
            self.out.extend_from_slice(&[0; PREFIX_BYTES]);
        }
    }

    /// Ends what was begun.
    pub(super) fn finish(&mut self) {
        if let Some((resource, scope)) = self.open.take() {
            proto::close(&mut self.out, scope);
            proto::close(&mut self.out, resource);
        }
    }

    /// Appends resources that were encoded elsewhere; after [`Part::finish`].
    pub(super) fn append(&mut self, message: &impl prost::Message) {
        self.make_room();
        // Writing into memory does not fail.
        let _ = message.encode(&mut self.out);
    }
}

/// The encoder alone, for the benchmark.
#[doc(hidden)]
pub struct Encoder {
    frame: Frame,
    part: Part,
}

impl Encoder {
    /// For events of `service`.
    pub fn new(service: &Service) -> Encoder {
        Encoder { frame: Frame::new(service), part: Part::default() }
    }

    /// Appends an exchange.
    pub fn span(&mut self, payload: &[u8]) -> Became {
        self.part.push(&mut self.frame, Form::Span, 0, payload)
    }

    /// Appends any other event.
    pub fn log(&mut self, payload: &[u8]) -> Became {
        self.part.push(&mut self.frame, Form::Log, 0, payload)
    }

    /// The message, which is ended with this.
    pub fn finish(&mut self) -> &[u8] {
        self.part.finish();
        self.part.out.get(PREFIX_BYTES..).unwrap_or_default()
    }

    /// Begins anew, in the same memory.
    pub fn clear(&mut self) {
        self.part.clear();
    }
}
