//! `pipeline.sinks.kinesis`: events as records of an Amazon Kinesis data stream.
//!
//! What: PutRecords, whose records are the events as they are. Its limits: 500 records and 5 MiB a call, and 1 MiB a record,
//! its key included, unless the stream was given another maximum.
//! Sources: <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html>,
//! <https://docs.aws.amazon.com/streams/latest/dev/large-records.html>.
//!
//! # Order and duplicates
//! A call is no transaction: each record of it is taken or not. Those that were not taken are sent again, alone, and those
//! that were are remembered by their numbers for as long as they may come again, so none is twice in the stream but after a
//! crash, or when an answer is lost: then `id` in the event tells. While all are taken, the records of a key are in order.
//! Once one fails (mostly because its shard has too much to do), later ones of its key in the same call may be in before it,
//! and it comes behind them: `id.sequence` tells the order.
//!
//! # How it fails
//! A record that is too large is rejected. A stream that is not there, a key that is refused, too much traffic: everything
//! is sent again, since an operator can mend all of them; a call that Kinesis finds malformed is refused, and its events are
//! tried one by one.

mod config;
#[cfg(test)]
mod tests;

pub use config::{Config, PartitionKey};

use super::http::{Answer, HttpClient, Protocol};
use super::sigv4::{self, Keys, Request, Scope};
use super::sink::{Failure, Pace, Sent, Sink};
use crate::pipeline::Service;
use crate::pipeline::event::{Value, members};
use crate::pipeline::spool::Batch;
use crate::svc::base64;
use serde_json::Value as Json;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// Most records of a call.
const RECORDS_MAX: usize = 500;
/// Most bytes of a call's events: in Base64 and with their keys they stay below 5 MiB.
const CALL_BYTES_MAX: usize = 3 << 20;
/// Most bytes of a record with its key.
const RECORD_BYTES_MAX: usize = 1 << 20;
/// Most characters of a key.
const KEY_CHARS_MAX: usize = 256;
/// The first wait before failed records are sent again; doubled each time.
const BACKOFF: Duration = Duration::from_millis(100);

/// See the module.
pub struct Kinesis {
    client: HttpClient,
    keys: Keys,
    region: String,
    /// `{"StreamName":"…","Records":[`
    head: Vec<u8>,
    target: String,
    partition_key: PartitionKey,
    instance: String,
    /// Events that the stream has, of a batch of which it has not all.
    taken: BTreeSet<u64>,
}

impl Kinesis {
    /// Makes no connection yet.
    ///
    /// # Errors
    /// What is wrong in the configuration; a secret's file cannot be read.
    pub fn new(config: &Config, about: &Service, base_dir: &Path) -> Result<Kinesis, String> {
        let is_name = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:/".contains(&byte))
        };
        if !is_name(&config.stream) || !is_name(&config.region) {
            return Err("`stream` and `region` must be names: letters, digits, `-`, `_` and `.`".to_owned());
        }
        let keys = Keys::find(
            config.access_key_id.as_deref(),
            config.secret_access_key_file.as_deref(),
            config.session_token_file.as_deref(),
            base_dir,
            |name| std::env::var(name).ok(),
        )?;
        let region = config.region.clone();
        let aws = || format!("https://kinesis.{region}.{}", sigv4::domain(&region));
        let url = config.endpoint.clone().unwrap_or_else(aws);
        let client = HttpClient::new(&url, config.tls.as_ref(), base_dir, Protocol::Http1)?;
        let member = if config.stream.starts_with("arn:") { "StreamARN" } else { "StreamName" };
        let head = format!(r#"{{"{member}":"{}","Records":["#, config.stream).into_bytes();
        let target = format!("{}/", client.base_path());
        let (partition_key, instance) = (config.partition_key, about.instance.clone());
        Ok(Kinesis { client, keys, region, head, target, partition_key, instance, taken: BTreeSet::new() })
    }

