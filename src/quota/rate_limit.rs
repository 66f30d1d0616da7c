//! One rate limit: whose bucket a request takes from, and what is said about it.

use super::bucket::Bucket;
use super::buckets::Buckets;
use super::{Caller, Rate, Settings, fields};
use crate::cluster::Counter;
use governor::Quota;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// One rate limit of a route, shared by all workers; see the [module](super).
#[derive(Debug)]
pub struct RateLimit {
    /// Its name.
    pub name: Arc<str>,
    settings: Settings,
    terms: Terms,
    overrides: Vec<Terms>,
    /// Which of `overrides` a value of the first part has.
    by_value: HashMap<Box<[u8]>, usize>,
    buckets: Buckets,
    hash: RandomState,
    /// Where its time begins.
    start: Instant,
    taken: Counter,
    given_back: Counter,
    refused: Counter,
    crowded: Counter,
}

/// A rate, compiled.
#[derive(Debug)]
struct Terms {
    rate: Rate,
    interval_ns: u64,
    quota: Quota,
    /// Its item of `RateLimit-Policy`.
    policy: Box<str>,
    /// Of all requests, if there is no key; else of those whose key finds no room.
    shared: Bucket,
}

/// Which bucket of a [`RateLimit`] a request takes from.
///
/// The values are only kept as a hash of 64 bits (SipHash 1-3 with a random key for each limit, so nobody can aim at a
/// bucket): two of a million keys share a bucket with a probability of 3 in 100 million, and are then limited together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    hash: Option<u64>,
    over: Option<usize>,
}

/// A request that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// How many more could come now.
    pub remaining: u32,
    taken_at: Instant,
    is_shared: bool,
}

/// What a bucket would say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How many could come now.
    pub remaining: u32,
    /// How long until one more is allowed; zero if one is now.
    pub wait: Duration,
}

impl RateLimit {
    /// The limit that `settings` describe; `now` is where its time begins.
    pub fn new(settings: Settings, now: Instant) -> RateLimit {
        let of = |rate: &Rate| Terms::new(&settings.name, *rate);
        let values = settings.overrides.keys().cloned();
        RateLimit {
            name: Arc::clone(&settings.name),
            terms: of(&settings.rate),
            overrides: settings.overrides.values().map(of).collect(),
            by_value: values.enumerate().map(|(at, value)| (value, at)).collect(),
            buckets: Buckets::new(settings.keys_max),
            hash: RandomState::new(),
            start: now,
            taken: Counter::default(),
            given_back: Counter::default(),
            refused: Counter::default(),
            crowded: Counter::default(),
            settings,
        }
    }

    /// What it was made of.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Which bucket `request` takes from.
    pub fn key(&self, request: &Caller<'_>) -> Key {
        let Some(first) = self.settings.key.first() else { return Key { hash: None, over: None } };
        let over =
            if self.by_value.is_empty() { None } else { self.by_value.get(first.of(request)).copied() };
        let mut hasher = self.hash.build_hasher();
        for part in &self.settings.key {
            let value = part.of(request);
            // With its length, or `ab` and `c` would be `a` and `bc`.
            hasher.write_usize(value.len());
            hasher.write(value);
        }
        Key { hash: Some(hasher.finish()), over }
    }

    /// Takes a request out of the bucket of `key`.
    ///
    /// # Errors
    /// How long to wait until there is one.
    pub fn take(&self, key: Key, now: Instant) -> Result<Grant, Duration> {
        let terms = self.terms(key);
        let now_ns = self.since_start(now);
        let own = key.hash.map(|hash| self.buckets.with(hash, now_ns, |own| own.take(terms.quota, now_ns)));
        let (answer, is_shared) = match own {
            Some(Some(answer)) => (answer, false),
            crowded => {
                if crowded.is_some() {
                    self.crowded.add();
                }
                (terms.shared.take(terms.quota, now_ns), true)
            }
        };
        match answer {
            Ok(remaining) => {
                self.taken.add();
                Ok(Grant { remaining, taken_at: now, is_shared })
            }
            Err(allowed_ns) => {
                self.refused.add();
                Err(Duration::from_nanos(allowed_ns.saturating_sub(now_ns)))
            }
        }
    }

