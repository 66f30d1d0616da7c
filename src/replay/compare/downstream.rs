//! What the candidate asked of others in a whole run, beside what was recorded: `--downstream`.
//!
//! What: while the run goes on, [`Noting`] remembers the trace that each exchange was sent under. After it, [`compare`] reads the
//! calls of the recorded traces from the recording, and those of the new traces from what the sidecar beside the candidate
//! recorded meanwhile, and compares each pair of traces as [`super::calls`] does.
//! Why a trace and not an exchange: an application hands on the trace, and often spans of its own, so that a call cannot be
//! told apart from others of its trace. A trace is compared if all its exchanges were replayed and answered.
//! How it fails: what cannot be compared is counted; if that is everything, [`Downstream::problem`] says why, and nothing is
//! held against the candidate. Only names of calls are held, never content; traces, calls and the wait are bounded.

use super::calls::{CALLS_MAX, Call};
use super::tally::{Case, Tally};
use crate::context::traceparent::TraceParent;
use crate::exchange::Direction;
use crate::record::{Entry, Query, Recording, RequestHead, entry::field};
use crate::replay::Answer;
use crate::replay::source::Source;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Traces of a run that are remembered; some 120 bytes each.
const TRACES_MAX: usize = 500_000;
/// Names of routes and accounts that are told apart.
const NAMES_MAX: usize = 10_000;
/// Different calls that are told apart; their ids are `*`.
const DISTINCT_MAX: usize = 20_000;
/// Calls of all traces, on each side; 4 bytes each.
const CALLS_TOTAL_MAX: usize = 10_000_000;
/// By how much the clocks of two machines may differ, when only what was recorded since the run began is read.
const SKEW: Duration = Duration::from_secs(3_600);

/// How long is waited for calls that are still on their way into the files. The recorder writes each tenth of a second.
const QUIET: Duration = Duration::from_millis(1_500);
/// And at most.
const WAIT_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(300);

/// What came of it; part of the findings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Downstream {
    /// Traces whose calls were compared.
    pub traces: u64,
    /// Those whose calls differ.
    pub different: u64,
    /// Calls that were recorded in them.
    pub recorded_calls: u64,
    /// Calls that were made this time.
    pub observed_calls: u64,
    /// Traces that were not compared, as not all their exchanges were replayed and answered.
    pub partial: u64,
    /// Traces that were not compared, as they were too many, or had too many calls.
    pub beyond: u64,
    /// Why nothing could be compared; then the run says nothing about calls.
    pub problem: Option<String>,
}

#[derive(Debug)]
struct Trace {
    recorded: [u8; 16],
    /// Of its first exchange, which differences are told of.
    sequence: u64,
    route: Arc<str>,
    account: Arc<str>,
    /// Exchanges that were answered.
    answered: u32,
}

#[derive(Debug, Default)]
struct Book {
    traces: HashMap<[u8; 16], Trace>,
    names: HashSet<Arc<str>>,
    beyond: u64,
}

/// The traces of a run, by the ids that it gave them. Shared by the threads that send.
#[derive(Debug, Default)]
pub struct Traces(Mutex<Book>);

impl Traces {
    /// An exchange was answered by the candidate; `now` is the trace that it was sent under.
    pub fn note(&self, now: [u8; 16], entry: &Entry) {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trace) = book.traces.get_mut(&now) {
            trace.answered = trace.answered.saturating_add(1);
            return;
        }
        if book.traces.len() >= TRACES_MAX || entry.trace_id == [0; 16] {
            book.beyond += 1;
            return;
        }
        let trace = Trace {
            recorded: entry.trace_id,
            sequence: entry.sequence,
            route: shared(&mut book.names, &entry.route),
            account: shared(&mut book.names, &entry.account_id),
            answered: 1,
        };
        book.traces.insert(now, trace);
    }
}

fn shared(names: &mut HashSet<Arc<str>>, name: &str) -> Arc<str> {
    if let Some(known) = names.get(name) {
        return Arc::clone(known);
    }
    let new: Arc<str> = if names.len() < NAMES_MAX { name.into() } else { "_other".into() };
    names.insert(Arc::clone(&new));
    new
}

/// Notes the traces of one thread's exchanges: known when they are sent, counted when they are answered.
#[derive(Debug)]
pub struct Noting {
    traces: Arc<Traces>,
    /// By actor and sequence; more than one where a pass overtakes the one before.
    under_way: HashMap<(u64, u64), VecDeque<[u8; 16]>>,
}

