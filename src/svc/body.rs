//! Message content: one concrete type for every layer and codec.

use super::Fields;
use super::replay::Replay;
use crate::error::{Error, Result};
use bytes::Bytes;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// A piece of content.
#[derive(Debug)]
pub enum Frame {
    /// Some bytes, never none.
    Data(Bytes),
    /// The trailer section; nothing follows it.
    Trailers(Fields),
}

/// Something that content streams from: a connection.
///
/// Dropping a source that has not ended cancels what feeds it.
pub trait Source {
    /// The next frame; `None` at the end. Not called again after the end or an error.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>>;

    /// How many bytes are still to come, where the message says so.
    fn length(&self) -> Option<u64>;

    /// Whether the next frame is certainly `None`.
    fn is_end(&self) -> bool {
        self.length() == Some(0)
    }
}

/// The content of a message.
#[derive(Default)]
pub struct Body(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Stream(Box<dyn Source>),
    Kept(Replay),
    Edited(Box<Edited>),
}

/// Takes away from a trailer section what may not go on.
pub type EditTrailers = Rc<dyn Fn(&mut Fields)>;

/// Content whose trailers are edited.
struct Edited {
    body: Body,
    edit: EditTrailers,
}

impl Edited {
    /// `body` with the same edit.
    fn around(&self, body: Body) -> Body {
        Body(Kind::Edited(Box::new(Edited { body, edit: Rc::clone(&self.edit) })))
    }
}

impl Body {
    /// No content.
    pub const fn empty() -> Body {
        Body(Kind::Empty)
    }

    /// Content that is here.
    pub fn full(bytes: Bytes) -> Body {
        if bytes.is_empty() { Body::empty() } else { Body(Kind::Full(bytes)) }
    }

    /// Content that streams.
    pub fn stream(source: impl Source + 'static) -> Body {
        Body(Kind::Stream(Box::new(source)))
    }

    /// The next frame; `None` at the end, and again after it.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        let frame = match &mut self.0 {
            Kind::Empty => return Poll::Ready(None),
            Kind::Full(bytes) => Some(Ok(Frame::Data(std::mem::take(bytes)))),
            Kind::Stream(source) => match ready!(source.poll_frame(cx)) {
                Some(Ok(Frame::Data(data))) => return Poll::Ready(Some(Ok(Frame::Data(data)))),
                end => end,
            },
            Kind::Kept(replay) => match ready!(replay.poll_frame(cx)) {
                Some(Ok(Frame::Data(data))) => return Poll::Ready(Some(Ok(Frame::Data(data)))),
                end => end,
            },
            Kind::Edited(edited) => match ready!(edited.body.poll_frame(cx)) {
                Some(Ok(Frame::Data(data))) => return Poll::Ready(Some(Ok(Frame::Data(data)))),
                Some(Ok(Frame::Trailers(mut trailers))) => {
                    (edited.edit)(&mut trailers);
                    (!trailers.is_empty()).then_some(Ok(Frame::Trailers(trailers)))
                }
                end => end,
            },
        };
        // Data of a full body, the end, an error or trailers: nothing follows any of them.
        self.0 = Kind::Empty;
        Poll::Ready(frame)
    }

    /// The next frame, as a future.
    pub async fn frame(&mut self) -> Option<Result<Frame>> {
        std::future::poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// How many bytes are still to come, where that is known.
    pub fn length(&self) -> Option<u64> {
        match &self.0 {
            Kind::Empty => Some(0),
            Kind::Full(bytes) => Some(bytes.len() as u64),
            Kind::Stream(source) => source.length(),
            Kind::Kept(replay) => replay.length(),
            Kind::Edited(edited) => edited.body.length(),
        }
    }

    /// Whether there is certainly nothing more.
    pub fn is_end(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Stream(source) => source.is_end(),
            Kind::Kept(replay) => replay.is_end(),
            Kind::Edited(edited) => edited.body.is_end(),
        }
    }

    /// The same content, whose trailers, if there are some, are edited as they come.
    pub fn with_trailers(self, edit: EditTrailers) -> Body {
        match self.0 {
            Kind::Empty | Kind::Full(_) => self,
            Kind::Stream(_) | Kind::Kept(_) | Kind::Edited(_) => {
                Body(Kind::Edited(Box::new(Edited { body: self, edit })))
            }
        }
    }

    /// The same content, of which up to `bytes_max` are kept as they are read, for [`Body::replay`].
    pub fn keep(self, bytes_max: usize) -> Body {
        match self.0 {
            Kind::Stream(source) if source.length().is_none_or(|length| length <= bytes_max as u64) => {
                Body(Kind::Kept(Replay::new(source, bytes_max)))
            }
            Kind::Edited(edited) => {
                let Edited { body, edit } = *edited;
                Body(Kind::Edited(Box::new(Edited { body: body.keep(bytes_max), edit })))
            }
            other => Body(other),
        }
    }

    /// The content once more, from its start; `None` when it streams and is not kept.
    pub fn replay(&self) -> Option<Body> {
        match &self.0 {
            Kind::Empty => Some(Body::empty()),
            Kind::Full(bytes) => Some(Body::full(bytes.clone())),
            Kind::Kept(replay) => Some(Body(Kind::Kept(replay.again()))),
            Kind::Edited(edited) => edited.body.replay().map(|body| edited.around(body)),
            Kind::Stream(_) => None,
        }
    }

    /// All of the content, independent of where it came from; `None` while it is not known in whole. Content that streams
    /// is, once it was read to its end and [kept](Body::keep).
    pub fn copy(&self) -> Option<Body> {
        match &self.0 {
            Kind::Kept(replay) => replay.copy().map(|copy| Body(Kind::Kept(copy))),
            Kind::Edited(edited) => edited.body.copy().map(|body| edited.around(body)),
            Kind::Stream(source) if source.is_end() => Some(Body::empty()),
            Kind::Stream(_) => None,
            Kind::Empty | Kind::Full(_) => self.replay(),
        }
    }

    /// Whether all of it can still be given out; false for kept content that grew too large.
    pub fn is_intact(&self) -> bool {
        match &self.0 {
            Kind::Kept(replay) => replay.is_intact(),
            Kind::Edited(edited) => edited.body.is_intact(),
            Kind::Empty | Kind::Full(_) | Kind::Stream(_) => true,
        }
    }

    /// Whether all of it is here, and can be given out again and again.
    pub fn is_whole(&self) -> bool {
        match &self.0 {
            Kind::Kept(replay) => replay.is_whole(),
            Kind::Edited(edited) => edited.body.is_whole(),
            Kind::Empty | Kind::Full(_) => true,
            Kind::Stream(_) => false,
        }
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Body {
        Body::full(Bytes::from_static(text.as_bytes()))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Body::full(Bytes::from(bytes))
    }
}

/// At hyper's boundary, for HTTP/2: trailers become a map there.
impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>>>> {
        let frame = ready!(Body::poll_frame(self.get_mut(), cx));
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| match frame {
                Frame::Data(data) => http_body::Frame::data(data),
                Frame::Trailers(fields) => http_body::Frame::trailers(super::http2::map_from(&fields)),
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.is_end()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.length().map_or_else(http_body::SizeHint::default, http_body::SizeHint::with_exact)
    }
}
