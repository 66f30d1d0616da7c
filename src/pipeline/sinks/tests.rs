//! The thread of a sink against sinks that fail in every way, and what many tests need.

use super::DeadLetters;
use super::runner::{Control, Mode, Parts, Runner};
use super::sink::{Failure, Pace, Sent, Sink};
use super::status::Status;
use crate::pipeline::accounts::Emitted;
use crate::pipeline::emitter;
use crate::pipeline::spool::{self, Batch, Books, Class, Reason, Spool, Start};
use crate::pipeline::wake::Wake;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A batch of these events, numbered from 1.
pub(in crate::pipeline) fn batch(events: &[&str]) -> Batch {
    let (spool, mut writer) = Spool::open(&spool::Config::default(), "test", 1).unwrap();
    let mut cursor = spool.cursor("test", Start::End).unwrap();
    for event in events {
        writer.append(Class::Event, event.as_bytes());
    }
    writer.tick(std::time::Instant::now());
    let mut batch = Batch::new(16 << 20, events.len().max(1));
    assert_eq!(cursor.read(&mut batch), events.len());
    batch
}

mod faults;
mod pieces;

const DEADLINE: Duration = Duration::from_secs(30);

/// What the other side does with what it is sent, in turn; then it takes everything.
type Script = Arc<Mutex<VecDeque<Step>>>;

enum Step {
    Take,
    Fail,
    /// Keeps it, and says so only when something comes after it.
    Hold,
    /// The same, after a while.
    HoldSlowly,
    /// Takes it, after a while.
    Slow,
    /// Takes it, but for the event with this text.
    Reject(&'static str),
}

/// A sink with a script. Whatever the script says, an event that says `poison` is refused.
struct Fake {
    script: Script,
    taken: Sender<Vec<String>>,
    is_picky: bool,
    /// What happens when it is idle, or closed, in turn; then nothing does.
    idles: Script,
    idled: Arc<AtomicUsize>,
    /// The last event that it was sent.
    last: Option<u64>,
}

impl Fake {
    fn new(script: Vec<Step>, taken: Sender<Vec<String>>) -> Fake {
        let script = Arc::new(Mutex::new(script.into()));
        Fake { script, taken, is_picky: false, idles: Script::default(), idled: Arc::default(), last: None }
    }
}

impl Sink for Fake {
    fn pace(&self) -> Pace {
        let idle_interval = Duration::from_millis(20);
        Pace { events_max: 8, linger: Duration::ZERO, idle_interval, ..Pace::default() }
    }

    fn idle(&mut self, _: Instant) -> Result<Sent, Failure> {
        self.idled.fetch_add(1, Ordering::Relaxed);
        match self.idles.lock().unwrap().pop_front() {
            Some(Step::Fail) => Err(Failure::retry("not now")),
            Some(Step::Take) => Ok(Sent { through: self.last, ..Sent::default() }),
            _ => Ok(Sent::nothing()),
        }
    }

    fn send(&mut self, batch: &Batch, _: Instant) -> Result<Sent, Failure> {
        let texts: Vec<String> =
            batch.events().map(|event| String::from_utf8_lossy(event.payload).into_owned()).collect();
        self.last = batch.last_sequence();
        if self.is_picky && texts.iter().any(|text| text.contains("poison")) {
            return Err(Failure::refused("it is poisonous"));
        }
        let step = self.script.lock().unwrap().pop_front().unwrap_or(Step::Take);
        let mut sent = match step {
            Step::Fail => return Err(Failure::retry("not now")),
            Step::Hold => Sent::nothing(),
            Step::HoldSlowly => {
                std::thread::sleep(Duration::from_millis(25));
                Sent::nothing()
            }
            Step::Slow => {
                std::thread::sleep(Duration::from_millis(1));
                Sent::all(batch)
            }
            Step::Take | Step::Reject(_) => Sent::all(batch),
        };
        if let Step::Reject(text) = step {
            let rejected = batch.events().filter(|event| event.payload == text.as_bytes());
            sent.rejected = rejected.map(|event| (event.sequence, "no".into())).collect();
        }
        let _ = self.taken.send(texts);
        Ok(sent)
    }
}

struct Fixture {
    spool: Spool,
    writer: spool::Writer,
    control: Arc<Control>,
    status: Arc<Status>,
    taken: Receiver<Vec<String>>,
    thread: JoinHandle<()>,
    /// The thread's number: what it does is told apart from what other tests do.
    task: i32,
    directory: tempfile::TempDir,
}

impl Fixture {
    /// The script is followed from the first event, all of which are there when the thread begins.
    fn start(script: Vec<Step>, is_picky: bool, events: &[&str]) -> Fixture {
        Fixture::with(&spool::Config::default(), events, |taken| Fake {
            is_picky,
            ..Fake::new(script, taken)
        })
    }

    fn with(
        config: &spool::Config,
        events: &[&str],
        sink: impl FnOnce(Sender<Vec<String>>) -> Fake,
    ) -> Fixture {
        Fixture::begin(Fixture::fill(config, events), sink)
    }

    /// A spool with these events, and a cursor before them.
    fn fill(config: &spool::Config, events: &[&str]) -> (Spool, spool::Writer) {
        let (spool, mut writer) = Spool::open(config, "test", 1).unwrap();
        drop(spool.cursor("fake", Start::End).unwrap());
        for event in events {
            writer.append(Class::Event, event.as_bytes());
        }
        writer.tick(Instant::now());
        (spool, writer)
    }

    fn begin(opened: (Spool, spool::Writer), sink: impl FnOnce(Sender<Vec<String>>) -> Fake) -> Fixture {
        Fixture::begin_told(opened, |_| {}, sink)
    }

