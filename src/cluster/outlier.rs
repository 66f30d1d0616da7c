//! Outlier detection: an endpoint that fails real requests is left out for a while.
//!
//! Four detectors, as in Envoy (`config.cluster.v3.OutlierDetection`, whose names and defaults these are): 5xx in a row
//! and gateway failures in a row, which workers find as they happen; success rate far below that of the others, and
//! percentage of failures, which [`Cluster::sweep_outliers`] looks at in intervals. No answer counts as a gateway
//! failure (Envoy without `split_external_local_origin_errors`). An ejection lasts `base_ejection_time` × how often the
//! endpoint was ejected lately, at most `max_ejection_time`; each interval without one takes one off that number. An
//! active check that succeeds ends an ejection before its time.
//!
//! Where we differ: it is on by default; the end of an ejection is looked for each second, not each interval; of several
//! outliers at one look the worst is ejected first; the last endpoint that is usable is never ejected, whatever the
//! percentage, because an outlier is one among others; and a check is believed once: where it brought back an endpoint
//! that was soon ejected again, it does not see what requests see, and ends no ejection any more unless it had failed
//! itself in between.
//!
//! Position: told by [`Cluster::learn`], once for each attempt. A success costs two relaxed loads. Records: counters,
//! and changes in the journal; that an endpoint is *not* ejected is told once in an interval.
//!
//! How it fails: when too many are bad, none is left out any more, and balancing's panic threshold takes over.

use super::config::OutlierDetection;
use super::journal::{Change, What};
use super::{Cluster, Endpoint, Health, Outcome, Reason};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the detectors of a cluster remember. Whoever ejects or brings back holds it, so that two workers do not eject
/// two endpoints where one may be.
#[derive(Debug, Default)]
pub(super) struct Outliers(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    /// When rates were looked at, in nanoseconds since the process started.
    looked_ns: Option<u64>,
    /// How many endpoints are ejected; counted anew with each sweep, because discovery takes endpoints away.
    ejected: u64,
    /// What endpoints had counted by then, by id.
    counted: HashMap<u64, Counted>,
    /// Endpoints of which has been told since then that they are not ejected, by id.
    told: HashSet<u64>,
}

impl Outliers {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Attempts that ended with a verdict.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    attempts: u64,
    failures: u64,
}

impl Counted {
    /// Attempts are counted as they begin; those that are still under way have not succeeded, nor have those that say
    /// nothing of the endpoint.
    fn of(endpoint: &Endpoint) -> Counted {
        let stats = &endpoint.stats;
        let begun = stats.requests.load(Relaxed);
        let in_flight = u64::from(endpoint.load.in_flight.load(Relaxed));
        let undecided = stats.undecided.load(Relaxed);
        Counted {
            attempts: begun.saturating_sub(in_flight + undecided),
            failures: stats.failures.load(Relaxed),
        }
    }

    fn since(self, earlier: Counted) -> Counted {
        let attempts = self.attempts.saturating_sub(earlier.attempts);
        Counted { attempts, failures: self.failures.saturating_sub(earlier.failures).min(attempts) }
    }

    fn success_percent(self) -> f64 {
        100.0 * (self.attempts - self.failures) as f64 / self.attempts.max(1) as f64
    }
}

/// What found an outlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detector {
    Consecutive5xx,
    ConsecutiveGatewayFailure,
    SuccessRate,
    FailurePercentage,
}

impl Detector {
    const fn as_str(self) -> &'static str {
        match self {
            Detector::Consecutive5xx => "consecutive_5xx",
            Detector::ConsecutiveGatewayFailure => "consecutive_gateway_failure",
            Detector::SuccessRate => "success_rate",
            Detector::FailurePercentage => "failure_percentage",
        }
    }

    /// How many of its ejections are carried out, in percent; 0: it is off.
    fn enforcing(self, terms: &OutlierDetection) -> u32 {
        match self {
            Detector::Consecutive5xx => terms.enforcing_consecutive_5xx,
            Detector::ConsecutiveGatewayFailure => terms.enforcing_consecutive_gateway_failure,
            Detector::SuccessRate => terms.enforcing_success_rate,
            Detector::FailurePercentage => terms.enforcing_failure_percentage,
        }
    }
}

