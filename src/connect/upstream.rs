//! The innermost service: takes a connection to the picked endpoint, or makes one, and exchanges on it.
//!
//! Position: below everything. One boxed future for each attempt; the states of connecting, TLS and two protocols
//! would otherwise make every connection's task as large as their sum.

use super::http1::{Connection, Home, Open};
use super::http2::Multiplexed;
use super::pool::{EndpointPool, Pools};
use super::{Dial, http1, http2};
use crate::cluster::{Cluster, Endpoint, Protocol};
use crate::error::{Error, Kind, Replay, Result};
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
    pub async fn open(&self, cluster: &Cluster, endpoint: &Arc<Endpoint>) -> Result<(Io, Open)> {
        self.0.connect(cluster, endpoint, Alpn::None).await.map(|(io, open, _)| (io, open))
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
    Http2(Rc<Multiplexed>),
}

impl Inner {
    async fn exchange(&self, exchange: Exchange) -> Answer {
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
        let pool = self.pools.of(endpoint.id, self.settings.idle_max, cluster.settings.idle_timeout);
        let wanted = Wanted::of(&exchange.head, &cluster);
        if let Some(carrier) = self.pooled(&pool, wanted) {
            let is_idempotent = exchange.head.method.is_idempotent();
            match self.send(carrier, exchange, &pool).await {
                Err(error) if may_repeat(&error, is_idempotent) => {
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
        let http2 = || pool.multiplexed().map(Carrier::Http2);
        let http1 = || pool.check_out().map(Carrier::Http1);
        match wanted {
            Wanted::Http1 => http1(),
            Wanted::Http2 => http2(),
            Wanted::Any => http2().or_else(http1),
        }
    }

    async fn fresh(
        &self,
        exchange: Exchange,
        cluster: &Cluster,
        endpoint: &Arc<Endpoint>,
        pool: &Rc<EndpointPool>,
        wanted: Wanted,
    ) -> Answer {
        let carrier = match self.carrier(&exchange.ctx, cluster, endpoint, pool, wanted).await {
            Ok(carrier) => carrier,
            Err(error) => {
                // Nothing was sent: whoever retries may have head and content back.
                let Exchange { head, body, ctx } = exchange;
                *ctx.unsent.borrow_mut() = Some((head, body));
                return Err(error.with_replay(Replay::Safe));
            }
        };
        self.send(carrier, exchange, pool).await
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
        cluster: &Cluster,
        endpoint: &Arc<Endpoint>,
        pool: &Rc<EndpointPool>,
        wanted: Wanted,
    ) -> Result<Carrier> {
        let started = Instant::now();
        let carrier = if wanted == Wanted::Http1 || (wanted == Wanted::Any && pool.gate.is_http1.get()) {
            self.establish_carrier(cluster, endpoint, pool, wanted).await?
        } else {
            let _turn = pool.gate.enter().await?;
            // Whoever had the turn before may have made a connection with room for this exchange too.
            if let Some(connection) = pool.multiplexed() {
                return Ok(Carrier::Http2(connection));
            }
            let made = self.establish_carrier(cluster, endpoint, pool, wanted).await;
            made.inspect_err(|error| pool.gate.fail(error))?
        };
        ctx.recorder.edit().connect = Some(started.elapsed());
        Ok(carrier)
    }

    async fn establish_carrier(
        &self,
        cluster: &Cluster,
        endpoint: &Arc<Endpoint>,
        pool: &Rc<EndpointPool>,
        wanted: Wanted,
    ) -> Result<Carrier> {
        let alpn = match wanted {
            Wanted::Http1 => Alpn::Http1,
            Wanted::Http2 => Alpn::Http2,
            Wanted::Any => Alpn::Auto,
        };
        let (io, open, is_http2) = self.connect(cluster, endpoint, alpn).await?;
        if wanted == Wanted::Http2 || (wanted == Wanted::Any && is_http2) {
            let connection = Rc::new(Multiplexed::handshake(io, self.settings.http2, open).await?);
            pool.keep(&connection);
            return Ok(Carrier::Http2(connection));
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
    ) -> Result<(Io, Open, bool)> {
        let stats = &endpoint.stats;
        if stats.connections.load(Ordering::Relaxed) >= self.settings.connections_max as u64 {
            let detail = format!("{} connections to {}", self.settings.connections_max, endpoint.address);
            return Err(Error::new(Kind::Overflow, detail));
        }
        let timeout = cluster.settings.connect_timeout;
        let connected = tokio::time::timeout(timeout, self.establish(cluster, endpoint, alpn)).await;
        let result = connected.unwrap_or_else(|_| {
            Err(Error::new(Kind::ConnectTimeout, format!("{} after {timeout:?}", endpoint.address)))
        });
        let counter = if result.is_ok() { &stats.connects } else { &stats.connect_failures };
        counter.fetch_add(1, Ordering::Relaxed);
        result.map(|(io, is_http2)| (io, Open::new(stats), is_http2))
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

fn may_repeat(error: &Error, is_idempotent: bool) -> bool {
    match error.replay() {
        Replay::Safe => error.kind() == Kind::UpstreamClosed,
        Replay::IfIdempotent => is_idempotent,
        Replay::Never => false,
    }
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
