//! One call's way through all shards.

use super::shard::{Entry, Slab, hash, ns};
use super::{ALONE_MAX, Call, Found, LINKS_MAX, Match};
use crate::context::TraceParent;

/// What was seen so far.
pub(super) struct Search<'a> {
    call: &'a Call<'a>,
    /// Hashes of what the call brings.
    trace_id: u64,
    request: u64,
    echo: u64,
    now_ns: u64,
    found: &'a mut Found,
    /// How much of what the call brings the best one has; see [`Search::score`] and [`Search::look_for_trace`].
    best: u8,
    /// How many have as much.
    equals: usize,
    /// Whether all of those have one context.
    is_same_context: bool,
    /// Whether one has the echoed field, and not the request id.
    has_echo_only: bool,
    /// Whether the one that was found is too old to be believed alone.
    is_old: bool,
    /// How many are under way.
    count: usize,
    /// Whether there may be some that are not known.
    is_blind: bool,
    /// Whether the call may serve one that ended early.
    is_ghost: bool,
}

/// Scores of a call with a trace.
const TRACE: u8 = 1;
const SPAN: u8 = 2;

/// Scores of a call with ids: the sum of what matches.
const ECHO: u8 = 1;
const REQUEST: u8 = 2;

impl<'a> Search<'a> {
    pub(super) fn new(call: &'a Call<'a>, now_ns: u64, found: &'a mut Found) -> Search<'a> {
        found.trace = None;
        found.context.clear();
        found.links.clear();
        Search {
            call,
            trace_id: call.trace.map_or(0, |trace| hash(&trace.trace_id)),
            request: hash(call.request_id),
            echo: hash(call.echo),
            now_ns,
            found,
            best: 0,
            equals: 0,
            is_same_context: true,
            has_echo_only: false,
            is_old: false,
            count: 0,
            is_blind: false,
            is_ghost: false,
        }
    }

    /// Looks at the exchanges of one worker.
    pub(super) fn look(&mut self, slab: &Slab) {
        self.count += slab.count();
        self.is_blind |= slab.is_blind(self.now_ns);
        if let Some(trace) = self.call.trace {
            self.look_for_trace(trace, slab);
        } else if self.request != 0 || self.echo != 0 {
            self.look_for_ids(slab);
        } else {
            self.look_for_any(slab);
        }
    }

    fn look_for_trace(&mut self, trace: TraceParent, slab: &Slab) {
        for entry in slab.live().iter().filter(|entry| entry.ids.trace.trace_id == trace.trace_id) {
            let score = if entry.ids.trace.parent_id == trace.parent_id { SPAN } else { TRACE };
            self.weigh(score, entry);
        }
        self.is_ghost |= slab.is_ghost(self.trace_id, self.now_ns);
    }

    fn look_for_ids(&mut self, slab: &Slab) {
        for entry in slab.live() {
            let score = self.score(entry);
            self.has_echo_only |= score == ECHO;
            if score >= self.best {
                if score > self.best {
                    self.found.links.clear();
                }
                self.link(entry);
            }
            if score > 0 {
                self.weigh(score, entry);
            }
        }
        self.is_ghost |= slab.is_ghost(self.request, self.now_ns) || slab.is_ghost(self.echo, self.now_ns);
    }

    fn look_for_any(&mut self, slab: &Slab) {
        for entry in slab.live().iter().take(LINKS_MAX) {
            self.link(entry);
        }
        if let [entry] = slab.live() {
            self.is_old = self.now_ns.saturating_sub(entry.since_ns) > ns(ALONE_MAX);
            self.weigh(1, entry);
        }
    }

    fn score(&self, entry: &Entry) -> u8 {
        let has = |wanted: u64, id: u64, score: u8| if wanted != 0 && wanted == id { score } else { 0 };
        has(self.request, entry.ids.request, REQUEST) + has(self.echo, entry.ids.echo, ECHO)
    }

    fn weigh(&mut self, score: u8, entry: &Entry) {
        if score > self.best {
            (self.best, self.equals, self.is_same_context) = (score, 1, true);
            self.found.trace = Some(entry.ids.trace);
            self.found.context.clone_from(&entry.context);
        } else if score == self.best {
            self.equals += 1;
            self.is_same_context &= self.found.context == entry.context;
        }
    }

    fn link(&mut self, entry: &Entry) {
        if self.found.links.len() < LINKS_MAX {
            self.found.links.push((entry.ids.trace.trace_id, entry.ids.trace.parent_id));
        }
    }

    /// What came of it, after every shard was looked at.
    pub(super) fn result(self, believes_sole: impl FnOnce() -> bool) -> Match {
        let result = if self.call.trace.is_some() {
            self.of_trace()
        } else if self.count == 0 {
            Match::Nobody
        } else if self.is_blind || self.is_ghost || self.equals != 1 {
            Match::Lost
        } else if self.request != 0 || self.echo != 0 {
            self.of_ids()
        } else if self.count == 1 && !self.is_old && self.call.believes_sole && believes_sole() {
            Match::Sole
        } else {
            Match::Lost
        };
        if matches!(result, Match::Lost | Match::Nobody) {
            self.found.trace = None;
            self.found.context.clear();
        }
        if result != Match::Lost {
            self.found.links.clear();
        }
        result
    }

    fn of_trace(&self) -> Match {
        match self.best {
            SPAN if self.is_same_context => Match::Span,
            TRACE if self.is_same_context && !self.is_blind && !self.is_ghost => Match::Trace,
            _ => Match::Nobody,
        }
    }

    fn of_ids(&self) -> Match {
        match self.best {
            // One has its request id, and another one has what it echoes.
            REQUEST if self.has_echo_only => Match::Lost,
            ECHO => Match::Echo,
            _ => Match::RequestId,
        }
    }
}
