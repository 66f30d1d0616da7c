//! The recorder's thread: takes exchanges from the workers, and puts them into segments.
//!
//! What: sums content, redacts, compresses, writes; holds the flight recorder; begins and ends segments; lets what was
//! asked for at runtime run out. It wakes some hundred times a second under load and takes what has gathered, so that a
//! worker wakes nobody. How it fails: a disk that is full or refuses stops the recording, is told once and tried again
//! each second; the exchanges in between are counted as dropped. Nothing here reaches the data path.

use super::books::Reason;
use super::capture::{Finished, Message, SPARE_BYTES_MAX, Shared, Spares, Sum, Taps, each_data};
use super::config::Config;
use super::entry::{Content, Side, number as n};
use super::header::{Books, Header};
use super::redact;
use super::redact::{Part, Redactor};
use super::rules::{Rule, Rules};
use super::seal::{self, Keys as SealKeys};
use super::segment::{self, Keys, Kind, Limits};
use super::shipped::Shipping;
use super::store::{Lost, Retention, Store, recording_id};
use super::wire;
use crate::svc::fields::Span;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use twox_hash::XxHash3_64;
use twox_hash::xxhash3_64::Hasher;

/// Exchanges that may be in the queue.
const QUEUE_MAX: usize = 8192;
/// How long the thread sleeps after it has done something: long enough that one wake serves many exchanges. Naps that end
/// when some fifty have gathered cost more (measured: 1.15 × instead of 1.09 × the CPU time of a request without recording):
/// each wake takes a processor from a worker.
const NAP: Duration = Duration::from_millis(5);
/// How long it waits while there is nothing to do.
const IDLE: Duration = Duration::from_millis(500);
/// How often a disk that refused is tried again, books are written, and what was asked for is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Exchanges that come in parts, at once.
const PARTS_MAX: usize = 1024;
/// Messages between two looks at the clock.
const BATCH: usize = 256;

/// Who records.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// `service.name`.
    pub service: String,
    /// Who writes.
    pub instance: String,
    /// The revision of the configuration.
    pub revision: String,
    /// Hosts and addresses that are production.
    pub authorities: Vec<String>,
}

/// What is to be told as an event: the recording stopped, and why, or goes on.
pub type Tell = Arc<dyn Fn(Told) + Send + Sync>;

/// See [`Tell`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The disk refused.
    Stopped {
        /// `disk_full` or `io_error`.
        reason: &'static str,
        /// What it said.
        message: String,
    },
    /// It takes entries again.
    Resumed,
    /// The flight recorder was written out.
    Kept {
        /// `error`, `slow` or `demand`.
        reason: &'static str,
        /// How many exchanges it held.
        entries: u64,
    },
    /// A piece of a segment, for `recording.sinks`: the members of its event, as a JSON object.
    Piece(Vec<u8>),
}

/// What the thread is told to do.
pub(super) enum Command {
    /// Records under this configuration from now on.
    Apply(Box<Setup>),
    /// Writes the flight recorder out.
    Keep,
    /// Brings everything to the file, and says so.
    Flush(SyncSender<()>),
    /// Writes what is there, and ends.
    Stop,
}

/// A configuration that was made ready.
pub struct Setup {
    config: Config,
    directory: Option<PathBuf>,
    redactor: Redactor,
    seed: u64,
    keys: Option<SealKeys>,
    about: About,
    event_bytes_max: usize,
}

/// The recorder of a process. Cheap to clone.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    state: Mutex<State>,
    tell: Tell,
}

#[derive(Default)]
struct State {
    config: Config,
    base: Rules,
    demands: Vec<Rule>,
    thread: Option<JoinHandle<()>>,
    directory: Option<PathBuf>,
}

/// What is shown of the recorder.
#[derive(Clone, Debug)]
pub struct Status {
    /// Where segments are written.
    pub directory: Option<PathBuf>,
    /// Whether anything is recorded now.
    pub is_on: bool,
    /// Names of what was asked for at runtime.
    pub demands: Vec<String>,
    /// What became of all exchanges.
    pub books: Books,
    /// Bytes that captures hold, and may hold.
    pub held_bytes: (usize, usize),
}

