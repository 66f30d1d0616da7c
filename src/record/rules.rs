//! Which exchanges are recorded: compiled from the configuration, the routes, and what is asked for at runtime.
//!
//! Several rules may stand side by side; the first that wants an exchange records it. What a rule can say while the
//! exchange goes on (route, account, license, flags) is asked when the head of the answer is there, so that what nobody
//! wants is no longer copied; status and time are asked at the end. Sampling is a hash of the account, user or trace, so
//! that a session is recorded whole, by every sidecar alike.

use super::config::{self, Config, Match, SampleBy};
use crate::exchange::{Direction, Record};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use twox_hash::XxHash3_64;

/// All rules in force.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The rules, in the order in which they are asked.
    pub rules: Vec<Rule>,
    /// What routes say, by name.
    pub inbound: HashMap<Box<str>, RouteRule>,
    /// The same for routes of traffic from the application.
    pub outbound: HashMap<Box<str>, RouteRule>,
    /// The flight recorder.
    pub flight: Option<config::Flight>,
}

/// What a route says of its recording: `routes[].record`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteRule {
    /// Whether it is recorded; `None`: as all.
    pub enabled: Option<bool>,
    /// Most bytes of each side's content; `None`: as all; `Some(None)`: no limit.
    pub body_bytes_max: Option<Option<u64>>,
    /// The share of exchanges; `None`: as all.
    pub sample_millionths: Option<u32>,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    direction: Option<Direction>,
    routes: HashSet<Box<[u8]>>,
    accounts: HashSet<Box<[u8]>>,
    users: HashSet<Box<[u8]>>,
    licenses: HashSet<Box<[u8]>>,
    flags: Vec<Box<[u8]>>,
    traces: Vec<[u8; 16]>,
    statuses: Vec<(u16, u16)>,
    wants_failed: bool,
    slower_than: Option<Duration>,
    sample_millionths: u32,
    by: SampleBy,
    body_bytes_max: u64,
    /// Until when it holds; `None`: for ever.
    until: Option<Instant>,
    /// The name of what asked for it at runtime.
    pub id: Option<Box<str>>,
}

/// What is to become of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is recorded, if its end is as wanted.
    Wanted {
        /// Most bytes of each side's content.
        body_bytes_max: u64,
        /// How many of a million are sampled.
        sampled_millionths: u32,
    },
    /// A rule wants such exchanges, and sampling left this one out.
    SampledOut,
    /// No rule wants it.
    Filtered,
}

fn set(texts: &[String]) -> HashSet<Box<[u8]>> {
    texts.iter().map(|text| text.as_bytes().into()).collect()
}

/// What of a match cannot be read, if anything.
pub fn wrong(wanted: &Match) -> Option<String> {
    let status = wanted.statuses.iter().find(|text| *text != "failed" && statuses(text).is_none());
    let trace = wanted.traces.iter().find(|text| trace_id(text).is_none());
    status
        .map(|text| format!("`{text}` is no status: write 404, 5xx or failed"))
        .or_else(|| trace.map(|text| format!("`{text}` is no trace id: 32 hexadecimal digits")))
}

/// A status as it is written: `404`, `5xx`.
pub fn statuses(text: &str) -> Option<(u16, u16)> {
    if let Some(class) = text.strip_suffix("xx") {
        let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class))?;
        return Some((class * 100, class * 100 + 99));
    }
    let status = text.parse().ok().filter(|status| (100..=599).contains(status))?;
    Some((status, status))
}

/// A trace id as it is written.
pub fn trace_id(text: &str) -> Option<[u8; 16]> {
    let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32)?;
    Some(number.to_be_bytes())
}

impl Rule {
    /// The rule of a configuration; `until`: for how long it holds. What `check` refuses is passed over.
    pub fn new(wanted: &Match, sample: &config::Sample, body_limit: Option<usize>) -> Rule {
        Rule {
            direction: wanted.direction.map(|direction| match direction {
                config::Direction::Inbound => Direction::Inbound,
                config::Direction::Outbound => Direction::Outbound,
            }),
            routes: set(&wanted.routes),
            accounts: set(&wanted.accounts),
            users: set(&wanted.users),
            licenses: set(&wanted.licenses),
            flags: wanted.flags.iter().map(|flag| flag.as_bytes().into()).collect(),
            traces: wanted.traces.iter().filter_map(|text| trace_id(text)).collect(),
            statuses: wanted.statuses.iter().filter_map(|text| statuses(text)).collect(),
            wants_failed: wanted.statuses.iter().any(|text| text == "failed"),
            slower_than: wanted.slower_than,
            sample_millionths: (sample.ratio.clamp(0.0, 1.0) * 1e6).round() as u32,
            by: sample.by,
            body_bytes_max: body_limit.map_or(u64::MAX, |bytes| bytes as u64),
            until: None,
            id: None,
        }
    }

    /// One that was asked for at runtime.
    pub fn on_demand(self, id: &str, until: Instant) -> Rule {
        Rule { until: Some(until), id: Some(id.into()), ..self }
    }

