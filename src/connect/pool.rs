//! A worker's connections to endpoints. Never shared between workers, so nothing here is locked.
//!
//! HTTP/1.1 connections that are idle are kept last in, first out: the ones that are needed stay warm, the others pass
//! the idle timeout, which is below what upstreams usually allow, so that it is we who close first. HTTP/2 connections
//! carry many exchanges; another one is opened when those that are there are full.
//!
//! Connections count under the cap of their cluster, over all workers ([`super::slot`]). Once it is reached, requests
//! [wait](super::wait), and what comes back goes to them; what is idle is closed for whoever waits elsewhere
//! ([`Pools::attend`]). Nobody waits for what is not used, and a cap of one connection still serves every worker.
//!
//! An endpoint that left its cluster loses its idle connections at the next sweep, and the others when they are done;
//! connections to endpoints that stay are not touched.

use super::http1::{Connection, Home};
use super::http2::{Multiplexed, Stream};
use super::share::Share;
use super::wait::{Given, Kept, Waiters};
use crate::cluster::{Cluster, Endpoint};
use crate::error::{Error, Kind, Result};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The pools of a worker.
#[derive(Default)]
pub struct Pools {
    endpoints: RefCell<HashMap<u64, Rc<EndpointPool>, foldhash::fast::RandomState>>,
    shares: RefCell<Vec<Rc<Share>>>,
    /// Other workers ask for what is idle here.
    asked: Arc<Notify>,
}

/// The connections to one endpoint.
pub struct EndpointPool {
    pub(super) endpoint: u64,
    cluster: Arc<Cluster>,
    idle: RefCell<Vec<Idle>>,
    multiplexed: RefCell<Vec<Rc<Multiplexed>>>,
    /// Exchanges that wait for one of these connections, or for a place to make another.
    pub(super) waiters: Waiters,
    /// Held while an HTTP/2 connection is made, so that a burst makes one and not one for each stream.
    pub(super) gate: Gate,
    /// 0 once the endpoint is gone.
    idle_max: Cell<usize>,
    idle_timeout: Duration,
    is_abandoned: Cell<bool>,
}

/// One connection attempt at a time, with the failure of the last for those who waited for it.
#[derive(Default)]
pub(super) struct Gate {
    lock: tokio::sync::Mutex<()>,
    failed: RefCell<Option<(Instant, Kind, String)>>,
    /// Whether ALPN chose HTTP/1.1 here the last time: then there is nothing to wait for.
    pub(super) is_http1: Cell<bool>,
}

impl Gate {
    /// Waits for the attempt that is under way, if there is one.
    ///
    /// # Errors
    /// That attempt failed: another one right behind it would only make a queue of timeouts.
    pub(super) async fn enter(&self) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        let since = Instant::now();
        let guard = self.lock.lock().await;
        match &*self.failed.borrow() {
            Some((at, kind, detail)) if *at > since => Err(Error::new(*kind, detail.clone())),
            _ => Ok(guard),
        }
    }

    /// Notes that the attempt failed.
    pub(super) fn fail(&self, error: &Error) {
        *self.failed.borrow_mut() = Some((Instant::now(), error.kind(), error.detail().to_owned()));
    }
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pools {
    /// The pool of an endpoint of `cluster`.
    pub(super) fn of(
        &self,
        cluster: &Arc<Cluster>,
        endpoint: &Endpoint,
        idle_max: usize,
    ) -> Rc<EndpointPool> {
        let mut endpoints = self.endpoints.borrow_mut();
        let pool = endpoints.entry(endpoint.id).or_insert_with(|| {
            let pool = Rc::new(EndpointPool::new(cluster, endpoint.id, idle_max));
            self.share(cluster).add(&pool);
            pool
        });
        Rc::clone(pool)
    }

    fn share(&self, cluster: &Arc<Cluster>) -> Rc<Share> {
        if let Some(share) = self.find_share(cluster) {
            return share;
        }
        let share = Rc::new(Share::new(cluster, &self.asked));
        self.shares.borrow_mut().push(Rc::clone(&share));
        share
    }

    fn find_share(&self, cluster: &Arc<Cluster>) -> Option<Rc<Share>> {
        self.shares.borrow().iter().find(|share| Arc::ptr_eq(&share.cluster, cluster)).cloned()
    }

    /// Makes room for those who wait for a connection to `cluster`: closes what is idle here, and asks other workers to.
    pub(super) fn make_room(&self, cluster: &Arc<Cluster>) {
        let share = self.find_share(cluster);
        if let Some(share) = &share {
            share.close_idle();
        }
        if !cluster.line.is_empty() {
            cluster.line.ring(share.as_ref().map(|share| &share.bell));
        }
    }

    /// Makes room when other workers ask for it. Never ends; the worker polls it beside everything else, and may drop it
    /// and call it again at any time.
    pub async fn attend(&self) {
        loop {
            self.asked.notified().await;
            let shares = self.shares.borrow();
            for share in shares.iter().filter(|share| share.bell.take()) {
                share.close_idle();
            }
        }
    }

    /// Closes what has been idle too long, was closed by the upstream, or leads to an endpoint that is gone; the worker
    /// calls it about once a second.
    pub fn sweep(&self, now: Instant) {
        self.endpoints.borrow_mut().retain(|_, pool| {
            pool.sweep(now);
            // A pool in use is held by its exchanges.
            Rc::strong_count(pool) > 1 || !pool.is_empty()
        });
        self.shares.borrow_mut().retain(|share| share.sweep());
    }

    /// How many HTTP/1.1 connections are idle.
    pub fn idle(&self) -> usize {
        self.endpoints.borrow().values().map(|pool| pool.idle.borrow().len()).sum()
    }
}