impl Setup {
    /// Makes a configuration ready: reads keys, compiles what is redacted. Relative paths start at `base_dir`.
    ///
    /// # Errors
    /// One line: what cannot be used, and what to do.
    pub fn new(config: &Config, about: About, base_dir: &Path) -> Result<Setup, String> {
        let directory = config.directory.as_ref().map(|directory| base_dir.join(directory));
        let key_file = config.redact.key_file.as_ref().map(|file| base_dir.join(file));
        let key = redact::Config { key_file, ..config.redact.clone() }.key()?;
        let redactor = Redactor::new(&config.redact, key)?;
        // Sums of content are seeded by the same key: without it nobody can tell by one what was redacted.
        let seed = key.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let keys = match (&config.encrypt, &directory) {
            (Some(encrypt), Some(_)) => Some(SealKeys::open(&base_dir.join(&encrypt.keys))?),
            _ => None,
        };
        let event_bytes_max = usize::MAX;
        Ok(Setup { config: config.clone(), directory, redactor, seed, keys, about, event_bytes_max })
    }

    /// What goes to `recording.sinks` fits into events of so many bytes (`pipeline.spool.event_bytes_max`).
    #[must_use]
    pub fn within(self, event_bytes_max: usize) -> Setup {
        Setup { event_bytes_max, ..self }
    }
}

