//! Several sources of one cluster, sources that push, and what is put on record.

use super::*;
use crate::cluster::{Journal, Settings};

/// Written endpoints and DNS.
fn listed_and_dns(endpoints: &[&str], server: &NameServer) -> Config {
    Config { discovery: by_dns(server, "pay.test", RecordType::A).discovery, ..listed(endpoints) }
}

#[tokio::test]
async fn what_is_written_and_what_is_discovered_are_merged() {
    let server = NameServer::start().await;
    server.has_a("pay.test", &[[127, 0, 0, 1], [127, 0, 0, 2]]);
    let mut config = listed_and_dns(&["127.0.0.2:8080", "127.0.0.7:8080"], &server);
    config.endpoints[0].weight = 5;
    let (cluster, running) = started(&config, Path::new("/"));
    assert_eq!(addresses(&cluster), ["127.0.0.2:8080", "127.0.0.7:8080"], "there on return");
    assert!(running.first().await);
    assert_eq!(addresses(&cluster), ["127.0.0.2:8080", "127.0.0.7:8080", "127.0.0.1:8080"]);
    assert_eq!(cluster.endpoints().endpoints[0].weight, 5, "of the same address, what is written counts");
    let kept = cluster.endpoints().endpoints[0].id;

    server.has_a("pay.test", &[[127, 0, 0, 3]]);
    until_addresses(&cluster, &["127.0.0.2:8080", "127.0.0.7:8080", "127.0.0.3:8080"]).await;
    assert_eq!(cluster.endpoints().endpoints[0].id, kept);
    server.says("pay.test", rr::RecordType::A, Err(ResponseCode::ServFail));
    until(&cluster, |cluster| stale(cluster).is_some()).await;
    assert_eq!(addresses(&cluster).len(), 3, "all of them stay");
}

#[tokio::test]
async fn what_is_written_serves_while_discovery_never_answers() {
    let server = NameServer::start().await;
    let (cluster, running) = started(&listed_and_dns(&["127.0.0.7:8080"], &server), Path::new("/"));
    assert!(!running.first().await, "not all sources are good");
    assert_eq!(addresses(&cluster), ["127.0.0.7:8080"]);
    assert!(stale(&cluster).unwrap().contains("NXDOMAIN"));
    server.has_a("pay.test", &[[127, 0, 0, 1]]);
    until_addresses(&cluster, &["127.0.0.7:8080", "127.0.0.1:8080"]).await;
    assert_eq!(stale(&cluster), None);
}

#[tokio::test]
async fn a_source_that_is_started_anew_as_it_fails_takes_nothing_away() {
    let server = NameServer::start().await;
    server.has_a("pay.test", &[[127, 0, 0, 1], [127, 0, 0, 2]]);
    let (cluster, running) = started(&by_dns(&server, "pay.test", RecordType::A), Path::new("/"));
    assert!(running.first().await);
    let kept = cluster.endpoints().endpoints[0].id;
    drop(running);
    server.says("pay.test", rr::RecordType::A, Err(ResponseCode::ServFail));
    let config = listed_and_dns(&["127.0.0.7:8080"], &server);
    let running = start(&config, Arc::clone(&cluster), Path::new("/"), &Handle::current());
    assert_eq!(addresses(&cluster), ["127.0.0.7:8080", "127.0.0.1:8080", "127.0.0.2:8080"]);
    assert!(!running.first().await);
    assert_eq!(addresses(&cluster).len(), 3);
    assert_eq!(cluster.endpoints().endpoints[1].id, kept);
    server.has_a("pay.test", &[[127, 0, 0, 2]]);
    until_addresses(&cluster, &["127.0.0.7:8080", "127.0.0.2:8080"]).await;
}

/// A source that is told, as a watch or a stream is.
struct Told(tokio::sync::mpsc::Receiver<Found>);

impl Discover for Told {
    async fn next(&mut self) -> Option<Found> {
        self.0.recv().await
    }
}

fn found(ports: &[u16]) -> Found {
    let target = |port: &u16| Target::new(SocketAddr::from(([127, 0, 0, 1], *port)));
    Found { targets: ports.iter().map(target).collect(), ..Found::default() }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_told_passes_on_what_it_hears_at_once() {
    let (cluster, (news, receiver)) = (cluster(), tokio::sync::mpsc::channel(1));
    let (feed, first) = Feed::new(Arc::clone(&cluster), 1);
    let task = tokio::spawn(async move { run(Told(receiver), 0, &Mutex::new(feed)).await });
    let begin = tokio::time::Instant::now();
    news.send(found(&[1, 2])).await.unwrap();
    until_addresses(&cluster, &["127.0.0.1:1", "127.0.0.1:2"]).await;
    assert_eq!(*first.borrow(), Some(true));
    news.send(Found::nothing("the stream broke".into())).await.unwrap();
    until(&cluster, |cluster| stale(cluster).is_some()).await;
    assert_eq!(addresses(&cluster).len(), 2);
    news.send(found(&[])).await.unwrap();
    until_addresses(&cluster, &[]).await;
    assert_eq!(stale(&cluster), None, "a whole answer, even an empty one, is meant");
    assert!(begin.elapsed() < Duration::from_secs(1), "no schedule stands between");
    drop(news);
    task.await.unwrap();
}

/// What was put on record about a cluster that got these answers.
fn on_record(answers: Vec<Found>) -> Vec<String> {
    let (journal, mut changes) = Journal::new();
    let settings = Settings::of(&Config::default(), "");
    let cluster = Arc::new(Cluster::new("c", settings, None, journal));
    let (mut feed, _first) = Feed::new(cluster, 1);
    answers.into_iter().for_each(|answer| feed.take(0, answer));
    drop(feed);
    std::iter::from_fn(|| changes.try_recv().ok())
        .map(|change| format!("{:?}", change.what).split([' ', '{']).next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn each_change_is_put_on_record_once() {
    let partly = |ports: &[u16]| Found { problem: Some("AAAA: SERVFAIL".into()), ..found(ports) };
    assert_eq!(on_record(vec![found(&[1]), found(&[1]), found(&[1, 2])]), ["EndpointsChanged"]);
    let bad = || Found::nothing("SERVFAIL".into());
    assert_eq!(on_record(vec![found(&[1]), bad(), bad(), found(&[1])]), ["Stale", "Fresh"]);
    assert_eq!(
        on_record(vec![found(&[1]), partly(&[1]), partly(&[1, 2]), partly(&[2])]),
        ["Stale", "EndpointsChanged", "EndpointsChanged"],
        "endpoints that change while a part of the source fails are no recovery"
    );
}
