//! The line in front of a cluster's cap on connections: who waits for a place, on any worker, in the order of arrival.
//!
//! Workers share nothing on their way but this, and only once a cap is reached: until then the line costs whoever
//! makes, keeps or ends a connection one look at a number that does not change. A place that becomes free goes to the
//! first in line, whichever worker that is on, and its task is woken; nobody who comes later can take it in between.
//!
//! Idle connections hold places too, on workers that have nothing to do: each worker hangs a [`Bell`] here, and
//! whoever waits rings those of the others.
//!
//! How it fails: it cannot; whoever waits bounds the time itself.

use super::Cap;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use tokio::sync::Notify;

/// See the module. On cache lines of its own: every worker reads `waiting` for every request.
#[derive(Default)]
#[repr(align(64))]
pub struct Line {
    /// How many wait; what is looked at before the lock is taken.
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    next: u64,
    /// By their number, which is their order.
    waiters: BTreeMap<u64, Waker>,
    /// How many connections were told to end for those who wait now; no more than there are waiters.
    claims: usize,
    bells: Vec<Arc<Bell>>,
}

impl Queue {
    /// Whoever waits no longer takes one claim along, whichever it is.
    fn forget_claim(&mut self) {
        self.claims = self.claims.saturating_sub(1);
    }
}

/// How a worker is told that others wait for what it could spare.
#[derive(Debug)]
pub struct Bell {
    is_rung: AtomicBool,
    worker: Arc<Notify>,
}

impl Bell {
    /// A bell that wakes whoever waits for `worker`.
    pub fn new(worker: Arc<Notify>) -> Arc<Bell> {
        Arc::new(Bell { is_rung: AtomicBool::new(false), worker })
    }

    /// Whether it was rung since the last look.
    pub fn take(&self) -> bool {
        self.is_rung.swap(false, Ordering::AcqRel)
    }
}

impl Line {
    /// Whether nobody waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes the last place in the line; the number says which. A place under `cap` that is free goes to the first.
    pub fn join(&self, waker: &Waker, cap: &Cap) -> u64 {
        let number = {
            let mut queue = self.lock();
            queue.next += 1;
            let number = queue.next;
            queue.waiters.insert(number, waker.clone());
            self.count(&queue);
            number
        };
        self.serve(cap);
        number
    }

    /// Whether `number` still waits; then `waker` is what wakes it. Once it does not, a place is its own.
    pub fn is_waiting(&self, number: u64, waker: &Waker) -> bool {
        match self.lock().waiters.get_mut(&number) {
            Some(old) => {
                old.clone_from(waker);
                true
            }
            None => false,
        }
    }

    /// Whether `number` is the first.
    pub fn is_first(&self, number: u64) -> bool {
        self.lock().waiters.first_key_value().is_some_and(|(first, _)| *first == number)
    }

    /// Leaves the line; `None` when it was over already, because a place was given.
    pub fn leave(&self, number: u64) -> Option<Waker> {
        let mut queue = self.lock();
        let waker = queue.waiters.remove(&number);
        if waker.is_some() {
            queue.forget_claim();
        }
        self.count(&queue);
        waker
    }

    /// Gives the free places under `cap` to those who wait longest. Called after each [`Cap::leave`], and after a
    /// [`Cap::try_enter`] that failed: while that fails, it looks to others as if there were one more.
    #[inline]
    pub fn serve(&self, cap: &Cap) {
        // Either this sees whoever joined, or whoever joined sees the place: both write first and look then.
        fence(Ordering::SeqCst);
        if !self.is_empty() {
            self.serve_waiting(cap);
        }
    }

