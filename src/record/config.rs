//! `recording`: what is recorded, where, and what is never written.

use super::redact;
use crate::units;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// `recording`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Recording")]
pub struct Config {
    /// Where segments are written; made where it is missing. Absent: nothing is recorded, also not on demand.
    #[schemars(with = "Option<String>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Sinks of `pipeline.sinks`, by their names, that get a copy of everything that is written to `directory`, as events
    /// of the schema `sidelight/recording_frame/1`. Empty: none.
    pub sinks: Vec<String>,
    /// Whether `match` records. Without, only what is asked for at runtime (`PUT /recording`) is, and the flight recorder.
    pub enabled: bool,
    /// Which exchanges are recorded; all of the conditions that are written must hold.
    pub r#match: Match,
    /// How many of them.
    pub sample: Sample,
    /// Most bytes of each side's content that are kept; what is longer is marked as truncated. `none`: all of it.
    #[serde(with = "units::size_or_none")]
    #[schemars(with = "units::SizeOrNone")]
    pub body_limit: Option<usize>,
    /// What is never written.
    pub redact: redact::Config,
    /// A key for each account; absent: entries are not sealed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypt: Option<Encrypt>,
    /// The flight recorder; absent: off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flight: Option<Flight>,
    /// Bytes of one file.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub segment_bytes_max: usize,
    /// Bytes of all files in the directory; beyond them the oldest go. At least two segments.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub disk_bytes_max: usize,
    /// The age at which a file goes; `none`: never.
    #[serde(with = "units::duration_or_none")]
    #[schemars(with = "units::DurationOrNone")]
    pub age_max: Option<Duration>,
    /// Bytes that exchanges under way and those on their way to the disk may hold; beyond them whole exchanges are left
    /// out, counted as `queue_full`.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub memory_bytes_max: usize,
    /// The longest that an exchange waits in memory before it is written: what a crash may lose.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub flush_interval: Duration,
    /// zstd's level, 1 to 19. Higher costs more time on the recorder's thread for smaller files.
    #[schemars(range(min = -7, max = 19))]
    pub compression: i32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            directory: None,
            sinks: Vec::new(),
            enabled: true,
            r#match: Match::default(),
            sample: Sample::default(),
            body_limit: Some(1 << 20),
            redact: redact::Config::default(),
            encrypt: None,
            flight: None,
            segment_bytes_max: 64 << 20,
            disk_bytes_max: 1 << 30,
            age_max: None,
            memory_bytes_max: 16 << 20,
            flush_interval: Duration::from_millis(50),
            compression: 1,
        }
    }
}

/// `recording.encrypt`: entries are sealed with AES-256-GCM, by a key for each account. Without the key of an account its
/// entries cannot be read any more: to delete it is to forget the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RecordingEncrypt")]
pub struct Encrypt {
    /// A directory of keys, made as they are needed. It must not lie in the recording's.
    #[schemars(with = "String")]
    pub keys: PathBuf,
}

/// A status as it may be written.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a status: 404, 5xx or failed")]
#[schemars(rename = "RecordingStatus")]
enum Status {
    Number(u16),
    Text(String),
}

fn statuses<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let text = |status| match status {
        Status::Number(number) => number.to_string(),
        Status::Text(text) => text,
    };
    Ok(Vec::<Status>::deserialize(deserializer)?.into_iter().map(text).collect())
}

/// `recording.match`: conditions; an empty one holds for all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "RecordingMatch")]
pub struct Match {
    /// `inbound` or `outbound`; absent: both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Names of routes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// Accounts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<String>,
    /// Users.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// Licenses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub licenses: Vec<String>,
    /// Feature flags, of which at least one is on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Traces, 32 hexadecimal digits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<String>,
    /// Statuses that the client got: `404`, `5xx`; `failed` is everything that has a cause.
    #[serde(deserialize_with = "statuses", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Status>")]
    pub statuses: Vec<String>,
    /// Exchanges that took at least so long.
    #[serde(with = "units::duration_or_none", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "units::DurationOrNone")]
    pub slower_than: Option<Duration>,
}

/// A side of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "RecordingDirection")]
pub enum Direction {
    /// To it.
    Inbound,
    /// From it.
    Outbound,
}

/// `recording.sample`: how many exchanges, and of what all or none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "RecordingSample")]
pub struct Sample {
    /// The share of all, 0 to 1. It is written into every entry.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ratio: f64,
    /// What is sampled as a whole: with `account` all exchanges of an account are recorded or none is, so that sessions
    /// are whole. What has none goes by its trace.
    pub by: SampleBy,
}

impl Default for Sample {
    fn default() -> Self {
        Sample { ratio: 1.0, by: SampleBy::Account }
    }
}

/// See [`Sample::by`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SampleBy {
    /// The account.
    #[default]
    Account,
    /// The user.
    User,
    /// The trace.
    Trace,
    /// Each exchange alone.
    Request,
}

impl SampleBy {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            SampleBy::Account => "account",
            SampleBy::User => "user",
            SampleBy::Trace => "trace",
            SampleBy::Request => "request",
        }
    }
}

/// `recording.flight`: the last exchanges, in memory, written out when something goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "RecordingFlight")]
pub struct Flight {
    /// How much is held.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub bytes_max: usize,
    /// How long it is held.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub time: Duration,
    /// Whether an exchange that fails (it has a cause, or a status of 500 and above) writes everything out.
    pub on_error: bool,
    /// An exchange that took at least so long writes everything out; `none`: none does.
    #[serde(with = "units::duration_or_none")]
    #[schemars(with = "units::DurationOrNone")]
    pub slower_than: Option<Duration>,
}

impl Default for Flight {
    fn default() -> Self {
        Flight { bytes_max: 8 << 20, time: Duration::from_secs(30), on_error: true, slower_than: None }
    }
}
