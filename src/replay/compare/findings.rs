//! What a comparison found: for machines by serde, for people as a table.

use super::difference::Kind;
use super::downstream::Downstream;
use super::latency::Quantile;
use crate::units::duration_text;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Rows of the table on a terminal; the document has all.
const ROWS_SHOWN_MAX: usize = 40;

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// What it comes to.
    pub verdict: Verdict,
    /// How it was compared.
    pub mode: Mode,
    /// Exchanges compared.
    pub exchanges: u64,
    /// Those in which the candidate's answer differs at all, noise included.
    pub different: u64,
    /// Those whose content was not all there, so that only status and fields were compared.
    pub bodies_not_compared: u64,
    /// One-sided, for all paths together.
    pub confidence: f64,
    /// A smaller excess is no regression (a share of 1).
    pub floor: f64,
    /// Paths in which any answer was the odd one: what the confidence is corrected for.
    pub paths_judged: u64,
    /// Paths that differ; regressions first.
    pub fields: Vec<Field>,
    /// By route.
    pub latency: Vec<LatencyFinding>,
    /// By route.
    pub routes: Vec<Group>,
    /// By account, those with most differences first; `regressions` is 0, as paths are judged by route.
    pub accounts: Vec<Group>,
    /// What the application asked of others, where it was looked at.
    pub downstream: Option<Downstream>,
}

/// What it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No regression.
    Same,
    /// At least one.
    Different,
    /// There was nothing to compare: no verdict.
    NothingCompared,
}

/// How it was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// With one other answer; noise is unknown.
    TwoWay,
    /// With two answers of the version in use.
    ThreeWay,
}

/// What a path is held for; in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// The candidate differs, and not by chance.
    Regression,
    /// It differs more often than the others, but that may be chance: record more.
    Undecided,
    /// Values look generated, and without `--secondary` nobody knows.
    UnknownNoise,
    /// As often as between two of the same version, or below the floor.
    Noise,
}

/// A path that differs.
#[derive(Clone, Debug, Serialize)]
pub struct Field {
    /// What it is held for.
    pub judgement: Judgement,
    /// On which route.
    pub route: String,
    /// Where in the answer.
    pub path: String,
    /// How, most often.
    pub kind: Kind,
    /// Exchanges in which candidate and primary differ.
    pub raw: u64,
    /// Exchanges in which primary and secondary differ; `null` without a secondary.
    pub noise: Option<u64>,
    /// Exchanges in which only the candidate differs.
    pub candidate_odd: u64,
    /// Exchanges in which only the primary, or only the secondary, differs.
    pub others_odd: Option<u64>,
    /// Exchanges in which all three differ.
    pub all_differ: u64,
    /// Exchanges of the route.
    pub of: u64,
    /// How much more often than by noise (a share of 1).
    pub excess: f64,
    /// It is at least this (95 %, one-sided, of this path alone).
    pub excess_low: f64,
    /// Some pairs.
    pub examples: Vec<Example>,
}

/// A pair of values.
#[derive(Clone, Debug, Serialize)]
pub struct Example {
    /// The exchange's number in the recording.
    pub sequence: u64,
    /// Whose it is.
    pub account: String,
    /// The primary's, or the recorded one.
    pub before: String,
    /// The candidate's; or the secondary's, where it is noise.
    pub after: String,
    /// Whether it is the candidate that differs.
    pub is_candidate: bool,
}

/// A quantile of a route's latency.
#[derive(Clone, Debug, Serialize)]
pub struct LatencyFinding {
    /// Which route.
    pub route: String,
    /// 0.5 or 0.99.
    pub quantile: f64,
    /// The primary's, or the recorded one.
    pub primary: Quantile,
    /// The secondary's.
    pub secondary: Option<Quantile>,
    /// The candidate's.
    pub candidate: Quantile,
    /// Of how many exchanges.
    pub of: u64,
    /// Whether the candidate's lower bound is above the others' upper bounds and the tolerance.
    pub is_slower: bool,
}

