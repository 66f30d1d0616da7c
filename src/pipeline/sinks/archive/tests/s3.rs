use super::super::super::fixture::{Asked, Server};
use super::super::super::sigv4::{self, Keys, Request, Scope};
use super::super::s3::S3;
use super::*;
use std::sync::Mutex;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "temp0rary/token==";

/// A directory with the files of a key, and the configuration that names them.
fn with_key(endpoint: &str, secret: &str) -> (tempfile::TempDir, S3Config) {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("secret"), secret).unwrap();
    std::fs::write(files.path().join("token"), TOKEN).unwrap();
    let config = S3Config {
        bucket: "logs".into(),
        region: "eu-central-1".into(),
        endpoint: Some(endpoint.into()),
        prefix: "/mesh events/".into(),
        path_style: None,
        access_key_id: Some("AKID".into()),
        secret_access_key_file: Some(files.path().join("secret")),
        session_token_file: Some(files.path().join("token")),
        tls: None,
    };
    (files, config)
}

/// What S3 says to a request: it knows the secret, and computes the signature from what it received.
fn judge(asked: &Asked) -> (u16, String) {
    let denied = |why: &str| {
        (
            403,
            format!(
                "<?xml version=\"1.0\"?>\n<Error><Code>SignatureDoesNotMatch</Code><Message>{why}</Message></Error>"
            ),
        )
    };
    let keys = Keys::find(None, None, None, Path::new("/"), |name| match name {
        "AWS_ACCESS_KEY_ID" => Some("AKID".to_owned()),
        "AWS_SECRET_ACCESS_KEY" => Some(SECRET.to_owned()),
        _ => None,
    })
    .unwrap();
    let given = asked.header("authorization").unwrap_or_default();
    let Some((_, names)) = given.split_once("SignedHeaders=") else { return denied("no signature") };
    let names: Vec<&str> = names.split(',').next().unwrap().split(';').collect();
    for needed in ["host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"] {
        if !names.contains(&needed) {
            return denied(&format!("{needed} is not signed"));
        }
    }
    let headers: Vec<(&str, &str)> =
        names.iter().map(|name| (*name, asked.header(name).unwrap_or_default())).collect();
    let content = sigv4::sha256(&asked.body);
    let request = Request {
        method: &asked.method,
        path: &asked.target,
        query: "",
        headers: &headers,
        content: &content,
    };
    let scope = Scope { region: "eu-central-1", service: "s3" };
    let date = asked.header("x-amz-date").unwrap_or_default();
    if asked.header("x-amz-security-token") != Some(TOKEN) {
        return denied("another token");
    }
    if asked.header("x-amz-content-sha256") != Some(content.as_str()) {
        return denied("another content");
    }
    if sigv4::authorization(&request, scope, &keys, date) != given {
        return denied("another secret");
    }
    (200, String::new())
}

#[test]
fn events_are_delivered_when_the_bucket_has_them() {
    let server = Server::start(|_, asked| judge(asked));
    let (_files, s3) = with_key(&server.url(), SECRET);
    let mut archive = open(&Config { s3: Some(s3), ..Config::default() });
    let mut feed = Feed::new();
    let events: Vec<String> = (1..=4).map(|number| event(number, "exchange", 7 + number % 2)).collect();
    for event in &events {
        feed.push(event);
    }
    feed.drive(&mut archive, 2).unwrap();
    assert_eq!((feed.settled(), server.asked().len()), (0, 0));
    feed.settle(archive.close(soon())).unwrap();
    assert_eq!(feed.settled(), 4);

    let asked = server.asked();
    let folder = "/logs/mesh%20events/service%3Dcheck%2520out/kind%3Dexchange/date%3D2025-01-01";
    let targets: Vec<&str> = asked.iter().map(|asked| asked.target.as_str()).collect();
    assert_eq!(
        targets,
        [8, 7].map(|hour| format!("{folder}/hour%3D0{hour}/host_1-77-{}.ndjson.zst", 9 - hour)),
        "one request for each file, in the order of their first events"
    );
    assert!(asked.iter().all(|asked| asked.method == "PUT"));
    assert_eq!(lines(&asked[0].body), [events[0].clone(), events[2].clone()]);
    assert_eq!(lines(&asked[1].body), [events[1].clone(), events[3].clone()]);
}

/// A process that ends has seconds, not minutes, and does not ask again.
#[test]
fn every_file_is_put_at_the_end_in_whatever_time_is_left() {
    let server = Server::start(|_, asked| judge(asked));
    let (_files, s3) = with_key(&server.url(), SECRET);
    let mut archive = open(&Config { s3: Some(s3), ..Config::default() });
    let mut feed = Feed::new();
    for number in 1..=5 {
        feed.push(&event(number, "exchange", number));
    }
    feed.drive(&mut archive, 5).unwrap();
    feed.settle(archive.close(std::time::Instant::now() + Duration::from_secs(5))).unwrap();
    assert_eq!((feed.settled(), server.asked().len()), (5, 5));
}

