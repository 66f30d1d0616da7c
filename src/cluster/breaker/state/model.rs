//! Every sequence of events up to a depth, against the specification written a second time, as plainly as possible.

use super::*;
use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// How many events in a row. States that were seen are not gone on from twice, or there would be 10^12 sequences.
const DEPTH: usize = 10;
/// Requests that are under way at once.
const UNDER_WAY_MAX: usize = 2;

const MS: u64 = 1_000_000;
/// Two failures in a row, or less than half of three; 1, 2, 4, 4 … seconds.
const TERMS: config::Breaker = config::Breaker {
    consecutive_failures: 2,
    success_percent_min: 50,
    window: Duration::from_secs(10),
    requests_min: 3,
    backoff_min: Duration::from_secs(1),
    backoff_max: Duration::from_secs(4),
    jitter_percent: 0,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Success,
    Failure,
    Throttled,
    /// The caller left.
    Abandoned,
    /// It was refused further in, and nobody tried.
    Dropped,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    /// A request comes; of TRACE type or not.
    Start { is_trace: bool },
    /// One that is under way ends.
    End(usize, End),
    /// One that is under way is answered, and its content goes on.
    Answer(usize, End),
    /// That content ends.
    Finish(usize),
    /// One comes and ends, if it is let in.
    Whole(End),
    /// Milliseconds.
    Wait(u64),
}

/// The specification.
#[derive(Clone, Debug, Hash, PartialEq)]
enum Spec {
    Closed { in_a_row: u32, results: Vec<(u64, bool)> },
    Open { until_ms: u64, failed_probes: u32 },
    HalfOpen { has_probe: bool, failed_probes: u32 },
}

/// A request that is under way: the number of the state that let it in, and whether it is the probe.
#[derive(Clone, Copy, Debug, Hash)]
struct Attempt {
    era: u32,
    is_probe: bool,
    is_answered: bool,
    started_ms: u64,
}

#[derive(Clone, Debug)]
struct Model {
    spec: Spec,
    /// How often the state changed; what began in another one says nothing.
    era: u32,
    now_ms: u64,
    under_way: Vec<Attempt>,
}

#[derive(Debug, PartialEq)]
enum Effect {
    Nothing,
    Refused { left_ms: Option<u64> },
    Opened { reason: &'static str, time_ms: u64 },
    HalfOpen,
    Closed,
}

fn fresh() -> Spec {
    Spec::Closed { in_a_row: 0, results: Vec::new() }
}

impl Model {
    fn start(&mut self, is_trace: bool) -> Effect {
        let mut effect = Effect::Nothing;
        let is_probe = match self.spec {
            Spec::Closed { .. } => false,
            Spec::Open { until_ms, .. } if self.now_ms < until_ms => {
                return Effect::Refused { left_ms: Some(until_ms - self.now_ms) };
            }
            Spec::HalfOpen { has_probe: true, .. } => return Effect::Refused { left_ms: None },
            _ if is_trace => return Effect::Refused { left_ms: None },
            Spec::Open { failed_probes, .. } => {
                effect = Effect::HalfOpen;
                self.turn_to(Spec::HalfOpen { has_probe: true, failed_probes })
            }
            Spec::HalfOpen { failed_probes, .. } => {
                self.turn_to(Spec::HalfOpen { has_probe: true, failed_probes })
            }
        };
        self.under_way.push(Attempt { era: self.era, is_probe, is_answered: false, started_ms: self.now_ms });
        effect
    }

    fn end(&mut self, index: usize, end: End) -> Effect {
        let effect = self.answer(index, end);
        self.under_way.remove(index);
        effect
    }