    /// Whether it is over.
    pub fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now >= until)
    }

    fn fits(&self, record: &Record) -> bool {
        let is_in = |set: &HashSet<Box<[u8]>>, text: &[u8]| set.is_empty() || set.contains(text);
        let route = record.route.as_deref().unwrap_or_default().as_bytes();
        self.direction.is_none_or(|direction| direction == record.direction)
            && is_in(&self.routes, route)
            && is_in(&self.accounts, record.text(record.account_id))
            && is_in(&self.users, record.text(record.user_id))
            && is_in(&self.licenses, record.text(record.license))
            && (self.traces.is_empty() || self.traces.contains(&record.trace.trace_id))
            && (self.flags.is_empty() || {
                let mut flags = record.text(record.flags).split(|byte| *byte == b',');
                flags.any(|flag| self.flags.iter().any(|wanted| **wanted == *flag))
            })
    }

    fn depends_on_the_end(&self) -> bool {
        !self.statuses.is_empty() || self.wants_failed || self.slower_than.is_some()
    }

    fn fits_end(&self, record: &Record) -> bool {
        let has_status = self.statuses.is_empty() && !self.wants_failed
            || self.statuses.iter().any(|(from, to)| (*from..=*to).contains(&record.status))
            || self.wants_failed && record.cause.is_some();
        has_status && self.slower_than.is_none_or(|time| record.duration >= time)
    }

    fn samples(&self, record: &Record, millionths: u32) -> bool {
        if millionths >= 1_000_000 {
            return true;
        }
        let key = match self.by {
            SampleBy::Account => record.text(record.account_id),
            SampleBy::User => record.text(record.user_id),
            SampleBy::Trace => &[],
            SampleBy::Request => record.trace.parent_id.as_slice(),
        };
        let key = if key.is_empty() { record.trace.trace_id.as_slice() } else { key };
        // The upper half of 64 bits, so that the share is that of a million to a hundredth of a per cent.
        let share = ((XxHash3_64::oneshot(key) >> 32) * 1_000_000) >> 32;
        share < u64::from(millionths)
    }
}

impl Rules {
    /// Those of a configuration. Routes and demands are added.
    pub fn new(config: &Config) -> Rules {
        let rule = Rule::new(&config.r#match, &config.sample, config.body_limit);
        let rules = if config.enabled { vec![rule] } else { Vec::new() };
        Rules { rules, flight: config.flight.clone(), ..Rules::default() }
    }

    /// Whether any exchange could be recorded.
    pub fn is_on(&self) -> bool {
        !self.rules.is_empty()
            || self.flight.is_some()
            || self.routes().any(|rule| rule.enabled == Some(true))
    }

    /// Whether the end of an exchange may change what is to become of it.
    pub fn depend_on_the_end(&self) -> bool {
        self.rules.iter().any(Rule::depends_on_the_end)
    }

    /// What is to become of an exchange whose route and context are known. `is_end`: so is its end.
    pub fn judge(&self, record: &Record, is_end: bool) -> Verdict {
        let route = self.route(record);
        let is_off = route.is_some_and(|route| route.enabled == Some(false));
        let mut verdict = Verdict::Filtered;
        for rule in &self.rules {
            // What was asked for at runtime is not switched off by a route.
            if is_off && rule.id.is_none() || !rule.fits(record) || is_end && !rule.fits_end(record) {
                continue;
            }
            let millionths =
                route.and_then(|route| route.sample_millionths).unwrap_or(rule.sample_millionths);
            if rule.samples(record, millionths) {
                let body_bytes_max = rule.body_bytes_max;
                return self.wanted(route, body_bytes_max, millionths);
            }
            verdict = Verdict::SampledOut;
        }
        match route {
            // A route may ask for itself where nothing else does.
            Some(route) if route.enabled == Some(true) && verdict == Verdict::Filtered => {
                self.wanted(Some(route), 1 << 20, route.sample_millionths.unwrap_or(1_000_000))
            }
            _ => verdict,
        }
    }

    fn wanted(&self, route: Option<&RouteRule>, body_bytes_max: u64, sampled_millionths: u32) -> Verdict {
        let of_route = route.and_then(|route| route.body_bytes_max);
        let body_bytes_max = of_route.map_or(body_bytes_max, |max| max.unwrap_or(u64::MAX));
        Verdict::Wanted { body_bytes_max, sampled_millionths }
    }

    fn route(&self, record: &Record) -> Option<&RouteRule> {
        let routes = match record.direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        };
        if routes.is_empty() { None } else { routes.get(record.route.as_deref()?) }
    }

    fn routes(&self) -> impl Iterator<Item = &RouteRule> {
        self.inbound.values().chain(self.outbound.values())
    }

    /// The most bytes of content that any rule wants: what is kept until the route is known.
    pub fn body_bytes_max(&self) -> u64 {
        let rules = self.rules.iter().map(|rule| rule.body_bytes_max);
        let routes = self.routes().filter_map(|rule| rule.body_bytes_max);
        let routes = routes.map(|max| max.unwrap_or(u64::MAX));
        rules.chain(routes).max().unwrap_or(1 << 20)
    }
}
