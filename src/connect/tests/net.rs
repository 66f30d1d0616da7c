//! A network in memory with servers that do what the path says: `/after/200` answers after 200 ms, `/close/5` closes
//! the connection behind its answer, `/upgrade/0` switches protocols, `/leave/5` answers, and closes a moment later.

use crate::cluster::{Cluster, Config, Picked, Target, config};
use crate::connect::dial::Dialing;
use crate::connect::{Dial, Pools, Settings, Upstream, http1, http2};
use crate::error::Error;
use crate::exchange::{
    Answer, Connection, Ctx, Direction, Exchange, Guard, NoSink, Recorder, Response, Sink,
};
use crate::http1::{HeadLimits, chunked};
use crate::svc::{Body, Frame, Io, Known, RequestHead, Socket};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;
use tower::Service;

/// Ports from here on speak HTTP/2.
pub(super) const HTTP2: u16 = 2000;
/// Nobody answers at this port.
pub(super) const HANGS: u16 = 999;

/// What all workers' networks count together.
#[derive(Default)]
pub(super) struct Census {
    open: AtomicUsize,
    peak: AtomicUsize,
}

impl Census {
    /// The most connections that were open at once.
    pub(super) fn peak(&self) -> usize {
        self.peak.load(SeqCst)
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(SeqCst)
    }
}

/// A connection that the servers see as open.
struct Seen(Arc<Census>);

