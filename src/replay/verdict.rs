//! What came of a replay: numbers that add up, and one verdict with its reasons.

use super::histogram::{Histogram, Summary};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All was sent in time, and nothing that was asked for broke.
    #[default]
    Ok,
    /// The replayer could not keep its schedule: the numbers do not say what the target can do.
    Invalid,
    /// A bound of `--slo` was broken.
    SloBroken,
    /// Answers differ.
    Different,
    /// The target took no connections.
    TargetDown,
    /// It was stopped before its end.
    Stopped,
}

impl Verdict {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Invalid => "INVALID",
            Verdict::SloBroken => "SLO broken",
            Verdict::Different => "different",
            Verdict::TargetDown => "target down",
            Verdict::Stopped => "stopped",
        }
    }

    /// Which of two is worse.
    const fn weight(self) -> u8 {
        match self {
            Verdict::Ok => 0,
            Verdict::Different => 1,
            Verdict::SloBroken => 2,
            Verdict::Stopped => 3,
            Verdict::Invalid => 4,
            Verdict::TargetDown => 5,
        }
    }

    /// Whether the command ends with 0.
    pub const fn is_success(self) -> bool {
        matches!(self, Verdict::Ok)
    }
}

/// A run as a whole. `planned = sent + excluded + not_sent`, for each target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The run's id, as requests carry it.
    pub run: String,
    /// How it ended.
    pub verdict: Verdict,
    /// Why, if it is not `ok`.
    pub reasons: Vec<String>,
    /// What was replayed.
    pub recording: String,
    /// How times were made.
    pub timing: String,
    /// What times and ids were drawn from.
    pub seed: u64,
    /// Clones of each account, the first included.
    pub clones: u32,
    /// A sum of the sequence of times, entries and clones (16 hex digits): the same input and seed have the same.
    pub dispatch_hash: String,
    /// When it started: seconds since 1970.
    pub started_s: f64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// From the first to the last time of the schedule, in seconds.
    pub scheduled_seconds: f64,
    /// Exchanges of the recording that are wanted, times clones and passes.
    pub planned: u64,
    /// Left out on purpose, by reason.
    pub excluded: BTreeMap<String, u64>,
    /// Accounts of the recording that are replayed.
    pub accounts: usize,
    /// Connections of the recording that are replayed.
    pub connections: usize,
    /// What could not be read of the recording.
    pub problems: Vec<String>,
    /// For each target.
    pub targets: Vec<TargetRun>,
    /// The highest rate that held the bounds, with `--until-slo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// What comparison found; null without it.
    pub comparison: serde_json::Value,
    /// Exchanges that were not compared, because the comparison did not keep up.
    pub not_compared: u64,
}

/// See [`Run::targets`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TargetRun {
    /// `target`, or `primary`, `secondary`, `candidate`.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// Exchanges whose first byte was written.
    pub sent: u64,
    /// Those that were answered as a whole.
    pub answered: u64,
    /// Those that were cancelled, as they were when recorded.
    pub cancelled: u64,
    /// Answers of 500 and above, and those that did not come or not as a whole.
    pub failed: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Answers that did not come, or not as a whole, by reason.
    pub errors: BTreeMap<String, u64>,
    /// Exchanges of which nothing was written, by reason.
    pub not_sent: BTreeMap<String, u64>,
    /// By status.
    pub statuses: BTreeMap<u16, u64>,
    /// From when it could be sent to when it was: what the replayer was late.
    pub send_lag: Summary,
    /// From when it was to be sent to the last byte of the answer.
    pub latency_intended: Summary,
    /// From when it was sent to the last byte of the answer.
    pub latency_actual: Summary,
    /// From when it was sent to the head of the answer.
    pub first_byte: Summary,
    /// What the same exchanges took when they were recorded.
    pub latency_recorded: Summary,
    /// By route, the most frequent first.
    pub by_route: Vec<Row>,
    /// By account, the most frequent first.
    pub by_account: Vec<Row>,
    /// By status, the most frequent first; `none` had no answer.
    pub by_status: Vec<Row>,
    /// What happened in each second since the start.
    pub seconds: Vec<Second>,
}

/// A row of a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Of what.
    pub name: String,
    /// Exchanges that were sent.
    pub count: u64,
    /// Those that failed.
    pub errors: u64,
    /// See [`TargetRun::latency_intended`].
    pub latency_intended: Summary,
    /// See [`TargetRun::latency_actual`].
    pub latency_actual: Summary,
}

/// A second of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Since the start.
    pub second: u32,
    /// Exchanges that were sent in it.
    pub sent: u64,
    /// That came to an end in it.
    pub ended: u64,
    /// That failed in it.
    pub errors: u64,
    /// Latency from the intended time, to about 3 %, of those that ended in it.
    pub p50_us: u64,
    /// See `p50_us`.
    pub p99_us: u64,
    /// See `p50_us`.
    pub max_us: u64,
    /// How late they were sent.
    pub lag_p99_us: u64,
}

