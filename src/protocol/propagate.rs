//! The context layer: reads who a request is for, makes what is missing, and writes what goes on.
//!
//! Position: outermost, so that even a request that is refused at once has ids in its answer and its event. Reading
//! before hop-by-hop fields are stripped is safe because nominating a context field in `Connection` is refused.
//! What it decides goes into the record; routing reads it there. It writes in the same step, because no later layer can
//! change a context field: `headers` in a configuration may not name one.
//!
//! How it fails: a malformed field is dropped and counted, never repaired; from a peer that is not trusted all fields
//! but the trace are dropped; a malformed `traceparent` restarts the trace (W3C Trace Context level 2, §4.3).

use crate::context::fields::{Field, RequestType, merge};
use crate::context::formats::{self, Extracted, FormatSet, Outgoing, Sampling};
use crate::context::traceparent::Received;
use crate::context::{Rng, TraceParent, baggage, config, ids, tracestate};
use crate::error::Result;
use crate::exchange::{Direction, Exchange, Hook, ParentSource, Record, Response, Text};
use crate::svc::{Fields, Known};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// See the module.
#[derive(Clone)]
pub struct Propagate {
    state: Rc<RefCell<State>>,
    settings: Rc<RefCell<Settings>>,
}

/// What a configuration says about contexts.
struct Settings {
    revision: Option<Arc<str>>,
    context: config::Config,
    formats: Formats,
}

/// Trace formats beside W3C's.
#[derive(Clone, Copy)]
struct Formats {
    read: FormatSet,
    write: FormatSet,
}

impl Settings {
    fn new(revision: Option<Arc<str>>, context: config::Config) -> Settings {
        let of = |list: &[formats::Format]| list.iter().copied().collect();
        let formats = Formats { read: of(&context.formats.read), write: of(&context.formats.write) };
        Settings { revision, context, formats }
    }
}

struct State {
    rng: Rng,
    /// Scratch for a baggage or tracestate value; kept to save the allocation.
    scratch: Vec<u8>,
    decoded: Vec<u8>,
}

/// The fields in the order of [`Field`], with the header that carries each.
const CARRIERS: [(Field, Known); 5] = [
    (Field::UserId, Known::XUserId),
    (Field::AccountId, Known::XAccountId),
    (Field::License, Known::XLicense),
    (Field::RequestType, Known::XRequestType),
    (Field::Flags, Known::XFeatureFlags),
];

impl Propagate {
    /// A layer whose ids come from `rng`: one for each worker, seeded by the operating system.
    pub fn new(rng: Rng) -> Propagate {
        Propagate {
            state: Rc::new(RefCell::new(State { rng, scratch: Vec::new(), decoded: Vec::new() })),
            settings: Rc::new(RefCell::new(Settings::new(None, config::Config::default()))),
        }
    }

    /// Takes a configuration over, for every connection that shares this layer: `revision` goes into every event.
    pub fn configure(&self, revision: &Arc<str>, context: &config::Config) {
        self.settings.replace(Settings::new(Some(Arc::clone(revision)), context.clone()));
    }
}

