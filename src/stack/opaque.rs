//! Connections that are carried as bytes: declared so, found so, or TLS that is not ours to end.

use crate::balance;
use crate::balance::layer::clock_ns;
use crate::cluster::{Cluster, Picked};
use crate::connect::Upstream;
use crate::context::{Rng, TraceParent, ids};
use crate::error::{Error, Kind, Result};
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

impl Carriage {
    /// Carries a connection to `cluster`; one event says how many bytes went each way and how it ended.
    pub async fn run(&self, mut io: Io, ahead: Bytes, connection: &Connection, cluster: &Arc<Cluster>) {
        let (recorder, guard) = self.begin(connection);
        recorder.edit().cluster = Some(cluster.name.clone());
        let opened = self.open(cluster, &recorder).await;
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
        let moved = splice::run(&mut io, ahead, &mut upstream, Bytes::new(), silence).await;
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
        recorder: &Recorder,
    ) -> Result<(Io, crate::connect::http1::Open, Picked)> {
        let mut tried = Vec::new();
        loop {
            let started = Instant::now();
            let picked = {
                let mut rng = self.rng.borrow_mut();
                balance::pick(cluster, &tried, &mut || rng.next_u64(), clock_ns(started))
            };
            let Some(picked) = picked else {
                return Err(Error::new(Kind::NoEndpoint, format!("cluster {}", cluster.name)));
            };
            let endpoint = Arc::clone(picked.endpoint());
            {
                let mut record = recorder.edit();
                record.attempts += 1;
                record.endpoint = Some(endpoint.name.clone());
                record.endpoint_zone.clone_from(&endpoint.zone);
            }
            match self.upstream.open(cluster, &endpoint).await {
                Ok((io, open)) => {
                    recorder.edit().connect = Some(started.elapsed());
                    return Ok((io, open, picked));
                }
                Err(error) => {
                    balance::observe_failure(&endpoint, started.elapsed(), clock_ns(Instant::now()));
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
