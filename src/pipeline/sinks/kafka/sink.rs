//! The sink: batches into the producer, reports out of it.

use super::Config;
use super::producer::{Producer, Reports, is_refusal, settings};
use super::record::{Topics, produce};
use crate::pipeline::Service;
use crate::pipeline::sinks::settled::Settled;
use crate::pipeline::sinks::sink::{Failure, Pace, Sent, Sink};
use crate::pipeline::spool::{Batch, Event};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer as _;
use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long one look at the producer takes, at first; an acknowledgement of a broker nearby takes a few of them.
const LOOK: Duration = Duration::from_millis(1);
/// The same after [`EAGER`].
const LATER_LOOK: Duration = Duration::from_millis(20);
/// How long acknowledgements are looked for eagerly.
const EAGER: Duration = Duration::from_millis(200);

/// The sink.
pub struct Kafka {
    settings: ClientConfig,
    topics: Topics,
    brokers: String,
    timeout: Duration,
    producer: Option<Producer>,
    /// Records that the producer has, and has not reported.
    under_way: HashSet<u64>,
    settled: Settled,
}

/// What became of records that were not delivered, since a batch began.
#[derive(Default)]
struct Faults {
    refused: Vec<(u64, String)>,
    retry: Option<String>,
}

impl Kafka {
    /// Checks the settings; connects when there is something to send.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(config: &Config, _: &Service, _: &Path) -> Result<Kafka, String> {
        if config.brokers.is_empty() {
            return Err("brokers: at least one must be named".into());
        }
        let brokers: Vec<String> = config.brokers.iter().map(ToString::to_string).collect();
        Ok(Kafka {
            settings: settings(config)?,
            topics: Topics::new(config)?,
            brokers: brokers.join(", "),
            timeout: config.timeout,
            producer: None,
            under_way: HashSet::new(),
            settled: Settled::default(),
        })
    }

    /// Takes the producer out, or makes one.
    fn take_producer(&mut self) -> Result<Producer, Failure> {
        if let Some(producer) = self.producer.take() {
            return Ok(producer);
        }
        let made = self.settings.create_with_context(Reports::default());
        made.map_err(|error| Failure::retry(format!("cannot make a Kafka producer: {error}")))
    }

    /// Hands over an event; waits while the producer's queue is full.
    fn hand_over(
        &mut self,
        producer: &Producer,
        event: Event<'_>,
        faults: &mut Faults,
        deadline: Instant,
    ) -> Result<(), Failure> {
        loop {
            match produce(producer, &self.topics, event) {
                Ok(()) => {
                    self.under_way.insert(event.sequence);
                    return Ok(());
                }
                Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) => {
                    if Instant::now() >= deadline {
                        return Err(self.late(producer, "the producer's queue is full"));
                    }
                    producer.poll(LATER_LOOK);
                    self.collect(producer, faults);
                }
                Err(KafkaError::MessageProduction(code)) if is_refusal(code) => {
                    self.settled.refuse(event.sequence, format!("{code}, before it was sent"));
                    return Ok(());
                }
                Err(error) => return Err(Failure::retry(format!("{}: {error}", self.brokers))),
            }
        }
    }

    /// Takes the producer's reports.
    fn collect(&mut self, producer: &Producer, faults: &mut Faults) {
        for (sequence, outcome) in producer.context().take() {
            self.under_way.remove(&sequence);
            match outcome {
                Ok(()) => {
                    self.settled.deliver(sequence);
                    producer.context().forget_complaint();
                }
                Err(code) if is_refusal(code) => faults.refused.push((sequence, code.to_string())),
                Err(code) => faults.retry = Some(format!("{}: {code}", self.brokers)),
            }
        }
    }

    /// Sends what is not on its way yet, and waits for the reports of all.
    fn exchange(&mut self, producer: &Producer, batch: &Batch, deadline: Instant) -> Result<Sent, Failure> {
        let mut faults = Faults::default();
        self.collect(producer, &mut faults);
        // What was found between two batches belongs to the one before, and comes again if it is not settled.
        faults = Faults::default();
        for event in batch.events() {
            if !self.settled.has(event.sequence) && !self.under_way.contains(&event.sequence) {
                self.hand_over(producer, event, &mut faults, deadline)?;
            }
        }
        let began = Instant::now();
        loop {
            producer.poll(Duration::ZERO);
            self.collect(producer, &mut faults);
            if batch.events().all(|event| !self.under_way.contains(&event.sequence)) {
                break;
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(self.late(producer, "not all of the batch was acknowledged in time"));
            }
            let look = if now.duration_since(began) < EAGER { LOOK } else { LATER_LOOK };
            producer.poll(look.min(deadline.saturating_duration_since(now)));
        }
        if let Some(reason) = faults.retry {
            return Err(Failure::retry(reason));
        }
        let is_here = |sequence: u64| batch.events().any(|event| event.sequence == sequence);
        faults.refused.retain(|(sequence, _)| is_here(*sequence));
        match faults.refused.pop() {
            // A broker refuses a set of records as a whole: who of several is to blame shows only when each goes alone.
            Some((_, reason)) if !faults.refused.is_empty() => Err(Failure::refused(reason)),
            Some((sequence, reason)) => {
                self.settled.refuse(sequence, reason);
                Ok(self.settled.finish(batch))
            }
            None => Ok(self.settled.finish(batch)),
        }
    }

    fn late(&self, producer: &Producer, what: &str) -> Failure {
        let why = producer.context().complaint().map(|why| format!(" ({why})")).unwrap_or_default();
        Failure::retry(format!("{}: {what}{why}", self.brokers))
    }
}

impl Sink for Kafka {
    fn pace(&self) -> Pace {
        Pace { timeout: self.timeout, ..Pace::default() }
    }

    fn send(&mut self, batch: &Batch, deadline: Instant) -> Result<Sent, Failure> {
        self.settled.begin(batch);
        let producer = self.take_producer()?;
        let result = self.exchange(&producer, batch, deadline);
        match producer.client().fatal_error() {
            None => {
                self.producer = Some(producer);
                result
            }
            Some((code, why)) => {
                // What it had goes with it: it is not known which of that the brokers have, so it is sent again.
                self.under_way.clear();
                drop(producer);
                result.map_err(|_| {
                    Failure::retry(format!(
                        "{}: the producer is broken, a new one is made: {code}: {why}",
                        self.brokers
                    ))
                })
            }
        }
    }

    fn idle(&mut self, _: Instant) -> Result<Sent, Failure> {
        if let Some(producer) = self.producer.take() {
            producer.poll(Duration::ZERO);
            self.collect(&producer, &mut Faults::default());
            self.producer = Some(producer);
        }
        Ok(Sent::nothing())
    }

    fn close(&mut self, deadline: Instant) -> Result<Sent, Failure> {
        // Records that are still on their way come again from the spool, in the next process; fewer of them twice if the
        // brokers get them acknowledged now.
        if let Some(producer) = &self.producer {
            let _ = producer.flush(deadline.saturating_duration_since(Instant::now()));
        }
        Ok(Sent::nothing())
    }
}

#[cfg(test)]
impl Kafka {
    /// Puts the producer into a fatal state, as brokers do that have lost its sequence.
    pub(super) fn break_producer(&self) {
        let producer = self.producer.as_ref().unwrap().client().native_ptr();
        let error = rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
        // SAFETY: the producer lives, and the text ends with a zero.
        unsafe { rdkafka::bindings::rd_kafka_test_fatal_error(producer, error, c"for a test".as_ptr()) };
    }
}
