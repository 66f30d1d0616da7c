//! Content that streams, kept while it is small, so that an attempt that came to nothing can be made again.
//!
//! Handles share one source: one sends, another waits for the attempt to fail, or sends too (a hedge). What the first
//! has read is kept up to a limit; beyond it the content is lost for a repetition and nothing is kept any more. When
//! only one handle is left, because an answer came, keeping stops too.
//!
//! How it fails: a handle that would have to give out what was lost fails, it never leaves something out.

use super::{Fields, Frame, Source};
use crate::error::{Error, Kind, Result};
use bytes::Bytes;
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// How many wakers are kept. There is one for each attempt that still reads; a task that comes with a new one each time
/// wakes the others for nothing.
const WAITING_MAX: usize = 16;

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
    /// Frames that were read from the source.
    read: usize,
    /// Frames were read that are not kept.
    is_lost: bool,
    is_ended: bool,
    /// Who waits for the source, and who else. It wakes only whoever asked last, which may be the attempt that was
    /// given up.
    waiting: Option<Waker>,
    also_waiting: Vec<Waker>,
}

#[derive(Clone)]
enum Kept {
    Data(Bytes),
    Trailers(Fields),
}

impl Replay {
    pub(super) fn new(source: Box<dyn Source>, bytes_max: usize) -> Replay {
        let shared = Shared {
            source,
            kept: Vec::new(),
            kept_bytes: 0,
            bytes_max,
            read: 0,
            is_lost: false,
            is_ended: false,
            waiting: None,
            also_waiting: Vec::new(),
        };
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

    /// Whether all of the content was read and is kept.
    pub(super) fn is_whole(&self) -> bool {
        let shared = self.shared.borrow();
        !shared.is_lost && (shared.is_ended || shared.source.is_end())
    }

    /// All of the content with no source behind it, so that reading it moves nobody else; `None` unless it is whole.
    pub(super) fn copy(&self) -> Option<Replay> {
        if !self.is_whole() {
            return None;
        }
        let shared = self.shared.borrow();
        let copy = Shared {
            source: Box::new(Nothing),
            kept: shared.kept.clone(),
            kept_bytes: shared.kept_bytes,
            bytes_max: shared.bytes_max,
            read: shared.kept.len(),
            is_lost: false,
            is_ended: true,
            waiting: None,
            also_waiting: Vec::new(),
        };
        Some(Replay { shared: Rc::new(RefCell::new(copy)), at: 0 })
    }
}

/// What is behind content that is all here.
struct Nothing;

impl Source for Nothing {
    fn poll_frame(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        Poll::Ready(None)
    }

