//! Which traces there are.
//!
//! What: one pass over the files, a [`Summary`] for each trace, the newest first. Memory is bounded: of more than
//! [`TRACES_MAX`] traces the oldest are forgotten, and how many is told. How it fails: like [`find`](super::find).

use super::document::{millis, moment, trace_hex};
use super::reading::Reading;
use super::search::scan;
use super::source::Source;
use super::span::Span;
use super::style::{Ink, Look, clean, table, time};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

/// So many traces are told apart, some 60 MB; up to twice as many are held meanwhile.
const TRACES_MAX: usize = 100_000;

/// Services of one trace that are counted.
const SERVICES_MAX: usize = 32;

/// The longest name that is kept of a trace.
const NAME_CHARS: usize = 60;

/// Which traces are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Those in which a span has this `account_id`.
    pub account: Option<String>,
    /// Those in which something went wrong.
    pub errors: bool,
    /// Those with a span that took longer.
    pub slower_than: Option<Duration>,
    /// At most so many, the newest.
    pub limit: usize,
}

/// What is told of a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Its id.
    pub trace_id: [u8; 16],
    /// When its first span began, in microseconds since 1970.
    pub start: i64,
    /// How long its longest span took, in microseconds: no clocks are compared.
    pub duration: i64,
    /// How many spans it has in these files.
    pub spans: u64,
    /// How many of them went wrong.
    pub errors: u64,
    /// How many services they are of; at most 32 are counted.
    pub services: usize,
    /// The account, as the first span has it that has one.
    pub account_id: String,
    /// Service and name of its root, or of its first span.
    pub service: String,
    /// See `service`.
    pub name: String,
    /// See `service`.
    pub status: Option<u16>,
    /// The cause of the root, or the first that was found.
    pub cause: Option<String>,
    /// Hashes of the services' names.
    seen: Vec<u64>,
    /// Whether `service` and `name` are those of a span without a parent, and when that began.
    root: (bool, i64),
    is_account: bool,
}

impl Summary {
    pub(super) fn of(span: &Span) -> Summary {
        let mut summary = Summary {
            trace_id: span.trace_id,
            start: span.start,
            duration: 0,
            spans: 0,
            errors: 0,
            services: 0,
            account_id: String::new(),
            service: String::new(),
            name: String::new(),
            status: None,
            cause: None,
            seen: Vec::new(),
            root: (false, i64::MAX),
            is_account: false,
        };
        summary.add(span);
        summary
    }

    pub(super) fn add(&mut self, span: &Span) {
        self.start = self.start.min(span.start);
        self.duration = self.duration.max(span.duration.unwrap_or(0));
        self.spans += 1;
        self.errors += u64::from(span.is_error());
        let service = foldhash::quality::FixedState::default();
        let service = std::hash::BuildHasher::hash_one(&service, &span.service);
        if self.seen.len() < SERVICES_MAX && !self.seen.contains(&service) {
            self.seen.push(service);
            self.services = self.seen.len();
        }
        if self.account_id.is_empty()
            && let Some(context) = &span.context
        {
            self.account_id = clean(&context.account_id, NAME_CHARS).into_owned();
        }
        // A root is told rather than another span, and the earlier of two.
        let is_root = span.parent_id.is_none();
        let is_better = (is_root && !self.root.0) || (is_root == self.root.0 && span.start < self.root.1);
        if is_better {
            self.root = (is_root, span.start);
            self.service = clean(&span.service, NAME_CHARS).into_owned();
            self.name = clean(&span.name, NAME_CHARS).into_owned();
            self.status = span.status;
        }
        if let Some(cause) = &span.cause
            && (is_better || self.cause.is_none())
        {
            self.cause = Some(clean(cause, NAME_CHARS).into_owned());
        }
    }

