//! The one place that layers write to, and the guard that makes the end of an exchange certain.

use super::{Connection, Phase, Record, Side, Sink, Tap};
use crate::drain;
use crate::error::{Error, Kind};
use crate::svc::{Fields, RequestHead, ResponseHead};
use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// A handle to the record of an exchange that is under way.
#[derive(Clone)]
pub struct Recorder(Rc<Inner>);

struct Inner {
    record: RefCell<Option<Box<Record>>>,
    sink: Rc<dyn Sink>,
    tap: RefCell<Option<Box<dyn Tap>>>,
    /// Whether there is one, or was: asked for each piece of content.
    is_tapped: bool,
}

/// Ends the exchange when it is dropped, whatever the reason: end of content, cancellation, timeout or panic.
///
/// The codec that serves the client owns it. What it did not say by then is told by [`Record::phase`].
pub struct Guard {
    recorder: Recorder,
}

impl Recorder {
    /// Starts a record at `now`.
    pub fn start(sink: &Rc<dyn Sink>, connection: &Connection, now: Instant) -> (Recorder, Guard) {
        let mut record = sink.spare();
        record.direction = connection.direction;
        record.started = now;
        record.started_at = wall_clock(now);
        record.peer = Some(connection.peer);
        record.is_tls = connection.is_tls;
        record.identity.clone_from(&connection.identity);
        connection.serial.count();
        let tap = sink.tap(connection);
        let (is_tapped, tap) = (tap.is_some(), RefCell::new(tap));
        let record = RefCell::new(Some(record));
        let recorder = Recorder(Rc::new(Inner { record, sink: sink.clone(), tap, is_tapped }));
        let guard = Guard { recorder: recorder.clone() };
        (recorder, guard)
    }

    /// The record, to write to. Not held across calls into other layers.
    #[inline]
    pub fn edit(&self) -> RefMut<'_, Record> {
        // Once the exchange has ended, what a late layer still writes goes into a record that nobody reads.
        RefMut::map(self.0.record.borrow_mut(), |record| &mut **record.get_or_insert_default())
    }

    /// Notes what went wrong. The first cause is the cause; what follows from it does not replace it.
    pub fn fail(&self, error: &Error) {
        let mut record = self.edit();
        if record.cause.is_none() {
            record.cause = Some(error.kind());
            record.detail.clear();
            record.detail.push_str(error.detail());
            if let Some(refusal) = error.refusal() {
                record.note().refusal = Some(refusal.clone());
            }
        }
    }

    /// Notes the request's head.
    pub fn note_request(&self, head: &RequestHead) {
        self.edit().note_request(head);
        self.tap(|tap, record| tap.request(record, head));
    }

    /// Tells the tap of a head that goes to the client.
    #[inline]
    pub fn tap_response(&self, head: &ResponseHead) {
        self.tap(|tap, record| tap.response(record, head));
    }

    /// Tells the tap of content.
    #[inline]
    pub fn tap_data(&self, side: Side, data: &[u8]) {
        self.tap(|tap, record| tap.data(record, side, data));
    }

    /// Tells the tap of trailers.
    #[inline]
    pub fn tap_trailers(&self, side: Side, fields: &Fields) {
        self.tap(|tap, record| tap.trailers(record, side, fields));
    }

    #[inline]
    fn tap(&self, tell: impl FnOnce(&mut dyn Tap, &Record)) {
        if self.0.is_tapped
            && let Some(tap) = &mut *self.0.tap.borrow_mut()
            && let Some(record) = &*self.0.record.borrow()
        {
            tell(&mut **tap, record);
        }
    }

    /// Forgets a cause that a retry made good.
    pub fn forgive(&self) {
        let mut record = self.edit();
        record.cause = None;
        record.detail.clear();
        if let Some(notes) = &mut record.notes {
            notes.refusal = None;
        }
    }
}

thread_local! {
    /// One moment on both clocks, for the thread.
    static CLOCKS: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };
}

/// `now` on the wall clock, which is asked once a second: a step of it is followed with that delay.
fn wall_clock(now: Instant) -> SystemTime {
    CLOCKS.with(|clocks| {
        if let Some((then, wall)) = clocks.get()
            && let Some(since) = now.checked_duration_since(then)
            && since < Duration::from_secs(1)
        {
            return wall + since;
        }
        let wall = SystemTime::now();
        clocks.set(Some((now, wall)));
        wall
    })
}

impl Guard {
    /// The record's handle.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The answer was sent in whole.
    pub fn complete(self) {
        self.recorder.edit().phase = Phase::Done;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let inner = &self.recorder.0;
        // A layer that panicked may have held the record; then it is lost to us, but `Internal` was logged.
        let Ok(mut slot) = inner.record.try_borrow_mut() else { return };
        let Some(mut record) = slot.take() else { return };
        drop(slot);
        if record.phase != Phase::Done && record.cause.is_none() {
            record.cause = Some(if std::thread::panicking() {
                Kind::Internal
            } else if drain::is_cutting() {
                Kind::Draining
            } else {
                Kind::ClientGone
            });
        }
        if record.phase == Phase::Request && record.cause == Some(Kind::ClientGone) {
            // Nobody was there to be answered; the status is logged as nginx and others do.
            record.status = Kind::ClientGone.answer().status;
        }
        record.end(Instant::now());
        if inner.is_tapped
            && let Ok(mut tap) = inner.tap.try_borrow_mut()
            && let Some(tap) = tap.take()
        {
            tap.end(&mut record);
        }
        inner.sink.exchange(record);
    }
}
