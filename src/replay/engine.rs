//! A run: threads that read, pace, drive and compare, and one that adds up and judges.

use super::capacity::{Search, Sight};
use super::driver::{Driver, Settings};
use super::feed::{self, Feed};
use super::histogram::Histogram;
use super::judge::{DOWN, Watch, judge};
use super::pace::{Paced, Pacer, Shared, Stop};
use super::plan::{Plan, Wanted};
use super::request::{Dressing, run_id};
use super::safety::Grant;
use super::schedule::Timing;
use super::seam::Hooks;
use super::source::Source;
use super::tally::Tally;
use super::target::Target;
use super::verdict::{Run, Slo, Verdict};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often the recording is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passes {
    /// So many times.
    Count(u32),
    /// Over and over, for so long.
    For(Duration),
}

/// What to do. Start from the default.
#[derive(Clone)]
pub struct Options {
    /// What the recording is called in the result.
    pub recording: String,
    /// What of it is sent.
    pub wanted: Wanted,
    /// Where to: one, or primary, secondary and candidate.
    pub targets: Vec<Target>,
    /// Permissions to send to recorded authorities.
    pub grants: Vec<Grant>,
    /// When.
    pub timing: Timing,
    /// What times and ids are drawn from. The run's id is made from it and the clock.
    pub seed: u64,
    /// How often.
    pub passes: Passes,
    /// Clones of each account, the first included: 1 is the recording as it is.
    pub clones: u32,
    /// How long an exchange may take.
    pub timeout: Duration,
    /// How long what is under way may take at the end.
    pub drain: Duration,
    /// What is kept of each answer.
    pub keep_body_bytes: usize,
    /// Whether pieces of content and frames keep their recorded times.
    pub piece_timing: bool,
    /// Whether `x-request-type` stays as recorded.
    pub as_recorded: bool,
    /// `Host`, if not as recorded.
    pub host: Option<String>,
    /// Threads that send.
    pub drivers: usize,
    /// Beyond this p99 of the send lag the run is INVALID.
    pub lag_p99_max: Duration,
    /// Memory of exchanges under way; beyond it exchanges are not sent, and the run is INVALID.
    pub in_flight_bytes_max: u64,
    /// Exchanges that wait for a driver thread; beyond it the run is INVALID.
    pub queue: usize,
    /// Bounds.
    pub slo: Option<Slo>,
    /// How long each rate is tried with [`Timing::Led`].
    pub step: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            recording: String::new(),
            wanted: Wanted::default(),
            targets: Vec::new(),
            grants: Vec::new(),
            timing: Timing::Recorded { speed: 1.0 },
            seed: 0,
            passes: Passes::Count(1),
            clones: 1,
            timeout: Duration::from_secs(30),
            drain: Duration::from_secs(30),
            keep_body_bytes: 1 << 20,
            piece_timing: false,
            as_recorded: false,
            host: None,
            drivers: 1,
            lag_p99_max: Duration::from_millis(1),
            in_flight_bytes_max: 512 << 20,
            queue: 65_536,
            slo: None,
            step: Duration::from_secs(10),
        }
    }
}

/// Where a run is; told about four times a second.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Since the start of the schedule.
    pub seconds: f64,
    /// Exchanges to come in all, if that is known.
    pub total: Option<u64>,
    /// Handed to the driver threads.
    pub handed: u64,
    /// Sent and over, at the first target.
    pub ended: u64,
    /// Failed, at the first target.
    pub failed: u64,
    /// Under way.
    pub in_flight: u64,
    /// p99 from the intended time so far, in microseconds.
    pub p99_us: u64,
    /// p99 of the send lag so far, in microseconds.
    pub lag_p99_us: u64,
    /// The rate of a search for the capacity.
    pub rate: Option<f64>,
}

/// How long the first connection may take.
const KNOCK: Duration = Duration::from_secs(5);

/// How long after everything is ready the schedule starts.
const LEAD: Duration = Duration::from_millis(50);

/// Exchanges that wait to be compared.
const COMPARE_QUEUE: usize = 512;

