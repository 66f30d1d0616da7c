//! What is judged, and how it is said.

use super::check::{Check, State};
use super::http::Client;
use super::page::Page;
use clap::Parser;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

#[derive(Parser)]
struct Alone {
    #[command(flatten)]
    check: Check,
}

fn check() -> Check {
    Alone::parse_from(["check"]).check
}

const HEALTHY: &str = r#"
# HELP x y
target_info{service_name="checkout"} 1
sidelight_config_last_reload_successful 1
sidelight_cluster_endpoints{sidelight_cluster="payments"} 2
sidelight_cluster_endpoints_by_state{sidelight_cluster="payments",state="usable"} 2
sidelight_cluster_stale{sidelight_cluster="payments"} 0
sidelight_balance_panic_picks_total{sidelight_cluster="payments"} 7
http_server_request_duration_seconds_count{http_response_status_code="200"} 1000
http_server_request_duration_seconds_count{http_response_status_code="503"} 500
http_client_request_duration_seconds_count{http_response_status_code="500"} 10
sidelight_circuit_breaker_open{scope="cluster",name="payments",breaker="requests"} 0
sidelight_pipeline_queued{sink="file"} 3
sidelight_pipeline_dropped_total{sink="file",reason="queue_full"} 9
sidelight_sink_up{sink="file"} 1
sidelight_spool_in_memory 0
sidelight_spool_write_errors_total 2
sidelight_overload_step 0
"#;

#[test]
fn each_thing_is_judged_for_itself() {
    let ready = json!({ "ready": true, "pending": [] });
    let waits = json!({ "ready": false, "pending": ["app", "cluster a"] });
    let drains = json!({ "ready": false, "pending": ["app", "draining"] });
    let changed = |from: &str, to: &str| {
        assert!(HEALTHY.contains(from), "{from}");
        HEALTHY.replace(from, to)
    };
    let cases = [
        (&ready, HEALTHY.to_owned(), State::Ok, "ready, and nothing is wrong"),
        (&waits, HEALTHY.to_owned(), State::Critical, "not ready: waits for app, cluster a"),
        (&drains, HEALTHY.to_owned(), State::Warning, "draining"),
        (&ready, changed("successful 1", "successful 0"), State::Warning, "configuration was refused"),
        (
            &ready,
            changed("\"usable\"} 2", "\"usable\"} 0"),
            State::Critical,
            "none of the 2 endpoints of cluster payments",
        ),
        (
            &ready,
            changed(
                "endpoints{sidelight_cluster=\"payments\"} 2",
                "endpoints{sidelight_cluster=\"payments\"} 0",
            ),
            State::Critical,
            "payments has no endpoint",
        ),
        (
            &ready,
            changed("stale{sidelight_cluster=\"payments\"} 0", "stale{sidelight_cluster=\"payments\"} 1"),
            State::Warning,
            "source of the endpoints",
        ),
        (&ready, changed("} 7", "} 8"), State::Warning, "payments is in panic"),
        (&ready, changed("} 500", "} 519"), State::Ok, "nothing is wrong"),
        (
            &ready,
            changed("} 1000", "} 1985").replace("} 500", "} 515"),
            State::Warning,
            "1.5% of 1000 answers",
        ),
        (
            &ready,
            changed("} 1000", "} 1080").replace("} 10\n", "} 30\n"),
            State::Critical,
            "20.0% of 100 answers",
        ),
        (
            &ready,
            changed("\"requests\"} 0", "\"requests\"} 1"),
            State::Warning,
            "open breakers: requests of payments",
        ),
        (&ready, changed("} 3", "} 1e5"), State::Warning, "100000 events wait for the sink file"),
        (&ready, changed("} 3", "} 1000000"), State::Critical, "events wait"),
        (&ready, changed("} 9", "} 10"), State::Warning, "1 events were lost"),
        (&ready, changed("} 9", "} 2000"), State::Critical, "1991 events were lost"),
        (&ready, changed("} 9", "} 5"), State::Warning, "5 events were lost"),
        (
            &ready,
            changed("up{sink=\"file\"} 1", "up{sink=\"file\"} 0"),
            State::Warning,
            "the sink file is down",
        ),
        (&ready, changed("in_memory 0", "in_memory 1"), State::Warning, "wait in memory"),
        (&ready, changed("errors_total 2", "errors_total 3"), State::Warning, "1 writes of the spool failed"),
        (&ready, changed("step 0", "step 1"), State::Warning, "overload step 1"),
        (&ready, changed("step 0", "step 3"), State::Critical, "overload step 3"),
        (&ready, String::new(), State::Ok, "nothing is wrong"),
    ];
    for (ready, now, state, said) in cases {
        let report = check().judge(ready, &Page::read(HEALTHY), &Page::read(&now));
        assert_eq!(report.state(), state, "{said}: {}", report.line());
        assert!(report.line().contains(said), "{said}: {}", report.line());
        assert_eq!(report.line().lines().count(), 1);
    }
}

#[test]
fn the_line_is_what_a_monitor_reads() {
    let ready = json!({ "ready": true, "pending": [] });
    let (page, now) = (Page::read(HEALTHY), HEALTHY.replace("} 1000", "} 1100").replace("payments", "a|b"));
    let report = check().judge(&ready, &page, &Page::read(&now));
    assert_eq!(
        report.line(),
        "SIDELIGHT WARNING - checkout: cluster a b is in panic | clusters=1;;;0 requests=100;;;0 \
         errors=0%;1;5;0 breakers_open=0;1;5;0 queued=3;100000;1000000;0 dropped=0;1;1000;0 overload=0;1;2;0"
    );
    assert_eq!([State::Ok, State::Warning, State::Critical, State::Unknown].map(State::exit), [0, 1, 2, 3]);
}

#[test]
fn samples_are_read_as_they_are_written() {
    let page = Page::read("a{x=\"q\\\"b\\\\c\\nd\",y=\"}\"} 1.5 1700\na 2\n# a 3\nb{x=\"\na{x= 4\nc NaN\n\n");
    assert_eq!(page.sum("a"), Some(3.5));
    assert_eq!(page.of("a").next().unwrap().label("x"), "q\"b\\c\nd");
    assert_eq!((page.sum("b"), page.sum_where("a", |_| false)), (None, Some(0.0)));
}

/// Answers one request with these bytes, then waits for the other side to go.
fn server(answer: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(answer);
        if answer.is_empty() {
            let _ = stream.read(&mut [0; 16]);
        }
    });
    address
}

#[test]
fn what_is_no_whole_answer_is_an_error_within_the_timeout() {
    for (answer, want) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"[..], None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", Some("not sidelight's")),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\nok", Some("not sidelight's")),
        (b"SSH-2.0-OpenSSH\r\n", Some("not sidelight's")),
        (b"", Some("no answer within")),
    ] {
        let at = Instant::now();
        let client = Client::new(server(answer), Duration::from_millis(300)).with_token("t");
        let got = client.get("/ready", "*/*");
        match want {
            None => assert_eq!(got.unwrap().content, b"ok"),
            Some(want) => {
                assert!(got.as_ref().is_err_and(|problem| problem.contains(want)), "{want}: {got:?}")
            }
        }
        assert!(at.elapsed() < Duration::from_secs(3));
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let got = Client::new(nobody, Duration::from_secs(1)).post("/drain", "");
    assert!(got.unwrap_err().contains("is sidelight running?"));
    let split = Client::new(nobody, Duration::from_secs(1)).with_token("a\r\nx: y").post("/drain", "");
    assert!(split.is_err());
}
