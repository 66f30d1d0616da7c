//! `sidelight ctl check`: a Nagios plugin
//! (<https://nagios-plugins.org/doc/guidelines.html>): one line, four exit statuses, performance data behind a bar.
//!
//! What: `/ready` once and `/metrics` twice, `--interval` apart, of the admin or the telemetry port. What only grows is judged
//! by how much it grew in between. What a sidecar does not tell (an older one, a part that is off) is not judged.
//! How it fails: a sidecar that does not answer is CRITICAL; an answer that is not sidelight's is UNKNOWN.

use super::http::Client;
use super::page::{Page, Sample};
use super::{Format, pending, print};
use clap::Args;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

pub(super) const EXAMPLES: &str = "\
Examples:
  sidelight ctl check
  sidelight ctl check --interval 10s --warn-errors 0.5 --crit-errors 2
  sidelight ctl --admin 10.0.0.7:15090 check --format json       # the telemetry port will do

What is WARNING: draining, a refused configuration, a cluster whose source of endpoints fails or that is in
panic, a sink that is down, a spool that had to go to memory; and what has reached its --warn-….
What is CRITICAL: no answer, not ready, a cluster without a usable endpoint, and what has reached its --crit-….
What is UNKNOWN: an answer that is not a sidecar's.";

/// The arguments of `ctl check`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "What is judged")]
pub(super) struct Check {
    /// How long to watch: errors and losses are those of this time; 0s: all since the sidecar started
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = crate::units::parse_duration)]
    pub(super) interval: Duration,
    /// WARNING from this percentage of 5xx answers on
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    pub(super) warn_errors: f64,
    /// CRITICAL from this percentage of 5xx answers on
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    pub(super) crit_errors: f64,
    /// Below so many answers the percentage of errors is not judged
    #[arg(long, value_name = "COUNT", default_value_t = 20.0)]
    pub(super) min_requests: f64,
    /// WARNING from so many open breakers on
    #[arg(long, value_name = "COUNT", default_value_t = 1.0)]
    pub(super) warn_breakers: f64,
    /// CRITICAL from so many open breakers on
    #[arg(long, value_name = "COUNT", default_value_t = 5.0)]
    pub(super) crit_breakers: f64,
    /// WARNING from so many events on that wait for one sink
    #[arg(long, value_name = "COUNT", default_value_t = 100_000.0)]
    pub(super) warn_queued: f64,
    /// CRITICAL from so many events on that wait for one sink
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000.0)]
    pub(super) crit_queued: f64,
    /// WARNING from so many events on that were lost
    #[arg(long, value_name = "COUNT", default_value_t = 1.0)]
    pub(super) warn_dropped: f64,
    /// CRITICAL from so many events on that were lost
    #[arg(long, value_name = "COUNT", default_value_t = 1_000.0)]
    pub(super) crit_dropped: f64,
    /// WARNING from this step of overload on: 1 sheds, 2 closes connections, 3 refuses
    #[arg(long, value_name = "STEP", default_value_t = 1.0)]
    pub(super) warn_overload: f64,
    /// CRITICAL from this step of overload on
    #[arg(long, value_name = "STEP", default_value_t = 2.0)]
    pub(super) crit_overload: f64,
}

/// How it is, in the order of badness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Ok,
    Warning,
    /// Between the two, as Nagios has it: nobody knows is worse than a warning.
    Unknown,
    Critical,
}

