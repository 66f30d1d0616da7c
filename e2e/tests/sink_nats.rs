//! Events in a stream of a real nats-server with JetStream.

use async_nats::jetstream::{self, stream};
use e2e::{RawClient, Setup, Sidelight, StrictBackend, wait_for};
use serde_json::Value;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// An address that nobody uses now.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("bind on loopback").local_addr().expect("bind on loopback")
}

/// A server; killed when dropped. What its streams have stays in its directory.
struct Server {
    address: SocketAddr,
    directory: TempDir,
    child: Option<Child>,
}

impl Server {
    fn start() -> Server {
        let address = free_address();
        let directory = tempfile::Builder::new().prefix("nats-").tempdir().expect("a directory");
        let mut server = Server { address, directory, child: None };
        server.start_again();
        server
    }

    fn start_again(&mut self) {
        let port = self.address.port().to_string();
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &port, "-js", "-sd"]).arg(self.directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = command.spawn();
        self.child =
            Some(started.unwrap_or_else(|error| {
                panic!("nats-server: {error}; install it: apt-get install nats-server")
            }));
        wait_for("nats-server to listen", || TcpStream::connect(self.address).ok());
    }

    /// SIGKILL.
    fn kill(&mut self) {
        let mut child = self.child.take().expect("a running server");
        child.kill().expect("kill");
        child.wait().expect("wait for the killed");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a stream has.
#[derive(Debug)]
struct Stored {
    subject: String,
    message_id: String,
    event: Value,
}

/// A client of the server's makers.
struct Reader {
    runtime: Runtime,
    context: jetstream::Context,
}

impl Reader {
    fn new(server: &Server) -> Reader {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let context = runtime.block_on(async {
            let client = async_nats::connect(server.address.to_string()).await.expect("a connection");
            jetstream::new(client)
        });
        Reader { runtime, context }
    }

    fn make(&self, name: &str, subject: &str) {
        let config =
            stream::Config { name: name.into(), subjects: vec![subject.into()], ..stream::Config::default() };
        self.runtime.block_on(async { self.context.create_stream(config).await }).expect("a stream");
    }

    /// All exchanges of the stream, in the order of the events' numbers.
    fn stored(&self, name: &str) -> Vec<Stored> {
        let mut all = self.runtime.block_on(async {
            let mut all = Vec::new();
            let Ok(mut stream) = self.context.get_stream(name).await else { return all };
            let Ok(info) = stream.info().await else { return all };
            for number in 1..=info.state.last_sequence {
                let message = stream.get_raw_message(number).await.expect("a message of the stream");
                all.push(Stored {
                    subject: message.subject.to_string(),
                    message_id: message.headers.get("Nats-Msg-Id").expect("an id").to_string(),
                    event: serde_json::from_slice(&message.payload).expect("JSON"),
                });
            }
            all
        });
        all.retain(|stored| stored.subject == "sidelight.exchange");
        all.sort_by_key(|stored| stored.event["id"]["sequence"].as_u64());
        all
    }

    fn wait(&self, name: &str, count: usize) -> Vec<Stored> {
        wait_for(&format!("{count} exchanges in the stream"), || {
            Some(self.stored(name)).filter(|stored| stored.len() >= count)
        })
    }
}

fn sidecar(app: &StrictBackend, server: &Server, more: &str) -> Sidelight {
    let sink = format!("servers: [\"{}\"]\n{more}", server.address);
    Sidelight::start(&Setup::app(app.address()).sink("nats", &sink))
}

/// Asks for these paths; gives the proxy's own events.
fn exchange(proxy: &Sidelight, numbers: std::ops::RangeInclusive<usize>) -> Vec<Value> {
    let last = *numbers.end();
    for number in numbers {
        let request = format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(RawClient::connect(proxy.inbound()).ask(request).expect("an answer").status, 200);
    }
    proxy.events().wait(last)
}

/// Every event once, as it stands in the file.
fn assert_same(stored: &[Stored], events: &[Value]) {
    assert_eq!(stored.iter().map(|one| &one.event).collect::<Vec<_>>(), events.iter().collect::<Vec<_>>());
    for one in stored {
        let id = &one.event["id"];
        let told =
            format!("{}-{}-{}", id["instance"].as_str().expect("an instance"), id["epoch"], id["sequence"]);
        assert_eq!(one.message_id, told);
    }
}

#[test]
fn every_event_is_in_the_stream_that_was_made_for_it() {
    let (app, server) = (StrictBackend::start(), Server::start());
    let proxy = sidecar(&app, &server, "stream: MESH\ncreate_stream: true");
    let events = exchange(&proxy, 1..=20);
    assert_same(&Reader::new(&server).wait("MESH", 20), &events);
}

#[test]
fn a_server_that_was_killed_gets_everything_once() {
    let (app, mut server) = (StrictBackend::start(), Server::start());
    let proxy = sidecar(&app, &server, "stream: MESH\ncreate_stream: true");
    exchange(&proxy, 1..=5);
    Reader::new(&server).wait("MESH", 5);
    server.kill();
    let events = exchange(&proxy, 6..=25);
    server.start_again();
    assert_same(&Reader::new(&server).wait("MESH", 25), &events);
    // Nothing comes twice when the proxy ends, either.
    proxy.stop();
    assert_same(&Reader::new(&server).stored("MESH"), &events);
}

#[test]
fn events_wait_for_a_stream_that_takes_their_subject() {
    let (app, server) = (StrictBackend::start(), Server::start());
    let proxy = sidecar(&app, &server, "");
    let events = exchange(&proxy, 1..=5);
    let reader = Reader::new(&server);
    reader.make("LATER", "sidelight.>");
    assert_same(&reader.wait("LATER", 5), &events);
}
