//! The caller's own deadline: read, kept to, reduced by what has passed, and carried on.
//!
//! Two fields bring one. `grpc-timeout` bounds a call as a whole, its content included. `x-envoy-expected-rq-timeout-ms`
//! says how long a proxy in front of us waits for an answer; what streams behind the head is not bounded by it, because
//! the timeouts of routes are not either. A request that brings neither, and carries the trace or the request id of an
//! inbound request, has the deadline of that one ([`Table`]), so a deadline gets through an application that knows
//! nothing of deadlines.
//!
//! Peers are believed whoever they are: a deadline only shortens what the route allows. What gets through the app must come
//! from a trusted peer, because it bounds requests that are not its own.
//!
//! Position: inside routing, which says how long the route allows and whether deadlines are ignored; outside the timeout.
//! Records: what was left when the request came, and who said so. How it fails: a malformed field is left out, and
//! counted like a malformed field of the context; a deadline that has passed is [`Kind::DeadlineExceeded`] at once.

mod table;

pub use table::Table;

use crate::error::{Error, Kind, Result};
use crate::exchange::{Ctx, DeadlineSource, Direction, Exchange, Hook, Response};
use crate::svc::{Fields, Known, RequestHead, grpc};
use std::sync::Arc;
use std::time::Duration;
use table::Registered;
use tokio::time::Instant;

/// The most digits of `x-envoy-expected-rq-timeout-ms`.
const DIGITS_MAX: usize = 10;

/// When a caller stops waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// For the head of the answer.
    pub head: Instant,
    /// For all of it; `None` as long as it takes.
    pub whole: Option<Instant>,
}

impl Deadline {
    /// The one that allows less.
    fn or_earlier(self, other: Deadline) -> Deadline {
        let whole = match (self.whole, other.whole) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        Deadline { head: self.head.min(other.head), whole }
    }

    /// The one that allows more.
    fn or_later(self, other: Deadline) -> Deadline {
        let whole = self.whole.zip(other.whole).map(|(one, two)| one.max(two));
        Deadline { head: self.head.max(other.head), whole }
    }
}

/// The hook.
#[derive(Clone, Debug)]
pub struct Deadlines {
    table: Arc<Table>,
}

impl Deadlines {
    /// A hook that finds the deadlines of inbound exchanges in `table`.
    pub fn new(table: Arc<Table>) -> Deadlines {
        Deadlines { table }
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines::new(Table::shared())
    }
}

/// What an exchange holds of its caller's deadline.
struct Held {
    deadline: Option<Deadline>,
    _registered: Option<Registered>,
}

impl Hook for Deadlines {
    #[inline]
    fn before(&self, exchange: &mut Exchange) -> Result<Option<Response>> {
        let fields = &exchange.head.fields;
        let may_have_one = fields.has(Known::GrpcTimeout) || fields.has(Known::XEnvoyExpectedRqTimeoutMs);
        if may_have_one || !self.table.is_empty() {
            self.keep_to(fields, &exchange.ctx)?;
        }
        Ok(None)
    }
}

impl Deadlines {
    #[inline(never)]
    fn keep_to(&self, fields: &Fields, ctx: &Ctx) -> Result<()> {
        if ctx.policy.borrow().as_ref().is_some_and(|policy| policy.ignores_deadline) {
            return Ok(());
        }
        let mut record = ctx.recorder.edit();
        let own = Own::read(fields, record.is_grpc, record.started);
        record.context_dropped += own.malformed;
        let is_inbound = ctx.connection.direction == Direction::Inbound;
        let found = match own.deadline {
            None if !is_inbound => {
                let found = self.table.find(&record.trace.trace_id, record.text(record.request_id));
                found.map(|deadline| (deadline, DeadlineSource::Inbound))
            }
            own => own,
        };
        let deadline = found.map(|(deadline, _)| deadline);
        // Nothing goes through the app from who is not trusted, and what nobody bounds matters only beside what is bound.
        let registers =
            is_inbound && ctx.connection.is_trusted && (deadline.is_some() || !self.table.is_empty());
        let registered = registers
            .then(|| self.table.register(record.trace.trace_id, record.text(record.request_id), deadline));
        if deadline.is_some() || registered.is_some() {
            ctx.holds.borrow_mut().push(Box::new(Held { deadline, _registered: registered }));
        }
        let Some((deadline, source)) = found else { return Ok(()) };
        let now = Instant::now();
        let notes = record.note();
        notes.deadline_source = Some(source);
        notes.deadline = Some(deadline.head.saturating_duration_since(now));
        ctx.carries_deadline.set(true);
        if ctx.deadline.get().is_none_or(|routes| deadline.head <= routes) {
            ctx.deadline.set(Some(deadline.head));
            ctx.is_callers_deadline.set(true);
        }
        if deadline.head <= now {
            return Err(Error::new(Kind::DeadlineExceeded, format!("{}: it has passed", source.as_str())));
        }
        Ok(())
    }
}