    fn is_wanted(&self, filter: &Filter) -> bool {
        let slower = filter.slower_than.map(|time| i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
        (filter.account.is_none() || self.is_account)
            && (!filter.errors || self.errors > 0)
            && slower.is_none_or(|micros| self.duration > micros)
    }

    /// The trace as an object.
    pub fn document(&self) -> Value {
        let mut object = json!({
            "trace_id": trace_hex(&self.trace_id),
            "start": moment(self.start),
            "duration_ms": millis(self.duration),
            "spans": self.spans,
            "services": self.services,
            "errors": self.errors,
            "service": self.service,
            "name": self.name,
        });
        if let Value::Object(map) = &mut object {
            let rest = [
                ("status", self.status.map(Value::from)),
                ("cause", self.cause.as_deref().map(Value::from)),
                ("account_id", Some(self.account_id.as_str()).filter(|id| !id.is_empty()).map(Value::from)),
            ];
            map.extend(rest.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        }
        object
    }

    /// A table of traces.
    pub fn table<'a>(traces: impl IntoIterator<Item = &'a Summary>, look: Look) -> String {
        let head = ["start", "longest", "spans", "services", "errors", "trace", "account", "root"];
        let mut rows = vec![head.map(|name| (Some(Ink::Dim), name.to_owned())).to_vec()];
        for trace in traces {
            let is_bad = trace.errors > 0;
            let bad = is_bad.then_some(Ink::Bad);
            let status = trace.status.map(|status| format!(" {status}")).unwrap_or_default();
            let cause = trace.cause.as_ref().map(|cause| format!(" {cause}")).unwrap_or_default();
            let account = if trace.account_id.is_empty() { "–" } else { &trace.account_id };
            rows.push(vec![
                (None, moment(trace.start)),
                (None, format!("{:>10}", time(trace.duration))),
                (None, trace.spans.to_string()),
                (None, trace.services.to_string()),
                (bad, trace.errors.to_string()),
                (Some(Ink::Bold), trace_hex(&trace.trace_id)),
                (None, account.to_owned()),
                (bad, format!("{} {}{status}{cause}", trace.service, trace.name)),
            ]);
        }
        table(look, &rows)
    }
}

/// The traces that were found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// The newest of those that are wanted.
    pub traces: Vec<Summary>,
    /// How many are wanted.
    pub wanted: usize,
    /// How many there are.
    pub total: usize,
    /// How many spans belonged to traces that were too old to keep.
    pub forgotten: u64,
}

/// Lists the traces that `filter` wants.
///
/// # Errors
/// A source that cannot be read.
pub fn list(filter: &Filter, sources: &mut [Source]) -> Result<(Listing, Reading), String> {
    list_within(TRACES_MAX, filter, sources)
}

/// The same, with the bound on traces.
pub(super) fn list_within(
    traces_max: usize,
    filter: &Filter,
    sources: &mut [Source],
) -> Result<(Listing, Reading), String> {
    let mut reading = Reading::default();
    let mut found: HashMap<[u8; 16], Summary> = HashMap::new();
    let mut forgotten = 0;
    let mut oldest = i64::MIN;
    scan(sources, &[], true, &mut reading, &mut |span| {
        let is_account = filter.account.is_some()
            && span.context.as_ref().map(|context| &context.account_id) == filter.account.as_ref();
        match found.get_mut(&span.trace_id) {
            Some(summary) => {
                summary.add(&span);
                summary.is_account |= is_account;
            }
            None if span.start < oldest => forgotten += 1,
            None => {
                found.insert(span.trace_id, Summary { is_account, ..Summary::of(&span) });
            }
        }
        if found.len() > traces_max.saturating_mul(2) {
            (oldest, forgotten) = forget(&mut found, traces_max, oldest, forgotten);
        }
    })?;
    if found.len() > traces_max {
        (_, forgotten) = forget(&mut found, traces_max, oldest, forgotten);
    }
    let total = found.len();
    let mut traces: Vec<Summary> = found.into_values().filter(|summary| summary.is_wanted(filter)).collect();
    let wanted = traces.len();
    traces.sort_by_key(|summary| (Reverse(summary.start), summary.trace_id));
    traces.truncate(filter.limit);
    Ok((Listing { traces, wanted, total, forgotten }, reading))
}

/// Forgets the oldest; gives from when on traces are kept, and how many spans were forgotten.
fn forget(
    found: &mut HashMap<[u8; 16], Summary>,
    traces_max: usize,
    oldest: i64,
    forgotten: u64,
) -> (i64, u64) {
    let mut starts: Vec<i64> = found.values().map(|summary| summary.start).collect();
    starts.sort_unstable_by_key(|start| Reverse(*start));
    let from = starts.get(traces_max.saturating_sub(1)).copied().unwrap_or(oldest).max(oldest);
    let before: u64 = found.values().map(|summary| summary.spans).sum();
    let mut room = traces_max;
    found.retain(|_, summary| {
        let is_kept = summary.start >= from && room > 0;
        room -= usize::from(is_kept);
        is_kept
    });
    let after: u64 = found.values().map(|summary| summary.spans).sum();
    (from, forgotten + before - after)
}
