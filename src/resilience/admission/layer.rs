//! The service around the stack. A request that need not wait is passed on without a word; one that waits is boxed.

use super::gate::Spot;
use super::turn::Outcome;
use super::{Admission, Decision};
use crate::cluster::clock_ns;
use crate::error::{Error, Kind, Result};
use crate::exchange::{Answer, Ctx, Exchange, Response};
use crate::svc::{ResponseHead, Timer, grpc};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;
use tower::{Layer, Service};

/// Where a worker keeps a listener's admission: every connection reads it at each request, a reload replaces it.
#[derive(Clone, Debug)]
pub struct AdmissionCell(Rc<RefCell<Shared>>);

/// Counted by the worker alone: requests do not write a count that all workers share.
type Shared = Rc<Arc<Admission>>;

impl AdmissionCell {
    /// A cell with its first admission.
    pub fn new(admission: Arc<Admission>) -> AdmissionCell {
        AdmissionCell(Rc::new(RefCell::new(Rc::new(admission))))
    }

    /// Replaces the admission; who has a place or waits keeps the one it has.
    pub fn swap(&self, admission: Arc<Admission>) {
        self.0.replace(Rc::new(admission));
    }
}

/// Puts a listener's admission around a service.
#[derive(Clone, Debug)]
pub struct AdmissionLayer(pub AdmissionCell);

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admit<S>;

    fn layer(&self, inner: S) -> Admit<S> {
        Admit { cell: self.0.clone(), inner }
    }
}

/// The service of [`AdmissionLayer`].
#[derive(Clone, Debug)]
pub struct Admit<S> {
    cell: AdmissionCell,
    inner: S,
}

impl<S> Service<Exchange> for Admit<S>
where
    S: Service<Exchange, Response = Response, Error = Error> + Clone,
{
    type Response = Response;
    type Error = Error;
    type Future = AdmitFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, exchange: Exchange) -> AdmitFuture<S> {
        let timing = {
            let admission = self.cell.0.borrow();
            match admission.decide(&exchange.ctx) {
                Decision::Free => None,
                Decision::Placed => settle_in(&admission, &exchange.ctx),
                Decision::Refused(error) => return AdmitFuture(State::Refused(Some(error))),
                Decision::Queued(spot, rank) => {
                    let wait = Wait::new(Rc::clone(&admission), spot, rank);
                    let queued = Queued { wait, inner: self.inner.clone(), exchange };
                    return AdmitFuture(State::Queued(Box::new(queued)));
                }
            }
        };
        AdmitFuture(State::Inner(self.inner.call(exchange), timing))
    }
}

/// The future of [`Admit`].
pub struct AdmitFuture<S: Service<Exchange>>(State<S>);

enum State<S: Service<Exchange>> {
    Inner(S::Future, Option<Timing>),
    Queued(Box<Queued<S>>),
    Refused(Option<Error>),
    /// Only while the state changes.
    Empty,
}

struct Queued<S> {
    wait: Wait,
    inner: S,
    exchange: Exchange,
}

impl<S> Future for AdmitFuture<S>
where
    S: Service<Exchange, Response = Response, Error = Error>,
{
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        // SAFETY: only the future in `State::Inner` is structurally pinned: polled in place, never moved. The other
        // states are replaced as a whole, and hold nothing pinned; there is no Drop impl.
        let this = unsafe { self.get_unchecked_mut() };
        loop {
            match &mut this.0 {
                State::Inner(future, timing) => {
                    // SAFETY: as above.
                    let answer = ready!(unsafe { Pin::new_unchecked(future) }.poll(cx));
                    if let Some(timing) = timing.take() {
                        timing.answered(&answer);
                    }
                    return Poll::Ready(answer);
                }
                State::Refused(error) => {
                    let Some(error) = error.take() else { return Poll::Pending };
                    return Poll::Ready(Err(error));
                }
                State::Queued(queued) => {
                    let outcome = ready!(queued.wait.poll(cx));
                    let State::Queued(queued) = std::mem::replace(&mut this.0, State::Empty) else {
                        return Poll::Pending; // not reached: the arm says what it is
                    };
                    let Queued { wait, mut inner, exchange } = *queued;
                    this.0 = match wait.end(outcome, &exchange.ctx) {
                        Ok(timing) => State::Inner(inner.call(exchange), timing),
                        Err(error) => State::Refused(Some(error)),
                    };
                }
                State::Empty => return Poll::Pending, // polled after a panic in between
            }
        }
    }
}

