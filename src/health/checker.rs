//! The task that checks the endpoints of one cluster: it asks [`Roster`] who is due, runs the probes, and brings what
//! they say into the cluster.

use super::report::Last;
use super::roster::{Roster, Settled};
use super::state::{State, Turn};
use crate::cluster::{Change, Cluster, Endpoint, Members, Reason, What, clock_ns};
use crate::units::duration_text;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

/// How often the endpoints of the cluster are compared with those that are checked.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// How much longer than the timeout a probe may live: it cuts itself and knows at what, and then closes its connection
/// in good order.
pub(super) const CLOSE_TIME: Duration = Duration::from_millis(100);

/// What a probe says: nothing, or why the check failed.
pub(super) type Verdict = Result<(), String>;

/// What is shared with those who look on.
pub(super) struct Shared {
    roster: Mutex<Roster>,
}

impl Shared {
    pub(super) fn new(roster: Roster) -> Shared {
        Shared { roster: Mutex::new(roster) }
    }

    /// The roster; for a moment, never across an await.
    pub(super) fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A check that is under way gives its verdict and how long it took.
type Checks = JoinSet<(Verdict, Duration)>;

pub(super) struct Checker<P> {
    pub(super) cluster: Arc<Cluster>,
    pub(super) shared: Arc<Shared>,
    /// Gets a new number whenever no endpoint is without an answer.
    pub(super) rounds: watch::Sender<u64>,
    pub(super) timeout: Duration,
    pub(super) probe: P,
}

impl<P, F> Checker<P>
where
    P: Fn(Arc<Endpoint>) -> F + Send,
    F: Future<Output = Verdict> + Send + 'static,
{
    /// Checks until it is dropped; checks that are under way then end with it.
    pub(super) async fn run(self) {
        let mut checks = Checks::new();
        let mut ids: HashMap<Id, u64> = HashMap::new();
        let mut seen: Option<Members> = None;
        let mut look_at = Instant::now();
        loop {
            let now = Instant::now();
            if now >= look_at {
                self.look(&mut seen, now);
                look_at = now + LOOK_INTERVAL;
            }
            let wake_at = self.start_due(&mut checks, &mut ids, now).map_or(look_at, |due| due.min(look_at));
            tokio::select! {
                // In this order, so that a simulation is the same each time; what is due is started above in any case.
                biased;
                Some(done) = checks.join_next_with_id() => self.settle(done, &mut ids),
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
    }

    /// Takes over the cluster's endpoints if they changed.
    fn look(&self, seen: &mut Option<Members>, now: Instant) {
        let set = Arc::clone(&self.cluster.endpoints());
        // `seen` keeps its endpoints alive, so that others cannot have their place in memory.
        if seen.as_ref().is_some_and(|seen| std::ptr::eq::<[_]>(&**seen, &*set.endpoints)) {
            return;
        }
        let pending = {
            let mut roster = self.shared.roster();
            roster.follow(&set.endpoints, now, SystemTime::now());
            roster.pending()
        };
        *seen = Some(set.endpoints.clone());
        self.tell_round(pending);
    }

    /// Starts what is due; when to come again.
    fn start_due(&self, checks: &mut Checks, ids: &mut HashMap<Id, u64>, now: Instant) -> Option<Instant> {
        let mut roster = self.shared.roster();
        while let Some(endpoint) = roster.take_due(now) {
            let (id, limit) = (endpoint.id, self.timeout + CLOSE_TIME);
            let check = (self.probe)(endpoint);
            let timeout = self.timeout;
            let task = checks.spawn(async move {
                let started = Instant::now();
                let verdict = tokio::time::timeout(limit, check).await;
                let verdict =
                    verdict.unwrap_or_else(|_| Err(format!("no answer within {}", duration_text(timeout))));
                (verdict, started.elapsed())
            });
            ids.insert(task.id(), id);
        }
        roster.next_due()
    }

    fn settle(&self, done: Result<(Id, (Verdict, Duration)), JoinError>, ids: &mut HashMap<Id, u64>) {
        let (task, verdict, took) = match done {
            Ok((task, (verdict, took))) => (task, verdict, took),
            Err(error) => (error.id(), Err("the check itself failed".to_owned()), Duration::ZERO),
        };
        let Some(id) = ids.remove(&task) else { return };
        let failure: Option<Arc<str>> = verdict.err().map(Into::into);
        let last = Last { at: SystemTime::now(), took, failure: failure.clone() };
        let now = Instant::now();
        let (settled, pending) = {
            let mut roster = self.shared.roster();
            (roster.settle(id, last, now), roster.pending())
        };
        let Some(settled) = settled else { return };
        apply(&self.cluster, &settled, failure.as_deref(), now);
        if settled.turn.is_some_and(|turn| turn.is_first) {
            self.tell_round(pending);
        }
    }

    fn tell_round(&self, pending: usize) {
        if pending == 0 {
            self.rounds.send_modify(|round| *round = round.wrapping_add(1));
        }
    }
}

/// Brings what a check came to into the cluster.
fn apply(cluster: &Cluster, settled: &Settled, failure: Option<&str>, now: Instant) {
    let Settled { endpoint, state, turn } = settled;
    let now_ns = clock_ns(now);
    match failure {
        None => cluster.stats.checks_passed.add(),
        Some(why) => {
            cluster.stats.checks_failed.add();
            tracing::debug!(cluster = %cluster.name, endpoint = %endpoint.address, why, "a health check failed");
        }
    }
    let what = match turn {
        None => None,
        Some(Turn { to: State::Unhealthy, is_first }) => {
            // The new reason first: in between, the endpoint must not look usable.
            cluster.leave_out(endpoint, Reason::CheckFailed);
            cluster.restore(endpoint, Reason::CheckPending, now_ns);
            Some(What::Unhealthy { is_first: *is_first, why: failure.unwrap_or_default().to_owned() })
        }
        Some(Turn { is_first, .. }) => {
            cluster.restore(endpoint, Reason::CheckFailed, now_ns);
            cluster.restore(endpoint, Reason::CheckPending, now_ns);
            Some(What::Healthy { is_first: *is_first })
        }
    };
    if let Some(what) = what {
        let endpoint = Some((Arc::clone(&endpoint.name), endpoint.address));
        cluster.journal.note(Change { cluster: Arc::clone(&cluster.name), endpoint, what });
    }
    if failure.is_none() && *state == State::Healthy && endpoint.health.has(Reason::Ejected) {
        cluster.uneject_by_check(endpoint, turn.is_some(), now_ns);
    }
}