/// Runs a replay to its end.
///
/// # Errors
/// It cannot begin: nothing to send, or a target that it must not go to.
pub fn run(
    source: &Arc<dyn Source>,
    options: &Options,
    hooks: Hooks,
    stop: &Stop,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Run, String> {
    if options.targets.is_empty() {
        return Err("no target: --to URL".into());
    }
    let mut search = match options.timing {
        Timing::Led { from } => {
            let slo = options.slo.clone().unwrap_or_default();
            Some(Search::new(from, options.step, slo, options.lag_p99_max)?)
        }
        _ => None,
    };
    let plan = Arc::new(Plan::build(&**source, &options.wanted, options.drivers)?);
    for target in &options.targets {
        plan.recorded.check(&target.authority, &options.grants, SystemTime::now())?;
    }
    let started = SystemTime::now();
    let since_1970 = started.duration_since(UNIX_EPOCH).unwrap_or_default();
    let run_seed =
        super::plan::mix(options.seed ^ since_1970.as_nanos() as u64 ^ u64::from(std::process::id()));
    let mut run = Run {
        run: run_id(run_seed),
        recording: options.recording.clone(),
        timing: options.timing.text(),
        seed: options.seed,
        clones: options.clones,
        started_s: since_1970.as_secs_f64(),
        excluded: plan.excluded.clone(),
        accounts: plan.accounts,
        connections: plan.connections,
        problems: plan.problems.clone(),
        ..Run::default()
    };
    let excluded: u64 = plan.excluded.values().sum();
    let clones = options.clones.max(1);
    let (passes, until_ns) = match options.passes {
        _ if matches!(options.timing, Timing::Led { .. }) => (u32::MAX, u64::MAX),
        Passes::Count(passes) => (passes.max(1), u64::MAX),
        Passes::For(time) => (u32::MAX, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
    };
    let total = (passes != u32::MAX).then(|| plan.len() as u64 * u64::from(clones) * u64::from(passes));
    for target in &options.targets {
        if let Err(why) = target.check(options.timeout.min(KNOCK)) {
            let planned = total.unwrap_or(plan.len() as u64);
            run.verdict = Verdict::TargetDown;
            run.reasons.push(why);
            run.planned = planned + excluded;
            run.dispatch_hash = format!("{:016x}", 0);
            run.targets = options
                .targets
                .iter()
                .map(|target| {
                    let not_sent = BTreeMap::from([("target_down".to_owned(), planned)]);
                    Tally { not_sent, ..Tally::default() }.into_run(&target.name, &target.url)
                })
                .collect();
            return Ok(run);
        }
    }

    // The thread that reads: the schedule starts when its first exchange is there.
    let (fed_in, fed) = mpsc::sync_channel(feed::QUEUE);
    let waiting_bytes = Arc::new(AtomicU64::new(0));
    let is_fed = Arc::new(AtomicBool::new(false));
    let feed = Feed {
        source: Arc::clone(source),
        plan: Arc::clone(&plan),
        passes,
        out: fed_in,
        waiting_bytes: Arc::clone(&waiting_bytes),
        is_stopped: {
            let (stop, is_fed) = (stop.clone(), Arc::clone(&is_fed));
            Box::new(move || stop.is_stopped() || is_fed.load(Ordering::Acquire))
        },
    };
    let feed = spawn("replay-read", move || feed.run())?;
    while waiting_bytes.load(Ordering::Acquire) == 0 && !feed.is_finished() && !stop.is_stopped() {
        thread::sleep(Duration::from_millis(2));
    }

    let led = match options.timing {
        Timing::Led { from } => from,
        _ => 1.0,
    };
    let shared = Arc::new(Shared {
        t0: Instant::now() + LEAD,
        stop: stop.clone(),
        in_flight: AtomicU64::new(0),
        in_flight_bytes: AtomicU64::new(0),
        rate: AtomicU64::new(led.to_bits()),
        pacer: OnceLock::new(),
        handed: AtomicU64::new(0),
    });
    let speed = match options.timing {
        Timing::Recorded { speed } => speed,
        _ => 1.0,
    };
    let Hooks { session, collector } = hooks;
    let settings = Arc::new(Settings {
        targets: options.targets.clone(),
        dressing: Dressing {
            run: run.run.clone(),
            seed: run_seed,
            as_recorded: options.as_recorded,
            host: options.host.clone().map(Bytes::from),
        },
        timeout: options.timeout,
        drain: options.drain,
        keep_body_bytes: options.keep_body_bytes,
        piece_speed: options.piece_timing.then_some(speed),
        is_closed_loop: matches!(options.timing, Timing::Closed { .. }),
        wants_content: session.is_some() || collector.is_some(),
    });
    let not_compared = Arc::new(AtomicU64::new(0));
    let (compare, comparing) = match collector {
        None => (None, None),
        Some(mut collector) => {
            let (compare, answers) = mpsc::sync_channel::<super::driver::Compared>(COMPARE_QUEUE);
            let thread = spawn("replay-compare", move || {
                for (entry, answers) in answers {
                    collector.take(&entry, &answers);
                }
                collector.finish()
            })?;
            (Some(compare), Some(thread))
        }
    };
    let (tell, told) = mpsc::channel();
    let (mut queues, mut drivers) = (Vec::new(), Vec::new());
    for _ in 0..options.drivers.max(1) {
        let (queue, jobs) = tokio::sync::mpsc::channel(options.queue.max(1));
        queues.push(queue);
        let driver = Driver {
            shared: Arc::clone(&shared),
            settings: Arc::clone(&settings),
            source: Arc::clone(source),
            jobs,
            session: session.as_ref().map(|make| make()),
            tell: tell.clone(),
            compare: compare.clone(),
            not_compared: Arc::clone(&not_compared),
        };
        drivers.push(spawn("replay-send", move || driver.run())?);
    }
    drop((tell, compare));
    let pacer = Pacer {
        shared: Arc::clone(&shared),
        plan: Arc::clone(&plan),
        timing: options.timing.clone(),
        seed: options.seed,
        clones,
        until_ns,
        in_flight_bytes_max: options.in_flight_bytes_max,
        fed,
        waiting_bytes,
        drivers: queues,
    };
    let pacer = spawn("replay-pace", move || pacer.run())?;

    // Add up until every driver is done.
    let mut tallies = vec![Tally::default(); options.targets.len()];
    let (mut is_down, mut own_end) = (None, false);
    let mut watches: Vec<Watch> = options.targets.iter().map(|_| Watch::default()).collect();
    let mut is_stopped_by_user = false;
    loop {
        match told.recv_timeout(Duration::from_millis(250)) {
            Ok(deltas) => {
                for (index, delta) in deltas.into_iter().enumerate() {
                    if let Some(search) = &mut search {
                        search.add(&delta);
                    }
                    if let Some(tally) = tallies.get_mut(index) {
                        tally.add(delta);
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        is_stopped_by_user |= stop.is_stopped() && !own_end;
        if !own_end && !is_stopped_by_user {
            for ((watch, tally), target) in watches.iter_mut().zip(&tallies).zip(&options.targets) {
                if watch.is_down(tally) && target.check(KNOCK).is_err() {
                    is_down = Some(format!("{} took no connection for {DOWN:?}", target.authority));
                }
            }
            let in_flight = shared.in_flight.load(Ordering::Acquire);
            if let Some(search) = &mut search {
                let bytes = shared.in_flight_bytes.load(Ordering::Acquire);
                let sight = Sight {
                    at: Instant::now(),
                    in_flight,
                    handed: shared.handed.load(Ordering::Acquire),
                    is_memory_full: bytes >= options.in_flight_bytes_max / 10 * 9,
                };
                shared.rate.store(search.rate(sight).to_bits(), Ordering::Release);
            }
            if is_down.is_some() || search.as_ref().is_some_and(Search::is_over) {
                own_end = true;
                stop.stop();
            }
        }
        progress(&told_of(&shared, total, &tallies, search.as_ref()));
    }
    is_fed.store(true, Ordering::Release);
    let mut is_lost = drivers.into_iter().map(thread::JoinHandle::join).any(|joined| joined.is_err());
    let paced = pacer.join().unwrap_or_else(|_| {
        is_lost = true;
        Paced::default()
    });
    let unreadable = feed.join().unwrap_or(0) * u64::from(clones);
    run.seconds = shared.now_ns() as f64 / 1e9;
    run.scheduled_seconds = paced.last_ns as f64 / 1e9;
    run.dispatch_hash = format!("{:016x}", paced.hash);
    run.not_compared = not_compared.load(Ordering::Acquire);

    // What was not handed over was sent to no target.
    let mut not_handed: BTreeMap<String, u64> =
        paced.not_sent.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
    let mut planned = paced.scheduled;
    if unreadable > 0 {
        planned += unreadable;
        not_handed.insert("unreadable".into(), unreadable);
    }
    if let Some(total) = total
        && total > planned
    {
        not_handed.insert("stopped".into(), total - planned);
        planned = total;
    }
    run.planned = planned + excluded;
    for (tally, target) in tallies.iter_mut().zip(&options.targets) {
        for (reason, count) in &not_handed {
            *tally.not_sent.entry(reason.clone()).or_default() += count;
        }
        let known = tally.sent + tally.not_sent.values().sum::<u64>();
        if known < planned {
            is_lost = true;
            *tally.not_sent.entry("lost".into()).or_default() += planned - known;
        }
        judge(&mut run, options, tally, target);
    }
    if let Some(search) = search {
        let capacity = search.finish();
        // Steps beyond the capacity are meant to break the bounds, and to be more than the replayer can send. What it could not do at
        // the capacity, and whether it was the bound, each step knows.
        if matches!(run.verdict, Verdict::SloBroken | Verdict::Invalid) {
            run.verdict = Verdict::Ok;
        }
        let is_down = run.verdict == Verdict::TargetDown;
        let seen = if is_down { Vec::new() } else { std::mem::take(&mut run.reasons) };
        if capacity.is_limited {
            let why =
                format!("the capacity is at least {:.0}/s: beyond it {}", capacity.rate, capacity.bound_by);
            run.worsen(Verdict::Invalid, why);
            run.reasons.extend(seen);
        } else if capacity.rate <= 0.0 {
            run.worsen(Verdict::SloBroken, format!("no rate held the bounds: {}", capacity.bound_by));
        }
        run.capacity = Some(capacity);
    }
    if is_lost {
        run.worsen(Verdict::Invalid, "a thread of the replay failed; see the log".into());
    }
    if let Some(why) = is_down {
        run.worsen(Verdict::TargetDown, why);
    }
    if is_stopped_by_user {
        run.worsen(Verdict::Stopped, "stopped before its end".into());
    }
    run.targets = tallies
        .into_iter()
        .zip(&options.targets)
        .map(|(tally, target)| tally.into_run(&target.name, &target.url))
        .collect();
    if let Some(comparing) = comparing
        && let Ok((document, is_passed)) = comparing.join()
    {
        run.comparison = document;
        if !is_passed {
            run.worsen(Verdict::Different, "answers differ; see the comparison".into());
        }
    }
    Ok(run)
}

fn told_of(shared: &Shared, total: Option<u64>, tallies: &[Tally], search: Option<&Search>) -> Progress {
    let empty = Histogram::default();
    let first = tallies.first();
    let (ended, failed) = first.map_or((0, 0), Tally::failures);
    Progress {
        seconds: shared.now_ns() as f64 / 1e9,
        total,
        handed: shared.handed.load(Ordering::Acquire),
        ended,
        failed,
        in_flight: shared.in_flight.load(Ordering::Acquire),
        p99_us: first.map_or(&empty, |tally| &tally.intended).percentile_us(99.0),
        lag_p99_us: first.map_or(&empty, |tally| &tally.lag).percentile_us(99.0),
        rate: search.map(Search::current),
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<thread::JoinHandle<T>, String> {
    thread::Builder::new()
        .name(name.into())
        .spawn(body)
        .map_err(|error| format!("no thread for the replay: {error}"))
}
