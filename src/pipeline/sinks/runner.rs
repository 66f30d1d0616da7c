//! The thread of one sink: from its place in the spool to wherever it sends.
//!
//! What: reads events, lets them wait a moment for others, sends them, and settles what the sink says was taken. A failure
//! that may pass is tried again, ever more slowly, with the same events: they stay in the spool meanwhile, and nothing is
//! given up here. A batch that is refused for good is halved until the event that is refused alone is found: that one goes
//! to the [dead letters](DeadLetters), the others through. Why a thread for each sink: one that hangs costs the others
//! nothing. How it fails: it does not; each failure is in the sink's [`Status`], and the first of a series is an event.

use super::backoff::Backoff;
use super::dead_letters::DeadLetters;
use super::sink::{Failure, Pace, Sent, Sink};
use super::status::Status;
use crate::pipeline::emitter::Emitter;
use crate::pipeline::spool::{Batch, Class, Cursor, Event};
use crate::record::shipped;
use serde_json::json;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// The event that says how a sink is.
const SCHEMA: &str = "sidelight/sink/1";
/// The class of pieces of recordings: the first to go when there is too much.
const PIECES: Class = Class::Debug;
/// How long events are left alone that are there and cannot be read: their disk is away.
const UNREADABLE_PAUSE: Duration = Duration::from_millis(50);

/// What the thread is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Send what comes.
    Run,
    /// Send what is there, and end at the deadline.
    Drain(Instant),
    /// End after what is under way.
    Halt,
}

/// The way to tell the thread.
#[derive(Default)]
pub(super) struct Control {
    mode: AtomicU8,
    deadline: Mutex<Option<Instant>>,
    is_reopening: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Control {
    pub(super) fn set(&self, mode: Mode) {
        let number = match mode {
            Mode::Run => 0,
            Mode::Drain(deadline) => {
                *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline);
                1
            }
            Mode::Halt => 2,
        };
        self.mode.store(number, Ordering::Release);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn mode(&self) -> Mode {
        match self.mode.load(Ordering::Acquire) {
            0 => Mode::Run,
            1 => {
                let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
                Mode::Drain(deadline.unwrap_or_else(Instant::now))
            }
            _ => Mode::Halt,
        }
    }

    pub(super) fn reopen(&self) {
        self.is_reopening.store(true, Ordering::Release);
    }
}

/// What the thread owns.
pub(super) struct Runner {
    sink: Box<dyn Sink>,
    cursor: Cursor,
    batch: Batch,
    /// Parts of the batch that are not sent yet; the last is the next.
    parts: Vec<Range<usize>>,
    /// The last event that the sink took; it holds those that are not settled.
    taken: u64,
    /// The last event that was read: behind the last of the batch may be some that are not for this sink.
    seen: u64,
    /// Up to here it is counted what was passed over; after a rewind the same events come again.
    passed_through: u64,
    /// The last batch was full: there are more.
    is_behind: bool,
    /// There were events last time, and none could be read.
    is_unreadable: bool,
    pace: Pace,
    idle_at: Instant,
    backoff: Backoff,
    status: Arc<Status>,
    control: Arc<Control>,
    letters: Arc<DeadLetters>,
    emitter: Emitter,
}

/// What a runner is made of.
pub(super) struct Parts {
    pub(super) sink: Box<dyn Sink>,
    pub(super) cursor: Cursor,
    pub(super) status: Arc<Status>,
    pub(super) control: Arc<Control>,
    pub(super) letters: Arc<DeadLetters>,
    pub(super) emitter: Emitter,
}

impl Runner {
    pub(super) fn new(parts: Parts) -> Runner {
        let Parts { sink, cursor, status, control, letters, emitter } = parts;
        let pace = sink.pace();
        Runner {
            batch: Batch::new(pace.bytes_max, pace.events_max),
            idle_at: Instant::now() + pace.idle_interval,
            backoff: Backoff::new(),
            parts: Vec::new(),
            taken: 0,
            seen: 0,
            passed_through: 0,
            is_behind: false,
            is_unreadable: false,
            sink,
            cursor,
            pace,
            status,
            control,
            letters,
            emitter,
        }
    }

