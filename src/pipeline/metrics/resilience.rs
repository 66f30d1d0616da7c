//! What a scrape says of health, balancing, breakers, retries and mirrors.

use super::registry::Registry;
use super::text::{Kind, Page};
use crate::cluster::{BreakerReport, Cluster, ClusterStats, Counter, Reason, clock_ns};
use crate::quota::Limits;
use std::sync::Arc;

/// A counter of a cluster: name, help, where it is.
type Family = (&'static str, &'static str, fn(&ClusterStats) -> &Counter);

const FAMILIES: [Family; 17] = [
    ("sidelight_retries_made", "Retries that were sent.", |stats| &stats.retries),
    ("sidelight_retry_budget_exhausted", "Retries and hedges that the budget did not allow.", |stats| {
        &stats.budget_exhausted
    }),
    ("sidelight_hedges", "Hedges that were sent.", |stats| &stats.hedges),
    ("sidelight_hedges_won", "Hedges whose answer came first.", |stats| &stats.hedges_won),
    ("sidelight_outlier_ejections", "Endpoints that were ejected.", |stats| &stats.ejections),
    ("sidelight_outlier_ejections_prevented", "Ejections that were due and did not take place.", |stats| {
        &stats.ejections_prevented
    }),
    ("sidelight_outlier_unejections", "Endpoints that came back after an ejection.", |stats| {
        &stats.unejections
    }),
    ("sidelight_health_checks_passed", "Active health checks that succeeded.", |stats| &stats.checks_passed),
    ("sidelight_health_checks_failed", "Active health checks that failed.", |stats| &stats.checks_failed),
    ("sidelight_balance_panic_picks", "Picks among all endpoints, because too few are healthy.", |stats| {
        &stats.panic_picks
    }),
    ("sidelight_balance_picks_local", "Picks in the zone of this service.", |stats| &stats.picks_local),
    ("sidelight_balance_picks_remote", "Picks in another zone.", |stats| &stats.picks_remote),
    ("sidelight_balance_subset_fallbacks", "Picks outside of the wanted subset.", |stats| {
        &stats.subset_fallbacks
    }),
    ("sidelight_balance_hash_missing", "Picks of requests that had nothing to hash.", |stats| {
        &stats.hash_missing
    }),
    ("sidelight_mirror_requests", "Copies that were sent to the cluster.", |stats| &stats.mirrored),
    ("sidelight_mirror_failures", "Copies that were answered with a 5xx, or not at all.", |stats| {
        &stats.mirror_failures
    }),
    ("sidelight_mirror_skipped", "Copies that were not sent.", |stats| &stats.mirror_skipped),
];

impl Registry {
    pub(super) fn render_resilience(&self, page: &mut Page) {
        let clusters = self.clusters.load();
        for (name, help, counter) in FAMILIES {
            page.family(name, Kind::Counter, help);
            for cluster in clusters.iter() {
                page.number(&[("sidelight_cluster", &cluster.name)], counter(&cluster.stats).get());
            }
        }
        page.family(
            "sidelight_cluster_endpoints_by_state",
            Kind::Gauge,
            "Endpoints by what speaks against them.",
        );
        for cluster in clusters.iter() {
            for (state, count) in states(cluster) {
                page.number(&[("sidelight_cluster", &*cluster.name), ("state", state)], count);
            }
        }
        self.render_breakers(page);
        self.render_rate_limits(page);
    }
}

/// A breaker's place in the scrape, and what it says.
struct Row {
    labels: [(&'static str, String); 4],
    report: BreakerReport,
}

fn row(listener: &str, report: BreakerReport) -> Row {
    let labels = [
        ("scope", report.scope.to_owned()),
        ("name", report.name.to_string()),
        ("breaker", report.breaker.to_owned()),
        ("listener", listener.to_owned()),
    ];
    Row { labels, report }
}

impl Registry {
    /// Tells where rate limits and breakers of routes are. Said once, when the process starts.
    pub fn watch_limits(&self, limits: &Arc<Limits>) {
        let _ = self.limits.set(Arc::clone(limits));
    }

    fn render_breakers(&self, page: &mut Page) {
        let now_ns = clock_ns(tokio::time::Instant::now());
        let clusters = self.clusters.load();
        let own = clusters.iter().flat_map(|cluster| cluster.breakers.report(now_ns));
        let mut rows: Vec<Row> = own.map(|report| row("", report)).collect();
        if let Some(limits) = self.limits.get() {
            for placed in limits.breakers() {
                rows.extend(
                    placed.limit.report(now_ns).into_iter().map(|report| row(placed.listener, report)),
                );
            }
        }
        let mut family = |name, kind, help, value: &dyn Fn(&BreakerReport) -> Option<u64>| {
            page.family(name, kind, help);
            for Row { labels, report } in &rows {
                if let Some(value) = value(report) {
                    page.number(&labels.each_ref().map(|(name, text)| (*name, text.as_str())), value);
                }
            }
        };
        family("sidelight_circuit_breaker_limit", Kind::Gauge, "The limit; absent without one.", &|report| {
            report.limit
        });
        family("sidelight_circuit_breaker_current", Kind::Gauge, "What there is now.", &|report| {
            Some(report.current)
        });
        family(
            "sidelight_circuit_breaker_refused",
            Kind::Counter,
            "Requests that were refused.",
            &|report| Some(report.refused),
        );
        family("sidelight_circuit_breaker_open", Kind::Gauge, "1 unless it is closed.", &|report| {
            Some(u64::from(report.state != "closed"))
        });
        family(
            "sidelight_circuit_breaker_opened",
            Kind::Counter,
            "How often the breaker opened.",
            &|report| report.opened,
        );
    }

    fn render_rate_limits(&self, page: &mut Page) {
        let limits = self.limits.get().map(|limits| limits.rate_limits()).unwrap_or_default();
        page.family(
            "sidelight_rate_limit_requests",
            Kind::Counter,
            "Requests that a rate limit was asked about.",
        );
        for placed in &limits {
            let labels = |result| {
                let limit: &str = &placed.limit.settings().name;
                [
                    ("listener", placed.listener),
                    ("route", &*placed.route),
                    ("limit", limit),
                    ("result", result),
                ]
            };
            page.number(&labels("allowed"), placed.limit.allowed());
            page.number(&labels("refused"), placed.limit.refused());
        }
        page.family(
            "sidelight_rate_limit_crowded",
            Kind::Counter,
            "Requests that shared a bucket because there were too many.",
        );
        for placed in &limits {
            let limit: &str = &placed.limit.settings().name;
            let labels = [("listener", placed.listener), ("route", &*placed.route), ("limit", limit)];
            page.number(&labels, placed.limit.crowded());
        }
        page.family("sidelight_rate_limit_buckets", Kind::Gauge, "Buckets that are kept.");
        for placed in &limits {
            let limit: &str = &placed.limit.settings().name;
            let labels = [("listener", placed.listener), ("route", &*placed.route), ("limit", limit)];
            page.number(&labels, placed.limit.buckets() as u64);
        }
    }
}

/// How many endpoints are in each state; one with two reasons counts for both.
fn states(cluster: &Cluster) -> Vec<(&'static str, u64)> {
    let set = cluster.endpoints();
    let count = |has: &dyn Fn(&crate::cluster::Health) -> bool| {
        set.endpoints.iter().filter(|endpoint| has(&endpoint.health)).count() as u64
    };
    let mut states = vec![("usable", count(&|health| health.is_usable()))];
    states.extend(Reason::ALL.map(|reason| (reason.as_str(), count(&|health| health.has(reason)))));
    states
}
