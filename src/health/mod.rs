//! Active health checks: every endpoint of a cluster is asked again and again whether it can do its work.
//!
//! [`start`] runs the checks of one [`Cluster`] on the control runtime, on connections of their own. It follows the
//! endpoints as discovery changes them, and writes what it learns where the balancer reads it: [`Reason::CheckPending`]
//! goes with the first answer, [`Reason::CheckFailed`] comes and goes with the state. A check that succeeds may end an
//! ejection. Names and the state machine are Envoy's (`config.core.v3.HealthCheck`), the fast interval while something
//! changes is HAProxy's (`fastinter`).
//!
//! Parts: `state` decides what answers mean and `roster` when to ask, both pure; `checker` is the task; `probe` asks.
//! What it records: `checks_passed`, `checks_failed` and `unejections` of the cluster, a change in its journal
//! whenever a state changes, and [`Running::report`].
//!
//! How it fails: whatever goes wrong is a check that failed, with the reason; a probe that cannot be made of the
//! configuration fails every check. A check that hangs is cut at `timeout` and delays its own endpoint only, unless
//! `CHECKS_MAX` of them hang at once.
//!
//! [`Reason::CheckPending`]: crate::cluster::Reason::CheckPending
//! [`Reason::CheckFailed`]: crate::cluster::Reason::CheckFailed

mod checker;
mod probe;
mod report;
mod roster;
mod state;

pub use probe::USER_AGENT;
pub use report::{Last, Report};
pub use state::State;

use crate::cluster::config::HealthCheck;
use crate::cluster::{Cluster, Endpoint};
use checker::{Checker, Shared};
use probe::Probe;
use roster::{Roster, Terms};
use std::future::Future;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Checks that run; they stop when this is dropped. The endpoints keep the state that they have.
pub struct Running {
    cluster: Arc<Cluster>,
    shared: Arc<Shared>,
    rounds: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Running {
    /// Waits until every endpoint that the cluster has had its first answer, and tells whether one of them is healthy.
    /// A cluster without an endpoint does not wait: its discovery is to be waited for before.
    pub async fn first(&self) -> bool {
        let mut rounds = self.rounds.clone();
        loop {
            let verdict = self.shared.roster().verdict(&self.cluster.endpoints().endpoints);
            if let Some(is_any_healthy) = verdict {
                return is_any_healthy;
            }
            if rounds.changed().await.is_err() {
                return false; // the task is gone, with its runtime
            }
        }
    }

    /// What is known of every endpoint, in the order of their addresses.
    pub fn report(&self) -> Vec<Report> {
        self.shared.roster().report()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts to check the endpoints of `cluster` as `config` says, on `handle`. `seed` is where random waits start: it
/// must differ between processes, or a fleet that starts at once checks at once.
pub fn start(cluster: Arc<Cluster>, config: &HealthCheck, handle: &Handle, seed: u64) -> Running {
    let timeout = config.timeout;
    let probe = Arc::new(Probe::new(config));
    let asked = Arc::clone(&cluster);
    start_with(cluster, config, handle, seed, move |endpoint| {
        let (probe, cluster) = (Arc::clone(&probe), Arc::clone(&asked));
        async move {
            match &*probe {
                Ok(probe) => probe.check(&cluster, &endpoint, timeout).await,
                Err(why) => Err(why.clone()),
            }
        }
    })
}

/// The same with another way to ask: a seam, so that a simulation has endpoints that lie. `probe` gives why a check
/// failed; it is cut shortly after `config.timeout`.
pub fn start_with<P, F>(
    cluster: Arc<Cluster>,
    config: &HealthCheck,
    handle: &Handle,
    seed: u64,
    probe: P,
) -> Running
where
    P: Fn(Arc<Endpoint>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let shared = Arc::new(Shared::new(Roster::new(Terms::of(config), seed)));
    let (rounds, receiver) = watch::channel(0);
    let checker = Checker {
        cluster: Arc::clone(&cluster),
        shared: Arc::clone(&shared),
        rounds,
        timeout: config.timeout,
        probe,
    };
    Running { cluster, shared, rounds: receiver, task: handle.spawn(checker.run()) }
}

#[cfg(test)]
mod tests;
