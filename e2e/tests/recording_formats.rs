//! Recordings in the formats of other programs: files of theirs are imported, and files for them are opened by them.

use e2e::{Intake, Launch, Reply, python, tool};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recording_formats").join(name);
    path.display().to_string()
}

/// Runs `sidelight recording …`; its standard output and standard error.
fn recording(directory: &Path, words: &[&str]) -> (String, String) {
    let (status, out, errors) = Launch::run(directory, &[&["recording"], words].concat());
    assert_eq!(status, 0, "{words:?}: {errors}");
    (out, errors)
}

/// The lines of `ls --entries`.
fn entries(directory: &Path, name: &str) -> Vec<Value> {
    let (out, _) = recording(directory, &["ls", name, "--entries", "--format", "json"]);
    out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// One exchange, as `show` tells it.
fn shown(directory: &Path, name: &str, id: &str) -> Value {
    let (out, _) = recording(directory, &["show", name, id, "--format", "json"]);
    let mut all: Value = serde_json::from_str(&out).expect("JSON");
    all["exchanges"][0].take()
}

#[test]
fn a_har_of_a_browser_goes_in_and_comes_out_for_haralyzer() {
    let home = tempfile::tempdir().expect("a directory");
    let home = home.path();
    let (_, said) = recording(home, &["import", &file("browser.har"), "-o", "in"]);
    assert!(said.contains("4 exchanges, 0 problems") && said.contains("content-encoding"), "{said}");
    let all = entries(home, "in");
    let told: Vec<_> =
        all.iter().map(|it| (it["method"].as_str(), it["target"].as_str(), it["status"].as_u64())).collect();
    assert_eq!(
        told,
        [
            (Some("GET"), Some("/?lang=de"), Some(200)),
            (Some("GET"), Some("/dot.png"), Some(200)),
            (Some("GET"), Some("/chat"), Some(101)),
            (Some("POST"), Some("/login"), Some(0)),
        ]
    );
    assert_eq!((&all[0]["account_id"], &all[0]["first_byte_ns"]), (&"acme".into(), &18_000_000.into()));
    assert_eq!(all[0]["started"], "2026-11-23T14:00:00.125000000Z");
    let socket = shown(home, "in", "3");
    assert_eq!(
        (&socket["frames"][0]["text"], &socket["frames"][1]["opcode"]),
        (&"hello".into(), &"binary".into())
    );
    assert_eq!(shown(home, "in", "4")["request_body"], "user=a&pass=b");

    recording(home, &["export", "in", "--as", "har", "-o", "out.har"]);
    let out = home.join("out.har").display().to_string();
    let reader = python::script("har_reader.py").display().to_string();
    let lines = tool::output(&python::interpreter_for_recordings().display().to_string(), &[&reader, &out]);
    let read: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(read.len(), 4, "{lines}");
    assert_eq!((&read[0]["url"], &read[0]["status"]), (&"http://shop.example/?lang=de".into(), &200.into()));
    assert_eq!((&read[0]["content"], &read[0]["mime"]), (&"<p>hello</p>\n".into(), &"text/html".into()));
    assert_eq!(
        (&read[0]["started"], &read[0]["time"]),
        (&"2026-11-23T14:00:00.125000+00:00".into(), &20.5.into())
    );
    assert_eq!((&read[3]["method"], &read[3]["text"]), (&"POST".into(), &"user=a&pass=b".into()));

    // What was exported is what was there.
    recording(home, &["import", "out.har", "-o", "again"]);
    assert_eq!(entries(home, "again"), all);
}

#[test]
fn a_recording_of_goreplay_is_sent_by_locust() {
    let home = tempfile::tempdir().expect("a directory");
    let home = home.path();
    recording(home, &["import", &file("goreplay.gor"), "-o", "in"]);
    let all = entries(home, "in");
    assert_eq!(all.len(), 12);
    assert!(all.iter().all(|it| it["duration_ns"].as_u64().is_some_and(|ns| ns > 2_000_000)), "{all:?}");
    assert_eq!(
        (&shown(home, "in", "1")["request_body"], &shown(home, "in", "1")["response_body"]),
        (&"item=0&n=ä".into(), &"abc".into())
    );

    recording(home, &["export", "in", "--as", "locust", "-o", "locustfile.py"]);
    let target = Intake::start(|_| Reply::ok("text/plain", "ok"));
    let host = format!("http://{}", target.address());
    let script = home.join("locustfile.py").display().to_string();
    let locust: PathBuf = python::interpreter_for_recordings().with_file_name("locust");
    let words = [
        "-f",
        &script,
        "--headless",
        "--users",
        "2",
        "--spawn-rate",
        "2",
        "--host",
        &host,
        "--only-summary",
        "--run-time",
        "60s",
    ];
    let done = tool::run(&locust.display().to_string(), &words);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    let posts = target.posts();
    let mut sent: BTreeMap<String, usize> = BTreeMap::new();
    posts.iter().for_each(|post| {
        *sent.entry(format!("{} {}", post.request.method, post.request.target)).or_default() += 1
    });
    let wanted: BTreeMap<String, usize> = all
        .iter()
        .map(|it| {
            (
                format!(
                    "{} {}",
                    it["method"].as_str().unwrap_or_default(),
                    it["target"].as_str().unwrap_or_default()
                ),
                1,
            )
        })
        .collect();
    assert_eq!(sent, wanted, "each once: {said}");
    let cart = posts.iter().find(|post| post.request.target == "/cart/4?x=4").expect("a cart");
    assert_eq!(String::from_utf8_lossy(&cart.request.body), "item=4&n=ä");
    assert_eq!(cart.request.fields.get("x-account-id"), Some("acme"));
    // Each account's requests are in their order, 50 ms apart when recorded.
    for account in ["acme", "globex"] {
        let of = |post: &&e2e::Post| post.request.fields.get("x-account-id") == Some(account);
        let of: Vec<_> = posts.iter().filter(of).collect();
        let number = |target: &str| {
            target.split('?').next().and_then(|path| path.rsplit('/').next()?.parse::<u32>().ok())
        };
        let numbers: Vec<_> = of.iter().map(|post| number(&post.request.target)).collect();
        assert!(numbers.is_sorted() && numbers.len() >= 4, "{account}: {numbers:?}");
        let took = of.last().expect("one").at.duration_since(of.first().expect("one").at);
        assert!(took.as_millis() >= 300, "{account}: {took:?}");
    }
}

#[test]
fn taps_of_envoy_are_imported_and_marked_where_they_were_cut() {
    let home = tempfile::tempdir().expect("a directory");
    let home = home.path();
    let (_, said) = recording(home, &["import", &file("envoy_tap.json"), "-o", "in"]);
    assert!(said.contains("2 exchanges, 0 problems") && said.contains("1970"), "{said}");
    let all = entries(home, "in");
    assert_eq!(
        (&all[0]["target"], &all[0]["is_truncated"], &all[0]["request_id"]),
        (&"/tapped".into(), &true.into(), &"req-1".into())
    );
    assert_eq!((&all[1]["target"], &all[1]["is_truncated"]), (&"/streamed".into(), &false.into()));
    assert_eq!(shown(home, "in", "2")["response_body"], "onetwo");
    for (proto, name) in [(&["--proto"][..], "tap.pb"), (&[], "tap.json")] {
        recording(home, &[&["export", "in", "--as", "envoy-tap", "-o", name], proto].concat());
        recording(home, &["import", name, "-o", &format!("again-{name}")]);
        let again = entries(home, &format!("again-{name}"));
        assert_eq!(
            again.iter().map(|it| &it["target"]).collect::<Vec<_>>(),
            all.iter().map(|it| &it["target"]).collect::<Vec<_>>()
        );
    }
}

#[test]
fn what_cannot_be_read_is_told_with_its_place_and_the_rest_is_imported() {
    let home = tempfile::tempdir().expect("a directory");
    let home = home.path();
    let gor = std::fs::read_to_string(file("goreplay.gor")).expect("the file");
    std::fs::write(home.join("bad.gor"), gor.replacen("GET /item/1 ", "GET\0/item/1 ", 1)).expect("a file");
    let (status, _, said) = Launch::run(home, &["recording", "import", "bad.gor", "-o", "in"]);
    assert_eq!(status, 1, "{said}");
    // The request, and its answer that has no request now.
    assert!(said.contains("bad.gor: line 20 ") && said.contains("11 exchanges, 2 problems"), "{said}");
    assert_eq!(entries(home, "in").len(), 11);
    std::fs::write(home.join("noise"), [0u8; 5000]).expect("a file");
    let (status, _, said) = Launch::run(home, &["recording", "import", "noise", "-o", "never"]);
    assert!(status == 1 && said.contains("noise: is neither HAR nor .gor nor an Envoy tap"), "{said}");
    assert!(!home.join("never").exists());
}
