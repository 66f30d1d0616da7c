//! Files: the configuration's own, and those that it names.

use std::path::Path;

use crate::config::load;

const START: &str = "service: { name: a, app: \"127.0.0.1:8080\" }\n";

/// What is shown for a file with `bytes`, with the directory cut out.
fn shown(directory: &Path, bytes: &[u8]) -> String {
    let path = directory.join("a.yaml");
    std::fs::write(&path, bytes).unwrap();
    let problems = load(&path).map(|loaded| loaded.warnings).unwrap_or_else(|problems| problems);
    problems.to_string().replace(directory.to_str().unwrap(), "DIR")
}

#[test]
fn files_that_are_no_text() {
    let directory = tempfile::tempdir().unwrap();
    let missing = load(directory.path().join("none.yaml")).unwrap_err().to_string();
    assert!(missing.starts_with("error: there is no such file\n --> "), "{missing}");
    let is_directory = load(directory.path()).unwrap_err().to_string();
    assert!(is_directory.starts_with("error: this is a directory\n --> "), "{is_directory}");
    let wanted = "error: the file is not UTF-8 text\n --> DIR/a.yaml:2:6\n  |\n2 | limit\n  |      ^\n  = help: save it as UTF-8\n\n";
    assert_eq!(shown(directory.path(), b"service: {}\nlimit\xff\xfe"), wanted);
    for empty in [&b""[..], b"\n\n", b"\xef\xbb\xbf", b"---\n"] {
        let shown = shown(directory.path(), empty);
        assert!(shown.starts_with("error: the file is empty\n"), "{shown}");
    }
    let huge = shown(directory.path(), &vec![b'#'; (16 << 20) + 1]);
    assert!(huge.starts_with("error: the file is larger than 16 MiB\n"), "{huge}");
}

#[test]
fn a_byte_order_mark_is_no_content() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(shown(directory.path(), format!("\u{feff}{START}").as_bytes()), "");
}

#[test]
fn named_files_are_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("cert.pem", "-----BEGIN CERTIFICATE-----\n");
    write("key.pem", "-----BEGIN PRIVATE KEY-----\n");
    let with =
        |tls: &str| shown(directory.path(), format!("{START}inbound: {{ tls: {{ {tls} }} }}\n").as_bytes());
    assert_eq!(with("certificate: cert.pem, key: key.pem"), "");
    let missing = with("certificate: none.pem, key: key.pem");
    assert!(missing.starts_with("error: there is no file `none.pem`\n --> DIR/a.yaml:2:32\n"), "{missing}");
    assert!(missing.ends_with("  = help: looked for DIR/none.pem\n\n"), "{missing}");
    let swapped = with("certificate: key.pem, key: cert.pem");
    assert!(swapped.contains("error: `key.pem` holds no certificate in PEM\n"), "{swapped}");
    assert!(swapped.contains("error: `cert.pem` holds no private key in PEM\n"), "{swapped}");
    let directory = with("certificate: cert.pem, key: .");
    assert!(directory.starts_with("error: `.` is a directory\n"), "{directory}");
}

#[test]
fn relative_paths_are_below_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    std::fs::write(&path, format!("{START}pipeline: {{ sinks: {{ file: {{ path: events.ndjson }} }} }}\n"))
        .unwrap();
    let sinks = load(&path).unwrap().config.pipeline.sinks;
    assert_eq!(sinks.file[0].path, directory.path().join("events.ndjson"));
    assert!(sinks.stdout.is_none(), "only the sinks that are written are on");
    let shown = shown(
        directory.path(),
        format!("{START}pipeline: {{ sinks: {{ file: {{ path: no/e }} }} }}\n").as_bytes(),
    );
    assert!(shown.starts_with("error: `no/e` cannot be created: its directory is missing\n"), "{shown}");
}
