//! Events to Fluentd, Fluent Bit and whatever else has a `forward` input.
//!
//! What: Forward protocol v1 ([`message`]) over TCP, TLS or a Unix socket ([`connection`]), each chunk with an id that the
//! server acknowledges, and with the handshake of a shared key where the server has one ([`handshake`]).
//! A batch is one message for each tag, in the order of events within a tag; each waits for its acknowledgement, and a tag
//! that was acknowledged is not sent again when a later one fails. A connection is kept as long as it works.
//! How it fails: a server that closes, is silent, answers garbage or for another chunk costs the connection, and the same
//! events come again. An event that is no JSON object is refused.

mod answer;
pub mod config;
mod connection;
mod handshake;
mod message;
#[cfg(test)]
mod tests;

pub use config::Config;

use super::driver::Driver;
use super::heading::Heading;
use super::secret_file;
use super::settled::Settled;
use super::sink::{Failure, Pace, Sent, Sink};
use super::template::Template;
use crate::identity::ClientTls;
use crate::pipeline::Service;
use crate::pipeline::spool::Batch;
use connection::{Connection, Target};
use handshake::{Keys, random_hex};
use message::Entries;
use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

/// The sink.
pub struct Fluent {
    target: Target,
    keys: Option<Keys>,
    tag: Template,
    wants_acks: bool,
    timeout: Duration,
    driver: Driver,
    connection: Option<Connection>,
    settled: Settled,
}

impl Fluent {
    /// Reads the files that the configuration names; connects when there is something to send.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(config: &Config, about: &Service, base_dir: &Path) -> Result<Fluent, String> {
        let target = match (&config.address, &config.socket, &config.tls) {
            (Some(address), None, tls) => {
                let tls = tls.as_ref().map(|tls| ClientTls::load(tls, base_dir)).transpose();
                Target::Tcp(address.clone(), tls.map_err(|error| error.to_string())?)
            }
            (None, Some(socket), None) => Target::Unix(base_dir.join(socket)),
            (None, Some(_), Some(_)) => return Err("tls: a Unix socket has none".into()),
            _ => return Err("either `address` or `socket` must say where the server is".into()),
        };
        let tag = Template::new(&config.tag, &about.name).map_err(|why| format!("tag: {why}"))?;
        Ok(Fluent {
            target,
            keys: keys(config, about, base_dir)?,
            tag,
            wants_acks: config.ack,
            timeout: config.timeout,
            driver: Driver::default(),
            connection: None,
            settled: Settled::default(),
        })
    }

    /// The events that are not settled yet, by tag, in the order in which tags come.
    fn by_tag(&mut self, batch: &Batch) -> Vec<(String, Entries)> {
        let mut tags: Vec<(String, Entries)> = Vec::new();
        for event in batch.events().filter(|event| !self.settled.has(event.sequence)).collect::<Vec<_>>() {
            let heading = Heading::of(event.payload);
            let tag = self.tag.name(heading.kind());
            let index = tags.iter().position(|(have, _)| *have == tag).unwrap_or_else(|| {
                tags.push((tag, Entries::default()));
                tags.len() - 1
            });
            let Some((_, entries)) = tags.get_mut(index) else { continue };
            if let Err(why) = entries.push(event.sequence, event.payload, heading.timestamp) {
                self.settled.refuse(event.sequence, why);
            }
        }
        tags.retain(|(_, entries)| !entries.sequences.is_empty());
        tags
    }

    /// Sends one message and waits for its acknowledgement.
    fn deliver(&mut self, tag: &str, entries: &Entries, deadline: Instant) -> Result<(), Failure> {
        let chunk = random_hex().map_err(Failure::retry)?;
        let chunk = self.wants_acks.then_some(chunk.as_str());
        let message = entries.message(tag, chunk).map_err(Failure::refused)?;
        let doing = Cell::new("sending");
        let (target, keys, kept) = (&self.target, self.keys.as_ref(), &mut self.connection);
        let done = self.driver.run(deadline, async {
            let mut connection = match still_good(kept.take()).await {
                Some(connection) => connection,
                None => Connection::open(target, keys, |what| doing.set(what)).await?,
            };
            doing.set("sending");
            connection.write(&message).await?;
            if let Some(chunk) = chunk {
                doing.set("waiting for the acknowledgement");
                check_ack(chunk, &connection.read().await?)?;
            }
            // Only a connection that is known to work is kept.
            *kept = Some(connection);
            Ok(())
        })?;
        let late = || Err(format!("no answer in time while {}", doing.get()));
        done.unwrap_or_else(late).map_err(|why: String| Failure::retry(format!("{}: {why}", self.target)))
    }
}

impl Sink for Fluent {
    fn pace(&self) -> Pace {
        Pace { timeout: self.timeout, ..Pace::default() }
    }

    fn send(&mut self, batch: &Batch, deadline: Instant) -> Result<Sent, Failure> {
        self.settled.begin(batch);
        for (tag, entries) in self.by_tag(batch) {
            self.deliver(&tag, &entries, deadline)?;
            entries.sequences.iter().for_each(|sequence| self.settled.deliver(*sequence));
        }
        Ok(self.settled.finish(batch))
    }
}

/// The connection, if the server has not closed it since.
async fn still_good(kept: Option<Connection>) -> Option<Connection> {
    let mut connection = kept?;
    connection.is_quiet().await.then_some(connection)
}

/// Whether the server has taken the chunk.
fn check_ack(chunk: &str, answer: &answer::Answer) -> Result<(), String> {
    match answer.entry("ack").and_then(answer::Answer::bytes) {
        Some(ack) if ack == chunk.as_bytes() => Ok(()),
        Some(_) => Err("the server acknowledges another chunk than was sent".into()),
        None if answer.message("HELO").is_some() => {
            Err("the server wants a handshake: set `shared_key_file`".into())
        }
        None => Err("the server answers with something else than an acknowledgement".into()),
    }
}

fn keys(config: &Config, about: &Service, base_dir: &Path) -> Result<Option<Keys>, String> {
    let user = match (&config.username, &config.password_file) {
        (Some(user), Some(path)) => Some((user.clone(), secret_file::read("password_file", base_dir, path)?)),
        (None, None) => None,
        _ => return Err("`username` and `password_file` go together".into()),
    };
    let Some(path) = &config.shared_key_file else {
        return match (user, &config.hostname) {
            (None, None) => Ok(None),
            _ => Err("`username` and `hostname` mean something only with `shared_key_file`".into()),
        };
    };
    let hostname = config.hostname.clone().unwrap_or_else(|| format!("sidelight-{}", about.instance));
    Ok(Some(Keys { hostname, shared_key: secret_file::read("shared_key_file", base_dir, path)?, user }))
}