impl Health {
    /// An attempt succeeded.
    #[inline]
    fn note_success(&self) {
        // Looked at before written: the line stays in the cache of every worker.
        if self.consecutive_5xx.load(Relaxed) != 0 {
            self.consecutive_5xx.store(0, Relaxed);
        }
        if self.consecutive_gateway_failures.load(Relaxed) != 0 {
            self.consecutive_gateway_failures.store(0, Relaxed);
        }
    }

    fn forget_failures(&self) {
        self.consecutive_5xx.store(0, Relaxed);
        self.consecutive_gateway_failures.store(0, Relaxed);
    }
}

impl Cluster {
    /// An attempt on `endpoint` succeeded.
    #[inline]
    pub(super) fn note_success(&self, endpoint: &Endpoint) {
        if self.settings.outlier_detection.enabled {
            endpoint.health.note_success();
        }
    }

    /// An attempt on `endpoint` failed: ejects it, if it was the last of too many in a row.
    pub(super) fn note_failure(
        &self,
        endpoint: &Arc<Endpoint>,
        outcome: Outcome,
        is_gateway: bool,
        now_ns: u64,
    ) {
        let terms = &self.settings.outlier_detection;
        let health = &endpoint.health;
        // What comes back late from an endpoint that is out says nothing new.
        if !terms.enabled || health.has(Reason::Ejected) {
            return;
        }
        if is_gateway {
            let failures = health.consecutive_gateway_failures.fetch_add(1, Relaxed).wrapping_add(1);
            if failures == terms.consecutive_gateway_failure {
                let why = || format!("{failures} gateway failures in a row, the last: {outcome}");
                self.eject(endpoint, Detector::ConsecutiveGatewayFailure, now_ns, why);
                health.consecutive_gateway_failures.store(0, Relaxed);
            }
        } else {
            health.consecutive_gateway_failures.store(0, Relaxed);
        }
        let failures = health.consecutive_5xx.fetch_add(1, Relaxed).wrapping_add(1);
        if failures == terms.consecutive_5xx {
            let why = || format!("{failures} failures in a row, the last: {outcome}");
            self.eject(endpoint, Detector::Consecutive5xx, now_ns, why);
            // If it was not ejected, the next one is due after as many again.
            health.consecutive_5xx.store(0, Relaxed);
        }
    }

    /// Brings back endpoints whose time is over, and looks at rates when the interval is over. Called about once a
    /// second, which is how late an ejection may end.
    pub fn sweep_outliers(&self, now_ns: u64) {
        let terms = &self.settings.outlier_detection;
        if !terms.enabled {
            return;
        }
        let set = self.endpoints();
        for endpoint in &set.endpoints {
            let health = &endpoint.health;
            if health.has(Reason::Ejected) && now_ns >= health.ejected_until_ns.load(Relaxed) {
                self.uneject(endpoint, "time", now_ns);
            }
        }
        {
            let mut memory = self.stats.outliers.memory();
            let out = set.endpoints.iter().filter(|endpoint| endpoint.health.has(Reason::Ejected));
            memory.ejected = out.count() as u64;
        }
        let Some(counts) = self.count(&set.endpoints, now_ns) else { return };
        self.judge_success_rates(&counts, now_ns);
        self.judge_failure_percentages(&counts, now_ns);
        let interval_ns = ns(terms.interval);
        for endpoint in &set.endpoints {
            let health = &endpoint.health;
            let (times, until_ns) = (health.ejections.load(Relaxed), health.ejected_until_ns.load(Relaxed));
            let is_out = health.has(Reason::Ejected);
            if times > 0 && !is_out && now_ns.saturating_sub(until_ns) >= interval_ns {
                health.ejections.store(times - 1, Relaxed);
            }
        }
    }