    fn answer(&mut self, index: usize, end: End) -> Effect {
        self.under_way[index].is_answered = true;
        let attempt = self.under_way[index];
        let says_something = matches!(end, End::Success | End::Failure | End::Throttled);
        let mut spec = self.spec.clone();
        match &mut spec {
            Spec::HalfOpen { has_probe, .. } if attempt.is_probe && !says_something => {
                *has_probe = false;
                self.spec = spec;
                Effect::Nothing
            }
            _ if attempt.era != self.era || !says_something => Effect::Nothing,
            Spec::Open { .. } => unreachable!("nothing is let in while it is open"),
            Spec::HalfOpen { .. } if end == End::Success => {
                self.turn_to(fresh());
                Effect::Closed
            }
            Spec::HalfOpen { failed_probes, .. } => self.open("probe_failed", *failed_probes + 1),
            Spec::Closed { in_a_row, results } => {
                *in_a_row = if end == End::Failure { *in_a_row + 1 } else { 0 };
                // The window is ten slots of a second, of which the present one is the last.
                results.push((self.now_ms / 1000, end == End::Success));
                results.retain(|(second, _)| second + 10 > self.now_ms / 1000);
                let (total, good) =
                    (results.len(), results.iter().filter(|(_, is_success)| *is_success).count());
                let is_long = *in_a_row >= 2;
                self.spec = spec;
                if is_long {
                    self.open("consecutive_failures", 0)
                } else if end != End::Success && total >= 3 && good * 100 < total * 50 {
                    self.open("success_rate", 0)
                } else {
                    Effect::Nothing
                }
            }
        }
    }

    fn open(&mut self, reason: &'static str, failed_probes: u32) -> Effect {
        let time_ms = 1000 * [1, 2, 4][failed_probes.min(2) as usize];
        self.turn_to(Spec::Open { until_ms: self.now_ms + time_ms, failed_probes });
        Effect::Opened { reason, time_ms }
    }

    fn turn_to(&mut self, spec: Spec) -> bool {
        (self.spec, self.era) = (spec, self.era + 1);
        true
    }
}

/// Both, in step.
struct Pair {
    model: Model,
    breaker: Arc<Breaker>,
    guards: Vec<Option<Probe>>,
}

impl Pair {
    fn new() -> Pair {
        // Not at 0: everything is dated by a clock that runs already.
        let model = Model { spec: fresh(), era: 0, now_ms: 60_000, under_way: Vec::new() };
        Pair { model, breaker: Arc::new(Breaker::new(TERMS)), guards: Vec::new() }
    }

    /// What happens; both must agree.
    fn run(&mut self, event: Event) {
        let now_ns = self.model.now_ms * MS;
        let (expected, found) = match event {
            Event::Wait(ms) => {
                self.model.now_ms += ms;
                return;
            }
            Event::Whole(end) => {
                let before = self.guards.len();
                self.run(Event::Start { is_trace: false });
                if self.guards.len() > before {
                    self.run(Event::End(before, end));
                }
                return;
            }
            Event::Start { is_trace } => {
                let found = match self.breaker.try_enter(!is_trace, now_ns) {
                    Ok((probe, transition)) => {
                        self.guards.push(probe);
                        effect(transition)
                    }
                    Err(shut) => {
                        assert!(shut.limit > 0, "it says what opened it");
                        Effect::Refused { left_ms: shut.left.map(|left| left.as_millis() as u64) }
                    }
                };
                (self.model.start(is_trace), found)
            }
            Event::End(index, end) => {
                let found = self.observe(index, end);
                drop(self.guards.remove(index));
                (self.model.end(index, end), found)
            }
            Event::Answer(index, end) => {
                let found = self.observe(index, end);
                (self.model.answer(index, end), found)
            }
            Event::Finish(index) => {
                drop(self.guards.remove(index));
                self.model.under_way.remove(index);
                (Effect::Nothing, Effect::Nothing)
            }
        };
        assert_eq!(found, expected);
        self.check();
    }

    /// What the breaker makes of the end of an attempt.
    fn observe(&self, index: usize, end: End) -> Effect {
        let started_ns = self.model.under_way[index].started_ms * MS;
        let answered = |status| Outcome::Answered { status, grpc: None, retry_after: None };
        let outcome = match end {
            End::Success => answered(200),
            End::Failure => answered(500),
            End::Throttled => answered(429),
            End::Abandoned => Outcome::Abandoned,
            End::Dropped => return Effect::Nothing,
        };
        effect(self.breaker.observe(outcome, started_ns, self.model.now_ms * MS, || 0))
    }

    /// What holds whatever happened.
    fn check(&self) {
        let model = &self.model;
        let state = match model.spec {
            Spec::Closed { .. } => "closed",
            Spec::Open { .. } => "open",
            Spec::HalfOpen { .. } => "half_open",
        };
        assert_eq!(self.breaker.read(model.now_ms * MS).state, state);
        assert_eq!(self.breaker.is_closed(), state == "closed");
        let current = model.under_way.iter().filter(|attempt| attempt.is_probe && attempt.era == model.era);
        let probes = self.guards.iter().flatten().count();
        assert!(current.count() <= 1, "two probes");
        assert_eq!(probes, model.under_way.iter().filter(|attempt| attempt.is_probe).count());
        assert_eq!(matches!(model.spec, Spec::HalfOpen { has_probe: true, .. }), {
            self.breaker.state() == State::Probing
        });
    }