impl Hook for Propagate {
    fn before(&self, exchange: &mut Exchange) -> Result<Option<Response>> {
        let state = &mut *self.state.borrow_mut();
        let settings = self.settings.borrow();
        let is_trusted =
            exchange.ctx.connection.is_trusted || exchange.ctx.connection.direction == Direction::Outbound;
        let record = &mut *exchange.ctx.recorder.edit();
        let fields = &mut exchange.head.fields;
        record.revision.clone_from(&settings.revision);
        state.trace(fields, record, &settings);
        state.request_id(fields, record);
        state.business(fields, record, is_trusted, settings.context.baggage_bytes_max);
        match exchange.ctx.refused.take() {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }
}

impl State {
    /// The trace: continued, or started where there is none.
    fn trace(&mut self, fields: &mut Fields, record: &mut Record, settings: &Settings) {
        let config = &settings.context;
        let span_id = ids::span_id(&mut self.rng);
        let received = match fields.get(Known::Traceparent) {
            None => Received::Absent,
            first => {
                Received::from_headers(first, if fields.is_repeated(Known::Traceparent) { 2 } else { 1 })
            }
        };
        let parent = match received {
            Received::Valid(parent) => Some(parent),
            Received::Absent | Received::Invalid => None,
        };
        let mut headers = formats::Headers::scan(fields);
        let mut foreign = Extracted::default();
        if !headers.is_empty() {
            headers.drop_empty(fields);
            foreign = formats::extract(&headers, fields, settings.formats.read, parent.as_ref());
            record.context_dropped += foreign.invalid.len();
            record.context_disagreed += foreign.conflicts.len();
        }
        if let Some(parent) = parent {
            record.parent_id = Some(parent.parent_id);
            record.parent_source = ParentSource::Header;
            record.trace = parent.child(span_id);
            if fields.has(Known::Tracestate) {
                self.tracestate(fields, config.tracestate_bytes_max);
            }
        } else {
            record.context_dropped += u32::from(received != Received::Absent);
            match foreign.found {
                Some((format, found)) => {
                    record.parent_id = found.parent_id;
                    record.parent_source = ParentSource::Format(format);
                    let found = formats::Foreign { sampling: foreign.sampling(), ..found };
                    record.trace = found.child(span_id, config.new_trace_sampled);
                }
                None => {
                    let is_sampled = foreign.sampling().is_sampled().unwrap_or(config.new_trace_sampled);
                    record.trace = TraceParent::root(&mut self.rng, span_id, is_sampled);
                }
            }
            fields.remove(Known::Tracestate);
        }
        fields.overwrite(Known::Traceparent, &record.trace.to_bytes());
        if foreign.came.is_empty() && settings.formats.write.is_empty() {
            return;
        }
        // Also what came: an application that knows only that format would find its caller's span there, not ours.
        let outgoing = Outgoing {
            trace: record.trace,
            parent_id: record.parent_id,
            is_debug: parent.is_none() && foreign.sampling() == Sampling::Debug,
        };
        for format in settings.formats.write.iter().chain(foreign.came.iter()) {
            formats::write(format, &outgoing, &headers, fields, &mut self.scratch);
        }
    }

    /// Foreign members go on byte for byte; a list that is malformed does not.
    fn tracestate(&mut self, fields: &mut Fields, bytes_max: usize) {
        self.scratch.clear();
        match tracestate::accept(fields.all(Known::Tracestate), &mut self.scratch) {
            tracestate::Outcome::Accepted { .. } => {
                tracestate::shorten(&mut self.scratch, 0, bytes_max);
                let is_as_it_came = !fields.is_repeated(Known::Tracestate)
                    && fields.get(Known::Tracestate) == Some(self.scratch.as_slice());
                if !is_as_it_came {
                    fields.set(Known::Tracestate, &self.scratch);
                }
            }
            tracestate::Outcome::Empty | tracestate::Outcome::Invalid => {
                fields.remove(Known::Tracestate);
            }
        }
    }

    /// The request id, kept when it is valid: it is never rewritten inside the mesh.
    fn request_id(&mut self, fields: &mut Fields, record: &mut Record) {
        let received = fields
            .get(Known::XRequestId)
            .filter(|value| Field::RequestId.is_valid(value) && !fields.is_repeated(Known::XRequestId));
        if let Some(value) = received {
            record.request_id = record.store(value);
            return;
        }
        record.context_dropped += u32::from(fields.has(Known::XRequestId));
        let mut id = [0; ids::REQUEST_ID_BYTES];
        let since = record.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        ids::write_request_id(&mut id, since.as_millis() as u64, &mut self.rng);
        record.request_id = record.store(&id);
        fields.set(Known::XRequestId, &id);
    }

