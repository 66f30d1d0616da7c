//! Deadlines without a timer for each request.
//!
//! Arming and disarming a runtime timer costs about 1,500 instructions (a box and two walks of the timer wheel). A
//! [`Timer`] keeps one sleep armed at *some* earlier moment; a later deadline is only remembered, and when the sleep
//! fires it is armed again for what is then the deadline. With steady traffic that is once every few seconds.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, Sleep};

/// A deadline that can be moved for free.
pub struct Timer {
    armed: Option<Armed>,
}

/// A sleep, and the runtime whose clock it is armed in.
struct Armed {
    sleep: Pin<Box<Sleep>>,
    runtime: Id,
}

const SPARE_MAX: usize = 1024;

thread_local! {
    /// Sleeps that are armed for somebody who is done: the next timer takes one over.
    static SPARE: RefCell<Vec<Armed>> = const { RefCell::new(Vec::new()) };
}

impl Armed {
    /// A spare one of this runtime, or a new one. Those of a runtime that has ended never fire: they are dropped.
    fn until(deadline: Instant) -> Armed {
        let runtime = Handle::current().id();
        let spare = SPARE.with(|spare| {
            let mut spare = spare.borrow_mut();
            std::iter::from_fn(|| spare.pop()).find(|armed| armed.runtime == runtime)
        });
        spare.unwrap_or_else(|| Armed { sleep: Box::pin(tokio::time::sleep_until(deadline)), runtime })
    }
}

impl Timer {
    /// A timer that is not armed.
    pub const fn new() -> Timer {
        Timer { armed: None }
    }

    /// Ready once `deadline` has passed; otherwise the task is woken when it does (and perhaps once before).
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = &mut self.armed.get_or_insert_with(|| Armed::until(deadline)).sleep;
        if sleep.deadline() > deadline || sleep.is_elapsed() {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl Default for Timer {
    fn default() -> Self {
        Timer::new()
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let Some(armed) = self.armed.take() else { return };
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_MAX {
                spare.push(armed);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn fires_at_the_deadline_that_counts_last() {
        let start = Instant::now();
        let mut timer = Timer::new();
        let early = start + Duration::from_secs(1);
        let late = start + Duration::from_secs(5);
        assert!(std::future::poll_fn(|cx| Poll::Ready(timer.poll(cx, early))).await.is_pending());
        std::future::poll_fn(|cx| timer.poll(cx, late)).await;
        assert_eq!(start.elapsed().as_secs(), 5);
        drop(timer);
        // A spare sleep that has elapsed serves a new deadline, and one that is armed too late is moved forward.
        let mut timer = Timer::new();
        let next = Instant::now() + Duration::from_secs(2);
        std::future::poll_fn(|cx| timer.poll(cx, next)).await;
        assert_eq!(start.elapsed().as_secs(), 7);
    }

    #[test]
    fn a_runtime_is_not_given_the_timers_of_one_that_ended() {
        for _ in 0..2 {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async {
                let (start, wait) = (Instant::now(), Duration::from_secs(1));
                let mut timer = Timer::new();
                std::future::poll_fn(|cx| timer.poll(cx, start + wait)).await;
                assert_eq!(start.elapsed(), wait);
            });
        }
    }
}
