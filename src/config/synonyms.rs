//! Words of other proxies, and what they are called here: Envoy, Istio, linkerd, HAProxy, nginx.
//!
//! A word counts only where what it stands for can be written, so a table entry can never give advice that does not
//! fit. Keys are compared in our own spelling: `maxEjectionPercent` and `max-ejection-percent` are `max_ejection_percent`.

/// Keys. One word may stand for several: the first that is a key of the section counts.
const KEYS: &[(&str, &str)] = &[
    ("action", "respond"),
    ("adaptive_concurrency", "concurrency"),
    ("algorithm", "policy"),
    ("alt_port", "port"),
    ("attempts", "limit"),
    ("back_off", "backoff"),
    ("backend", "cluster"),
    ("balancer", "balance"),
    ("base_delay", "base"),
    ("base_ejection", "base_ejection_time"),
    ("base_interval", "base"),
    ("bind", "address"),
    ("bucket_size", "burst"),
    ("budget", "retry_budget"),
    ("budget_percent", "percent"),
    ("cert", "certificate"),
    ("circuit_breakers", "circuit_breaker"),
    ("codes", "statuses"),
    ("conditions", "on"),
    ("consecutive", "consecutive_failures"),
    ("consecutive_5xx_errors", "consecutive_5xx"),
    ("consecutive_errors", "consecutive_5xx"),
    ("consecutive_gateway_errors", "consecutive_gateway_failure"),
    ("consistent_hash", "hash_on"),
    ("delay", "after"),
    ("destination", "cluster"),
    ("direct_response", "respond"),
    ("ejection_percent", "max_ejection_percent"),
    ("ejection_time", "base_ejection_time"),
    ("expected_codes", "statuses"),
    ("expected_status", "statuses"),
    ("expected_statuses", "statuses"),
    ("fallback_policy", "subset_fallback"),
    ("failover_priority", "priority"),
    ("failures", "consecutive_failures"),
    ("fall", "unhealthy_threshold"),
    ("fastinter", "fast_interval"),
    ("fill_interval", "per"),
    ("fraction", "percent"),
    ("grpc_health_check", "grpc"),
    ("hash_policy", "hash_on"),
    ("headers_to_add", "set"),
    ("health_check", "health"),
    ("health_checks", "health"),
    ("healthcheck", "health"),
    ("healthchecks", "health"),
    ("healthy_panic_threshold", "panic_threshold"),
    ("hedge_policy", "hedge"),
    ("hosts", "endpoints"),
    ("http_health_check", "http"),
    ("idle_timeout", "idle"),
    ("initial_backoff", "base"),
    ("inter", "interval"),
    ("jitter", "jitter_percent"),
    ("lb", "balance"),
    ("lb_endpoints", "endpoints"),
    ("lb_policy", "policy"),
    ("lb_policy", "balance"),
    ("least_healthy_percent", "panic_threshold"),
    ("limit", "requests"),
    ("limiter", "rate_limit"),
    ("listen", "address"),
    ("load_balancer", "balance"),
    ("load_balancing", "balance"),
    ("load_balancing_policy", "balance"),
    ("load_balancing_weight", "weight"),
    ("load_shedding", "load_shed"),
    ("local_rate_limit", "rate_limit"),
    ("locality_lb_setting", "locality"),
    ("max_concurrency", "max"),
    ("max_concurrency_limit", "max"),
    ("max_connections", "connections"),
    ("max_ejection", "max_ejection_percent"),
    ("max_interval", "max"),
    ("max_pending", "pending"),
    ("max_pending_requests", "pending"),
    ("max_queue", "queue_max"),
    ("max_requests", "requests"),
    ("max_retries", "limit"),
    ("max_retries", "retries"),
    ("max_ring_size", "size_max"),
    ("max_stream_duration", "stream"),
    ("max_tokens", "burst"),
    ("maxconn", "connections"),
    ("maximum_ring_size", "size_max"),
    ("memory_limit", "memory"),
    ("methods", "method"),
    ("min_cluster_size", "endpoints_min"),
    ("min_concurrency", "min"),
    ("min_concurrency_limit", "min"),
    ("min_health_percent", "panic_threshold"),
    ("min_requests", "requests_min"),
    ("min_retries_per_second", "per_second_min"),
    ("min_retry_concurrency", "per_second_min"),
    ("min_ring_size", "size_min"),
    ("minimum_ring_size", "size_min"),
    ("mirror_percent", "percent"),
    ("mirror_percentage", "percent"),
    ("mirrors", "mirror"),
    ("num_retries", "limit"),
    ("outlier", "outlier_detection"),
    ("overload_manager", "overload"),
    ("overprovisioning_factor", "overprovisioning"),
    ("panic", "panic_threshold"),
    ("per_try_timeout", "per_try"),
    ("percentage", "percent"),
    ("period", "per"),
    ("permits", "requests"),
    ("queue", "queue_max"),
    ("queue_size", "queue_max"),
    ("quota", "requests"),
    ("rate", "requests"),
    ("rate_limits", "rate_limit"),
    ("ratio", "percent"),
    ("request_mirror_policies", "mirror"),
    ("request_mirror_policy", "mirror"),
    ("request_timeout", "request"),
    ("retriable_status_codes", "statuses"),
    ("retries", "retry"),
    ("retry_back_off", "backoff"),
    ("retry_on", "on"),
    ("retry_on_status", "statuses"),
    ("retry_policy", "retry"),
    ("retry_ratio", "percent"),
    ("ring_hash_lb_config", "ring"),
    ("ring_size", "size_min"),
    ("rise", "healthy_threshold"),
    ("servers", "endpoints"),
    ("service_name", "service"),
    ("shadow", "mirror"),
    ("slow_start_config", "slow_start"),
    ("slow_start_window", "window"),
    ("sni", "server_name"),
    ("status_codes", "statuses"),
    ("stream_idle_timeout", "idle"),
    ("subset_selectors", "subset"),
    ("subsets", "subset"),
    ("table_size", "maglev_table_size"),
    ("tcp_health_check", "tcp"),
    ("threshold", "consecutive_failures"),
    ("timeouts", "timeout"),
    ("tokens_per_fill", "requests"),
    ("traffic_mirror", "mirror"),
    ("uri", "path"),
    ("upstream", "cluster"),
    ("warmup", "slow_start"),
    ("weighted_clusters", "split"),
    ("zone_aware", "locality"),
];

