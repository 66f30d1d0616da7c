//! `clusters.*.balance`: keys that need each other, labels and zones that no endpoint has, sizes that cannot work.

use std::collections::BTreeMap;

use super::cluster::Cluster;
use super::{Check, count_of, endpoints_text};
use crate::cluster::config::{
    Balance, ContextField, HashOn, Policy, Ring, SubsetFallback, SubsetFrom, SubsetValue,
};
use crate::config::nearest::{listed, nearest};
use crate::config::node::{Entry, Node, excerpt};
use crate::context::Field;

/// A table or ring with fewer places for each endpoint has uneven shares (Maglev, NSDI 2016, §5.3).
const PLACES_PER_ENDPOINT: usize = 100;

impl<'a> Check<'a, '_> {
    pub(super) fn balance(&mut self, cluster: &Cluster<'a>) {
        let Some(node) = cluster.node.get("balance") else { return };
        let Some(balance) = self.read::<Balance>(node) else { return };
        self.hash(node, &balance, cluster);
        if let Some(entry) = node.entry("slow_start").filter(|_| balance.policy.is_hash()) {
            let message = format!("`slow_start` has no effect: `{}` sends by hash", policy_text(node));
            self.warning(entry.key_span, message, "remove it");
        }
        self.subset(node, &balance, cluster);
        self.locality(node, &balance, cluster);
        self.panic(node, &balance, cluster);
    }

    fn hash(&mut self, node: &'a Node, balance: &Balance, cluster: &Cluster<'a>) {
        let policy = policy_text(node);
        match node.entry("hash_on").filter(|_| !balance.hash_on.is_empty()) {
            None if balance.policy.is_hash() => {
                let span = node.get("policy").map_or(node.span, |policy| policy.span);
                let message =
                    format!("`{policy}` has nothing to hash: every request would go to a random endpoint");
                self.error(span, message, "add `hash_on: [{ context: account_id }]`");
            }
            Some(entry) if !balance.policy.is_hash() => {
                let message = format!("`hash_on` has no effect: `{policy}` does not hash");
                self.warning(entry.key_span, message, "write `policy: maglev`, or remove `hash_on`");
            }
            _ => {}
        }
        let is_tcp = cluster.node.get("protocol").and_then(Node::text) == Some("tcp");
        if let Some(entry) = node.entry("hash_on").filter(|_| is_tcp && balance.policy.is_hash())
            && balance.hash_on.iter().any(|hash| *hash != HashOn::SourceAddress)
        {
            let message = format!(
                "cluster `{}` speaks `tcp`: a connection has nothing to hash but its address",
                cluster.name
            );
            self.warning(entry.key_span, message, "write `[source_address]`");
        }
        self.hash_on(node, &balance.hash_on);
        self.hash_sizes(node, balance, cluster);
    }

    /// Items that can never be used, and names that no request can have.
    fn hash_on(&mut self, node: &'a Node, hash_on: &[HashOn]) {
        let items = node.get("hash_on").map_or(&[][..], Node::items);
        for (index, (item, hash)) in items.iter().zip(hash_on).enumerate() {
            let before = hash_on.get(..index).unwrap_or_default();
            if before.contains(hash) {
                self.warning(item.span, "this is already in the list", "remove it");
            } else if before.last().is_some_and(is_always_there) {
                let message = "this is never hashed: every request has what stands before it";
                self.warning(item.span, message, "put it first, or remove it");
            }
            match hash {
                HashOn::Header(name) => self.lookup_header(item, name),
                HashOn::Cookie(name) => {
                    let is_name = http::HeaderName::from_bytes(name.as_bytes()).is_ok(); // both are tokens
                    if let Some(value) = item.get("cookie").filter(|_| !is_name) {
                        let message = format!("`{}` is not the name of a cookie", excerpt(name));
                        self.error(
                            value.span,
                            message,
                            "a name has letters, digits, `-` and `_`, as in `session`",
                        );
                    }
                }
                HashOn::Query(name) if name.is_empty() => {
                    self.error(item.span, "the parameter has no name", "write it as in `{ query: id }`");
                }
                _ => {}
            }
        }
    }

    /// A header whose value decides where a request goes. Context fields are looked up as what they are believed to be.
    fn lookup_header(&mut self, item: &Node, name: &str) {
        let Some(value) = item.get("header") else { return };
        self.header_name(name, value.span);
        let field = match Field::from_header(name.as_bytes()) {
            Some(Field::AccountId) => "account_id",
            Some(Field::UserId) => "user_id",
            Some(Field::License) => "license",
            _ => return,
        };
        let message = format!(
            "`{}` is what a client says; the field of the context is what is believed",
            excerpt(name)
        );
        self.warning(value.span, message, format!("write `{{ context: {field} }}`"));
    }

    fn hash_sizes(&mut self, node: &'a Node, balance: &Balance, cluster: &Cluster<'a>) {
        let defaults = Balance::default();
        if let Some(entry) = node.entry("maglev_table_size") {
            let size = balance.maglev_table_size;
            let enough =
                prime_from(count_of(PLACES_PER_ENDPOINT.saturating_mul(cluster.count().unwrap_or(0))));
            if !is_prime(size) {
                let message = format!("{size} is not a prime: parts of the table would never be filled");
                self.error(entry.value.span, message, format!("write {}", prime_from(size)));
            } else if size != defaults.maglev_table_size && balance.policy != Policy::Maglev {
                let message = "`maglev_table_size` has no effect: the policy is not `maglev`";
                self.warning(entry.key_span, message, "write `policy: maglev`, or remove it");
            } else if size != defaults.maglev_table_size && size < enough {
                let count = endpoints_text(cluster.count().unwrap_or(0));
                let message = format!("the table is small for {count}: the shares would be uneven");
                self.warning(entry.value.span, message, format!("write {enough} or a larger prime"));
            }
        }
        let Some(entry) = node.entry("ring") else { return };
        let Ring { size_min, size_max } = balance.ring;
        let place = |key: &str| entry.value.get(key).map_or(entry.key_span, |node| node.span);
        if size_min > size_max {
            let message = format!("`size_min` ({size_min}) is above `size_max` ({size_max})");
            self.error(place("size_min"), message, "make `size_max` the larger one");
        } else if balance.ring != defaults.ring && balance.policy != Policy::RingHash {
            let message = "`ring` has no effect: the policy is not `ring_hash`";
            self.warning(entry.key_span, message, "write `policy: ring_hash`, or remove it");
        } else if let Some(count) = cluster.count().filter(|count| count_of(*count) > size_max) {
            let message = format!("a ring of {size_max} points is too small for {}", endpoints_text(count));
            self.error(place("size_max"), message, "make `size_max` 100 times the number of endpoints");
        }
    }

    fn subset(&mut self, node: &'a Node, balance: &Balance, cluster: &Cluster<'a>) {
        let subset = node.entry("subset").filter(|_| !balance.subset.is_empty());
        let Some(subset) = subset else {
            if let Some(entry) =
                node.entry("subset_fallback").filter(|_| balance.subset_fallback != SubsetFallback::default())
            {
                let message = "`subset_fallback` has no effect: there is no `subset`";
                self.warning(entry.key_span, message, "add `subset: { … }`, or remove it");
            }
            return;
        };
        for entry in subset.value.entries() {
            if let Some(SubsetValue::Request(SubsetFrom::Header(name))) = balance.subset.get(&entry.key) {
                self.lookup_header(&entry.value, name);
            }
        }
        let Some(labels) = cluster.labels() else { return };
        let problems = self.problems.len();
        for entry in subset.value.entries() {
            if let Some(wanted) = balance.subset.get(&entry.key) {
                self.label(entry, wanted, &labels, balance.subset_fallback);
            }
        }
        let wanted = balance.subset.iter().filter_map(|(name, value)| match value {
            SubsetValue::Text(text) => Some((name, text)),
            SubsetValue::Request(_) => None,
        });
        let wanted: Vec<_> = wanted.collect();
        let has_all = |labels: &BTreeMap<String, String>| {
            wanted.iter().all(|(name, text)| labels.get(*name) == Some(*text))
        };
        if self.problems.len() == problems && !labels.iter().any(|labels| has_all(labels)) {
            let names = listed(wanted.iter().map(|(name, _)| name.as_str()), "and");
            let message = format!(
                "no endpoint has all of these labels ({names}){}",
                consequence(balance.subset_fallback)
            );
            self.problem_of_subset(subset, message, "give an endpoint all of them", balance.subset_fallback);
        }
    }

    /// Whether some endpoint has the label, with the value if it is a text.
    fn label(
        &mut self,
        entry: &Entry,
        wanted: &SubsetValue,
        labels: &[&BTreeMap<String, String>],
        fallback: SubsetFallback,
    ) {
        let name = excerpt(&entry.key);
        let values: Vec<&str> =
            labels.iter().filter_map(|labels| labels.get(&entry.key)).map(String::as_str).collect();
        let (message, help) = match wanted {
            _ if values.is_empty() => {
                let names = labels.iter().flat_map(|labels| labels.keys()).map(String::as_str);
                let help = match nearest(&entry.key, names) {
                    _ if labels.is_empty() => {
                        "DNS says nothing of labels: list the endpoints, or use `discovery: { file: … }`"
                            .into()
                    }
                    Some(near) => format!("write `{near}`"),
                    None => format!("add `labels: {{ {name}: … }}` to endpoints"),
                };
                (format!("no endpoint has the label `{name}`"), help)
            }
            SubsetValue::Text(text) if !values.contains(&text.as_str()) => {
                let text = excerpt(text);
                let help = match nearest(&text, values) {
                    Some(near) => format!("write `{near}`"),
                    None => format!("add `labels: {{ {name}: {text} }}` to an endpoint"),
                };
                (format!("no endpoint has the label `{name}: {text}`"), help)
            }
            _ => return,
        };
        self.problem_of_subset(entry, message + consequence(fallback), &help, fallback);
    }

    /// Requests that are all refused are an error; requests that all go elsewhere may be meant.
    fn problem_of_subset(&mut self, entry: &Entry, message: String, help: &str, fallback: SubsetFallback) {
        match fallback {
            SubsetFallback::None => self.error(entry.key_span, message, help),
            SubsetFallback::Any => self.warning(entry.key_span, message, help),
        }
    }

    fn locality(&mut self, node: &'a Node, balance: &Balance, cluster: &Cluster<'a>) {
        let Some(entry) = node.entry("locality") else { return };
        let defaults = Balance::default().locality;
        let locality = &balance.locality;
        let is_spelled_out = *locality == defaults && entry.value.entries().len() > 1; // `--print-config` writes it
        if entry.value.entries().is_empty() || is_spelled_out {
            return;
        }
        let callers = entry.value.entry("callers").filter(|_| !locality.callers.is_empty());
        if let Some(callers) = callers.filter(|_| locality.callers.values().all(|weight| *weight == 0)) {
            self.error(callers.value.span, "all weights are 0: no zone calls", "give one zone a weight");
        }
        if !locality.prefer_zone {
            let other = callers.or(entry.value.entry("endpoints_min"));
            if let Some(other) =
                other.filter(|_| locality.endpoints_min != defaults.endpoints_min || callers.is_some())
            {
                let message = format!("`{}` has no effect: `prefer_zone` is off", other.key);
                self.warning(other.key_span, message, "remove it, or write `prefer_zone: true`");
            }
            return;
        }
        let Some(zone) = self.zone() else {
            let message = "`locality` has no effect: the zone of this service is not known";
            return self.warning(entry.key_span, message, "add `zone: …` to `service`");
        };
        if let Some(callers) = callers.filter(|_| !locality.callers.contains_key(zone)) {
            let help = match nearest(zone, locality.callers.keys().map(String::as_str)) {
                Some(near) => format!("`{}` is near: is it the same zone?", excerpt(near)),
                None => format!("add `{}: …`", excerpt(zone)),
            };
            let message = format!("this service's own zone `{}` is not among the callers", excerpt(zone));
            self.warning(callers.key_span, message, help);
        }
        self.zones(entry, zone, cluster);
        let few = cluster.count().filter(|count| count_of(*count) < locality.endpoints_min);
        if let Some(count) = few.filter(|_| locality.endpoints_min != defaults.endpoints_min) {
            let span = entry.value.get("endpoints_min").map_or(entry.key_span, |node| node.span);
            let message = format!("`locality` has no effect: there are only {}", endpoints_text(count));
            self.warning(span, message, format!("write {count} or less"));
        }
    }

    /// Whether the endpoints' zones are known, and this service's among them.
    fn zones(&mut self, entry: &Entry, zone: &str, cluster: &Cluster<'a>) {
        let is_dns = cluster.node.at(&["discovery", "dns"]).is_some();
        let Some(endpoints) = cluster.endpoints().filter(|list| !list.is_empty()) else {
            if is_dns {
                let message = "`locality` has no effect: DNS says nothing of zones";
                self.warning(entry.key_span, message, "remove it, or list the endpoints with their zones");
            }
            return;
        };
        if cluster.has_discovery() {
            return;
        }
        if let Some((node, endpoint)) = endpoints.iter().find(|(_, endpoint)| endpoint.zone.is_empty()) {
            let message = format!("`{}` has no zone: it counts as in another one", endpoint.address);
            return self.warning(node.span, message, "add `zone: …`, or remove `locality`");
        }
        let zones = endpoints.iter().map(|(_, endpoint)| endpoint.zone.as_str());
        if !zones.clone().any(|name| name == zone) {
            let help = match nearest(zone, zones) {
                Some(near) => format!("`{}` is near: is it the same zone?", excerpt(near)),
                None => "remove it, or check the zones".into(),
            };
            let message = format!(
                "`locality` has no effect: no endpoint is in this service's zone `{}`",
                excerpt(zone)
            );
            self.warning(entry.key_span, message, help);
        }
    }

    fn panic(&mut self, node: &'a Node, balance: &Balance, cluster: &Cluster<'a>) {
        let Some(entry) = node.entry("panic_threshold") else { return };
        let threshold = balance.panic_threshold;
        if threshold == Balance::default().panic_threshold {
            return;
        }
        let can_eject = cluster.outlier_detection.as_ref().is_none_or(|outlier| outlier.enabled);
        if !can_eject && cluster.node.get("health").is_none() {
            let message = "`panic_threshold` has no effect: nothing tells which endpoints are healthy";
            return self.warning(entry.key_span, message, "add `health`, or enable `outlier_detection`");
        }
        if threshold == 100 {
            let message =
                "with one unhealthy endpoint all are used again: ejections and health checks have no effect";
            return self.warning(entry.value.span, message, "write 50, or 0 for never");
        }
        let Some(count) = cluster.count().filter(|count| *count > 1) else { return };
        let left = u32::try_from((count - 1) * 100 / count).unwrap_or(100);
        if left < threshold {
            let message = format!(
                "one unhealthy endpoint of {count} leaves {left} %, and all are used again: ejections and health checks have no effect"
            );
            self.warning(entry.value.span, message, format!("write at most {left}"));
        }
    }
}

fn policy_text(node: &Node) -> &str {
    node.get("policy").and_then(Node::text).unwrap_or("peak_ewma")
}

fn is_always_there(hash: &HashOn) -> bool {
    matches!(
        hash,
        HashOn::Path
            | HashOn::SourceAddress
            | HashOn::Context(ContextField::RequestId | ContextField::TraceId)
    )
}

fn consequence(fallback: SubsetFallback) -> &'static str {
    match fallback {
        SubsetFallback::None => ": every request would be answered 503",
        SubsetFallback::Any => ": every request would go to any endpoint",
    }
}

fn is_prime(number: u32) -> bool {
    let divides = |divisor: &u32| number.is_multiple_of(*divisor);
    number > 1 && !(2..=number.isqrt()).any(|divisor| divides(&divisor))
}

/// The first prime from `number` on.
fn prime_from(number: u32) -> u32 {
    (number..=u32::MAX).find(|number| is_prime(*number)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes() {
        let primes: Vec<u32> = (0..30).filter(|number| is_prime(*number)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(65_537) && is_prime(5_000_011) && !is_prime(65_536));
        assert_eq!((prime_from(0), prime_from(65_536), prime_from(5_000_000)), (2, 65_537, 5_000_011));
    }
}