    fn length(&self) -> Option<u64> {
        Some(0)
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

    /// Waits for the source together with the other handles.
    fn wait(&mut self, waker: &Waker) {
        let mut waiting = self.waiting.iter().chain(&self.also_waiting);
        if waiting.any(|waiting| waiting.will_wake(waker)) {
            return;
        }
        if self.waiting.is_none() {
            self.waiting = Some(waker.clone());
            return;
        }
        if self.also_waiting.len() >= WAITING_MAX {
            self.also_waiting.drain(..).for_each(Waker::wake);
        }
        self.also_waiting.push(waker.clone());
    }

    /// The source moved: whoever else waits looks again.
    fn wake(&self, own: &Waker) {
        for waker in self.waiting.iter().chain(&self.also_waiting).filter(|waker| !waker.will_wake(own)) {
            waker.wake_by_ref();
        }
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
        if self.at < shared.read {
            return Poll::Ready(Some(Err(Error::new(
                Kind::Internal,
                "content that was not kept cannot be sent again",
            ))));
        }
        if shared.is_ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = shared.source.poll_frame(cx) else {
            if !is_alone {
                shared.wait(cx.waker());
            }
            return Poll::Pending;
        };
        shared.wake(cx.waker());
        match &frame {
            Some(Ok(frame)) => {
                shared.read += 1;
                self.at += 1;
                match is_alone || shared.is_lost {
                    true => shared.lose(),
                    false => shared.keep(frame),
                }
            }
            None => shared.is_ended = true,
            Some(Err(_)) => shared.lose(),
        }
        // Nothing follows trailers, and whoever has them does not ask again.
        shared.is_ended |= matches!(frame, Some(Ok(Frame::Trailers(_))));
        Poll::Ready(frame)
    }

    fn length(&self) -> Option<u64> {
        let shared = self.shared.borrow();
        let ahead = shared.kept.get(self.at..).unwrap_or_default();
        if matches!(ahead.last(), Some(Kept::Trailers(_))) {
            return None; // trailers need chunks
        }
        let ahead: usize = ahead.iter().map(Kept::data_bytes).sum();
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
    async fn who_reads_behind_what_was_lost_fails_and_leaves_nothing_out() {
        let mut first = Body::stream(Pieces(vec!["aaaa", "bbbb", "cc"])).keep(6);
        let mut second = first.replay().unwrap();
        assert_eq!(read(&mut first, 1).await, "aaaa");
        assert_eq!(read(&mut second, 2).await, "aaaabbbb");
        assert!(matches!(first.frame().await, Some(Err(_))), "it would have skipped b");
        assert_eq!(read(&mut second, 9).await, "cc");
    }

    #[tokio::test]
    async fn whole_is_what_was_read_to_its_end_and_is_kept() {
        let mut first = Body::stream(Pieces(vec!["a", "b"])).keep(64);
        let second = first.replay().unwrap();
        assert!(!second.is_whole());
        assert_eq!(read(&mut first, 9).await, "ab");
        assert!(second.is_whole());
        assert!(Body::empty().is_whole() && Body::from("x").is_whole());
        assert!(!Body::stream(Pieces(vec!["a"])).is_whole());
    }

    /// A source that wakes only whoever asked last, as all do.
    struct Slow(Rc<RefCell<(Vec<&'static str>, Option<Waker>)>>);

    impl Source for Slow {
        fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
            let mut state = self.0.borrow_mut();
            if state.0.is_empty() {
                state.1 = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let piece = state.0.remove(0);
            Poll::Ready(Some(Ok(Frame::Data(Bytes::from_static(piece.as_bytes())))))
        }

        fn length(&self) -> Option<u64> {
            None
        }
    }

    #[tokio::test(flavor = "local")]
    async fn everyone_who_waits_is_woken_when_the_source_moves() {
        let state = Rc::new(RefCell::new((Vec::new(), None::<Waker>)));
        let mut first = Body::stream(Slow(Rc::clone(&state))).keep(64);
        let mut second = first.replay().unwrap();
        let one = tokio::task::spawn_local(async move { read(&mut first, 1).await });
        let other = tokio::task::spawn_local(async move { read(&mut second, 1).await });
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        let waker = {
            let mut state = state.borrow_mut();
            state.0.push("a");
            state.1.take().unwrap()
        };
        waker.wake();
        assert_eq!((one.await.unwrap(), other.await.unwrap()), ("a".to_owned(), "a".to_owned()));
    }

    #[tokio::test]
    async fn a_copy_is_there_when_all_was_read_and_reads_nothing_itself() {
        let mut first = Body::stream(Pieces(vec!["a", "b"])).keep(64);
        let second = first.replay().unwrap();
        assert_eq!(read(&mut first, 2).await, "ab");
        assert!(second.copy().is_none(), "it is not known yet that nothing follows");
        assert!(first.frame().await.is_none());
        let mut copy = second.copy().unwrap();
        assert_eq!(copy.length(), Some(2));
        drop((first, second));
        assert_eq!(read(&mut copy, 9).await, "ab");
        assert!(copy.frame().await.is_none() && copy.is_end());
    }

    #[tokio::test]
    async fn a_copy_has_the_trailers_and_content_that_was_too_long_has_no_copy() {
        let mut first = Body::stream(WithTrailers(vec!["a"])).keep(64);
        let second = first.replay().unwrap();
        assert_eq!(read(&mut first, 9).await, "a");
        let mut copy = second.copy().unwrap();
        assert_eq!(copy.length(), None, "trailers need chunks");
        assert!(matches!(copy.frame().await, Some(Ok(Frame::Data(_)))));
        let Some(Ok(Frame::Trailers(fields))) = copy.frame().await else { panic!("no trailers") };
        assert_eq!(fields.named(b"x-sum").next(), Some(&b"1"[..]));
        assert!(copy.frame().await.is_none());

        let mut first = Body::stream(Pieces(vec!["aaaa", "bbbb"])).keep(6);
        let second = first.replay().unwrap();
        assert_eq!(read(&mut first, 9).await, "aaaabbbb");
        assert!(second.copy().is_none());
        assert!(Body::stream(Pieces(vec![])).copy().is_none(), "what is not kept cannot be copied");
        assert!(Body::empty().copy().unwrap().is_end());
    }

    /// Pieces, then trailers.
    struct WithTrailers(Vec<&'static str>);

    impl Source for WithTrailers {
        fn poll_frame(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
            if self.0.is_empty() {
                let mut fields = Fields::new();
                fields.push(b"x-sum", b"1");
                return Poll::Ready(Some(Ok(Frame::Trailers(fields))));
            }
            Poll::Ready(Some(Ok(Frame::Data(Bytes::from_static(self.0.remove(0).as_bytes())))))
        }

        fn length(&self) -> Option<u64> {
            None
        }
    }

    #[tokio::test]
    async fn nothing_is_kept_when_nobody_waits_to_repeat_it() {
        let mut first = Body::stream(Pieces(vec!["a", "b"])).keep(64);
        drop(first.replay());
        assert_eq!(read(&mut first, 9).await, "ab");
    }
}
