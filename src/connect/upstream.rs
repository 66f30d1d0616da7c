//! The innermost service: takes a connection to the picked endpoint, or makes one, and exchanges on it.
//!
//! Position: below everything. One boxed future for each attempt; the states of connecting, TLS and two protocols
//! would otherwise make every connection's task as large as their sum.
//!
//! Where there is no pooled connection, the request counts as pending until it has one, and waits for it while the
//! cluster has as many connections as it may ([`super::wait`]). Records: `connect`, and `pool_wait` where it waited.
//! How it fails: every failure before the first byte may be repeated elsewhere, and gives head and content back.

use super::http1::{Connection, Home, Open};
use super::http2::{Multiplexed, Stream};
use super::pool::{EndpointPool, Pools};
use super::slot::{Pending, Slot};
use super::wait::{Given, Got, Takes, wait};
use super::{Dial, http1, http2};
use crate::cluster::{Cluster, Endpoint, Protocol};
use crate::context::RequestType;
use crate::error::{Error, Kind, Refusal, Replay, Result};
use crate::exchange::{Answer, Ctx, Exchange, Response};
use crate::identity::{ALPN_HTTP2, Alpn};
use crate::svc::{Io, RequestHead, Version};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use tokio::time::Instant;
use tower::Service;

/// Bounds of every connection to an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// HTTP/1.1.
    pub http1: http1::Settings,
    /// HTTP/2.
    pub http2: http2::Settings,
    /// How many idle HTTP/1.1 connections a worker keeps for an endpoint.
    pub idle_max: usize,
    /// How many connections all workers may have to an endpoint.
    pub connections_max: usize,
}

/// See the module.
#[derive(Clone)]
pub struct Upstream(Rc<Inner>);

struct Inner {
    pools: Rc<Pools>,
    dial: Rc<dyn Dial>,
    settings: Settings,
}

impl Upstream {
    /// The upstream side of a worker.
    pub fn new(pools: Rc<Pools>, dial: Rc<dyn Dial>, settings: Settings) -> Upstream {
        Upstream(Rc::new(Inner { pools, dial, settings }))
    }

    /// An opaque byte stream to `endpoint`, for listeners that do not speak HTTP.
    ///
    /// # Errors
    /// Why no connection could be made.
    pub async fn open(&self, cluster: &Arc<Cluster>, endpoint: &Arc<Endpoint>) -> Result<(Io, Open)> {
        let _pending = Pending::enter(cluster)?;
        let slot = match Slot::try_take(cluster) {
            Some(slot) => slot,
            None => {
                let deadline = Instant::now() + cluster.settings.connect_timeout;
                let takes = Takes { http1: false, http2: false };
                match wait(&self.0.pools, cluster, None, takes, deadline).await? {
                    Got::Slot(slot) => slot,
                    // What is never taken is never given.
                    Got::Given(_) => return Err(Kind::Internal.into()),
                }
            }
        };
        self.0.connect(cluster, endpoint, Alpn::None, slot).await.map(|(io, open, _)| (io, open))
    }
}

impl Service<Exchange> for Upstream {
    type Response = Response;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Answer>>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, exchange: Exchange) -> Self::Future {
        let inner = Rc::clone(&self.0);
        Box::pin(async move { inner.exchange(exchange).await })
    }
}

/// Which client carries the exchange.
#[expect(
    clippy::large_enum_variant,
    reason = "moved once from the pool to the exchange; a box would cost more"
)]
enum Carrier {
    Http1(Connection),
    Http2(Stream),
}

impl Carrier {
    fn given(given: Given) -> Carrier {
        match given {
            Given::Http1(connection) => Carrier::Http1(connection),
            Given::Http2(stream) => Carrier::Http2(stream),
        }
    }
}

/// How often a request takes another connection to the same endpoint, because the one that came back to it was closed.
const RETURNS_MAX: usize = 2;

