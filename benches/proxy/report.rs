//! Medians, ratios to haproxy in the same round, the tables and the bars.

use crate::{
    balance::Quality,
    memory::Footprint,
    peer::Peer,
    timed::Sample,
    work::{BAR_BALANCE, BAR_IDLE_KIB, BAR_INSTRUCTIONS, BAR_START_MIB, Work},
};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// A bar and what was measured against it.
pub struct Bar {
    /// The row.
    pub work: Work,
    /// What is bounded.
    pub what: &'static str,
    /// The bound.
    pub limit: f64,
    /// What was measured; none if the row or haproxy's part of it was not.
    pub measured: Option<f64>,
    /// Whether a run of sidelight failed: what the others measured is then no figure.
    pub is_invalid: bool,
}

impl Bar {
    /// PASS, MISS, INVALID, or that there is nothing to say.
    pub fn verdict(&self) -> &'static str {
        match self.measured {
            _ if self.is_invalid => "INVALID",
            Some(measured) if measured <= self.limit => "PASS",
            Some(_) => "MISS",
            None => "not measured",
        }
    }

    /// The bar for the JSON file.
    pub fn to_json(&self) -> Value {
        json!({ "work": self.work.name(), "what": self.what, "limit": self.limit, "measured": self.measured,
            "verdict": self.verdict() })
    }
}

/// The bars as a table.
pub fn bars(bars: &[Bar]) -> String {
    let mut text = String::from("bars for sidelight\n");
    for bar in bars {
        let measured = bar.measured.map_or("-".into(), |measured| format!("{measured:.2}"));
        let (work, what, limit) = (bar.work.name(), bar.what, format!("<= {}", bar.limit));
        line(&mut text, format_args!("  {work:<10}{what:<34}{limit:>10}{measured:>12}  {}", bar.verdict()));
    }
    text
}

/// All samples of one timed row, by round and peer.
#[derive(Default)]
pub struct Samples {
    all: Vec<(usize, Peer, Sample)>,
    /// Whether a run of sidelight failed.
    is_invalid: bool,
}

impl Samples {
    /// Adds one.
    pub fn push(&mut self, round: usize, peer: Peer, sample: Sample) {
        self.all.push((round, peer, sample));
    }

    /// Notes that a run of `peer` failed.
    pub fn note_failure(&mut self, peer: Peer) {
        self.is_invalid |= peer.is_sidelight();
    }

    /// The samples of one peer.
    fn of(&self, peer: Peer) -> impl Iterator<Item = (usize, Sample)> {
        self.all.iter().filter(move |(_, of, _)| *of == peer).map(|(round, _, sample)| (*round, *sample))
    }

    /// A figure of `peer` as a multiple of `base`'s, for each round that has both, in ascending order.
    fn ratios(&self, peer: Peer, base: Peer, figure: fn(&Sample) -> f64) -> Vec<f64> {
        let of_base = |wanted| self.of(base).find(|(round, _)| *round == wanted).map(|(_, sample)| sample);
        let mut ratios: Vec<f64> = self
            .of(peer)
            .filter_map(|(round, sample)| Some(figure(&sample) / figure(&of_base(round)?)))
            .collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    }

    /// sidelight's bar for this row.
    pub fn bar(&self, work: Work) -> Option<Bar> {
        let limit = work.bar_ratio()?;
        let ratios = self.ratios(work.judged(), work.base(), Sample::total);
        let measured = (!ratios.is_empty()).then(|| median(&ratios));
        let what = match work.base() {
            Peer::Haproxy => "CPU a request, x haproxy",
            _ => "CPU a request, x sidelight alone",
        };
        Some(Bar { work, what, limit, measured, is_invalid: self.is_invalid })
    }