/// Keys that belong elsewhere: the key, one that tells the section it is found in, and where to write it.
const ELSEWHERE: &[(&[&str], &str, &str)] = &[
    (
        &["per_try_timeout", "per_try", "timeout"],
        "retry_after_max",
        "a try's time is the route's `timeout: { per_try: … }`",
    ),
    (
        &["budget", "retry_budget", "percent"],
        "retry_after_max",
        "the budget is the cluster's: `clusters.NAME.retry_budget`",
    ),
    (&["per_try_timeout", "per_try"], "rate_limit", "write `timeout: { per_try: … }`"),
    (&["idle_timeout", "stream_idle_timeout"], "rate_limit", "write `timeout: { idle: … }`"),
    (
        &["balance", "health", "health_checks", "outlier_detection", "retry_budget", "connect_timeout"],
        "rate_limit",
        "it belongs to the cluster: `clusters.NAME`",
    ),
    (&["hash_on", "hash_policy"], "rate_limit", "it belongs to the cluster: `clusters.NAME.balance`"),
    (&["concurrency", "load_shed"], "rate_limit", "it belongs to the listener: `inbound` or `outbound`"),
    (
        &["hash_on", "hash_policy", "policy", "slow_start", "subset", "locality", "panic_threshold"],
        "retry_budget",
        "write it in `balance`",
    ),
    (
        &[
            "connections",
            "max_connections",
            "pending",
            "max_pending_requests",
            "requests",
            "max_requests",
            "breaker",
        ],
        "retry_budget",
        "write it in `circuit_breaker`",
    ),
    (
        &["timeout", "retry", "retries", "retry_policy", "hedge", "mirror", "rate_limit"],
        "retry_budget",
        "it belongs to a route",
    ),
    (
        &["panic_threshold", "healthy_panic_threshold", "min_health_percent"],
        "base_ejection_time",
        "write `balance: { panic_threshold: … }`",
    ),
    (
        &["consecutive_5xx", "consecutive_errors", "max_ejection_percent", "base_ejection_time", "interval"],
        "requests_per_account",
        "endpoints are ejected by `outlier_detection`",
    ),
    (
        &["consecutive_failures", "success_percent_min", "window", "backoff_min", "backoff_max"],
        "requests_per_account",
        "write it in `breaker`",
    ),
    (&["path", "host", "method", "statuses", "body", "uri"], "unhealthy_threshold", "write it in `http`"),
    (
        &["rate_limit", "retry", "timeout", "mirror", "circuit_breaker"],
        "load_shed",
        "it belongs to a route: `routes`",
    ),
];

