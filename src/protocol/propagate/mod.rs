//! The context layer: reads who a request is for, makes what is missing, and writes what goes on.
//!
//! What, in this order: the trace is read, in W3C's form or another one ([`trace`]); an outbound request that brings none
//! takes its parent from the inbound exchange that it serves, where that is certain ([`correlate`]); the fields are read
//! from both carriers, filled from that exchange, set at the edge, made pseudonyms ([`fields`]); their signature is
//! verified ([`signing`]); whether the trace is recorded is decided; and all of it is written.
//!
//! Position: outermost, so that even a request that is refused at once has ids in its answer and its event. Reading
//! before hop-by-hop fields are stripped is safe because nominating a context field in `Connection` is refused.
//! What it decides goes into the record; routing reads it there. It writes in the same step, because no later layer can
//! change a context field: `headers` in a configuration may not name one.
//!
//! How it fails: a malformed field is dropped and counted, never repaired; from a peer that is not trusted all fields
//! but the trace are dropped; a malformed `traceparent` restarts the trace (W3C Trace Context level 2, §4.3); only a
//! signature that is required and does not hold refuses a request ([`ContextRefused`](crate::error::Kind::ContextRefused)).

mod correlate;
mod edge;
mod fields;
mod rules;
mod signing;
mod trace;

pub use correlate::kept_texts;
pub use rules::{Rules, Source, Wrong};

use crate::cluster::clock_ns;
use crate::context::fields::Field;
use crate::context::sampling::{Parent, Question, Sampler};
use crate::context::signature::Cache;
use crate::context::{Rng, ids};
use crate::error::Result;
use crate::exchange::in_flight::{Found, InFlight, Shard};
use crate::exchange::{Direction, Exchange, Hook, Record, Response};
use crate::svc::{Fields, Known};
use correlate::{Inbound, Serves};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use trace::Came;

/// See the module.
#[derive(Clone)]
pub struct Propagate {
    state: Rc<RefCell<State>>,
}

/// What a worker's layer is made of.
pub struct Setup {
    /// Ids come from it: one for each worker, seeded by the operating system.
    pub rng: Rng,
    /// The inbound exchanges under way, of all workers.
    pub in_flight: Arc<InFlight>,
    /// How many workers share the rates of sampling.
    pub workers: usize,
}

struct State {
    #[expect(
        clippy::redundant_allocation,
        reason = "a request must not move a counter that all workers share"
    )]
    rules: Rc<Arc<Rules>>,
    rng: Rng,
    in_flight: Arc<InFlight>,
    /// Where inbound exchanges of this worker are entered.
    shard: Arc<Shard>,
    workers: usize,
    sampler: Sampler,
    /// Signatures that were verified a moment ago; made when the first one is.
    cache: Option<Cache>,
    scratch: Scratch,
}

/// Buffers, kept to save the allocations.
#[derive(Default)]
struct Scratch {
    /// A value of baggage or tracestate under construction.
    list: Vec<u8>,
    /// A decoded value.
    decoded: Vec<u8>,
    /// The token that goes on.
    token: Vec<u8>,
    /// What was found for an outbound request.
    found: Found,
}

/// The fields that both carriers have, with the header of each.
const CARRIERS: [(Field, Known); 5] = [
    (Field::UserId, Known::XUserId),
    (Field::AccountId, Known::XAccountId),
    (Field::License, Known::XLicense),
    (Field::RequestType, Known::XRequestType),
    (Field::Flags, Known::XFeatureFlags),
];

/// Where the request type is in [`CARRIERS`].
const REQUEST_TYPE: usize = 3;

/// The header that keeps the request id of a caller whose id was replaced.
const CLIENT_REQUEST_ID: &[u8] = b"x-client-request-id";

/// How many verified signatures a worker remembers.
const CACHE_ENTRIES: usize = 4096;

impl Propagate {
    /// A layer that knows the defaults, until it is configured.
    pub fn new(setup: Setup) -> Propagate {
        let rules = Rc::<Arc<Rules>>::default();
        let Setup { rng, in_flight, workers } = setup;
        let shard = in_flight.shard();
        let sampler = Sampler::new(&rules.sampling, workers, rules.seed);
        let scratch = Scratch::default();
        let state = State { rules, rng, in_flight, shard, workers, sampler, cache: None, scratch };
        Propagate { state: Rc::new(RefCell::new(state)) }
    }

    /// Takes a configuration over, for every connection that shares this layer.
    pub fn configure(&self, rules: &Arc<Rules>) {
        let state = &mut *self.state.borrow_mut();
        state.sampler = Sampler::new(&rules.sampling, state.workers, rules.seed);
        state.rules = Rc::new(Arc::clone(rules));
    }
}

