//! The archive, read by DuckDB as a Hive-partitioned table: nothing is missing, nothing is twice, and types are what they are.

use e2e::{RawClient, Setup, Sidelight, StrictBackend, python};
use std::path::Path;

const REQUESTS: usize = 50;

/// Asks so many times, each time for another path, and waits until the proxy has ended: then every file is complete.
fn archive(root: &Path, format: &str) {
    let app = StrictBackend::start();
    let lines = format!("directory: {root:?}\nformat: {format}\nfile_bytes_max: 8KiB\nfile_age_max: 100ms");
    let proxy = Sidelight::start(&Setup::app(app.address()).sink("archive", &lines));
    let mut client = RawClient::connect(proxy.inbound());
    for number in 0..REQUESTS {
        let answer = client.ask(format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n")).expect("an answer");
        assert_eq!(answer.status, 200);
    }
    drop(client);
    assert_eq!(proxy.stop().len(), REQUESTS);
}

#[test]
fn duckdb_reads_every_event_from_lines_and_from_columns() {
    for format in ["ndjson", "parquet"] {
        let root = tempfile::tempdir().expect("temporary directory");
        archive(root.path(), format);
        let arguments = [&root.path().display().to_string(), format, &REQUESTS.to_string()];
        let cases = python::run("archive_reader.py", &arguments);
        assert!(cases.len() >= 5, "{cases:?}");
        let left =
            std::fs::read_dir(root.path().join(".partial")).expect("its folder of unfinished files").count();
        assert_eq!(left, 0, "unfinished files");
    }
}
