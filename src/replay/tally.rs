//! What a driver counted since it last told, and the sum of it.

use super::Answer;
use super::histogram::Histogram;
use super::verdict::{Row, Second, TargetRun};
use crate::record::Entry;
use std::collections::{BTreeMap, HashMap};

/// Rows of a table that are kept apart; what comes later is counted as [`OTHER`].
const ROWS_MAX: usize = 200;

/// Everything else.
const OTHER: &str = "(other)";

/// Seconds of a run that are kept: a day.
const SECONDS_MAX: usize = 86_400;

/// Seconds behind the newest whose histogram is kept; what ends later is not in their percentiles.
const OPEN_SECONDS: usize = 5;

/// Of one target.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub sent: u64,
    pub answered: u64,
    pub errors: BTreeMap<String, u64>,
    pub not_sent: BTreeMap<String, u64>,
    pub statuses: BTreeMap<u16, u64>,
    pub cancelled: u64,
    pub bytes: u64,
    pub lag: Histogram,
    pub intended: Histogram,
    pub actual: Histogram,
    pub first_byte: Histogram,
    pub recorded: Histogram,
    pub routes: HashMap<String, Group>,
    pub accounts: HashMap<String, Group>,
    pub by_status: HashMap<String, Group>,
    pub seconds: BTreeMap<u32, Open>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    count: u64,
    errors: u64,
    intended: Histogram,
    actual: Histogram,
}

#[derive(Clone, Debug)]
pub(super) struct Open {
    sent: u64,
    ended: u64,
    errors: u64,
    latency: Histogram,
    lag: Histogram,
    done: Option<Second>,
}

impl Default for Open {
    fn default() -> Self {
        let (latency, lag) = (Histogram::coarse(), Histogram::coarse());
        Open { sent: 0, ended: 0, errors: 0, latency, lag, done: None }
    }
}

/// Whether an answer counts against the target: none, or not whole, or a 5xx.
pub(super) fn is_failure(answer: &Answer) -> bool {
    answer.status >= 500 || answer.error.as_deref().is_some_and(|error| error != "cancelled")
}

impl Tally {
    /// Counts an exchange that was sent. `ready_ns` is when it could be: its time, or later the end of what it waited for.
    pub(super) fn sent(&mut self, entry: &Entry, answer: &Answer, ready_ns: u64) {
        self.sent += 1;
        self.bytes += answer.body_bytes;
        let lag_ns = answer.sent_ns.saturating_sub(ready_ns);
        self.lag.record_ns(lag_ns);
        let sent_second = self.second(answer.sent_ns);
        sent_second.sent += 1;
        sent_second.lag.record_ns(lag_ns);
        let is_failure = is_failure(answer);
        let intended_ns = answer.ended_ns.saturating_sub(answer.intended_ns);
        let actual_ns = answer.ended_ns.saturating_sub(answer.sent_ns);
        let second = self.second(answer.ended_ns);
        second.ended += 1;
        second.errors += u64::from(is_failure);
        second.latency.record_ns(intended_ns);
        match answer.error.as_deref() {
            Some("cancelled") => self.cancelled += 1,
            Some(error) => *self.errors.entry(error.to_owned()).or_default() += 1,
            None => self.answered += 1,
        }
        if answer.status > 0 {
            *self.statuses.entry(answer.status).or_default() += 1;
        }
        self.intended.record_ns(intended_ns);
        self.actual.record_ns(actual_ns);
        self.recorded.record_ns(entry.duration_ns);
        if answer.first_byte_ns > 0 {
            self.first_byte.record_ns(answer.first_byte_ns.saturating_sub(answer.sent_ns));
        }
        let status = if answer.status == 0 { "none" } else { "" };
        let mut number = String::new();
        if status.is_empty() {
            number = answer.status.to_string();
        }
        let rows = [
            (&mut self.routes, entry.route.as_str()),
            (&mut self.accounts, entry.account_id.as_str()),
            (&mut self.by_status, if status.is_empty() { number.as_str() } else { status }),
        ];
        for (map, name) in rows {
            let group = row(map, name);
            group.count += 1;
            group.errors += u64::from(is_failure);
            group.intended.record_ns(intended_ns);
            group.actual.record_ns(actual_ns);
        }
    }

    /// Counts one that was not.
    pub(super) fn not_sent(&mut self, reason: &str) {
        *self.not_sent.entry(reason.to_owned()).or_default() += 1;
    }

