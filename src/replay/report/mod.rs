//! The report of a run: one page of HTML that needs nothing else, neither a network nor scripts; light and dark.
//!
//! What: [`Page`] is plain data, [`Page::html`] writes it. The order is that of the questions: what is the verdict and can it
//! be believed, what differs, how fast was it, was the load what was asked for.
//! How it fails: it does not. Every text is escaped, tables are cut at a length and say so, and values that are no
//! numbers are drawn at the edge. The page's own policy (CSP) forbids whatever could still be smuggled in.

mod plot;
mod tables;
#[cfg(test)]
mod tests;
mod words;

use crate::replay::compare::Findings;
use plot::{Axis, Line};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use tables::{differences, groups};
use words::{count, digits, escaped, time};

/// Rows of a table.
const ROWS_MAX: usize = 200;

/// What the page says. Empty parts are left out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Page {
    /// How the verdict is coloured.
    pub tone: Tone,
    /// The verdict in some words: `No regression in 12,000 exchanges`.
    pub verdict: String,
    /// Why, one line each; why a run is INVALID comes first.
    pub reasons: Vec<String>,
    /// Facts of the run by name: recording, target, run id, mode, seed, began, dispatch hash …
    pub facts: Vec<(String, String)>,
    /// The identity of totals: the first is the sum of the others.
    pub totals: Vec<(String, u64)>,
    /// Latency curves; four at most: from the intended send time, from the actual one, and as it was recorded.
    pub latency: Vec<Curve>,
    /// Load over time.
    pub rate: Rate,
    /// How late requests were sent: quantiles.
    pub lag: Option<Curve>,
    /// What differs.
    pub findings: Option<Findings>,
    /// By route.
    pub routes: Vec<Group>,
    /// By account.
    pub accounts: Vec<Group>,
    /// Why exchanges were excluded or not sent, and how many.
    pub not_sent: Vec<(String, u64)>,
    /// The last line: program and version.
    pub footer: String,
}

/// See [`Page::tone`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// All is well.
    #[default]
    Good,
    /// It failed.
    Bad,
    /// There is no verdict: invalid, or stopped.
    Warn,
}

/// Quantiles, in rising order.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Curve {
    /// What it is of.
    pub name: String,
    /// The share below (0 to 1), and nanoseconds.
    pub points: Vec<(f64, u64)>,
}

/// Requests by time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rate {
    /// How long each step is, seconds.
    pub step_s: f64,
    /// Requests that were to be sent in each step.
    pub planned: Vec<u64>,
    /// Requests that were sent.
    pub sent: Vec<u64>,
    /// Answers that ended.
    pub answered: Vec<u64>,
}

/// A route or an account.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Requests sent.
    pub sent: u64,
    /// Requests without an answer.
    pub errors: u64,
    /// Answers that differ at all; `None`: not compared.
    pub different: Option<u64>,
    /// Quantiles of the latency from the intended send time, ns.
    pub p50_ns: u64,
    /// As above.
    pub p99_ns: u64,
}

impl Curve {
    fn at(&self, share: f64) -> Option<u64> {
        self.points.iter().find(|(at, _)| *at >= share).or(self.points.last()).map(|(_, ns)| *ns)
    }

    fn nines(&self) -> f64 {
        self.points.iter().rev().find(|(at, _)| *at < 1.0).map_or(0.0, |(at, _)| plot::nine(*at))
    }

    fn line(&self, nines: f64) -> Line<'_> {
        let points = self.points.iter().map(|(at, ns)| (plot::nine(*at), *ns as f64));
        Line {
            name: &self.name,
            points: points.filter(|(at, _)| *at <= nines + 1e-9).collect(),
            has_area: false,
        }
    }
}