/// What a request says itself.
#[derive(Debug, PartialEq)]
struct Own {
    deadline: Option<(Deadline, DeadlineSource)>,
    /// How many of its fields make no sense.
    malformed: u32,
}

impl Own {
    fn read(fields: &Fields, is_grpc: bool, started: Instant) -> Own {
        let mut own = Own { deadline: None, malformed: 0 };
        if is_grpc && fields.has(Known::GrpcTimeout) {
            let time = one(fields, Known::GrpcTimeout).and_then(grpc::parse_timeout);
            own.malformed += u32::from(time.is_none());
            if let Some(at) = time.and_then(|time| started.checked_add(time)) {
                own.deadline = Some((Deadline { head: at, whole: Some(at) }, DeadlineSource::GrpcTimeout));
            }
        }
        if fields.has(Known::XEnvoyExpectedRqTimeoutMs) {
            let time = one(fields, Known::XEnvoyExpectedRqTimeoutMs).and_then(milliseconds);
            own.malformed += u32::from(time.is_none());
            if let Some(at) = time.and_then(|time| started.checked_add(time)) {
                let said = Deadline { head: at, whole: None };
                own.deadline = Some(match own.deadline {
                    Some((deadline, source)) if deadline.head <= at => (deadline, source),
                    Some((deadline, _)) => (deadline.or_earlier(said), DeadlineSource::Header),
                    None => (said, DeadlineSource::Header),
                });
            }
        }
        own
    }
}

/// The value of a field that is there once.
fn one(fields: &Fields, known: Known) -> Option<&[u8]> {
    if fields.is_repeated(known) { None } else { fields.get(known) }
}

/// A number of milliseconds above zero: zero is how Envoy says that there is no timeout.
fn milliseconds(value: &[u8]) -> Option<Duration> {
    if value.len() > DIGITS_MAX || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = value.iter().fold(0, |number: u64, digit| number * 10 + u64::from(digit - b'0'));
    (number > 0).then(|| Duration::from_millis(number))
}

/// The caller's deadline, if it set one.
pub(super) fn of_caller(ctx: &Ctx) -> Option<Deadline> {
    if !ctx.carries_deadline.get() {
        return None;
    }
    ctx.holds.borrow().iter().find_map(|hold| hold.downcast_ref::<Held>()?.deadline)
}

/// Writes into the head of an attempt what is left of the caller's deadline, or of the route's where it says so itself.
///
/// In the form that it came in: only what bounds a gRPC call as a whole goes on as `grpc-timeout`, or a stream that may
/// last would be cut by whoever takes a timeout for the head as one for all of it.
pub(super) fn announce(ctx: &Ctx, head: &mut RequestHead) {
    let announces = ctx
        .policy
        .borrow()
        .as_ref()
        .is_some_and(|policy| policy.announces_deadline && !policy.ignores_deadline);
    if !announces && !ctx.carries_deadline.get() {
        return;
    }
    let routes = ctx.deadline.get().filter(|_| announces).map(|head| Deadline { head, whole: None });
    let deadline = match (of_caller(ctx), routes) {
        (Some(callers), Some(routes)) => callers.or_earlier(routes),
        (one, two) => match one.or(two) {
            Some(deadline) => deadline,
            None => return,
        },
    };
    let now = Instant::now();
    let left = |at: Instant| at.saturating_duration_since(now);
    let fields = &mut head.fields;
    let mut is_said = false;
    if let Some(whole) = deadline.whole
        && ctx.recorder.edit().is_grpc
    {
        fields.set(Known::GrpcTimeout, grpc::format_timeout(left(whole)).as_bytes());
        is_said = whole <= deadline.head;
    }
    if !is_said || fields.has(Known::XEnvoyExpectedRqTimeoutMs) {
        let ms = left(deadline.head).as_millis().max(1);
        fields.set(Known::XEnvoyExpectedRqTimeoutMs, ms.to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests;
