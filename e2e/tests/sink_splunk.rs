//! Events at something that speaks Splunk's HTTP Event Collector, with indexers that acknowledge when they have written.

use e2e::{Intake, RawClient, Reply, Request, Setup, Sidelight, StrictBackend, wait_for};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const REQUESTS: usize = 10;
const PATH: &str = "/services/collector/event";

fn answer(status: &str, content: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{content}",
        content.len()
    )
    .into_bytes()
}

/// What was posted: objects, one behind the other.
fn objects(posts: &[Request]) -> Vec<Value> {
    let all =
        posts.iter().flat_map(|post| serde_json::Deserializer::from_slice(&post.body).into_iter::<Value>());
    all.map(|object| object.expect("an object")).collect()
}

#[test]
fn every_event_is_there_once_and_counts_when_it_is_indexed() {
    let is_indexed = Arc::new(AtomicBool::new(false));
    let (flag, ids) = (is_indexed.clone(), AtomicU64::new(0));
    let intake = Intake::start(move |request| {
        if request.fields.get("authorization") != Some("Splunk sesame") {
            return Reply::Fail(answer("401 Unauthorized", r#"{"text":"Invalid token","code":4}"#));
        }
        let is_written = flag.load(Ordering::SeqCst);
        if request.path() == "/services/collector/ack" {
            let asked: Value = serde_json::from_slice(&request.body).expect("JSON");
            let id = asked["acks"][0].as_u64().expect("an id");
            return Reply::ok("application/json", format!("{{\"acks\":{{\"{id}\":{is_written}}}}}"));
        }
        let id = ids.fetch_add(1, Ordering::SeqCst);
        Reply::ok("application/json", format!("{{\"text\":\"Success\",\"code\":0,\"ackId\":{id}}}"))
    });
    let app = StrictBackend::start();
    let secrets = tempfile::tempdir().expect("a directory");
    let token = secrets.path().join("token");
    std::fs::write(&token, "sesame\n").expect("a file");
    let sink = format!("url: \"http://{}\"\ntoken_file: {token:?}\nindex: mesh\nack: true", intake.address());
    let proxy = Sidelight::start(&Setup::app(app.address()).sink("splunk", &sink));
    let mut client = RawClient::connect(proxy.inbound());
    for number in 0..REQUESTS {
        let request = format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.ask(request).expect("an answer").status, 200);
    }
    let events = proxy.events().wait(REQUESTS);
    // They were asked for twice, and nothing counts as delivered yet.
    wait_for("two questions", || (intake.taken("/services/collector/ack").len() >= 2).then_some(()));
    let [_, delivered, dropped, _] = proxy.books("splunk").expect("books");
    assert_eq!((delivered, dropped), (0, 0));
    is_indexed.store(true, Ordering::SeqCst);
    let exchanges = || {
        let mut all = objects(&intake.taken(PATH));
        all.retain(|object| object["event"]["schema"] == "sidelight/exchange/1");
        all
    };
    wait_for("every event", || (exchanges().len() >= REQUESTS).then_some(()));
    let [produced, delivered, ..] =
        wait_for("everything to be settled", || proxy.books("splunk").filter(|[.., queued]| *queued == 0));
    assert_eq!(produced, delivered);
    let found = exchanges();
    assert_eq!(
        found.iter().map(|object| &object["event"]).collect::<Vec<_>>(),
        events.iter().collect::<Vec<_>>()
    );
    for object in &found {
        assert_eq!(
            (&object["index"], &object["source"], &object["sourcetype"]),
            (&"mesh".into(), &"sidelight".into(), &"_json".into())
        );
        assert_eq!(
            (&object["fields"]["service"], &object["fields"]["schema"]),
            (&"checkout".into(), &"exchange".into())
        );
        let text = object["event"]["timestamp"].as_str().expect("a time");
        assert!(
            object["time"].as_str().is_some_and(|time| time.ends_with(&format!(".{}", &text[20..26]))),
            "{object}"
        );
    }
    let channel = |post: &Request| post.fields.get("x-splunk-request-channel").map(str::to_owned);
    let posts = intake.taken(PATH);
    assert!(channel(&posts[0]).is_some() && posts.iter().all(|post| channel(post) == channel(&posts[0])));
}
