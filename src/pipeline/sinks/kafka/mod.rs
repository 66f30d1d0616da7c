//! Events to Kafka, by librdkafka's idempotent producer.
//!
//! What: one record for each event: the value is the event's JSON, the key its account (else its trace), so that events of
//! an account stay in order; headers `schema`, `id` (instance/epoch/sequence: what consumers tell duplicates by) and
//! `trace_id`; the time is the event's. Nothing is committed before every in-sync replica has it (`acks=all`).
//!
//! The producer never gives a record up by itself (`message.timeout.ms` 0): the spool has the event anyway, and only one of
//! two places may decide. A record that is still on its way when [`Sink::send`](super::sink::Sink::send) has to return is
//! remembered, and waited for when the same event comes again; a record that was acknowledged is remembered too. So within
//! one process nothing is sent twice and nothing overtakes, however long the brokers are away; across a crash duplicates
//! are possible, and have the same `id`.
//!
//! How it fails: brokers that are away, topics that are not there, rights that are missing: the same events come again. A
//! record that is too large, or that the broker finds invalid: refused. A producer that is in a fatal state (its sequence
//! is broken) is replaced.
//!
//! Without the feature `kafka` of the build, a configuration that names it is an error.

pub mod config;
pub use config::Config;

#[cfg(feature = "kafka")]
mod producer;
#[cfg(feature = "kafka")]
mod record;
#[cfg(feature = "kafka")]
mod sink;
#[cfg(test)]
#[cfg(feature = "kafka")]
mod tests;

#[cfg(not(feature = "kafka"))]
mod absent;
#[cfg(not(feature = "kafka"))]
pub use absent::Kafka;
#[cfg(feature = "kafka")]
pub use sink::Kafka;
