//! Recorded answers, found by what is asked.
//!
//! A call is looked for by method, host, path and query, and among those by, in this order: content and account, content,
//! account, neither. Each way has its own count, so the n-th call that asks the same gets the n-th recorded answer, and the
//! last one again when there are no more. Calls that name the trace which they replay look in that trace first.
//! A host that is not in the recording is one that the service was told to use instead; then hosts do not count.

use super::report::Report;
use crate::exchange::Direction;
use crate::record::{Entry, Event, Side, What, entry::field};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

/// Answers that are held at once.
const ANSWERS_MAX: usize = 1_000_000;
/// Of their content.
const BYTES_MAX: usize = 1 << 30;
/// Calls that a report names.
const NAMES_MAX: usize = 100;
/// Recorded calls that are named when one is not known.
const NEAREST_MAX: usize = 3;
/// Recorded names that are looked through for the nearest.
const LOOKED_MAX: usize = 5_000;

/// A call, as it is looked for.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// The method.
    pub method: String,
    /// Host, without the port.
    pub host: String,
    /// Path and query.
    pub target: String,
    /// The content; `None`: not known as a whole.
    pub body: Option<Bytes>,
    /// Whose call it is; empty if unknown.
    pub account: String,
    /// The recorded trace that it belongs to.
    pub trace: Option<[u8; 16]>,
}

/// A recorded answer.
#[derive(Debug)]
pub(super) struct Stored {
    name: String,
    started_ns: u64,
    /// The answer's events; never a request's.
    pub events: Vec<Event>,
    keys: Vec<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Answers {
    stored: Vec<Stored>,
    found: HashMap<u64, Vec<u32>>,
    hosts: BTreeSet<String>,
    names: BTreeSet<String>,
    skipped: BTreeMap<&'static str, u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: HashMap<u64, usize>,
    is_used: Vec<bool>,
    report: Report,
}

/// Ways to look for a call, the strictest first.
#[derive(Clone, Copy, Hash)]
struct Way {
    has_body: bool,
    has_account: bool,
}

const WAYS: [Way; 4] = [
    Way { has_body: true, has_account: true },
    Way { has_body: true, has_account: false },
    Way { has_body: false, has_account: true },
    Way { has_body: false, has_account: false },
];

/// The host of an authority, in lower case.
pub(super) fn host(authority: &str) -> String {
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    let host =
        authority.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(authority, |(host, _)| host);
    host.to_ascii_lowercase()
}

impl Call {
    fn key(&self, way: Way, has_host: bool, has_trace: bool) -> u64 {
        let mut hasher = DefaultHasher::new();
        (way, has_host, has_trace, &self.method).hash(&mut hasher);
        if has_host {
            self.host.hash(&mut hasher);
        }
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        // The order of a query's parts is the client library's.
        let mut query: Vec<&str> = query.split('&').collect();
        query.sort_unstable();
        (path, query).hash(&mut hasher);
        if way.has_body {
            self.body.as_ref().hash(&mut hasher);
        }
        if way.has_account {
            self.account.hash(&mut hasher);
        }
        if has_trace {
            self.trace.hash(&mut hasher);
        }
        hasher.finish()
    }

    fn name(&self) -> String {
        let target: String = self.target.chars().take(200).collect();
        format!("{} {}{target}", self.method, self.host)
    }

    /// The keys of all ways, the strictest first; all of one trace before those of any.
    fn keys(&self, has_host: bool) -> Vec<u64> {
        let traces: &[bool] = if self.trace.is_some() { &[true, false] } else { &[false] };
        let ways = traces.iter().flat_map(|has_trace| WAYS.map(|way| (way, *has_trace)));
        ways.filter(|(way, _)| !way.has_body || self.body.is_some())
            .map(|(way, has_trace)| self.key(way, has_host, has_trace))
            .collect()
    }
}

impl Answers {
    /// Takes the outbound calls of a recording. What is no answer, or not a whole one, is left out and counted.
    pub fn load(entries: impl IntoIterator<Item = Entry>) -> Answers {
        let mut answers = Answers::default();
        let mut bytes = 0usize;
        for entry in entries {
            if let Err(why) = answers.add(entry, &mut bytes) {
                *answers.skipped.entry(why).or_default() += 1;
            }
        }
        // A recording has the order of ends; calls are asked in the order of beginnings.
        answers.stored.sort_by_key(|stored| stored.started_ns);
        for (index, stored) in answers.stored.iter_mut().enumerate() {
            for key in std::mem::take(&mut stored.keys) {
                answers.found.entry(key).or_default().push(index as u32);
            }
        }
        answers.state = Mutex::new(State { is_used: vec![false; answers.stored.len()], ..State::default() });
        answers
    }