impl EndpointPool {
    fn new(cluster: &Arc<Cluster>, endpoint: u64, idle_max: usize) -> EndpointPool {
        EndpointPool {
            endpoint,
            cluster: Arc::clone(cluster),
            idle: RefCell::default(),
            multiplexed: RefCell::default(),
            waiters: Waiters::default(),
            gate: Gate::default(),
            idle_max: Cell::new(idle_max),
            idle_timeout: cluster.settings.idle_timeout,
            is_abandoned: Cell::new(false),
        }
    }

    /// An idle HTTP/1.1 connection that is still usable.
    pub(super) fn check_out(&self) -> Option<Connection> {
        loop {
            let mut idle = self.idle.borrow_mut().pop()?;
            if idle.connection.is_usable() {
                return Some(idle.connection);
            }
        }
    }

    /// A stream of an HTTP/2 connection that has room for another.
    pub(super) fn stream(&self) -> Option<Stream> {
        // The first with room, not the emptiest: streams that share a connection share its reads and writes, and the
        // connections of a burst that has passed become idle and are closed.
        self.multiplexed.borrow().iter().find(|connection| connection.has_room()).map(Stream::new)
    }

    /// Keeps an HTTP/2 connection.
    pub(super) fn keep(&self, connection: &Rc<Multiplexed>) {
        self.multiplexed.borrow_mut().push(Rc::clone(connection));
    }

    /// A stream ended while requests wait for a connection to this cluster.
    #[cold]
    pub(super) fn stream_ended(&self, connection: &Rc<Multiplexed>) {
        let is_kept = self.multiplexed.borrow().iter().any(|kept| Rc::ptr_eq(kept, connection));
        if !is_kept {
            return; // it carries what it has to its end, and makes room by itself
        }
        let had_its_turn = connection.had_its_turn();
        let line = &self.cluster.line;
        let next = || Given::Http2(Stream::new(connection));
        if connection.has_room() && self.waiters.offer(line, Kept::Http2, had_its_turn, next) {
            return;
        }
        if connection.active() == 0 || (had_its_turn && line.claim()) {
            self.multiplexed.borrow_mut().retain(|kept| !Rc::ptr_eq(kept, connection));
        }
    }

    /// Closes one idle connection, the one that is needed least; `false` when none is idle.
    pub(super) fn close_one(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        if !idle.is_empty() {
            idle.remove(0);
            return true;
        }
        let mut multiplexed = self.multiplexed.borrow_mut();
        let unused = multiplexed.iter().position(|connection| connection.active() == 0);
        unused.map(|at| multiplexed.swap_remove(at)).is_some()
    }

    /// The endpoint is gone: what is idle is closed, what is in use is not kept.
    pub(super) fn abandon(&self) {
        self.is_abandoned.set(true);
        self.idle_max.set(0);
        self.idle.borrow_mut().clear();
        self.multiplexed.borrow_mut().clear();
    }

    fn sweep(&self, now: Instant) {
        if self.is_abandoned.get() {
            return self.abandon();
        }
        let timeout = self.idle_timeout;
        self.idle
            .borrow_mut()
            .retain_mut(|idle| now.duration_since(idle.since) < timeout && idle.connection.is_usable());
        self.multiplexed.borrow_mut().retain(|connection| !connection.is_over(now, timeout));
    }

    fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty() && self.multiplexed.borrow().is_empty()
    }

    /// Requests wait for a connection to this cluster: it goes to the next of this endpoint, or makes room.
    #[cold]
    fn hand_on(&self, connection: Connection) {
        let had_its_turn = connection.had_its_turn();
        // Not given, it is closed: nobody here may have it, and somebody elsewhere waits for its place.
        self.waiters.offer(&self.cluster.line, Kept::Http1, had_its_turn, || Given::Http1(connection));
    }
}

impl Home for EndpointPool {
    fn check_in(&self, connection: Connection) {
        if !self.cluster.line.is_empty() {
            return self.hand_on(connection);
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.idle_max.get() {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }
}