    /// User, account, license, request type and flags, from both carriers into both.
    fn business(
        &mut self,
        fields: &mut Fields,
        record: &mut Record,
        is_trusted: bool,
        baggage_bytes_max: usize,
    ) {
        let has_baggage = fields.has(Known::Baggage);
        if !has_baggage && CARRIERS.iter().all(|(_, known)| !fields.has(*known)) {
            return;
        }
        let found =
            if has_baggage { baggage::find(fields.all(Known::Baggage)) } else { baggage::Found::default() };
        // What goes into the record and the carriers; spans, because the fields are edited while they are used.
        let mut values: [Option<Text>; CARRIERS.len()] = [None; CARRIERS.len()];
        let mut rewrite: [bool; CARRIERS.len()] = [false; CARRIERS.len()];
        for (index, (field, known)) in CARRIERS.into_iter().enumerate() {
            let plain = fields.get(known);
            let in_baggage = found.raw(field).map(|raw| baggage::decode(raw, &mut self.decoded));
            if plain.is_none() && in_baggage.is_none() {
                continue;
            }
            if !is_trusted {
                record.context_dropped += 1;
                rewrite[index] = plain.is_some();
                continue;
            }
            // Twice is ambiguous: the application might read the other one.
            let is_repeated = fields.is_repeated(known);
            let merged = merge(field, plain.filter(|_| !is_repeated), in_baggage);
            record.context_dropped += u32::from(merged.invalid || is_repeated);
            record.context_disagreed += u32::from(merged.disagreement);
            values[index] = merged.value.map(|(value, _)| record.store(value));
            rewrite[index] = is_repeated || merged.value.map(|(value, _)| value) != plain;
        }
        let changes_baggage = values.iter().any(Option::is_some) || !found.is_empty();
        if changes_baggage {
            self.write_baggage(fields, record, &values, baggage_bytes_max);
        }
        for (index, (field, known)) in CARRIERS.into_iter().enumerate() {
            match values[index] {
                Some(value) if rewrite[index] => fields.set(known, record.text(value)),
                None if rewrite[index] => {
                    fields.remove(known);
                }
                _ => {}
            }
            let value = values[index].unwrap_or_default();
            match field {
                Field::UserId => record.user_id = value,
                Field::AccountId => record.account_id = value,
                Field::License => record.license = value,
                Field::Flags => record.flags = value,
                Field::RequestType => {
                    record.request_type = RequestType::parse(record.text(value)).unwrap_or_default();
                }
                Field::RequestId => {}
            }
        }
    }

