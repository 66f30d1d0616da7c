//! Recordings kept by NATS, Kafka, Kinesis and an S3 store, brought back by the clients of others, and made again.

#[path = "recording_stores/restored.rs"]
mod restored;

use async_nats::jetstream;
use e2e::{Setup, StrictBackend, python, wait_for};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::{Offset, TopicPartitionList};
use restored::{Place, assert_restored, record};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const COUNT: u64 = 150;

/// Records with this sink, until the proxy has ended.
fn recorded(place: &Place, sink: &str, lines: &str) {
    let app = StrictBackend::start();
    let setup = Setup::app(app.address()).sink(sink, lines).section("recording", &place.lines(sink));
    record(&setup, COUNT);
}

#[test]
fn kafka_gives_a_recording_back() {
    const PARTITIONS: i32 = 3;
    let (place, brokers) = (Place::new(), MockCluster::new(1).expect("brokers"));
    brokers.create_topic("sidelight.events", PARTITIONS, 1).expect("a topic");
    let list: Vec<String> =
        brokers.bootstrap_servers().split(',').map(|broker| format!("{broker:?}")).collect();
    recorded(&place, "kafka", &format!("brokers: [{}]\ntopic: sidelight.events", list.join(", ")));
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers.bootstrap_servers())
        .set("group.id", "test")
        .create()
        .expect("a consumer");
    let (mut all, mut count) = (TopicPartitionList::new(), 0);
    for partition in 0..PARTITIONS {
        all.add_partition_offset("sidelight.events", partition, Offset::Beginning).expect("a partition");
        let marks = consumer.fetch_watermarks("sidelight.events", partition, Duration::from_secs(10));
        count += marks.expect("what the brokers have").1;
    }
    consumer.assign(&all).expect("assignment");
    let mut values: Vec<Vec<u8>> = Vec::new();
    wait_for(&format!("{count} records at the consumer"), || {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
            values.push(message.payload().expect("a value").to_vec());
        }
        (values.len() as i64 >= count).then_some(())
    });
    let file = place.write("from-kafka.ndjson", &values);
    assert_restored(&place, &[file], COUNT as usize);
}

/// nats-server with JetStream; killed when dropped.
struct Server {
    address: SocketAddr,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("bind on loopback");
        let directory = tempfile::Builder::new().prefix("nats-").tempdir().expect("a directory");
        let mut command = Command::new("nats-server");
        command
            .args(["-a", "127.0.0.1", "-p", &address.port().to_string(), "-js", "-sd"])
            .arg(directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("nats-server: {error}; install it: apt-get install nats-server"));
        let server = Server { address, child, _directory: directory };
        wait_for("nats-server to listen", || TcpStream::connect(address).ok());
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nats_gives_a_recording_back() {
    let (place, server) = (Place::new(), Server::start());
    recorded(
        &place,
        "nats",
        &format!("servers: [\"{}\"]\nstream: MESH\ncreate_stream: true", server.address),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let messages: Vec<Vec<u8>> = runtime.expect("a runtime").block_on(async {
        let client = async_nats::connect(server.address.to_string()).await.expect("a connection");
        let mut stream = jetstream::new(client).get_stream("MESH").await.expect("the stream");
        let last = stream.info().await.expect("what it has").state.last_sequence;
        let mut messages = Vec::new();
        for number in 1..=last {
            let message = stream.get_raw_message(number).await.expect("a message of the stream");
            messages.push(message.payload.to_vec());
        }
        messages
    });
    let file = place.write("from-nats.ndjson", &messages);
    assert_restored(&place, &[file], COUNT as usize);
}

/// A key that moto does not check, and what it is for.
fn aws(place: &Place, address: SocketAddr) -> String {
    let secret = place.write("secret", &["secret"]);
    format!(
        "region: us-east-1\nendpoint: \"http://{address}\"\naccess_key_id: AKID\nsecret_access_key_file: {secret:?}"
    )
}

/// What Python brought to a directory.
fn brought(place: &Place, aws: SocketAddr, service: &str) -> Vec<PathBuf> {
    let directory = place.path(service);
    std::fs::create_dir(&directory).expect("a directory");
    let arguments = [aws.port().to_string(), service.to_owned(), directory.display().to_string()];
    python::run("kept_reader.py", &arguments.each_ref().map(String::as_str));
    let files = std::fs::read_dir(&directory).expect("a directory");
    files.map(|file| file.expect("a file").path()).collect()
}

#[test]
fn a_bucket_of_s3_gives_a_recording_back() {
    let (place, server) = (Place::new(), python::Server::start("aws_server.py", &[]));
    let bucket = format!("bucket: logs\nprefix: mesh\n{}", aws(&place, server.address()));
    let bucket: String = bucket.lines().map(|line| format!("  {line}\n")).collect();
    recorded(&place, "archive", &format!("file_bytes_max: 64KiB\nfile_age_max: 200ms\ns3:\n{bucket}"));
    let files = brought(&place, server.address(), "s3");
    assert!(files.len() >= 2, "{files:?}");
    assert_restored(&place, &files, COUNT as usize);
}

#[test]
fn a_stream_of_kinesis_gives_a_recording_back() {
    let (place, server) = (Place::new(), python::Server::start("aws_server.py", &[]));
    recorded(&place, "kinesis", &format!("stream: events\n{}", aws(&place, server.address())));
    let files = brought(&place, server.address(), "kinesis");
    assert_restored(&place, &files, COUNT as usize);
}
