//! A worker's connections to endpoints. Never shared between workers, so nothing here is locked.
//!
//! HTTP/1.1 connections that are idle are kept last in, first out: the ones that are needed stay warm, the others pass
//! the idle timeout, which is below what upstreams usually allow, so that it is we who close first. HTTP/2 connections
//! carry many exchanges; another one is opened when those that are there are full.

use super::http1::{Connection, Home};
use super::http2::Multiplexed;
use crate::error::{Error, Kind, Result};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// The pools of a worker.
#[derive(Default)]
pub struct Pools {
    endpoints: RefCell<HashMap<u64, Rc<EndpointPool>, foldhash::fast::RandomState>>,
}

/// The connections to one endpoint.
pub struct EndpointPool {
    idle: RefCell<Vec<Idle>>,
    multiplexed: RefCell<Vec<Rc<Multiplexed>>>,
    /// Held while an HTTP/2 connection is made, so that a burst makes one and not one for each stream.
    pub(super) gate: Gate,
    idle_max: usize,
    idle_timeout: Duration,
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
    /// The pool of the endpoint with this id.
    pub fn of(&self, endpoint: u64, idle_max: usize, idle_timeout: Duration) -> Rc<EndpointPool> {
        let mut endpoints = self.endpoints.borrow_mut();
        let pool = endpoints.entry(endpoint).or_insert_with(|| {
            Rc::new(EndpointPool {
                idle: RefCell::default(),
                multiplexed: RefCell::default(),
                gate: Gate::default(),
                idle_max,
                idle_timeout,
            })
        });
        Rc::clone(pool)
    }

    /// Closes what has been idle too long or was closed by the upstream; the worker calls it about once a second.
    pub fn sweep(&self, now: Instant) {
        self.endpoints.borrow_mut().retain(|_, pool| {
            pool.sweep(now);
            // A pool in use is held by its exchanges.
            Rc::strong_count(pool) > 1 || !pool.is_empty()
        });
    }

    /// How many HTTP/1.1 connections are idle.
    pub fn idle(&self) -> usize {
        self.endpoints.borrow().values().map(|pool| pool.idle.borrow().len()).sum()
    }
}

impl EndpointPool {
    /// An idle HTTP/1.1 connection that is still usable.
    pub fn check_out(&self) -> Option<Connection> {
        loop {
            let mut idle = self.idle.borrow_mut().pop()?;
            if idle.connection.is_usable() {
                return Some(idle.connection);
            }
        }
    }

    /// An HTTP/2 connection with room for another stream.
    pub fn multiplexed(&self) -> Option<Rc<Multiplexed>> {
        // The first with room, not the emptiest: streams that share a connection share its reads and writes, and the
        // connections of a burst that has passed become idle and are closed.
        self.multiplexed.borrow().iter().find(|connection| connection.has_room()).cloned()
    }

    /// Keeps an HTTP/2 connection.
    pub fn keep(&self, connection: &Rc<Multiplexed>) {
        self.multiplexed.borrow_mut().push(Rc::clone(connection));
    }

    fn sweep(&self, now: Instant) {
        let timeout = self.idle_timeout;
        self.idle
            .borrow_mut()
            .retain_mut(|idle| now.duration_since(idle.since) < timeout && idle.connection.is_usable());
        self.multiplexed.borrow_mut().retain(|connection| !connection.is_over(now, timeout));
    }

    fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty() && self.multiplexed.borrow().is_empty()
    }
}

impl Home for EndpointPool {
    fn check_in(&self, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.idle_max {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }
}