#[test]
fn a_bucket_that_fails_is_tried_again_and_gets_every_event_once() {
    let answers = [
        (503, "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"),
        (
            404,
            "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchBucket</Code><Message>The bucket\u{1b}[2J does not exist</Message></Error>",
        ),
        (403, "<Error><Code>AccessDenied</Code></Error>"),
        (301, "moved"),
    ];
    let server = Server::start(move |number, asked| match answers.get(number) {
        Some((status, body)) => (*status, (*body).to_owned()),
        None => judge(asked),
    });
    let (_files, s3) = with_key(&server.url(), SECRET);
    let line = event(1, "exchange", 7).len() + 1;
    let mut archive = open(&Config { s3: Some(s3), file_bytes_max: 3 * line, ..Config::default() });
    let mut feed = Feed::new();
    for number in 1..=8 {
        feed.push(&event(number, "exchange", 7));
    }
    for want in [
        "bucket logs: status 503: SlowDown: Please reduce your request rate.",
        "bucket logs: status 404: NoSuchBucket: The bucket[2J does not exist",
        "bucket logs: status 403: AccessDenied",
        "bucket logs: status 301: moved",
    ] {
        assert_eq!(reason(feed.drive(&mut archive, 4)), want);
        assert_eq!(feed.settled(), 0);
    }
    feed.drive(&mut archive, 4).unwrap();
    assert_eq!(feed.settled(), 6);
    feed.settle(archive.close(soon())).unwrap();
    assert_eq!(feed.settled(), 8);
    let stored: Vec<Vec<u8>> = server.asked().split_off(4).into_iter().map(|asked| asked.body).collect();
    assert_eq!(numbers(&stored), (1..=8).collect::<Vec<_>>());
}

#[test]
fn a_key_that_was_replaced_is_read_again() {
    let server = Server::start(|_, asked| judge(asked));
    let (files, s3) = with_key(&server.url(), "of-yesterday");
    let mut archive = open(&Config { s3: Some(s3), ..Config::default() });
    let mut feed = Feed::new();
    feed.push(&event(1, "exchange", 7));
    feed.drive(&mut archive, 4).unwrap();
    let told = reason(feed.settle(archive.close(soon())));
    assert!(told.contains("SignatureDoesNotMatch: another secret"), "{told}");
    assert!(!told.contains("of-yesterday"));
    std::fs::write(files.path().join("secret"), SECRET).unwrap();
    // The first that is refused makes it read the file.
    let _ = feed.settle(archive.idle(soon()));
    feed.settle(archive.idle(soon())).unwrap();
    // It was put before the spool had given it again.
    feed.drive(&mut archive, 4).unwrap();
    assert_eq!(feed.settled(), 1);
    let put = server.asked().iter().filter(|asked| judge(asked).0 == 200).count();
    assert_eq!(put, 1, "and is not put again");
}

#[test]
fn a_bucket_that_is_away_holds_a_bounded_part_of_the_events() {
    let is_away = std::sync::Arc::new(Mutex::new(true));
    let away = std::sync::Arc::clone(&is_away);
    let server = Server::start(
        move |_, asked| if *away.lock().unwrap() { (500, String::new()) } else { judge(asked) },
    );
    let (_files, s3) = with_key(&server.url(), SECRET);
    let line = event(1, "exchange", 7).len() + 1;
    let mut archive = open(&Config { s3: Some(s3), file_bytes_max: 10 * line, ..Config::default() });
    let mut feed = Feed::new();
    for number in 1..=1000 {
        feed.push(&event(number, "exchange", 7));
    }
    for _ in 0..50 {
        let told = reason(feed.drive(&mut archive, 100));
        assert!(told.contains("status 500"), "{told}");
        assert!(
            archive.ready.len() <= 10,
            "{} files wait: more was taken while none went away",
            archive.ready.len()
        );
    }
    *is_away.lock().unwrap() = false;
    feed.drive(&mut archive, 100).unwrap();
    assert_eq!(feed.settled(), 1000);
    let asked = server.asked();
    let stored: BTreeMap<&str, Vec<u8>> =
        asked.iter().map(|asked| (asked.target.as_str(), asked.body.clone())).collect();
    assert_eq!(stored.len(), 100);
    assert_eq!(numbers(stored.values()), (1..=1000).collect::<Vec<_>>());
}

#[test]
fn a_bucket_stands_in_the_path_or_in_the_host() {
    let rows = [
        (Some("http://minio:9000"), None, "minio:9000", "/logs/mesh%20events/"),
        (Some("http://minio:9000/s3/"), Some(true), "minio:9000", "/s3/logs/mesh%20events/"),
        (Some("http://minio:9000"), Some(false), "logs.minio:9000", "/mesh%20events/"),
    ];
    for (endpoint, path_style, authority, base) in rows {
        let (_files, mut config) = with_key("", SECRET);
        (config.endpoint, config.path_style) = (endpoint.map(str::to_owned), path_style);
        let s3 = S3::new(&config, Path::new("/")).unwrap();
        assert_eq!(s3.place(), (authority, base));
    }
}
