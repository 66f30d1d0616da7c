//! `pipeline.sinks.archive`: events for years, in a directory or a bucket.
//!
//! What: files `service=…/kind=…/date=…/hour=…/<instance>-<epoch>-<first sequence>.ndjson.zst` (or `.parquet`): folders
//! that DuckDB, Athena, BigQuery, Redshift and Spark take as columns (Hive's partitions). The events of an hour and a kind
//! go into a file until it is large or old enough, then into the next.
//!
//! - [`config`]; [`partition`]: where an event belongs; [`draft`]: a file that grows; [`ndjson`], [`columns`], [`table`]: what
//!   is in it; [`target`]: to where; [`directory`], [`s3`]: how it gets to its place
//!
//! # What is delivered
//! An event is delivered when the file that holds it is complete and durable: renamed to its place and written through to
//! the disk, or acknowledged by the bucket; and when that is so for every event before it. So a file in an archive is always
//! whole, and all events stay in the spool until then, at most [`Config::file_age_max`] and the time of a write.
//!
//! # Duplicates
//! After a crash the events that were not delivered come again. Those that are in a file which was complete already, but
//! behind an event that was not, are then in two files; never more than what `file_age_max` spans. A file that begins with
//! the same event as before gets the same name, and replaces it: nothing is lost by that, for all that was in the old one
//! comes again (but for what the spool dropped meanwhile for want of room, which it counts). Every row has the event's `id`
//! (instance, epoch, sequence), by which readers leave out what is there twice. Without a crash nothing is there twice: what
//! is durable, and what waits in memory for a bucket, is left out when it comes again.
//!
//! # How it fails
//! A disk that is full, a directory that lost its permissions, a bucket that is not there, a key that is refused: everything
//! that is not delivered stays in the spool and comes again, since an operator can mend all of them. Nothing is ever
//! refused for good. What is made when a directory fails is thrown away and made anew; what waits for a bucket is kept,
//! bounded by 64 MiB.

#[cfg(feature = "parquet")]
mod columns;
mod config;
mod directory;
mod draft;
mod ndjson;
mod partition;
mod s3;
#[cfg(feature = "parquet")]
mod table;
mod target;
#[cfg(test)]
mod tests;

pub use config::{Config, Format};

use super::sink::{Failure, Pace, Sent, Sink};
use crate::pipeline::Service;
use crate::pipeline::spool::{Batch, Event};
use bytes::Bytes;
use directory::Directory;
use draft::Draft;
use partition::{Head, Partition};
use s3::S3;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use target::Target;

/// Files that grow at the same time; for one more, the oldest is completed.
const OPEN_MAX: usize = 16;
/// Bytes in memory: with more, the largest file is completed, and nothing is taken until there are less.
const HELD_BYTES_MAX: usize = 64 << 20;
/// How long one call may take: a file of some MiB over a slow line.
const TIMEOUT: Duration = Duration::from_secs(30);
/// With less time than this left, no other object is put in the same call.
const PUT_TIME_MIN: Duration = Duration::from_secs(10);

/// See the module.
pub struct Archive {
    store: Store,
    service: String,
    instance: String,
    format: (Format, i32),
    file_bytes_max: usize,
    file_age_max: Duration,
    /// By their first event.
    drafts: Vec<Draft>,
    /// Objects that are complete, by when they were.
    ready: VecDeque<Ready>,
    /// Partitions, and up to which event they are durable, where that is beyond `settled`. Not more than some dozens: with
    /// each that is completed for another the oldest draft goes, and what it held back is settled.
    durable: Vec<(Partition, u64)>,
    /// The last event that was taken.
    seen: u64,
    /// Up to here everything is durable.
    settled: u64,
    /// Whether all drafts are being completed.
    is_closing: bool,
    has_started: bool,
}

enum Store {
    Directory(Directory),
    S3(Box<S3>),
}

/// An object that waits to be put.
struct Ready {
    partition: Partition,
    path: String,
    first: u64,
    last: u64,
    content: Bytes,
}