    #[cold]
    fn serve_waiting(&self, cap: &Cap) {
        loop {
            let waker = {
                let mut queue = self.lock();
                if queue.waiters.is_empty() || cap.active() >= cap.limit {
                    return;
                }
                if cap.try_enter().is_err() {
                    continue;
                }
                let first = queue.waiters.pop_first();
                queue.forget_claim();
                self.count(&queue);
                first.map(|(_, waker)| waker)
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Whether one more connection that is in use should end for those who wait: one for each of them.
    pub fn claim(&self) -> bool {
        let mut queue = self.lock();
        let is_needed = queue.claims < queue.waiters.len();
        queue.claims += usize::from(is_needed);
        is_needed
    }

    /// Hangs a worker's bell here.
    pub fn hang(&self, bell: &Arc<Bell>) {
        self.lock().bells.push(Arc::clone(bell));
    }

    /// Takes it away.
    pub fn take_down(&self, bell: &Arc<Bell>) {
        self.lock().bells.retain(|other| !Arc::ptr_eq(other, bell));
    }

    /// Asks the workers to spare what they do not use, except the one whose bell is `own`.
    pub fn ring(&self, own: Option<&Arc<Bell>>) {
        for bell in &self.lock().bells {
            let is_own = own.is_some_and(|own| Arc::ptr_eq(own, bell));
            if !is_own && !bell.is_rung.swap(true, Ordering::AcqRel) {
                bell.worker.notify_one();
            }
        }
    }

    fn count(&self, queue: &Queue) {
        self.waiting.store(queue.waiters.len(), Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicU64);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn waker() -> (Arc<Woken>, Waker) {
        let woken = Arc::new(Woken::default());
        (Arc::clone(&woken), Waker::from(woken))
    }

    #[test]
    fn a_place_goes_to_the_first_in_line_and_to_nobody_else() {
        let (line, cap) = (Line::default(), Cap::new("connections", Some(1)));
        cap.try_enter().unwrap();
        let (woken, waker) = waker();
        let (first, second) = (line.join(&waker, &cap), line.join(&waker, &cap));
        assert!(line.is_first(first) && line.waiting() == 2);
        cap.leave();
        line.serve(&cap);
        assert_eq!((woken.0.load(Ordering::SeqCst), cap.active()), (1, 1));
        assert!(!line.is_waiting(first, &waker) && line.is_waiting(second, &waker));
        assert!(line.leave(first).is_none(), "a place was given");
        assert!(line.leave(second).is_some() && line.is_empty());
        cap.leave();
        line.serve(&cap);
        assert_eq!(cap.active(), 0);
        assert_eq!(cap.refused(), 0, "to wait is not to be refused");
    }

    #[test]
    fn whoever_joins_finds_a_place_that_became_free_just_before() {
        let (line, cap) = (Line::default(), Cap::new("connections", Some(1)));
        let (_, waker) = waker();
        let number = line.join(&waker, &cap);
        assert!(!line.is_waiting(number, &waker));
        assert_eq!((line.waiting(), cap.active()), (0, 1));
    }

    #[test]
    fn no_more_connections_are_claimed_than_are_waited_for() {
        let (line, cap) = (Line::default(), Cap::new("connections", Some(0)));
        let (_, waker) = waker();
        assert!(!line.claim());
        let first = line.join(&waker, &cap);
        assert!(line.claim() && !line.claim());
        line.join(&waker, &cap);
        assert!(line.claim() && !line.claim());
        line.leave(first);
        line.join(&waker, &cap);
        assert!(line.claim() && !line.claim(), "another one for the one who came");
    }

    #[test]
    fn a_bell_is_heard_once_and_not_by_who_rings() {
        let line = Line::default();
        let (own, other) = (Bell::new(Arc::default()), Bell::new(Arc::default()));
        line.hang(&own);
        line.hang(&other);
        line.ring(Some(&own));
        line.ring(Some(&own));
        assert!(!own.take() && other.take() && !other.take());
        line.take_down(&other);
        line.ring(None);
        assert!(own.take() && !other.take());
    }

    /// Threads that take and give back places as fast as they can: the cap holds, and nobody is forgotten.
    #[test]
    fn nobody_is_forgotten_and_the_cap_holds() {
        let (line, cap) = (Arc::new(Line::default()), Arc::new(Cap::new("connections", Some(2))));
        let inside = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (line, cap, inside) = (Arc::clone(&line), Arc::clone(&cap), Arc::clone(&inside));
                std::thread::spawn(move || {
                    for _ in 0..2_000 {
                        let is_in = line.is_empty() && cap.try_enter().is_ok();
                        if !is_in {
                            let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
                            let number = line.join(&waker, &cap);
                            while line.is_waiting(number, &waker) {
                                std::thread::park_timeout(std::time::Duration::from_secs(20));
                            }
                        }
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < 2);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        cap.leave();
                        line.serve(&cap);
                    }
                })
            })
            .collect();
        let started = std::time::Instant::now();
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(started.elapsed().as_secs() < 20, "somebody was not woken");
        assert_eq!((cap.active(), line.waiting()), (0, 0));
    }

    struct Unpark(std::thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
}