    /// The row's table: medians over the rounds.
    pub fn table(&self, work: Work) -> String {
        let mut text = format!("{}: {}\n", work.name(), work.title());
        let (user, system, total) = ("user us", "sys us", "CPU us/req");
        line(
            &mut text,
            format_args!(
                "  {:<11}{user:>9}{system:>9}{total:>12}{:>20}{:>10}{:>9}{:>9}{:>9}{:>7}",
                "proxy",
                format!("x {} (range)", work.base().name()),
                "req/s",
                "p50 ms",
                "p99 ms",
                "RSS MiB",
                "core"
            ),
        );
        for peer in Peer::ALL {
            if self.of(peer).next().is_none() {
                continue;
            }
            let middle = |field: fn(&Sample) -> f64| {
                let mut values: Vec<f64> = self.of(peer).map(|(_, sample)| field(&sample)).collect();
                values.sort_by(f64::total_cmp);
                median(&values)
            };
            let ratio = spread(&self.ratios(peer, work.base(), Sample::total));
            let name = peer.name();
            let (user, system) = (middle(|sample| sample.user), middle(|sample| sample.system));
            let (total, rate) = (middle(Sample::total), middle(|sample| sample.rate));
            let (p50, p99) = (middle(|sample| sample.p50_ms), middle(|sample| sample.p99_ms));
            let (resident, busy) =
                (middle(|sample| sample.resident_mib), middle(|sample| sample.busy * 100.0));
            line(
                &mut text,
                format_args!(
                    "  {name:<11}{user:>9.1}{system:>9.1}{total:>12.1}{ratio:>20}{rate:>10.0}{p50:>9.2}{p99:>9.2}\
                     {resident:>9.1}{busy:>6.0}%"
                ),
            );
        }
        if work.base() == Peer::Sidelight {
            let ratio = spread(&self.ratios(Peer::Variant, Peer::Sidelight, |sample| sample.p99_ms));
            line(&mut text, format_args!("  p99 of the variant, x sidelight: {ratio}"));
        }
        let missing: u64 = self.of(Peer::Sidelight).map(|(_, sample)| sample.events_missing).sum();
        if missing > 0 {
            line(&mut text, format_args!("  {missing} requests of sidelight have no event in the file"));
        }
        text
    }

    /// Every sample for the JSON file.
    pub fn to_json(&self) -> Value {
        let sample = |(round, peer, sample): &(usize, Peer, Sample)| {
            let mut value = sample.to_json();
            value["round"] = json!(round);
            value["proxy"] = json!(peer.name());
            value
        };
        self.all.iter().map(sample).collect()
    }
}

/// The memory row's table.
pub fn memory_table(rows: &[(Peer, Footprint)]) -> String {
    let mut text = format!("memory: {}\n", Work::Memory.title());
    let (start, idle) = ("start MiB", "KiB/idle connection");
    line(&mut text, format_args!("  {:<11}{start:>10}{idle:>21}{:>13}", "proxy", "connections"));
    for (peer, row) in rows {
        let name = peer.name();
        let (start, idle, connections) = (row.start_mib, row.idle_kib, row.connections);
        line(&mut text, format_args!("  {name:<11}{start:>10.1}{idle:>21.2}{connections:>13}"));
    }
    text
}

/// sidelight's bars for the memory row.
pub fn memory_bars(rows: &[(Peer, Footprint)]) -> [Bar; 2] {
    let own = rows.iter().find(|(peer, _)| *peer == Peer::Sidelight).map(|(_, row)| row);
    let bar = |what, limit, measured| Bar { work: Work::Memory, what, limit, measured, is_invalid: false };
    [
        bar("resident MiB at start", BAR_START_MIB, own.map(|row| row.start_mib)),
        bar("KiB for each idle connection", BAR_IDLE_KIB, own.map(|row| row.idle_kib)),
    ]
}

