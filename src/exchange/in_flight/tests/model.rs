//! Any order of exchanges and calls, against what is true: each call knows who made it.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Enter {
        worker: usize,
        trace: u8,
        request: u8,
        echo: u8,
        context: u8,
    },
    /// One of those under way ends.
    Leave {
        which: usize,
        is_whole: bool,
    },
    /// Somebody calls: one that is or was under way, or nobody.
    Call {
        by: Option<usize>,
        brings: Brings,
    },
    Wait {
        seconds: u64,
    },
}

/// What a call copies from the exchange that it serves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Brings {
    Nothing,
    RequestId,
    Echo,
    Both,
    /// Its `traceparent`, as it was given.
    Span,
    /// Its trace, under a span of the application's own.
    Trace,
    /// A request id that the application makes up.
    OwnId,
    /// A trace that it begins.
    OwnTrace,
}

struct Exchange {
    trace: TraceParent,
    request_id: String,
    echo: String,
    context: Vec<u8>,
    since_ns: u64,
    place: Option<Place>,
    /// When it ended early.
    early_ns: Option<u64>,
}

impl Exchange {
    fn is_live(&self) -> bool {
        self.place.is_some()
    }

    /// Whether the application may still work for it, though it ended early.
    fn is_ghost(&self, now_ns: u64) -> bool {
        self.early_ns.is_some_and(|at| now_ns < at + MINUTE)
    }
}

struct World {
    all: Arc<InFlight>,
    shards: Vec<Arc<Shard>>,
    exchanges: Vec<Exchange>,
    now_ns: u64,
    /// When somebody called out last while nobody was served.
    background_ns: Option<u64>,
    /// Whether no exchange ever ended early, and no call was made for one that is not under way.
    is_quiet: bool,
    found: Found,
}

impl World {
    fn new() -> World {
        let all = InFlight::new();
        let shards = (0..3).map(|_| all.shard()).collect();
        World {
            all,
            shards,
            exchanges: Vec::new(),
            now_ns: NOW,
            background_ns: None,
            is_quiet: true,
            found: used(),
        }
    }