    fn second(&mut self, at_ns: u64) -> &mut Open {
        let second = u32::try_from(at_ns / 1_000_000_000).unwrap_or(u32::MAX).min(SECONDS_MAX as u32);
        self.seconds.entry(second).or_default()
    }

    /// Adds what a driver counted since it last told.
    pub(super) fn add(&mut self, other: Tally) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.cancelled += other.cancelled;
        self.bytes += other.bytes;
        other.errors.into_iter().for_each(|(name, count)| *self.errors.entry(name).or_default() += count);
        other.not_sent.into_iter().for_each(|(name, count)| *self.not_sent.entry(name).or_default() += count);
        other.statuses.into_iter().for_each(|(name, count)| *self.statuses.entry(name).or_default() += count);
        self.lag.add(&other.lag);
        self.intended.add(&other.intended);
        self.actual.add(&other.actual);
        self.first_byte.add(&other.first_byte);
        self.recorded.add(&other.recorded);
        for (into, from) in [
            (&mut self.routes, other.routes),
            (&mut self.accounts, other.accounts),
            (&mut self.by_status, other.by_status),
        ] {
            for (name, group) in from {
                let into = row(into, &name);
                into.count += group.count;
                into.errors += group.errors;
                into.intended.add(&group.intended);
                into.actual.add(&group.actual);
            }
        }
        for (second, from) in other.seconds {
            let into = self.seconds.entry(second).or_default();
            into.sent += from.sent;
            into.ended += from.ended;
            into.errors += from.errors;
            if into.done.is_none() {
                into.latency.add(&from.latency);
                into.lag.add(&from.lag);
            }
        }
        let newest = self.seconds.keys().next_back().copied().unwrap_or(0);
        let old = self.seconds.range_mut(..newest.saturating_sub(OPEN_SECONDS as u32)).rev();
        for (second, open) in old.take_while(|(_, open)| open.done.is_none()) {
            open.done = Some(open.summary(*second));
            (open.latency, open.lag) = (Histogram::coarse(), Histogram::coarse());
        }
    }

    /// How many exchanges came to an end, and how many of them failed.
    pub(super) fn failures(&self) -> (u64, u64) {
        let failed_statuses: u64 = self.statuses.range(500..).map(|(_, count)| count).sum();
        (self.sent, failed_statuses + self.errors.values().sum::<u64>())
    }

    pub(super) fn into_run(self, name: &str, url: &str) -> TargetRun {
        let (_, failed) = self.failures();
        let rows = |map: HashMap<String, Group>| {
            let mut rows: Vec<Row> = map.into_iter().map(|(name, group)| group.row(name)).collect();
            rows.sort_by(|one, two| two.count.cmp(&one.count).then_with(|| one.name.cmp(&two.name)));
            rows
        };
        TargetRun {
            name: name.into(),
            url: url.into(),
            sent: self.sent,
            answered: self.answered,
            cancelled: self.cancelled,
            failed,
            bytes: self.bytes,
            errors: self.errors,
            not_sent: self.not_sent,
            statuses: self.statuses,
            send_lag: self.lag.summary(),
            latency_intended: self.intended.summary(),
            latency_actual: self.actual.summary(),
            first_byte: self.first_byte.summary(),
            latency_recorded: self.recorded.summary(),
            by_route: rows(self.routes),
            by_account: rows(self.accounts),
            by_status: rows(self.by_status),
            seconds: self.seconds.iter().map(|(second, open)| open.summary(*second)).collect(),
        }
    }
}

impl Open {
    fn summary(&self, second: u32) -> Second {
        let mut summary = self.done.clone().unwrap_or_else(|| Second {
            p50_us: self.latency.percentile_us(50.0),
            p99_us: self.latency.percentile_us(99.0),
            max_us: self.latency.max_us(),
            lag_p99_us: self.lag.percentile_us(99.0),
            ..Second::default()
        });
        (summary.second, summary.sent, summary.ended, summary.errors) =
            (second, self.sent, self.ended, self.errors);
        summary
    }
}

impl Group {
    fn row(self, name: String) -> Row {
        Row {
            name,
            count: self.count,
            errors: self.errors,
            latency_intended: self.intended.summary(),
            latency_actual: self.actual.summary(),
        }
    }
}

fn row<'m>(map: &'m mut HashMap<String, Group>, name: &str) -> &'m mut Group {
    let name = if map.contains_key(name) || map.len() < ROWS_MAX { name } else { OTHER };
    if !map.contains_key(name) {
        map.insert(name.to_owned(), Group::default());
    }
    map.entry(String::from(name)).or_default()
}
