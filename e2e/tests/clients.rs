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
    for option in ["--http1.1", "--http2-prior-knowledge"] {
        let timing = ["-H", "Expect: 100-continue", "--expect100-timeout", "5"];
        let said = curl(
            &[
                &[option, "--data-binary", &content, "-w", " %{time_total} %{http_code}"],
                &timing[..],
                &[&url],
            ]
            .concat(),
        );
        let parts: Vec<&str> = said.split(' ').collect();
        assert_eq!((parts[0], parts[2]), (r#"{"ok":true}"#, "200"), "{option}: {said}");
        assert!(parts[1].parse::<f64>().unwrap() < 3.0, "{option} waited in vain for 100 Continue: {said}");
        let seen = backend.take_after(1);
        assert!(seen.violations.is_empty(), "{seen:?}");
        assert_eq!(seen.whole[0].body.len(), 3 << 20, "{option}");
        let chunked = curl(&[option, "-H", "Transfer-Encoding: chunked", "--data-binary", &content, &url]);
        assert_eq!(chunked, r#"{"ok":true}"#, "{option}");
        assert_eq!(backend.take_after(1).whole[0].body.len(), 3 << 20, "{option}");
    }
}

#[test]
fn curl_sees_an_early_refusal_of_an_upload() {
    let backend = StrictBackend::start();
    backend.script("/", Script::early("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno\n"));
    let (_proxy, url) = start(&backend);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("content");
    std::fs::write(&file, vec![b'u'; 2 << 20]).unwrap();
    let content = format!("@{}", file.display());
    for option in ["--http1.1", "--http2-prior-knowledge"] {
        let said = curl(&[option, "-H", "Expect:", "--data-binary", &content, "-w", "%{http_code}", &url]);
        assert_eq!(said, "no\n413", "{option}");
    }
}

#[test]
fn curl_uses_one_connection_for_many() {
    let backend = StrictBackend::start();
    let (_proxy, url) = start(&backend);
    for option in ["--http1.1", "--http2-prior-knowledge"] {
        let urls = vec![url.as_str(); 20];
        let said = curl(&[&[option, "-w", " %{num_connects}\n"], &urls[..]].concat());
        let connects: u32 =
            said.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).sum();
        assert_eq!((said.lines().count(), connects), (20, 1), "{option}: {said}");
    }
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
    let said = tool::output("nghttp", &["-d", &path, "--expect-continue", &url]);
    assert_eq!(said, r#"{"ok":true}"#);
    let trailers = tool::output("nghttp", &["-d", &path, "--trailer", "x-sum: 7", &url]);
    assert_eq!(trailers, r#"{"ok":true}"#);
    let seen = backend.take_after(52);
    assert!(seen.violations.is_empty(), "{:?}", seen.violations);
    assert_eq!(seen.whole.last().unwrap().trailers.get("x-sum"), Some("7"));
    assert_eq!(proxy.stop().len(), 52);
}
