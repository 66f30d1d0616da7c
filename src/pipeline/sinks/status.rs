//! How one sink is, for whoever asks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// How one sink is. Its thread writes it.
#[derive(Debug)]
pub struct Status {
    name: Box<str>,
    is_up: AtomicBool,
    retries: AtomicU64,
    passed_over: AtomicU64,
    last_error: Mutex<Option<(SystemTime, String)>>,
    /// It gets the pieces of recordings.
    carries_recordings: AtomicBool,
}

impl Status {
    pub(super) fn new(name: &str) -> Status {
        Status {
            name: name.into(),
            is_up: AtomicBool::new(true),
            retries: AtomicU64::new(0),
            passed_over: AtomicU64::new(0),
            last_error: Mutex::default(),
            carries_recordings: AtomicBool::new(false),
        }
    }

    /// Its name, which is its cursor's too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the last attempt worked; `true` before the first one.
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// Attempts that failed and were, or will be, made again.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Events that the sink has no form for, or that are not for it.
    pub fn passed_over(&self) -> u64 {
        self.passed_over.load(Ordering::Relaxed)
    }

    /// Why the last attempt that failed did, and when.
    pub fn last_error(&self) -> Option<(SystemTime, String)> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it gets the pieces of recordings (`recording.sinks`).
    pub(super) fn carries_recordings(&self) -> bool {
        self.carries_recordings.load(Ordering::Relaxed)
    }

    pub(super) fn carry_recordings(&self, is_so: bool) {
        self.carries_recordings.store(is_so, Ordering::Relaxed);
    }

    pub(super) fn note_passed_over(&self, events: u64) {
        self.passed_over.fetch_add(events, Ordering::Relaxed);
    }

    /// Returns whether it was down before.
    pub(super) fn note_up(&self) -> bool {
        !self.is_up.swap(true, Ordering::Relaxed)
    }

    /// Returns whether it was up before.
    pub(super) fn note_down(&self, reason: &str) -> bool {
        self.note_error(reason);
        self.retries.fetch_add(1, Ordering::Relaxed);
        self.is_up.swap(false, Ordering::Relaxed)
    }

    pub(super) fn note_error(&self, reason: &str) {
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((SystemTime::now(), reason.to_owned()));
    }
}
