//! `docs/`: every block of configuration in the pages about sinks is one that `check` accepts.

use std::path::Path;

use serde_json::Value;

use crate::config::{load, parse};

const PAGES: [&str; 2] = ["sinks.md", "destinations.md"];
const SERVICE: &str = "service: { name: checkout, app: \"127.0.0.1:8080\" }\n";

/// Places that the pages name, and the machine that tests run on need not have.
const ELSEWHERE: &str = "/var/";

/// Credentials of NATS, whose seed is 32 zeros.
const CREDENTIALS: &str = "\
-----BEGIN NATS USER JWT-----
e30.e30.e30
------END NATS USER JWT------
-----BEGIN USER NKEY SEED-----
SUAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEQ
------END USER NKEY SEED------
";

/// The blocks of a page, each with its line.
fn blocks(page: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let (mut blocks, mut open): (Vec<(String, String)>, bool) = (Vec::new(), false);
    for (index, line) in text.lines().enumerate() {
        match line {
            "```yaml" => {
                open = true;
                blocks.push((format!("{page}:{}", index + 2), String::new()));
            }
            "```" => open = false,
            _ if open => blocks.last_mut().unwrap().1.extend([line, "\n"]),
            _ => {}
        }
    }
    assert!(!open, "{page}: a block without an end");
    for (_, text) in &mut blocks {
        if !text.lines().any(|line| line.starts_with("service:")) {
            text.insert_str(0, SERVICE);
        }
    }
    blocks
}

#[test]
fn every_block_is_a_configuration() {
    for (place, text) in PAGES.iter().flat_map(|page| blocks(page)) {
        let loaded = parse(&place, &text).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(loaded.warnings.is_empty(), "{place}: {}", loaded.warnings);
    }
}

/// Where the files are that a block names, its sinks can be made, too: URLs, names and headers are right.
#[test]
fn every_sink_of_a_block_can_be_made() {
    let is_whole = cfg!(all(feature = "kafka", feature = "nats", feature = "parquet"));
    if !is_whole {
        return; // a sink that is not built in is refused, as it should be
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    let (certificate, key) = (certificate.pem(), key.serialize_pem());
    let mut sinks = 0;
    for (place, text) in PAGES.iter().flat_map(|page| blocks(page)) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::create_dir_all(root.join("log/sidelight")).unwrap();
        let text = text.replace(ELSEWHERE, &format!("{}/", root.display()));
        let tree: Value = serde_yaml::from_str(&text).unwrap();
        sinks += tree.pointer("/pipeline/sinks").and_then(Value::as_object).map_or(0, |sinks| sinks.len());
        for (name, file) in files(&tree) {
            let content = match name {
                "creds_file" => CREDENTIALS,
                "headers_file" => "authorization: Bearer s3cret\n",
                "ca" | "certificate" => &certificate,
                "key" => &key,
                _ => "s3cret\n",
            };
            std::fs::write(root.join(file), content).unwrap();
        }
        let path = root.join("sidelight.yaml");
        std::fs::write(&path, &text).unwrap();
        if let Err(problems) = load(&path) {
            panic!("{place}\n{problems}");
        }
    }
    assert!(sinks >= 30, "only {sinks} sinks");
}

/// The files that a configuration reads, each with its key.
fn files(tree: &Value) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    match tree {
        Value::Object(map) => {
            for (key, value) in map {
                let is_file = key.ends_with("_file") || ["ca", "certificate", "key"].contains(&key.as_str());
                found.extend(value.as_str().filter(|_| is_file).map(|file| (key.as_str(), file)));
                found.extend(files(value));
            }
        }
        Value::Array(items) => found.extend(items.iter().flat_map(files)),
        _ => {}
    }
    found
}
