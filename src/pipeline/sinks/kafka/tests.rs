//! The sink and librdkafka's own brokers: what a consumer reads back.

use super::{Config, Kafka};
use crate::pipeline::sinks::kit::{batch, event, exchanges, in_time, retry, service, wait_for, within};
use crate::pipeline::sinks::sink::{Failure, Sent, Sink};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

const PARTITIONS: i32 = 4;

/// Brokers with these topics.
fn brokers(topics: &[&str]) -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).unwrap();
    topics.iter().for_each(|topic| cluster.create_topic(topic, PARTITIONS, 1).unwrap());
    cluster
}

fn config(cluster: &MockCluster<'static, DefaultProducerContext>) -> Config {
    let brokers = cluster.bootstrap_servers();
    serde_json::from_value(serde_json::json!({
        "brokers": brokers.split(',').collect::<Vec<_>>(),
        // So that a test need not wait until it is tried again.
        "options": {"reconnect.backoff.ms": "10", "reconnect.backoff.max.ms": "50", "retry.backoff.ms": "20"},
    }))
    .unwrap()
}

fn sink(config: &Config) -> Kafka {
    Kafka::new(config, &service(), Path::new(".")).unwrap()
}

/// A record as a consumer has it.
#[derive(Clone, Debug, PartialEq)]
struct Read {
    partition: i32,
    key: Option<String>,
    value: String,
    headers: BTreeMap<String, String>,
    millis: Option<i64>,
}

impl Read {
    fn sequence(&self) -> u64 {
        self.headers["id"].rsplit('/').next().unwrap().parse().unwrap()
    }
}

/// Everything in a topic: reads until there are so many records and then until every partition has ended.
fn read(cluster: &MockCluster<'static, DefaultProducerContext>, topic: &str, count: usize) -> Vec<Read> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "test")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&all).unwrap();
    let (mut records, mut ended) = (Vec::new(), HashSet::new());
    wait_for(&format!("{count} records and the ends of all partitions"), || {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                ended.remove(&message.partition());
                let headers = message.headers().unwrap();
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                records.push(Read {
                    partition: message.partition(),
                    key: message.key().map(text),
                    value: text(message.payload().unwrap()),
                    headers: headers.iter().map(|h| (h.key.to_owned(), text(h.value.unwrap()))).collect(),
                    millis: message.timestamp().to_millis(),
                });
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            Some(Err(_)) | None => {}
        }
        (records.len() >= count && ended.len() == usize::try_from(PARTITIONS).unwrap()).then_some(())
    });
    records
}

fn sequences(records: &[Read]) -> Vec<u64> {
    let mut all: Vec<u64> = records.iter().map(Read::sequence).collect();
    all.sort_unstable();
    all
}