impl Seen {
    fn new(census: &Arc<Census>) -> Seen {
        let open = census.open.fetch_add(1, SeqCst) + 1;
        census.peak.fetch_max(open, SeqCst);
        Seen(Arc::clone(census))
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}

/// The near end of a connection: gone as soon as we close it, whenever the server notices.
struct Near(DuplexStream, #[allow(dead_code)] Seen);

macro_rules! forward {
    ($trait:ident { $($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)* }) => {
        impl tokio::io::$trait for Near {
            $(fn $name(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                $($arg: $ty),*
            ) -> std::task::Poll<$out> {
                std::pin::Pin::new(&mut self.0).$name(cx, $($arg),*)
            })*
        }
    };
}

forward!(AsyncRead { poll_read(buf: &mut tokio::io::ReadBuf<'_>) -> io::Result<()>; });
forward!(AsyncWrite {
    poll_write(buf: &[u8]) -> io::Result<usize>;
    poll_flush() -> io::Result<()>;
    poll_shutdown() -> io::Result<()>;
});

#[derive(Default)]
pub(super) struct Net {
    pub(super) census: Arc<Census>,
    /// The ports that were dialled.
    pub(super) dialled: RefCell<Vec<u16>>,
    /// How long it takes to connect.
    pub(super) latency: Cell<Duration>,
}

impl Dial for Net {
    fn dial(&self, address: SocketAddr) -> Dialing {
        let port = address.port();
        self.dialled.borrow_mut().push(port);
        let (census, latency) = (Arc::clone(&self.census), self.latency.get());
        Box::pin(async move {
            if port == HANGS {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(latency).await;
            let (near, far) = tokio::io::duplex(64 * 1024);
            if port >= HTTP2 {
                tokio::task::spawn_local(serve_http2(far));
            } else {
                tokio::task::spawn_local(serve_http1(far));
            }
            Ok(Io::Plain(Socket::other(Box::new(Near(near, Seen::new(&census))))))
        })
    }
}

async fn serve_http1(mut stream: DuplexStream) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let mut parts = head.split(' ').nth(1).unwrap().split('/').skip(1);
        let (act, millis) = (parts.next().unwrap(), parts.next().unwrap().parse().unwrap());
        tokio::time::sleep(Duration::from_millis(millis)).await;
        let answer: &[u8] = match act {
            "close" => b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
            "upgrade" => b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
            _ => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        };
        if stream.write_all(answer).await.is_err() || matches!(act, "close" | "leave") {
            return;
        }
    }
}

#[derive(Clone, Copy)]
struct Here;

impl<F: Future + 'static> hyper::rt::Executor<F> for Here {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

async fn serve_http2(stream: DuplexStream) {
    let service = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async move {
        let millis: u64 = request.uri().path().rsplit('/').next().unwrap().parse().unwrap();
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok::<_, Error>(http::Response::new(Body::from("ok")))
    });
    let _ = hyper::server::conn::http2::Builder::new(Here)
        .serve_connection(hyper_util::rt::TokioIo::new(stream), service)
        .await;
}

/// A cluster with these ports and caps.
pub(super) fn cluster(ports: &[u16], connections: usize, pending: usize) -> Arc<Cluster> {
    cluster_within(Duration::from_secs(1), ports, connections, pending)
}

/// The same with another connect timeout.
pub(super) fn cluster_within(
    connect_timeout: Duration,
    ports: &[u16],
    connections: usize,
    pending: usize,
) -> Arc<Cluster> {
    let config = Config {
        circuit_breaker: config::CircuitBreaker {
            connections: Some(connections),
            pending: Some(pending),
            ..config::CircuitBreaker::NONE
        },
        connect_timeout,
        idle_timeout: Duration::from_secs(4),
        ..Config::default()
    };
    let cluster = Arc::new(Cluster::plain("c", &config));
    cluster.update(&ports.iter().map(|port| target(*port)).collect::<Vec<_>>());
    cluster
}

pub(super) fn target(port: u16) -> Target {
    Target::new(SocketAddr::from(([127, 0, 0, 1], port)))
}

fn settings(streams_max: usize) -> Settings {
    Settings {
        http1: http1::Settings {
            head: HeadLimits { head_bytes_max: 8192, fields_max: 100, target_bytes_max: 8192 },
            chunked: chunked::Limits { extension_bytes_max: 64, trailer_bytes_max: 8192, trailers_max: 10 },
            buffer_bytes_max: 65_536,
        },
        http2: http2::Settings {
            streams_max,
            header_list_bytes_max: 65_536,
            stream_window_bytes: 65_535,
            connection_window_bytes: 1 << 20,
            frame_bytes_max: 16_384,
            send_buffer_bytes_max: 65_536,
            keepalive_interval: None,
            keepalive_timeout: Duration::from_secs(3),
            local_resets_max: 100,
        },
        idle_max: 16,
        connections_max: 64,
    }
}

/// The upstream side of a worker.
pub(super) struct Worker {
    pub(super) pools: Rc<Pools>,
    pub(super) net: Rc<Net>,
    upstream: Upstream,
}

/// What became of a request.
pub(super) struct Outcome {
    pub(super) answer: Result<u16, Error>,
    pub(super) took: Duration,
    pub(super) ctx: Ctx,
    _guard: Guard,
}

impl Outcome {
    pub(super) fn waited(&self) -> Option<Duration> {
        self.ctx.recorder.edit().notes.as_ref().and_then(|notes| notes.pool_wait)
    }

    /// Breaker, scope, limit and current value of the refusal.
    pub(super) fn refusal(&self) -> Option<(&'static str, &'static str, u64, u64)> {
        let refusal = self.answer.as_ref().err()?.refusal()?.clone();
        Some((refusal.breaker, refusal.scope, refusal.limit, refusal.current))
    }
}

impl Worker {
    /// One that attends to the others, on the thread that it is made on.
    pub(super) fn new(census: &Arc<Census>) -> Rc<Worker> {
        Worker::with_streams(census, 100)
    }

    pub(super) fn with_streams(census: &Arc<Census>, streams_max: usize) -> Rc<Worker> {
        let net = Rc::new(Net { census: Arc::clone(census), ..Net::default() });
        let pools = Rc::new(Pools::default());
        let dial = Rc::clone(&net) as Rc<dyn Dial>;
        let upstream = Upstream::new(Rc::clone(&pools), dial, settings(streams_max));
        let attending = Rc::clone(&pools);
        tokio::task::spawn_local(async move { attending.attend().await });
        Rc::new(Worker { pools, net, upstream })
    }

    /// The head of an answer of endpoint `index`.
    pub(super) async fn head(
        &self,
        cluster: &Arc<Cluster>,
        index: usize,
        path: &str,
    ) -> (Answer, Ctx, Guard) {
        let sink: Rc<dyn Sink> = Rc::new(NoSink);
        let connection = Connection {
            direction: Direction::Outbound,
            peer: SocketAddr::from(([127, 0, 0, 1], 50_000)),
            local: SocketAddr::from(([127, 0, 0, 1], 15_001)),
            is_tls: false,
            identity: None,
            is_trusted: true,
            serial: Default::default(),
        };
        let (recorder, guard) = Recorder::start(&sink, &connection, Instant::now());
        let ctx = Ctx::new(recorder, Rc::new(connection));
        let endpoint = Arc::clone(&cluster.endpoints().endpoints[index]);
        let mut head = RequestHead::new();
        head.set_authority(b"c");
        head.set_path(path.as_bytes());
        if endpoint.address.port() >= HTTP2 {
            head.version = crate::svc::Version::Http2;
        }
        if path.starts_with("/upgrade/") {
            head.upgrade = Some(head.fields.store(b"echo"));
        }
        head.fields.push(Known::IdempotencyKey.name().as_bytes(), b"k");
        *ctx.cluster.borrow_mut() = Some(Arc::clone(cluster));
        *ctx.picked.borrow_mut() = Some(Picked::new(endpoint));
        let exchange = Exchange { head: Box::new(head), body: Body::empty(), ctx: ctx.clone() };
        (self.upstream.clone().call(exchange).await, ctx, guard)
    }

    /// A whole exchange with endpoint `index`.
    pub(super) async fn ask(&self, cluster: &Arc<Cluster>, index: usize, path: &str) -> Outcome {
        let started = Instant::now();
        let (answer, ctx, _guard) = self.head(cluster, index, path).await;
        let answer = match answer {
            Ok(response) => read(response).await,
            Err(error) => Err(error),
        };
        Outcome { answer, took: started.elapsed(), ctx, _guard }
    }

    /// The same as a task.
    pub(super) fn start(
        self: &Rc<Self>,
        cluster: &Arc<Cluster>,
        index: usize,
        path: &str,
    ) -> tokio::task::JoinHandle<Outcome> {
        let (worker, cluster, path) = (Rc::clone(self), Arc::clone(cluster), path.to_owned());
        tokio::task::spawn_local(async move { worker.ask(&cluster, index, &path).await })
    }

    pub(super) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    pub(super) fn dials(&self) -> usize {
        self.net.dialled.borrow().len()
    }
}

async fn read(mut response: Response) -> Result<u16, Error> {
    while let Some(frame) = response.body.frame().await {
        if let Frame::Data(data) = frame? {
            assert_eq!(&data[..], b"ok");
        }
    }
    Ok(response.head.status)
}

/// What is under way gets as far as it can without time passing.
pub(super) async fn settle() {
    tokio::time::sleep(Duration::from_micros(1)).await;
}
