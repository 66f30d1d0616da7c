//! `pipeline.sinks.splunk`: events to Splunk's HTTP Event Collector.
//!
//! What: one JSON object for each event, one behind the other: `time`, `host`, `source`, `sourcetype`, `index`, the event as it
//! is, and as indexed fields its service and kind. With `ack` a batch is delivered when the indexers say so.
//! Sources: <https://docs.splunk.com/Documentation/Splunk/latest/Data/FormateventsforHTTPEventCollector>,
//! <https://docs.splunk.com/Documentation/Splunk/latest/Data/AboutHECIDXAck>,
//! <https://docs.splunk.com/Documentation/Splunk/latest/Data/TroubleshootHTTPEventCollector> (the codes).
//!
//! How it fails: an event that Splunk names as invalid is rejected, and the others are sent again; where it names none, the
//! batch is refused and its events are tried one by one. A wrong token, index or path, and a busy server: everything is
//! sent again, since an operator can mend them. An acknowledgement that does not come is waited for again before anything
//! is sent twice.

mod config;
#[cfg(test)]
mod tests;

pub use config::Config;

use super::http::{Answer, HttpClient, Protocol};
use super::secret::Secret;
use super::sink::{Failure, Pace, Sent, Sink};
use crate::pipeline::Service;
use crate::pipeline::event::{Value, members};
use crate::pipeline::spool::{Batch, Event};
use crate::pipeline::trace_view::moment;
use serde_json::Value as Json;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long an acknowledgement is waited for before the events are sent again. Splunk's own forwarder: 300 s.
const ACK_PATIENCE: Duration = Duration::from_secs(300);
/// The time of one call with `ack`: indexers acknowledge what they have written, every few seconds.
const ACK_TIMEOUT: Duration = Duration::from_secs(30);
/// The first wait before the acknowledgement is asked for; doubled each time, up to a second.
const ACK_WAIT: Duration = Duration::from_millis(50);
const ACK_WAIT_MAX: Duration = Duration::from_secs(1);
/// Events of one batch that may be named as invalid; with more the batch is refused.
const INVALID_MAX: usize = 16;

/// See the module.
pub struct Splunk {
    client: HttpClient,
    token: Secret,
    /// `"host":"…","source":"…",…,"event":`
    head: Vec<u8>,
    service: String,
    /// With `ack`: who asks for acknowledgements.
    channel: Option<String>,
    /// Sent, and not acknowledged.
    pending: Option<Pending>,
}

/// What waits for its acknowledgement.
#[derive(Clone, Copy)]
struct Pending {
    first: u64,
    last: u64,
    id: u64,
    since: Instant,
}

