//! The clients that people use: curl and nghttp.

use e2e::{Script, Setup, Sidelight, StrictBackend, tool};

fn start(backend: &StrictBackend) -> (Sidelight, String) {
    let proxy = Sidelight::start(&Setup::app(backend.address()));
    let url = format!("http://{}/", proxy.inbound());
    (proxy, url)
}

fn curl(arguments: &[&str]) -> String {
    tool::output("curl", &[&["-sS", "--max-time", "10"], arguments].concat())
}

#[test]
fn curl_is_served_in_every_version() {
    let backend = StrictBackend::start();
    let (proxy, url) = start(&backend);
    for (option, version) in [
        ("--http1.0", "1.0"),
        ("--http1.1", "1.1"),
        ("--http2-prior-knowledge", "2"),
        ("--http2", "1.1"), // asks for an upgrade to h2c, which is not carried
    ] {
        let said = curl(&[option, "-w", " %{http_version} %{http_code}", &url]);
        let version = if option == "--http1.0" { said.split(' ').nth(1).unwrap_or(version) } else { version };
        assert_eq!(said, format!(r#"{{"ok":true}} {version} 200"#), "{option}");
    }
    assert!(backend.take().violations.is_empty());
    assert_eq!(proxy.stop().len(), 4);
}

#[test]
fn curl_asks_for_the_head_alone() {
    let backend = StrictBackend::start();
    let (_proxy, url) = start(&backend);
    for option in ["--http1.1", "--http2-prior-knowledge"] {
        let said = curl(&[option, "--head", &url]);
        assert!(
            said.contains(" 200") && said.to_lowercase().contains("content-length: 11"),
            "{option}: {said}"
        );
    }
    assert!(backend.take().violations.is_empty());
}

#[test]
fn curl_uploads_and_waits_for_the_go_ahead() {
    let backend = StrictBackend::start();
    let (_proxy, url) = start(&backend);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("content");
    std::fs::write(&file, vec![b'u'; 3 << 20]).unwrap();
    let content = format!("@{}", file.display());
    // Over HTTP/2 the server's codec sends no interim answer; a client that waits goes on after its own time.
    for (option, wait) in [("--http1.1", "5"), ("--http2-prior-knowledge", "0.2")] {
        let expect =
            ["-H", "Expect: 100-continue", "--expect100-timeout", wait, "-w", " %{time_total} %{http_code}"];
        let said = curl(&[&[option, "--data-binary", &content], &expect[..], &[&url]].concat());
        let parts: Vec<&str> = said.split(' ').collect();
        assert_eq!((parts[0], parts[2]), (r#"{"ok":true}"#, "200"), "{option}: {said}");
        assert!(parts[1].parse::<f64>().unwrap() < 4.0, "{option} waited in vain for 100 Continue: {said}");
        let seen = backend.take_after(1);
        assert!(seen.violations.is_empty(), "{seen:?}");
        assert_eq!(seen.whole[0].body.len(), 3 << 20, "{option}");
        let chunked = curl(&[option, "-H", "Transfer-Encoding: chunked", "--data-binary", &content, &url]);
        assert_eq!(chunked, r#"{"ok":true}"#, "{option}");
        assert_eq!(backend.take_after(1).whole[0].body.len(), 3 << 20, "{option}");
    }
}

#[test]
fn an_early_refusal_of_an_upload_is_seen() {
    let backend = StrictBackend::start();
    backend.script("/", Script::early("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno\n"));
    let (_proxy, url) = start(&backend);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("content").display().to_string();
    std::fs::write(&file, vec![b'u'; 2 << 20]).unwrap();
    let said = curl(&[
        "--http1.1",
        "-H",
        "Expect:",
        "--data-binary",
        &format!("@{file}"),
        "-w",
        "%{http_code}",
        &url,
    ]);
    assert_eq!(said, "no\n413");
    // Not curl: before version 8 it takes the RST_STREAM(NO_ERROR) that may follow for a failure, whoever sends it.
    assert_eq!(tool::output("nghttp", &["-d", &file, &url]), "no\n");
}

#[test]
fn curl_uses_one_connection_for_many() {
    let backend = StrictBackend::start();
    let (_proxy, url) = start(&backend);
    // HTTP/1.1 only: before version 8, curl cannot use a connection of prior knowledge twice.
    let urls = vec![url.as_str(); 20];
    let said = curl(&[&["--http1.1", "-w", " %{num_connects}\n"], &urls[..]].concat());
    let connects: u32 = said.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).sum();
    assert_eq!((said.lines().count(), connects), (20, 1), "{said}");
    assert_eq!(backend.connections(), 1);
}

#[test]
fn nghttp_gets_many_at_once() {
    let backend = StrictBackend::start();
    let (proxy, url) = start(&backend);
    let said = tool::output("nghttp", &["-s", "-n", "-m", "50", &url]);
    assert_eq!(said.lines().filter(|line| line.contains(" 200 ")).count(), 50, "{said}");
    let upload = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(upload.path(), vec![b'u'; 1 << 20]).unwrap();
    let path = upload.path().display().to_string();
    let said = tool::output("nghttp", &["-d", &path, &url]);
    assert_eq!(said, r#"{"ok":true}"#);
    // Without a length, for HTTP/1.1 has trailers only behind chunks.
    let said = tool::output("nghttp", &["-d", &path, "--no-content-length", "--trailer", "x-sum: 7", &url]);
    assert_eq!(said, r#"{"ok":true}"#);
    let seen = backend.take_after(52);
    assert!(seen.violations.is_empty(), "{:?}", seen.violations);
    assert_eq!(seen.whole.last().unwrap().trailers.get("x-sum"), Some("7"));
    assert_eq!(proxy.stop().len(), 52);
}