impl State {
    pub(super) const fn exit(self) -> u8 {
        match self {
            State::Ok => 0,
            State::Warning => 1,
            State::Critical => 2,
            State::Unknown => 3,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            State::Ok => "OK",
            State::Warning => "WARNING",
            State::Critical => "CRITICAL",
            State::Unknown => "UNKNOWN",
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<(State, String)>,
    numbers: Vec<Number>,
    service: String,
}

/// A number of the performance data.
#[derive(Debug)]
struct Number {
    name: &'static str,
    value: f64,
    unit: &'static str,
    limits: Option<(f64, f64)>,
}

impl Check {
    pub(super) fn execute(&self, client: &Client, format: Format) -> ExitCode {
        let report = self.look(client).unwrap_or_else(|(state, problem)| Report {
            problems: vec![(state, problem)],
            ..Report::default()
        });
        match format {
            Format::Text => print(&report.line()),
            Format::Json => print(&format!("{:#}", report.document())),
        };
        ExitCode::from(report.state().exit())
    }

    fn look(&self, client: &Client) -> Result<Report, (State, String)> {
        let critical = |problem| (State::Critical, problem);
        let ready = client.get("/ready", "application/json").map_err(critical)?;
        let ready: Value = match ready.status {
            200 | 503 => serde_json::from_slice(&ready.content).ok(),
            _ => None,
        }
        .filter(|document: &Value| document["ready"].is_boolean())
        .ok_or_else(|| (State::Unknown, "/ready is not answered by sidelight".to_owned()))?;
        let scrape = || {
            let answer = client.get("/metrics", "text/plain").map_err(critical)?;
            if answer.status != 200 {
                return Err((State::Unknown, format!("/metrics: {}", answer.refusal())));
            }
            Ok(Page::read(&String::from_utf8_lossy(&answer.content)))
        };
        let before = if self.interval.is_zero() {
            Page::default()
        } else {
            let before = scrape()?;
            std::thread::sleep(self.interval);
            before
        };
        Ok(self.judge(&ready, &before, &scrape()?))
    }

    /// Judges what was read.
    pub(super) fn judge(&self, ready: &Value, before: &Page, now: &Page) -> Report {
        let mut report = Report::default();
        let info = now.of("target_info").next();
        report.service = info.map(|sample| sample.label("service_name").to_owned()).unwrap_or_default();
        let pending = pending(ready);
        if pending.contains(&"draining") {
            report.add(State::Warning, "draining".into());
        } else if !pending.is_empty() {
            report.add(State::Critical, format!("not ready: waits for {}", pending.join(", ")));
        }
        if now.sum("sidelight_config_last_reload_successful") == Some(0.0) {
            report.add(State::Warning, "the last configuration was refused".into());
        }
        clusters(&mut report, before, now);
        self.traffic(&mut report, before, now);
        self.pipeline(&mut report, before, now);
        if let Some(step) = now.sum("sidelight_overload_step") {
            let limits = (self.warn_overload, self.crit_overload);
            report.limit("overload", step, limits, || format!("overload step {step}"));
        }
        report
    }

    fn traffic(&self, report: &mut Report, before: &Page, now: &Page) {
        let counts =
            ["http_server_request_duration_seconds_count", "http_client_request_duration_seconds_count"];
        let is_error = |sample: &Sample| sample.label("http_response_status_code").starts_with('5');
        let grown = |is_wanted: &dyn Fn(&Sample) -> bool| -> f64 {
            counts.iter().map(|name| growth(before, now, name, is_wanted)).sum()
        };
        let (all, errors) = (grown(&|_| true), grown(&is_error));
        let percent = if all > 0.0 { errors / all * 100.0 } else { 0.0 };
        report.number("requests", all, "", None);
        let limits = (self.warn_errors, self.crit_errors);
        if all >= self.min_requests {
            let said = || format!("{percent:.1}% of {all} answers are errors (5xx)");
            report.percent("errors", percent, limits, said);
        } else {
            report.number("errors", percent, "%", Some(limits));
        }
        let open: Vec<String> = now
            .of("sidelight_circuit_breaker_open")
            .filter(|sample| sample.value > 0.0)
            .map(|sample| format!("{} of {}", sample.label("breaker"), sample.label("name")))
            .collect();
        let limits = (self.warn_breakers, self.crit_breakers);
        let said = || format!("open breakers: {}", open.join(", "));
        report.limit("breakers_open", open.len() as f64, limits, said);
    }

    fn pipeline(&self, report: &mut Report, before: &Page, now: &Page) {
        let most = now.of("sidelight_pipeline_queued").max_by(|one, other| one.value.total_cmp(&other.value));
        if let Some(most) = most {
            let limits = (self.warn_queued, self.crit_queued);
            let said = || format!("{} events wait for the sink {}", most.value, most.label("sink"));
            report.limit("queued", most.value, limits, said);
        }
        let dropped = growth(before, now, "sidelight_pipeline_dropped_total", &|_| true);
        let limits = (self.warn_dropped, self.crit_dropped);
        report.limit("dropped", dropped, limits, || format!("{dropped} events were lost"));
        for sink in now.of("sidelight_sink_up").filter(|sample| sample.value == 0.0) {
            report.add(State::Warning, format!("the sink {} is down", sink.label("sink")));
        }
        if now.sum("sidelight_spool_in_memory").is_some_and(|value| value > 0.0) {
            report.add(State::Warning, "the spool's disk does not take events: they wait in memory".into());
        }
        let failed = growth(before, now, "sidelight_spool_write_errors_total", &|_| true);
        if failed > 0.0 {
            report.add(State::Warning, format!("{failed} writes of the spool failed"));
        }
    }
}

fn clusters(report: &mut Report, before: &Page, now: &Page) {
    let name_of = |sample: &Sample| sample.label("sidelight_cluster").to_owned();
    for cluster in now.of("sidelight_cluster_endpoints") {
        let name = name_of(cluster);
        let usable = now.sum_where("sidelight_cluster_endpoints_by_state", |sample| {
            name_of(sample) == name && sample.label("state") == "usable"
        });
        if cluster.value == 0.0 {
            report.add(State::Critical, format!("cluster {name} has no endpoint"));
        } else if usable == Some(0.0) {
            let count = cluster.value;
            report
                .add(State::Critical, format!("none of the {count} endpoints of cluster {name} is healthy"));
        }
        let in_panic = growth(before, now, "sidelight_balance_panic_picks_total", &|it| name_of(it) == name);
        if in_panic > 0.0 {
            report.add(State::Warning, format!("cluster {name} is in panic"));
        }
    }
    for cluster in now.of("sidelight_cluster_stale").filter(|sample| sample.value > 0.0) {
        let name = name_of(cluster);
        report.add(State::Warning, format!("the source of the endpoints of cluster {name} fails"));
    }
    report.number("clusters", now.of("sidelight_cluster_endpoints").count() as f64, "", None);
}

/// By how much it grew; since the start of a process that was started in between.
fn growth(before: &Page, now: &Page, name: &str, is_wanted: &dyn Fn(&Sample) -> bool) -> f64 {
    let sum = |page: &Page| page.sum_where(name, is_wanted).unwrap_or_default();
    let (before, now) = (sum(before), sum(now));
    if now < before { now } else { now - before }
}

impl Report {
    fn add(&mut self, state: State, problem: String) {
        self.problems.push((state, problem));
    }

    fn number(&mut self, name: &'static str, value: f64, unit: &'static str, limits: Option<(f64, f64)>) {
        self.numbers.push(Number { name, value, unit, limits });
    }

    fn limit(&mut self, name: &'static str, value: f64, limits: (f64, f64), said: impl FnOnce() -> String) {
        self.number(name, value, "", Some(limits));
        self.compare(value, limits, said);
    }

    fn percent(&mut self, name: &'static str, value: f64, limits: (f64, f64), said: impl FnOnce() -> String) {
        self.number(name, value, "%", Some(limits));
        self.compare(value, limits, said);
    }

    fn compare(&mut self, value: f64, (warn, crit): (f64, f64), said: impl FnOnce() -> String) {
        if value >= crit {
            self.add(State::Critical, said());
        } else if value >= warn {
            self.add(State::Warning, said());
        }
    }

    /// The worst of what was found.
    pub(super) fn state(&self) -> State {
        self.problems.iter().map(|(state, _)| *state).max().unwrap_or(State::Ok)
    }

    /// `SIDELIGHT OK - … | performance data`.
    pub(super) fn line(&self) -> String {
        let mut problems: Vec<&(State, String)> = self.problems.iter().collect();
        problems.sort_by_key(|(state, _)| std::cmp::Reverse(*state));
        let said: Vec<&str> = problems.iter().map(|(_, problem)| problem.as_str()).collect();
        let said = if said.is_empty() { "ready, and nothing is wrong".into() } else { said.join("; ") };
        let service = if self.service.is_empty() { String::new() } else { format!("{}: ", self.service) };
        // A bar begins the performance data, and a line end the part that nobody reads.
        let text = format!("{service}{said}").replace(['|', '\n', '\r'], " ");
        let line = format!("SIDELIGHT {} - {text}", self.state().name());
        let numbers: Vec<String> = self.numbers.iter().map(Number::text).collect();
        if numbers.is_empty() { line } else { format!("{line} | {}", numbers.join(" ")) }
    }

    fn document(&self) -> Value {
        json!({
            "state": self.state().name(),
            "exit": self.state().exit(),
            "service": self.service,
            "problems": self.problems.iter().map(|(state, problem)| json!({
                "state": state.name(),
                "problem": problem,
            })).collect::<Vec<_>>(),
            "numbers": self.numbers.iter().map(|number| json!({
                "name": number.name,
                "value": number.value,
                "unit": number.unit,
                "warning": number.limits.map(|(warning, _)| warning),
                "critical": number.limits.map(|(_, critical)| critical),
            })).collect::<Vec<_>>(),
        })
    }
}

impl Number {
    /// `name=value[unit];warning;critical;minimum`.
    fn text(&self) -> String {
        let Number { name, value, unit, limits } = self;
        let value = (value * 1000.0).round() / 1000.0;
        match limits {
            Some((warning, critical)) => format!("{name}={value}{unit};{warning};{critical};0"),
            None => format!("{name}={value}{unit};;;0"),
        }
    }
}
