//! Counters and times of exchanges as StatsD datagrams.
//!
//! What: three or four lines for each exchange, in datagrams of at most [`DATAGRAM_BYTES_MAX`] bytes
//! (<https://github.com/statsd/statsd/blob/master/docs/metric_types.md>). With `dialect: dogstatsd` they have tags
//! (<https://docs.datadoghq.com/developers/dogstatsd/datagram_shell/>): service, route, cluster, status class, license.
//! Never an account or a user: every value of a tag is a time series. Nothing is sampled.
//! How it fails: UDP does not answer, so delivered means that the kernel has taken it. A host that says that nobody listens
//! (ICMP) makes the batch come again; what it counts may then be counted twice, never too little by that. Names are resolved
//! again after a failure and once a minute.

use super::driver::Driver;
use super::sink::{Failure, Pace, Sent, Sink};
use crate::pipeline::Service;
use crate::pipeline::event::{Value, members};
use crate::pipeline::spool::Batch;
use crate::units::{self, HostPort};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

/// What fits into one Ethernet frame beneath a tunnel or two (StatsD's own advice: 1432).
const DATAGRAM_BYTES_MAX: usize = 1432;
/// Longest value of a tag.
const TAG_CHARS_MAX: usize = 80;
/// Longest prefix.
const PREFIX_CHARS_MAX: usize = 100;
/// How long an address of the server's name is used.
const RESOLVE_EVERY: Duration = Duration::from_secs(60);

/// `pipeline.sinks.statsd`: StatsD, the Datadog agent, Telegraf, Vector …
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StatsdSink")]
pub struct Config {
    /// The sink's name in metrics and events; absent: `statsd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Host and UDP port of the server (8125 as a rule).
    pub address: HostPort,
    /// What the server understands.
    #[serde(default)]
    pub dialect: Dialect,
    /// What every name begins with.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// How long a batch may take, the resolution of the server's name included.
    #[serde(default = "default_timeout", with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub timeout: Duration,
}

/// What the server understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Names and numbers; the status class is a name of its own.
    #[default]
    Statsd,
    /// Tags behind `#`.
    Dogstatsd,
}

fn default_prefix() -> String {
    "sidelight".into()
}

fn default_timeout() -> Duration {
    Duration::from_secs(5)
}

/// The sink.
pub struct Statsd {
    address: HostPort,
    dialect: Dialect,
    prefix: String,
    service: String,
    timeout: Duration,
    driver: Driver,
    socket: Option<(UdpSocket, Instant)>,
}

impl Statsd {
    /// Checks the configuration; resolves the name when there is something to send.
    ///
    /// # Errors
    /// The prefix cannot be the beginning of a name.
    pub fn new(config: &Config, about: &Service, _: &Path) -> Result<Statsd, String> {
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let prefix = &config.prefix;
        if prefix.is_empty() || prefix.len() > PREFIX_CHARS_MAX || !prefix.chars().all(is_legal) {
            return Err(format!(
                "prefix: `{}`: 1 to {PREFIX_CHARS_MAX} letters, digits, `.`, `_`, `-`",
                prefix.escape_debug()
            ));
        }
        Ok(Statsd {
            address: config.address.clone(),
            dialect: config.dialect,
            prefix: prefix.clone(),
            service: about.name.clone(),
            timeout: config.timeout,
            driver: Driver::default(),
            socket: None,
        })
    }

    /// Sees to a socket that is connected, so that the kernel tells what the other host says by ICMP.
    fn connect(&mut self, deadline: Instant) -> Result<(), Failure> {
        if self.socket.as_ref().is_some_and(|(_, at)| at.elapsed() < RESOLVE_EVERY) {
            return Ok(());
        }
        let failed = |error: io::Error| Failure::retry(format!("{}: {error}", self.address));
        let address = match self.address.socket_addr() {
            Some(address) => address,
            None => {
                let name = (self.address.host.as_str(), self.address.port);
                let found = self.driver.run(deadline, async {
                    tokio::net::lookup_host(name).await.map(|mut found| found.next())
                })?;
                let late = || Failure::retry(format!("{}: the name was not resolved in time", self.address));
                let none = || Failure::retry(format!("{}: the name has no address", self.address));
                found.ok_or_else(late)?.map_err(failed)?.ok_or_else(none)?
            }
        };
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).map_err(failed)?;
        socket.connect(address).map_err(failed)?;
        self.socket = Some((socket, Instant::now()));
        Ok(())
    }

    /// Adds an exchange's lines; `false`: the event is no exchange.
    fn lines(&self, event: &[u8], lines: &mut Vec<String>) -> bool {
        let exchange = Exchange::of(event);
        if !exchange.is_exchange {
            return false;
        }
        let direction = if exchange.is_inbound { "inbound" } else { "outbound" };
        let class = match exchange.status {
            Some(status @ 100..=599) => format!("{}xx", status / 100),
            _ => "none".into(),
        };
        let tags = match self.dialect {
            Dialect::Statsd => String::new(),
            Dialect::Dogstatsd => {
                let pairs = [
                    ("service", Some(self.service.as_str())),
                    ("route", exchange.route.as_deref()),
                    ("cluster", exchange.cluster.as_deref()),
                    ("status_class", Some(class.as_str())),
                    ("license", exchange.license.as_deref()),
                ];
                tags(&pairs)
            }
        };
        let mut line = |what: &str, value: std::fmt::Arguments<'_>| {
            lines.push(format!("{}.{direction}.{what}:{value}{tags}", self.prefix));
        };
        line("requests", format_args!("1|c"));
        if self.dialect == Dialect::Statsd {
            line(&format!("status.{class}"), format_args!("1|c"));
        }
        if let Some(duration) = exchange.duration_ms {
            line("duration", format_args!("{duration}|ms"));
        }
        if let Some(bytes) = exchange.request_bytes {
            line("request_bytes", format_args!("{bytes}|c"));
        }
        if let Some(bytes) = exchange.response_bytes {
            line("response_bytes", format_args!("{bytes}|c"));
        }
        true
    }

    fn hand_over(&mut self, datagrams: &[Vec<u8>], deadline: Instant) -> Result<(), Failure> {
        self.connect(deadline)?;
        let Some((socket, _)) = &self.socket else { return Err(Failure::retry("there is no socket")) };
        send_all(socket, datagrams, deadline).map_err(|error| {
            self.socket = None;
            let why = match error.kind() {
                io::ErrorKind::ConnectionRefused => "nobody listens there".into(),
                _ => error.to_string(),
            };
            Failure::retry(format!("{}: {why}", self.address))
        })
    }
}