#[test]
fn a_consumer_reads_every_event_with_its_key_and_each_account_in_order() {
    let cluster = brokers(&["sidelight.events", "company.audit"]);
    let mut config = config(&cluster);
    config.topics.insert("audit".into(), "company.audit".into());
    let accounts = ["a-1", "a-2", "a-3", ""];
    let mut events: Vec<String> =
        (1..=40).map(|number| event("exchange", number, accounts[number as usize % 4])).collect();
    events.push(event("audit", 41, ""));
    let batch = batch(&events);
    assert_eq!(sink(&config).send(&batch, in_time()), Ok(Sent::all(&batch)));

    let records = read(&cluster, "sidelight.events", 40);
    assert_eq!(sequences(&records), (1..=40).collect::<Vec<_>>(), "each once");
    for record in &records {
        let number = record.sequence();
        let account = accounts[number as usize % 4];
        let key = if account.is_empty() { "0af7651916cd43dd8448eb211c80319c" } else { account };
        assert_eq!(record.key.as_deref(), Some(key), "the account, else the trace");
        assert_eq!(record.value, events[number as usize - 1]);
        assert_eq!(record.headers["schema"], "sidelight/exchange/1");
        assert_eq!(record.headers["id"], format!("checkout-1/17/{number}"));
        assert_eq!(record.headers["trace_id"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(record.millis, Some(1_767_323_045_000), "the event's time");
    }
    for account in accounts {
        let of_account: Vec<&Read> =
            records.iter().filter(|r| accounts[r.sequence() as usize % 4] == account).collect();
        assert_eq!(of_account.len(), 10);
        assert!(of_account.iter().all(|r| r.partition == of_account[0].partition), "one partition");
        assert!(of_account.is_sorted_by_key(|r| r.sequence()), "in order");
    }
    assert_eq!(sequences(&read(&cluster, "company.audit", 1)), [41]);
}

#[test]
fn brokers_that_are_away_cost_time_and_neither_loss_nor_duplicates() {
    let cluster = brokers(&["sidelight.events"]);
    let mut sink = sink(&config(&cluster));
    let first = batch(&exchanges(3));
    assert_eq!(sink.send(&first, in_time()), Ok(Sent::all(&first)));
    cluster.broker_down(1).unwrap();
    let second = crate::pipeline::sinks::kit::batch_from(4, &[4, 5].map(|n| event("exchange", n, "a")));
    for _ in 0..3 {
        let reason = retry(sink.send(&second, within(200)));
        assert!(reason.contains("not all of the batch was acknowledged in time"), "{reason}");
    }
    cluster.broker_up(1).unwrap();
    // The same events, and more behind them.
    let more = crate::pipeline::sinks::kit::batch_from(4, &[4, 5, 6].map(|n| event("exchange", n, "a")));
    assert_eq!(sink.send(&more, in_time()), Ok(Sent::all(&more)));
    let records = read(&cluster, "sidelight.events", 6);
    assert_eq!(sequences(&records), [1, 2, 3, 4, 5, 6], "each once");
    let of_account: Vec<u64> =
        records.iter().filter(|r| r.key.as_deref() == Some("a")).map(Read::sequence).collect();
    assert_eq!(of_account, [4, 5, 6], "in order");
}

#[test]
fn errors_that_pass_are_borne_without_loss() {
    use RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR__TRANSPORT as GONE, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS as FEW,
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION as MOVED, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT as LATE,
    };
    let cluster = brokers(&["sidelight.events"]);
    cluster.request_errors(RDKafkaApiKey::Produce, &[MOVED, FEW, GONE, LATE]);
    let events: Vec<String> = (1..=20).map(|number| event("exchange", number, "a")).collect();
    let batch = batch(&events);
    assert_eq!(sink(&config(&cluster)).send(&batch, in_time()), Ok(Sent::all(&batch)));
    let records = read(&cluster, "sidelight.events", 20);
    assert_eq!(records.iter().map(Read::sequence).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
}

#[test]
fn a_record_that_is_too_large_is_refused_and_the_others_arrive() {
    let cluster = brokers(&["sidelight.events"]);
    let mut config = config(&cluster);
    config.options.insert("message.max.bytes".into(), "2000".into());
    let large = event("exchange", 2, &"x".repeat(4000));
    let batch = batch(&[event("exchange", 1, ""), large, event("exchange", 3, "")]);
    let sent = sink(&config).send(&batch, in_time()).unwrap();
    assert_eq!((sent.through, sent.rejected.len()), (Some(3), 1));
    let (sequence, why) = &sent.rejected[0];
    assert!(*sequence == 2 && why.contains("too large"), "{why}");
    assert_eq!(sequences(&read(&cluster, "sidelight.events", 2)), [1, 3]);
}

#[test]
fn what_a_broker_refuses_together_is_tried_alone() {
    let cluster = brokers(&["sidelight.events"]);
    let mut sink = sink(&config(&cluster));
    let too_large = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE];
    cluster.request_errors(RDKafkaApiKey::Produce, &too_large);
    let events = [event("exchange", 1, "a"), event("exchange", 2, "a")];
    let both = sink.send(&batch(&events), in_time());
    assert!(matches!(&both, Err(Failure::Refused { reason }) if reason.contains("too large")), "{both:?}");
    // Now the first alone is refused, and the second alone is not.
    cluster.request_errors(RDKafkaApiKey::Produce, &too_large);
    let sent = sink.send(&batch(&events[..1]), in_time()).unwrap();
    assert_eq!(sent.rejected.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [1]);
    let second = crate::pipeline::sinks::kit::batch_from(2, &events[1..]);
    assert_eq!(sink.send(&second, in_time()), Ok(Sent::all(&second)));
    assert_eq!(sequences(&read(&cluster, "sidelight.events", 1)), [2]);
}

#[test]
fn a_broken_producer_is_replaced() {
    let cluster = brokers(&["sidelight.events"]);
    let mut sink = sink(&config(&cluster));
    let first = batch(&exchanges(1));
    assert_eq!(sink.send(&first, in_time()), Ok(Sent::all(&first)));
    sink.break_producer();
    let second = crate::pipeline::sinks::kit::batch_from(2, &[event("exchange", 2, "")]);
    let reason = retry(sink.send(&second, in_time()));
    assert!(reason.contains("a new one is made"), "{reason}");
    assert_eq!(sink.send(&second, in_time()), Ok(Sent::all(&second)));
    assert_eq!(sequences(&read(&cluster, "sidelight.events", 2)), [1, 2]);
}

#[test]
fn brokers_that_are_nowhere_are_named_with_the_reason() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config: Config = serde_json::from_value(serde_json::json!({"brokers": [nobody]})).unwrap();
    let mut sink = sink(&config);
    let batch = batch(&exchanges(1));
    let told = wait_for("librdkafka's complaint", || {
        let reason = retry(sink.send(&batch, within(100)));
        assert!(reason.starts_with(&nobody.to_string()), "{reason}");
        reason.contains("Connection refused").then_some(reason)
    });
    assert!(told.contains("not all of the batch was acknowledged in time ("), "{told}");
}

#[test]
fn what_would_break_the_promise_or_is_not_known_is_refused() {
    let configured = |name: &str, value: &str| {
        let config: Config =
            serde_json::from_value(serde_json::json!({"brokers": ["a:1"], "options": {name: value}}))
                .unwrap();
        Kafka::new(&config, &service(), Path::new(".")).err()
    };
    for name in [
        "acks",
        "enable.idempotence",
        "Retries",
        "message.timeout.ms",
        "transactional.id",
        "sasl.password",
        "ssl.key.password",
        "plugin.library.paths",
        "test.mock.num.brokers",
        "dr_msg_cb",
    ] {
        let error = configured(name, "1").unwrap();
        assert!(error.contains(name) && error.contains("not to be set"), "{error}");
    }
    assert!(configured("no.such.thing", "1").unwrap().contains("no.such.thing"));
    assert!(configured("linger.ms", "soon").unwrap().contains("linger.ms"));
    assert_eq!(configured("linger.ms", "50"), None);
    let topic = |topic: &str| {
        let config: Config =
            serde_json::from_value(serde_json::json!({"brokers": ["a:1"], "topic": topic})).unwrap();
        Kafka::new(&config, &service(), Path::new(".")).err()
    };
    for name in ["", "..", "a b", "a/b", &"x".repeat(250)] {
        assert!(topic(name).is_some(), "{name}");
    }
    assert_eq!(topic("a.B_c-1"), None);
    let none: Config = serde_json::from_value(serde_json::json!({"brokers": []})).unwrap();
    assert!(Kafka::new(&none, &service(), Path::new(".")).is_err());
}
