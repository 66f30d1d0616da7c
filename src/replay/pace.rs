//! The pacing thread: hands each exchange to its driver when its time has come.
//!
//! It sleeps until 60 µs before a time (a sleep of the kernel ends some 50 µs late, by its timer slack and the scheduler), then looks at
//! the clock until it is there. Times are absolute, so that being late once makes nothing else late. It never waits for
//! a driver: what does not fit is not sent, is counted, and makes the run INVALID.

use super::driver::Job;
use super::feed::Fed;
use super::plan::{self, Plan};
use super::schedule::{Schedule, Timing};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How early the thread wakes.
const SPIN: Duration = Duration::from_micros(60);

/// How long it sleeps at once at most, so that a stop is seen.
const NAP: Duration = Duration::from_millis(20);

/// What the threads of a run see of each other.
pub(super) struct Shared {
    /// The start of the schedule.
    pub t0: Instant,
    /// See [`Stop`].
    pub stop: Stop,
    /// Exchanges that were handed over and are not over.
    pub in_flight: AtomicU64,
    /// The memory that their entries take.
    pub in_flight_bytes: AtomicU64,
    /// The rate of [`Timing::Led`], as the bits of an `f64`.
    pub rate: AtomicU64,
    /// The pacing thread, which waits for answers in a closed loop.
    pub pacer: std::sync::OnceLock<std::thread::Thread>,
    /// How many were handed over.
    pub handed: AtomicU64,
}

impl Shared {
    pub(super) fn now_ns(&self) -> u64 {
        // Never 0, which stands for "not at all" in answers.
        (Instant::now().saturating_duration_since(self.t0).as_nanos() as u64).max(1)
    }
}

/// A handle to end a run early: once, and what is under way is finished; twice, and it is not.
#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicU8>);

impl Stop {
    /// Asks for the end.
    pub fn stop(&self) {
        let _ =
            self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |times| Some(times.saturating_add(1)));
    }

    /// Whether it was asked for.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }

    /// Whether it was asked for twice.
    pub fn is_urgent(&self) -> bool {
        self.0.load(Ordering::Acquire) > 1
    }
}

pub(super) struct Pacer {
    pub shared: Arc<Shared>,
    pub plan: Arc<Plan>,
    pub timing: Timing,
    pub seed: u64,
    pub clones: u32,
    /// When to end, whatever is left.
    pub until_ns: u64,
    pub in_flight_bytes_max: u64,
    pub fed: Receiver<Fed>,
    pub waiting_bytes: Arc<AtomicU64>,
    pub drivers: Vec<mpsc::Sender<Job>>,
}

/// What the pacing thread did.
#[derive(Debug, Default)]
pub(super) struct Paced {
    /// Exchanges whose time came.
    pub scheduled: u64,
    /// Those that were not handed over, by reason.
    pub not_sent: BTreeMap<&'static str, u64>,
    /// See [`super::verdict::Run::dispatch_hash`].
    pub hash: u64,
    /// The last time.
    pub last_ns: u64,
}

impl Pacer {
    pub(super) fn run(self) -> Paced {
        exact_sleep();
        let _ = self.shared.pacer.set(std::thread::current());
        let mut schedule = Schedule::new(self.timing.clone(), self.seed);
        let mut paced = Paced::default();
        let mut id = 0u64;
        'run: loop {
            let fed = match self.fed.recv_timeout(NAP) {
                Ok(fed) => fed,
                Err(RecvTimeoutError::Timeout) if self.shared.stop.is_stopped() => break,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let Some(item) = self.plan.items.get(fed.place as usize) else { continue };
            self.waiting_bytes.fetch_sub(u64::from(item.bytes), Ordering::AcqRel);
            let shift = u64::from(fed.pass).saturating_mul(self.plan.span_ns);
            let recorded_ns = item.start_ns.saturating_add(shift);
            for clone in 0..self.clones {
                let rate = f64::from_bits(self.shared.rate.load(Ordering::Acquire));
                let at_ns = schedule.next(recorded_ns, rate);
                if at_ns >= self.until_ns {
                    break 'run;
                }
                let at_ns = match self.wait(at_ns) {
                    Some(at_ns) => at_ns,
                    None => break 'run,
                };
                paced.scheduled += 1;
                paced.last_ns = paced.last_ns.max(at_ns);
                // A closed loop has an order, and no times.
                let hashed_ns = if matches!(self.timing, Timing::Closed { .. }) { 0 } else { at_ns };
                paced.hash = plan::mix(paced.hash.rotate_left(5) ^ plan::mix(hashed_ns) ^ item.sequence)
                    ^ u64::from(clone)
                    ^ (u64::from(fed.pass) << 32);
                let job = Job {
                    id,
                    intended_ns: at_ns,
                    start_ns: recorded_ns,
                    end_ns: item.end_ns.saturating_add(shift),
                    entry: Arc::clone(&fed.entry),
                    bytes: item.bytes,
                    actor: item.actor,
                    connection: item.connection,
                    is_last: item.is_last,
                    clone,
                    pass: fed.pass,
                };
                id += 1;
                if let Err(reason) = self.hand(job, item.driver) {
                    *paced.not_sent.entry(reason).or_default() += 1;
                }
            }
        }
        paced
    }

    fn hand(&self, job: Job, driver: u16) -> Result<(), &'static str> {
        let shared = &self.shared;
        let bytes = u64::from(job.bytes);
        if shared.in_flight_bytes.load(Ordering::Acquire).saturating_add(bytes) > self.in_flight_bytes_max {
            return Err("memory");
        }
        shared.in_flight_bytes.fetch_add(bytes, Ordering::AcqRel);
        shared.in_flight.fetch_add(1, Ordering::AcqRel);
        let sent = self.drivers.get(usize::from(driver)).map(|sender| sender.try_send(job));
        if matches!(sent, Some(Ok(()))) {
            shared.handed.fetch_add(1, Ordering::AcqRel);
            return Ok(());
        }
        shared.in_flight_bytes.fetch_sub(bytes, Ordering::AcqRel);
        shared.in_flight.fetch_sub(1, Ordering::AcqRel);
        Err("queue_full")
    }

    /// Waits for a time, or in a closed loop for a free place; `None` when the run is stopped.
    fn wait(&self, at_ns: u64) -> Option<u64> {
        if let Timing::Closed { connections } = self.timing {
            // Bounded: the start is a few milliseconds away.
            std::thread::sleep(self.shared.t0.saturating_duration_since(Instant::now()));
            while self.shared.in_flight.load(Ordering::Acquire) >= u64::from(connections) {
                if self.shared.stop.is_stopped() {
                    return None;
                }
                std::thread::park_timeout(NAP);
            }
            let now_ns = self.shared.now_ns();
            return (now_ns < self.until_ns && !self.shared.stop.is_stopped()).then_some(now_ns);
        }
        let due = self.shared.t0.checked_add(Duration::from_nanos(at_ns))?;
        loop {
            if self.shared.stop.is_stopped() {
                return None;
            }
            let left = due.saturating_duration_since(Instant::now());
            if left <= SPIN {
                break;
            }
            std::thread::sleep((left - SPIN).min(NAP));
        }
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        Some(at_ns)
    }
}

/// Asks the kernel not to round the sleeps of this thread up (prctl(2), `PR_SET_TIMERSLACK`; 50 µs by default).
fn exact_sleep() {
    #[cfg(target_os = "linux")]
    // SAFETY: this option takes a number, and changes nothing but the thread's own slack.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1_000);
    }
}