impl Sink for Statsd {
    fn pace(&self) -> Pace {
        Pace { timeout: self.timeout, ..Pace::default() }
    }

    fn send(&mut self, batch: &Batch, deadline: Instant) -> Result<Sent, Failure> {
        let (mut datagrams, mut lines, mut passed_over) = (Vec::new(), Vec::new(), 0);
        for event in batch.events() {
            lines.clear();
            passed_over += u64::from(!self.lines(event.payload, &mut lines));
            lines.iter().for_each(|line| pack(&mut datagrams, line));
        }
        if !datagrams.is_empty() {
            self.hand_over(&datagrams, deadline)?;
        }
        Ok(Sent { passed_over, ..Sent::all(batch) })
    }
}

/// Hands everything to the kernel, and asks it whether the other host objected.
fn send_all(socket: &UdpSocket, datagrams: &[Vec<u8>], deadline: Instant) -> io::Result<()> {
    // What an earlier batch was told is no matter of this one.
    let _ = socket.take_error();
    for datagram in datagrams {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_write_timeout(Some(left))?;
        socket.send(datagram)?;
    }
    // A host nearby has answered by now.
    socket.take_error()?.map_or(Ok(()), Err)
}

/// Puts a line into the last datagram, or into a new one.
fn pack(datagrams: &mut Vec<Vec<u8>>, line: &str) {
    match datagrams.last_mut() {
        Some(datagram) if datagram.len() + 1 + line.len() <= DATAGRAM_BYTES_MAX => {
            datagram.push(b'\n');
            datagram.extend_from_slice(line.as_bytes());
        }
        _ => datagrams.push(line.as_bytes().to_vec()),
    }
}

/// `|#service:checkout,route:pay`; what would end a tag is `_`.
fn tags(pairs: &[(&str, Option<&str>)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        let _ = write!(text, "{}{name}:", if text.is_empty() { "|#" } else { "," });
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
        text.extend(value.chars().take(TAG_CHARS_MAX).map(|c| if is_legal(c) { c } else { '_' }));
    }
    text
}

/// What of an exchange is counted.
#[derive(Default)]
struct Exchange {
    is_exchange: bool,
    is_inbound: bool,
    status: Option<i64>,
    duration_ms: Option<f64>,
    request_bytes: Option<i64>,
    response_bytes: Option<i64>,
    route: Option<String>,
    cluster: Option<String>,
    license: Option<String>,
}

impl Exchange {
    fn of(event: &[u8]) -> Exchange {
        let mut exchange = Exchange::default();
        for (name, value) in members(event) {
            let text = || value.text().map(|text| text.get().into_owned());
            match (name.raw(), value) {
                (b"schema", Value::Text(schema)) => {
                    exchange.is_exchange = schema.raw().starts_with(b"sidelight/exchange/");
                    if !exchange.is_exchange {
                        break;
                    }
                }
                (b"sidelight.direction", Value::Text(text)) => exchange.is_inbound = text.raw() == b"inbound",
                (b"http.response.status_code", Value::Int(status)) => exchange.status = Some(status),
                (b"sidelight.duration_ms", _) => {
                    exchange.duration_ms = value.number().filter(|ms| *ms >= 0.0)
                }
                (b"http.request.body.size", Value::Int(bytes @ 0..)) => exchange.request_bytes = Some(bytes),
                (b"http.response.body.size", Value::Int(bytes @ 0..)) => {
                    exchange.response_bytes = Some(bytes)
                }
                (b"sidelight.route", _) => exchange.route = text(),
                (b"sidelight.cluster", _) => exchange.cluster = text(),
                (b"license", _) => exchange.license = text(),
                _ => {}
            }
        }
        exchange
    }
}

#[cfg(test)]
mod tests;
