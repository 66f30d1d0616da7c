//! One address of a cluster, its load and its counters.

use super::{Health, Load};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a source says of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// What the user wrote, or the name that resolved to the address.
    pub name: Arc<str>,
    /// Its share of the load, relative to the others.
    pub weight: u32,
    /// Its zone.
    pub zone: Option<Arc<str>>,
    /// Its priority: 0 is used first.
    pub priority: u32,
    /// Further labels.
    pub labels: BTreeMap<String, String>,
}

impl Target {
    /// An address with weight 1 and no labels.
    pub fn new(address: SocketAddr) -> Target {
        Target {
            address,
            name: address.to_string().into(),
            weight: 1,
            zone: None,
            priority: 0,
            labels: BTreeMap::new(),
        }
    }
}

/// One address of a cluster. It derefs to its [`Condition`].
///
/// What a pick reads comes first: among thousands of endpoints, a pick costs what it takes to fetch their memory.
#[derive(Debug)]
#[repr(C)]
pub struct Endpoint {
    /// Unique in this process; what workers key their connection pools by.
    pub id: u64,
    condition: Arc<Condition>,
    /// What the admin API shows.
    pub stats: Arc<EndpointStats>,
    /// Its share of the load, relative to the others; at least 1.
    pub weight: u32,
    /// Where it listens.
    pub address: SocketAddr,
    /// What the user wrote, or the name that resolved to the address.
    pub name: Arc<str>,
    /// Its zone.
    pub zone: Option<Arc<str>>,
    /// Its priority: 0 is used first.
    pub priority: u32,
    /// Further labels.
    pub labels: BTreeMap<String, String>,
}

/// How an endpoint is: all that a pick looks at, on one cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Condition {
    /// What balancing reads and writes.
    pub load: Load,
    /// Whether it may be used.
    pub health: Health,
}

const _: () = assert!(size_of::<Condition>() == 64);

impl Deref for Endpoint {
    type Target = Condition;

    #[inline]
    fn deref(&self) -> &Condition {
        &self.condition
    }
}

/// Counters of an endpoint.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct EndpointStats {
    /// Attempts.
    pub requests: AtomicU64,
    /// Attempts that failed without an answer, or with a 5xx.
    pub failures: AtomicU64,
    /// Attempts that say nothing of the endpoint: abandoned, or over at the caller's own deadline.
    pub undecided: AtomicU64,
    /// Connections that were made.
    pub connects: AtomicU64,
    /// Connections that could not be made.
    pub connect_failures: AtomicU64,
    /// Connections that are open.
    pub connections: AtomicU64,
    /// Unix seconds of the last success; 0 without one.
    pub last_success: AtomicU64,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Endpoint {
    /// A new endpoint.
    pub fn new(target: &Target) -> Endpoint {
        Endpoint {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            address: target.address,
            name: Arc::clone(&target.name),
            weight: target.weight.max(1),
            zone: target.zone.clone(),
            priority: target.priority,
            labels: target.labels.clone(),
            condition: Arc::default(),
            stats: Arc::default(),
        }
    }

    /// The endpoint that takes the place of `old`, at the same address: identity, load and counters stay.
    pub fn succeed(old: &Endpoint, target: &Target) -> Endpoint {
        Endpoint {
            id: old.id,
            condition: Arc::clone(&old.condition),
            stats: Arc::clone(&old.stats),
            ..Endpoint::new(target)
        }
    }

    /// Whether `target` says of the endpoint what it is already.
    pub fn is_same(&self, target: &Target) -> bool {
        self.address == target.address
            && self.weight == target.weight.max(1)
            && self.zone == target.zone
            && self.priority == target.priority
            && self.labels == target.labels
    }
}

/// An endpoint that an exchange uses. It counts as in flight until this is dropped.
#[derive(Debug)]
pub struct Picked {
    endpoint: Arc<Endpoint>,
}

impl Picked {
    /// Counts one exchange on `endpoint`.
    pub fn new(endpoint: Arc<Endpoint>) -> Picked {
        endpoint.load.in_flight.fetch_add(1, Ordering::Relaxed);
        endpoint.stats.requests.fetch_add(1, Ordering::Relaxed);
        Picked { endpoint }
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.endpoint.load.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
