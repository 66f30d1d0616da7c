//! Events at Kafka brokers: librdkafka's own, in this process, and its consumer.

use e2e::{RawClient, Setup, Sidelight, StrictBackend, wait_for};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use std::time::Duration;

const TOPIC: &str = "sidelight.events";
const PARTITIONS: i32 = 3;

type Brokers = MockCluster<'static, DefaultProducerContext>;

fn brokers() -> Brokers {
    several(1)
}

fn several(count: i32) -> Brokers {
    let brokers = MockCluster::new(count).expect("brokers");
    brokers.create_topic(TOPIC, PARTITIONS, count).expect("a topic");
    brokers
}

/// All partitions are at this broker from now on.
fn lead(brokers: &Brokers, broker: i32) {
    for partition in 0..PARTITIONS {
        brokers.partition_leader(TOPIC, partition, Some(broker)).expect("a leader");
    }
}

fn sidecar(app: &StrictBackend, brokers: &Brokers) -> Sidelight {
    let list: Vec<String> =
        brokers.bootstrap_servers().split(',').map(|broker| format!("{broker:?}")).collect();
    let sink = format!(
        "brokers: [{}]\ntopic: {TOPIC}\noptions: {{ reconnect.backoff.ms: \"10\", reconnect.backoff.max.ms: \"100\" }}",
        list.join(", ")
    );
    Sidelight::start(&Setup::app(app.address()).sink("kafka", &sink))
}

/// Asks for these paths, for three accounts in turn; gives the proxy's own events.
fn exchange(proxy: &Sidelight, numbers: std::ops::RangeInclusive<usize>) -> Vec<Value> {
    let last = *numbers.end();
    for number in numbers {
        let request =
            format!("GET /{number} HTTP/1.1\r\nHost: a\r\nx-account-id: account-{}\r\n\r\n", number % 3);
        assert_eq!(RawClient::connect(proxy.inbound()).ask(request).expect("an answer").status, 200);
    }
    proxy.events().wait(last)
}

/// A record as a consumer has it.
struct Read {
    partition: i32,
    key: String,
    id: String,
    event: Value,
}

/// A consumer of everything.
struct Reader {
    consumer: BaseConsumer,
    exchanges: Vec<Read>,
}

impl Reader {
    fn new(brokers: &Brokers) -> Reader {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers.bootstrap_servers())
            .set("group.id", "test")
            .set("reconnect.backoff.max.ms", "100")
            .create()
            .expect("a consumer");
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            all.add_partition_offset(TOPIC, partition, Offset::Beginning).expect("a partition");
        }
        consumer.assign(&all).expect("assignment");
        Reader { consumer, exchanges: Vec::new() }
    }

    /// Reads until there are so many exchanges; gives all.
    fn exchanges(&mut self, count: usize) -> &[Read] {
        wait_for(&format!("{count} exchanges at the consumer"), || {
            if let Some(Ok(message)) = self.consumer.poll(Duration::from_millis(50)) {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
                let header = |name: &str| {
                    let headers = message.headers().expect("headers");
                    let found = headers.iter().find(|header| header.key == name);
                    text(found.and_then(|header| header.value).unwrap_or_default())
                };
                if header("schema") == "sidelight/exchange/1" {
                    let event = serde_json::from_slice(message.payload().expect("a value")).expect("JSON");
                    let key = text(message.key().unwrap_or_default());
                    self.exchanges.push(Read {
                        partition: message.partition(),
                        key,
                        id: header("id"),
                        event,
                    });
                }
            }
            (self.exchanges.len() >= count).then_some(())
        });
        &self.exchanges
    }
}

/// Every event once, as it stands in the file, each account in order within one partition.
fn assert_same(read: &[Read], events: &[Value]) {
    let number = |event: &Value| event["id"]["sequence"].as_u64();
    let mut arrived: Vec<&Value> = read.iter().map(|record| &record.event).collect();
    arrived.sort_by_key(|event| number(event));
    assert_eq!(arrived, events.iter().collect::<Vec<_>>());
    for record in read {
        let id = &record.event["id"];
        let told =
            format!("{}/{}/{}", id["instance"].as_str().expect("an instance"), id["epoch"], id["sequence"]);
        assert_eq!(
            (record.id.as_str(), record.event["account_id"].as_str()),
            (told.as_str(), Some(record.key.as_str()))
        );
    }
    for account in ["account-0", "account-1", "account-2"] {
        let of_account: Vec<&Read> = read.iter().filter(|record| record.key == account).collect();
        assert!(of_account.iter().all(|record| record.partition == of_account[0].partition), "{account}");
        assert!(of_account.is_sorted_by_key(|record| number(&record.event)), "{account} is out of order");
    }
}

#[test]
fn every_event_is_there_once_and_each_account_in_order() {
    let (app, brokers) = (StrictBackend::start(), brokers());
    let proxy = sidecar(&app, &brokers);
    let events = exchange(&proxy, 1..=30);
    assert_same(Reader::new(&brokers).exchanges(30), &events);
}

#[test]
fn brokers_that_were_away_get_everything_once() {
    let (app, brokers) = (StrictBackend::start(), brokers());
    let proxy = sidecar(&app, &brokers);
    exchange(&proxy, 1..=3);
    Reader::new(&brokers).exchanges(3);
    brokers.broker_down(1).expect("the broker is down");
    let events = exchange(&proxy, 4..=30);
    brokers.broker_up(1).expect("the broker is up");
    assert_same(Reader::new(&brokers).exchanges(30), &events);
    // Nothing comes twice when the proxy ends, either.
    proxy.stop();
    assert_same(Reader::new(&brokers).exchanges(30), &events);
}

#[test]
fn a_broker_that_moves_is_followed() {
    let (app, brokers) = (StrictBackend::start(), several(2));
    lead(&brokers, 1);
    let proxy = sidecar(&app, &brokers);
    exchange(&proxy, 1..=9);
    Reader::new(&brokers).exchanges(9);
    // Led elsewhere while the old broker still answers; then that one is gone.
    lead(&brokers, 2);
    exchange(&proxy, 10..=18);
    brokers.broker_down(1).expect("the broker is down");
    let events = exchange(&proxy, 19..=27);
    wait_for("all at the other broker", || {
        let [produced, delivered, ..] = proxy.books("kafka")?;
        (produced == delivered).then_some(())
    });
    proxy.stop();
    // The test's own consumer would look for the broker that is gone.
    brokers.broker_up(1).expect("the broker is up");
    assert_same(Reader::new(&brokers).exchanges(27), &events);
}
