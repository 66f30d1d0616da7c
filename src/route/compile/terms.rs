//! The terms of a route beyond where it goes: hedges, breakers, rate limits, mirrors.

use super::{Compiler, lower};
use crate::cluster::Breakers;
use crate::cluster::config::CircuitBreaker;
use crate::context::Field;
use crate::exchange::{Hedge, Mirror};
use crate::quota::{Part, Rate, RateLimit, Settings};
use crate::route::config;
use crate::svc::Known;
use crate::svc::fields::is_token_byte;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Most rate limits of one route: each is asked for each request.
const RATE_LIMITS_MAX: usize = 16;

impl Compiler<'_> {
    pub(super) fn hedge(&mut self) -> Option<Hedge> {
        let hedge = self.route.hedge.as_ref()?;
        Some(match hedge.after {
            config::HedgeAfter::Quantile(quantile) => Hedge { quantile: Some(quantile), time: hedge.min },
            config::HedgeAfter::Fixed(time) => {
                if time.is_zero() {
                    self.problem("`hedge.after: 0s` would send every request twice");
                }
                Hedge { quantile: None, time }
            }
        })
    }

    pub(super) fn breakers(&self) -> Option<Arc<Breakers>> {
        let config = &self.route.circuit_breaker;
        let own = CircuitBreaker {
            requests: config.requests,
            retries: config.retries,
            requests_per_account: config.requests_per_account,
            breaker: config.breaker.clone(),
            ..CircuitBreaker::NONE
        };
        (!config.is_default()).then(|| self.limits.breakers(&self.name, &own))
    }

    pub(super) fn mirror(&mut self) -> Option<Mirror> {
        let mirror = self.route.mirror.as_ref()?;
        let cluster = (self.clusters)(&mirror.cluster);
        if cluster.is_none() {
            self.problem(format!("`mirror`: there is no cluster `{}`", mirror.cluster));
        }
        if !(0.0..=100.0).contains(&mirror.percent) {
            self.problem(format!("`mirror.percent: {}` is not from 0 to 100", mirror.percent));
        }
        let millionths = (mirror.percent * 10_000.0).round() as u32;
        // A share that is too small to tell is not none.
        let millionths = if mirror.percent > 0.0 { millionths.clamp(1, 1_000_000) } else { 0 };
        cluster.filter(|_| millionths > 0).map(|cluster| Mirror {
            cluster,
            millionths,
            requests_max: mirror.requests_max,
            timeout: mirror.timeout,
        })
    }

    pub(super) fn rate_limits(&mut self) -> Vec<Arc<RateLimit>> {
        let route = self.route;
        if route.rate_limit.len() > RATE_LIMITS_MAX {
            self.problem(format!("it has more than {RATE_LIMITS_MAX} rate limits"));
        }
        let mut names: HashSet<String> = HashSet::new();
        for limit in route.rate_limit.iter().filter(|limit| !limit.name.is_empty()) {
            if !names.insert(limit.name.clone()) {
                self.problem(format!("two rate limits are named `{}`", limit.name));
            }
        }
        let mut limits = Vec::with_capacity(route.rate_limit.len());
        for limit in &route.rate_limit {
            let before = self.problems.len();
            let settings = self.rate_limit(limit, &mut names);
            if self.problems.len() == before {
                limits.push(self.limits.rate_limit(&self.name, settings));
            }
        }
        limits
    }

    fn rate_limit(&mut self, limit: &config::RateLimit, names: &mut HashSet<String>) -> Settings {
        let key: Vec<Part> = limit.key.iter().map(part).collect();
        let name = if limit.name.is_empty() { made_name(&key, names) } else { limit.name.clone() };
        if !name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            self.problem(format!("rate limit `{name}`: a name that stands in header fields is in ASCII"));
        }
        for part in &limit.key {
            if let config::LimitKey::Header(header) = part {
                self.limit_header(&name, header);
            }
        }
        let rate = self.rate(&name, limit.requests, limit.burst, limit.per);
        if limit.keys_max == 0 {
            self.problem(format!("rate limit `{name}`: `keys_max: 0` leaves no bucket"));
        }
        let mut overrides = BTreeMap::new();
        for (text, quota) in &limit.overrides {
            let Some(first) = key.first() else {
                self.problem(format!("rate limit `{name}`: `overrides` needs a `key`"));
                break;
            };
            match first.value(text) {
                Some(value) => {
                    overrides.insert(value, self.rate(&name, quota.requests, quota.burst, limit.per));
                }
                None => self.problem(format!("rate limit `{name}`: `overrides.{text}` is no {first}")),
            }
        }
        Settings {
            name: name.into(),
            key,
            rate,
            overrides,
            keys_max: limit.keys_max,
            has_headers: limit.headers,
        }
    }

    fn limit_header(&mut self, name: &str, header: &str) {
        if header.is_empty() || !header.bytes().all(is_token_byte) {
            self.problem(format!("rate limit `{name}`: `key.header: {header}` is not a field name"));
        }
        // The header is what a client says; the field of the context is what is believed.
        let field = Field::from_header(header.as_bytes());
        if let Some(Field::AccountId | Field::UserId | Field::License | Field::RequestType) = field {
            let field = field.map_or("", Field::name);
            self.problem(format!("rate limit `{name}`: `key.header: {header}`: write `{field}`"));
        }
    }

    fn rate(&mut self, name: &str, requests: u32, burst: Option<u32>, per: Duration) -> Rate {
        let rate = Rate { requests, per, burst: burst.unwrap_or(requests) };
        if requests == 0 || rate.burst == 0 || per.is_zero() {
            self.problem(format!("rate limit `{name}`: `requests`, `burst` and `per` are above zero"));
        } else if !rate.is_representable() {
            self.problem(format!(
                "rate limit `{name}`: more than one request in a nanosecond, or a `burst` that takes more than a century"
            ));
        }
        rate
    }
}

fn part(key: &config::LimitKey) -> Part {
    use config::LimitKey as Key;
    match key {
        Key::AccountId => Part::AccountId,
        Key::UserId => Part::UserId,
        Key::License => Part::License,
        Key::RequestType => Part::RequestType,
        Key::SourceAddress => Part::SourceAddress,
        Key::Method => Part::Method,
        Key::Path => Part::Path,
        Key::Header(name) => Part::Header { name: lower(name), known: Known::classify(name.as_bytes()) },
    }
}

/// `account_id+path`; `all` without a key; with a number, if another limit of the route is for the same.
fn made_name(key: &[Part], names: &mut HashSet<String>) -> String {
    let parts: Vec<String> = key.iter().map(Part::to_string).collect();
    let first = if parts.is_empty() { "all".to_owned() } else { parts.join("+") };
    let mut name = first.clone();
    let mut number = 2;
    while !names.insert(name.clone()) {
        name = format!("{first}-{number}");
        number += 1;
    }
    name
}
