//! When the pipeline's thread sleeps, and who wakes it.
//!
//! What: under traffic the thread sleeps in short naps and looks at the rings when it wakes by itself, so that a worker
//! makes no system call; only a worker that fills half of its ring in one nap wakes it. After a second without traffic it
//! sleeps until the next event wakes it: an idle proxy burns no CPU.
//! Why a fence: a worker puts an event in and then reads whether the thread sleeps; the thread says that it
//! sleeps and then looks at the rings (Dekker's pattern). Without the fence on both sides both could miss the other.
//! How it fails: a wake-up too many finds nothing; one too few cannot happen.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};
use std::thread::Thread;
use std::time::Duration;

/// How long a nap is: an event is written at latest this, and the time to write, after it came into being.
pub(super) const NAP: Duration = Duration::from_millis(20);

/// How long a light sleep is: while nothing comes, but there may be old files to delete or a disk to try again.
const LIGHT: Duration = Duration::from_millis(250);

const AWAKE: u8 = 0;
const NAPPING: u8 = 1;
const SLEEPING: u8 = 2;

/// The state of the thread, shared with everybody who has something for it.
#[derive(Default)]
pub(super) struct Wake {
    state: AtomicU8,
    thread: OnceLock<Thread>,
    is_stopping: AtomicBool,
}

/// How to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sleep {
    /// For at most [`NAP`].
    Nap,
    /// Until woken, but for at most [`LIGHT`].
    Light,
    /// Until woken.
    Deep,
}

impl Wake {
    /// Says which thread it is.
    pub(super) fn attach(&self, thread: Thread) {
        // Set once, by the start of the pipeline.
        let _ = self.thread.set(thread);
        // The thread may have gone to sleep before anybody knew whom to wake.
        self.unpark();
    }

    /// Something was put in. Wakes the thread if it sleeps deeply, or naps and the matter is urgent.
    #[inline]
    pub(super) fn notify(&self, is_urgent: bool) {
        fence(Ordering::SeqCst);
        let state = self.state.load(Ordering::Relaxed);
        if state == SLEEPING || (is_urgent && state == NAPPING) {
            self.rouse();
        }
    }

    #[cold]
    fn rouse(&self) {
        if self.state.swap(AWAKE, Ordering::AcqRel) != AWAKE {
            self.unpark();
        }
    }

    fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Whether the thread sleeps until it is woken.
    #[cfg(test)]
    pub(super) fn is_sleeping(&self) -> bool {
        self.state.load(Ordering::Relaxed) == SLEEPING
    }

    /// Ends the thread when everything is written.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.unpark();
    }

    /// Whether the thread is to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Sleeps. `is_idle` is asked after the others can see that this thread sleeps.
    pub(super) fn sleep(&self, how: Sleep, is_idle: impl FnOnce() -> bool) {
        self.state.store(if how == Sleep::Nap { NAPPING } else { SLEEPING }, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if is_idle() && !self.is_stopping() {
            match how {
                Sleep::Nap => std::thread::park_timeout(NAP),
                Sleep::Light => std::thread::park_timeout(LIGHT),
                Sleep::Deep => std::thread::park(),
            }
        }
        self.state.store(AWAKE, Ordering::Relaxed);
    }
}