    /// One call with the records `wanted`. Gives the places of those that were not taken, and why the first was not.
    fn call(
        &mut self,
        records: &[Record<'_>],
        wanted: &[usize],
        deadline: Instant,
    ) -> Result<(Vec<usize>, String), Failure> {
        let mut body = self.head.clone();
        for (index, record) in wanted.iter().filter_map(|place| records.get(*place)).enumerate() {
            body.extend_from_slice(if index == 0 { br#"{"Data":""# } else { br#",{"Data":""# });
            base64::encode(&mut body, record.payload);
            body.extend_from_slice(br#"","PartitionKey":"#);
            body.extend_from_slice(&record.key);
            body.push(b'}');
        }
        body.extend_from_slice(b"]}");
        let digest = sigv4::sha256(&body);
        let request = Request {
            method: "POST",
            path: &self.target,
            query: "",
            headers: &[
                ("content-type", "application/x-amz-json-1.1"),
                ("x-amz-target", "Kinesis_20131202.PutRecords"),
            ],
            content: &digest,
        };
        let scope = Scope { region: &self.region, service: "kinesis" };
        let headers = sigv4::headers(&request, scope, self.client.authority(), &self.keys, SystemTime::now());
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = self.client.request("POST", &self.target, &headers, body.into(), deadline)?;
        if answer.status != 200 {
            return Err(self.failure(&answer));
        }
        failed(&answer, wanted)
    }

    /// What an answer without records means. Kinesis says by a name what is wrong, with status 400 for nearly all.
    fn failure(&mut self, answer: &Answer) -> Failure {
        let said: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
        let kind = said["__type"].as_str().unwrap_or_default().rsplit('#').next().unwrap_or_default();
        let message = said["message"].as_str().or(said["Message"].as_str()).unwrap_or_default();
        let reason = match kind {
            "" => answer.reason(),
            kind => clean(&format!("status {}: {kind}: {message}", answer.status)),
        };
        match kind {
            "ValidationException" | "InvalidArgumentException" | "SerializationException" => {
                Failure::Refused { reason }
            }
            _ if answer.status == 413 => Failure::Refused { reason },
            _ => {
                if matches!(answer.status, 400 | 401 | 403) {
                    self.keys.reload();
                }
                Failure::Retry { reason, after: answer.retry_after() }
            }
        }
    }
}

/// An event as a record.
struct Record<'a> {
    sequence: u64,
    payload: &'a [u8],
    /// In JSON, with its quotes.
    key: Vec<u8>,
}

impl Sink for Kinesis {
    fn pace(&self) -> Pace {
        Pace { events_max: RECORDS_MAX, bytes_max: CALL_BYTES_MAX, ..Pace::default() }
    }

    fn send(&mut self, batch: &Batch, deadline: Instant) -> Result<Sent, Failure> {
        let mut sent = Sent::all(batch);
        let first = batch.events().next().map_or(0, |event| event.sequence);
        self.taken = self.taken.split_off(&first);
        let mut records = Vec::with_capacity(batch.len());
        for event in batch.events().filter(|event| !self.taken.contains(&event.sequence)) {
            let key = key(event.payload, self.partition_key, &self.instance);
            let bytes = event.payload.len() + key.len();
            if bytes > RECORD_BYTES_MAX {
                let reason = format!("a record of {bytes} bytes: Kinesis takes {RECORD_BYTES_MAX}");
                sent.rejected.push((event.sequence, reason));
            } else {
                records.push(Record { sequence: event.sequence, payload: event.payload, key });
            }
        }
        let mut wanted: Vec<usize> = (0..records.len()).collect();
        let mut wait = BACKOFF;
        while !wanted.is_empty() {
            // A batch may be larger than a call: a runner that has another pace.
            let (now, later) = wanted.split_at(wanted.len().min(RECORDS_MAX));
            let (missing, reason) = self.call(&records, now, deadline)?;
            let taken = now.iter().filter(|place| missing.binary_search(place).is_err());
            self.taken.extend(taken.filter_map(|place| Some(records.get(*place)?.sequence)));
            let is_partial = !missing.is_empty();
            wanted = [missing.as_slice(), later].concat();
            if is_partial {
                if Instant::now() + wait >= deadline {
                    let reason =
                        format!("{} of {} records were not taken: {reason}", wanted.len(), records.len());
                    return Err(Failure::retry(reason));
                }
                std::thread::sleep(wait);
                wait = wait.saturating_mul(2);
            }
        }
        // A batch may be a part of one that was refused: what is known of the rest stays known.
        self.taken = self.taken.split_off(&sent.through.map_or(0, |last| last.saturating_add(1)));
        Ok(sent)
    }

    fn idle(&mut self, _: Instant) -> Result<Sent, Failure> {
        self.client.idle();
        Ok(Sent::nothing())
    }
}

/// The places of records that were not taken, in order, and why the first was not.
fn failed(answer: &Answer, wanted: &[usize]) -> Result<(Vec<usize>, String), Failure> {
    let said: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
    let results = said["Records"].as_array().map(Vec::as_slice).unwrap_or_default();
    if results.len() != wanted.len() {
        return Err(Failure::retry(format!(
            "an answer about {} records to a call with {}",
            results.len(),
            wanted.len()
        )));
    }
    let is_taken = |result: &Json| result["SequenceNumber"].is_string() && !result["ErrorCode"].is_string();
    let mut missing = Vec::new();
    let mut reason = String::new();
    for (place, result) in wanted.iter().zip(results).filter(|(_, result)| !is_taken(result)) {
        if missing.is_empty() {
            let text = |name: &str| result[name].as_str().unwrap_or_default();
            reason = clean(&format!("{}: {}", text("ErrorCode"), text("ErrorMessage")));
        }
        missing.push(*place);
    }
    Ok((missing, reason))
}

/// The key of a record, in JSON.
fn key(event: &[u8], wanted: PartitionKey, instance: &str) -> Vec<u8> {
    let (mut account, mut trace) = (None, None);
    for (name, value) in members(event) {
        match (name.raw(), value) {
            (b"account_id", Value::Text(text)) if wanted == PartitionKey::AccountId => account = Some(text),
            (b"trace_id", Value::Text(text)) => trace = Some(text),
            _ => continue,
        }
        if account.is_some() || wanted == PartitionKey::TraceId {
            break;
        }
    }
    let text = account.or(trace).filter(|text| !text.raw().is_empty());
    let text = text.map_or_else(|| Cow::from(instance.to_owned()), |text| text.get());
    // A character beyond the last that is allowed does not decide about the shard.
    let text: String = text.chars().take(KEY_CHARS_MAX).collect();
    let text = if text.is_empty() { "sidelight" } else { &text };
    Json::from(text).to_string().into_bytes()
}

/// A text of the other side, for people.
fn clean(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(200).collect()
}
