//! Connections that are carried as bytes: declared so, found so, or TLS that is not ours to end.
//!
//! All that is known of one is who connects: a policy that hashes hashes the client's address, and a subset can be chosen
//! by fixed labels only. What is learned of an endpoint is whether, and how fast, it accepts.

use crate::balance::{self, Wish, hash_of_address};
use crate::cluster::{Cluster, Outcome, Picked, clock_ns};
use crate::connect::Upstream;
use crate::context::{Rng, TraceParent, ids};
use crate::error::{Error, Result};
use crate::exchange::{Connection, Guard, Phase, Recorder, Sink};
use crate::protocol::splice::{self, Silence};
use crate::svc::Io;
use bytes::Bytes;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What a worker needs to carry bytes.
#[derive(Clone)]
pub struct Carriage {
    pub(super) upstream: Upstream,
    pub(super) sink: Rc<dyn Sink>,
    pub(super) rng: Rc<RefCell<Rng>>,
    pub(super) idle_timeout: Option<Duration>,
}

/// How many endpoints are tried before a connection is given up.
const TRIES_MAX: usize = 3;

/// What is learned from a connection that was accepted.
const CONNECTED: Outcome = Outcome::Answered { status: 200, grpc: None, retry_after: None };

impl Carriage {
    /// Carries a connection to `cluster`; one event says how many bytes went each way and how it ended.
    pub async fn run(&self, mut io: Io, ahead: Bytes, connection: &Connection, cluster: &Arc<Cluster>) {
        let (recorder, guard) = self.begin(connection);
        recorder.edit().cluster = Some(cluster.name.clone());
        let opened = self.open(cluster, connection, &recorder).await;
        let (mut upstream, _open, _picked) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                recorder.fail(&error);
                return;
            }
        };
        recorder.edit().phase = Phase::Response;
        // Plain TCP may be half-closed for as long as it likes.
        let silence = Silence { both: self.idle_timeout, half_closed: None };
        let moved = splice::run(&mut io, &mut upstream, (ahead, Bytes::new()), silence, None).await;
        moved.record(&recorder);
        if moved.error.is_none() {
            guard.complete();
        }
    }

    /// Tells of a connection that goes nowhere, and why.
    pub fn refuse(&self, connection: &Connection, error: &Error) {
        let (recorder, guard) = self.begin(connection);
        recorder.fail(error);
        drop(guard);
    }

    fn begin(&self, connection: &Connection) -> (Recorder, Guard) {
        let (recorder, guard) = Recorder::start(&self.sink, connection, Instant::now());
        {
            let mut rng = self.rng.borrow_mut();
            let mut record = recorder.edit();
            let span_id = ids::span_id(&mut rng);
            record.trace = TraceParent::root(&mut rng, span_id, true);
            record.is_opaque = true;
            record.phase = Phase::Request;
        }
        (recorder, guard)
    }

    async fn open(
        &self,
        cluster: &Arc<Cluster>,
        connection: &Connection,
        recorder: &Recorder,
    ) -> Result<(Io, crate::connect::http1::Open, Picked)> {
        let mut tried = Vec::new();
        loop {
            let started = Instant::now();
            let hash =
                cluster.settings.balance.policy.is_hash().then(|| hash_of_address(connection.peer.ip()));
            let wish = Wish { tried: &tried, hash, values: &[] };
            let choice = {
                let mut rng = self.rng.borrow_mut();
                balance::pick(cluster, &wish, &mut || rng.next_u64(), clock_ns(started))
            };
            let choice = choice.map_err(|why| why.error(cluster, &wish))?;
            choice.note(recorder, cluster);
            recorder.edit().attempts += 1;
            let picked = choice.picked;
            let endpoint = Arc::clone(picked.endpoint());
            match self.upstream.open(cluster, &endpoint).await {
                Ok((io, open)) => {
                    let now = Instant::now();
                    let time = now.saturating_duration_since(started);
                    recorder.edit().connect = Some(time);
                    cluster.learn(&endpoint, CONNECTED, time, clock_ns(now));
                    return Ok((io, open, picked));
                }
                Err(error) => {
                    let now_ns = clock_ns(Instant::now());
                    cluster.learn(&endpoint, Outcome::Failed(error.kind()), started.elapsed(), now_ns);
                    let is_last = tried.contains(&endpoint.id) || tried.len() + 1 >= TRIES_MAX;
                    if is_last {
                        return Err(error);
                    }
                    tried.push(endpoint.id);
                }
            }
        }
    }
}
