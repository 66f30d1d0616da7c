//! `clusters.*.outlier_detection`: detectors that can never fire, and times and percentages that contradict.

use super::cluster::Cluster;
use super::{Check, count_of, endpoints_text};
use crate::cluster::config::{Balance, OutlierDetection};
use crate::config::node::{Entry, Node};
use crate::units::duration_text;

/// A detector: the key that carries it out, and the keys that are about it.
const DETECTORS: [(&str, &[&str]); 4] = [
    ("enforcing_consecutive_5xx", &["consecutive_5xx"]),
    ("enforcing_consecutive_gateway_failure", &["consecutive_gateway_failure"]),
    (
        "enforcing_success_rate",
        &["success_rate_minimum_hosts", "success_rate_request_volume", "success_rate_stdev_factor"],
    ),
    (
        "enforcing_failure_percentage",
        &[
            "failure_percentage_threshold",
            "failure_percentage_minimum_hosts",
            "failure_percentage_request_volume",
        ],
    ),
];

impl<'a> Check<'a, '_> {
    pub(super) fn outlier_detection(&mut self, cluster: &Cluster<'a>) {
        let Some(entry) = cluster.node.entry("outlier_detection") else { return };
        let Some(outlier) = &cluster.outlier_detection else { return };
        self.ejection_times(entry, outlier);
        if !outlier.enabled {
            // What is written is what is not the default: `--print-config` writes everything.
            let switched_on = OutlierDetection { enabled: true, ..outlier.clone() };
            if let Some(enabled) =
                entry.value.get("enabled").filter(|_| switched_on != OutlierDetection::default())
            {
                let message = "the other keys of `outlier_detection` have no effect: it is switched off";
                self.warning(enabled.span, message, "write `enabled: true`, or remove them");
            }
            return;
        }
        self.detectors(entry, outlier);
        self.hosts(&entry.value, outlier, cluster);
        self.ejection_percent(&entry.value, outlier, cluster);
    }

    fn ejection_times(&mut self, entry: &Entry, outlier: &OutlierDetection) {
        if outlier.base_ejection_time <= outlier.max_ejection_time {
            return;
        }
        let (base, most) =
            (duration_text(outlier.base_ejection_time), duration_text(outlier.max_ejection_time));
        let place = entry.value.get("base_ejection_time").or(entry.value.get("max_ejection_time"));
        let message =
            format!("the first ejection ({base}) is longer than the longest (`max_ejection_time`: {most})");
        self.error(
            place.map_or(entry.key_span, |node| node.span),
            message,
            format!("add `max_ejection_time: {base}`, or write at most `{most}`"),
        );
    }

    /// Thresholds of detectors that are not carried out.
    fn detectors(&mut self, entry: &Entry, outlier: &OutlierDetection) {
        let enforcing = [
            outlier.enforcing_consecutive_5xx,
            outlier.enforcing_consecutive_gateway_failure,
            outlier.enforcing_success_rate,
            outlier.enforcing_failure_percentage,
        ];
        if enforcing.iter().all(|percent| *percent == 0) {
            let message = "nothing is ever ejected: every `enforcing_…` is 0";
            let help = "write `enforcing_consecutive_5xx: 100`, or `enabled: false`";
            return self.warning(entry.key_span, message, help);
        }
        for ((switch, keys), percent) in DETECTORS.iter().zip(enforcing) {
            let changed =
                keys.iter().filter_map(|key| entry.value.entry(key)).find(|entry| is_changed(entry));
            if let Some(changed) = changed.filter(|_| percent == 0) {
                let message = format!("`{}` ejects nothing: `{switch}` is 0", changed.key);
                self.warning(changed.key_span, message, format!("add `{switch}: 100`"));
            }
        }
    }

    /// Detectors that compare endpoints, where there are too few.
    fn hosts(&mut self, node: &Node, outlier: &OutlierDetection, cluster: &Cluster<'a>) {
        let Some(count) = cluster.count() else { return };
        for (key, minimum, enforcing) in [
            (
                "success_rate_minimum_hosts",
                outlier.success_rate_minimum_hosts,
                outlier.enforcing_success_rate,
            ),
            (
                "failure_percentage_minimum_hosts",
                outlier.failure_percentage_minimum_hosts,
                outlier.enforcing_failure_percentage,
            ),
        ] {
            let entry = node.entry(key).filter(|entry| is_changed(entry));
            if let Some(entry) = entry.filter(|_| enforcing > 0 && minimum > count_of(count)) {
                let message =
                    format!("this detector never judges: the cluster has {}", endpoints_text(count));
                self.warning(entry.value.span, message, format!("write at most {count}"));
            }
        }
    }

    /// Ejections that end in panic.
    fn ejection_percent(&mut self, node: &Node, outlier: &OutlierDetection, cluster: &Cluster<'a>) {
        let Some(most) = node.get("max_ejection_percent") else { return };
        let balance = match cluster.node.get("balance") {
            Some(balance) => match self.read::<Balance>(balance) {
                Some(balance) => balance,
                None => return,
            },
            None => Balance::default(),
        };
        let panic = balance.panic_threshold;
        let possible = 100u32.saturating_sub(panic);
        let is_default = outlier.max_ejection_percent == OutlierDetection::default().max_ejection_percent;
        if panic > 0 && !is_default && outlier.max_ejection_percent > possible {
            let message = format!(
                "when more than {possible} % are ejected, all are used again (`balance.panic_threshold`: {panic})"
            );
            self.warning(most.span, message, format!("write at most {possible}, or lower `panic_threshold`"));
        }
    }
}

/// Whether a number is written that is not the default: `--print-config` writes all of them.
fn is_changed(entry: &Entry) -> bool {
    let default = serde_json::to_value(OutlierDetection::default()).unwrap_or_default();
    let default = default.get(&entry.key).and_then(serde_json::Value::as_i64).map(i128::from);
    entry.value.integer() != default
}
