use super::*;
use crate::cluster::Endpoint;
use crate::cluster::config::{Dns, File, RecordType};
use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
use hickory_resolver::proto::rr::{self, RData, Record};
use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Mutex;
use tokio::net::UdpSocket;

mod merged;

/// What a name server says of a name and a type: records with their time to live, or an error.
type Zone = HashMap<(String, rr::RecordType), Result<Vec<(u32, RData)>, ResponseCode>>;

/// A name server on loopback.
struct NameServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    task: JoinHandle<()>,
}

impl NameServer {
    async fn start() -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, zone) = (socket.local_addr().unwrap(), Arc::<Mutex<Zone>>::default());
        let task = tokio::spawn(serve(socket, Arc::clone(&zone)));
        NameServer { address, zone, task }
    }

    fn says(&self, name: &str, kind: rr::RecordType, answer: Result<Vec<(u32, RData)>, ResponseCode>) {
        self.zone.lock().unwrap().insert((format!("{name}."), kind), answer);
    }

    fn has_a(&self, name: &str, ips: &[[u8; 4]]) {
        let records = ips.iter().map(|ip| (1, RData::A(A(Ipv4Addr::from(*ip))))).collect();
        self.says(name, rr::RecordType::A, Ok(records));
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 4096];
    loop {
        let (len, peer) = socket.recv_from(&mut buffer).await.unwrap();
        let question = Message::from_vec(&buffer[..len]).unwrap();
        let query = question.queries[0].clone();
        let key = (query.name().to_utf8().to_ascii_lowercase(), query.query_type());
        let mut answer = Message::response(question.metadata.id, OpCode::Query);
        answer.add_query(query.clone());
        match zone.lock().unwrap().get(&key) {
            None => answer.metadata.response_code = ResponseCode::NXDomain,
            Some(Err(code)) => answer.metadata.response_code = *code,
            Some(Ok(records)) => {
                let record =
                    |(ttl, data): &(u32, RData)| Record::from_rdata(query.name().clone(), *ttl, data.clone());
                answer.add_answers(records.iter().map(record));
            }
        }
        socket.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
    }
}

fn cluster() -> Arc<Cluster> {
    Arc::new(Cluster::plain("c", &Config::default()))
}

fn listed(endpoints: &[&str]) -> Config {
    let endpoint = |text: &&str| crate::units::HostPort::into(text.parse().unwrap());
    Config { endpoints: endpoints.iter().map(endpoint).collect(), ..Config::default() }
}

fn by_dns(server: &NameServer, name: &str, record_type: RecordType) -> Config {
    let dns = Dns {
        name: name.into(),
        port: (record_type != RecordType::Srv).then_some(8080),
        record_type,
        server: Some(server.address),
        refresh: None,
    };
    Config { discovery: Some(Discovery::Dns(dns)), ..Config::default() }
}

fn by_file(path: &str) -> Config {
    Config { discovery: Some(Discovery::File(File { path: path.into() })), ..Config::default() }
}

fn started(config: &Config, base_dir: &Path) -> (Arc<Cluster>, Running) {
    let cluster = cluster();
    let running = start(config, Arc::clone(&cluster), base_dir, &Handle::current());
    (cluster, running)
}