    fn write_baggage(
        &mut self,
        fields: &mut Fields,
        record: &mut Record,
        values: &[Option<Text>],
        bytes_max: usize,
    ) {
        self.scratch.clear();
        let ours = CARRIERS
            .iter()
            .zip(values)
            .filter_map(|((field, _), value)| Some((*field, record.text((*value)?))));
        let written = baggage::write_within(bytes_max, fields.all(Known::Baggage), ours, &mut self.scratch);
        record.context_dropped += u32::try_from(written.dropped).unwrap_or(u32::MAX);
        if self.scratch.is_empty() {
            fields.remove(Known::Baggage);
        } else {
            fields.set(Known::Baggage, &self.scratch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(list: &[(&str, &str)], is_trusted: bool) -> (Fields, Record) {
        let mut fields = Fields::new();
        for (name, value) in list {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        let mut record = Record::new();
        let mut state = State { rng: Rng::new(1), scratch: Vec::new(), decoded: Vec::new() };
        state.trace(&mut fields, &mut record, &Settings::new(None, config::Config::default()));
        state.request_id(&mut fields, &mut record);
        state.business(&mut fields, &mut record, is_trusted, 8192);
        (fields, record)
    }

    fn get(fields: &Fields, known: Known) -> Option<String> {
        fields.get(known).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    #[test]
    fn a_request_without_context_gets_a_trace_and_an_id_and_nothing_else() {
        let (fields, record) = run(&[], true);
        assert_eq!(get(&fields, Known::Traceparent).unwrap().len(), 55);
        assert_eq!(get(&fields, Known::XRequestId).unwrap().len(), 36);
        assert_eq!(fields.len(), 2);
        assert_eq!(record.parent_id, None);
        assert!(record.trace.is_sampled());
    }

    #[test]
    fn a_trace_is_continued_with_a_span_of_our_own() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let (fields, record) = run(&[("traceparent", parent), ("tracestate", "a=1,b=2")], true);
        let ours = get(&fields, Known::Traceparent).unwrap();
        assert!(ours.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && ours != parent);
        assert_eq!(record.parent_id, Some([0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]));
        assert_eq!(get(&fields, Known::Tracestate).as_deref(), Some("a=1,b=2"));
        let (fields, record) = run(&[("traceparent", "00-zz"), ("tracestate", "a=1")], true);
        assert_eq!((record.parent_id, get(&fields, Known::Tracestate)), (None, None));
    }

    #[test]
    fn both_carriers_are_read_and_written_and_the_plain_one_wins() {
        let list = [("x-account-id", "a1"), ("baggage", "account.id=a2,user.id=u%201x,other=1")];
        let (fields, record) = run(&list, true);
        assert_eq!(record.text(record.account_id), b"a1");
        assert_eq!(record.context_disagreed, 1);
        let baggage = get(&fields, Known::Baggage).unwrap();
        assert!(baggage.contains("account.id=a1") && baggage.contains("other=1"), "{baggage}");
        let (fields, record) = run(&[("baggage", "license=gold,request.type=TRACE")], true);
        assert_eq!(get(&fields, Known::XLicense).as_deref(), Some("gold"));
        assert_eq!(record.request_type, RequestType::Trace);
    }

    #[test]
    fn an_untrusted_peer_keeps_its_trace_and_loses_its_fields() {
        let list = [("x-account-id", "a1"), ("baggage", "user.id=u,other=1"), ("x-license", "gold")];
        let (fields, record) = run(&list, false);
        assert!(record.account_id.is_empty() && record.user_id.is_empty() && record.license.is_empty());
        assert_eq!(record.context_dropped, 3);
        assert_eq!(get(&fields, Known::Baggage).as_deref(), Some("other=1"));
        assert_eq!((get(&fields, Known::XAccountId), get(&fields, Known::XLicense)), (None, None));
    }

    #[test]
    fn a_field_that_comes_twice_is_believed_neither_time() {
        let (fields, record) = run(&[("x-account-id", "a1"), ("x-account-id", "a2")], true);
        assert!(record.account_id.is_empty());
        assert_eq!((get(&fields, Known::XAccountId), record.context_dropped), (None, 1));
    }

    const B3: &str = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90";

    #[test]
    fn a_trace_in_another_format_is_continued_and_written_again_with_our_span() {
        let (fields, record) = run(&[("b3", B3), ("tracestate", "a=1")], true);
        let span: String = record.trace.parent_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let w3c = format!("00-80f198ee56343ba864fe8b2a57d3eff7-{span}-01");
        assert_eq!(get(&fields, Known::Traceparent), Some(w3c));
        assert_eq!(get(&fields, Known::Tracestate), None, "it belongs to a traceparent");
        let b3: Vec<_> =
            fields.named(b"b3").map(|value| String::from_utf8_lossy(value).into_owned()).collect();
        assert_eq!(b3, [format!("80f198ee56343ba864fe8b2a57d3eff7-{span}-1-e457b5a2e4d86bd1")]);
        assert_eq!(record.parent_id, Some(0xe457_b5a2_e4d8_6bd1_u64.to_be_bytes()));
        assert_eq!(record.parent_source, ParentSource::Format(formats::Format::B3));
        // Only a decision: a new trace that obeys it.
        let (_, record) = run(&[("b3", "0")], true);
        assert!(record.parent_id.is_none() && !record.trace.is_sampled());
    }

    #[test]
    fn w3c_wins_and_a_format_that_names_another_trace_is_counted() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let (fields, record) = run(&[("traceparent", parent), ("b3", B3), ("uber-trace-id", "x")], true);
        assert_eq!(record.parent_source, ParentSource::Header);
        assert_eq!((record.context_disagreed, record.context_dropped), (1, 1));
        for name in ["b3", "uber-trace-id"] {
            let value = fields.named(name.as_bytes()).next().unwrap();
            assert!(value.starts_with(b"0af7651916cd43dd8448eb211c80319c"), "{name}: no stale trace goes on");
        }
    }

    #[test]
    fn formats_are_read_and_written_as_configured() {
        let mut context = config::Config::default();
        context.formats.read = Vec::new();
        context.formats.write = vec![formats::Format::B3Multi];
        let mut fields = Fields::new();
        fields.push(b"b3", B3.as_bytes());
        let mut record = Record::new();
        let mut state = State { rng: Rng::new(1), scratch: Vec::new(), decoded: Vec::new() };
        state.trace(&mut fields, &mut record, &Settings::new(None, context));
        assert_eq!(record.parent_source, ParentSource::Root);
        assert_eq!(fields.named(b"b3").next(), Some(B3.as_bytes()), "what is not read goes on as it came");
        let trace_id: String = record.trace.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(fields.named(b"x-b3-traceid").next(), Some(trace_id.as_bytes()));
    }
}