/// The callgrind row's table.
pub fn callgrind_table(rows: &[(Peer, u64)], baseline: Option<u64>) -> String {
    let mut text = format!("callgrind: {}\n", Work::Callgrind.title());
    for (peer, figure) in rows {
        line(&mut text, format_args!("  {:<11}{figure:>9}", peer.name()));
        if let (Peer::Sidelight, Some(baseline)) = (*peer, baseline) {
            let change = (*figure as f64 / baseline as f64 - 1.0) * 100.0;
            line(&mut text, format_args!("  {:<11}{baseline:>9}  ({change:+.1} %)", "baseline"));
        }
    }
    text
}

/// sidelight's bar for the callgrind row.
pub fn callgrind_bar(rows: &[(Peer, u64)]) -> Bar {
    let own = rows.iter().find(|(peer, _)| *peer == Peer::Sidelight).map(|(_, figure)| *figure as f64);
    let (what, limit) = ("user instructions a request", BAR_INSTRUCTIONS as f64);
    Bar { work: Work::Callgrind, what, limit, measured: own, is_invalid: false }
}

/// The balance row's table: medians over the rounds.
pub fn balance_table(rows: &[(usize, Peer, Quality)]) -> String {
    let mut text = format!("balance: {}\n", Work::Balance.title());
    let ratio = "p99 x haproxy (range)";
    line(
        &mut text,
        format_args!(
            "  {:<11}{:>9}{:>9}{:>10}{ratio:>24}{:>9}",
            "proxy", "p50 ms", "p99 ms", "p99.9 ms", "slow %"
        ),
    );
    for peer in Peer::ALL {
        let middle = |field: fn(&Quality) -> f64| {
            let of = rows.iter().filter(|(_, of, _)| *of == peer);
            let mut values: Vec<f64> = of.map(|(_, _, quality)| field(quality)).collect();
            values.sort_by(f64::total_cmp);
            median(&values)
        };
        if !rows.iter().any(|(_, of, _)| *of == peer) {
            continue;
        }
        let (p50, p99, p999) = (
            middle(|quality| quality.p50_ms),
            middle(|quality| quality.p99_ms),
            middle(|quality| quality.p999_ms),
        );
        let (slow, ratios) = (middle(|quality| quality.slow_percent), spread(&balance_ratios(rows, peer)));
        let name = peer.name();
        line(&mut text, format_args!("  {name:<11}{p50:>9.2}{p99:>9.2}{p999:>10.2}{ratios:>24}{slow:>9.2}"));
    }
    text
}

/// The 99th percentile as a multiple of haproxy's in the same round, ascending.
fn balance_ratios(rows: &[(usize, Peer, Quality)], peer: Peer) -> Vec<f64> {
    let p99 = |wanted: usize, peer: Peer| {
        let found = rows.iter().find(|(round, of, _)| *round == wanted && *of == peer);
        found.map(|(_, _, quality)| quality.p99_ms)
    };
    let of = rows.iter().filter(|(_, of, _)| *of == peer);
    let mut ratios: Vec<f64> =
        of.filter_map(|(round, _, quality)| Some(quality.p99_ms / p99(*round, Peer::Haproxy)?)).collect();
    ratios.sort_by(f64::total_cmp);
    ratios
}

/// sidelight's bar for the balance row.
pub fn balance_bar(rows: &[(usize, Peer, Quality)]) -> Bar {
    let ratios = balance_ratios(rows, Peer::Sidelight);
    let measured = (!ratios.is_empty()).then(|| median(&ratios));
    Bar {
        work: Work::Balance,
        what: "p99, x haproxy's leastconn",
        limit: BAR_BALANCE,
        measured,
        is_invalid: false,
    }
}

/// `median (least–most)`.
fn spread(ratios: &[f64]) -> String {
    match (ratios.first(), ratios.last()) {
        (Some(least), Some(most)) => format!("{:.2} ({least:.2}-{most:.2})", median(ratios)),
        _ => "-".into(),
    }
}

/// The middle of sorted values, or the mean of the middle two.
fn median(sorted: &[f64]) -> f64 {
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { at(half) } else { (at(half.wrapping_sub(1)) + at(half)) / 2.0 }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    let _ = writeln!(text, "{line}"); // a String takes everything
}