/// What `--until-slo` found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// The highest rate that held, in exchanges a second; 0 when the first did not.
    pub rate: f64,
    /// Whether it may be higher: no bound was broken beyond it, or the replayer was the bound.
    #[serde(default)]
    pub is_at_least: bool,
    /// Whether the replayer was the bound; then the run is INVALID.
    #[serde(default)]
    pub is_limited: bool,
    /// What broke beyond it; or that the replayer was the bound.
    pub bound_by: String,
    /// Each rate that was tried.
    pub steps: Vec<Step>,
}

/// A rate that was tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Exchanges a second.
    pub rate: f64,
    /// Exchanges a second that came to an end.
    pub achieved: f64,
    /// Latency from the intended time.
    pub p99_us: u64,
    /// Failures of all, 0 to 1.
    pub errors: f64,
    /// Which bound broke.
    pub broken: Option<String>,
    /// Whether it was the replayer's own: the step says nothing about the target.
    #[serde(default)]
    pub is_limited: bool,
}

/// Bounds: `p99<250ms,errors<1%`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slo {
    latency: Vec<(f64, Duration)>,
    errors: Option<f64>,
}

impl Slo {
    /// Reads `p99<250ms,errors<1%`; percentiles from the intended time.
    pub fn parse(text: &str) -> Result<Slo, String> {
        let mut slo = Slo::default();
        for part in text.split(',').map(str::trim) {
            let wrong = || format!("`{part}` is no bound: write p99<250ms or errors<1%");
            let (name, bound) = part.split_once('<').ok_or_else(wrong)?;
            let (name, bound) = (name.trim(), bound.trim_start_matches('=').trim());
            if name == "errors" {
                let number: f64 = bound.trim_end_matches('%').trim().parse().map_err(|_| wrong())?;
                let share = if bound.ends_with('%') { number / 100.0 } else { number };
                if !(0.0..=1.0).contains(&share) {
                    return Err(wrong());
                }
                slo.errors = Some(share);
                continue;
            }
            let percent: f64 = match name {
                "max" => 100.0,
                _ => name.strip_prefix('p').and_then(|number| number.parse().ok()).ok_or_else(wrong)?,
            };
            if !(0.0..=100.0).contains(&percent) {
                return Err(wrong());
            }
            slo.latency.push((percent, crate::units::parse_duration(bound)?));
        }
        Ok(slo)
    }

    /// How many exchanges are needed for every bound to be more than the slowest or the only failed one, and the bound that needs the
    /// most: 1/(1 − q) for a quantile, 1/share for errors. At most a million.
    pub(super) fn samples(&self) -> (u64, String) {
        let of =
            |share: f64| if share > 0.0 { (1.0 / share - 1e-6).ceil().clamp(1.0, 1e6) as u64 } else { 1 };
        let quantiles =
            self.latency.iter().map(|(percent, _)| (of(1.0 - percent / 100.0), format!("p{percent}")));
        let errors = self.errors.map(|share| (of(share), format!("errors<{}%", share * 100.0)));
        quantiles.chain(errors).max_by_key(|(count, _)| *count).unwrap_or((1, String::new()))
    }

    /// Which bound is broken, if one is.
    pub(super) fn broken(&self, latency: &Histogram, ended: u64, failed: u64) -> Option<String> {
        if ended == 0 {
            return Some("nothing was answered".into());
        }
        for (percent, bound) in &self.latency {
            let us = latency.percentile_us(*percent);
            if u128::from(us) >= bound.as_micros() {
                let name = if *percent >= 100.0 { "max".into() } else { format!("p{percent}") };
                return Some(format!(
                    "{name} is {}, not below {}",
                    micros(us),
                    crate::units::duration_text(*bound)
                ));
            }
        }
        let share = failed as f64 / ended as f64;
        match self.errors {
            Some(bound) if share >= bound && share > 0.0 => {
                Some(format!("{:.2} % failed, not below {:.2} %", share * 100.0, bound * 100.0))
            }
            _ => None,
        }
    }
}

/// Microseconds for people: three digits and a unit.
pub fn micros(us: u64) -> String {
    let us_f = us as f64;
    match us {
        0..1_000 => format!("{us}µs"),
        1_000..10_000 => format!("{:.2}ms", us_f / 1e3),
        10_000..100_000 => format!("{:.1}ms", us_f / 1e3),
        100_000..1_000_000 => format!("{:.0}ms", us_f / 1e3),
        1_000_000..10_000_000 => format!("{:.2}s", us_f / 1e6),
        _ => format!("{:.1}s", us_f / 1e6),
    }
}

impl Run {
    /// The worse of two verdicts stays; all reasons do.
    pub fn worsen(&mut self, verdict: Verdict, why: String) {
        if verdict.weight() > self.verdict.weight() {
            self.verdict = verdict;
        }
        self.reasons.push(why);
    }