impl Noting {
    /// Adds to these traces.
    pub fn new(traces: &Arc<Traces>) -> Noting {
        Noting { traces: Arc::clone(traces), under_way: HashMap::new() }
    }

    /// The candidate gets this.
    pub fn sending(&mut self, actor: u64, entry: &Entry, head: &RequestHead) {
        let parent = field(&head.fields, b"traceparent").and_then(TraceParent::parse);
        if let Some(parent) = parent {
            self.under_way.entry((actor, entry.sequence)).or_default().push_back(parent.trace_id);
        }
    }

    /// The candidate answered; what it did not answer as a whole is not counted.
    pub fn ended(&mut self, actor: u64, entry: &Entry, answer: &Answer) {
        let key = (actor, entry.sequence);
        let Some(waiting) = self.under_way.get_mut(&key) else { return };
        let now = waiting.pop_front();
        if waiting.is_empty() {
            self.under_way.remove(&key);
        }
        // One that was cancelled when it was recorded is cancelled again.
        let is_over = matches!(answer.error.as_deref(), None | Some("cancelled"));
        if let Some(now) = now.filter(|_| is_over && answer.sent_ns > 0) {
            self.traces.note(now, entry);
        }
    }
}

/// Calls of traces, as numbers of names.
#[derive(Default)]
struct Calls {
    of: HashMap<[u8; 16], Vec<u32>>,
    total: usize,
}

impl Calls {
    fn add(&mut self, trace: [u8; 16], name: u32) {
        let calls = self.of.entry(trace).or_default();
        // One more than is compared says that there are too many.
        if calls.len() <= CALLS_MAX && self.total < CALLS_TOTAL_MAX {
            calls.push(name);
            self.total += 1;
        }
    }
}

/// Names of calls, each once.
#[derive(Default)]
struct Names {
    numbers: HashMap<Call, u32>,
    calls: Vec<Call>,
}

impl Names {
    fn number(&mut self, entry: &Entry) -> Option<u32> {
        let call = Call::of(entry)?;
        let call = if self.calls.len() < DISTINCT_MAX { call } else { Call::new("", "_other", "") };
        if let Some(number) = self.numbers.get(&call) {
            return Some(*number);
        }
        let number = u32::try_from(self.calls.len()).ok()?;
        self.calls.push(call.clone());
        self.numbers.insert(call, number);
        Some(number)
    }

    fn named(&self, numbers: &[u32]) -> Vec<Call> {
        numbers.iter().filter_map(|number| self.calls.get(*number as usize).cloned()).collect()
    }
}

/// Where calls are read from.
pub struct Places {
    /// What is replayed.
    pub recording: Arc<dyn Source>,
    /// Which of its sides is replayed.
    pub direction: Direction,
    /// What the sidecars beside the candidate recorded meanwhile.
    pub observed: Vec<PathBuf>,
    /// When the run began.
    pub since: SystemTime,
}

/// Compares the calls of a run that is over, and adds what differs to the tally. Waits, bounded, until no more calls of the run
/// come into the directories.
pub fn compare(places: &Places, traces: &Traces, tally: &mut Tally) -> Downstream {
    let book = std::mem::take(&mut *traces.0.lock().unwrap_or_else(PoisonError::into_inner));
    let mut names = Names::default();
    let mut told = Downstream { beyond: book.beyond, ..Downstream::default() };
    let recorded = recorded(places, &book, &mut names);
    if recorded.outbound == 0 {
        told.problem = Some(
            "downstream calls were not compared: the recording has none; record the outbound side as well (recording.match.direction)".into(),
        );
        return told;
    }
    let (observed, unread) = observed(places, &book, &mut names);
    let mut whole: Vec<(&[u8; 16], &Trace)> = Vec::new();
    for (now, trace) in &book.traces {
        let exchanges = recorded.exchanges.get(&trace.recorded).copied().unwrap_or(0);
        if trace.answered >= exchanges { whole.push((now, trace)) } else { told.partial += 1 }
    }
    let calls_of = |calls: &Calls, id: &[u8; 16]| calls.of.get(id).cloned().unwrap_or_default();
    let is_expected = whole.iter().any(|(_, trace)| recorded.calls.of.contains_key(&trace.recorded));
    let is_observed = whole.iter().any(|(now, _)| observed.of.contains_key(*now));
    told.problem = match (whole.is_empty(), is_expected, is_observed) {
        (true, ..) => Some(
            "downstream calls were not compared: no trace was replayed and answered as a whole (all its exchanges: see what was left out)".into(),
        ),
        (_, true, false) => {
            let shown: Vec<String> = places.observed.iter().map(|path| path.display().to_string()).collect();
            let unread = unread.map(|problem| format!(" ({problem})")).unwrap_or_default();
            Some(format!(
                "downstream calls were not compared: no call of this run is in {}{unread}; does the sidecar beside the candidate record its outbound side, and does the application pass traceparent on?",
                shown.join(", ")
            ))
        }
        _ => None,
    };
    if told.problem.is_some() {
        return told;
    }
    let is_cut = recorded.calls.total >= CALLS_TOTAL_MAX || observed.total >= CALLS_TOTAL_MAX;
    // The same order in each run, for the examples.
    whole.sort_by_key(|(now, trace)| (trace.sequence, **now));
    for (now, trace) in whole {
        let (mut before, mut after) = (calls_of(&recorded.calls, &trace.recorded), calls_of(&observed, now));
        if is_cut || before.len() > CALLS_MAX || after.len() > CALLS_MAX {
            told.beyond += 1;
            continue;
        }
        told.traces += 1;
        told.recorded_calls += before.len() as u64;
        told.observed_calls += after.len() as u64;
        before.sort_unstable();
        after.sort_unstable();
        if before != after {
            let case = Case { route: &trace.route, account: &trace.account, sequence: trace.sequence };
            told.different += u64::from(tally.calls(case, &names.named(&before), &names.named(&after)));
        }
    }
    told
}