    fn live(&self) -> Vec<usize> {
        (0..self.exchanges.len()).filter(|each| self.exchanges[*each].is_live()).collect()
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Enter { worker, trace, request, echo, context } => {
                let trace = parent(trace, self.exchanges.len() as u32);
                let request_id = format!("r{request}");
                let echo = if echo == 0 { String::new() } else { format!("e{echo}") };
                let context = vec![context; 3];
                let keys = Keys { trace, request_id: request_id.as_bytes(), echo: echo.as_bytes() };
                let place =
                    self.shards[worker].enter(&keys, self.now_ns, |out| out.extend_from_slice(&context));
                let (since_ns, place, early_ns) = (self.now_ns, Some(place), None);
                self.exchanges.push(Exchange { trace, request_id, echo, context, since_ns, place, early_ns });
            }
            Step::Leave { which, is_whole } => {
                let live = self.live();
                let Some(index) = live.get(which % live.len().max(1)) else { return };
                let exchange = &mut self.exchanges[*index];
                exchange.early_ns = (!is_whole).then_some(self.now_ns);
                exchange.place.take().unwrap().leave(is_whole, self.now_ns);
                self.is_quiet &= is_whole;
            }
            Step::Call { by, brings } => {
                let by = by.and_then(|by| by.checked_rem(self.exchanges.len()));
                self.call(by, brings);
            }
            Step::Wait { seconds } => self.now_ns += seconds * SECOND,
        }
        assert_eq!(self.all.count(), self.live().len());
    }

    fn call(&mut self, by: Option<usize>, brings: Brings) {
        // What belongs to nobody has nothing to copy.
        let brings = match (by, brings) {
            (None, Brings::OwnId | Brings::OwnTrace) | (Some(_), _) => brings,
            (None, _) => Brings::Nothing,
        };
        let maker = by.map(|by| &self.exchanges[by]);
        let text = |of: fn(&Exchange) -> &String| maker.map_or("", |maker| of(maker).as_str());
        let (mut request_id, mut echo) = ("", "");
        if matches!(brings, Brings::RequestId | Brings::Both) {
            request_id = text(|maker| &maker.request_id);
        }
        if matches!(brings, Brings::Echo | Brings::Both) {
            echo = text(|maker| &maker.echo);
        }
        if brings == Brings::OwnId {
            request_id = "made up";
        }
        let trace = match (brings, maker) {
            (Brings::Span, Some(maker)) => Some(maker.trace),
            (Brings::Trace, Some(maker)) => Some(TraceParent { parent_id: [9; 8], ..maker.trace }),
            (Brings::OwnTrace, _) => Some(parent(200, 1)),
            _ => None,
        };
        let call =
            Call { trace, request_id: request_id.as_bytes(), echo: echo.as_bytes(), believes_sole: true };
        let how = self.all.find(&call, self.now_ns, &mut self.found);

        let is_bare = call.trace.is_none() && call.request_id.is_empty() && call.echo.is_empty();
        self.is_never_wrong(how, maker, &call, is_bare);
        if let Some(maker) = maker.filter(|maker| maker.is_live()) {
            self.is_found_where_it_can_be(how, maker, brings, is_bare);
        }
        self.is_quiet &= maker.is_some_and(Exchange::is_live);
        if call.trace.is_none() && self.live().is_empty() && !self.exchanges.is_empty() {
            self.background_ns = Some(self.now_ns);
        }
    }

    /// What holds for every call, whoever made it.
    fn is_never_wrong(&self, how: Match, maker: Option<&Exchange>, call: &Call<'_>, is_bare: bool) {
        let (now_ns, found, live) = (self.now_ns, &self.found, self.live());
        // Those of whom a wrong answer would be a false one; the others are the limits that the module tells.
        let bound = maker.filter(|maker| maker.is_live() || maker.is_ghost(now_ns));
        let is_own = |maker: &Exchange| found.trace == Some(maker.trace) && found.context == maker.context;
        match how {
            Match::Span => assert!(maker.is_some_and(is_own)),
            Match::Trace => {
                assert_eq!(found.trace.map(|trace| trace.trace_id), call.trace.map(|trace| trace.trace_id));
                assert!(bound.is_none_or(|maker| found.context == maker.context));
            }
            Match::RequestId | Match::Echo => {
                assert!(call.trace.is_none() && bound.is_none_or(is_own));
                assert!(call.request_id != b"made up");
            }
            Match::Sole => {
                assert!(is_bare && live.len() == 1 && bound.is_none_or(is_own));
                assert!(maker.is_none_or(|maker| !maker.is_ghost(now_ns)));
                let known_ns = self.background_ns.unwrap_or(0);
                assert!(self.background_ns.is_none() || now_ns >= known_ns + 10 * MINUTE);
            }
            Match::Lost => {
                assert!(call.trace.is_none() && !live.is_empty());
                let links = maker.is_none_or(|maker| {
                    let link = (maker.trace.trace_id, maker.trace.parent_id);
                    call.request_id == b"made up" || found.links.contains(&link)
                });
                let is_told = maker.is_some_and(Exchange::is_live) && live.len() <= LINKS_MAX;
                assert!(!is_told || links, "one of the links");
            }
            Match::Nobody => assert!(call.trace.is_some() || live.is_empty()),
        }
        assert_eq!(found.links.is_empty(), how != Match::Lost);
        if matches!(how, Match::Lost | Match::Nobody) {
            assert!(found.trace.is_none() && found.context.is_empty());
        }
    }

    /// What holds for a call of an exchange that is under way.
    fn is_found_where_it_can_be(&self, how: Match, maker: &Exchange, brings: Brings, is_bare: bool) {
        let (now_ns, live) = (self.now_ns, self.live());
        let suspects = || self.exchanges.iter().filter(|each| each.is_live() || each.is_ghost(now_ns));
        let ghosts = || self.exchanges.iter().filter(|each| each.is_ghost(now_ns));
        let is_only = |has: &dyn Fn(&Exchange) -> bool| suspects().filter(|each| has(each)).count() == 1;
        match brings {
            Brings::Span => assert_eq!(how, Match::Span),
            Brings::Trace => {
                let is_of_trace = |each: &&Exchange| each.trace.trace_id == maker.trace.trace_id;
                let one = suspects().filter(is_of_trace).all(|each| each.context == maker.context);
                if one && !ghosts().any(|each| is_of_trace(&each)) {
                    assert_eq!(how, Match::Trace);
                }
            }
            Brings::RequestId if is_only(&|each| each.request_id == maker.request_id) => {
                assert_eq!(how, Match::RequestId);
            }
            Brings::Echo if !is_bare && is_only(&|each| each.echo == maker.echo) => {
                assert_eq!(how, Match::Echo);
            }
            Brings::Nothing | Brings::Echo if is_bare && live.len() == 1 => {
                let is_believed = ghosts().next().is_none()
                    && self.background_ns.is_none_or(|at| now_ns >= at + 10 * MINUTE)
                    && now_ns - maker.since_ns <= MINUTE;
                assert_eq!(how == Match::Sole, is_believed);
            }
            _ => {}
        }
        // One at a time, and nothing that casts a doubt: always found.
        let copies = !matches!(brings, Brings::OwnId | Brings::OwnTrace);
        if live.len() == 1 && self.is_quiet && copies && now_ns - maker.since_ns <= MINUTE {
            assert!(!matches!(how, Match::Lost | Match::Nobody), "{brings:?}");
        }
    }
}

