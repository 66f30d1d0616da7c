//! The deadlines of the inbound exchanges under way: how a deadline gets through the app.
//!
//! An application that serves a request asks others on its way, and passes the trace or the request id on, but seldom the
//! deadline. Inbound, a deadline is put here under both ids; outbound, a request that brings none takes it from here.
//! Where several exchanges share an id, the one that has the most time counts: a request is never cut because of another
//! one of the same trace. What is known of an id is forgotten with its last exchange; until then it only grows.
//!
//! Shared by all workers, because the app's own requests come in on any of them. Nothing is written, and one relaxed load
//! read, while no caller sets a deadline. How it fails: a full table takes no new ids, and their exchanges are bounded as
//! if nobody had set a deadline.

use super::Deadline;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use foldhash::fast::RandomState;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};

/// How many traces, and how many request ids, are known at once.
const ENTRIES_MAX: usize = 65_536;

static SHARED: LazyLock<Arc<Table>> = LazyLock::new(Arc::default);

/// See the module.
#[derive(Debug, Default)]
pub struct Table {
    traces: DashMap<[u8; 16], Known, RandomState>,
    requests: DashMap<Box<[u8]>, Known, RandomState>,
    /// Ids in both maps.
    len: AtomicUsize,
}

/// What is known of an id.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// The latest of its deadlines; `None`: one of its exchanges has none.
    deadline: Option<Deadline>,
    /// How many exchanges have the id.
    count: u32,
}

/// An exchange's place in the table; given back when dropped.
#[derive(Debug)]
pub(super) struct Registered {
    table: Arc<Table>,
    trace_id: Option<[u8; 16]>,
    request_id: Option<Box<[u8]>>,
}

impl Table {
    /// The table of the process.
    pub fn shared() -> Arc<Table> {
        Arc::clone(&SHARED)
    }

