//! What routes count across reloads: rate limits and breakers, by listener, route and name.
//!
//! A table is compiled anew when the configuration changes; what did not change in it shall go on counting. So a table
//! asks here for its limits, and gets those that are in force already, if they say the same. Only tables hold them:
//! what the last table let go of is forgotten, and a configuration that is refused after its routes were compiled
//! leaves nothing behind.

use super::{RateLimit, Settings};
use crate::cluster::config::CircuitBreaker;
use crate::cluster::{Breakers, Journal};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::time::Instant;

/// See the module. One for the process.
#[derive(Debug, Default)]
pub struct Limits {
    journal: Journal,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    rate_limits: BTreeMap<(Place, Arc<str>), Vec<Weak<RateLimit>>>,
    breakers: BTreeMap<Place, Vec<(CircuitBreaker, Weak<Breakers>)>>,
}

/// Listener and route.
type Place = (&'static str, Arc<str>);

/// A limit and where it is.
#[derive(Clone, Debug)]
pub struct Placed<T> {
    /// The listener's name: `inbound` or `outbound`.
    pub listener: &'static str,
    /// The route's name.
    pub route: Arc<str>,
    /// The limit.
    pub limit: Arc<T>,
}

/// The limits of one listener, for a table that is compiled.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'l> {
    limits: &'l Limits,
    listener: &'static str,
}

impl Limits {
    /// Without any limit yet; breakers tell of their changes in `journal`.
    pub fn new(journal: Journal) -> Limits {
        Limits { journal, kept: Mutex::default() }
    }

    /// Those of the listener of this name.
    pub fn of(&self, listener: &'static str) -> Scope<'_> {
        let mut kept = self.kept();
        kept.rate_limits.retain(|_, limits| {
            limits.retain(|limit| limit.strong_count() > 0);
            !limits.is_empty()
        });
        kept.breakers.retain(|_, breakers| {
            breakers.retain(|(_, breakers)| breakers.strong_count() > 0);
            !breakers.is_empty()
        });
        Scope { limits: self, listener }
    }

    /// The rate limits that are in force, by listener, route and name; of two of the same name the newer one.
    pub fn rate_limits(&self) -> Vec<Placed<RateLimit>> {
        let kept = self.kept();
        let newest = kept.rate_limits.iter().filter_map(|((place, _), limits)| {
            Some(placed(place, limits.iter().rev().find_map(Weak::upgrade)?))
        });
        newest.collect()
    }

    /// The breakers of routes that are in force, by listener and route.
    pub fn breakers(&self) -> Vec<Placed<Breakers>> {
        let kept = self.kept();
        let newest = kept.breakers.iter().filter_map(|(place, breakers)| {
            Some(placed(place, breakers.iter().rev().find_map(|(_, breakers)| breakers.upgrade())?))
        });
        newest.collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn placed<T>((listener, route): &Place, limit: Arc<T>) -> Placed<T> {
    Placed { listener, route: Arc::clone(route), limit }
}

impl Scope<'_> {
    /// The rate limit of `route` that `settings` describe: the one that is there, or a new one.
    pub fn rate_limit(&self, route: &Arc<str>, settings: Settings) -> Arc<RateLimit> {
        let mut kept = self.limits.kept();
        let id = ((self.listener, Arc::clone(route)), Arc::clone(&settings.name));
        let limits = kept.rate_limits.entry(id).or_default();
        let same = limits.iter().filter_map(Weak::upgrade).find(|limit| *limit.settings() == settings);
        same.unwrap_or_else(|| {
            let limit = Arc::new(RateLimit::new(settings, Instant::now()));
            limits.push(Arc::downgrade(&limit));
            limit
        })
    }

    /// The breakers of `route` that `config` describes: those that are there, or new ones.
    pub fn breakers(&self, route: &Arc<str>, config: &CircuitBreaker) -> Arc<Breakers> {
        let mut kept = self.limits.kept();
        let list = kept.breakers.entry((self.listener, Arc::clone(route))).or_default();
        let same = list.iter().filter(|(old, _)| old == config).find_map(|(_, breakers)| breakers.upgrade());
        same.unwrap_or_else(|| {
            let breakers = Arc::new(Breakers::new("route", route, config, &self.limits.journal));
            list.push((config.clone(), Arc::downgrade(&breakers)));
            breakers
        })
    }
}
