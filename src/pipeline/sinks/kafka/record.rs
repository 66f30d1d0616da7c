//! An event as a record: topic, key, headers, time.

use super::Config;
use super::producer::Producer;
use crate::pipeline::sinks::heading::Heading;
use crate::pipeline::spool::Event;
use crate::pipeline::trace_view::moment;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use std::collections::BTreeMap;

/// Longest name of a topic (Kafka's own limit).
const TOPIC_BYTES_MAX: usize = 249;

/// Which topic an event goes to.
pub(super) struct Topics {
    others: String,
    of_kinds: BTreeMap<String, String>,
}

impl Topics {
    /// Those of the configuration.
    ///
    /// # Errors
    /// A name that no topic may have.
    pub(super) fn new(config: &Config) -> Result<Topics, String> {
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        for topic in std::iter::once(&config.topic).chain(config.topics.values()) {
            let is_name = (1..=TOPIC_BYTES_MAX).contains(&topic.len()) && topic.chars().all(is_legal);
            if !is_name || topic == "." || topic == ".." {
                return Err(format!(
                    "`{topic}` cannot be a topic: letters, digits, `.`, `_`, `-`, at most 249"
                ));
            }
        }
        Ok(Topics { others: config.topic.clone(), of_kinds: config.topics.clone() })
    }

    fn of(&self, kind: &str) -> &str {
        self.of_kinds.get(kind).unwrap_or(&self.others)
    }
}

/// Hands an event to the producer, which copies it.
///
/// # Errors
/// The producer's queue is full, the event is too large, or the producer is broken.
pub(super) fn produce(producer: &Producer, topics: &Topics, event: Event<'_>) -> Result<(), KafkaError> {
    let heading = Heading::of(event.payload);
    let (schema, trace_id) = (heading.schema.map(|text| text.get()), heading.trace_id.map(|text| text.get()));
    let (account, id) = (heading.account_id.map(|text| text.get()), heading.id('/'));
    let headers = [("schema", schema.as_deref()), ("id", id.as_deref()), ("trace_id", trace_id.as_deref())]
        .into_iter()
        .filter(|(_, value)| value.is_some())
        .fold(OwnedHeaders::new_with_capacity(3), |headers, (key, value)| {
            headers.insert(Header { key, value })
        });
    // 64 bits on every target that librdkafka is built for here; the number comes back with the report.
    let sequence = event.sequence as usize;
    let mut record: BaseRecord<'_, str, [u8], usize> =
        BaseRecord::with_opaque_to(topics.of(heading.kind()), sequence)
            .payload(event.payload)
            .headers(headers);
    if let Some(key) = account.as_deref().or(trace_id.as_deref()) {
        record = record.key(key);
    }
    if let Some(micros) = heading.timestamp.and_then(|text| moment::parse(&text.get())) {
        record = record.timestamp(micros.div_euclid(1000).max(0));
    }
    producer.send(record).map_err(|(error, _)| error)
}
