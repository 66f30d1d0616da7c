//! `pipeline.sinks.zipkin`: spans in Zipkin's second JSON format.
//!
//! What: each exchange is a span (SERVER inbound, CLIENT outbound), and each further attempt is one (CLIENT), if its trace is
//! recorded; their other members are tags. All else is passed over. Source: <https://zipkin.io/zipkin-api/#/default/post_spans>.
//!
//! How it fails: what Zipkin finds malformed (400) or too large (413) is refused, and tried span by span; everything else,
//! a wrong path among it, is sent again. A batch whose answer is lost is sent twice; Zipkin stores a span under its id.

mod config;
mod span;
#[cfg(test)]
mod tests;

pub use config::Config;

use super::http::{HttpClient, Protocol};
use super::sink::{Failure, Pace, Sent, Sink};
use crate::pipeline::Service;
use crate::pipeline::spool::Batch;
use std::path::Path;
use std::time::Instant;

const PATH: &str = "/api/v2/spans";

/// See the module.
pub struct Zipkin {
    client: HttpClient,
    target: String,
    service: String,
}

impl Zipkin {
    /// Makes no connection yet.
    ///
    /// # Errors
    /// What is wrong with the URL or a file of `tls`.
    pub fn new(config: &Config, about: &Service, base_dir: &Path) -> Result<Zipkin, String> {
        let client = HttpClient::new(&config.url, config.tls.as_ref(), base_dir, Protocol::Http1)?;
        let base = client.base_path();
        let target = if base.ends_with(PATH) { base.to_owned() } else { format!("{base}{PATH}") };
        Ok(Zipkin { client, target, service: about.name.clone() })
    }
}

impl Sink for Zipkin {
    fn pace(&self) -> Pace {
        Pace::default()
    }

    fn send(&mut self, batch: &Batch, deadline: Instant) -> Result<Sent, Failure> {
        let mut body = Vec::with_capacity(batch.len() * 1024);
        let mut passed_over = 0;
        for event in batch.events() {
            let before = body.len();
            body.push(if before == 0 { b'[' } else { b',' });
            if !span::write(&mut body, event.payload, &self.service) {
                body.truncate(before);
                passed_over += 1;
            }
        }
        if !body.is_empty() {
            body.push(b']');
            let headers = [("content-type", "application/json")];
            let answer = self.client.request("POST", &self.target, &headers, body.into(), deadline)?;
            match answer.status {
                200..=299 => {}
                400 | 413 => return Err(Failure::Refused { reason: answer.reason() }),
                _ => return Err(Failure::Retry { reason: answer.reason(), after: answer.retry_after() }),
            }
        }
        Ok(Sent { passed_over, ..Sent::all(batch) })
    }

    fn idle(&mut self, _: Instant) -> Result<Sent, Failure> {
        self.client.idle();
        Ok(Sent::nothing())
    }
}
