//! Connections to the targets: one for each that was recorded, opened when its first exchange comes, closed behind its
//! last. Where no connection is known (some formats have none), exchanges take turns on those that are free.

use super::{Job, Map, http1, http2};
use crate::svc::Version;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// How long a connection that more is recorded for stays open without use: longer than servers let them.
const IDLE: Duration = Duration::from_secs(600);

/// How long a free connection of a pool stays open.
const FREE: Duration = Duration::from_secs(60);

/// Free connections of one pool that are kept.
const FREE_MAX: usize = 1024;

/// Which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LineKey {
    target: u32,
    clone: u32,
    pass: u32,
    /// The recorded connection; of a pool, what it is shared by.
    number: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Recorded,
    /// Of a pool; each exchange has its own turn.
    Pool {
        is_http2: bool,
        turn: u64,
    },
}

impl LineKey {
    pub(super) fn of(job: &Job, target: u32, is_closed_loop: bool) -> LineKey {
        let is_http2 = job.entry.version == Version::Http2;
        if is_closed_loop {
            return LineKey {
                target,
                clone: 0,
                pass: 0,
                number: 0,
                kind: Kind::Pool { is_http2, turn: job.id },
            };
        }
        if job.connection == 0 {
            let kind = Kind::Pool { is_http2, turn: job.id };
            return LineKey { target, clone: job.clone, pass: 0, number: job.actor, kind };
        }
        LineKey { target, clone: job.clone, pass: job.pass, number: job.connection, kind: Kind::Recorded }
    }

    /// Whether it is one that was recorded.
    pub(super) fn is_recorded(self) -> bool {
        self.kind == Kind::Recorded
    }

    /// Of a pool: what its exchanges share.
    fn pool(self) -> Option<LineKey> {
        match self.kind {
            Kind::Pool { is_http2, .. } => Some(LineKey { kind: Kind::Pool { is_http2, turn: 0 }, ..self }),
            Kind::Recorded => None,
        }
    }
}

/// The state of an HTTP/2 connection.
pub(super) enum Mux {
    None,
    Connecting,
    Ready(http2::Sender),
}

struct Line {
    queue: VecDeque<u64>,
    idle: Option<http1::Connection>,
    is_busy: bool,
    mux: Mux,
    streams: u32,
    is_last: bool,
    used: Instant,
}

enum Free {
    Http1(http1::Connection),
    Http2(http2::Sender),
}

/// All connections of a driver.
#[derive(Default)]
pub(super) struct Lines {
    lines: Map<LineKey, Line>,
    pools: Map<LineKey, Vec<(Free, Instant)>>,
}

impl Lines {
    /// Puts an exchange behind the others of its line.
    pub(super) fn queue(&mut self, key: LineKey, id: u64) {
        let line = self.lines.entry(key).or_insert_with(|| Line {
            queue: VecDeque::with_capacity(1),
            idle: None,
            is_busy: false,
            mux: Mux::None,
            streams: 0,
            is_last: false,
            used: Instant::now(),
        });
        line.queue.push_back(id);
    }

    /// What is next on a line.
    pub(super) fn head(&self, key: LineKey) -> Option<u64> {
        self.lines.get(&key)?.queue.front().copied()
    }

    /// Takes it from the queue.
    pub(super) fn pop(&mut self, key: LineKey) {
        if let Some(line) = self.lines.get_mut(&key) {
            line.queue.pop_front();
        }
    }

    /// Takes the head of the queue and the line's idle connection, if nothing else is on it.
    pub(super) fn take_http1(&mut self, key: LineKey) -> Option<Option<http1::Connection>> {
        let free = self.free(key, false);
        let line = self.lines.get_mut(&key)?;
        if line.is_busy {
            return None;
        }
        line.is_busy = true;
        line.queue.pop_front();
        Some(match free {
            Some(Free::Http1(connection)) => Some(connection),
            _ => line.idle.take(),
        })
    }

    fn free(&mut self, key: LineKey, is_http2: bool) -> Option<Free> {
        let pool = self.pools.get_mut(&key.pool()?)?;
        while let Some((free, _)) = pool.pop() {
            match &free {
                Free::Http1(connection) if !is_http2 && connection.is_usable() => return Some(free),
                Free::Http2(send) if is_http2 && !send.is_closed() => return Some(free),
                _ => {}
            }
        }
        None
    }

    /// The state of the line's HTTP/2 connection.
    pub(super) fn mux(&mut self, key: LineKey) -> Mux {
        let needs = self.lines.get(&key).is_some_and(|line| matches!(line.mux, Mux::None));
        if needs && let Some(Free::Http2(send)) = self.free(key, true) {
            self.set_ready(key, send);
        }
        let Some(line) = self.lines.get_mut(&key) else { return Mux::Connecting };
        match &line.mux {
            Mux::Ready(send) if send.is_closed() => {
                line.mux = Mux::None;
                Mux::None
            }
            Mux::Ready(send) => Mux::Ready(send.clone()),
            Mux::Connecting => Mux::Connecting,
            Mux::None => Mux::None,
        }
    }

    pub(super) fn begin_stream(&mut self, key: LineKey) {
        if let Some(line) = self.lines.get_mut(&key) {
            line.streams += 1;
        }
    }

    pub(super) fn set_connecting(&mut self, key: LineKey) {
        self.set(key, Mux::Connecting);
    }

    pub(super) fn set_ready(&mut self, key: LineKey, send: http2::Sender) {
        self.set(key, Mux::Ready(send));
    }

    pub(super) fn set_unconnected(&mut self, key: LineKey) {
        self.set(key, Mux::None);
    }

    fn set(&mut self, key: LineKey, mux: Mux) {
        if let Some(line) = self.lines.get_mut(&key) {
            line.mux = mux;
        }
    }

    /// An exchange on this line is over.
    pub(super) fn give_back(
        &mut self,
        key: LineKey,
        connection: Option<http1::Connection>,
        is_http2: bool,
        is_last: bool,
    ) {
        let now = Instant::now();
        let Some(line) = self.lines.get_mut(&key) else { return };
        line.used = now;
        line.is_last |= is_last;
        if is_http2 {
            line.streams = line.streams.saturating_sub(1);
        } else {
            line.is_busy = false;
            line.idle = connection;
        }
        let Some(pool) = key.pool() else { return };
        let free = if is_http2 {
            match std::mem::replace(&mut line.mux, Mux::None) {
                Mux::Ready(send) => Some(Free::Http2(send)),
                _ => None,
            }
        } else {
            line.idle.take().map(Free::Http1)
        };
        self.lines.remove(&key);
        if let Some(free) = free {
            let pool = self.pools.entry(pool).or_default();
            if pool.len() < FREE_MAX {
                pool.push((free, now));
            }
        }
    }

    /// Closes a connection behind its last exchange.
    pub(super) fn close(&mut self, key: LineKey) {
        let is_over = self
            .lines
            .get(&key)
            .is_some_and(|line| line.is_last && line.queue.is_empty() && !line.is_busy && line.streams == 0);
        if is_over {
            self.lines.remove(&key);
        }
    }

    /// Closes what was not used for long, though more may come on it: it would be opened again.
    pub(super) fn close_idle(&mut self) {
        let now = Instant::now();
        self.lines.retain(|_, line| {
            !line.queue.is_empty()
                || line.is_busy
                || line.streams > 0
                || matches!(line.mux, Mux::Connecting)
                || (!line.is_last && now.duration_since(line.used) < IDLE)
        });
        self.pools.retain(|_, pool| {
            pool.retain(|(_, used)| now.duration_since(*used) < FREE);
            !pool.is_empty()
        });
    }
}