impl Recorder {
    /// A recorder, which records as soon as a configuration says so.
    pub fn new(tell: Tell) -> Recorder {
        let shared = Arc::new(Shared::new(Rules::default(), Config::default().memory_bytes_max));
        Recorder(Arc::new(Inner { shared, state: Mutex::default(), tell }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a worker.
    pub fn taps(&self) -> Taps {
        Taps::new(Arc::clone(&self.0.shared))
    }

    /// What became of all exchanges.
    pub fn books(&self) -> Books {
        self.0.shared.counts.read()
    }

    /// Records under this configuration from now on; `rules` are its own and those of routes.
    ///
    /// # Errors
    /// The directory cannot be made, or the system refuses a thread.
    pub fn apply(&self, setup: Setup, rules: Rules) -> Result<(), String> {
        let mut state = self.state();
        if let Some(directory) = &setup.directory {
            let failed =
                |error: std::io::Error| format!("recording.directory: {}: {error}", directory.display());
            std::fs::create_dir_all(directory).map_err(failed)?;
            if self.0.shared.queue.get().is_none() {
                let (queue, messages) = sync_channel(QUEUE_MAX);
                let (shared, tell) = (Arc::clone(&self.0.shared), Arc::clone(&self.0.tell));
                let recorder = Arc::downgrade(&self.0);
                let expire = move || {
                    if let Some(inner) = recorder.upgrade() {
                        Recorder(inner).expire();
                    }
                };
                let spawned = std::thread::Builder::new()
                    .name("recorder".into())
                    .spawn(move || Thread::new(shared, messages, tell, Box::new(expire)).run());
                state.thread = Some(spawned.map_err(|error| format!("the recorder's thread: {error}"))?);
                let _ = self.0.shared.queue.set(queue);
            }
        }
        self.0.shared.memory_bytes_max.store(setup.config.memory_bytes_max, Ordering::Relaxed);
        self.0.shared.seed.store(setup.seed, Ordering::Relaxed);
        state.config = setup.config.clone();
        state.directory.clone_from(&setup.directory);
        state.base = rules;
        if let Some(queue) = self.0.shared.queue.get() {
            // Waits for room: exchanges come and go, this must not be lost.
            let _ = queue.send(Message::Do(Command::Apply(Box::new(setup))));
        }
        self.publish(&state);
        Ok(())
    }

    /// What workers go by from now on.
    fn publish(&self, state: &State) {
        let is_possible = state.directory.is_some();
        let mut rules = state.base.clone();
        rules.rules.extend(state.demands.iter().cloned());
        let is_on = is_possible && rules.is_on();
        self.0.shared.rules.store(Arc::new(rules));
        self.0.shared.is_on.store(is_on, Ordering::Release);
    }

    /// Adds what was asked for at runtime; what has the same name is replaced.
    ///
    /// # Errors
    /// Nothing can be recorded without a directory.
    pub fn demand(&self, rule: Rule) -> Result<(), String> {
        let mut state = self.state();
        if state.directory.is_none() {
            return Err("nothing can be recorded: recording.directory is not set".into());
        }
        state.demands.retain(|other| other.id != rule.id);
        state.demands.push(rule);
        self.publish(&state);
        Ok(())
    }

    /// Takes back what was asked for; `None`: all of it. How many that were.
    pub fn withdraw(&self, id: Option<&str>) -> usize {
        let mut state = self.state();
        let before = state.demands.len();
        state.demands.retain(|rule| id.is_some_and(|id| rule.id.as_deref() != Some(id)));
        let withdrawn = before - state.demands.len();
        self.publish(&state);
        withdrawn
    }

    fn expire(&self) {
        let mut state = self.state();
        let (before, now) = (state.demands.len(), Instant::now());
        state.demands.retain(|rule| !rule.is_over(now));
        if state.demands.len() != before {
            self.publish(&state);
        }
    }

    /// Writes the flight recorder out.
    pub fn keep(&self) {
        if let Some(queue) = self.0.shared.queue.get() {
            let _ = queue.try_send(Message::Do(Command::Keep));
        }
    }

    /// Brings everything to the file; `false`: not within `deadline`.
    pub fn flush(&self, deadline: Duration) -> bool {
        let Some(queue) = self.0.shared.queue.get() else { return true };
        let (done, is_done) = sync_channel(1);
        queue.send(Message::Do(Command::Flush(done))).is_ok() && is_done.recv_timeout(deadline).is_ok()
    }

    /// The configuration in force.
    pub fn config(&self) -> Config {
        self.state().config.clone()
    }

    /// What can be shown.
    pub fn status(&self) -> Status {
        let state = self.state();
        let shared = &self.0.shared;
        Status {
            directory: state.directory.clone(),
            is_on: shared.is_on.load(Ordering::Relaxed),
            demands: state.demands.iter().filter_map(|rule| rule.id.as_deref().map(Into::into)).collect(),
            books: self.books(),
            held_bytes: (
                shared.granted.load(Ordering::Relaxed),
                shared.memory_bytes_max.load(Ordering::Relaxed),
            ),
        }
    }

    /// Writes what is there and ends the segment. Workers should have stopped before.
    pub fn stop(&self) {
        let thread = self.state().thread.take();
        if let Some(queue) = self.0.shared.queue.get() {
            let _ = queue.send(Message::Do(Command::Stop));
        }
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// The thread.
struct Thread {
    shared: Arc<Shared>,
    messages: Receiver<Message>,
    tell: Tell,
    expire: Box<dyn Fn() + Send>,
    setup: Option<Box<Setup>>,
    store: Option<Store>,
    /// The number of the last entry.
    sequence: u64,
    recording: String,
    /// When the oldest entry that is not in the file came.
    waiting: Option<Instant>,
    /// Until when the disk is not asked again, and why.
    refused: Option<(Instant, Reason)>,
    flight: VecDeque<Finished>,
    flight_bytes: usize,
    /// What is known of exchanges that come in parts, by their token.
    parts: BTreeMap<u64, Part>,
    /// Of tokens up to here, what was known may be forgotten.
    forgotten: u64,
    record: Vec<u8>,
    /// Buffers of exchanges that are written, until the batch ends.
    spares: Spares,
    last_tick: Instant,
    last_books: Books,
    /// Whether something in what is pushed was redacted.
    is_redacted: bool,
    is_stopping: bool,
}

impl Thread {
    fn new(
        shared: Arc<Shared>,
        messages: Receiver<Message>,
        tell: Tell,
        expire: Box<dyn Fn() + Send>,
    ) -> Thread {
        Thread {
            shared,
            messages,
            tell,
            expire,
            setup: None,
            store: None,
            sequence: 0,
            recording: recording_id(SystemTime::now(), std::process::id()),
            waiting: None,
            refused: None,
            flight: VecDeque::new(),
            flight_bytes: 0,
            parts: BTreeMap::new(),
            forgotten: 0,
            record: Vec::new(),
            spares: Vec::new(),
            last_tick: Instant::now(),
            last_books: Books::default(),
            is_redacted: false,
            is_stopping: false,
        }
    }

    fn run(mut self) {
        loop {
            let mut taken = 0;
            while taken < BATCH {
                match self.messages.try_recv() {
                    Ok(message) => self.take(message),
                    Err(_) => break,
                }
                taken += 1;
            }
            if !self.spares.is_empty() {
                self.shared.keep_spares(&mut self.spares);
            }
            let now = Instant::now();
            self.tick(now);
            if taken == BATCH {
                continue;
            }
            if self.is_stopping {
                return self.end();
            }
            if taken > 0 || self.waiting.is_some() {
                // What comes meanwhile is taken in one go, unless it is much.
                let held = self.shared.granted.load(Ordering::Relaxed);
                if held < self.shared.memory_bytes_max.load(Ordering::Relaxed) / 4 {
                    std::thread::sleep(NAP);
                }
                continue;
            }
            match self.messages.recv_timeout(IDLE) {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.end(),
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Exchange(finished) => {
                self.shared.queued.fetch_sub(1, Ordering::AcqRel);
                self.exchange(finished);
            }
            Message::Part(part) => {
                self.shared.queued.fetch_sub(1, Ordering::AcqRel);
                self.part(&part);
            }
            Message::Do(Command::Apply(setup)) => self.apply(setup),
            Message::Do(Command::Keep) => self.keep("demand"),
            Message::Do(Command::Flush(done)) => {
                self.flush();
                let _ = done.try_send(());
            }
            Message::Do(Command::Stop) => self.is_stopping = true,
        }
    }

    fn apply(&mut self, setup: Box<Setup>) {
        let directory = self.setup.as_ref().and_then(|old| old.directory.clone());
        let is_same_place = directory == setup.directory && setup.directory.is_some();
        let is_same_seal = self.setup.as_ref().is_some_and(|old| old.keys.is_some() == setup.keys.is_some());
        if self.setup.as_ref().is_some_and(|old| old.config.sinks != setup.config.sinks) {
            // Whoever begins in the middle of a segment has no head of it.
            self.end_segment();
        }
        let config = &setup.config;
        let retention = Retention {
            limits: Limits {
                segment_bytes: config.segment_bytes_max.max(64 << 10) as u64,
                ..Limits::default()
            },
            disk_bytes_max: (config.disk_bytes_max as u64).max(2 * config.segment_bytes_max as u64),
            age_max: config.age_max,
            level: config.compression,
        };
        let header = Header {
            version: segment::VERSION,
            recording: self.recording.clone(),
            service: setup.about.service.clone(),
            instance: setup.about.instance.clone(),
            writer: concat!("sidelight ", env!("CARGO_PKG_VERSION")).into(),
            source: "sidelight".into(),
            authorities: setup.about.authorities.clone(),
            sampled_millionths: (config.sample.ratio * 1e6) as u32,
            sampled_by: config.sample.by.as_str().into(),
            is_sealed: setup.keys.is_some(),
            revision: setup.about.revision.clone(),
            ..Header::default()
        };
        match &mut self.store {
            Some(store) if is_same_place && is_same_seal => {
                let segment = store.header().segment;
                *store.header() = Header { segment, ..header };
                store.retain(retention);
            }
            _ => {
                self.end_segment();
                let written = self.store.as_mut().map_or(0, |store| store.header().segment);
                self.store = setup.directory.as_ref().and_then(|directory| {
                    let store = Store::new(directory, header, retention);
                    store.inspect_err(|error| tracing::error!(%error, "the recording's directory")).ok()
                });
                if is_same_place {
                    // The files of these numbers are there.
                    self.store.iter_mut().for_each(|store| store.header().segment = written);
                } else if directory.is_some() {
                    self.recording = recording_id(SystemTime::now(), std::process::id());
                    if let Some(store) = &mut self.store {
                        store.header().recording = self.recording.clone();
                        store.header().segment = 0;
                    }
                }
            }
        }
        let shipping = (!setup.config.sinks.is_empty()).then(|| {
            let tell = Arc::clone(&self.tell);
            Shipping::new(setup.event_bytes_max, Arc::new(move |piece| tell(Told::Piece(piece.members()))))
        });
        self.store.iter_mut().for_each(|store| store.ship(shipping.clone()));
        self.setup = Some(setup);
    }

    fn exchange(&mut self, mut finished: Box<Finished>) {
        let trigger = finished.trigger;
        if !finished.is_wanted && trigger.is_none() {
            return self.hold(*finished);
        }
        if let Some(reason) = trigger {
            self.keep(reason);
        }
        if finished.is_wanted {
            finished.trigger = None;
        }
        let kept_by = finished.trigger.unwrap_or_default();
        self.write(&mut finished, kept_by);
        self.shared.give_back(finished.granted);
        if finished.bytes.capacity() <= SPARE_BYTES_MAX {
            finished.bytes.clear();
            self.spares.push(finished);
        }
    }

    /// Into the flight recorder, which has memory of its own.
    fn hold(&mut self, mut finished: Finished) {
        self.shared.give_back(std::mem::take(&mut finished.granted));
        finished.bytes.shrink_to_fit();
        let Some(flight) = self.setup.as_ref().and_then(|setup| setup.config.flight.clone()) else {
            return self.shared.counts.filter(1);
        };
        self.flight_bytes += finished.bytes.len() + size_of::<Finished>();
        self.flight.push_back(finished);
        let now = Instant::now();
        while let Some(oldest) = self.flight.front()
            && (self.flight_bytes > flight.bytes_max || now.duration_since(oldest.at) > flight.time)
        {
            self.flight_bytes -= oldest.bytes.len() + size_of::<Finished>();
            self.flight.pop_front();
            self.shared.counts.filter(1);
        }
    }

    /// Writes out what the flight recorder holds.
    fn keep(&mut self, reason: &'static str) {
        let entries = self.flight.len() as u64;
        while let Some(mut held) = self.flight.pop_front() {
            self.write(&mut held, reason);
        }
        self.flight_bytes = 0;
        if entries > 0 {
            (self.tell)(Told::Kept { reason, entries });
        }
    }

    fn part(&mut self, part: &Finished) {
        if self.may_write()
            && let Some(setup) = &mut self.setup
        {
            while self.parts.len() >= PARTS_MAX
                && let Some((token, _)) = self.parts.pop_first()
            {
                self.forgotten = token;
            }
            // Of one that is forgotten the rest is left out too: what was at its seams is not known.
            if part.token > self.forgotten {
                let mut record = std::mem::take(&mut self.record);
                record.clear();
                let known = self.parts.entry(part.token).or_default();
                let report = setup.redactor.redact_part(known, false, &part.bytes, &mut record);
                // What waits for its rest has no grant: all of it may be as much as exchanges under way may hold.
                let held: usize = self.parts.values().map(Part::held_bytes).sum();
                if held > setup.config.memory_bytes_max
                    && let Some(known) = self.parts.get_mut(&part.token)
                {
                    known.withhold();
                }
                if !record.is_empty() || !report.withheld {
                    self.push(part, &record, true);
                }
                self.keep_record(record);
            }
        }
        self.shared.give_back(part.granted);
    }

    fn write(&mut self, finished: &mut Finished, kept_by: &str) {
        if !self.may_write() {
            let reason = self.refused.map_or(Reason::IoError, |(_, reason)| reason);
            return self.shared.counts.drop(reason, 1);
        }
        let Some(setup) = &mut self.setup else { return self.shared.counts.drop(Reason::Shutdown, 1) };
        let places = places(finished, &setup.redactor);
        let [request, response] = sum(finished, &places, setup.seed);
        let has_nothing = finished.token == 0
            && places.has_all
            && setup.redactor.has_nothing(&finished.bytes, places.get(), finished.texts_end);
        let out = &mut finished.bytes;
        self.sequence += 1;
        wire::put_number(out, n::SEQUENCE, self.sequence);
        wire::put_bytes(out, n::KEPT_BY, kept_by.as_bytes());
        request.encode(out, n::REQUEST);
        response.encode(out, n::RESPONSE);
        if has_nothing {
            self.is_redacted = false;
            return self.push(finished, &finished.bytes, false);
        }
        let mut record = std::mem::take(&mut self.record);
        record.clear();
        let report = match finished.token {
            0 => setup.redactor.redact(&finished.bytes, &mut record),
            token if token > self.forgotten => {
                let mut known = self.parts.remove(&token).unwrap_or_default();
                setup.redactor.redact_part(&mut known, true, &finished.bytes, &mut record)
            }
            _ => redact::Report::default(),
        };
        match record.is_empty() {
            true => self.shared.counts.drop(Reason::RedactionError, 1),
            false => {
                self.is_redacted = report.redactions > 0;
                self.push(finished, &record, false);
            }
        }
        self.keep_record(record);
    }

    /// Memory for the next one that is redacted.
    fn keep_record(&mut self, record: Vec<u8>) {
        if record.capacity() <= 4 << 20 {
            self.record = record;
        }
    }

    /// Whether the disk is asked.
    fn may_write(&mut self) -> bool {
        self.store.is_some() && self.refused.is_none_or(|(until, _)| Instant::now() >= until)
    }

    /// Puts a record into the segment.
    fn push(&mut self, finished: &Finished, record: &[u8], is_part: bool) {
        let text = |span: Span| finished.bytes.get(range(span)).unwrap_or_default();
        let mut keys = Keys {
            started_ns: finished.started_ns,
            trace_id: Some(&finished.trace_id),
            account_id: text(finished.account_id),
            user_id: text(finished.user_id),
            route: text(finished.route),
            token: finished.token,
        };
        let Some(store) = &mut self.store else { return };
        let seal = self.setup.as_mut().and_then(|setup| setup.keys.as_mut());
        let (sealed, key_id, encoded);
        let (kind, record) = match (seal, is_part) {
            (Some(seal), _) => {
                let account = String::from_utf8_lossy(keys.account_id);
                match seal.seal(&account, record, seal::PURPOSE) {
                    Ok(made) => sealed = made,
                    Err(error) => {
                        tracing::warn!(%error, "an exchange could not be sealed, and is left out");
                        return self.shared.counts.drop(Reason::RedactionError, u64::from(!is_part));
                    }
                }
                key_id = sealed.key_id;
                // The index tells no more than the entry does.
                (keys.account_id, keys.user_id) = (&key_id, &[]);
                encoded = sealed.encode();
                (if is_part { Kind::SealedPart } else { Kind::SealedEntry }, encoded.as_slice())
            }
            (None, _) => {
                if self.is_redacted && !is_part {
                    for (number, value) in wire::Fields::new(record).flatten() {
                        match number {
                            n::ACCOUNT_ID => keys.account_id = value.bytes(),
                            n::USER_ID => keys.user_id = value.bytes(),
                            _ => {}
                        }
                    }
                }
                (if is_part { Kind::Part } else { Kind::Entry }, record)
            }
        };
        if record.len() > segment::block::RECORD_BYTES_MAX {
            return self.shared.counts.drop(Reason::TooLarge, u64::from(!is_part));
        }
        let pushed = store.push(kind, &[record], &keys);
        let is_full = store.is_full();
        match pushed {
            Ok(()) => {
                self.shared.counts.record(u64::from(!is_part));
                self.waiting.get_or_insert_with(Instant::now);
                self.resumed();
                if is_full {
                    self.end_segment();
                }
            }
            Err(lost) => {
                let reason = self.failed(&lost);
                self.shared.counts.drop(reason, u64::from(!is_part));
            }
        }
    }

    fn failed(&mut self, lost: &Lost) -> Reason {
        let reason = match lost.error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Reason::DiskFull,
            _ => Reason::IoError,
        };
        // The entry that was being pushed is counted by who pushed it.
        let lost_before = lost.entries.saturating_sub(u64::from(lost.is_push));
        self.shared.counts.unrecord(lost_before);
        self.shared.counts.drop(reason, lost_before);
        self.waiting = None;
        if self.refused.is_none() {
            let message = lost.error.to_string();
            tracing::error!(
                error = message,
                "the recording has stopped: the disk refuses; it is tried again"
            );
            (self.tell)(Told::Stopped { reason: reason.as_str(), message });
        }
        self.refused = Some((Instant::now() + TICK, reason));
        reason
    }

    fn resumed(&mut self) {
        if self.refused.take().is_some() {
            tracing::info!("the recording goes on");
            (self.tell)(Told::Resumed);
        }
    }

    fn flush(&mut self) {
        self.waiting = None;
        if let Some(store) = &mut self.store
            && let Err(lost) = store.flush()
        {
            self.failed(&lost);
        }
    }

    fn tick(&mut self, now: Instant) {
        let interval = self.setup.as_ref().map_or(TICK, |setup| setup.config.flush_interval);
        if self.waiting.is_some_and(|since| now.duration_since(since) >= interval) {
            self.flush();
        }
        if now.duration_since(self.last_tick) < TICK {
            return;
        }
        self.last_tick = now;
        (self.expire)();
        if let Some(keys) = self.setup.as_mut().and_then(|setup| setup.keys.as_mut()) {
            keys.drop_deleted();
        }
        let books = self.shared.counts.read();
        if books != self.last_books
            && let Some(store) = &mut self.store
        {
            if let Err(lost) = store.note_books(&books) {
                self.failed(&lost);
            }
            self.last_books = books;
        }
    }

    fn end_segment(&mut self) {
        self.waiting = None;
        let books = self.shared.counts.read();
        if let Some(store) = &mut self.store
            && let Err(lost) = store.end_segment(&books)
        {
            self.failed(&lost);
        }
    }

    /// Nothing more will come. What the flight recorder holds nobody asked for.
    fn end(mut self) {
        while let Ok(message) = self.messages.try_recv() {
            self.take(message);
        }
        self.shared.counts.filter(self.flight.len() as u64);
        self.flight.clear();
        self.end_segment();
    }
}

/// Where the content of an exchange is, in the order in which it came, and whether it is known to have nothing in it.
#[derive(Default)]
struct Places {
    places: [(Range<usize>, bool); 2],
    count: usize,
    /// There is no other content.
    has_all: bool,
    /// Sums that are known.
    sums: [Option<u64>; 2],
}

impl Places {
    fn get(&self) -> &[(Range<usize>, bool)] {
        self.places.get(..self.count).unwrap_or_default()
    }
}

fn range(span: Span) -> Range<usize> {
    span.start as usize..(span.start + span.len) as usize
}

fn places(finished: &Finished, redactor: &Redactor) -> Places {
    let mut places = Places { has_all: true, ..Places::default() };
    for (content, known) in finished.contents.iter().zip(&mut places.sums) {
        let Some(place) = content.place.map(range) else {
            places.has_all &= content.pieces == 0;
            continue;
        };
        let is_whole = !content.is_truncated;
        *known = finished.bytes.get(place.clone()).and_then(|data| redactor.known_sum(data));
        if let Some(slot) = places.places.get_mut(places.count) {
            *slot = (place, known.is_some());
            places.count += 1;
        }
        // That of a part is not that of all.
        *known = known.filter(|_| is_whole);
    }
    if let (2, [(a, _), (b, _)]) = (places.count, &places.places)
        && b.start < a.start
    {
        places.places.reverse();
    }
    places
}

/// The content of both sides, summed.
fn sum(finished: &Finished, places: &Places, seed: u64) -> [Content; 2] {
    let mut contents = finished.contents;
    for (sum, known) in contents.iter_mut().zip(places.sums).filter(|(sum, _)| sum.hash.is_none()) {
        // Most content is one piece.
        let piece = sum.place.and_then(|place| finished.bytes.get(range(place)));
        sum.hash = known.or_else(|| piece.map(|piece| XxHash3_64::oneshot_with_seed(seed, piece)));
    }
    let [request, response] = contents;
    let is_summed = |sum: &Sum| sum.hash.is_some() || sum.bytes == 0;
    let mut hashes = [request.hash, response.hash];
    if !is_summed(&request) || !is_summed(&response) {
        let mut sums: [Summing<'_>; 2] = Default::default();
        each_data(&finished.bytes, |side, data| {
            let [request, response] = &mut sums;
            match side {
                Side::Request => request.add(data, seed),
                Side::Response => response.add(data, seed),
            }
        });
        for (hash, sum) in hashes.iter_mut().zip(sums) {
            *hash = hash.or(sum.finish(seed));
        }
    }
    let [request_hash, response_hash] = hashes;
    let content = |sum: Sum, hash: Option<u64>| Content {
        bytes: sum.bytes,
        hash: hash.unwrap_or(0),
        is_truncated: sum.is_truncated,
    };
    [content(request, request_hash), content(response, response_hash)]
}

/// A sum in the making: most content is one piece, which is summed at once.
#[derive(Default)]
enum Summing<'a> {
    #[default]
    Nothing,
    One(&'a [u8]),
    Many(Box<Hasher>),
}

impl<'a> Summing<'a> {
    fn add(&mut self, data: &'a [u8], seed: u64) {
        match self {
            Summing::Nothing => *self = Summing::One(data),
            Summing::One(first) => {
                let mut hasher = Box::new(Hasher::with_seed(seed));
                std::hash::Hasher::write(&mut *hasher, first);
                std::hash::Hasher::write(&mut *hasher, data);
                *self = Summing::Many(hasher);
            }
            Summing::Many(hasher) => std::hash::Hasher::write(&mut **hasher, data),
        }
    }

    fn finish(self, seed: u64) -> Option<u64> {
        match self {
            Summing::Nothing => None,
            Summing::One(data) => Some(XxHash3_64::oneshot_with_seed(seed, data)),
            Summing::Many(hasher) => Some(std::hash::Hasher::finish(&*hasher)),
        }
    }
}
