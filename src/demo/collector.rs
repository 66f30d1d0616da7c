//! What receives the mesh's telemetry: an OTLP receiver over HTTP that is not there at first, and counts what it is sent.
//!
//! Why of its own: the demo needs nothing but the program, and what arrives should be counted by something that is no part
//! of what sends it. The address is taken from the beginning, so that nobody else can have it; until [`Collector::open`]
//! nobody listens there, and a connection is refused, as with any collector that is down. How it fails: what is no message
//! of OTLP is answered 400, as the protocol says (<https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>).

use super::message::Message;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::{DecodeError, Message as _};
use socket2::{Domain, Socket, Type};
use std::collections::HashSet;
use std::io::{self, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// What was received.
#[derive(Clone, Debug, Default)]
pub(super) struct Received {
    /// Messages that were taken.
    pub(super) exports: u64,
    /// Spans, each counted as often as it came.
    pub(super) spans: u64,
    /// Trace and span ids: who came twice is here once.
    pub(super) ids: HashSet<(Vec<u8>, Vec<u8>)>,
    /// Log records.
    pub(super) logs: u64,
    /// Metrics, each time they came.
    pub(super) metrics: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Collector {
    /// Where it is, or will be.
    pub(super) address: SocketAddr,
    socket: Mutex<Option<Socket>>,
    received: Arc<Mutex<Received>>,
}

impl Collector {
    /// Takes an address, and does not listen.
    pub(super) fn closed() -> io::Result<Collector> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Collector { address, socket: Mutex::new(Some(socket)), received: Arc::default() })
    }

    /// Listens from now on.
    pub(super) fn open(&self) -> io::Result<()> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(socket) = socket else { return Ok(()) };
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        let received = Arc::clone(&self.received);
        std::thread::Builder::new().name("collector".into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let received = Arc::clone(&received);
                std::thread::spawn(move || serve(stream, &received));
            }
        })?;
        Ok(())
    }

    /// What was received by now.
    pub(super) fn received(&self) -> Received {
        lock(&self.received).clone()
    }
}

fn lock(received: &Mutex<Received>) -> MutexGuard<'_, Received> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves a connection to its end.
fn serve(stream: TcpStream, received: &Mutex<Received>) {
    let _ = stream.set_nodelay(true);
    let mut connection = BufReader::new(stream);
    while let Ok(Some(request)) = Message::read(&mut connection) {
        let status = match lock(received).take(request.word(1), &request.content) {
            Ok(true) => "200 OK",
            Ok(false) => "404 Not Found",
            Err(_) => "400 Bad Request",
        };
        // An empty message is the one that says that all of it was taken.
        let answer = Message { start: format!("HTTP/1.1 {status}"), ..Message::default() };
        if answer.with("content-type", "application/x-protobuf").write(connection.get_mut()).is_err() {
            return;
        }
    }
}

impl Received {
    /// Counts what is in a message; `false`: the path is none of OTLP's.
    fn take(&mut self, path: &str, content: &[u8]) -> Result<bool, DecodeError> {
        match path {
            "/v1/traces" => {
                let message = ExportTraceServiceRequest::decode(content)?;
                let scopes = message.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
                for span in scopes.flat_map(|scope| scope.spans) {
                    self.spans += 1;
                    self.ids.insert((span.trace_id, span.span_id));
                }
            }
            "/v1/logs" => {
                let message = ExportLogsServiceRequest::decode(content)?;
                let scopes = message.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
                self.logs += scopes.map(|scope| scope.log_records.len() as u64).sum::<u64>();
            }
            "/v1/metrics" => {
                let message = ExportMetricsServiceRequest::decode(content)?;
                let scopes = message.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
                self.metrics += scopes.map(|scope| scope.metrics.len() as u64).sum::<u64>();
            }
            _ => return Ok(false),
        }
        self.exports += 1;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::message::Client;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};

    #[test]
    fn it_is_down_until_it_is_opened_and_counts_a_span_that_comes_twice_once() {
        let collector = Collector::closed().unwrap();
        let refused = TcpStream::connect(collector.address).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        collector.open().unwrap();
        let span = |id: u8| Span { trace_id: vec![1; 16], span_id: vec![id; 8], ..Span::default() };
        let scope = ScopeSpans { spans: vec![span(1), span(2), span(2)], ..ScopeSpans::default() };
        let resource = ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() };
        let message = ExportTraceServiceRequest { resource_spans: vec![resource] };
        let client = Client::new(collector.address);
        let send = |path: &str, content: Vec<u8>| {
            let request = Message::request("POST", path, "collector");
            client.call(&Message { content, ..request }).unwrap().status()
        };
        assert_eq!(send("/v1/traces", message.encode_to_vec()), 200);
        assert_eq!(send("/v1/traces", b"\xff".to_vec()), 400);
        assert_eq!(send("/", Vec::new()), 404);
        let received = collector.received();
        assert_eq!((received.exports, received.spans, received.ids.len()), (1, 3, 2));
    }
}
