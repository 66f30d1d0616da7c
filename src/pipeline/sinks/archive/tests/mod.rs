//! The archive as its readers see it: files in folders, and what is in them.

mod directory;
#[cfg(feature = "parquet")]
mod parquet;
mod partition;
mod s3;

use super::super::fixture::{Feed, exchange, soon};
use super::super::sink::{Failure, Sink};
use super::config::S3 as S3Config;
use super::{Archive, Config, Format};
use crate::pipeline::Service;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

fn about() -> Service {
    Service { name: "check out".into(), instance: "host/1".into(), ..Service::default() }
}

fn config(directory: &Path) -> Config {
    Config { directory: Some(directory.into()), ..Config::default() }
}

fn open(config: &Config) -> Archive {
    Archive::new(config, &about(), Path::new("/")).unwrap()
}

/// Files below `root` by their path, without those that are not complete.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                if entry.file_name() != ".partial" {
                    folders.push(path);
                }
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn lines(file: &[u8]) -> Vec<String> {
    let text = String::from_utf8(zstd::decode_all(file).unwrap()).unwrap();
    assert!(text.ends_with('\n'), "whole lines");
    text.lines().map(str::to_owned).collect()
}

/// The numbers of the events in all files, in order, also those that are there twice.
fn numbers<'a>(files: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<u64> {
    let number = |line: String| {
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        event["id"]["sequence"].as_u64().unwrap()
    };
    let mut numbers: Vec<u64> = files.into_iter().flat_map(|file| lines(file)).map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// An event of `kind` in an hour of the first of January.
fn event(sequence: u64, kind: &str, hour: u64) -> String {
    let timestamp = format!("2025-01-{:02}T{:02}:59:59.999999Z", 1 + hour / 24, hour % 24);
    exchange(sequence, &timestamp, "").replace("/exchange/", &format!("/{kind}/"))
}

fn reason(failure: Result<(), Failure>) -> String {
    match failure {
        Err(Failure::Retry { reason, .. }) => reason,
        other => panic!("{other:?} instead of a failure that is tried again"),
    }
}

#[test]
fn what_cannot_work_is_said_at_once() {
    let s3 = |bucket: &str| S3Config {
        bucket: bucket.into(),
        region: "eu-central-1".into(),
        endpoint: Some("http://127.0.0.1:9".into()),
        prefix: String::new(),
        path_style: None,
        access_key_id: Some("AKID".into()),
        secret_access_key_file: Some("/nowhere/secret".into()),
        session_token_file: None,
        tls: None,
    };
    let here = config(Path::new("/tmp/archive"));
    let rows = [
        (Config::default(), "either `directory` or `s3`"),
        (Config { s3: Some(s3("b")), ..here.clone() }, "either `directory` or `s3`"),
        (Config { s3: Some(s3("b")), ..Config::default() }, "/nowhere/secret"),
        (Config { s3: Some(s3("a/b")), ..Config::default() }, "no bucket"),
        (Config { compression_level: 20, ..here.clone() }, "1 to 19"),
        (Config { file_bytes_max: 0, ..here.clone() }, "file_bytes_max"),
        (Config { file_age_max: Duration::ZERO, ..here.clone() }, "file_age_max"),
    ];
    for (config, want) in rows {
        let Err(error) = Archive::new(&config, &about(), Path::new("/")) else { panic!("{want}: taken") };
        assert!(error.contains(want), "{error}");
    }
    let parquet = Archive::new(&Config { format: Format::Parquet, ..here }, &about(), Path::new("/"));
    assert_eq!(parquet.is_ok(), cfg!(feature = "parquet"));
}
