//! Which traces are recorded: whose word counts, and what is kept anyhow.

use crate::{PARENT, TRACE};
use e2e::{Launch, RawClient, Script, Setup, StrictBackend, get, wait_for};
use serde_json::Value;
use std::time::Instant;
use tempfile::TempDir;

/// A sidecar with a `pipeline.sampling`.
struct Sampling {
    app: StrictBackend,
    proxy: Launch,
    directory: TempDir,
}

impl Sampling {
    fn start(trust: &str, sampling: &str) -> Self {
        let (app, directory) = (StrictBackend::start(), tempfile::tempdir().expect("a temporary directory"));
        let setup = Setup::app(app.address()).section("inbound", &format!("trust: {trust}"));
        // The section that a Setup ends with goes on.
        let text = format!("{}  sampling: {sampling}\n", setup.yaml(&directory.path().join("events")));
        std::fs::write(directory.path().join("a.yaml"), text).expect("a configuration");
        let proxy = Launch::start(directory.path(), &["run", "--config", "a.yaml"]);
        proxy.wait_for_log("ready");
        Sampling { app, proxy, directory }
    }

    /// Whether the app was told to record, and the event.
    fn ask(&self, path: &str, id: &str, lines: &str) -> (bool, Value) {
        let request = get(path, &format!("x-request-id: {id}\r\n{lines}"));
        RawClient::connect(self.proxy.listener("inbound")).ask(request).expect("an answer");
        let request = self.app.take_after(1).whole.remove(0);
        let traceparent = request.fields.get("traceparent").expect("a trace").to_owned();
        let event = wait_for("the event", || {
            let text = std::fs::read_to_string(self.directory.path().join("events")).ok()?;
            let whole = &text[..=text.rfind('\n')?];
            let mut events = whole.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            events.find(|event| event["request_id"] == id)
        });
        let is_sampled = traceparent.ends_with('1') || traceparent.ends_with('3');
        assert_eq!(event["sampled"], is_sampled, "{traceparent}, {event}");
        (is_sampled, event)
    }
}

#[test]
fn with_a_ratio_of_nothing_the_forced_and_the_failed_are_left() {
    let proxy = Sampling::start("all", "{ ratio: 0.0, force: { account_id: [acme], flags: [debug] } }");
    proxy.app.script("/failed", Script::reply("HTTP/1.1 500 Oh\r\nDate: x\r\nContent-Length: 0\r\n\r\n"));
    let unsampled = format!("traceparent: 00-{TRACE}-{PARENT}-00\r\n");
    for (id, lines, is_sampled, by) in [
        ("anybody", "x-account-id: other\r\n", false, Some("none")),
        ("acme", "x-account-id: acme\r\n", true, Some("forced_account")),
        ("acme-in-baggage", "baggage: account.id=acme\r\n", true, Some("forced_account")),
        ("flag", "x-feature-flags: a,debug\r\n", true, Some("forced_flag")),
        ("bullet", "x-request-type: TRACE\r\n", true, Some("forced_trace")),
        // Decided once: the caller said no, and is followed.
        ("decided", &format!("{unsampled}x-account-id: acme\r\n"), false, None),
    ] {
        let (was, event) = proxy.ask("/", id, lines);
        assert_eq!((was, event["sidelight.sampled.by"].as_str()), (is_sampled, by), "{id}: {event}");
        assert!(event.get("sidelight.kept.by").is_none(), "{id}: {event}");
    }
    let (was, event) = proxy.ask("/failed", "failed", "");
    assert_eq!((was, &event["sidelight.kept.by"]), (false, &"error".into()), "{event}");
    assert_eq!(event["http.response.status_code"], 500);
}

#[test]
fn a_stranger_can_neither_flood_nor_hide() {
    const ASKED: usize = 50;
    let proxy = Sampling::start(
        "none",
        "{ ratio: 0.0, untrusted_traces_per_second: 2, force: { account_id: [acme] } }",
    );
    let begun = Instant::now();
    let mut count = 0;
    for number in 0..ASKED {
        let trace = format!("0af7651916cd43dd8448eb21{number:08x}");
        let lines =
            format!("traceparent: 00-{trace}-{PARENT}-01\r\nx-account-id: acme\r\nx-request-type: TRACE\r\n");
        count += usize::from(proxy.ask("/", &format!("flood-{number}"), &lines).0);
    }
    let most = 2 + 2 * (begun.elapsed().as_secs() as usize + 1);
    assert!((2..=most.min(ASKED - 1)).contains(&count), "{count} of {ASKED} were recorded, at most {most}");

    let proxy = Sampling::start("none", "{ ratio: 1.0 }");
    let hidden = format!("traceparent: 00-{TRACE}-{PARENT}-00\r\n");
    let (was, event) = proxy.ask("/", "hidden", &hidden);
    assert_eq!((was, &event["sidelight.sampled.by"]), (true, &"ratio".into()), "{event}");
    assert_eq!(event["trace_id"], TRACE, "the trace itself goes on: {event}");
}
