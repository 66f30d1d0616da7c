//! What listens to an exchange while its bytes pass.
//!
//! A codec tells the [`Recorder`](super::Recorder) of heads, content and trailers as they cross the wire to and from the
//! client; where the worker's [`Sink`](super::Sink) asked for it, a tap hears of them. So what is recorded is what the
//! client sent and got, whatever the layers made of it. A tap cannot fail or delay an exchange.

use super::Record;
use crate::svc::{Fields, RequestHead, ResponseHead};

/// Which way bytes went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Side {
    /// From the client.
    #[default]
    Request,
    /// To the client.
    Response,
}

impl Side {
    /// `request` or `response`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Side::Request => "request",
            Side::Response => "response",
        }
    }
}

/// See the module. `record` is what is known so far.
pub trait Tap {
    /// The request's head, as the client sent it.
    fn request(&mut self, record: &Record, head: &RequestHead);

    /// A head of the answer as the client gets it; interim ones (1xx) come before the last.
    fn response(&mut self, record: &Record, head: &ResponseHead);

    /// A piece of content, or of what a tunnel carries.
    fn data(&mut self, record: &Record, side: Side, data: &[u8]);

    /// Trailers.
    fn trailers(&mut self, record: &Record, side: Side, fields: &Fields);

    /// The end, with the whole record, which may be told what became of the recording.
    fn end(self: Box<Self>, record: &mut Record);
}