fn addresses(cluster: &Cluster) -> Vec<String> {
    cluster.endpoints().endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

fn stale(cluster: &Cluster) -> Option<String> {
    cluster.endpoints().stale.as_deref().map(str::to_owned)
}

/// Waits until the cluster is as described; what it is after 20 s is the failure's message.
async fn until(cluster: &Cluster, is_so: impl Fn(&Cluster) -> bool) {
    let looks = async {
        while !is_so(cluster) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(20), looks).await.is_err() {
        panic!("still {:?}, stale {:?}", addresses(cluster), stale(cluster));
    }
}

async fn until_addresses(cluster: &Cluster, expected: &[&str]) {
    until(cluster, |cluster| addresses(cluster) == expected).await;
}

#[tokio::test]
async fn fixed_addresses_are_there_at_once() {
    let mut config = listed(&["10.0.0.7:8080", "localhost:81", "[::1]:82"]);
    config.endpoints[0].weight = 5;
    config.endpoints[0].zone = "a".into();
    config.endpoints[0].labels = BTreeMap::from([("tier".to_owned(), "gold".to_owned())]);
    let (cluster, running) = started(&config, Path::new("/"));
    assert_eq!(addresses(&cluster), ["10.0.0.7:8080", "127.0.0.1:81", "[::1]:82"]);
    let first: Arc<Endpoint> = Arc::clone(&cluster.endpoints().endpoints[0]);
    assert_eq!((first.weight, first.zone.as_deref(), &*first.name), (5, Some("a"), "10.0.0.7:8080"));
    assert_eq!(first.labels["tier"], "gold");
    assert!(running.first().await);
    assert!(!running.is_polling());
}

#[tokio::test]
async fn an_address_list_with_itself_twice_is_one_endpoint() {
    let (cluster, _running) = started(&listed(&["10.0.0.7:80", "10.0.0.7:80"]), Path::new("/"));
    assert_eq!(addresses(&cluster), ["10.0.0.7:80"]);
}

#[tokio::test]
async fn a_records_are_followed_at_their_time_to_live() {
    let server = NameServer::start().await;
    server.has_a("pay.test", &[[127, 0, 0, 2], [127, 0, 0, 1]]);
    let (cluster, running) = started(&by_dns(&server, "pay.test", RecordType::A), Path::new("/"));
    assert!(running.first().await);
    assert_eq!(addresses(&cluster), ["127.0.0.1:8080", "127.0.0.2:8080"], "in an order of our own");
    assert_eq!(&*cluster.endpoints().endpoints[0].name, "pay.test:8080");
    let kept = cluster.endpoints().endpoints[1].id;
    server.has_a("pay.test", &[[127, 0, 0, 3], [127, 0, 0, 2]]);
    until_addresses(&cluster, &["127.0.0.2:8080", "127.0.0.3:8080"]).await;
    assert_eq!(cluster.endpoints().endpoints[0].id, kept);
    assert!(running.is_polling());
}

#[tokio::test]
async fn both_families_are_joined_and_one_is_enough() {
    let server = NameServer::start().await;
    server.has_a("pay.test", &[[127, 0, 0, 1]]);
    let (cluster, running) = started(&by_dns(&server, "pay.test", RecordType::Auto), Path::new("/"));
    assert!(running.first().await);
    assert_eq!((addresses(&cluster), stale(&cluster)), (vec!["127.0.0.1:8080".to_owned()], None));
    server.says(
        "pay.test",
        rr::RecordType::AAAA,
        Ok(vec![(1, RData::AAAA(AAAA(std::net::Ipv6Addr::LOCALHOST)))]),
    );
    until_addresses(&cluster, &["127.0.0.1:8080", "[::1]:8080"]).await;
    server.says("pay.test", rr::RecordType::AAAA, Err(ResponseCode::ServFail));
    until(&cluster, |cluster| stale(cluster).is_some()).await;
    assert_eq!(
        addresses(&cluster),
        ["127.0.0.1:8080", "[::1]:8080"],
        "the family that fails keeps its address"
    );
}

/// An answer that is no good.
async fn keeps_the_last_good_answer(failure: Result<Vec<(u32, RData)>, ResponseCode>, reason: &str) {
    let server = NameServer::start().await;
    server.has_a("pay.test", &[[127, 0, 0, 1]]);
    let (cluster, running) = started(&by_dns(&server, "pay.test", RecordType::A), Path::new("/"));
    assert!(running.first().await);
    server.says("pay.test", rr::RecordType::A, failure);
    until(&cluster, |cluster| stale(cluster).is_some()).await;
    let why = stale(&cluster).unwrap();
    assert!(why.contains("pay.test A") && why.contains(reason), "{why}");
    assert_eq!(addresses(&cluster), ["127.0.0.1:8080"]);
    server.has_a("pay.test", &[[127, 0, 0, 2]]);
    until_addresses(&cluster, &["127.0.0.2:8080"]).await;
    assert_eq!(stale(&cluster), None);
}

#[tokio::test]
async fn the_last_good_answer_is_kept_whatever_dns_says() {
    tokio::join!(
        keeps_the_last_good_answer(Err(ResponseCode::ServFail), "SERVFAIL"),
        keeps_the_last_good_answer(Err(ResponseCode::Refused), "REFUSED"),
        keeps_the_last_good_answer(Err(ResponseCode::NXDomain), "NXDOMAIN"),
        keeps_the_last_good_answer(Ok(vec![]), "no such records"),
    );
}

#[tokio::test]
async fn a_first_failure_is_an_answer_and_is_tried_again() {
    let server = NameServer::start().await;
    let (cluster, running) = started(&by_dns(&server, "pay.test", RecordType::A), Path::new("/"));
    assert!(!running.first().await);
    assert!(stale(&cluster).unwrap().contains("NXDOMAIN"));
    server.has_a("pay.test", &[[127, 0, 0, 1]]);
    until_addresses(&cluster, &["127.0.0.1:8080"]).await;
}

#[tokio::test]
async fn srv_records_bring_ports_weights_and_priorities() {
    let server = NameServer::start().await;
    let srv = |priority, weight, port, host: &str| {
        (1, RData::SRV(SRV::new(priority, weight, port, rr::Name::from_ascii(host).unwrap())))
    };
    let records = vec![
        srv(500, 9, 9004, "far.test."),
        srv(10, 3, 9001, "a.test."),
        srv(20, 9, 9003, "spare.test."),
        srv(10, 0, 9002, "b.test."),
    ];
    server.says("_pay._tcp.test", rr::RecordType::SRV, Ok(records));
    for (host, last) in [("a.test", 1), ("b.test", 2), ("spare.test", 3), ("far.test", 4)] {
        server.has_a(host, &[[127, 0, 0, last]]);
    }
    let (cluster, running) = started(&by_dns(&server, "_pay._tcp.test", RecordType::Srv), Path::new("/"));
    assert!(running.first().await, "{:?}", stale(&cluster));
    let first = ["127.0.0.1:9001", "127.0.0.2:9002", "127.0.0.3:9003", "127.0.0.4:9004"];
    assert_eq!(addresses(&cluster), first);
    let of = |of: fn(&Endpoint) -> u32| -> Vec<u32> {
        cluster.endpoints().endpoints.iter().map(|endpoint| of(endpoint)).collect()
    };
    assert_eq!(of(|endpoint| endpoint.weight), [3, 1, 9, 9], "a weight of 0 is a small one");
    assert_eq!(of(|endpoint| endpoint.priority), [0, 0, 1, 2], "only the rank of a priority counts");
    assert_eq!(&*cluster.endpoints().endpoints[0].name, "a.test:9001");

    server.says("a.test", rr::RecordType::A, Err(ResponseCode::ServFail));
    server.has_a("b.test", &[[127, 0, 0, 9]]);
    until(&cluster, |cluster| addresses(cluster)[1] == "127.0.0.9:9002").await;
    assert_eq!(addresses(&cluster)[0], "127.0.0.1:9001", "a host that fails keeps its address");
    until(&cluster, |cluster| stale(cluster).is_some()).await;
    server.says("_pay._tcp.test", rr::RecordType::SRV, Ok(vec![srv(0, 0, 0, ".")]));
    until(&cluster, |cluster| stale(cluster).is_some_and(|why| why.contains("not available"))).await;
    assert_eq!(addresses(&cluster).len(), 4);
}

#[tokio::test]
async fn dropping_it_stops_the_look_ups() {
    let server = NameServer::start().await;
    server.has_a("pay.test", &[[127, 0, 0, 1]]);
    let (cluster, running) = started(&by_dns(&server, "pay.test", RecordType::A), Path::new("/"));
    assert!(running.first().await);
    drop(running);
    // The task held the other reference to the cluster.
    until(&cluster, |_| Arc::strong_count(&cluster) == 1).await;
    assert_eq!(addresses(&cluster), ["127.0.0.1:8080"]);
}

/// Replaces a file as `mv` does.
fn replace(path: &PathBuf, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}

#[tokio::test]
async fn a_file_is_followed_and_a_broken_one_keeps_the_last_good_list() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("eps.yaml");
    replace(
        &path,
        "endpoints:\n  - 10.0.0.1:80\n  - { address: '10.0.0.2:80', weight: 3, zone: a, priority: 1, labels: { v: v2 } }\n",
    );
    let (cluster, running) = started(&by_file("eps.yaml"), dir.path());
    assert!(running.first().await, "{:?}", stale(&cluster));
    assert_eq!(addresses(&cluster), ["10.0.0.1:80", "10.0.0.2:80"]);
    let second = Arc::clone(&cluster.endpoints().endpoints[1]);
    assert_eq!((second.weight, second.priority, second.zone.as_deref()), (3, 1, Some("a")));
    assert_eq!(second.labels["v"], "v2");

    replace(&path, "endpoints:\n  - 10.0.0.1:80\n  - nonsense\n");
    until(&cluster, |cluster| stale(cluster).is_some()).await;
    let why = stale(&cluster).unwrap();
    assert!(why.contains("eps.yaml:3:5: ") && !why.contains("line 3"), "{why}");
    assert_eq!(addresses(&cluster).len(), 2);

    std::fs::remove_file(&path).unwrap();
    until(&cluster, |cluster| stale(cluster).is_some_and(|why| why.contains("No such file"))).await;
    assert_eq!(addresses(&cluster).len(), 2);

    replace(&path, "[\"10.0.0.3:80\", localhost:81]\n");
    until_addresses(&cluster, &["10.0.0.3:80", "127.0.0.1:81"]).await;
    assert_eq!(stale(&cluster), None);
    replace(&path, "endpoints: []\n");
    until_addresses(&cluster, &[]).await;
}

