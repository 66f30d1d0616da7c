//! The recording of a configuration: what is recorded, by which rules, and what is asked for at runtime.

use crate::config::{Config, Loaded};
use crate::pipeline::spool::Class;
use crate::pipeline::{Emitter, Incoming};
use crate::record::config::{Match, Sample};
use crate::record::{self, About, Recorder, RouteRule, Rule, Rules, Setup, Told, shipped};
use crate::route::config::Route;
use crate::units;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// The schema of events about the recording.
const SCHEMA: &str = "sidelight/recording/1";

/// What is asked for at runtime holds no longer than this.
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);

/// Makes the recording of a configuration ready.
///
/// # Errors
/// One line: what cannot be used, and what to do.
pub fn prepare(loaded: &Loaded, base_dir: &Path) -> Result<(Setup, Rules), String> {
    let config = &loaded.config;
    let address = config.inbound.address.map(|address| address.to_string());
    let app = config.service.app.as_ref().map(ToString::to_string);
    let about = About {
        service: config.service.name.clone(),
        instance: String::new(),
        revision: loaded.revision.clone(),
        authorities: address.into_iter().chain(app).collect(),
    };
    let setup = Setup::new(&config.recording, about, base_dir)?;
    Ok((setup.within(config.pipeline.spool.event_bytes_max), rules(config)))
}

fn rules(config: &Config) -> Rules {
    let mut rules = Rules::new(&config.recording);
    rules.inbound = of_routes("inbound", &config.inbound.routes);
    rules.outbound = of_routes("outbound", &config.outbound.routes);
    rules
}

fn of_routes(listener: &str, routes: &[Route]) -> HashMap<Box<str>, RouteRule> {
    let said = routes.iter().enumerate().filter(|(_, route)| !route.record.is_default());
    said.map(|(index, route)| {
        let name = if route.name.is_empty() { format!("{listener}[{index}]") } else { route.name.clone() };
        let rule = RouteRule {
            enabled: route.record.enabled,
            body_bytes_max: route.record.body_limit.map(|limit| limit.0.map(|bytes| bytes as u64)),
            sample_millionths: route.record.sample.map(|ratio| (ratio.clamp(0.0, 1.0) * 1e6).round() as u32),
        };
        (name.into(), rule)
    })
    .collect()
}

/// What is asked for at runtime: the content of `PUT /recording`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Demand {
    /// Its name, to take it back by.
    #[serde(default = "default_id")]
    id: String,
    /// For how long.
    #[serde(default, with = "units::duration_or_none")]
    ttl: Option<Duration>,
    #[serde(default)]
    r#match: Match,
    #[serde(default)]
    sample: Sample,
    #[serde(default)]
    body_limit: Option<units::SizeLimit>,
    /// Writes out what the flight recorder holds.
    #[serde(default)]
    keep: bool,
    /// Who, for the audit event.
    #[serde(default, rename = "by")]
    _by: Option<String>,
    /// Why, for the audit event.
    #[serde(default, rename = "reason")]
    _reason: Option<String>,
}

fn default_id() -> String {
    "demand".into()
}

/// Does what is asked for.
///
/// # Errors
/// What is wrong with it.
pub fn demand(recorder: &Recorder, given: &Value) -> Result<Value, String> {
    let given: Demand = serde_json::from_value(given.clone()).map_err(|error| {
        format!("{error}; for example {{\"ttl\": \"10m\", \"match\": {{\"accounts\": [\"acme\"]}}, \"by\": \"…\", \"reason\": \"…\"}}")
    })?;
    if given.keep {
        recorder.keep();
        if given.ttl.is_none() {
            return Ok(json!({ "kept": true }));
        }
    }
    let ttl = given.ttl.ok_or("say for how long: \"ttl\": \"10m\"")?;
    if ttl > TTL_MAX {
        return Err("\"ttl\" is longer than a day".into());
    }
    if let Some(wrong) = record::rules::wrong(&given.r#match) {
        return Err(wrong);
    }
    let body_limit = given.body_limit.map_or(recorder.config().body_limit, |limit| limit.0);
    let rule = Rule::new(&given.r#match, &given.sample, body_limit);
    recorder.demand(rule.on_demand(&given.id, Instant::now() + ttl))?;
    Ok(json!({ "id": given.id, "ttl_s": ttl.as_secs() }))
}

/// What is shown of the recorder.
pub fn status(recorder: &Recorder) -> Value {
    let status = recorder.status();
    json!({
        "directory": status.directory,
        "is_on": status.is_on,
        "demands": status.demands,
        "books": status.books,
        "is_balanced": status.books.is_balanced(),
        "held_bytes": status.held_bytes.0,
        "memory_bytes_max": status.held_bytes.1,
    })
}

/// Puts on record what the recorder tells.
pub fn tell(events: &Emitter, told: Told) {
    let attributes = match told {
        Told::Stopped { reason, message } => json!({
            "severity_text": "ERROR",
            "body": "the recording has stopped: the disk refuses",
            "sidelight.recording.state": "stopped",
            "sidelight.recording.reason": reason,
            "error.message": message,
        }),
        Told::Resumed => json!({
            "severity_text": "INFO",
            "body": "the recording goes on",
            "sidelight.recording.state": "on",
        }),
        Told::Kept { reason, entries } => json!({
            "severity_text": "INFO",
            "body": "the flight recorder was written out",
            "sidelight.recording.state": "kept",
            "sidelight.recording.reason": reason,
            "sidelight.recording.entries": entries,
        }),
        Told::Piece(json) => {
            // The first to go when there is too much: the files of the recording are there still.
            let event =
                Incoming { schema: shipped::SCHEMA, class: Class::Debug, at: SystemTime::now(), json };
            return events.emit_incoming(event);
        }
    };
    events.emit(SCHEMA, attributes);
}
