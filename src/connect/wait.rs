//! Waiting for a connection when the cap of the cluster is reached: for one of the endpoint's own to come back, or for a
//! place to make another.
//!
//! Whoever waits stands in the [line](crate::cluster::Line) of the cluster, which all workers share, and in the queue
//! of its endpoint on this worker: a connection that comes back goes to the first there without a new handshake, and
//! stays that way until it [had its turn](super::slot) and somebody else is first in line. Both are first come, first
//! served.
//!
//! How it fails: [`Kind::Overflow`] at the deadline, with the cap that was reached.

use super::http1::{Connection, Home};
use super::http2::Stream;
use super::pool::{EndpointPool, Pools};
use super::slot::Slot;
use crate::cluster::{Cluster, Line};
use crate::error::{Error, Kind, Replay, Result};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::time::Instant;

/// A connection that comes back.
#[expect(clippy::large_enum_variant, reason = "moved twice, and rare")]
pub(super) enum Given {
    Http1(Connection),
    Http2(Stream),
}

/// What was waited for.
#[expect(clippy::large_enum_variant, reason = "as above")]
pub(super) enum Got {
    /// A connection of the endpoint.
    Given(Given),
    /// A place to make one.
    Slot(Slot),
}

/// Which connections the one who waits can use.
#[derive(Clone, Copy)]
pub(super) struct Takes {
    pub(super) http1: bool,
    pub(super) http2: bool,
}

/// A kind of connection.
#[derive(Clone, Copy)]
pub(super) enum Kept {
    Http1,
    Http2,
}

impl Takes {
    fn takes(self, kept: Kept) -> bool {
        match kept {
            Kept::Http1 => self.http1,
            Kept::Http2 => self.http2,
        }
    }
}

/// Who waits on this worker for a connection to one endpoint. Each of them is in the cluster's line as well.
#[derive(Default)]
pub(super) struct Waiters(RefCell<VecDeque<Rc<Waiter>>>);

struct Waiter {
    /// In the cluster's line.
    number: u64,
    takes: Takes,
    given: RefCell<Option<Given>>,
    /// Whether it left the line for what was given.
    has_left: Cell<bool>,
}

impl Waiters {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Gives a connection to the one who waits longest for one of its kind; `false` when there is nobody, or when the
    /// connection had its turn and somebody else is first in line.
    pub(super) fn offer(
        &self,
        line: &Line,
        kept: Kept,
        had_its_turn: bool,
        give: impl FnOnce() -> Given,
    ) -> bool {
        loop {
            let next = self.0.borrow().iter().find(|waiter| waiter.takes.takes(kept)).cloned();
            let Some(waiter) = next else { return false };
            if had_its_turn && !line.is_first(waiter.number) {
                return false;
            }
            self.remove(&waiter);
            // Otherwise it was given a place just now, and makes a connection of its own.
            if let Some(waker) = line.leave(waiter.number) {
                waiter.has_left.set(true);
                waiter.given.replace(Some(give()));
                waker.wake();
                return true;
            }
        }
    }

    fn remove(&self, waiter: &Rc<Waiter>) {
        self.0.borrow_mut().retain(|other| !Rc::ptr_eq(other, waiter));
    }
}

/// Waits until `deadline`; without a pool only for a place.
///
/// # Errors
/// [`Kind::Overflow`].
pub(super) async fn wait(
    pools: &Pools,
    cluster: &Arc<Cluster>,
    pool: Option<&Rc<EndpointPool>>,
    takes: Takes,
    deadline: Instant,
) -> Result<Got> {
    let since = Instant::now();
    let mut turn = None;
    let waiting = poll_fn(|cx| {
        let turn = turn.get_or_insert_with(|| {
            let turn = Turn::join(cx.waker(), cluster, pool, takes);
            pools.make_room(cluster);
            turn
        });
        turn.poll(cx)
    });
    if let Ok(got) = tokio::time::timeout_at(deadline, waiting).await {
        return Ok(got);
    }
    drop(turn);
    let breakers = &cluster.breakers;
    match breakers.enter(&breakers.connections) {
        // One became free in the last moment.
        Ok(()) => Ok(Got::Slot(Slot::granted(cluster))),
        Err(refusal) => {
            cluster.line.serve(&breakers.connections);
            let detail = format!(
                "{} connections to cluster {}, and none became free within {:?}",
                breakers.connections.limit,
                cluster.name,
                since.elapsed()
            );
            Err(Error::new(Kind::Overflow, detail).with_refusal(refusal).with_replay(Replay::Safe))
        }
    }
}

/// A place in both queues.
struct Turn<'a> {
    cluster: &'a Arc<Cluster>,
    pool: Option<&'a Rc<EndpointPool>>,
    waiter: Rc<Waiter>,
    is_over: bool,
}

impl<'a> Turn<'a> {
    fn join(
        waker: &Waker,
        cluster: &'a Arc<Cluster>,
        pool: Option<&'a Rc<EndpointPool>>,
        takes: Takes,
    ) -> Turn<'a> {
        let number = cluster.line.join(waker, &cluster.breakers.connections);
        let waiter = Rc::new(Waiter { number, takes, given: RefCell::new(None), has_left: Cell::new(false) });
        if let Some(pool) = pool {
            pool.waiters.0.borrow_mut().push_back(Rc::clone(&waiter));
        }
        Turn { cluster, pool, waiter, is_over: false }
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<Got> {
        if self.waiter.has_left.get() {
            let Some(given) = self.waiter.given.take() else { return Poll::Pending };
            self.is_over = true;
            return Poll::Ready(match given {
                Given::Http1(mut connection) => {
                    if connection.is_usable() {
                        Got::Given(Given::Http1(connection))
                    } else {
                        // The upstream closed it meanwhile: its place is as good.
                        Got::Slot(connection.into_slot())
                    }
                }
                stream => Got::Given(stream),
            });
        }
        if self.cluster.line.is_waiting(self.waiter.number, cx.waker()) {
            return Poll::Pending;
        }
        self.is_over = true;
        Poll::Ready(Got::Slot(Slot::granted(self.cluster)))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(pool) = self.pool {
            pool.waiters.remove(&self.waiter);
        }
        if self.is_over {
            return;
        }
        if !self.waiter.has_left.get() {
            if self.cluster.line.leave(self.waiter.number).is_none() {
                // A place was given to somebody who waits no more: the next one has it.
                drop(Slot::granted(self.cluster));
            }
            return;
        }
        match (self.waiter.given.take(), self.pool) {
            (Some(Given::Http1(connection)), Some(pool)) => pool.check_in(connection),
            // A stream goes to the next by being dropped.
            (given, _) => drop(given),
        }
    }
}