    fn events(&self) -> Vec<Event> {
        let mut events = vec![Event::Wait(500), Event::Wait(1000), Event::Wait(10_000)];
        if self.model.under_way.len() < UNDER_WAY_MAX {
            events.extend([false, true].map(|is_trace| Event::Start { is_trace }));
        }
        let ends = [End::Success, End::Failure, End::Throttled, End::Abandoned, End::Dropped];
        events.extend(ends.map(Event::Whole));
        for (index, attempt) in self.model.under_way.iter().enumerate() {
            if attempt.is_answered {
                events.push(Event::Finish(index));
            } else {
                events.extend(ends.map(|end| Event::End(index, end)));
                let answers = [End::Success, End::Failure, End::Throttled];
                events.extend(answers.map(|end| Event::Answer(index, end)));
            }
        }
        events
    }

    /// All that decides about what can follow, of both, with times as seen from now.
    fn key(&self, hasher: &RandomState) -> u64 {
        let Model { spec, era, now_ms, under_way } = &self.model;
        let breaker = &self.breaker;
        let spec = match spec.clone() {
            Spec::Open { until_ms, failed_probes } => {
                Spec::Open { until_ms: until_ms.saturating_sub(*now_ms), failed_probes: failed_probes.min(3) }
            }
            Spec::HalfOpen { has_probe, failed_probes } => {
                Spec::HalfOpen { has_probe, failed_probes: failed_probes.min(3) }
            }
            Spec::Closed { in_a_row, results } => {
                let mut results: Vec<_> =
                    results.into_iter().map(|(second, good)| (now_ms / 1000 - second, good)).collect();
                results.retain(|(age, _)| *age < 10);
                results.sort_unstable();
                Spec::Closed { in_a_row, results }
            }
        };
        let since_ms = breaker.since_ns.load(Ordering::Relaxed) / MS;
        let attempts: Vec<_> = under_way
            .iter()
            .map(|attempt| {
                (attempt.era == *era, attempt.is_probe, attempt.is_answered, attempt.started_ms >= since_ms)
            })
            .collect();
        let hidden = (
            breaker.state.load(Ordering::Relaxed),
            breaker.failures.load(Ordering::Relaxed),
            breaker.window.totals(*now_ms * MS),
            (breaker.until_ns.load(Ordering::Relaxed) / MS).saturating_sub(*now_ms),
            breaker.turn().failed_probes.min(3),
        );
        hasher.hash_one((spec, attempts, hidden, now_ms % 1000))
    }
}

fn effect(transition: Option<Transition>) -> Effect {
    match transition {
        None => Effect::Nothing,
        Some(Transition::Opened { reason, time, .. }) => {
            Effect::Opened { reason, time_ms: time.as_millis() as u64 }
        }
        Some(Transition::HalfOpen) => Effect::HalfOpen,
        Some(Transition::Closed) => Effect::Closed,
    }
}

fn replay(path: &[Event]) -> Pair {
    let mut pair = Pair::new();
    for event in path {
        pair.run(*event);
    }
    pair
}

#[test]
fn it_does_what_the_specification_says_in_every_sequence_of_events() {
    let hasher = RandomState::new();
    let mut seen = HashSet::from([Pair::new().key(&hasher)]);
    let mut paths = VecDeque::from([Vec::new()]);
    let mut steps = 0;
    let mut reached = HashSet::new();
    while let Some(path) = paths.pop_front() {
        for event in replay(&path).events() {
            let mut pair = replay(&path);
            let mut path = path.clone();
            path.push(event);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pair.run(event)));
            assert!(result.is_ok(), "after {path:?}");
            steps += 1;
            reached.insert(std::mem::discriminant(&pair.model.spec));
            if path.len() < DEPTH && seen.insert(pair.key(&hasher)) {
                paths.push_back(path);
            }
        }
    }
    assert_eq!(reached.len(), 3, "all states are reached");
    eprintln!("{} states, {steps} steps", seen.len());
}