impl Splunk {
    /// Makes no connection yet.
    ///
    /// # Errors
    /// What is wrong with the URL; the token's file cannot be read.
    pub fn new(config: &Config, about: &Service, base_dir: &Path) -> Result<Splunk, String> {
        let client = HttpClient::new(&config.url, config.tls.as_ref(), base_dir, Protocol::Http1)?;
        let token = Secret::read(&config.token_file, base_dir)?;
        let mut head = Vec::new();
        let texts = [
            ("host", config.host.as_deref().or(Some(&about.instance))),
            ("source", config.source.as_deref().or(Some("sidelight"))),
            ("sourcetype", config.sourcetype.as_deref().or(Some("_json"))),
            ("index", config.index.as_deref()),
        ];
        for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text?))) {
            // Writing into memory does not fail.
            let _ = write!(head, r#""{name}":{},"#, Json::from(text));
        }
        head.extend_from_slice(br#""event":"#);
        let service = Json::from(about.name.as_str()).to_string();
        let channel = if config.ack { Some(channel()?) } else { None };
        Ok(Splunk { client, token, head, service, channel, pending: None })
    }

    fn ask(&mut self, path: &str, body: Vec<u8>, deadline: Instant) -> Result<Answer, Failure> {
        let target = format!("{}{path}", self.client.base_path());
        let authorization = format!("Splunk {}", self.token.get());
        let mut headers = vec![("authorization", &*authorization), ("content-type", "application/json")];
        headers.extend(self.channel.as_deref().map(|channel| ("x-splunk-request-channel", channel)));
        let answer = self.client.request("POST", &target, &headers, body.into(), deadline)?;
        if matches!(answer.status, 401 | 403) {
            self.token.reload();
        }
        Ok(answer)
    }

    /// Sends the events once. Gives the number to ask for an acknowledgement with.
    fn post(&mut self, events: &[Event<'_>], deadline: Instant) -> Result<Posted, Failure> {
        let mut body = Vec::with_capacity(events.iter().map(|event| event.payload.len() + 256).sum());
        for event in events {
            object(&mut body, event.payload, &self.head, &self.service);
        }
        let answer = self.ask("/services/collector/event", body, deadline)?;
        let said: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
        if answer.status == 200 && matches!(said["code"].as_u64(), None | Some(0)) {
            return Ok(Posted::Taken(said["ackId"].as_u64()));
        }
        match (said["code"].as_u64(), said["invalid-event-number"].as_u64()) {
            // Invalid data, no event, a blank event, fields that cannot be indexed: it is this event.
            (Some(6 | 12 | 13 | 15), Some(number)) => {
                Ok(Posted::Invalid(usize::try_from(number).unwrap_or(usize::MAX), answer.reason()))
            }
            (Some(6 | 12 | 13 | 15), None) => Err(Failure::Refused { reason: answer.reason() }),
            _ if answer.status == 413 => Err(Failure::Refused { reason: answer.reason() }),
            _ => Err(Failure::Retry { reason: answer.reason(), after: answer.retry_after() }),
        }
    }

    /// Waits until what is pending is indexed.
    fn acknowledge(&mut self, pending: Pending, deadline: Instant) -> Result<(), Failure> {
        let channel = self.channel.clone().unwrap_or_default();
        let path = format!("/services/collector/ack?channel={channel}");
        let body = format!(r#"{{"acks":[{}]}}"#, pending.id).into_bytes();
        let mut wait = ACK_WAIT;
        loop {
            let answer = self.ask(&path, body.clone(), deadline)?;
            if answer.status != 200 {
                return Err(Failure::Retry { reason: answer.reason(), after: answer.retry_after() });
            }
            let said: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
            if said["acks"][pending.id.to_string()] == true {
                return Ok(());
            }
            if Instant::now() + wait >= deadline {
                let seconds = pending.since.elapsed().as_secs();
                return Err(Failure::retry(format!("not acknowledged by the indexers for {seconds} s")));
            }
            std::thread::sleep(wait);
            wait = wait.saturating_mul(2).min(ACK_WAIT_MAX);
        }
    }

    /// Sends the events, and again without those that are named as invalid, which go to `rejected`.
    fn deliver(
        &mut self,
        mut events: Vec<Event<'_>>,
        rejected: &mut Vec<(u64, String)>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let mut invalid = 0;
        while let (Some(first), Some(last)) = (events.first(), events.last()) {
            let (first, last) = (first.sequence, last.sequence);
            match self.post(&events, deadline)? {
                Posted::Taken(None) if self.channel.is_some() => {
                    return Err(Failure::retry(
                        "Splunk gives no ackId: switch indexer acknowledgement on for the token, or write `ack: false`",
                    ));
                }
                Posted::Taken(Some(id)) if self.channel.is_some() => {
                    let pending = Pending { first, last, id, since: Instant::now() };
                    self.pending = Some(pending);
                    self.acknowledge(pending, deadline)?;
                    self.pending = None;
                    return Ok(());
                }
                Posted::Taken(_) => return Ok(()),
                Posted::Invalid(number, reason) if number < events.len() && invalid < INVALID_MAX => {
                    rejected.push((events.remove(number).sequence, reason));
                    invalid += 1;
                }
                Posted::Invalid(_, reason) => return Err(Failure::Refused { reason }),
            }
        }
        Ok(())
    }
}

enum Posted {
    /// Splunk has them; with `ack` the number of the request.
    Taken(Option<u64>),
    /// It has none of them, for the one at this place.
    Invalid(usize, String),
}

impl Sink for Splunk {
    fn pace(&self) -> Pace {
        match self.channel {
            Some(_) => Pace { timeout: ACK_TIMEOUT, events_max: 4096, ..Pace::default() },
            None => Pace::default(),
        }
    }

    fn send(&mut self, batch: &Batch, deadline: Instant) -> Result<Sent, Failure> {
        let mut sent = Sent::all(batch);
        let mut events: Vec<Event<'_>> = batch.events().collect();
        // The same events again, because their acknowledgement did not come in time: it may have come now.
        let is_here = |pending: &Pending| {
            let has = |sequence| events.iter().any(|event| event.sequence == sequence);
            pending.since.elapsed() < ACK_PATIENCE && has(pending.first) && has(pending.last)
        };
        if let Some(pending) = self.pending.filter(is_here) {
            self.acknowledge(pending, deadline)?;
            events.retain(|event| !(pending.first..=pending.last).contains(&event.sequence));
        }
        self.pending = None;
        self.deliver(events, &mut sent.rejected, deadline)?;
        Ok(sent)
    }

    fn idle(&mut self, _: Instant) -> Result<Sent, Failure> {
        self.client.idle();
        Ok(Sent::nothing())
    }
}

/// Appends an event as Splunk wants it.
fn object(out: &mut Vec<u8>, event: &[u8], head: &[u8], service: &str) {
    let (mut kind, mut time) = (None, None);
    for (name, value) in members(event) {
        match (name.raw(), value) {
            (b"schema", Value::Text(text)) => kind = Some(text),
            (b"timestamp", Value::Text(text)) => time = moment::parse(&text.get()),
            _ => continue,
        }
        if kind.is_some() && time.is_some() {
            break;
        }
    }
    out.push(b'{');
    if let Some(micros) = time.and_then(|micros| u64::try_from(micros).ok()) {
        // Seconds with decimals, as a text: a number would lose microseconds on its way.
        let _ = write!(out, r#""time":"{}.{:06}","#, micros / 1_000_000, micros % 1_000_000);
    }
    out.extend_from_slice(head);
    out.extend_from_slice(event);
    let kind =
        kind.map(|text| text.get().split('/').nth(1).unwrap_or_default().to_owned()).unwrap_or_default();
    let _ = write!(out, r#","fields":{{"service":{service},"schema":{}}}}}"#, Json::from(kind));
}

/// A GUID: Splunk keeps acknowledgements for each by itself.
fn channel() -> Result<String, String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the system gives no random numbers".to_owned())?;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    Ok(text)
}