/// A request in the queue. Dropped before its end (the client left), it leaves the queue, or gives back its place.
struct Wait {
    admission: Shared,
    spot: Option<Spot>,
    rank: usize,
    since: Instant,
    deadline: Instant,
    timer: Timer,
}

impl Wait {
    fn new(admission: Shared, spot: Spot, rank: usize) -> Wait {
        let since = Instant::now();
        let deadline = admission.gate.as_ref().map_or(since, |gate| since + gate.queue_timeout());
        Wait { admission, spot: Some(spot), rank, since, deadline, timer: Timer::new() }
    }

    /// How the wait ended; `None` when its time is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        let (Some(spot), Some(gate)) = (&self.spot, &self.admission.gate) else { return Poll::Ready(None) };
        if let Poll::Ready(outcome) = spot.turn.poll(cx.waker()) {
            return Poll::Ready(Some(outcome));
        }
        ready!(self.timer.poll(cx, self.deadline));
        Poll::Ready(gate.give_up(spot))
    }

    /// Ends it: with a place, or not.
    fn end(mut self, outcome: Option<Outcome>, ctx: &Ctx) -> Result<Option<Timing>> {
        self.spot = None;
        let waited = self.since.elapsed();
        ctx.recorder.edit().note().admission_wait = Some(waited);
        let Some(gate) = &self.admission.gate else { return Err(Kind::Internal.into()) };
        match outcome {
            Some(Outcome::Admitted) => Ok(settle_in(&self.admission, ctx)),
            Some(Outcome::Shed) => Err(self.admission.victim(gate, self.rank)),
            None => Err(self.admission.no_place(gate, self.rank, waited)),
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let (Some(spot), Some(gate)) = (&self.spot, &self.admission.gate)
            && gate.give_up(spot) == Some(Outcome::Admitted)
        {
            gate.leave();
        }
    }
}

/// A place was taken: it is held until the exchange ends. The clock starts, if anybody wants to know.
fn settle_in(admission: &Shared, ctx: &Ctx) -> Option<Timing> {
    ctx.holds.borrow_mut().push(Box::new(Place(Rc::clone(admission))));
    let is_adaptive = admission.gate.as_ref().is_some_and(|gate| gate.is_adaptive());
    is_adaptive.then(|| Timing {
        admission: Rc::clone(admission),
        ctx: ctx.clone(),
        began: Instant::now(),
        is_answered: false,
    })
}

/// A place under the limit.
struct Place(Shared);

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(gate) = &self.0.gate {
            gate.leave();
        }
    }
}

/// How long an admitted request takes to its answer.
struct Timing {
    admission: Shared,
    ctx: Ctx,
    began: Instant,
    is_answered: bool,
}

impl Timing {
    fn answered(mut self, answer: &Answer) {
        self.is_answered = true;
        let is_served = answer.as_ref().is_ok_and(|response| is_served(&response.head))
            && self.ctx.recorder.edit().attempts > 0;
        self.learn(is_served);
    }

    fn learn(&self, is_served: bool) {
        let Some(gate) = &self.admission.gate else { return };
        let latency = self.began.elapsed();
        let latency_ns = nanoseconds(latency);
        if is_served || gate.is_slow(latency_ns) {
            gate.learn(clock_ns(self.began), latency_ns);
        }
    }
}

impl Drop for Timing {
    fn drop(&mut self) {
        if !self.is_answered {
            self.learn(false);
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether an answer is that of work that was done: not one that was refused, or that failed, perhaps at once.
fn is_served(head: &ResponseHead) -> bool {
    // RESOURCE_EXHAUSTED, UNAVAILABLE
    let is_grpc_refusal = matches!(grpc::status(&head.fields), Some(8 | 14));
    head.status < 500 && head.status != 429 && !is_grpc_refusal
}
