//! Sockets and connections, on a thread of their own: what the application sends must not take the workers' time.

use super::service::Service;
use super::{Config, Take};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// Connections at once; an SDK has one for each kind of telemetry.
const CONNECTIONS_MAX: usize = 32;
/// Messages that are in memory at once, each of 4 MiB at most.
const MESSAGES_MAX: usize = 8;
/// Calls at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 16;
/// What HTTP/2 may send before it is read.
const WINDOW_BYTES: u32 = 256 << 10;
/// How long the head of an HTTP/1.1 request may take, and an HTTP/2 connection may say nothing when it is asked.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How often a silent HTTP/2 connection is asked.
const PING_INTERVAL: Duration = Duration::from_secs(60);
/// How long to rest when no connection can be accepted.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// The receiver while it runs; dropped, it ends.
pub struct Receiver {
    http: Option<SocketAddr>,
    grpc: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy)]
enum Speaks {
    Http,
    Grpc,
}

impl Receiver {
    /// Listens, and gives what comes to `take`.
    ///
    /// # Errors
    /// One line: an address is not on loopback, or taken; the system refuses a thread.
    pub fn start(config: &Config, take: Take) -> Result<Receiver, String> {
        if let Some(problem) = config.problem() {
            return Err(problem);
        }
        let listen = |name: &str, address: Option<SocketAddr>| -> Result<_, String> {
            let Some(address) = address else { return Ok(None) };
            let fail =
                |error| format!("pipeline.receiver.otlp.{name}: {address} cannot be listened on: {error}");
            let listener = TcpListener::bind(address).map_err(fail)?;
            listener.set_nonblocking(true).map_err(fail)?;
            let address = listener.local_addr().map_err(fail)?;
            Ok(Some((listener, address)))
        };
        let http = listen("address", config.address)?;
        let grpc = listen("grpc_address", config.grpc_address)?;
        let addresses = (http.as_ref().map(|(_, at)| *at), grpc.as_ref().map(|(_, at)| *at));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("pipeline.receiver.otlp: no runtime: {error}"))?;
        let (stop, stopped) = watch::channel(false);
        let service = Service { take, places: Arc::new(Semaphore::new(MESSAGES_MAX)) };
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let run = move || {
            runtime.block_on(async {
                let serve = |listener: Option<(TcpListener, SocketAddr)>, speaks| {
                    let (service, connections) = (service.clone(), Arc::clone(&connections));
                    let stopped = stopped.clone();
                    async move {
                        if let Some((listener, _)) = listener {
                            accept(listener, speaks, service, connections, stopped).await;
                        }
                    }
                };
                tokio::join!(serve(http, Speaks::Http), serve(grpc, Speaks::Grpc));
            });
        };
        let thread = std::thread::Builder::new().name("otlp-receiver".into()).spawn(run);
        let thread = thread.map_err(|error| format!("pipeline.receiver.otlp: no thread: {error}"))?;
        Ok(Receiver { http: addresses.0, grpc: addresses.1, stop, thread: Some(thread) })
    }

    /// Where OTLP/HTTP is taken.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Where OTLP/gRPC is taken.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc
    }

    /// Takes nothing new and ends; what is answered already is in the pipeline.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            // It ends at its next turn: nothing in it blocks.
            let _ = thread.join();
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.end();
    }
}

async fn accept(
    listener: TcpListener,
    speaks: Speaks,
    service: Service,
    connections: Arc<Semaphore>,
    mut stopped: watch::Receiver<bool>,
) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let accepting = async {
            let place = Arc::clone(&connections).acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepting => accepted,
            _ = stopped.wait_for(|is_stopped| *is_stopped) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "the OTLP receiver accepts no connection");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let service = service.clone();
        tokio::spawn(async move {
            let _place = place;
            let io = TokioIo::new(stream);
            let ended = match speaks {
                Speaks::Http => {
                    let service = service_fn(move |request| service.clone().http(request));
                    hyper::server::conn::http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(TIMEOUT)
                        .serve_connection(io, service)
                        .await
                }
                Speaks::Grpc => {
                    let service = service_fn(move |request| service.clone().grpc(request));
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .timer(TokioTimer::new())
                        .max_concurrent_streams(STREAMS_MAX)
                        .initial_stream_window_size(WINDOW_BYTES)
                        .initial_connection_window_size(4 * WINDOW_BYTES)
                        .keep_alive_interval(PING_INTERVAL)
                        .keep_alive_timeout(TIMEOUT)
                        .serve_connection(io, service)
                        .await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection of the OTLP receiver ended");
            }
        });
    }
}