impl Archive {
    /// Touches nothing yet.
    ///
    /// # Errors
    /// What is wrong in the configuration; a secret's file cannot be read.
    pub fn new(config: &Config, about: &Service, base_dir: &Path) -> Result<Archive, String> {
        config.format.check()?;
        if !(1..=19).contains(&config.compression_level) {
            return Err(format!("compression_level is {}: 1 to 19 is possible", config.compression_level));
        }
        if config.file_bytes_max == 0 || config.file_age_max.is_zero() {
            return Err("file_bytes_max and file_age_max must be more than nothing".to_owned());
        }
        let store = match (&config.directory, &config.s3) {
            (Some(directory), None) => Store::Directory(Directory::new(base_dir.join(directory))),
            (None, Some(s3)) => Store::S3(Box::new(S3::new(s3, base_dir)?)),
            _ => return Err("write either `directory` or `s3`".to_owned()),
        };
        Ok(Archive {
            store,
            service: partition::escape(&about.name),
            instance: partition::name_part(&about.instance),
            format: (config.format, config.compression_level),
            file_bytes_max: config.file_bytes_max,
            file_age_max: config.file_age_max,
            drafts: Vec::new(),
            ready: VecDeque::new(),
            durable: Vec::new(),
            seen: 0,
            settled: 0,
            is_closing: false,
            has_started: false,
        })
    }

    /// Deletes, once, what an earlier process left half-done.
    fn start(&mut self) -> Result<(), Failure> {
        if let (Store::Directory(directory), false) = (&self.store, self.has_started) {
            directory.start(&self.instance).map_err(Failure::retry)?;
        }
        self.has_started = true;
        Ok(())
    }

    fn take(&mut self, event: Event<'_>) -> Result<(), String> {
        let head = Head::of(event.payload);
        let is_durable =
            |(partition, last): &(Partition, u64)| partition.has(head) && event.sequence <= *last;
        if self.durable.iter().any(is_durable) {
            self.seen = event.sequence;
            return Ok(());
        }
        let index = match self.drafts.iter().position(|draft| draft.partition.has(head)) {
            Some(index) => index,
            None => self.begin(head, event.sequence)?,
        };
        let Some(draft) = self.drafts.get_mut(index) else { return Ok(()) };
        draft.push(event.sequence, event.payload).map_err(|error| told(&draft.name, &error))?;
        self.seen = event.sequence;
        if draft.bytes >= self.file_bytes_max {
            return self.finish(index);
        }
        if self.held() > HELD_BYTES_MAX {
            let largest = self.drafts.iter().enumerate().max_by_key(|(_, draft)| draft.held());
            return largest.map(|(index, _)| index).map_or(Ok(()), |index| self.finish(index));
        }
        Ok(())
    }

    fn begin(&mut self, head: Head<'_>, first: u64) -> Result<usize, String> {
        if self.drafts.len() >= OPEN_MAX {
            self.finish(0)?;
        }
        let name = format!("{}-{}-{first}.{}", self.instance, head.epoch, self.format.0.ending());
        let target = match &self.store {
            Store::Directory(directory) => Target::File(directory.begin(&name)?),
            Store::S3(_) => Target::Memory(Vec::new()),
        };
        let draft = Draft::new(self.format, Partition::of(head), name.clone(), first, target);
        self.drafts.push(draft.map_err(|error| told(&name, &error))?);
        Ok(self.drafts.len() - 1)
    }

    /// Completes a draft: in a directory it is durable then, for a bucket it is ready.
    fn finish(&mut self, index: usize) -> Result<(), String> {
        let draft = self.drafts.remove(index);
        let (partition, name, first, last) =
            (draft.partition.clone(), draft.name.clone(), draft.first, draft.last);
        let folder = partition.path(&self.service);
        match (draft.finish().map_err(|error| told(&name, &error))?, &self.store) {
            (Target::File(file), Store::Directory(directory)) => {
                directory.publish(file, &folder, &name)?;
                self.keep(partition, last);
            }
            (Target::Memory(content), _) => {
                let path = format!("{folder}/{name}");
                self.ready.push_back(Ready { partition, path, first, last, content: content.into() });
            }
            (Target::File(_), Store::S3(_)) => {}
        }
        Ok(())
    }

    /// Remembers that a partition is durable up to an event.
    fn keep(&mut self, partition: Partition, last: u64) {
        match self.durable.iter_mut().find(|(known, _)| *known == partition) {
            Some((_, known)) => *known = last.max(*known),
            None => self.durable.push((partition, last)),
        }
    }

