//! What a segment says of itself, and the books of a recording.

use super::segment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The head of a segment, as JSON. Members that are not known are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// The version of the format.
    pub version: u32,
    /// Which recording the segment belongs to: one for each run of a process, or each import.
    pub recording: String,
    /// The how-manieth segment of it, from 1.
    pub segment: u32,
    /// When the segment was begun, nanoseconds since 1970.
    pub created_ns: u64,
    /// `service.name`.
    pub service: String,
    /// Who recorded it.
    pub instance: String,
    /// The version of the program that wrote it.
    pub writer: String,
    /// Where it comes from: `sidelight`, or the format that was imported (`har`, `gor`, `envoy-tap`).
    pub source: String,
    /// Hosts and addresses of production that it was recorded at: a replay does not send to them without a grant.
    pub authorities: Vec<String>,
    /// How many of a million exchanges were sampled, and by what: `1000000`, `account`.
    pub sampled_millionths: u32,
    /// What was sampled by: `account`, `user`, `trace` or `request`.
    pub sampled_by: String,
    /// Whether entries are sealed for their accounts.
    pub is_sealed: bool,
    /// The revision of the configuration that was in force.
    pub revision: String,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Header, String> {
        let header: Header =
            serde_json::from_slice(bytes).map_err(|error| format!("its head is not read: {error}"))?;
        match header.version {
            1..=segment::VERSION => Ok(header),
            version => Err(format!(
                "is of version {version} of the format, and this program reads up to {}: use a newer sidelight",
                segment::VERSION
            )),
        }
    }
}

/// What became of the exchanges that a recorder saw: `seen = recorded + sampled_out + filtered + dropped + pending`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Books {
    /// Exchanges that ended while recording was on.
    pub seen: u64,
    /// Those that are in the recording.
    pub recorded: u64,
    /// Those that sampling left out.
    pub sampled_out: u64,
    /// Those that no rule asked for.
    pub filtered: u64,
    /// Those that are missing, by the reason: `queue_full`, `disk_full`, `too_large`, `redaction_error`, `io_error`,
    /// `shutdown`.
    pub dropped: BTreeMap<String, u64>,
    /// Those that are under way to the disk, or held by the flight recorder.
    pub pending: u64,
}

impl Books {
    /// All that were dropped.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Whether every exchange is accounted for.
    pub fn is_balanced(&self) -> bool {
        self.seen == self.recorded + self.sampled_out + self.filtered + self.dropped_total() + self.pending
    }

    /// Adds those of another recording.
    pub fn add(&mut self, other: &Books) {
        self.seen += other.seen;
        self.recorded += other.recorded;
        self.sampled_out += other.sampled_out;
        self.filtered += other.filtered;
        self.pending += other.pending;
        for (reason, count) in &other.dropped {
            *self.dropped.entry(reason.clone()).or_default() += count;
        }
    }
}
