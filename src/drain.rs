//! Draining: one signal, one deadline, one count of what was cut.
//!
//! [`Signal`] is shared by the whole process. Each worker has a [`Watch`] with the wakers of its connections, so that
//! a connection asks for the cost of one load, and an idle one is woken once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

/// Says to everybody that the process is about to stop.
#[derive(Clone, Debug, Default)]
pub struct Signal {
    draining: Arc<AtomicBool>,
    closing: Arc<AtomicBool>,
}

impl Signal {
    /// A signal that also says that connections are to be closed while `closing` is true: memory has run out.
    pub fn with_closing(closing: Arc<AtomicBool>) -> Signal {
        Signal { draining: Arc::default(), closing }
    }

    /// Starts draining.
    pub fn start(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether draining has started.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether a connection is to be closed once it has nothing under way.
    #[inline]
    pub fn is_closing(&self) -> bool {
        self.is_draining() || self.closing.load(Ordering::Relaxed)
    }
}

thread_local! {
    static IS_CUTTING: Cell<bool> = const { Cell::new(false) };
}

/// From here on, what ends on this thread is cut by us: the deadline passed and the worker stops.
pub fn start_cutting() {
    IS_CUTTING.set(true);
}

/// Whether what ends on this thread is cut by us.
pub fn is_cutting() -> bool {
    IS_CUTTING.try_with(Cell::get).unwrap_or(false)
}

/// A worker's side of the signal.
#[derive(Clone, Default)]
pub struct Watch(Rc<Inner>);

#[derive(Default)]
struct Inner {
    signal: Signal,
    waiting: RefCell<Waiting>,
}

#[derive(Default)]
struct Waiting {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
}

/// A connection's place in the watch; given back when dropped.
pub struct Place {
    inner: Rc<Inner>,
    slot: usize,
}

impl Watch {
    /// A watch of `signal`.
    pub fn new(signal: Signal) -> Watch {
        Watch(Rc::new(Inner { signal, waiting: RefCell::default() }))
    }

    /// Whether draining has started.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.0.signal.is_draining()
    }

    /// Registers the task of `waker`; it is woken when draining starts.
    pub fn register(&self, waker: &Waker) -> Place {
        let mut waiting = self.0.waiting.borrow_mut();
        let slot = waiting.free.pop().unwrap_or_else(|| {
            waiting.slots.push(None);
            waiting.slots.len() - 1
        });
        if let Some(place) = waiting.slots.get_mut(slot) {
            *place = Some(waker.clone());
        }
        Place { inner: Rc::clone(&self.0), slot }
    }

    /// Wakes every registered task; the worker calls this once it sees the signal.
    pub fn wake_all(&self) {
        for waker in self.0.waiting.borrow().slots.iter().flatten() {
            waker.wake_by_ref();
        }
    }

    /// How many tasks are registered.
    pub fn registered(&self) -> usize {
        self.0.waiting.borrow().slots.iter().flatten().count()
    }
}

impl Place {
    /// Whether draining has started.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.inner.signal.is_draining()
    }

    /// Whether the connection is to be closed once it has nothing under way.
    #[inline]
    pub fn is_closing(&self) -> bool {
        self.inner.signal.is_closing()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.inner.waiting.borrow_mut();
        if let Some(place) = waiting.slots.get_mut(self.slot) {
            *place = None;
        }
        waiting.free.push(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn everyone_who_is_still_there_is_woken_once() {
        let signal = Signal::default();
        let watch = Watch::new(signal.clone());
        let count = Arc::new(Count::default());
        let first = watch.register(&count.clone().into());
        drop(watch.register(&count.clone().into()));
        let _third = watch.register(&count.clone().into());
        assert_eq!(watch.registered(), 2);
        assert!(!first.is_draining());
        signal.start();
        watch.wake_all();
        assert!(first.is_draining() && count.0.load(Ordering::Relaxed) == 2);
    }
}