    /// Puts what is ready into the bucket, as far as time allows, but at least one.
    fn put(&mut self, deadline: Instant) -> Result<(), Failure> {
        let Store::S3(s3) = &mut self.store else { return Ok(()) };
        let mut put: Vec<(Partition, u64)> = Vec::new();
        let mut outcome = Ok(());
        while let Some(ready) = self.ready.front() {
            if !put.is_empty() && deadline.saturating_duration_since(Instant::now()) < PUT_TIME_MIN {
                break;
            }
            outcome = s3.put(&ready.path, ready.content.clone(), deadline);
            if outcome.is_err() {
                break;
            }
            put.extend(self.ready.pop_front().map(|ready| (ready.partition, ready.last)));
        }
        put.into_iter().for_each(|(partition, last)| self.keep(partition, last));
        outcome
    }

    /// Completes all drafts when the oldest is too old, or is the last there will be: in one go, so that everything is
    /// settled then, and little comes again after a crash.
    fn complete(&mut self, deadline: Instant) -> Result<(), Failure> {
        self.is_closing |=
            self.drafts.first().is_some_and(|oldest| oldest.begun_at.elapsed() >= self.file_age_max);
        while self.is_closing && !self.drafts.is_empty() {
            if let Err(reason) = self.finish(0) {
                return Err(self.forget(reason));
            }
            if Instant::now() >= deadline {
                return Ok(());
            }
        }
        self.is_closing = false;
        Ok(())
    }

    /// After a failure of what drafts are written to: everything that is not settled comes again, and is made anew.
    fn forget(&mut self, reason: String) -> Failure {
        self.drafts.clear();
        self.ready.clear();
        self.is_closing = false;
        self.seen = self.settled;
        Failure::retry(reason)
    }

    fn held(&self) -> usize {
        let ready: usize = self.ready.iter().map(|ready| ready.content.len()).sum();
        self.drafts.iter().map(Draft::held).sum::<usize>() + ready
    }

    /// What is settled now.
    fn sent(&mut self) -> Sent {
        let waiting = self.drafts.iter().map(|draft| draft.first);
        let first = waiting.chain(self.ready.iter().map(|ready| ready.first)).min();
        let through = first.map_or(self.seen, |first| first.saturating_sub(1));
        self.settled = through.max(self.settled);
        self.durable.retain(|(_, last)| *last > through);
        // Said again and again: what was settled while the events were about to come again was not taken notice of.
        Sent { through: Some(self.settled).filter(|through| *through > 0), ..Sent::default() }
    }
}

impl Sink for Archive {
    fn pace(&self) -> Pace {
        Pace { events_max: 4096, linger: Duration::from_secs(1), timeout: TIMEOUT, ..Pace::default() }
    }

    fn send(&mut self, batch: &Batch, deadline: Instant) -> Result<Sent, Failure> {
        self.start()?;
        // What waits for a bucket goes first: while it does not get there, nothing more is taken.
        self.put(deadline)?;
        if self.held() > HELD_BYTES_MAX {
            return Err(Failure::retry("64 MiB wait for the bucket: it takes less than there is"));
        }
        for event in batch.events() {
            // What was taken before a failure comes again, and is here already.
            if event.sequence <= self.seen {
                continue;
            }
            if let Err(reason) = self.take(event) {
                return Err(self.forget(reason));
            }
        }
        self.complete(deadline)?;
        self.put(deadline)?;
        Ok(self.sent())
    }

    fn idle(&mut self, deadline: Instant) -> Result<Sent, Failure> {
        self.put(deadline)?;
        self.complete(deadline)?;
        self.put(deadline)?;
        if let Store::S3(s3) = &mut self.store {
            s3.idle();
        }
        Ok(self.sent())
    }

    fn close(&mut self, deadline: Instant) -> Result<Sent, Failure> {
        self.is_closing = true;
        let mut sent = self.idle(deadline)?;
        // Nobody calls again: whatever is ready goes while there is time, however little.
        while !self.ready.is_empty() && Instant::now() < deadline {
            self.put(deadline)?;
            sent = self.sent();
        }
        Ok(sent)
    }
}

fn told(name: &str, error: &io::Error) -> String {
    format!("archive file {name}: {error}")
}
