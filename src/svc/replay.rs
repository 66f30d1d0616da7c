//! Content that streams, kept while it is small, so that an attempt that came to nothing can be made again.
//!
//! Two handles share one source: one sends, the other waits for the attempt to fail. What the first has read is kept
//! up to a limit; beyond it the content is lost for a repetition and nothing is kept any more. When the second handle
//! is dropped, because an answer came, keeping stops too.

use super::{Fields, Frame, Source};
use crate::error::{Error, Kind, Result};
use bytes::Bytes;
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// A handle to shared content.
pub(super) struct Replay {
    shared: Rc<RefCell<Shared>>,
    /// How many of the kept frames this handle has given out.
    at: usize,
}

struct Shared {
    source: Box<dyn Source>,
    kept: Vec<Kept>,
    kept_bytes: usize,
    bytes_max: usize,
    /// Frames were read that are not kept.
    is_lost: bool,
    is_ended: bool,
}

#[derive(Clone)]
enum Kept {
    Data(Bytes),
    Trailers(Fields),
}

impl Replay {
    pub(super) fn new(source: Box<dyn Source>, bytes_max: usize) -> Replay {
        let shared =
            Shared { source, kept: Vec::new(), kept_bytes: 0, bytes_max, is_lost: false, is_ended: false };
        Replay { shared: Rc::new(RefCell::new(shared)), at: 0 }
    }

    /// Another handle, in front of the content.
    pub(super) fn again(&self) -> Replay {
        Replay { shared: Rc::clone(&self.shared), at: 0 }
    }

    /// Whether this handle can still give out all of the content.
    pub(super) fn is_intact(&self) -> bool {
        !self.shared.borrow().is_lost
    }
}

impl Shared {
    fn keep(&mut self, frame: &Frame) {
        let (kept, bytes) = match frame {
            Frame::Data(data) => (Kept::Data(data.clone()), data.len()),
            Frame::Trailers(fields) => (Kept::Trailers(fields.clone()), fields.buffer().len()),
        };
        self.kept_bytes += bytes;
        if self.kept_bytes > self.bytes_max {
            self.lose();
        } else {
            self.kept.push(kept);
        }
    }

    fn lose(&mut self) {
        self.is_lost = true;
        self.kept = Vec::new();
    }
}

impl Source for Replay {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        let is_alone = Rc::strong_count(&self.shared) == 1;
        let shared = &mut *self.shared.borrow_mut();
        if let Some(kept) = shared.kept.get(self.at) {
            self.at += 1;
            return Poll::Ready(Some(Ok(match kept.clone() {
                Kept::Data(data) => Frame::Data(data),
                Kept::Trailers(fields) => Frame::Trailers(fields),
            })));
        }
        if shared.is_ended {
            return Poll::Ready(None);
        }
        if shared.is_lost && self.at == 0 && !is_alone {
            return Poll::Ready(Some(Err(Error::new(
                Kind::Internal,
                "content that was not kept cannot be sent again",
            ))));
        }
        let frame = ready!(shared.source.poll_frame(cx));
        match &frame {
            Some(Ok(frame)) if !shared.is_lost => {
                self.at += 1;
                if is_alone { shared.lose() } else { shared.keep(frame) }
            }
            Some(Ok(_)) => self.at += 1,
            None => shared.is_ended = true,
            Some(Err(_)) => shared.lose(),
        }
        Poll::Ready(frame)
    }

    fn length(&self) -> Option<u64> {
        let shared = self.shared.borrow();
        let ahead: usize = shared.kept.iter().skip(self.at).map(Kept::data_bytes).sum();
        let left = if shared.is_ended { Some(0) } else { shared.source.length() };
        left.map(|left| left + ahead as u64)
    }

    fn is_end(&self) -> bool {
        let shared = self.shared.borrow();
        self.at >= shared.kept.len() && (shared.is_ended || shared.source.is_end())
    }
}

impl Kept {
    fn data_bytes(&self) -> usize {
        match self {
            Kept::Data(data) => data.len(),
            Kept::Trailers(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Body;
    use super::*;

    struct Pieces(Vec<&'static str>);

    impl Source for Pieces {
        fn poll_frame(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
            let next = (!self.0.is_empty()).then(|| self.0.remove(0));
            Poll::Ready(next.map(|piece| Ok(Frame::Data(Bytes::from_static(piece.as_bytes())))))
        }

        fn length(&self) -> Option<u64> {
            None
        }
    }

    async fn read(body: &mut Body, frames_max: usize) -> String {
        let mut text = String::new();
        for _ in 0..frames_max {
            let Some(Ok(Frame::Data(data))) = body.frame().await else { break };
            text.push_str(std::str::from_utf8(&data).unwrap());
        }
        text
    }

    #[tokio::test]
    async fn what_was_sent_is_sent_again_and_the_rest_follows() {
        let mut first = Body::stream(Pieces(vec!["a", "b", "c"])).keep(64);
        let mut second = first.replay().unwrap();
        assert_eq!(read(&mut first, 2).await, "ab");
        drop(first);
        assert!(second.is_intact());
        let third = second.replay().unwrap();
        assert_eq!(read(&mut second, 9).await, "abc");
        drop((second, third));
    }

    #[tokio::test]
    async fn too_much_is_lost_for_a_repetition_but_not_for_the_one_who_reads() {
        let mut first = Body::stream(Pieces(vec!["aaaa", "bbbb", "cc"])).keep(6);
        let second = first.replay().unwrap();
        assert_eq!(read(&mut first, 2).await, "aaaabbbb");
        assert!(!second.is_intact());
        assert_eq!(read(&mut first, 9).await, "cc");
    }

    #[tokio::test]
    async fn nothing_is_kept_when_nobody_waits_to_repeat_it() {
        let mut first = Body::stream(Pieces(vec!["a", "b"])).keep(64);
        drop(first.replay());
        assert_eq!(read(&mut first, 9).await, "ab");
    }
}