    fn add(&mut self, entry: Entry, bytes: &mut usize) -> Result<(), &'static str> {
        if entry.direction != Direction::Outbound {
            return Err("inbound");
        }
        let Some(head) = entry.request_head() else { return Err("no request") };
        if entry.response_head().is_none() {
            return Err("no answer");
        }
        if entry.is_tunnel() {
            return Err("tunnel");
        }
        if entry.response.is_truncated || entry.parts > 0 {
            return Err("answer not recorded whole");
        }
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let call = Call {
            method: text(&head.method),
            host: host(&text(&head.authority)),
            target: text(&head.target),
            body: (!entry.request.is_truncated).then(|| entry.body(Side::Request)),
            account: entry.account_id.clone(),
            trace: (entry.trace_id != [0; 16]).then_some(entry.trace_id),
        };
        let is_answer = |event: &Event| match &event.what {
            What::Response(head) => head.status >= 200,
            What::Data(side, _) | What::Trailers(side, _) | What::Reset(side, _) => *side == Side::Response,
            What::Request(_) | What::End(_) => false,
        };
        let size = entry.body(Side::Response).len();
        if self.stored.len() >= ANSWERS_MAX || bytes.saturating_add(size) > BYTES_MAX {
            return Err("too many");
        }
        *bytes += size;
        let keys = [call.keys(true), call.keys(false)].concat();
        let events = entry.events.into_iter().filter(is_answer).collect();
        self.hosts.insert(call.host.clone());
        if self.names.len() < LOOKED_MAX {
            self.names.insert(call.name());
        }
        self.stored.push(Stored { name: call.name(), started_ns: entry.started_ns, events, keys });
        Ok(())
    }

    /// How many answers there are.
    pub fn len(&self) -> usize {
        self.stored.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    /// Why entries were left out, and how many.
    pub fn skipped(&self) -> &BTreeMap<&'static str, u64> {
        &self.skipped
    }

    /// The answer to a call; `None`: it is not in the recording.
    pub(super) fn next(&self, call: &Call) -> Option<&Stored> {
        let keys = call.keys(self.hosts.contains(&call.host));
        let found = keys.iter().find_map(|key| Some((*key, self.found.get(key)?)));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((key, indexes)) = found else {
            state.report.unmatched += 1;
            let name = call.name();
            let calls = &mut state.report.unmatched_calls;
            if calls.len() < NAMES_MAX || calls.contains_key(&name) {
                *calls.entry(name).or_default() += 1;
            }
            return None;
        };
        let next = state.next.entry(key).or_default();
        let index = *indexes.get(*next).or(indexes.last())? as usize;
        *next = next.saturating_add(1);
        let is_again = *next > indexes.len();
        state.report.served += 1;
        state.report.repeated += u64::from(is_again);
        if let Some(is_used) = state.is_used.get_mut(index) {
            *is_used = true;
        }
        self.stored.get(index)
    }

    /// The recorded calls that are most like one that is not known.
    pub(super) fn nearest(&self, call: &Call) -> Vec<&str> {
        let name = call.name();
        let steps = |name: &str| name.split(['/', '?', '&', ' ']).map(str::to_owned).collect::<Vec<_>>();
        let wanted = steps(&name);
        let likeness = |name: &str| {
            let steps = steps(name);
            let same = steps.iter().zip(&wanted).filter(|(a, b)| a == b).count();
            (same, std::cmp::Reverse(steps.len().abs_diff(wanted.len())))
        };
        let mut names: Vec<_> = self.names.iter().map(|name| (likeness(name), &**name)).collect();
        names.sort_by_key(|(likeness, _)| std::cmp::Reverse(*likeness));
        names.into_iter().take(NEAREST_MAX).map(|(_, name)| name).collect()
    }

    /// What was asked so far.
    pub fn report(&self) -> Report {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut report = state.report.clone();
        for (stored, _) in self.stored.iter().zip(&state.is_used).filter(|(_, is_used)| !**is_used) {
            report.unused += 1;
            if report.unused_calls.len() < NAMES_MAX || report.unused_calls.contains_key(&stored.name) {
                *report.unused_calls.entry(stored.name.clone()).or_default() += 1;
            }
        }
        report
    }
}

/// The trace that `x-sidelight-replay` names: the first 32 hexadecimal digits in a row.
pub(super) fn trace(value: &str) -> Option<[u8; 16]> {
    let digits = value.split(|c: char| !c.is_ascii_hexdigit()).find(|part| part.len() == 32)?;
    u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
}

impl Stored {
    /// The status of the answer.
    pub fn status(&self) -> u16 {
        let head = self.events.iter().find_map(|event| match &event.what {
            What::Response(head) => Some(head.status),
            _ => None,
        });
        head.unwrap_or(502)
    }

    /// Whether it says how long its content is.
    pub fn content_length(&self) -> Option<u64> {
        let fields = self.events.iter().find_map(|event| match &event.what {
            What::Response(head) => Some(&head.fields),
            _ => None,
        })?;
        std::str::from_utf8(field(fields, b"content-length")?).ok()?.trim().parse().ok()
    }
}
