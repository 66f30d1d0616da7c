//! How well a proxy balances: five endpoints, one of them ten times slower, requests at random moments whether or not
//! the earlier ones were answered (open loop), and the latency that clients see.
//!
//! The endpoints and the clients are tasks of one thread of this program, on the core of the load. A latency is counted
//! from the moment at which the request was due, so that a proxy that holds the clients up does not look better.

use crate::{
    Result,
    peer::{Bench, Peer},
    work::Work,
};
use serde_json::{Value, json};
use std::{
    cell::{Cell, RefCell},
    io,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::mpsc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// How long a fast endpoint takes.
const FAST: Duration = Duration::from_millis(2);
/// How long the slow one takes.
const SLOW: Duration = Duration::from_millis(20);
/// Endpoints; the last one is slow.
pub const ENDPOINTS: usize = 5;
/// Requests in a second.
const RATE: u64 = 1000;
/// Load before the measured window: enough for averages to be there.
const WARM_UP: Duration = Duration::from_secs(2);

/// The endpoints, while this lives.
pub struct Endpoints {
    /// Their ports; the last is that of the slow one.
    pub ports: Vec<u16>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Endpoints {
    /// Starts them on a thread of their own.
    ///
    /// Errors: the system refuses a socket or a thread.
    pub fn start(cores: &[usize]) -> Result<Self> {
        let (ports, listening) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let cores = cores.to_vec();
        std::thread::spawn(move || {
            let _ = on_one_thread(&cores, async move {
                let _ = ports.send(listen().await);
                let _ = stopped.await;
            });
        });
        let ports = listening.recv().map_err(|_| "the endpoints did not start")?;
        let ports = ports.map_err(|error| format!("the endpoints: {error}"))?;
        Ok(Self { ports, _stop: stop })
    }
}

async fn listen() -> io::Result<Vec<u16>> {
    let mut ports = Vec::new();
    for index in 0..ENDPOINTS {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        ports.push(listener.local_addr()?.port());
        let delay = if index + 1 == ENDPOINTS { SLOW } else { FAST };
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::task::spawn_local(answer(stream, delay));
            }
        });
    }
    Ok(ports)
}

/// Runs a future with tasks of its own on this thread, which stays on `cores`.
fn on_one_thread<T>(cores: &[usize], future: impl Future<Output = T>) -> Result<T> {
    crate::process::pin_this_thread(cores)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    Ok(tokio::task::LocalSet::new().block_on(&runtime, future))
}

/// Answers requests without content, each after `delay`.
async fn answer(mut stream: TcpStream, delay: Duration) -> io::Result<()> {
    let body = "x".repeat(1024);
    let which = if delay == SLOW { "slow" } else { "fast" };
    let answer =
        format!("HTTP/1.1 200 OK\r\nx-endpoint: {which}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut head = Vec::new();
    while read_head(&mut stream, &mut head).await? {
        tokio::time::sleep(delay).await;
        stream.write_all(answer.as_bytes()).await?;
        head.clear();
    }
    Ok(())
}

/// Reads up to the empty line; false at the end of the connection.
async fn read_head(stream: &mut TcpStream, head: &mut Vec<u8>) -> io::Result<bool> {
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(head).await? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What one run measured.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    /// Median latency in ms.
    pub p50_ms: f64,
    /// 99th percentile in ms.
    pub p99_ms: f64,
    /// 99.9th percentile in ms.
    pub p999_ms: f64,
    /// Percent of the requests that went to the slow endpoint.
    pub slow_percent: f64,
}

impl Quality {
    /// For the JSON file.
    pub fn to_json(self) -> Value {
        json!({ "p50_ms": self.p50_ms, "p99_ms": self.p99_ms, "p999_ms": self.p999_ms, "slow_percent": self.slow_percent })
    }
}

/// Starts `peer` and measures `window`.
///
/// Errors: it does not start, or a request fails.
pub fn measure(bench: &Bench<'_>, peer: Peer, window: Duration) -> Result<Quality> {
    let proxy = bench.start(peer, Work::Balance.plane(), None)?;
    let (port, cores) = (proxy.port, bench.load_cores.to_vec());
    let driven = std::thread::spawn(move || {
        on_one_thread(&cores, async move {
            drive(port, WARM_UP).await?;
            drive(port, window).await
        })
    });
    let samples = driven.join().map_err(|_| "the load failed")?.and_then(|samples| samples);
    let samples = samples.map_err(|error| format!("{error}\n{}", proxy.process.log_tail()))?;
    proxy.process.stop(Duration::from_secs(15))?;
    let mut latencies: Vec<f64> = samples.iter().map(|sample| sample.latency.as_secs_f64() * 1e3).collect();
    latencies.sort_by(f64::total_cmp);
    let at = |part: f64| latencies.get((latencies.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN);
    let slow = samples.iter().filter(|sample| sample.is_slow).count();
    Ok(Quality {
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        p999_ms: at(0.999),
        slow_percent: slow as f64 * 100.0 / samples.len().max(1) as f64,
    })
}

struct Sample {
    latency: Duration,
    is_slow: bool,
}

/// What the tasks of a run share.
struct Run {
    address: SocketAddr,
    idle: RefCell<Vec<TcpStream>>,
    samples: RefCell<Vec<Sample>>,
    failure: RefCell<Option<String>>,
    open: Cell<usize>,
}

async fn drive(port: u16, window: Duration) -> Result<Vec<Sample>> {
    let run = Rc::new(Run {
        address: (Ipv4Addr::LOCALHOST, port).into(),
        idle: RefCell::default(),
        samples: RefCell::default(),
        failure: RefCell::default(),
        open: Cell::new(0),
    });
    let (began, mut due) = (Instant::now(), Duration::ZERO);
    let mut random = 0x9e37_79b9_u64;
    while due < window {
        // Uniform gaps up to twice the mean: bursts happen, and the sequence is the same for each proxy.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        due += Duration::from_micros((random >> 33) % (2_000_000 / RATE));
        tokio::time::sleep_until((began + due).into()).await;
        run.open.set(run.open.get() + 1);
        let run = Rc::clone(&run);
        tokio::task::spawn_local(async move {
            if let Err(error) = run.request(began + due).await {
                run.failure.borrow_mut().get_or_insert(error.to_string());
            }
            run.open.set(run.open.get() - 1);
        });
    }
    let patience = Instant::now() + Duration::from_secs(10);
    while run.open.get() > 0 && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    match run.failure.take() {
        Some(error) => Err(format!("a request failed: {error}")),
        None if run.open.get() > 0 => Err(format!("{} requests were not answered", run.open.get())),
        None => Ok(run.samples.take()),
    }
}

impl Run {
    async fn request(&self, due: Instant) -> io::Result<()> {
        let idle = self.idle.borrow_mut().pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        stream.write_all(b"GET /1k HTTP/1.1\r\nhost: upstream\r\n\r\n").await?;
        let mut answer = Vec::with_capacity(2048);
        let is_slow = loop {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
            if !head.starts_with("http/1.1 200") {
                return Err(io::Error::other(head));
            }
            if answer.len() >= end + 4 + 1024 {
                break head.contains("x-endpoint: slow");
            }
        };
        self.samples.borrow_mut().push(Sample { latency: due.elapsed(), is_slow });
        self.idle.borrow_mut().push(stream);
        Ok(())
    }
}
