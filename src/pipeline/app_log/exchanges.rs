//! Which exchange a line belongs to.
//!
//! What: a line is read while its exchange is under way, or a moment after it ended: a logger that writes when the answer is
//! out, a pipe that was full. The first kind is in the table of [in-flight exchanges](crate::exchange::in_flight), the
//! second among the last [`RECENT_MAX`] that ended, which the pipeline's thread notes here as it meets their records.
//!
//! Why nothing is missed between the two: an exchange leaves the table before its record comes to the pipeline's thread. So
//! whoever found an id in neither waits until a visit of that thread that began later is over, and looks again. The
//! readers do that once for all lines that they read at once, so that lines with ids of nobody cost little.
//!
//! What is told where several exchanges may be meant (a trace that came here twice, a request that was tried again): the one
//! whose span the line names; else what all of them agree on. Never a guess.
//!
//! What it costs: the workers nothing, and what is under way is looked through under the lock that an exchange takes
//! to enter (a microsecond for some hundred). The pipeline's thread a copy of the context of each inbound exchange and two
//! entries of a map, some 300 ns, and only where an application is beside. Memory: at most some 10 MB, when full.
//!
//! How it fails: an exchange that ended longer ago than the last [`RECENT_MAX`], or whose record found the ring full, is not
//! known: its lines have the ids that they brought. A pipeline's thread that is held up is waited for [`VISIT_MAX`], and then
//! not for a second.

use super::context::Context;
use super::line::Ids;
use crate::context::Field;
use crate::exchange::in_flight::InFlight;
use crate::exchange::{Direction, Record};
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many exchanges that ended are remembered, at least; twice as many at most.
pub const RECENT_MAX: usize = 8192;
/// How long a visit of the pipeline's thread is waited for.
pub const VISIT_MAX: Duration = Duration::from_millis(100);
/// How long none is waited for after one that did not come.
const PATIENCE_BACK: Duration = Duration::from_secs(1);
/// A thread that is about to sleep may miss that it is roused.
const ROUSE_AGAIN: Duration = Duration::from_millis(5);
/// Exchanges of one trace or request that are told apart.
const APART_MAX: usize = 8;

/// The exchanges under way and those that ended a moment ago. Shared by the pipeline's thread and the readers.
pub struct Exchanges {
    in_flight: Arc<InFlight>,
    recent: Mutex<Recent>,
    visits: Mutex<Visits>,
    visited: Condvar,
    rouse: Box<dyn Fn() + Send + Sync>,
}

/// Exchanges that ended, in two generations: when the young one is full, the old one is forgotten.
#[derive(Default)]
struct Recent {
    young: Generation,
    old: Generation,
}

#[derive(Default)]
struct Generation {
    count: usize,
    traces: HashMap<[u8; 16], Few, foldhash::fast::RandomState>,
    requests: HashMap<Box<[u8]>, Few, foldhash::fast::RandomState>,
}

/// The exchanges of one id: hardly ever more than one.
struct Few {
    first: Arc<Context>,
    more: Vec<Arc<Context>>,
}

#[derive(Default)]
struct Visits {
    /// How many began.
    begun: u64,
    /// The last one that is over.
    over: u64,
    /// Until when none is waited for.
    impatient_until: Option<Instant>,
}