struct Recorded {
    calls: Calls,
    /// How many exchanges each trace has on the side that is replayed.
    exchanges: BTreeMap<[u8; 16], u32>,
    /// Calls in the whole recording.
    outbound: u64,
}

fn recorded(places: &Places, book: &Book, names: &mut Names) -> Recorded {
    let wanted: HashSet<[u8; 16]> = book.traces.values().map(|trace| trace.recorded).collect();
    let mut found = Recorded { calls: Calls::default(), exchanges: BTreeMap::new(), outbound: 0 };
    for entry in places.recording.entries().filter_map(Result::ok) {
        if entry.direction == Direction::Outbound {
            found.outbound += 1;
        }
        if !wanted.contains(&entry.trace_id) {
            continue;
        }
        if entry.direction == places.direction {
            *found.exchanges.entry(entry.trace_id).or_default() += 1;
        } else if entry.direction == Direction::Outbound
            && let Some(name) = names.number(&entry)
        {
            found.calls.add(entry.trace_id, name);
        }
    }
    found
}

/// The calls of the run in the directories, when no more come; and the first thing that could not be read.
fn observed(places: &Places, book: &Book, names: &mut Names) -> (Calls, Option<String>) {
    let since = places.since.checked_sub(SKEW).and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    let query = Query {
        direction: Some(Direction::Outbound),
        from_ns: since.and_then(|since| u64::try_from(since.as_nanos()).ok()),
        ..Query::default()
    };
    let began = Instant::now();
    let (mut last, mut grew) = (None, began);
    loop {
        let (mut calls, mut problem) = (Calls::default(), None);
        for path in &places.observed {
            let recording = match Recording::open(path) {
                Ok(recording) => recording,
                Err(error) => {
                    problem.get_or_insert_with(|| error.to_string());
                    continue;
                }
            };
            for entry in recording.entries(&query) {
                match entry {
                    Ok(entry) if book.traces.contains_key(&entry.trace_id) => {
                        if let Some(name) = names.number(&entry) {
                            calls.add(entry.trace_id, name);
                        }
                    }
                    Ok(_) => {}
                    // The end of a file that is being written, most often.
                    Err(error) => {
                        problem.get_or_insert_with(|| error.to_string());
                    }
                }
            }
        }
        if last != Some(calls.total) {
            (last, grew) = (Some(calls.total), Instant::now());
        }
        if grew.elapsed() >= QUIET || began.elapsed() >= WAIT_MAX {
            return (calls, problem);
        }
        std::thread::sleep(POLL);
    }
}

impl std::fmt::Display for Downstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(problem) = &self.problem {
            return write!(f, "{problem}");
        }
        write!(
            f,
            "downstream: {} traces compared, {} recorded and {} observed calls, {} traces differ",
            self.traces, self.recorded_calls, self.observed_calls, self.different
        )?;
        if self.partial > 0 {
            write!(f, "; {} were not replayed and answered as a whole", self.partial)?;
        }
        if self.beyond > 0 {
            write!(f, "; {} were too many, or had no trace", self.beyond)?;
        }
        Ok(())
    }
}
