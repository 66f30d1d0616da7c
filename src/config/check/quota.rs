//! `rate_limit` and `mirror` of routes: names, keys and values that no request can have, and copies that go nowhere.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{Check, count_of};
use crate::config::node::{Entry, Node, excerpt};
use crate::context::{Field, RequestType};
use crate::quota::Rate;
use crate::route::config::{LimitKey, Mirror, RateLimit};
use crate::units::duration_text;

/// Each is asked for each request.
const RATE_LIMITS_MAX: usize = 16;
/// Fewer buckets than this are soon shared, where a client can make up values.
const KEYS_MIN: usize = 100;

impl<'a> Check<'a, '_> {
    pub(super) fn rate_limits(&mut self, route: &'a Node) {
        let Some(entry) = route.entry("rate_limit") else { return };
        let items = entry.value.items();
        if items.len() > RATE_LIMITS_MAX {
            let message = format!("{} rate limits: each is asked for each request", items.len());
            self.error(entry.key_span, message, format!("write at most {RATE_LIMITS_MAX}"));
        }
        let mut names: HashMap<&str, usize> = HashMap::new();
        for item in items {
            if let Some(name) = item.get("name")
                && let Some(text) = name.text().filter(|text| !text.is_empty())
            {
                if let Some(line) = names.insert(text, name.span.line) {
                    let message = format!("rate limit `{}` is written twice", excerpt(text));
                    self.error(
                        name.span,
                        message,
                        format!("it is already on line {line}: answers tell limits by name"),
                    );
                }
                if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                    let message = format!("`{}` cannot be the name of a rate limit", excerpt(text));
                    self.error(name.span, message, "it stands in header fields: write it in ASCII");
                }
            }
            if let Some(limit) = self.read::<RateLimit>(item) {
                self.rate_limit(item, &limit);
            }
        }
    }

    fn rate_limit(&mut self, item: &'a Node, limit: &RateLimit) {
        self.limit_key(item, limit);
        let rate =
            Rate { requests: limit.requests, per: limit.per, burst: limit.burst.unwrap_or(limit.requests) };
        self.rate(item, item, rate);
        self.overrides(item, limit);
        let Some(entry) = item.entry("keys_max").filter(|_| limit.keys_max != RateLimit::default().keys_max)
        else {
            return;
        };
        let is_open = limit
            .key
            .iter()
            .any(|key| !matches!(key, LimitKey::License | LimitKey::RequestType | LimitKey::Method));
        if limit.key.is_empty() {
            let message = "`keys_max` has no effect: without a `key` there is one bucket";
            self.warning(entry.key_span, message, "remove it, or add `key: [account_id]`");
        } else if limit.keys_max < limit.overrides.len() {
            let message =
                format!("`overrides` has more values ({}) than there are buckets", limit.overrides.len());
            self.error(entry.value.span, message, "write a larger number");
        } else if is_open && limit.keys_max < KEYS_MIN {
            let message = format!("beyond {} values at once, all others share one bucket", limit.keys_max);
            self.warning(
                entry.value.span,
                message,
                format!("write {KEYS_MIN} or more: a bucket takes some 100 bytes"),
            );
        }
    }

    fn limit_key(&mut self, item: &'a Node, limit: &RateLimit) {
        let items = item.get("key").map_or(&[][..], Node::items);
        for (index, (item, key)) in items.iter().zip(&limit.key).enumerate() {
            if limit.key.get(..index).is_some_and(|before| before.contains(key)) {
                self.warning(item.span, "this is already in the key", "remove it");
            }
            let (LimitKey::Header(name), Some(value)) = (key, item.get("header")) else { continue };
            self.header_name(name, value.span);
            let field = match Field::from_header(name.as_bytes()) {
                Some(Field::AccountId) => "account_id",
                Some(Field::UserId) => "user_id",
                Some(Field::License) => "license",
                Some(Field::RequestType) => "request_type",
                _ => continue,
            };
            let message = format!(
                "`{}` is what a client says; the field of the context is what is believed",
                excerpt(name)
            );
            self.error(value.span, message, format!("write `{field}` instead of `{{ header: … }}`"));
        }
    }

    /// A rate that cannot be counted: time is in nanoseconds, and a bucket must be full again some day.
    fn rate(&mut self, item: &Node, quota: &Node, rate: Rate) {
        if rate.is_representable() {
            return;
        }
        let place = quota.get("burst").or(item.get("per")).or(quota.get("requests"));
        let message = format!(
            "{} requests in {} and {} at once cannot be counted: that is more than one in a nanosecond, or a century until it is full again",
            rate.requests,
            duration_text(rate.per),
            rate.burst
        );
        self.error(place.map_or(item.span, |node| node.span), message, "write smaller numbers");
    }

    fn overrides(&mut self, item: &Node, limit: &RateLimit) {
        let Some(overrides) = item.entry("overrides").filter(|_| !limit.overrides.is_empty()) else { return };
        let Some(first) = limit.key.first() else {
            let message = "`overrides` are for values of the first part of `key`, and there is none";
            return self.error(overrides.key_span, message, "add `key: [account_id]`");
        };
        for entry in overrides.value.entries() {
            if let Some(quota) = limit.overrides.get(&entry.key) {
                let burst = quota.burst.unwrap_or(quota.requests);
                self.rate(item, &entry.value, Rate { requests: quota.requests, per: limit.per, burst });
            }
            self.override_value(entry, first);
        }
    }

    fn override_value(&mut self, entry: &Entry, first: &LimitKey) {
        let value = entry.key.as_str();
        let shown = excerpt(value);
        match first {
            LimitKey::SourceAddress if value.parse::<IpAddr>().is_err() => {
                let message = format!("`{shown}` is not an IP address, and the key is `source_address`");
                self.error(entry.key_span, message, "write it without a port and without a prefix length");
            }
            LimitKey::RequestType if RequestType::parse(value.as_bytes()).is_none() => {
                let message = format!("`{shown}` is not a request type");
                self.error(entry.key_span, message, "write `STANDARD` or `TRACE`");
            }
            LimitKey::Method if value.bytes().any(|byte| byte.is_ascii_lowercase()) => {
                let message = format!("`{shown}` matches nothing: methods are told apart by case");
                self.warning(entry.key_span, message, format!("write `{}`", shown.to_ascii_uppercase()));
            }
            LimitKey::Path if !value.starts_with('/') => {
                let message = format!("the path `{shown}` does not start with `/`");
                self.error(entry.key_span, message, format!("write `/{shown}`"));
            }
            _ => {}
        }
    }

    pub(super) fn mirror(&mut self, route: &'a Node) {
        let Some(entry) = route.entry("mirror") else { return };
        if let Some(cluster) = entry.value.get("cluster") {
            self.cluster_exists(cluster);
            self.not_tcp(cluster);
            let split = route.get("split").map_or(&[][..], Node::items).iter();
            let mut targets =
                route.get("cluster").into_iter().chain(split.filter_map(|part| part.get("cluster")));
            if let Some(name) =
                cluster.text().filter(|name| targets.any(|target| target.text() == Some(name)))
            {
                let message = format!("the copies go to `{}`, where the requests go", excerpt(name));
                self.warning(cluster.span, message, "name another cluster, or remove `mirror`");
            }
        }
        let Some(mirror) = self.read::<Mirror>(&entry.value) else { return };
        if let Some(percent) = entry.value.get("percent").filter(|_| mirror.percent == 0.0) {
            self.warning(percent.span, "nothing is mirrored", "write how many percent, or remove `mirror`");
        }
        let limits = crate::limits::Config::default();
        let kept = self.root.at(&["limits", "retry_body_bytes_max"]);
        if kept.and_then(super::size).unwrap_or(limits.retry_body_bytes_max as u64) == 0 {
            let message = "only requests without content are mirrored: `limits.retry_body_bytes_max` is 0";
            self.warning(entry.key_span, message, "raise it");
        }
        if count_of(mirror.requests_max) > 10_000 {
            let place = entry.value.get("requests_max").map_or(entry.key_span, |node| node.span);
            let message = "each copy under way holds its content: so many can take much memory";
            self.warning(place, message, "write 64");
        }
    }
}
