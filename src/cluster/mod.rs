//! Clusters: named sets of endpoints that can all answer the same requests.
//!
//! A [`Cluster`] is shared by all workers. Its endpoint set is replaced as a whole by discovery; an [`Endpoint`] that
//! stays in the set stays the same object, so load, health and pooled connections survive an update. What requests
//! write here are relaxed atomics on cache lines of their own.

pub mod config;
mod endpoint;

pub use config::{Config, Policy, Protocol};
pub use endpoint::{Endpoint, EndpointStats, Load, Picked, Target};

use crate::identity::ClientTls;
use arc_swap::ArcSwap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A named set of endpoints and how to reach them.
#[derive(Debug)]
pub struct Cluster {
    /// The name that routes use.
    pub name: Arc<str>,
    /// How to speak to its endpoints.
    pub settings: Settings,
    /// TLS towards the endpoints; `None` for cleartext.
    pub tls: Option<Arc<ClientTls>>,
    endpoints: ArcSwap<EndpointSet>,
    /// Where round robin is.
    pub cursor: AtomicUsize,
}

/// What code passes where a user writes [`Config`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which protocol the endpoints speak.
    pub protocol: Protocol,
    /// How an endpoint is picked.
    pub policy: Policy,
    /// How long a connection may take to be made, TLS included.
    pub connect_timeout: Duration,
    /// How long a pooled connection is kept.
    pub idle_timeout: Duration,
}

/// The endpoints of a cluster at one moment.
#[derive(Debug, Default)]
pub struct EndpointSet {
    /// In the order of the source.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Why the source of the set fails at the moment; the set is then the last good one.
    pub stale: Option<Arc<str>>,
}

impl Cluster {
    /// A cluster without an endpoint yet.
    pub fn new(name: &str, settings: Settings, tls: Option<Arc<ClientTls>>) -> Cluster {
        Cluster {
            name: name.into(),
            settings,
            tls,
            endpoints: ArcSwap::default(),
            cursor: AtomicUsize::new(0),
        }
    }

    /// The endpoints now.
    #[inline]
    pub fn endpoints(&self) -> arc_swap::Guard<Arc<EndpointSet>> {
        self.endpoints.load()
    }

    /// Replaces the endpoints by those of `targets`; an endpoint whose address stays keeps its state.
    pub fn update(&self, targets: &[Target]) {
        let old = self.endpoints.load();
        let known: std::collections::HashMap<SocketAddr, &Arc<Endpoint>> =
            old.endpoints.iter().map(|endpoint| (endpoint.address, endpoint)).collect();
        let endpoints = targets
            .iter()
            .map(|target| match known.get(&target.address) {
                Some(endpoint) if endpoint.is_same(target) => Arc::clone(endpoint),
                Some(endpoint) => Arc::new(Endpoint::succeed(endpoint, target)),
                None => Arc::new(Endpoint::new(target)),
            })
            .collect();
        self.endpoints.store(Arc::new(EndpointSet { endpoints, stale: None }));
    }

    /// Marks the set as stale: its source fails, the last good endpoints stay.
    pub fn mark_stale(&self, why: &str) {
        let old = self.endpoints.load_full();
        if old.stale.as_deref() != Some(why) {
            self.endpoints
                .store(Arc::new(EndpointSet { endpoints: old.endpoints.clone(), stale: Some(why.into()) }));
        }
    }

    /// The next turn of a round robin over `len` endpoints.
    pub fn next_turn(&self, len: usize) -> usize {
        self.cursor.fetch_add(1, Ordering::Relaxed) % len.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Cluster {
        let config = Config::default();
        Cluster::new(
            "c",
            Settings {
                protocol: config.protocol,
                policy: config.balance.policy,
                connect_timeout: config.connect_timeout,
                idle_timeout: config.idle_timeout,
            },
            None,
        )
    }

    fn target(port: u16, weight: u32) -> Target {
        Target { weight, ..Target::new(format!("127.0.0.1:{port}").parse().unwrap()) }
    }

    #[test]
    fn an_endpoint_that_stays_keeps_its_state() {
        let cluster = cluster();
        cluster.update(&[target(1, 1), target(2, 1)]);
        let before = cluster.endpoints().endpoints.clone();
        before[0].stats.requests.fetch_add(7, Ordering::Relaxed);
        cluster.update(&[target(3, 1), target(1, 1), target(2, 5)]);
        let after = cluster.endpoints().endpoints.clone();
        assert!(Arc::ptr_eq(&before[0], &after[1]));
        assert_eq!(after[2].weight, 5);
        assert_eq!(after[2].id, before[1].id, "a new weight keeps the pooled connections");
    }

    #[test]
    fn a_failing_source_keeps_the_last_good_set() {
        let cluster = cluster();
        cluster.update(&[target(1, 1)]);
        cluster.mark_stale("SERVFAIL");
        assert_eq!(cluster.endpoints().endpoints.len(), 1);
        assert_eq!(cluster.endpoints().stale.as_deref(), Some("SERVFAIL"));
        cluster.update(&[target(1, 1)]);
        assert_eq!(cluster.endpoints().stale, None);
    }
}