    /// Works until it is told to end.
    pub(super) fn run(mut self) {
        let _ = self.control.thread.set(std::thread::current());
        while !self.is_over() {
            if self.control.is_reopening.swap(false, Ordering::AcqRel) {
                self.sink.reopen();
            }
            // Asked before the look: what was there when the end was announced is found by the look after it.
            let mode = self.control.mode();
            if self.parts.is_empty() && !self.fill() {
                if let Mode::Drain(deadline) = mode {
                    match self.sink.close(deadline) {
                        Ok(sent) => self.settle(&sent),
                        // What it holds comes again while there is time; the next process may not have it.
                        Err(failure) if self.has_held() => {
                            self.pause(&failure);
                            continue;
                        }
                        Err(failure) => self.failed(&failure),
                    }
                    break;
                }
                self.rest();
                continue;
            }
            self.send();
        }
        self.cursor.persist();
    }

    fn is_over(&self) -> bool {
        match self.control.mode() {
            Mode::Run => self.cursor.is_removed(),
            Mode::Drain(deadline) => Instant::now() >= deadline,
            Mode::Halt => true,
        }
    }

    fn deadline(&self) -> Instant {
        let usual = Instant::now() + self.pace.timeout;
        match self.control.mode() {
            Mode::Drain(deadline) => usual.min(deadline),
            _ => usual,
        }
    }

    /// Reads the next events; `false` when there are none.
    fn fill(&mut self) -> bool {
        let count = self.cursor.read(&mut self.batch);
        self.is_behind = count >= self.pace.events_max || self.batch.bytes() >= self.pace.bytes_max / 2;
        if count == 0 {
            return false;
        }
        self.is_unreadable = false;
        self.seen = self.batch.last_sequence().unwrap_or(self.seen);
        self.pass_over();
        match self.batch.len() {
            0 => self.settle_seen(),
            left => self.parts.push(0..left),
        }
        true
    }

    /// Takes out of the batch what is for other sinks: pieces of recordings, unless this one is to have them.
    fn pass_over(&mut self) {
        if !self.batch.has(PIECES) || self.status.carries_recordings() {
            return;
        }
        let counted = self.passed_through;
        let news = self.batch.events().filter(|event| event.sequence > counted && is_piece(event)).count();
        self.batch.retain(|event| !is_piece(event));
        self.passed_through = counted.max(self.seen);
        if news > 0 {
            self.status.note_passed_over(news as u64);
        }
    }

    /// Nothing of the batch is to be sent any more: what was passed over at its end is settled, unless the sink holds
    /// something before it.
    fn settle_seen(&mut self) {
        if self.parts.is_empty() && !self.has_held() && self.seen > self.cursor.position() {
            self.cursor.commit(self.seen, Instant::now());
        }
    }

    /// Whether events were taken by the sink that it has not settled.
    fn has_held(&self) -> bool {
        self.taken > self.cursor.position()
    }

    /// Lets the sink do what is due by time. Returns whether it went on.
    fn idle(&mut self) -> bool {
        let now = Instant::now();
        if now < self.idle_at {
            return true;
        }
        self.idle_at = now + self.pace.idle_interval;
        match self.sink.idle(self.deadline()) {
            Ok(sent) => self.settle(&sent),
            Err(failure) => {
                self.pause(&failure);
                return false;
            }
        }
        true
    }

    /// Nothing is there: does what is due by time, and waits.
    fn rest(&mut self) {
        if !self.idle() {
            return;
        }
        let has_more = self.cursor.wait(self.idle_at.saturating_duration_since(Instant::now()));
        let was_unreadable = std::mem::replace(&mut self.is_unreadable, has_more);
        if has_more && was_unreadable {
            // Whoever waits for them is told at once that they are there, again and again.
            std::thread::park_timeout(UNREADABLE_PAUSE);
        } else if has_more && !self.is_behind && !self.pace.linger.is_zero() {
            // Others may come meanwhile, and go with it.
            std::thread::park_timeout(self.pace.linger);
        }
    }

