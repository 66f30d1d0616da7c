//! One request that waits for a place: what became of it, and whom to wake.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};

/// Shared between the request's task and whoever gives it a place, on any thread.
#[derive(Debug, Default)]
pub(super) struct Turn {
    state: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

/// How the wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Outcome {
    /// With a place.
    Admitted = 1,
    /// Turned away in favour of another.
    Shed = 2,
}

impl Turn {
    /// Ends the wait. The waker is returned, to be called without a lock held.
    pub(super) fn settle(&self, outcome: Outcome) -> Option<Waker> {
        self.state.store(outcome as u8, Ordering::Release);
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// How it ended, if it has.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        match self.state.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Outcome::Admitted),
            _ => Some(Outcome::Shed),
        }
    }

    /// The same; otherwise `waker` is called when it ends.
    pub(super) fn poll(&self, waker: &Waker) -> Poll<Outcome> {
        if let Some(outcome) = self.outcome() {
            return Poll::Ready(outcome);
        }
        let mut own = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *own {
            Some(own) => own.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        drop(own);
        // It may have ended before the waker was there.
        self.outcome().map_or(Poll::Pending, Poll::Ready)
    }
}
