//! The tasks that hyper makes, one for each stream, on the worker's own thread, and watched.
//!
//! Why watched: an answer that the client gives no window for is not polled any more, so nothing inside it can notice
//! that it stalls. The task around it can: it remembers when content last moved, and gives up in time, which resets
//! the stream.

use crate::error::{Error, Kind};
use crate::exchange::Recorder;
use crate::svc::Timer;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// Where an answer is, for the task that sends it.
pub(super) struct Sending {
    recorder: Recorder,
    /// When content was last handed to hyper; `None` before the answer and when all of it was.
    moved: Cell<Option<Instant>>,
    /// How long nothing may move; known once the exchange is routed.
    timeout: Cell<Option<Duration>>,
}

impl Sending {
    /// A piece of content was handed over, and more is to come.
    pub(super) fn moved(&self) {
        self.moved.set(Some(Instant::now()));
    }

    /// Nothing may move for so long.
    pub(super) fn limit(&self, timeout: Option<Duration>) {
        self.timeout.set(timeout);
    }

    /// There is nothing more to hand over.
    pub(super) fn is_over(&self) {
        self.moved.set(None);
    }
}

/// Hyper's executor. hyper hands a stream's task over right after it called the service for that stream, so the service
/// leaves here what the task has to watch.
#[derive(Clone)]
pub(super) struct Tasks {
    next: Rc<RefCell<Option<Rc<Sending>>>>,
    timeout: Option<Duration>,
}

impl Tasks {
    /// Tasks that give an answer up when nothing moved for `timeout`.
    pub(super) fn new(timeout: Option<Duration>) -> Tasks {
        Tasks { next: Rc::default(), timeout }
    }

    /// What the next task watches.
    pub(super) fn watch(&self, recorder: Recorder) -> Rc<Sending> {
        let sending = Rc::new(Sending { recorder, moved: Cell::new(None), timeout: Cell::new(self.timeout) });
        self.next.replace(Some(Rc::clone(&sending)));
        sending
    }
}

impl<F: Future + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, future: F) {
        let sending = self.next.take();
        tokio::task::spawn_local(Watched { future, sending, timer: Timer::new() });
    }
}

struct Watched<F> {
    future: F,
    sending: Option<Rc<Sending>>,
    timer: Timer,
}

impl<F: Future> Future for Watched<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: `future` is structurally pinned: polled in place, never moved; the other fields are not pinned; there
        // is no Drop impl.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        if unsafe { Pin::new_unchecked(&mut this.future) }.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(sending) = &this.sending else { return Poll::Pending };
        let Some(timeout) = sending.timeout.get() else { return Poll::Pending };
        let Some(moved) = sending.moved.get() else { return Poll::Pending };
        if this.timer.poll(cx, moved + timeout).is_pending() {
            return Poll::Pending;
        }
        sending.recorder.fail(&Error::new(Kind::ClientGone, "stopped reading"));
        Poll::Ready(())
    }
}
