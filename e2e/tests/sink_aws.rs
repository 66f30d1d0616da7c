//! S3 and Kinesis, by moto, asked afterwards by boto3 what they have.

use e2e::{RawClient, Setup, Sidelight, StrictBackend, python};
use std::net::SocketAddr;

const REQUESTS: usize = 60;

/// A file with the secret of the key, which moto does not check; that signatures are right is held by AWS's own examples.
fn secret() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("secret");
    std::fs::write(&path, "secret\n").expect("a file");
    (directory, format!("access_key_id: AKID\nsecret_access_key_file: {path:?}\n"))
}

/// Asks so many times, for three accounts, and waits until the proxy has ended.
fn ask(setup: Setup) {
    let proxy = Sidelight::start(&setup);
    let mut client = RawClient::connect(proxy.inbound());
    for number in 0..REQUESTS {
        let fields = format!("Host: a\r\nx-account-id: a{}\r\n", number % 3);
        let answer = client.ask(format!("GET /{number} HTTP/1.1\r\n{fields}\r\n")).expect("an answer");
        assert_eq!(answer.status, 200);
    }
    drop(client);
    assert_eq!(proxy.stop().len(), REQUESTS);
}

fn read(aws: SocketAddr, service: &str) -> Vec<String> {
    python::run("aws_reader.py", &[&aws.port().to_string(), service, &REQUESTS.to_string()])
}

#[test]
fn a_bucket_has_every_event() {
    let aws = python::Server::start("aws_server.py", &[]);
    let app = StrictBackend::start();
    let (_files, key) = secret();
    let place = format!(
        "  bucket: logs\n  region: us-east-1\n  endpoint: \"http://{}\"\n  prefix: mesh/events\n",
        aws.address()
    );
    let key: String = key.lines().map(|line| format!("  {line}\n")).collect();
    let lines = format!("file_bytes_max: 16KiB\nfile_age_max: 200ms\ns3:\n{place}{key}");
    ask(Setup::app(app.address()).sink("archive", &lines));
    assert_eq!(read(aws.address(), "s3").len(), 3);
}

#[test]
fn a_stream_has_every_event_in_the_order_of_its_account() {
    let aws = python::Server::start("aws_server.py", &[]);
    let app = StrictBackend::start();
    let (_files, key) = secret();
    let lines = format!("stream: events\nregion: us-east-1\nendpoint: \"http://{}\"\n{key}", aws.address());
    ask(Setup::app(app.address()).sink("kinesis", &lines));
    assert_eq!(read(aws.address(), "kinesis").len(), 7);
}