#[tokio::test]
async fn a_linked_file_is_followed_when_the_link_is_swapped() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (version, text) in
        [("v1", r#"{"endpoints": ["10.0.0.1:80"]}"#), ("v2", r#"{"endpoints": ["10.0.0.2:80"]}"#)]
    {
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("eps.json"), text).unwrap();
    }
    std::os::unix::fs::symlink("v1", at("data")).unwrap();
    std::os::unix::fs::symlink("data/eps.json", at("eps.json")).unwrap();
    let (cluster, running) = started(&by_file("eps.json"), dir.path());
    assert!(running.first().await);
    assert_eq!(addresses(&cluster), ["10.0.0.1:80"]);
    std::os::unix::fs::symlink("v2", at("swap")).unwrap();
    std::fs::rename(at("swap"), at("data")).unwrap();
    until_addresses(&cluster, &["10.0.0.2:80"]).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_file_is_told_with_its_place() {
    for (name, text, expected) in [
        ("e.yaml", "", "e.yaml:1: the file is empty"),
        ("e.yaml", "endpoints: [\n", "e.yaml:"),
        ("e.yaml", "endpoint: []\n", "e.yaml:1:1: "),
        (
            "e.yaml",
            "endpoints: ['10.0.0.1:80', {address: '10.0.0.2:80', weight: 0}]",
            "weight 0 is not between",
        ),
        (
            "e.yaml",
            "endpoints: [{address: '10.0.0.2:80', priority: 16}]",
            "priority 16 is not between 0 and 15",
        ),
        ("e.json", "{\"endpoints\": [\n\"10.0.0.1\"]}", "e.json:2:10: "),
        ("e.json", "{", "e.json:1:1: EOF"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(name), text).unwrap();
        let (cluster, running) = started(&by_file(name), dir.path());
        assert!(!running.first().await);
        let why = stale(&cluster).unwrap();
        assert!(why.contains(expected) && !why.contains('\n'), "{text:?}: {why}");
    }
}