impl Inner {
    async fn exchange(&self, mut exchange: Exchange) -> Answer {
        let ctx = exchange.ctx.clone();
        let (Some(cluster), Some(endpoint)) =
            (ctx.cluster(), ctx.picked.borrow().as_ref().map(|picked| Arc::clone(picked.endpoint())))
        else {
            return Err(Kind::NoEndpoint.into());
        };
        {
            let mut record = ctx.recorder.edit();
            record.attempts += 1;
            let started = ctx.attempt_started.get().unwrap_or(record.started);
            record.queue = record.queue.or(Some(started.saturating_duration_since(record.started)));
        }
        if endpoint.address == ctx.connection.local {
            let detail = format!("endpoint {} is the listener that the request came to", endpoint.address);
            return Err(Error::new(Kind::LoopDetected, detail));
        }
        if let Some(third_party) = &cluster.settings.third_party {
            third_party.apply(&mut exchange.head.fields);
            let cluster = Arc::clone(&cluster);
            let body = std::mem::take(&mut exchange.body);
            exchange.body = body.with_trailers(Rc::new(move |trailers| {
                if let Some(third_party) = &cluster.settings.third_party {
                    third_party.apply(trailers);
                }
            }));
        }
        let pool = self.pools.of(&cluster, &endpoint, self.settings.idle_max);
        let wanted = Wanted::of(&exchange.head, &cluster);
        if let Some(carrier) = self.pooled(&pool, wanted) {
            let is_idempotent = exchange.head.method.is_idempotent();
            match self.send(carrier, exchange, &pool).await {
                Err(error) if may_repeat(&error, is_idempotent, &ctx) => {
                    // The keep-alive race: the upstream closed an idle connection as we wrote. Once more, on a new
                    // connection to the same endpoint; what it had not seen cannot happen twice.
                    let Some((head, body)) = ctx.unsent.take() else { return Err(error) };
                    return self
                        .fresh(Exchange { head, body, ctx }, &cluster, &endpoint, &pool, wanted)
                        .await;
                }
                answer => return answer,
            }
        }
        // Boxed: connecting needs much more room than what most exchanges do, which is to take a pooled connection.
        Box::pin(self.fresh(exchange, &cluster, &endpoint, &pool, wanted)).await
    }

    fn pooled(&self, pool: &EndpointPool, wanted: Wanted) -> Option<Carrier> {
        // Whoever waits for a stream has the next one.
        let http2 = || if pool.waiters.is_empty() { pool.stream().map(Carrier::Http2) } else { None };
        let http1 = || pool.check_out().map(Carrier::Http1);
        match wanted {
            Wanted::Http1 => http1(),
            Wanted::Http2 => http2(),
            Wanted::Any => http2().or_else(http1),
        }
    }

    async fn fresh(
        &self,
        mut exchange: Exchange,
        cluster: &Arc<Cluster>,
        endpoint: &Arc<Endpoint>,
        pool: &Rc<EndpointPool>,
        wanted: Wanted,
    ) -> Answer {
        let is_idempotent = exchange.head.method.is_idempotent();
        let mut returns_left = RETURNS_MAX;
        loop {
            let made = self.carrier(&exchange.ctx, cluster, endpoint, pool, wanted).await;
            let (carrier, is_returned) = match made {
                Ok(Made::New(carrier)) => (carrier, false),
                Ok(Made::Returned(carrier)) => (carrier, true),
                Err(error) => {
                    // Nothing was sent: whoever retries may have head and content back.
                    let Exchange { head, body, ctx } = exchange;
                    *ctx.unsent.borrow_mut() = Some((head, body));
                    return Err(error.with_replay(Replay::Safe));
                }
            };
            let ctx = exchange.ctx.clone();
            match self.send(carrier, exchange, pool).await {
                Err(error) if is_returned && returns_left > 0 && may_repeat(&error, is_idempotent, &ctx) => {
                    // The keep-alive race, as above.
                    let Some((head, body)) = ctx.unsent.take() else { return Err(error) };
                    exchange = Exchange { head, body, ctx };
                    returns_left -= 1;
                }
                answer => return answer,
            }
        }
    }

