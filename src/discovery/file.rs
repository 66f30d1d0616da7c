//! Endpoints from a file, in YAML or JSON: a list in the form of a cluster's `endpoints`, bare or under that key.
//!
//! The file is looked at twice a second and read when it is another one than before, which also sees what Kubernetes
//! does with a mounted ConfigMap (a link that is swapped). Host names in it are resolved as in a static list.
//!
//! How it fails: a file that is missing, broken or too large keeps the last good list, with the place of the error.
//! A list that is empty is taken as it is: somebody wrote it.

use super::static_list::StaticList;
use super::{Discover, Found};
use crate::cluster::config::{Endpoint, PRIORITY_MAX};
use crate::identity::Stamp;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, de};
use std::fmt;
use std::fs::File as OpenFile;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior};

/// Time between looks at the file.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Bytes of the file; some 50,000 endpoints.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// The range of a weight, as in the configuration.
const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=10_000;

/// A file that is followed.
pub(super) struct File {
    path: PathBuf,
    /// What the file listed when it was good last.
    list: StaticList,
    /// Whether it was ever good.
    has_list: bool,
    seen: Option<Result<Stamp, String>>,
    broken: Option<String>,
    polls: Option<Interval>,
}

impl File {
    /// `names` looks up what the file lists.
    pub(super) fn new(path: PathBuf, names: StaticList) -> File {
        File { path, list: names, seen: None, has_list: false, broken: None, polls: None }
    }

    /// Reads the file, if it is another one than before; what is wrong with it, if that is news.
    fn look(&mut self) -> Option<String> {
        let stamp = Stamp::of_path(&self.path).map_err(|error| format!("{}: {error}", self.path.display()));
        if self.seen.as_ref() == Some(&stamp) {
            return None;
        }
        let read = stamp.clone().and_then(|_| read(&self.path));
        self.seen = Some(stamp);
        match read {
            Ok(endpoints) => {
                self.list.replace(endpoints);
                self.has_list = true;
                self.broken = None;
                None
            }
            Err(why) => {
                self.broken = Some(why.clone());
                Some(why)
            }
        }
    }

    async fn tick(&mut self) {
        let polls = self.polls.get_or_insert_with(|| {
            let mut polls = tokio::time::interval(POLL_INTERVAL);
            polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
            polls
        });
        polls.tick().await;
    }
}

impl Discover for File {
    async fn next(&mut self) -> Option<Found> {
        loop {
            self.tick().await;
            if let Some(why) = self.look() {
                return Some(Found::nothing(why));
            }
            // Names of the last good list are followed while the file is broken.
            if self.has_list && self.list.is_due() {
                let mut found = self.list.find().await;
                found.problem = self.broken.clone().or(found.problem);
                return Some(found);
            }
        }
    }
}

/// The endpoints in the file. Fails with one line: the file, the place, what is wrong.
fn read(path: &Path) -> Result<Vec<Endpoint>, String> {
    let file = path.display();
    let mut text = String::new();
    OpenFile::open(path)
        .and_then(|open| open.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| format!("{file}: {error}"))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{file}: larger than {FILE_BYTES_MAX} bytes"));
    }
    if text.trim().is_empty() {
        return Err(format!("{file}:1: the file is empty: write `endpoints: []` for none"));
    }
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let Listed(endpoints) = if is_json { parse_json(&text) } else { parse_yaml(&text) }
        .map_err(|(line, column, why)| format!("{file}:{line}:{column}: {why}"))?;
    for Endpoint { address, weight, priority, .. } in &endpoints {
        if !WEIGHTS.contains(weight) {
            return Err(format!("{file}: endpoint {address}: weight {weight} is not between 1 and 10000"));
        }
        if *priority > PRIORITY_MAX {
            return Err(format!(
                "{file}: endpoint {address}: priority {priority} is not between 0 and {PRIORITY_MAX}"
            ));
        }
    }
    Ok(endpoints)
}

/// Line, column, what is wrong.
type Misread = (u64, u64, String);

fn parse_json(text: &str) -> Result<Listed, Misread> {
    serde_json::from_str(text)
        .map_err(|error| (error.line() as u64, error.column() as u64, without_place(&error.to_string())))
}

fn parse_yaml(text: &str) -> Result<Listed, Misread> {
    serde_yaml::from_str(text).map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |place| (place.line(), place.column()));
        (line, column, without_place(&error.without_snippet().to_string()))
    })
}

/// The first line of a parser's message without the place, which is told in our own way.
fn without_place(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.split(" at line ").next().unwrap_or_default().to_owned()
}

/// A list of endpoints, bare or under `endpoints`.
struct Listed(Vec<Endpoint>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnderKey {
    endpoints: Vec<Endpoint>,
}

struct ListedVisitor;

impl<'de> de::Visitor<'de> for ListedVisitor {
    type Value = Listed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of endpoints, or `endpoints` with one")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Listed, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(Listed)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Listed, A::Error> {
        UnderKey::deserialize(MapAccessDeserializer::new(map)).map(|under_key| Listed(under_key.endpoints))
    }
}

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(ListedVisitor)
    }
}
