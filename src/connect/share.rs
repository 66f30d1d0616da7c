//! What a worker has of one cluster: the pools of its endpoints, and the bell by which other workers ask for what of it
//! is not in use.

use super::pool::EndpointPool;
use crate::cluster::{Bell, Cluster, EndpointSet};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use tokio::sync::Notify;

/// How many pools are looked at for an idle connection at once; the next search goes on behind them.
const LOOKS_MAX: usize = 256;

/// See the module.
pub(super) struct Share {
    pub(super) cluster: Arc<Cluster>,
    pub(super) bell: Arc<Bell>,
    pools: RefCell<Vec<Weak<EndpointPool>>>,
    /// Where the next search begins.
    cursor: Cell<usize>,
    /// The endpoints at the last sweep; `None` when there are new pools since.
    seen: RefCell<Option<Arc<EndpointSet>>>,
}

impl Share {
    pub(super) fn new(cluster: &Arc<Cluster>, worker: &Arc<Notify>) -> Share {
        let bell = Bell::new(Arc::clone(worker));
        cluster.line.hang(&bell);
        Share {
            cluster: Arc::clone(cluster),
            bell,
            pools: RefCell::default(),
            cursor: Cell::new(0),
            seen: RefCell::new(None),
        }
    }

    pub(super) fn add(&self, pool: &Rc<EndpointPool>) {
        self.pools.borrow_mut().push(Rc::downgrade(pool));
        self.seen.replace(None);
    }

    /// Closes idle connections, as many as are waited for.
    pub(super) fn close_idle(&self) {
        let pools = self.pools.borrow();
        let mut left = self.cluster.line.waiting();
        for _ in 0..pools.len().min(LOOKS_MAX) {
            let at = self.cursor.get() % pools.len();
            let pool = pools.get(at).and_then(Weak::upgrade);
            while left > 0 && pool.as_ref().is_some_and(|pool| pool.close_one()) {
                left -= 1;
            }
            if left == 0 {
                return;
            }
            self.cursor.set(at + 1);
        }
    }

    /// Lets go of pools that are gone, and closes what is idle to endpoints that are; `false` when nothing is left.
    pub(super) fn sweep(&self) -> bool {
        let mut pools = self.pools.borrow_mut();
        pools.retain(|pool| pool.strong_count() > 0);
        let set = Arc::clone(&*self.cluster.endpoints());
        // The same members, whatever became of their health.
        let is_same = |seen: &Arc<EndpointSet>| std::ptr::eq(seen.endpoints.as_ptr(), set.endpoints.as_ptr());
        let is_seen = self.seen.borrow().as_ref().is_some_and(is_same);
        if !is_seen {
            let ids: HashSet<u64, foldhash::fast::RandomState> =
                set.endpoints.iter().map(|endpoint| endpoint.id).collect();
            for pool in pools.iter().filter_map(Weak::upgrade) {
                if !ids.contains(&pool.endpoint) {
                    pool.abandon();
                }
            }
        }
        // Held, so that the next comparison is not with other members at the same address.
        self.seen.replace(Some(set));
        !pools.is_empty()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.cluster.line.take_down(&self.bell);
    }
}