    /// Puts back what [`take`](Self::take) took, because the request is refused by something else.
    ///
    /// Nobody notices, if nobody asked in between; whoever did may have been refused, but never more was allowed than
    /// there is: what the bucket has got anew since then is not given a second time.
    pub fn give_back(&self, key: Key, grant: Grant, now: Instant) {
        self.given_back.add();
        let terms = self.terms(key);
        let held_ns = now.saturating_duration_since(grant.taken_at).as_nanos();
        if held_ns >= u128::from(terms.interval_ns) {
            return;
        }
        match key.hash.filter(|_| !grant.is_shared) {
            Some(hash) => drop(self.buckets.look(hash, |own| own.give_back(terms.interval_ns))),
            None => terms.shared.give_back(terms.interval_ns),
        }
    }

    /// What the bucket of `key` would say; nothing is taken.
    pub fn look(&self, key: Key, now: Instant) -> Standing {
        let terms = self.terms(key);
        let full_ns = match key.hash {
            Some(hash) => self.buckets.look(hash, Bucket::full_ns).unwrap_or_default(),
            None => terms.shared.full_ns(),
        };
        terms.standing(full_ns, self.since_start(now))
    }

    /// What the bucket of `key` allows.
    pub fn rate(&self, key: Key) -> Rate {
        self.terms(key).rate
    }

    /// The item of `RateLimit-Policy` for `key`.
    pub fn policy_item(&self, key: Key) -> &str {
        &self.terms(key).policy
    }

    /// The item of `RateLimit` for a request of `key` that left `remaining`.
    pub fn allowed_item(&self, key: Key, remaining: u32) -> String {
        fields::limit(&self.name, remaining, fields::window(remaining, self.terms(key).interval_ns))
    }

    /// The item of `RateLimit` for a request that has to wait.
    pub fn refused_item(&self, wait: Duration) -> String {
        fields::limit(&self.name, 0, fields::seconds(wait))
    }

    /// Requests that were allowed so far.
    pub fn allowed(&self) -> u64 {
        self.taken.get().saturating_sub(self.given_back.get())
    }

    /// Requests that were refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// Requests, among those, that had to share a bucket because `keys_max` was reached.
    pub fn crowded(&self) -> u64 {
        self.crowded.get()
    }

    /// Buckets at the moment, those that are full again among them.
    pub fn buckets(&self) -> usize {
        self.buckets.len()
    }

    fn terms(&self, key: Key) -> &Terms {
        key.over.and_then(|at| self.overrides.get(at)).unwrap_or(&self.terms)
    }

    fn since_start(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Terms {
    fn new(name: &str, rate: Rate) -> Terms {
        let interval_ns = rate.interval_ns();
        let burst = NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN);
        // There is no period of zero, so the other quota is never used.
        let quota = Quota::with_period(Duration::from_nanos(interval_ns))
            .unwrap_or(Quota::per_second(NonZeroU32::MIN))
            .allow_burst(burst);
        let policy = fields::policy(name, rate).into();
        Terms { rate, interval_ns, quota, policy, shared: Bucket::default() }
    }

    fn standing(&self, full_ns: u64, now_ns: u64) -> Standing {
        let capacity_ns = self.interval_ns.saturating_mul(u64::from(self.rate.burst.max(1)));
        let left_ns = capacity_ns.saturating_sub(full_ns.saturating_sub(now_ns));
        let remaining = u32::try_from(left_ns / self.interval_ns).unwrap_or(u32::MAX);
        let wait_ns = if remaining > 0 { 0 } else { self.interval_ns - left_ns };
        Standing { remaining, wait: Duration::from_nanos(wait_ns) }
    }
}
