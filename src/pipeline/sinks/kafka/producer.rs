//! librdkafka's producer: its settings, and what it reports.

use super::Config;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, ProducerContext};
use std::sync::{Mutex, PoisonError};

/// Most records that wait in the producer: several batches.
const RECORDS_MAX: &str = "16384";
/// Most of their bytes, in KiB.
const RECORDS_KIB_MAX: &str = "65536";

/// Settings that are ours: each of them is a part of the promise, or has an option of its own.
const RESERVED: &[&str] = &[
    "acks",
    "bootstrap.servers",
    "client.id",
    "compression.codec",
    "compression.type",
    "delivery.report.only.error",
    "delivery.timeout.ms",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.send.max.retries",
    "message.timeout.ms",
    "metadata.broker.list",
    "plugin.library.paths",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queuing.strategy",
    "request.required.acks",
    "retries",
    "security.protocol",
];
/// Beginnings of settings with secrets, of what needs a library that is not built in, and of what is no producer's.
const RESERVED_FAMILIES: &[&str] =
    &["sasl.", "ssl.", "transaction", "test.", "enabled_events", "enable.sasl", "https."];

/// The producer.
pub(super) type Producer = BaseProducer<Reports>;

/// What became of one record, by the event's sequence number.
pub(super) type Report = (u64, Result<(), RDKafkaErrorCode>);

/// What the producer reports, until somebody takes it. At most [`RECORDS_MAX`] reports.
#[derive(Default)]
pub(super) struct Reports {
    done: Mutex<Vec<Report>>,
    complaint: Mutex<Option<String>>,
}

impl Reports {
    /// What became of records since the last call.
    pub(super) fn take(&self) -> Vec<Report> {
        std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What it complained of last.
    pub(super) fn complaint(&self) -> Option<String> {
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It works again.
    pub(super) fn forget_complaint(&self) {
        *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl ClientContext for Reports {
    // A broker that is away is reported by the sink's own failure, once for each attempt; librdkafka says it far more often.
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(sink = "kafka", facility, "{message}");
    }

    fn stats_raw(&self, statistics: &[u8]) {
        tracing::debug!(sink = "kafka", "{}", String::from_utf8_lossy(statistics));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        // "1/1 brokers are down" follows the reason why the last of them is, which says more.
        let is_summary = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        if !is_summary || complaint.is_none() {
            *complaint = Some(reason.to_owned());
        }
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, sequence: usize) {
        let outcome = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
        };
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push((sequence as u64, outcome));
    }
}

/// The settings of the producer.
///
/// # Errors
/// An option is reserved, unknown, or has a value that librdkafka will not have.
pub(super) fn settings(config: &Config) -> Result<ClientConfig, String> {
    let brokers: Vec<String> = config.brokers.iter().map(ToString::to_string).collect();
    let mut settings = ClientConfig::new();
    settings.set("linger.ms", "5");
    for (name, value) in &config.options {
        let lower = name.to_ascii_lowercase();
        let is_family = RESERVED_FAMILIES.iter().any(|family| lower.starts_with(family));
        if is_family || RESERVED.contains(&lower.as_str()) || lower.ends_with("_cb") {
            return Err(format!("options: `{name}` is not to be set: sidelight's promises rest on it"));
        }
        settings.set(name, value);
    }
    settings
        .set("bootstrap.servers", brokers.join(","))
        .set("client.id", &config.client_id)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("max.in.flight.requests.per.connection", "5")
        .set("compression.type", config.compression.name())
        .set("message.timeout.ms", "0")
        .set("queue.buffering.max.messages", RECORDS_MAX)
        .set("queue.buffering.max.kbytes", RECORDS_KIB_MAX);
    // Says what is wrong with a setting, without a connection and without a thread.
    match settings.create_native_config() {
        Ok(_) => Ok(settings),
        Err(KafkaError::ClientConfig(_, why, name, _)) => Err(format!("options: `{name}`: {why}")),
        Err(error) => Err(format!("options: {error}")),
    }
}

/// Whether the broker will not have this record whatever happens. All else may work later.
pub(super) fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{
        InvalidMessageSize, InvalidRecord, InvalidTimestamp, MessageSizeTooLarge, PolicyViolation,
    };
    matches!(
        code,
        MessageSizeTooLarge | InvalidMessageSize | InvalidRecord | InvalidTimestamp | PolicyViolation
    )
}