    async fn send(&self, carrier: Carrier, exchange: Exchange, pool: &Rc<EndpointPool>) -> Answer {
        match carrier {
            Carrier::Http1(connection) => {
                let home: Rc<dyn Home> = pool.clone();
                http1::send(connection, exchange, self.settings.http1, home).await
            }
            // Boxed for the same reason.
            Carrier::Http2(connection) => Box::pin(http2::send(connection, exchange)).await,
        }
    }

    /// A connection that was not there yet.
    async fn carrier(
        &self,
        ctx: &Ctx,
        cluster: &Arc<Cluster>,
        endpoint: &Arc<Endpoint>,
        pool: &Rc<EndpointPool>,
        wanted: Wanted,
    ) -> Result<Made> {
        let _pending = Pending::enter(cluster)?;
        let deadline = Instant::now() + cluster.settings.connect_timeout;
        let is_alone = wanted == Wanted::Http1 || (wanted == Wanted::Any && pool.gate.is_http1.get());
        let _turn = if is_alone {
            None
        } else {
            let turn = pool.gate.enter().await?;
            // Whoever had the turn before may have made a connection with room for this exchange too.
            if let Some(stream) = pool.stream() {
                return Ok(Made::New(Carrier::Http2(stream)));
            }
            Some(turn)
        };
        let slot = match Slot::try_take(cluster) {
            Some(slot) => slot,
            None => match self.wait(ctx, cluster, pool, wanted, deadline).await? {
                Got::Slot(slot) => slot,
                Got::Given(given) => return Ok(Made::Returned(Carrier::given(given))),
            },
        };
        let started = Instant::now();
        let made = self.establish_carrier(cluster, endpoint, pool, wanted, slot).await;
        if let (Err(error), false) = (&made, is_alone) {
            pool.gate.fail(error);
        }
        let carrier = made?;
        ctx.recorder.edit().connect = Some(started.elapsed());
        Ok(Made::New(carrier))
    }

    /// The cluster has as many connections as it may.
    #[cold]
    async fn wait(
        &self,
        ctx: &Ctx,
        cluster: &Arc<Cluster>,
        pool: &Rc<EndpointPool>,
        wanted: Wanted,
        deadline: Instant,
    ) -> Result<Got> {
        let takes = Takes { http1: wanted != Wanted::Http2, http2: wanted != Wanted::Http1 };
        let since = Instant::now();
        let got = wait(&self.pools, cluster, Some(pool), takes, deadline).await;
        ctx.recorder.edit().note().pool_wait = Some(since.elapsed());
        got
    }

    async fn establish_carrier(
        &self,
        cluster: &Arc<Cluster>,
        endpoint: &Arc<Endpoint>,
        pool: &Rc<EndpointPool>,
        wanted: Wanted,
        slot: Slot,
    ) -> Result<Carrier> {
        let alpn = match wanted {
            Wanted::Http1 => Alpn::Http1,
            Wanted::Http2 => Alpn::Http2,
            Wanted::Any => Alpn::Auto,
        };
        let (io, open, is_http2) = self.connect(cluster, endpoint, alpn, slot).await?;
        if wanted == Wanted::Http2 || (wanted == Wanted::Any && is_http2) {
            let made = Multiplexed::handshake(io, self.settings.http2, open, cluster, pool).await?;
            let connection = Rc::new(made);
            pool.keep(&connection);
            return Ok(Carrier::Http2(Stream::new(&connection)));
        }
        if wanted == Wanted::Any {
            pool.gate.is_http1.set(true);
        }
        Ok(Carrier::Http1(Connection::new(io, open)))
    }