impl Page {
    /// The page.
    pub fn html(&self) -> String {
        let tone = tone(self.tone);
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{} — sidelight replay</title>\n<style>\n{}</style></head>\n<body>\n\
             <header class=\"{tone}\"><h1>{}</h1>",
            escaped(&self.verdict),
            include_str!("page.css"),
            escaped(&self.verdict),
        );
        self.reasons.iter().for_each(|reason| {
            let _ = write!(out, "<p>{}</p>", escaped(reason));
        });
        out.push_str("</header>\n<dl>");
        for (name, value) in &self.facts {
            let _ = write!(out, "<div><dt>{}</dt><dd>{}</dd></div>", escaped(name), escaped(value));
        }
        out.push_str("</dl>\n");
        self.identity(&mut out);
        if let Some(findings) = &self.findings {
            differences(findings, &mut out);
        }
        self.latencies(&mut out);
        self.load(&mut out);
        groups("Routes", "route", &self.routes, &mut out);
        groups("Accounts", "account", &self.accounts, &mut out);
        if !self.not_sent.is_empty() {
            out.push_str("<h2>Not sent</h2><p class=\"faint\">What is in the recording and was not replayed, and why.</p><div class=\"scroll\"><table><tbody>");
            for (reason, number) in self.not_sent.iter().take(ROWS_MAX) {
                let _ = write!(
                    out,
                    "<tr><td>{}</td><td class=\"n\">{}</td></tr>",
                    escaped(reason),
                    count(*number)
                );
            }
            out.push_str("</tbody></table></div>\n");
        }
        let _ = write!(out, "<footer>{}</footer>\n</body></html>\n", escaped(&self.footer));
        out
    }

    fn identity(&self, out: &mut String) {
        let Some(((name, whole), parts)) = self.totals.split_first() else { return };
        let _ = write!(out, "<p class=\"identity\"><span><b>{}</b> {}</span>", count(*whole), escaped(name));
        for (index, (name, number)) in parts.iter().enumerate() {
            let sign = if index == 0 { "=" } else { "+" };
            let _ = write!(out, "<i>{sign}</i><span><b>{}</b> {}</span>", count(*number), escaped(name));
        }
        let sum = parts.iter().fold(0u64, |sum, (_, number)| sum.saturating_add(*number));
        if sum != *whole && !parts.is_empty() {
            let _ = write!(
                out,
                "<span class=\"mark bad\">{} are not accounted for</span>",
                count(whole.abs_diff(sum))
            );
        }
        out.push_str("</p>\n");
    }

    fn latencies(&self, out: &mut String) {
        let curves = || self.latency.iter().filter(|curve| !curve.points.is_empty());
        if curves().next().is_none() {
            return;
        }
        let nines = curves().map(Curve::nines).fold(0.0, f64::max);
        let lines: Vec<Line<'_>> = curves().map(|curve| curve.line(nines.clamp(2.0, 6.0))).collect();
        let values = || lines.iter().flat_map(|line| line.points.iter().map(|(_, ns)| *ns));
        let y = Axis::log(values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
        let plot = plot::svg("Latency by percentile", 340.0, &Axis::percentiles(nines), &y, &lines);
        let _ = write!(
            out,
            "<h2>Latency</h2><p class=\"faint\">By percentile. Counted from when a request was to be sent, waiting counts; where that line leaves \
             the one from when it was sent, the target could not keep up.</p>\n<figure>{plot}</figure>\n\
             <div class=\"scroll\" style=\"margin-top:.75rem\"><table><thead><tr><th></th><th class=\"n\">p50</th><th class=\"n\">p90</th><th class=\"n\">p99</th><th class=\"n\">p99.9</th><th class=\"n\">max</th></tr></thead><tbody>",
        );
        for curve in curves() {
            let _ = write!(out, "<tr><td>{}</td>", escaped(&curve.name));
            for share in [0.5, 0.9, 0.99, 0.999, 1.0] {
                let _ =
                    write!(out, "<td class=\"n\">{}</td>", time(curve.at(share).unwrap_or_default() as f64));
            }
            out.push_str("</tr>");
        }
        out.push_str("</tbody></table></div>\n");
    }

    fn load(&self, out: &mut String) {
        let rate = &self.rate;
        let steps = rate.planned.len().max(rate.sent.len()).max(rate.answered.len());
        let has_rate = steps > 0 && rate.step_s > 0.0;
        if has_rate {
            let line = |name, counts: &[u64], has_area| {
                let points = counts.iter().enumerate();
                let points = points
                    .map(|(n, count)| ((n as f64 + 0.5) * rate.step_s, *count as f64 / rate.step_s))
                    .collect();
                Line { name, points, has_area }
            };
            let lines = [
                line("sent", &rate.sent, true),
                line("answered", &rate.answered, false),
                line("", &[], false),
                line("planned", &rate.planned, false),
            ];
            let most =
                lines.iter().flat_map(|line| line.points.iter().map(|(_, rate)| *rate)).fold(0.0, f64::max);
            let x =
                Axis::span(steps as f64 * rate.step_s, |s| if s == 0.0 { "0".into() } else { time(s * 1e9) });
            let y = Axis::linear(
                most,
                |rate| if rate < 10.0 { digits(rate) } else { count(rate.round() as u64) },
            );
            let plot = plot::svg("Requests per second over time", 260.0, &x, &y, &lines);
            let _ = write!(
                out,
                "<h2>Load</h2><p class=\"faint\">Requests per second over time.</p>\n<figure>{plot}</figure>\n"
            );
        }
        if let Some(lag) = self.lag.as_ref().filter(|lag| !lag.points.is_empty()) {
            let nines = lag.nines().clamp(2.0, 6.0);
            let lines = [lag.line(nines)];
            let values = || lines.iter().flat_map(|line| line.points.iter().map(|(_, ns)| *ns));
            let y = Axis::log(values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
            let plot = plot::svg("How late requests were sent", 200.0, &Axis::percentiles(nines), &y, &lines);
            let p99 = time(lag.at(0.99).unwrap_or_default() as f64);
            let _ = write!(
                out,
                "<h2>Send lag</h2><p class=\"faint\">How late this generator sent what was planned: p99 {p99}, at most {}.</p>\n<figure>{plot}</figure>\n",
                time(lag.at(1.0).unwrap_or_default() as f64),
            );
        }
    }
}

const fn tone(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "good",
        Tone::Bad => "bad",
        Tone::Warn => "warn",
    }
}
