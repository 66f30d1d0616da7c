//! `sidelight ctl`: what a running sidecar says of itself, and what it is told, through its admin API.

mod check;
mod http;
mod page;
#[cfg(test)]
mod tests;

use super::{Format, print};
use check::Check;
use clap::{Args, Subcommand};
use http::{Answer, Client};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

pub(super) const EXAMPLES: &str = "\
Examples:
  sidelight ctl check
  sidelight ctl ready && echo takes traffic
  sidelight ctl clusters
  sidelight ctl --admin 127.0.0.1:15100 log-level sidelight=debug
  sidelight ctl --token-file /run/secrets/sidelight drain";

/// The arguments of `ctl`.
#[derive(Args)]
pub(super) struct Ctl {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

/// Which sidecar.
#[derive(Args)]
struct Target {
    /// The sidecar's admin port; for `ready` and `check` its telemetry port will do
    #[arg(long, global = true, value_name = "HOST:PORT", default_value = "127.0.0.1:15000", value_parser = address)]
    admin: SocketAddr,
    /// File with the token that `drain` and `log-level` need, where the sidecar has `admin.token_file`
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// How long an answer may take
    #[arg(long, global = true, value_name = "DURATION", default_value = "5s", value_parser = crate::units::parse_duration)]
    timeout: Duration,
    /// How the answer is printed
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Subcommand)]
enum Command {
    /// Judge it as a Nagios plugin does: one line, exit 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN
    #[command(after_help = check::EXAMPLES)]
    Check(Check),
    /// Say whether it takes traffic, or what it waits for; exit 1 if not
    Ready,
    /// Print the configuration in force
    Config,
    /// Print the clusters and how their endpoints are
    Clusters,
    /// Have it finish what is under way, take nothing new, and end
    Drain,
    /// Set the level of its own log
    LogLevel {
        /// off, error, warn, info, debug or trace, or module=level, separated by commas
        level: String,
    },
}

/// An address; a name is looked up.
fn address(text: &str) -> Result<SocketAddr, String> {
    use std::net::ToSocketAddrs;
    let found = text.to_socket_addrs().map_err(|error| format!("{error}; write HOST:PORT"))?;
    found.into_iter().next().ok_or_else(|| "no address".into())
}

impl Ctl {
    pub(super) fn execute(&self) -> ExitCode {
        let client = Client::new(self.target.admin, self.target.timeout);
        let client = match &self.target.token_file {
            None => client,
            Some(file) => match std::fs::read_to_string(file) {
                Ok(token) => client.with_token(token.trim()),
                Err(error) => return failed(&format!("the token in {}: {error}", file.display())),
            },
        };
        if let Command::Check(check) = &self.command {
            return check.execute(&client, self.target.format);
        }
        let answer = match &self.command {
            Command::Check(_) | Command::Ready => client.get("/ready", "application/json"),
            Command::Config if self.target.format == Format::Text => {
                client.get("/config", "application/yaml")
            }
            Command::Config => client.get("/config", "application/json"),
            Command::Clusters => client.get("/clusters", "application/json"),
            Command::Drain => client.post("/drain", ""),
            Command::LogLevel { level } => client.post("/log-level", level),
        };
        match answer {
            Ok(answer) => self.show(&answer),
            Err(problem) => failed(&format!("{}: {problem}", self.target.admin)),
        }
    }

    fn show(&self, answer: &Answer) -> ExitCode {
        let is_ready = matches!(self.command, Command::Ready) && answer.status == 503;
        if answer.status != 200 && !is_ready {
            return failed(&format!("{}: {}", self.target.admin, answer.refusal()));
        }
        let document: Option<Value> = serde_json::from_slice(&answer.content).ok();
        let text = match (&document, self.target.format) {
            (Some(document), Format::Json) => format!("{document:#}"),
            (Some(document), Format::Text) => self.say(document),
            (None, _) => String::from_utf8_lossy(&answer.content).into_owned(),
        };
        let printed = print(&text);
        if answer.status == 200 { printed } else { ExitCode::FAILURE }
    }

    fn say(&self, document: &Value) -> String {
        match &self.command {
            Command::Ready => match pending(document) {
                pending if pending.is_empty() => "ready".into(),
                pending => format!("not ready: waits for {}", pending.join(", ")),
            },
            Command::Clusters => clusters(document),
            Command::Drain if document["began"] == true => "draining".into(),
            Command::Drain => "draining already".into(),
            Command::LogLevel { level } => format!("the log's level is {level}"),
            Command::Check(_) | Command::Config => format!("{document:#}"),
        }
    }
}

fn failed(problem: &str) -> ExitCode {
    eprintln!("error: {problem}");
    ExitCode::FAILURE
}

/// What `/ready` says it waits for.
fn pending(document: &Value) -> Vec<&str> {
    document["pending"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// A line for each cluster, and one for each of its endpoints.
fn clusters(document: &Value) -> String {
    let mut lines = Vec::new();
    for cluster in document.as_array().into_iter().flatten() {
        let endpoints = cluster["endpoints"].as_array().map_or(&[][..], Vec::as_slice);
        let stale = cluster["stale"].as_str().map(|why| format!(", stale: {why}")).unwrap_or_default();
        let name = cluster["name"].as_str().unwrap_or_default();
        let policy = cluster["policy"].as_str().unwrap_or_default();
        lines.push(format!("{name}: {} endpoints, {policy}{stale}", endpoints.len()));
        for endpoint in endpoints {
            let text = |name: &str| endpoint[name].as_str().unwrap_or("-").to_owned();
            let number = |name: &str| endpoint[name].as_u64().unwrap_or_default();
            lines.push(format!(
                "  {:<24} {:<12} {:>8} requests {:>8} failures {:>5} in flight  {}",
                text("address"),
                text("health"),
                number("requests"),
                number("failures"),
                number("in_flight"),
                text("zone"),
            ));
        }
    }
    lines.join("\n")
}
