//! Where events go.
//!
//! What: each sink has a thread ([`runner`]) and a cursor of its own in the spool, so that one that is slow, hangs or is
//! gone costs the others nothing. The [`Set`] holds those that run, and replaces them when the configuration changes.
//! A new kind of sink is one file with its `Config` and an implementation of [`sink::Sink`], and one line in [`Kind`].
//! How it fails: towards nobody; see [`sink::Failure`] for what becomes of the events.

pub mod archive;
mod backoff;
mod dead_letters;
mod driver;
pub mod file;
#[cfg(test)]
mod fixture;
pub mod fluent;
mod heading;
pub(crate) mod http;
pub mod kafka;
pub mod kinesis;
#[cfg(test)]
mod kit;
pub mod nats;
pub mod otlp;
mod output;
mod runner;
mod secret;
mod secret_file;
mod set;
mod settled;
mod sigv4;
pub(crate) mod sink;
pub mod splunk;
pub mod statsd;
mod status;
pub mod stdout;
mod template;
#[cfg(test)]
mod tests;
pub mod zipkin;

pub(super) use dead_letters::DeadLetters;
pub use set::{Prepared, Set};
pub use status::Status;

use super::Service;
use super::config::Sinks;
use super::metrics::Registry;
use super::spool::is_name;
use sink::Sink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What sinks may want to know.
#[derive(Clone)]
pub(super) struct About {
    /// Who the events are about.
    pub(super) service: Service,
    /// What can be scraped, for those that send metrics.
    pub(super) registry: Arc<Registry>,
    /// What relative paths start from.
    pub(super) base_dir: PathBuf,
}

/// One sink of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Stdout(stdout::Config),
    File(file::Config),
    Otlp(otlp::Config),
    Kafka(kafka::Config),
    Nats(nats::Config),
    Fluent(fluent::Config),
    Statsd(statsd::Config),
    Archive(archive::Config),
    Kinesis(kinesis::Config),
    Splunk(splunk::Config),
    Zipkin(zipkin::Config),
}

impl Kind {
    /// All that are configured, each with its name.
    pub(super) fn all(sinks: &Sinks) -> Vec<(String, Kind)> {
        fn add<T: Clone>(
            all: &mut Vec<(String, Kind)>,
            configs: &[T],
            kind: &str,
            name: fn(&T) -> &Option<String>,
            make: fn(T) -> Kind,
        ) {
            for config in configs {
                let name = name(config).as_deref().unwrap_or(kind).to_owned();
                all.push((name, make(config.clone())));
            }
        }
        let mut all = Vec::new();
        all.extend(sinks.stdout.iter().map(|config| ("stdout".to_owned(), Kind::Stdout(config.clone()))));
        add(&mut all, &sinks.file, "file", |config| &config.name, Kind::File);
        add(&mut all, &sinks.otlp, "otlp", |config| &config.name, Kind::Otlp);
        add(&mut all, &sinks.kafka, "kafka", |config| &config.name, Kind::Kafka);
        add(&mut all, &sinks.nats, "nats", |config| &config.name, Kind::Nats);
        add(&mut all, &sinks.fluent, "fluent", |config| &config.name, Kind::Fluent);
        add(&mut all, &sinks.statsd, "statsd", |config| &config.name, Kind::Statsd);
        add(&mut all, &sinks.archive, "archive", |config| &config.name, Kind::Archive);
        add(&mut all, &sinks.kinesis, "kinesis", |config| &config.name, Kind::Kinesis);
        add(&mut all, &sinks.splunk, "splunk", |config| &config.name, Kind::Splunk);
        add(&mut all, &sinks.zipkin, "zipkin", |config| &config.name, Kind::Zipkin);
        all
    }

    /// The key in `pipeline.sinks`.
    fn key(&self) -> &'static str {
        match self {
            Kind::Stdout(_) => "stdout",
            Kind::File(_) => "file",
            Kind::Otlp(_) => "otlp",
            Kind::Kafka(_) => "kafka",
            Kind::Nats(_) => "nats",
            Kind::Fluent(_) => "fluent",
            Kind::Statsd(_) => "statsd",
            Kind::Archive(_) => "archive",
            Kind::Kinesis(_) => "kinesis",
            Kind::Splunk(_) => "splunk",
            Kind::Zipkin(_) => "zipkin",
        }
    }

    /// Makes it; an error says what is wrong with the configuration.
    fn open(&self, about: &About) -> Result<Box<dyn Sink>, String> {
        self.make(&about.service, &about.base_dir, Some(&about.registry))
    }

    fn make(
        &self,
        service: &Service,
        base_dir: &Path,
        registry: Option<&Arc<Registry>>,
    ) -> Result<Box<dyn Sink>, String> {
        Ok(match self {
            Kind::Stdout(_) => Box::new(stdout::Stdout::open()?),
            Kind::File(config) => Box::new(file::File::open(config)?),
            Kind::Otlp(config) => {
                Box::new(otlp::OtlpSink::new(config, service, base_dir, registry.map(Arc::clone))?)
            }
            Kind::Kafka(config) => Box::new(kafka::Kafka::new(config, service, base_dir)?),
            Kind::Nats(config) => Box::new(nats::Nats::new(config, service, base_dir)?),
            Kind::Fluent(config) => Box::new(fluent::Fluent::new(config, service, base_dir)?),
            Kind::Statsd(config) => Box::new(statsd::Statsd::new(config, service, base_dir)?),
            Kind::Archive(config) => Box::new(archive::Archive::new(config, service, base_dir)?),
            Kind::Kinesis(config) => Box::new(kinesis::Kinesis::new(config, service, base_dir)?),
            Kind::Splunk(config) => Box::new(splunk::Splunk::new(config, service, base_dir)?),
            Kind::Zipkin(config) => Box::new(zipkin::Zipkin::new(config, service, base_dir)?),
        })
    }
}

/// The kinds that have events whole, so that recordings can be made of them again: keys in `pipeline.sinks`.
pub const KINDS_FOR_RECORDINGS: [&str; 8] =
    ["archive", "file", "fluent", "kafka", "kinesis", "nats", "splunk", "stdout"];

/// What is wrong with one sink of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its kind: the key in `pipeline.sinks`.
    pub kind: &'static str,
    /// Which of its kind, from 0.
    pub index: usize,
    /// One line: what is wrong, and what to do.
    pub message: String,
}

/// Everything that is wrong with sinks, as far as it can be known before one is asked: what their constructors say, which
/// read the files that are named and connect nowhere, and names that cannot be or that two have. Relative paths start at
/// `base_dir`. Standard output and files are not opened: that would create them.
pub fn problems(sinks: &Sinks, base_dir: &Path) -> Vec<Problem> {
    let all = Kind::all(sinks);
    let mut found = Vec::new();
    for (place, (name, kind)) in all.iter().enumerate() {
        let before = all.get(..place).unwrap_or_default();
        let index = before.iter().filter(|(_, other)| other.key() == kind.key()).count();
        let mut tell = |message| found.push(Problem { kind: kind.key(), index, message });
        if before.iter().any(|(other, _)| other == name) {
            tell(format!("two sinks are called `{name}`: give each a `name`"));
        }
        if !is_name(name) {
            tell(format!("`{name}` cannot be a name: write 1 to 64 letters, digits, `-`, `_` and `.`"));
        }
        if !matches!(kind, Kind::Stdout(_) | Kind::File(_))
            && let Err(message) = kind.make(&Service::default(), base_dir, None)
        {
            tell(message);
        }
    }
    found
}