    /// Whether every planned exchange is accounted for, at each target.
    pub fn adds_up(&self) -> bool {
        let excluded: u64 = self.excluded.values().sum();
        self.targets
            .iter()
            .all(|target| target.sent + target.not_sent.values().sum::<u64>() + excluded == self.planned)
    }

    /// The result for a terminal.
    pub fn text(&self) -> String {
        use std::fmt::Write;
        let mut out = String::new();
        let verdict = self.verdict.as_str();
        let _ = writeln!(out, "replay {}: {verdict}", self.run);
        for reason in &self.reasons {
            let _ = writeln!(out, "  {reason}");
        }
        let _ = writeln!(
            out,
            "\n{}, {} ({} accounts, {} connections), {:.1}s, dispatch hash {}",
            self.recording, self.timing, self.accounts, self.connections, self.seconds, self.dispatch_hash
        );
        let reasons = |map: &BTreeMap<String, u64>| {
            let parts: Vec<String> = map.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            if parts.is_empty() { "0".into() } else { parts.join(", ") }
        };
        for target in &self.targets {
            let rate = if self.seconds > 0.0 { target.sent as f64 / self.seconds } else { 0.0 };
            let _ = writeln!(out, "\n{} {}", target.name, target.url);
            let _ = writeln!(
                out,
                "  planned {} = sent {} + excluded ({}) + not sent ({})",
                self.planned,
                target.sent,
                reasons(&self.excluded),
                reasons(&target.not_sent)
            );
            let _ = writeln!(
                out,
                "  {rate:.1}/s; answered {}, cancelled as recorded {}, errors ({})",
                target.answered,
                target.cancelled,
                reasons(&target.errors)
            );
            let _ = writeln!(
                out,
                "\n  {:24} {:>9} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8}",
                "", "count", "failed", "p50", "p90", "p99", "p99.9", "max"
            );
            let mut line = |name: &str, count: u64, failed: String, summary: &Summary| {
                let at = |percent| micros(summary.at(percent));
                let name: String = name.chars().take(24).collect();
                let _ = writeln!(
                    out,
                    "  {name:24} {count:>9} {failed:>7} {:>8} {:>8} {:>8} {:>8} {:>8}",
                    at(50.0),
                    at(90.0),
                    at(99.0),
                    at(99.9),
                    at(100.0)
                );
            };
            let failed = target.failed.to_string();
            line("from the intended time", target.latency_intended.count, failed, &target.latency_intended);
            line("from the actual time", target.latency_actual.count, String::new(), &target.latency_actual);
            line("when recorded", target.latency_recorded.count, String::new(), &target.latency_recorded);
            line("send lag", target.send_lag.count, String::new(), &target.send_lag);
            for (title, rows) in
                [("route", &target.by_route), ("account", &target.by_account), ("status", &target.by_status)]
            {
                for row in rows.iter().take(10) {
                    let name = if row.name.is_empty() { "-" } else { &row.name };
                    line(
                        &format!("{title} {name}"),
                        row.count,
                        row.errors.to_string(),
                        &row.latency_intended,
                    );
                }
            }
        }
        if let Some(capacity) = &self.capacity {
            let least = if capacity.is_at_least { "at least " } else { "" };
            let _ =
                writeln!(out, "\ncapacity {least}{:.0}/s; beyond it: {}", capacity.rate, capacity.bound_by);
            for step in &capacity.steps {
                let broken = step.broken.as_deref().unwrap_or("held");
                let _ = writeln!(
                    out,
                    "  {:>9.0}/s  achieved {:>9.0}/s  p99 {:>8}  failed {:.2} %  {broken}",
                    step.rate,
                    step.achieved,
                    micros(step.p99_us),
                    step.errors * 100.0
                );
            }
        }
        if self.not_compared > 0 {
            let _ = writeln!(out, "\n{} exchanges were not compared", self.not_compared);
        }
        for problem in &self.problems {
            let _ = writeln!(out, "recording: {problem}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_and_held() {
        let slo = Slo::parse("p99<250ms, errors<1%").unwrap();
        let mut latency = Histogram::default();
        (0..100).for_each(|_| latency.record_us(1_000));
        assert_eq!(slo.broken(&latency, 100, 0), None);
        assert_eq!(slo.broken(&latency, 100, 1), Some("1.00 % failed, not below 1.00 %".into()));
        (0..5).for_each(|_| latency.record_us(300_000));
        assert!(slo.broken(&latency, 105, 0).unwrap().starts_with("p99 is 300ms"));
        assert!(slo.broken(&Histogram::default(), 0, 0).is_some());
        assert_eq!(Slo::parse("errors<0.5").unwrap().errors, Some(0.5));
        for text in ["", "p99", "p99<x", "p101<1s", "errors<200%", "p99>1s", "x<1"] {
            assert!(Slo::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_three_digits() {
        for (us, text) in
            [(7, "7µs"), (1_234, "1.23ms"), (12_345, "12.3ms"), (123_456, "123ms"), (1_500_000, "1.50s")]
        {
            assert_eq!(micros(us), text);
        }
    }
}