/// A route or an account.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// Its name; `-`: none.
    pub name: String,
    /// Exchanges compared.
    pub exchanges: u64,
    /// Those that differ at all.
    pub different: u64,
    /// Paths that are regressions.
    pub regressions: u64,
}

impl Findings {
    /// For the process: 0 the same, 1 different, 2 nothing compared.
    pub const fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Same => 0,
            Verdict::Different => 1,
            Verdict::NothingCompared => 2,
        }
    }

    /// Paths of this judgement.
    pub fn of(&self, judgement: Judgement) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(move |field| field.judgement == judgement)
    }
}

impl Judgement {
    /// For people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Judgement::Regression => "REGRESSION",
            Judgement::Undecided => "undecided",
            Judgement::UnknownNoise => "unknown noise",
            Judgement::Noise => "noise",
        }
    }
}

fn time(ns: u64) -> String {
    // Three digits are what a quantile has.
    let unit = [1_000_000, 1_000, 1].into_iter().find(|unit| ns >= 100 * unit).unwrap_or(1);
    duration_text(Duration::from_nanos(ns / unit * unit))
}

/// The table for a terminal; plain text, without colours.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Same => "SAME: no regression",
            Verdict::Different => "DIFFERENT",
            Verdict::NothingCompared => "NOTHING COMPARED",
        };
        let mode = match self.mode {
            Mode::TwoWay => "with one other answer (noise unknown; --secondary measures it)",
            Mode::ThreeWay => "with two answers of the version in use",
        };
        writeln!(
            f,
            "{verdict}: {} exchanges compared {mode}, {} differ at all",
            self.exchanges, self.different
        )?;
        if self.bodies_not_compared > 0 {
            writeln!(f, "{} without their content, which was not all there", self.bodies_not_compared)?;
        }
        if let Some(downstream) = &self.downstream {
            writeln!(f, "{downstream}")?;
        }
        let shown = self.fields.iter().take(ROWS_SHOWN_MAX).collect::<Vec<_>>();
        let width = |of: fn(&Field) -> &str, least: usize| {
            shown.iter().map(|field| of(field).chars().count()).max().unwrap_or(0).clamp(least, 48)
        };
        let (route, path) = (width(|field| &field.route, 5), width(|field| &field.path, 4));
        if !shown.is_empty() {
            writeln!(
                f,
                "\n{:<13}  {:<route$}  {:<path$}  {:<7}  {:>8}  {:>8}  {:>8}  {:>9}  {:>9}",
                "", "route", "path", "how", "raw", "noise", "of", "excess", "at least",
            )?;
        }
        for field in shown {
            let noise = field.noise.map_or_else(|| "?".to_owned(), |noise| noise.to_string());
            writeln!(
                f,
                "{:<13}  {:<route$}  {:<path$}  {:<7}  {:>8}  {noise:>8}  {:>8}  {:>8.3}%  {:>8.3}%",
                field.judgement.as_str(),
                field.route,
                field.path,
                field.kind.as_str(),
                field.raw,
                field.of,
                100.0 * field.excess,
                100.0 * field.excess_low.max(0.0),
            )?;
            if field.judgement != Judgement::Noise
                && let Some(example) = field.examples.first()
            {
                writeln!(
                    f,
                    "{:<13}  #{}: {} → {}",
                    "",
                    example.sequence,
                    told(&example.before),
                    told(&example.after)
                )?;
            }
        }
        if self.fields.len() > ROWS_SHOWN_MAX {
            writeln!(f, "… and {} more", self.fields.len() - ROWS_SHOWN_MAX)?;
        }
        for latency in self.latency.iter().filter(|latency| latency.is_slower) {
            writeln!(
                f,
                "slower: {} p{}: {} → {} (at least {})",
                latency.route,
                latency.quantile * 100.0,
                time(latency.primary.ns),
                time(latency.candidate.ns),
                time(latency.candidate.low_ns.unwrap_or_default()),
            )?;
        }
        Ok(())
    }
}

fn told(value: &str) -> String {
    match value {
        "" => "nothing".to_owned(),
        value => format!("`{}`", value.chars().take(60).collect::<String>()),
    }
}