    /// An active check of `endpoint` says that it is healthy: ends its ejection, if there is one and the check is
    /// believed; whether it did. `is_news`: until now, checks said that it is not healthy.
    pub fn uneject_by_check(&self, endpoint: &Arc<Endpoint>, is_news: bool, now_ns: u64) -> bool {
        let is_allowed = self.settings.outlier_detection.successful_active_health_check_uneject_host;
        let is_believed = is_news || endpoint.health.ejections.load(Relaxed) <= 1;
        is_allowed && is_believed && self.uneject(endpoint, "health_check", now_ns)
    }

    /// Uses `endpoint` again, if it was ejected; whether it was. `by` is `time` or `health_check`.
    fn uneject(&self, endpoint: &Arc<Endpoint>, by: &'static str, now_ns: u64) -> bool {
        {
            let mut memory = self.stats.outliers.memory();
            if !endpoint.health.has(Reason::Ejected) {
                return false;
            }
            endpoint.health.forget_failures();
            // `ejected_until_ns` stays: an ejection that was cut short counts for as long as it would have lasted.
            self.restore(endpoint, Reason::Ejected, now_ns);
            memory.ejected = memory.ejected.saturating_sub(1);
        }
        self.stats.unejections.add();
        self.tell(endpoint, What::Unejected { by });
        true
    }

    /// What the endpoints that are not ejected counted since the last look; `None` before the interval is over.
    fn count(&self, endpoints: &[Arc<Endpoint>], now_ns: u64) -> Option<Vec<(Arc<Endpoint>, Counted)>> {
        let mut memory = self.stats.outliers.memory();
        let looked_ns = *memory.looked_ns.get_or_insert(now_ns);
        if now_ns.saturating_sub(looked_ns) < ns(self.settings.outlier_detection.interval) {
            return None;
        }
        memory.looked_ns = Some(now_ns);
        memory.told.clear();
        let earlier = std::mem::take(&mut memory.counted);
        let mut counts = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let counted = Counted::of(endpoint);
            memory.counted.insert(endpoint.id, counted);
            if !endpoint.health.has(Reason::Ejected) {
                let earlier = earlier.get(&endpoint.id).copied().unwrap_or_default();
                counts.push((Arc::clone(endpoint), counted.since(earlier)));
            }
        }
        // The worst first: they are ejected while there is room.
        counts.sort_by(|(_, a), (_, b)| a.success_percent().total_cmp(&b.success_percent()));
        Some(counts)
    }

    fn judge_success_rates(&self, counts: &[(Arc<Endpoint>, Counted)], now_ns: u64) {
        let terms = &self.settings.outlier_detection;
        let enough = counts
            .iter()
            .filter(|(_, counted)| counted.attempts >= u64::from(terms.success_rate_request_volume));
        let rates: Vec<f64> = enough.clone().map(|(_, counted)| counted.success_percent()).collect();
        if rates.is_empty() || rates.len() < terms.success_rate_minimum_hosts as usize {
            return;
        }
        let hosts = rates.len() as f64;
        let mean = rates.iter().sum::<f64>() / hosts;
        let deviation = (rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / hosts).sqrt();
        // A hair below: rates that are equal must not differ from their mean by rounding.
        let floor = mean - f64::from(terms.success_rate_stdev_factor) / 1000.0 * deviation - 1e-9;
        for (endpoint, counted) in enough.filter(|(_, counted)| counted.success_percent() < floor) {
            let why = || {
                format!(
                    "{:.1} % of {} requests succeeded, less than {floor:.1} % (mean {mean:.1} %, standard deviation \
                     {deviation:.1} %, {hosts} endpoints)",
                    counted.success_percent(),
                    counted.attempts,
                )
            };
            self.eject(endpoint, Detector::SuccessRate, now_ns, why);
        }
    }

    fn judge_failure_percentages(&self, counts: &[(Arc<Endpoint>, Counted)], now_ns: u64) {
        let terms = &self.settings.outlier_detection;
        let enough = counts
            .iter()
            .filter(|(_, counted)| counted.attempts >= u64::from(terms.failure_percentage_request_volume));
        if enough.clone().count() < terms.failure_percentage_minimum_hosts as usize {
            return;
        }
        let limit = terms.failure_percentage_threshold;
        for (endpoint, counted) in enough {
            if 100.0 - counted.success_percent() >= f64::from(limit) {
                let why = || {
                    format!("{} of {} requests failed, {limit} % or more", counted.failures, counted.attempts)
                };
                self.eject(endpoint, Detector::FailurePercentage, now_ns, why);
            }
        }
    }

    /// Ejects `endpoint`, unless something speaks against it.
    fn eject(&self, endpoint: &Arc<Endpoint>, detector: Detector, now_ns: u64, why: impl FnOnce() -> String) {
        let terms = &self.settings.outlier_detection;
        let enforcing = detector.enforcing(terms);
        let set = self.endpoints();
        if enforcing == 0 || set.endpoints.len() < 2 {
            return;
        }
        let health = &endpoint.health;
        let (time, times) = {
            let mut memory = self.stats.outliers.memory();
            if health.has(Reason::Ejected) {
                return;
            }
            let objection = room(terms, &set.endpoints, endpoint, memory.ejected).err().or_else(|| {
                let is_spared = enforcing < 100 && self.random() % 100 >= u64::from(enforcing);
                is_spared.then(|| format!("enforced in {enforcing} % of the cases"))
            });
            if let Some(objection) = objection {
                let is_news = memory.told.len() < set.endpoints.len() && memory.told.insert(endpoint.id);
                drop(memory);
                self.stats.ejections_prevented.add();
                if is_news {
                    let why = format!("{objection}; {}", why());
                    self.tell(endpoint, What::EjectionPrevented { detector: detector.as_str(), why });
                }
                return;
            }
            if !set.endpoints.iter().any(|known| known.id == endpoint.id) {
                return; // discovery took it away meanwhile
            }
            memory.ejected += 1;
            let times = next_times(terms, health.ejections.load(Relaxed));
            let time = ejection_time(terms, times, || self.random());
            health.ejections.store(times, Relaxed);
            health.ejected_until_ns.store(now_ns.saturating_add(ns(time)), Relaxed);
            self.leave_out(endpoint, Reason::Ejected);
            (time, times)
        };
        self.stats.ejections.add();
        self.tell(endpoint, What::Ejected { detector: detector.as_str(), time, times, why: why() });
    }

    fn tell(&self, endpoint: &Endpoint, what: What) {
        let endpoint = Some((Arc::clone(&endpoint.name), endpoint.address));
        self.journal.note(Change { cluster: Arc::clone(&self.name), endpoint, what });
    }
}