/// One visit of the pipeline's thread to the rings. What is noted is known when it is dropped.
pub struct Visit<'a> {
    exchanges: &'a Exchanges,
    number: u64,
    noted: Vec<Context>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is whole after each statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Exchanges {
    /// Nothing has ended yet. `rouse` makes the pipeline's thread visit the rings soon.
    pub fn new(in_flight: Arc<InFlight>, rouse: impl Fn() + Send + Sync + 'static) -> Arc<Exchanges> {
        Arc::new(Exchanges {
            in_flight,
            recent: Mutex::default(),
            visits: Mutex::default(),
            visited: Condvar::new(),
            rouse: Box::new(rouse),
        })
    }

    /// The pipeline's thread begins to look at the rings. Every visit, also one that finds nothing.
    pub fn visit(&self) -> Visit<'_> {
        let mut visits = lock(&self.visits);
        visits.begun += 1;
        Visit { exchanges: self, number: visits.begun, noted: Vec::new() }
    }

    /// Waits until all exchanges that have left the table by now are known here, for at most [`VISIT_MAX`].
    pub fn catch_up(&self) {
        let deadline = Instant::now() + VISIT_MAX;
        let mut visits = lock(&self.visits);
        if visits.impatient_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let wanted = visits.begun + 1;
        while visits.over < wanted {
            let now = Instant::now();
            let Some(left) = deadline.checked_duration_since(now).filter(|left| !left.is_zero()) else {
                visits.impatient_until = Some(now + PATIENCE_BACK);
                return;
            };
            drop(visits);
            (self.rouse)();
            visits = lock(&self.visits);
            if visits.over < wanted {
                visits = self
                    .visited
                    .wait_timeout(visits, left.min(ROUSE_AGAIN))
                    .map_or_else(|poisoned| poisoned.into_inner().0, |(visits, _)| visits);
            }
        }
    }

    /// The context of the exchange that the ids name.
    pub fn find(&self, ids: &Ids<'_>) -> Option<Arc<Context>> {
        let by_trace = ids.trace_id.and_then(|trace_id| self.look_up(Some(trace_id), &[], ids.span_id));
        let request_id = ids.request_id.as_ref().map_or(&[][..], |id| id.as_bytes());
        by_trace.or_else(|| (!request_id.is_empty()).then(|| self.look_up(None, request_id, None))?)
    }

    fn look_up(
        &self,
        trace_id: Option<[u8; 16]>,
        request_id: &[u8],
        span_id: Option<[u8; 8]>,
    ) -> Option<Arc<Context>> {
        let mut search = Search { span_id, exact: None, agreed: None };
        self.in_flight.look_up(trace_id, request_id, |trace, context| {
            let context = Context::kept(trace, context);
            // Found by a hash; what is compared is the id itself.
            if trace_id.is_some() || context.text(Field::RequestId) == request_id {
                search.see(&Arc::new(context));
            }
        });
        let recent = lock(&self.recent);
        for generation in [&recent.young, &recent.old] {
            let few = match trace_id {
                Some(trace_id) => generation.traces.get(&trace_id),
                None => generation.requests.get(request_id),
            };
            if let Some(few) = few {
                std::iter::once(&few.first).chain(&few.more).for_each(|context| search.see(context));
            }
        }
        search.exact.or(search.agreed)
    }
}

/// What was found so far.
struct Search {
    span_id: Option<[u8; 8]>,
    exact: Option<Arc<Context>>,
    agreed: Option<Arc<Context>>,
}

impl Search {
    fn see(&mut self, context: &Arc<Context>) {
        if self.span_id.is_some() && context.span_id == self.span_id {
            self.exact = Some(Arc::clone(context));
        }
        self.agreed = Some(match self.agreed.take() {
            None => Arc::clone(context),
            Some(agreed) if agreed.is_same_exchange(context) => agreed,
            Some(agreed) => Arc::new(agreed.agreed(context)),
        });
    }
}

impl Visit<'_> {
    /// An exchange ended.
    pub fn note(&mut self, record: &Record) {
        let is_known = record.trace.trace_id != [0; 16];
        if record.direction == Direction::Inbound && is_known && !record.is_opaque {
            self.noted.push(Context::of(record));
        }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if !self.noted.is_empty() {
            let mut recent = lock(&self.exchanges.recent);
            self.noted.drain(..).for_each(|context| recent.add(context));
        }
        lock(&self.exchanges.visits).over = self.number;
        self.exchanges.visited.notify_all();
    }
}

impl Recent {
    fn add(&mut self, context: Context) {
        if self.young.count >= RECENT_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.count += 1;
        let context = Arc::new(context);
        let request_id = context.text(Field::RequestId);
        if !request_id.is_empty() {
            match self.young.requests.get_mut(request_id) {
                Some(few) => few.add(&context),
                None => {
                    self.young.requests.insert(request_id.into(), Few::new(&context));
                }
            }
        }
        if let Some(trace_id) = context.trace_id {
            let entry = self.young.traces.entry(trace_id);
            entry.and_modify(|few| few.add(&context)).or_insert_with(|| Few::new(&context));
        }
    }
}

impl Few {
    fn new(context: &Arc<Context>) -> Few {
        Few { first: Arc::clone(context), more: Vec::new() }
    }

    fn add(&mut self, context: &Arc<Context>) {
        match self.more.get_mut(APART_MAX - 2) {
            Some(last) => *last = Arc::new(last.agreed(context)),
            None => self.more.push(Arc::clone(context)),
        }
    }
}