    /// The same; `tell` says what the sink is to have, before its thread begins.
    fn begin_told(
        (spool, writer): (Spool, spool::Writer),
        tell: impl FnOnce(&Status),
        sink: impl FnOnce(Sender<Vec<String>>) -> Fake,
    ) -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let cursor = spool.cursor("fake", Start::End).unwrap();
        let (sender, taken) = channel();
        let sink = Box::new(sink(sender));
        let (control, status) = (Arc::<Control>::default(), Arc::new(Status::new("fake")));
        tell(&status);
        let letters = Arc::new(DeadLetters::new(Some(directory.path().join("dead"))));
        let (emitter, _) = emitter::channel(Arc::<Emitted>::default(), Arc::<Wake>::default());
        let parts = Parts {
            sink,
            cursor,
            status: Arc::clone(&status),
            control: Arc::clone(&control),
            letters,
            emitter,
        };
        let (say, told) = channel();
        let thread = std::thread::spawn(move || {
            // SAFETY: it takes nothing and cannot fail.
            say.send(unsafe { libc::gettid() }).unwrap();
            Runner::new(parts).run();
        });
        let task = told.recv().unwrap();
        Fixture { spool, writer, control, status, taken, thread, task, directory }
    }

    /// Waits until everything is settled, and ends the thread.
    fn finish(self) -> (Books, Vec<Vec<String>>, Vec<serde_json::Value>, Arc<Status>) {
        let since = Instant::now();
        while self.spool.books()[0].queued > 0 {
            assert!(since.elapsed() < DEADLINE, "events were never settled");
            std::thread::yield_now();
        }
        self.control.set(Mode::Halt);
        self.spool.end("fake");
        self.thread.join().unwrap();
        let books = self.spool.books().remove(0);
        assert!(books.is_balanced(), "{books:?}");
        let letters = std::fs::read_to_string(self.directory.path().join("dead")).unwrap_or_default();
        let letters = letters.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (books, self.taken.try_iter().collect(), letters, self.status)
    }
}

#[test]
fn what_fails_for_now_comes_again_whole_and_in_order() {
    let script = vec![Step::Fail, Step::Fail, Step::Take, Step::Fail];
    let events: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let (books, taken, letters, status) = Fixture::start(script, false, &events).finish();
    assert_eq!(taken.concat(), events);
    assert_eq!((books.delivered, books.dropped_all(), letters.len()), (20, 0, 0));
    assert_eq!((status.retries(), status.is_up()), (3, true));
    assert_eq!(status.last_error().unwrap().1, "not now");
}

#[test]
fn one_poisonous_event_goes_to_the_dead_letters_and_all_others_through() {
    let events = ["0", "1", "2", "poison a", "4", "5", "6", "7", "8", "poison b"];
    let (books, taken, letters, status) =
        Fixture::start(vec![Step::Take, Step::Fail], true, &events).finish();
    assert_eq!(taken.concat(), ["0", "1", "2", "4", "5", "6", "7", "8"]);
    assert_eq!((books.delivered, books.dropped[Reason::Rejected as usize], books.dropped_all()), (8, 2, 2));
    let told: Vec<_> = letters.iter().map(|letter| (&letter["event"], &letter["reason"])).collect();
    let reason = &serde_json::Value::from("it is poisonous");
    assert_eq!(told, [(&"poison a".into(), reason), (&"poison b".into(), reason)]);
    assert!(status.is_up(), "the sink works");
}

#[test]
fn what_the_other_side_rejects_by_number_is_kept_and_the_rest_is_delivered() {
    let script = vec![Step::Reject("1")];
    let (books, _, letters, _) = Fixture::start(script, false, &["0", "1", "2"]).finish();
    assert_eq!((books.delivered, books.dropped[Reason::Rejected as usize]), (2, 1));
    assert_eq!((letters.len(), &letters[0]["event"]), (1, &1.into()));
}

#[test]
fn what_a_sink_held_comes_again_when_it_fails() {
    let events: Vec<String> = (0..24).map(|number| number.to_string()).collect();
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let script = vec![Step::Hold, Step::Hold, Step::Fail];
    let (books, taken, _, _) = Fixture::start(script, false, &events).finish();
    assert_eq!(taken[..2].concat(), events[..16]);
    assert_eq!(taken[2..].concat(), events, "from the first one that was not settled");
    assert_eq!(books.delivered, 24);
}

#[test]
fn a_sink_that_is_removed_ends_and_one_that_drains_sends_what_is_there() {
    let fixture = Fixture::start(Vec::new(), false, &[]);
    fixture.spool.remove("fake");
    fixture.thread.join().unwrap();

    let mut fixture = Fixture::start(Vec::new(), false, &["0"]);
    fixture.writer.append(Class::Event, b"1");
    fixture.writer.tick(Instant::now());
    fixture.control.set(Mode::Drain(Instant::now() + DEADLINE));
    fixture.spool.end("fake");
    fixture.thread.join().unwrap();
    assert_eq!(fixture.taken.try_iter().collect::<Vec<_>>().concat(), ["0", "1"]);

    // One that never works does not keep the process.
    let failing = (0..10_000).map(|_| Step::Fail).collect();
    let fixture = Fixture::start(failing, false, &["0"]);
    fixture.control.set(Mode::Drain(Instant::now() + Duration::from_millis(200)));
    fixture.spool.end("fake");
    let since = Instant::now();
    fixture.thread.join().unwrap();
    assert!(since.elapsed() < DEADLINE);
    assert_eq!(fixture.spool.books()[0].queued, 1);
}