fn brings() -> impl Strategy<Value = Brings> {
    prop_oneof![
        4 => Just(Brings::Nothing),
        2 => Just(Brings::RequestId),
        1 => Just(Brings::Echo),
        1 => Just(Brings::Both),
        1 => Just(Brings::Span),
        2 => Just(Brings::Trace),
        1 => Just(Brings::OwnId),
        1 => Just(Brings::OwnTrace),
    ]
}

/// `doubts`: how often a call is made for nobody or for one that may have ended, and how often one ends early.
fn steps(doubts: u32) -> impl Strategy<Value = Vec<Step>> {
    let enter = (0..3_usize, 1..4_u8, 0..4_u8, 0..3_u8, 0..2_u8);
    let enter = enter.prop_map(|(worker, trace, request, echo, context)| Step::Enter {
        worker,
        trace,
        request,
        echo,
        context,
    });
    let leave = (any::<usize>(), prop::bool::weighted(1.0 - f64::from(doubts) / 10.0))
        .prop_map(|(which, is_whole)| Step::Leave { which, is_whole });
    let by = prop_oneof![doubts => Just(None), 10 => any::<usize>().prop_map(Some)];
    let call = (by, brings()).prop_map(|(by, brings)| Step::Call { by, brings });
    let wait = prop_oneof![6 => 0..5_u64, 1 => 50..70_u64, 1 => Just(601_u64)];
    let wait = wait.prop_map(|seconds| Step::Wait { seconds });
    prop::collection::vec(prop_oneof![3 => enter, 3 => leave, 6 => call, 1 => wait], 1..80)
}

proptest! {
    #[test]
    fn no_order_of_events_makes_a_false_parent(steps in (0..4_u32).prop_flat_map(steps)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
    }

    /// One at a time, each of which calls and ends whole.
    #[test]
    fn one_at_a_time_is_always_found(rounds in prop::collection::vec((0..3_usize, brings(), 0..60_u64), 1..40)) {
        let mut world = World::new();
        for (round, (worker, brings, seconds)) in rounds.into_iter().enumerate() {
            world.step(&Step::Enter { worker, trace: 1, request: 1, echo: 1, context: (round % 2) as u8 });
            world.step(&Step::Wait { seconds });
            world.step(&Step::Call { by: Some(round), brings });
            prop_assert!(world.is_quiet);
            world.step(&Step::Leave { which: 0, is_whole: true });
        }
    }
}