/// Whether `endpoint` may be ejected beside the `ejected` that are out; why not. Quick where too many are out: then it is
/// asked for all the time.
fn room(
    terms: &OutlierDetection,
    endpoints: &[Arc<Endpoint>],
    endpoint: &Endpoint,
    ejected: u64,
) -> Result<(), String> {
    let (total, percent) = (endpoints.len() as u64, u64::from(terms.max_ejection_percent));
    if ejected > 0 && (ejected + 1) * 100 > percent * total {
        return Err(format!("{ejected} of {total} are ejected, at most {percent} % may be"));
    }
    if !endpoints.iter().any(|other| other.id != endpoint.id && other.health.is_usable()) {
        return Err("no other endpoint is usable".into());
    }
    Ok(())
}

/// How often an endpoint was ejected lately, with one more ejection; it grows no more once the longest time is reached.
fn next_times(terms: &OutlierDetection, times: u32) -> u32 {
    let is_longest = times > 0 && terms.base_ejection_time.saturating_mul(times) >= terms.max_ejection_time;
    if is_longest { times } else { times + 1 }
}

fn ejection_time(terms: &OutlierDetection, times: u32, random: impl FnOnce() -> u64) -> Duration {
    let time = terms.base_ejection_time.saturating_mul(times).min(terms.max_ejection_time);
    let jitter_ns = ns(terms.max_ejection_time_jitter);
    let jitter_ns = if jitter_ns == 0 { 0 } else { random() % jitter_ns.saturating_add(1) };
    time.saturating_add(Duration::from_nanos(jitter_ns))
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