/// Words for values.
const VALUES: &[(&str, &str)] = &[
    ("account", "account_id"),
    ("client_ip", "source_address"),
    ("conn_failure", "connect_failure"),
    ("connection_error", "connect_failure"),
    ("envoy_ratelimited", "rate_limited"),
    ("ewma", "peak_ewma"),
    ("ip", "source_address"),
    ("ip_hash", "ring_hash"),
    ("ketama", "ring_hash"),
    ("least_conn", "least_request"),
    ("least_connections", "least_request"),
    ("leastconn", "least_request"),
    ("p2c", "peak_ewma"),
    ("p2c_ewma", "peak_ewma"),
    ("remote_address", "source_address"),
    ("remote_ip", "source_address"),
    ("reset_before_request", "refused_stream"),
    ("response_timeout", "gateway_error"),
    ("roundrobin", "round_robin"),
    ("rr", "round_robin"),
    ("server_error", "5xx"),
    ("source_ip", "source_address"),
    ("uri", "path"),
    ("user", "user_id"),
];

/// Our spelling of a word: small letters, `_` between the parts.
pub fn snake_case(word: &str) -> String {
    let mut out = String::with_capacity(word.len() + 4);
    let mut is_after_small = false;
    for c in word.chars() {
        if c.is_ascii_uppercase() && is_after_small {
            out.push('_');
        }
        is_after_small = c.is_ascii_lowercase() || c.is_ascii_digit();
        out.push(if c == '-' || c == ' ' { '_' } else { c.to_ascii_lowercase() });
    }
    out
}

/// The key of `keys` that `written` stands for.
pub fn key<'a>(written: &str, keys: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let written = snake_case(written);
    let find = |name: &str| keys.clone().find(|key| *key == name);
    find(&written)
        .or_else(|| KEYS.iter().filter(|(word, _)| *word == written).find_map(|(_, ours)| find(ours)))
}

/// Where `written` belongs, when it is found in the section that has `keys`.
pub fn elsewhere<'a>(written: &str, keys: impl Iterator<Item = &'a str> + Clone) -> Option<&'static str> {
    let written = snake_case(written);
    let found = ELSEWHERE.iter().find(|(words, marker, _)| {
        words.contains(&written.as_str()) && keys.clone().any(|key| key == *marker)
    });
    found.map(|(_, _, help)| *help)
}

/// The choice that `written` stands for.
pub fn value<'a>(written: &str, choices: &[&'a str]) -> Option<&'a str> {
    let written = snake_case(written);
    let find = |name: &str| choices.iter().copied().find(|choice| *choice == name);
    find(&written)
        .or_else(|| VALUES.iter().filter(|(word, _)| *word == written).find_map(|(_, ours)| find(ours)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema;
    use serde_json::Value;

    #[test]
    fn words_are_compared_in_our_spelling() {
        for (word, ours) in [
            ("maxEjectionPercent", "max_ejection_percent"),
            ("consecutive5xxErrors", "consecutive5xx_errors"),
            ("http1MaxPendingRequests", "http1_max_pending_requests"),
            ("retry-on", "retry_on"),
            ("ROUND_ROBIN", "round_robin"),
            ("TLS", "tls"),
        ] {
            assert_eq!(snake_case(word), ours);
        }
        assert_eq!(key("maxRetries", ["limit", "on"].into_iter()), Some("limit"));
        assert_eq!(key("max_retries", ["connections", "retries"].into_iter()), Some("retries"));
        assert_eq!(key("maxRetries", ["connections"].into_iter()), None);
        assert_eq!(value("LEAST_CONN", &["round_robin", "least_request"]), Some("least_request"));
    }

    /// Every key of the schema, and every word that may be a value.
    fn words(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                let properties = map.get("properties").and_then(Value::as_object);
                found.extend(properties.into_iter().flatten().map(|(name, _)| name.clone()));
                found.extend(map.get("const").and_then(Value::as_str).map(str::to_owned));
                let choices = map.get("enum").and_then(Value::as_array);
                found.extend(choices.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| words(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| words(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_synonym_stands_for_something_that_exists() {
        let mut known = Vec::new();
        words(&schema(), &mut known);
        let exists = |name: &str| known.iter().any(|known| known == name);
        let unknown: Vec<&str> = KEYS
            .iter()
            .chain(VALUES)
            .map(|(_, ours)| *ours)
            .chain(ELSEWHERE.iter().map(|(_, marker, _)| *marker))
            .filter(|ours| !exists(ours))
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        let spelt = KEYS.iter().chain(VALUES).map(|(word, _)| *word);
        let spelt = spelt.chain(ELSEWHERE.iter().flat_map(|(words, _, _)| words.iter().copied()));
        assert!(spelt.into_iter().all(|word| snake_case(word) == word));
    }
}