    /// TCP, then TLS where the cluster has it, within the connect timeout; whether ALPN chose HTTP/2.
    async fn connect(
        &self,
        cluster: &Cluster,
        endpoint: &Arc<Endpoint>,
        alpn: Alpn,
        slot: Slot,
    ) -> Result<(Io, Open, bool)> {
        let stats = &endpoint.stats;
        let (open, limit) = (stats.connections.load(Ordering::Relaxed), self.settings.connections_max as u64);
        if open >= limit {
            let refusal = Refusal::new("connections", "endpoint", &endpoint.name, limit, open + 1);
            let detail = format!("{limit} connections to {}", endpoint.address);
            return Err(Error::new(Kind::Overflow, detail).with_refusal(refusal));
        }
        let timeout = cluster.settings.connect_timeout;
        let connected = tokio::time::timeout(timeout, self.establish(cluster, endpoint, alpn)).await;
        let result = connected.unwrap_or_else(|_| {
            Err(Error::new(Kind::ConnectTimeout, format!("{} after {timeout:?}", endpoint.address)))
        });
        let counter = if result.is_ok() { &stats.connects } else { &stats.connect_failures };
        counter.fetch_add(1, Ordering::Relaxed);
        result.map(|(io, is_http2)| (io, Open::new(stats, slot), is_http2))
    }

    async fn establish(&self, cluster: &Cluster, endpoint: &Endpoint, alpn: Alpn) -> Result<(Io, bool)> {
        let address = endpoint.address;
        let io = self
            .dial
            .dial(address)
            .await
            .map_err(|error| Error::new(Kind::ConnectFailed, format!("{address}: {error}")))?;
        let Some(tls) = &cluster.tls else { return Ok((io, false)) };
        let Io::Plain(socket) = io else { return Ok((io, false)) };
        let connector = tokio_rustls::TlsConnector::from(tls.config(alpn));
        let stream = connector
            .connect(tls.server_name_of(&endpoint.name, &address), socket)
            .await
            .map_err(|error| tls_error(&error, address))?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2);
        Ok((Io::TlsClient(Box::new(stream)), is_http2))
    }
}

fn tls_error(error: &std::io::Error, address: std::net::SocketAddr) -> Error {
    let is_certificate = error
        .get_ref()
        .and_then(|source| source.downcast_ref::<rustls::Error>())
        .is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_)));
    let kind = if is_certificate { Kind::TlsCertificate } else { Kind::TlsFailed };
    Error::new(kind, format!("{address}: {error}"))
}

/// A tracer bullet is sent once, unless it certainly was not seen.
fn may_repeat(error: &Error, is_idempotent: bool, ctx: &Ctx) -> bool {
    match error.replay() {
        Replay::Safe => error.kind() == Kind::UpstreamClosed,
        Replay::IfIdempotent => is_idempotent && ctx.recorder.edit().request_type != RequestType::Trace,
        Replay::Never => false,
    }
}

/// Where a connection comes from that was not idle in the pool.
enum Made {
    /// It carried nothing before, or carries others at the moment.
    New(Carrier),
    /// Another exchange was done with it.
    Returned(Carrier),
}

/// Which protocol an exchange needs towards its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Http1,
    Http2,
    /// What ALPN chooses.
    Any,
}

impl Wanted {
    /// As configured; `auto` is ALPN's choice with TLS, and the client's own protocol in cleartext. An upgrade wants
    /// HTTP/1.1 unless the endpoint is declared to speak HTTP/2.
    fn of(head: &RequestHead, cluster: &Cluster) -> Wanted {
        match cluster.settings.protocol {
            Protocol::Http1 | Protocol::Tcp => Wanted::Http1,
            Protocol::Http2 => Wanted::Http2,
            Protocol::Auto if head.upgrade().is_some() => Wanted::Http1,
            Protocol::Auto if cluster.tls.is_some() => Wanted::Any,
            Protocol::Auto if head.version == Version::Http2 => Wanted::Http2,
            Protocol::Auto => Wanted::Http1,
        }
    }
}