impl Hook for Propagate {
    fn before(&self, exchange: &mut Exchange) -> Result<Option<Response>> {
        let connection = &exchange.ctx.connection;
        let is_trusted = connection.is_trusted || connection.direction == Direction::Outbound;
        let refused = exchange.ctx.refused.take();
        let mut state = self.state.borrow_mut();
        let carried = {
            let mut record = exchange.ctx.recorder.edit();
            let carried = state.carry(&mut exchange.head.fields, &mut record, is_trusted);
            if refused.is_some()
                && let Some(place) = record.place.take()
            {
                place.leave(true, clock_ns(record.started)); // the application never hears of it
            }
            carried
        };
        if state.rules.has_more_in_baggage() {
            // The codecs know the trailers of the built-in fields.
            let rules = Rc::clone(&state.rules);
            let body = std::mem::take(&mut exchange.body);
            exchange.body = body.with_trailers(Rc::new(move |trailers| rules.strip(trailers)));
        }
        match refused {
            Some(error) => Err(error),
            None => carried.map(|()| None),
        }
    }
}

impl State {
    fn carry(&mut self, fields: &mut Fields, record: &mut Record, is_trusted: bool) -> Result<()> {
        let rules = Rc::clone(&self.rules);
        let rules = &**rules;
        let now_ns = clock_ns(record.started);
        self.scratch.token.clear();
        record.revision.clone_from(&rules.revision);
        let nominated = Self::check_nominated(fields, rules);
        if !is_trusted {
            Self::drop_disguises(fields, record, rules);
        }
        let mut came = Came::read(fields, record, rules);
        if !is_trusted && rules.edge.restarts_trace {
            came.restart(fields, record);
        }
        Self::read_request_id(fields, record, !is_trusted && rules.edge.replaces_request_id);
        let mut serves = Serves::default();
        if let Some(correlation) = &rules.correlation
            && record.direction == Direction::Outbound
        {
            serves.is_known = self.correlate(fields, record, &mut came, correlation, now_ns);
        }
        if serves.is_known && !fields.has(Known::Baggage) {
            let kept = correlate::baggage(&self.scratch.found.context);
            if !kept.is_empty() {
                fields.set(Known::Baggage, kept);
                serves.gave_baggage = true;
            }
        }
        if record.request_id.is_empty() {
            self.make_request_id(fields, record, serves.is_known);
        }
        let parent = self.trace(fields, record, &came, rules);
        let mut values = self.read_fields(fields, record, rules, is_trusted, serves.is_known);
        let refused = match &rules.signing {
            Some(signing) => self.check_signature(fields, record, &mut values, signing, is_trusted, serves),
            None => Ok(()),
        };
        let refused = nominated.and(refused);
        self.sample(record, &came, parent.map(|is_sampled| Parent { is_sampled, is_trusted }), now_ns);
        self.write_trace(fields, record, &came, rules);
        self.write_fields(fields, record, rules, &values);
        if record.direction == Direction::Inbound
            && refused.is_ok()
            && let Some(correlation) = &rules.correlation
        {
            let (names, token) = (&rules.extra_names, &self.scratch.token);
            let inbound = Inbound { fields, values: &values, names, token, now_ns };
            record.place = Some(inbound.enter(record, &self.shard, correlation));
        }
        refused
    }

    /// The request id, kept when it is valid: it is never rewritten inside the mesh.
    fn read_request_id(fields: &mut Fields, record: &mut Record, is_replaced: bool) {
        let received = fields
            .get(Known::XRequestId)
            .filter(|value| Field::RequestId.is_valid(value) && !fields.is_repeated(Known::XRequestId));
        let Some(value) = received else {
            record.context_dropped += u32::from(fields.has(Known::XRequestId));
            return;
        };
        let value = record.store(value);
        if is_replaced {
            fields.set_named(CLIENT_REQUEST_ID, record.text(value));
        } else {
            record.request_id = value;
        }
    }

    /// The id of the inbound exchange that it `serves`, or a new one.
    fn make_request_id(&mut self, fields: &mut Fields, record: &mut Record, serves: bool) {
        let kept = if serves { correlate::request_id(&self.scratch.found.context) } else { &[] };
        if kept.is_empty() {
            let mut id = [0; ids::REQUEST_ID_BYTES];
            let since = record.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
            ids::write_request_id(&mut id, since.as_millis() as u64, &mut self.rng);
            record.request_id = record.store(&id);
        } else {
            record.request_id = record.store(kept);
        }
        fields.set(Known::XRequestId, record.text(record.request_id));
    }

    /// Whether the trace is recorded. `parent` is what a caller decided.
    fn sample(&mut self, record: &mut Record, came: &Came, parent: Option<Parent>, now_ns: u64) {
        if came.passes_through(&self.rules) {
            return; // whoever adds no span decides nothing (W3C Trace Context §3.5)
        }
        let question = Question {
            trace_id: record.trace.trace_id,
            is_random: record.trace.is_random(),
            parent,
            account_id: record.text(record.account_id),
            user_id: record.text(record.user_id),
            flags: record.text(record.flags),
            request_type: record.request_type,
        };
        let decision = self.sampler.decide(&question, now_ns);
        record.trace = record.trace.with_sampled(decision.sampled);
        record.sampled_by = Some(decision.by);
        record.keep = (!decision.sampled).then_some(self.rules.sampling.keep);
    }
}

#[cfg(test)]
mod tests;
