//! Clusters: named sets of endpoints that can all answer the same requests.
//!
//! A [`Cluster`] is shared by all workers. Its endpoint set is replaced as a whole by discovery; an [`Endpoint`] that
//! stays in the set stays the same object, so load, health and pooled connections survive an update. What requests
//! write here are relaxed atomics on cache lines of their own.

mod breaker;
mod budget;
pub mod config;
mod endpoint;
mod health;
pub mod journal;
mod latency;
mod line;
mod load;
mod outcome;
mod outlier;
pub mod plan;
mod set;
mod stable_hash;
mod stats;
mod window;

pub use breaker::{AccountPlace, BreakerReport, Breakers, Cap, Probe};
pub use budget::Budget;
pub use config::{Config, Policy, Protocol};
pub use endpoint::{Condition, Endpoint, EndpointStats, Picked, Target};
pub use health::{Health, Ignored, Reason};
pub use journal::{Change, Journal, What};
pub use latency::Latency;
pub use line::{Bell, Line};
pub use load::{Load, clock_ns, fading};
pub use outcome::{Outcome, PENALTY, PENALTY_MAX, Verdict};
pub use set::{EndpointSet, Members};
pub use stable_hash::{mix, stable_hash};
pub use stats::{ClusterStats, Counter};

use crate::context::extra::Extra;
use crate::context::third_party::ThirdParty;
use crate::identity::ClientTls;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    turns: set::Turns,
    /// Where round robin is.
    cursor: Cursor,
    /// The caps and the breaker.
    pub breakers: Breakers,
    /// How many retries there may be.
    pub budget: Budget,
    /// What is counted.
    pub stats: ClusterStats,
    /// Where changes are put on record.
    pub journal: Journal,
    /// Who waits for a connection, because as many as there may be are there.
    pub line: Line,
    /// How long answers take; known once a route hedges to it.
    pub latency: Latency,
    random: AtomicU64,
}

/// On a cache line of its own, because with round robin every pick writes it.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Cursor(AtomicU64);

/// What code passes where a user writes [`Config`].
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Which protocol the endpoints speak.
    pub protocol: Protocol,
    /// How long a connection may take to be made, TLS included.
    pub connect_timeout: Duration,
    /// How long a pooled connection is kept.
    pub idle_timeout: Duration,
    /// How an endpoint is picked.
    pub balance: config::Balance,
    /// When an endpoint is ejected.
    pub outlier_detection: config::OutlierDetection,
    /// Caps and breaker.
    pub circuit_breaker: config::CircuitBreaker,
    /// Terms of the retry budget.
    pub retry_budget: config::RetryBudget,
    /// Whether there are active checks: then a new endpoint is not used before its first, if there are others.
    pub has_checks: bool,
    /// The zone of this service.
    pub zone: Option<Arc<str>>,
    /// Where the cluster's own random numbers start.
    pub seed: u64,
    /// What is kept from it, where its services are somebody else's.
    pub third_party: Option<ThirdParty>,
}

impl Settings {
    /// What `config` says, for a service in `zone`.
    pub fn of(config: &Config, zone: &str) -> Settings {
        Settings {
            protocol: config.protocol,
            connect_timeout: config.connect_timeout,
            idle_timeout: config.idle_timeout,
            balance: config.balance.clone(),
            outlier_detection: config.outlier_detection.clone(),
            circuit_breaker: config.circuit_breaker.clone(),
            retry_budget: config.retry_budget.clone(),
            has_checks: config.health.is_some(),
            zone: (!zone.is_empty()).then(|| zone.into()),
            seed: 0,
            third_party: ThirdParty::compile(&config.context, &Extra::default()),
        }
    }
}

impl Cluster {
    /// A cluster without an endpoint yet.
    pub fn new(name: &str, settings: Settings, tls: Option<Arc<ClientTls>>, journal: Journal) -> Cluster {
        let name = name.into();
        Cluster {
            breakers: Breakers::new("cluster", &name, &settings.circuit_breaker, &journal),
            budget: Budget::new(settings.retry_budget.clone()),
            stats: ClusterStats::default(),
            journal,
            latency: Latency::default(),
            line: Line::default(),
            random: AtomicU64::new(settings.seed),
            name,
            settings,
            tls,
            endpoints: ArcSwap::default(),
            turns: set::Turns::default(),
            cursor: Cursor::default(),
        }
    }

    /// A cluster in cleartext that nobody watches: for tests, benchmarks and simulations.
    pub fn plain(name: &str, config: &Config) -> Cluster {
        Cluster::new(name, Settings::of(config, ""), None, Journal::none())
    }

    /// A random number for decisions that are not about one request: jitter, enforcement. SplitMix64, so that a
    /// simulation with the same seed decides the same.
    pub fn random(&self) -> u64 {
        let mut z = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next turn of a round robin.
    #[inline]
    pub fn next_turn(&self) -> u64 {
        self.cursor.0.fetch_add(1, Ordering::Relaxed)
    }
}