    /// Whether no exchange has a deadline.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len.load(Relaxed) == 0
    }

    /// Makes `deadline` known until the result is dropped. Without one, only ids that are known already matter: what
    /// they bring must not bound those who have no deadline.
    pub(super) fn register(
        self: &Arc<Self>,
        trace_id: [u8; 16],
        request_id: &[u8],
        deadline: Option<Deadline>,
    ) -> Registered {
        let is_trace_in = trace_id != [0; 16] && self.enter(&self.traces, trace_id, deadline);
        let is_request_in = !request_id.is_empty() && self.enter(&self.requests, request_id.into(), deadline);
        Registered {
            table: Arc::clone(self),
            trace_id: is_trace_in.then_some(trace_id),
            request_id: is_request_in.then(|| request_id.into()),
        }
    }

    fn enter<K: Eq + Hash>(
        &self,
        map: &DashMap<K, Known, RandomState>,
        key: K,
        deadline: Option<Deadline>,
    ) -> bool {
        match map.entry(key) {
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                known.deadline = known.deadline.zip(deadline).map(|(old, new)| old.or_later(new));
                known.count += 1;
                true
            }
            Entry::Vacant(entry) => {
                if deadline.is_none() || self.len.load(Relaxed) >= 2 * ENTRIES_MAX {
                    return false;
                }
                entry.insert(Known { deadline, count: 1 });
                self.len.fetch_add(1, Relaxed);
                true
            }
        }
    }

    fn leave<K: Eq + Hash>(&self, map: &DashMap<K, Known, RandomState>, key: K) {
        if let Entry::Occupied(mut entry) = map.entry(key) {
            let known = entry.get_mut();
            known.count -= 1;
            if known.count == 0 {
                entry.remove();
                self.len.fetch_sub(1, Relaxed);
            }
        }
    }

    /// The deadline of the exchange that a request with these ids serves.
    pub(super) fn find(&self, trace_id: &[u8; 16], request_id: &[u8]) -> Option<Deadline> {
        if self.is_empty() {
            return None;
        }
        // A request id is the narrower of the two: one trace may have many.
        let found = match self.requests.get(request_id) {
            Some(known) => Some(known.deadline),
            None => self.traces.get(trace_id).map(|known| known.deadline),
        };
        found.flatten()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some(trace_id) = self.trace_id {
            self.table.leave(&self.table.traces, trace_id);
        }
        if let Some(request_id) = self.request_id.take() {
            self.table.leave(&self.table.requests, request_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::Instant;

    fn in_s(seconds: u64) -> Option<Deadline> {
        let at = *START + Duration::from_secs(seconds);
        Some(Deadline { head: at, whole: Some(at) })
    }

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    #[test]
    fn a_deadline_is_found_by_either_id_until_its_exchange_ends() {
        let table = Arc::new(Table::default());
        let registered = table.register([1; 16], b"r1", in_s(5));
        assert_eq!(table.find(&[1; 16], b"other"), in_s(5));
        assert_eq!(table.find(&[2; 16], b"r1"), in_s(5));
        assert_eq!(table.find(&[2; 16], b"other"), None);
        drop(registered);
        assert!(table.is_empty() && table.find(&[1; 16], b"r1").is_none());
    }

    #[test]
    fn the_most_generous_of_those_who_share_an_id_counts() {
        let table = Arc::new(Table::default());
        let short = table.register([1; 16], b"r1", in_s(5));
        let long = table.register([1; 16], b"r2", in_s(9));
        assert_eq!(table.find(&[1; 16], b""), in_s(9));
        assert_eq!(table.find(&[1; 16], b"r1"), in_s(5), "the request id is the narrower one");
        drop(long);
        assert_eq!(table.find(&[1; 16], b""), in_s(9), "it only grows while somebody is there");
        drop(short);
        assert!(table.is_empty());
    }

    #[test]
    fn who_has_all_the_time_is_not_bounded_by_others() {
        let table = Arc::new(Table::default());
        let unbounded = table.register([1; 16], b"r1", None);
        assert!(table.is_empty(), "nothing to say about an id that nobody set a deadline for");
        drop(unbounded);
        let bounded = table.register([1; 16], b"r1", in_s(5));
        let unbounded = table.register([1; 16], b"r2", None);
        assert_eq!(table.find(&[1; 16], b""), None);
        assert_eq!(table.find(&[1; 16], b"r1"), in_s(5));
        drop((bounded, unbounded));
        assert!(table.is_empty());
    }

    #[test]
    fn a_head_that_must_come_soon_does_not_bound_a_stream_that_shares_its_id() {
        let table = Arc::new(Table::default());
        let _call = table.register([1; 16], b"r1", in_s(5));
        let stream = Deadline { head: *START + Duration::from_secs(2), whole: None };
        let _stream = table.register([1; 16], b"r1", Some(stream));
        let expected = Deadline { head: *START + Duration::from_secs(5), whole: None };
        assert_eq!(table.find(&[1; 16], b"r1"), Some(expected));
    }

    #[test]
    fn a_full_table_takes_no_new_ids_and_forgets_all_of_them() {
        let table = Arc::new(Table::default());
        let all: Vec<_> = (0..ENTRIES_MAX as u128 + 10)
            .map(|id| table.register((id + 1).to_be_bytes(), &id.to_be_bytes(), in_s(1)))
            .collect();
        assert_eq!(table.len.load(Relaxed), 2 * ENTRIES_MAX);
        assert!(table.find(&1u128.to_be_bytes(), b"").is_some());
        drop(all);
        assert!(table.is_empty() && table.traces.is_empty() && table.requests.is_empty());
    }

    #[test]
    fn many_threads_leave_nothing_behind() {
        let table = Arc::new(Table::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for id in 0..2000u64 {
                        let id = (id % 7) as u8 + 1;
                        let _registered = table.register([id; 16], &[id], in_s(1));
                        assert_eq!(table.find(&[id; 16], &[id]), in_s(1));
                    }
                });
            }
        });
        assert!(table.is_empty() && table.traces.is_empty());
    }
}
