//! Differences of a whole run, counted by route and path, and the judgement of what is a regression.
//!
//! # Three answers
//!
//! Each request goes to the candidate and to two instances of the version in use. For each path there may be one answer
//! that is the odd one out of three. If the versions behave alike, each of the three is it equally often, whatever the
//! noise is and however it depends on the request: that is all that is assumed. So the candidate was the odd one X times, the
//! other two together Y times, and under noise alone X ~ Poisson(λ), Y ~ Poisson(2λ) for some unknown λ. A path is a
//! regression if both hold:
//!
//! 1. the excess (X − Y/2)/n is above a floor (0.03 %): smaller ones matter to nobody;
//! 2. max over λ of P(X ≥ x)·P(Y ≤ y), times m·(π²/6)·(y + 1)², is at most 0.05. The factor (y + 1)² pays for looking at every
//!    y (a union bound; the sum of 1/(y + 1)² is π²/6), m for the number of paths in which any answer was odd (Bonferroni). So the
//!    chance of one false alarm in a run is at most 5 %, whatever the noise. The budget is spent where y is
//!    small: a path that is never noisy needs 5 odd answers, one that is often noisy far more; in practice false alarms are
//!    rarer by orders of magnitude.
//!
//! A value which is new in each answer makes all three differ, and never counts.
//!
//! # Two answers
//!
//! Without a second primary nobody knows the noise. It is taken to be 0, and a path is a regression if Wilson's lower bound,
//! one-sided 95 %, divided by the number of paths, is above the floor. Where in nearly all pairs both values look generated (ids,
//! times), it is told as unknown noise and no regression.
//!
//! Bounded: routes, accounts, paths and examples have caps; what is beyond is counted as `_other`.

use super::calls::{self, Call};
use super::difference::{Difference, Kind};
use super::downstream::Downstream;
use super::findings::{Example, Mode};
use super::latency::Sketch;
use super::rules::Rules;
use super::seen::Seen;
use super::{differences, shape};
use std::collections::{BTreeMap, BTreeSet};

/// Routes that are told apart.
const ROUTES_MAX: usize = 500;
/// Accounts that are told apart.
const ACCOUNTS_MAX: usize = 1_000;
/// Paths of all routes that are told apart.
const ROWS_MAX: usize = 5_000;
/// Pairs that are kept of each path.
const EXAMPLES_MAX: usize = 3;
/// Where what is beyond a cap is counted.
const OTHER: &str = "_other";

/// What is asked of a run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A smaller excess is no regression: 0.03 %, as Diffy's absolute threshold, which is the only part of its rule that is kept.
    pub floor: f64,
    /// By how much a quantile may be higher than before, on top of its bounds: 10 %.
    pub latency_tolerance: f64,
    /// Whether a slower candidate fails the run; by default it is only told, as most test machines are shared.
    pub is_latency_judged: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { floor: 0.0003, latency_tolerance: 0.10, is_latency_judged: false }
    }
}

/// The exchange that is compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Case<'a> {
    /// Its route; empty: none matched.
    pub route: &'a str,
    /// Its account.
    pub account: &'a str,
    /// Its number in the recording, for examples.
    pub sequence: u64,
}

#[derive(Default)]
pub(super) struct Row {
    pub candidate_odd: u64,
    pub primary_odd: u64,
    pub secondary_odd: u64,
    pub all_differ: u64,
    pub generated: u64,
    pub kinds: BTreeMap<Kind, u64>,
    pub examples: Vec<Example>,
}

#[derive(Default)]
pub(super) struct Counts {
    pub exchanges: u64,
    pub different: u64,
}

#[derive(Default)]
pub(super) struct Latencies {
    pub primary: Sketch,
    pub secondary: Sketch,
    pub candidate: Sketch,
}

/// See the module.
pub struct Tally {
    pub(super) rules: Rules,
    pub(super) options: Options,
    pub(super) mode: Mode,
    pub(super) total: Counts,
    pub(super) bodies_skipped: u64,
    pub(super) routes: BTreeMap<String, Counts>,
    pub(super) accounts: BTreeMap<String, Counts>,
    pub(super) rows: BTreeMap<(String, String), Row>,
    pub(super) latencies: BTreeMap<String, Latencies>,
    pub(super) downstream: Option<Downstream>,
}

/// Whose answer a path was odd in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Odd {
    Candidate,
    Primary,
    Secondary,
    All,
}

impl Tally {
    /// An empty one.
    pub fn new(rules: Rules, options: Options) -> Tally {
        Tally {
            rules,
            options,
            mode: Mode::TwoWay,
            total: Counts::default(),
            bodies_skipped: 0,
            routes: BTreeMap::new(),
            accounts: BTreeMap::new(),
            rows: BTreeMap::new(),
            latencies: BTreeMap::new(),
            downstream: None,
        }
    }

    /// Counts an exchange with one answer to compare with: the recorded one, or that of a primary.
    pub fn two(&mut self, case: Case<'_>, primary: &Seen<'_>, candidate: &Seen<'_>) {
        let found = differences(&self.rules, primary, candidate);
        self.skip(&[primary, candidate]);
        let route = self.exchange(case, !found.is_empty());
        self.latency(&route, primary, None, candidate);
        for difference in &found {
            self.row(&route, case, difference, Odd::Candidate);
        }
    }