    /// Sends the next part of the batch.
    fn send(&mut self) {
        let Some(mut part) = self.parts.pop() else { return };
        self.batch.narrow(part.clone());
        let position = self.cursor.position();
        let given_up = self.batch.events().take_while(|event| event.sequence <= position).count();
        if given_up > 0 {
            // The spool had no room for them while they waited here. They count as dropped, so they are not sent.
            part.start += given_up;
            self.batch.narrow(part.clone());
        }
        if part.is_empty() {
            return self.settle_seen();
        }
        self.parts.push(part.clone());
        match self.sink.send(&self.batch, self.deadline()) {
            Ok(sent) => {
                self.parts.pop();
                self.taken = self.batch.last_sequence().unwrap_or(self.taken);
                self.settle(&sent);
                self.recovered();
                // A sink that is always busy has things to do by time, too.
                self.idle();
            }
            Err(failure @ Failure::Retry { .. }) => self.pause(&failure),
            // Which of the events that it holds is meant cannot be known.
            Err(failure @ Failure::Refused { .. }) if self.has_held() => self.pause(&failure),
            Err(Failure::Refused { reason }) => self.refused(part, &reason),
        }
    }

    fn settle(&mut self, sent: &Sent) {
        for (sequence, reason) in &sent.rejected {
            self.reject(*sequence, reason);
        }
        if sent.passed_over > 0 {
            self.status.note_passed_over(sent.passed_over);
        }
        if let Some(through) = sent.through {
            self.cursor.commit(through, Instant::now());
            self.settle_seen();
        }
    }

    /// The other side will never have this part: finds out which event it is.
    fn refused(&mut self, part: Range<usize>, reason: &str) {
        self.parts.pop();
        let middle = part.start + part.len() / 2;
        if part.len() > 1 {
            self.parts.push(middle..part.end);
            self.parts.push(part.start..middle);
            return;
        }
        if let Some(sequence) = self.batch.last_sequence() {
            self.reject(sequence, reason);
            self.cursor.commit(sequence, Instant::now());
        }
        self.settle_seen();
        self.recovered();
    }

    fn reject(&mut self, sequence: u64, reason: &str) {
        if let Some(event) = self.batch.find(sequence) {
            self.letters.keep(self.status.name(), event, reason);
        }
        self.status.note_error(reason);
        self.cursor.reject(sequence);
    }

    /// Waits until it is worth another try, or there is something else to do.
    fn pause(&mut self, failure: &Failure) {
        self.failed(failure);
        if self.has_held() {
            // What the sink held is gone, perhaps: all of it comes again.
            self.cursor.rewind();
            self.parts.clear();
            (self.taken, self.seen) = (0, 0);
        }
        // It may last: a process that ends meanwhile must not send again what was taken long ago.
        self.cursor.persist();
        let after = match failure {
            Failure::Retry { after, .. } => *after,
            Failure::Refused { .. } => None,
        };
        let until = Instant::now() + self.backoff.next(after);
        while !self.is_over() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || matches!(self.control.mode(), Mode::Drain(_)) {
                // While it drains there is no time for long pauses, but a sink that fails at once must not spin.
                std::thread::park_timeout(left.min(Duration::from_millis(50)));
                return;
            }
            std::thread::park_timeout(left);
        }
    }

    fn failed(&mut self, failure: &Failure) {
        let (sink, reason) = (self.status.name().to_owned(), failure.reason());
        if self.status.note_down(reason) {
            let queued = self.cursor.books().queued;
            tracing::warn!(sink, reason, queued, "a sink fails: events wait for it");
            self.tell("down", reason, queued);
        }
    }

    fn recovered(&mut self) {
        self.backoff.reset();
        if self.status.note_up() {
            let queued = self.cursor.books().queued;
            tracing::info!(sink = self.status.name(), queued, "a sink works again");
            self.tell("up", "", queued);
        }
    }

    fn tell(&self, state: &str, reason: &str, queued: u64) {
        let mut event = json!({
            "sidelight.sink": self.status.name(),
            "sidelight.sink.state": state,
            "sidelight.sink.queued": queued,
        });
        if !reason.is_empty() {
            event["sidelight.cause"] = reason.into();
        }
        self.emitter.emit(SCHEMA, event);
    }
}

/// Whether it is a piece of a recording: judged by its first bytes, and only of the class that pieces have.
fn is_piece(event: &Event<'_>) -> bool {
    event.class == PIECES && event.payload.starts_with(shipped::EVENT_START)
}
