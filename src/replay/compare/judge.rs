//! The judgement of a [`Tally`]: what is a regression and what is noise. How is told in [`super::tally`].

use super::bound;
use super::difference::Kind;
use super::findings::{Field, Findings, Group, Judgement, LatencyFinding, Mode, Verdict};
use super::tally::{Counts, Row, Tally};
use std::collections::BTreeMap;

/// Fewer odd answers than these are never a regression.
const ODD_MIN: u64 = 4;
/// The share of pairs that must look generated for unknown noise.
const GENERATED_SHARE: f64 = 0.9;
/// A run without a regression fails at most this often.
const ALPHA: f64 = 0.05;

/// What sureness asks for, reckoned once for all paths.
#[derive(Clone, Copy)]
struct Sure {
    paths: f64,
    /// Of one path, and of all together.
    z: f64,
    z_all: f64,
}

impl Tally {
    /// What the run says. Takes nothing away: it may be asked for while the run goes on.
    pub fn findings(&self) -> Findings {
        let tested = self.rows.values().filter(|row| row.total_odd() > 0).count() as u64;
        let sure = Sure {
            paths: tested.max(1) as f64,
            z: bound::z(ALPHA),
            z_all: bound::z(ALPHA / tested.max(1) as f64),
        };
        let fields: Vec<Field> = self.rows.iter().map(|(key, row)| self.judge(key, row, sure)).collect();
        let mut regressions = BTreeMap::<&str, u64>::new();
        for field in fields.iter().filter(|field| field.judgement == Judgement::Regression) {
            *regressions.entry(&field.route).or_default() += 1;
        }
        let latency = self.latency_findings();
        let is_different = fields.iter().any(|field| field.judgement == Judgement::Regression)
            || self.options.is_latency_judged && latency.iter().any(|latency| latency.is_slower);
        let groups = |groups: &BTreeMap<String, Counts>, regressions: &BTreeMap<&str, u64>| {
            let group = |(name, counts): (&String, &Counts)| Group {
                name: name.clone(),
                exchanges: counts.exchanges,
                different: counts.different,
                regressions: regressions.get(&**name).copied().unwrap_or_default(),
            };
            groups.iter().map(group).collect::<Vec<_>>()
        };
        let verdict = match (self.total.exchanges, is_different) {
            (0, _) => Verdict::NothingCompared,
            (_, true) => Verdict::Different,
            (_, false) => Verdict::Same,
        };
        let routes = groups(&self.routes, &regressions);
        let mut accounts = groups(&self.accounts, &BTreeMap::new());
        accounts.sort_by_key(|account| std::cmp::Reverse((account.different, account.exchanges)));
        let mut findings = Findings {
            verdict,
            mode: self.mode,
            exchanges: self.total.exchanges,
            different: self.total.different,
            bodies_not_compared: self.bodies_skipped,
            confidence: 1.0 - ALPHA,
            floor: self.options.floor,
            paths_judged: tested,
            fields,
            latency,
            routes,
            accounts,
            downstream: self.downstream.clone(),
        };
        findings.fields.sort_by(|a, b| (a.judgement, b.raw).cmp(&(b.judgement, a.raw)));
        findings
    }

    fn judge(&self, (route, path): &(String, String), row: &Row, sure: Sure) -> Field {
        let of = self.routes.get(route).map_or(0, |counts| counts.exchanges);
        let n = of as f64;
        let is_three = self.mode == Mode::ThreeWay && !path.starts_with("call:");
        let others = row.primary_odd + row.secondary_odd;
        let raw = row.candidate_odd + row.primary_odd + row.all_differ;
        let noise = row.secondary_odd + row.primary_odd + row.all_differ;
        let excess = if n > 0.0 { (row.candidate_odd as f64 - others as f64 / 2.0) / n } else { 0.0 };
        let (low, is_sure, is_likely) = if is_three {
            let p = bound::odd_one_out(row.candidate_odd, others);
            let looks = std::f64::consts::PI.powi(2) / 6.0 * (others as f64 + 1.0).powi(2);
            let low = bound::excess_low(row.candidate_odd as f64, n, others as f64, 2.0 * n, sure.z);
            (low, row.candidate_odd >= ODD_MIN && p * sure.paths * looks <= ALPHA, p <= ALPHA)
        } else {
            let (low, _) = bound::wilson(row.candidate_odd as f64, n, sure.z);
            let (low_of_all, _) = bound::wilson(row.candidate_odd as f64, n, sure.z_all);
            (low, low_of_all > self.options.floor, low > self.options.floor)
        };
        let is_generated = raw > 0 && row.generated as f64 >= GENERATED_SHARE * raw as f64;
        let judgement = if excess <= self.options.floor {
            Judgement::Noise
        } else if !is_three && is_generated {
            Judgement::UnknownNoise
        } else if is_sure {
            Judgement::Regression
        } else if is_likely {
            Judgement::Undecided
        } else {
            Judgement::Noise
        };
        let kind = row.kinds.iter().max_by_key(|(_, count)| **count).map_or(Kind::Value, |(kind, _)| *kind);
        Field {
            judgement,
            route: route.clone(),
            path: path.clone(),
            kind,
            raw,
            noise: is_three.then_some(noise),
            candidate_odd: row.candidate_odd,
            others_odd: is_three.then_some(others),
            all_differ: row.all_differ,
            of,
            excess,
            excess_low: low,
            examples: row.examples.clone(),
        }
    }

    fn latency_findings(&self) -> Vec<LatencyFinding> {
        let mut out = Vec::new();
        let m = 2.0 * self.latencies.len().max(1) as f64;
        // Each of two or three quantiles has two sides.
        let z = bound::z(ALPHA / (2.0 * m));
        for (route, latencies) in &self.latencies {
            for q in [0.5, 0.99] {
                let primary = latencies.primary.quantile(q, z);
                let candidate = latencies.candidate.quantile(q, z);
                let secondary = (latencies.secondary.total() > 0).then(|| latencies.secondary.quantile(q, z));
                let before = match secondary {
                    Some(secondary) => primary.high_ns.zip(secondary.high_ns).map(|(a, b)| a.max(b)),
                    None => primary.high_ns,
                };
                let is_slower = before.zip(candidate.low_ns).is_some_and(|(before, low)| {
                    low as f64 > before as f64 * (1.0 + self.options.latency_tolerance)
                });
                let of = latencies.candidate.total();
                out.push(LatencyFinding {
                    route: route.clone(),
                    quantile: q,
                    primary,
                    secondary,
                    candidate,
                    of,
                    is_slower,
                });
            }
        }
        out
    }
}