    /// Counts an exchange with two answers of the version in use.
    pub fn three(&mut self, case: Case<'_>, primary: &Seen<'_>, secondary: &Seen<'_>, candidate: &Seen<'_>) {
        self.mode = Mode::ThreeWay;
        let raw = differences(&self.rules, primary, candidate);
        let noise = differences(&self.rules, primary, secondary);
        self.skip(&[primary, secondary, candidate]);
        let third = match raw.is_empty() || noise.is_empty() {
            true => Vec::new(),
            false => differences(&self.rules, secondary, candidate),
        };
        let route = self.exchange(case, !raw.is_empty());
        self.latency(&route, primary, Some(secondary), candidate);
        self.odd(&route, case, &raw, &noise, &third);
    }

    /// Counts the downstream calls of an exchange that was counted already; always judged as two answers are. Says whether they
    /// differ.
    pub fn calls(&mut self, case: Case<'_>, recorded: &[Call], observed: &[Call]) -> bool {
        let route = name(&self.routes, case.route, ROUTES_MAX);
        let found = calls::compare(&self.rules, recorded, observed);
        for difference in &found {
            self.row(&route, case, difference, Odd::Candidate);
        }
        !found.is_empty()
    }

    /// What is told of the downstream calls of the run.
    pub fn set_downstream(&mut self, told: Downstream) {
        self.downstream = Some(told);
    }

    #[cfg(test)]
    pub(super) fn mode_is_three(&mut self) {
        self.mode = Mode::ThreeWay;
    }

    fn skip(&mut self, seen: &[&Seen<'_>]) {
        self.bodies_skipped += u64::from(seen.iter().any(|seen| seen.is_truncated));
    }

    fn exchange(&mut self, case: Case<'_>, is_different: bool) -> String {
        self.exchanges(case, 1, u64::from(is_different))
    }

    /// Counts exchanges, and gives the name that their route is counted under.
    pub(super) fn exchanges(&mut self, case: Case<'_>, exchanges: u64, different: u64) -> String {
        let route = name(&self.routes, case.route, ROUTES_MAX);
        let account = name(&self.accounts, case.account, ACCOUNTS_MAX);
        let of_route = self.routes.entry(route.clone()).or_default();
        let of_account = self.accounts.entry(account).or_default();
        for counts in [&mut self.total, of_route, of_account] {
            counts.exchanges += exchanges;
            counts.different += different;
        }
        route
    }

    fn latency(
        &mut self,
        route: &str,
        primary: &Seen<'_>,
        secondary: Option<&Seen<'_>>,
        candidate: &Seen<'_>,
    ) {
        let seen = [Some(primary), secondary, Some(candidate)];
        if seen.iter().flatten().any(|seen| seen.duration_ns == 0 || !seen.error.is_empty()) {
            return;
        }
        let latencies = self.latencies.entry(route.to_owned()).or_default();
        latencies.primary.add(primary.duration_ns);
        latencies.candidate.add(candidate.duration_ns);
        if let Some(secondary) = secondary {
            latencies.secondary.add(secondary.duration_ns);
        }
    }

    pub(super) fn odd(
        &mut self,
        route: &str,
        case: Case<'_>,
        raw: &[Difference],
        noise: &[Difference],
        third: &[Difference],
    ) {
        let paths = |list: &[Difference]| {
            list.iter().map(|difference| difference.path.clone()).collect::<BTreeSet<_>>()
        };
        let (of_raw, of_noise, of_third) = (paths(raw), paths(noise), paths(third));
        let mut counted = BTreeSet::new();
        for difference in raw.iter().chain(noise) {
            let path = &*difference.path;
            if !counted.insert(path) {
                continue;
            }
            let odd = match (of_raw.contains(path), of_noise.contains(path)) {
                (true, false) => Odd::Candidate,
                (false, _) => Odd::Secondary,
                (true, true) if of_third.contains(path) => Odd::All,
                (true, true) => Odd::Primary,
            };
            self.row(route, case, difference, odd);
        }
    }

    pub(super) fn row(&mut self, route: &str, case: Case<'_>, difference: &Difference, odd: Odd) {
        let mut key = (route.to_owned(), difference.path.clone());
        if self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&key) {
            key.1 = OTHER.to_owned();
        }
        let row = self.rows.entry(key).or_default();
        match odd {
            Odd::Candidate => row.candidate_odd += 1,
            Odd::Primary => row.primary_odd += 1,
            Odd::Secondary => row.secondary_odd += 1,
            Odd::All => row.all_differ += 1,
        }
        let is_generated = |text: &str| shape::is_generated(text);
        row.generated += u64::from(is_generated(&difference.left) && is_generated(&difference.right));
        *row.kinds.entry(difference.kind).or_default() += 1;
        // Examples of what the candidate does are worth more than those of noise.
        let example = || Example {
            sequence: case.sequence,
            account: case.account.to_owned(),
            before: difference.left.clone(),
            after: difference.right.clone(),
            is_candidate: odd == Odd::Candidate,
        };
        if row.examples.len() < EXAMPLES_MAX {
            row.examples.push(example());
        } else if odd == Odd::Candidate
            && let Some(noise) = row.examples.iter_mut().find(|example| !example.is_candidate)
        {
            *noise = example();
        }
    }
}

impl Row {
    pub fn total_odd(&self) -> u64 {
        self.candidate_odd + self.primary_odd + self.secondary_odd
    }
}

fn name<T>(known: &BTreeMap<String, T>, name: &str, max: usize) -> String {
    let name = if name.is_empty() { "-" } else { name };
    if known.len() >= max && !known.contains_key(name) { OTHER.to_owned() } else { name.to_owned() }
}
