//! The table of a listener's routes.

use super::action::{Action, Configured, Decision};
use super::compile::{CompileError, Compiler, Conditions, Problem, default_policy};
use super::config;
use super::hint;
use super::index::{Candidates, Index, Key, Map};
use super::predicate::{ContextField, HostTest, PathTest, Predicate};
use super::request::RequestView;
use crate::cluster::Cluster;
use crate::exchange::Policy;
use crate::quota::{Limits, Scope};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A listener's routes, compiled; immutable, and swapped as a whole.
#[derive(Debug)]
pub struct Table {
    pub(super) entries: Vec<Entry>,
    index: Index,
    otherwise: Otherwise,
    /// Names for hints, in lower case, sorted.
    names: Vec<Box<[u8]>>,
}

/// What holds where a route says nothing.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// The time for a whole exchange; `None` for ever.
    pub request_timeout: Option<Duration>,
    /// Where requests go that no route matches.
    pub fallback: Fallback,
}

/// Where requests go that no route matches.
#[derive(Clone, Debug)]
pub enum Fallback {
    /// To the app: inbound. Routes without an action go there too.
    App(Arc<Cluster>),
    /// To the one of these clusters that the request's host names, in any case and without its port: outbound.
    ClusterByHost(Vec<Arc<Cluster>>),
    /// Nowhere.
    None,
}

#[derive(Debug)]
enum Otherwise {
    App(Arc<Policy>, Arc<Cluster>),
    ByHost(Map<(Arc<Policy>, Arc<Cluster>)>),
    None,
}

/// A route, compiled.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) policy: Arc<Policy>,
    action: Configured,
    /// Conditions that hold for each candidate of the index, looked at only to say why a route was none.
    indexed: Vec<Predicate>,
    /// The other conditions.
    rest: Vec<Predicate>,
}

/// Watches a search. Looking for a route and explaining it are one piece of code with two observers.
pub(super) trait Observer {
    /// The index knows that these routes do not match.
    fn skipped(&mut self, table: &Table, routes: Range<usize>);
    /// This route does not match, for this reason.
    fn failed(&mut self, route: usize, entry: &Entry, why: &Predicate);
}

struct Nobody;

impl Observer for Nobody {
    #[inline]
    fn skipped(&mut self, _: &Table, _: Range<usize>) {}
    #[inline]
    fn failed(&mut self, _: usize, _: &Entry, _: &Predicate) {}
}

/// With more routes than this under one path, those that want a context value are found by it instead.
const CROWD_MAX: usize = 8;

impl Table {
    /// Compiles routes in configured order, with rate limits and breakers that begin anew.
    ///
    /// # Errors
    /// Every problem of every route, at once.
    pub fn compile(
        routes: &[config::Route],
        clusters: &dyn Fn(&str) -> Option<Arc<Cluster>>,
        defaults: Defaults,
    ) -> Result<Table, CompileError> {
        Table::compile_within(Limits::default().of("none"), routes, clusters, defaults)
    }

    /// Compiles routes in configured order. Rate limits and breakers that are in `limits` already, and are to be the
    /// same, go on counting.
    ///
    /// # Errors
    /// Every problem of every route, at once.
    pub fn compile_within(
        limits: Scope<'_>,
        routes: &[config::Route],
        clusters: &dyn Fn(&str) -> Option<Arc<Cluster>>,
        defaults: Defaults,
    ) -> Result<Table, CompileError> {
        let mut problems = Vec::new();
        let app = match &defaults.fallback {
            Fallback::App(cluster) => Some(cluster),
            _ => None,
        };
        let mut compiled = Vec::with_capacity(routes.len());
        for (at, route) in routes.iter().enumerate() {
            let name =
                if route.name.is_empty() { format!("route-{at}").into() } else { route.name.as_str().into() };
            let mut compiler = Compiler { route, name, clusters, limits, problems: &mut problems };
            let conditions = compiler.conditions();
            let policy = Arc::new(compiler.policy(defaults.request_timeout));
            if let Some(action) = compiler.action(app) {
                compiled.push((conditions, policy, action));
            }
        }
        let mut names: Vec<Box<[u8]>> = compiled
            .iter()
            .filter_map(|(conditions, _, _)| match &conditions.host {
                Some(HostTest::Exact(host)) => Some(host.clone()),
                _ => None,
            })
            .collect();
        let otherwise = otherwise(&defaults, &mut names, &mut problems);
        if !problems.is_empty() {
            return Err(CompileError { problems });
        }
        names.sort();
        names.dedup();
        let keys = keys(compiled.iter().map(|(conditions, _, _)| conditions));
        let index = Index::build(
            compiled
                .iter()
                .zip(&keys)
                .map(|((conditions, _, _), key)| (conditions.host.clone(), key.clone())),
        );
        let entries = compiled
            .into_iter()
            .zip(&keys)
            .map(|((conditions, policy, action), key)| entry(conditions, policy, action, key))
            .collect();
        Ok(Table { entries, index, otherwise, names })
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What to do with a request: the first route that matches says it, or else the fallback.
    #[inline]
    pub fn find<'t>(&'t self, request: &RequestView<'_>) -> Decision<'t> {
        self.decide(request, &mut Nobody)
    }

    pub(super) fn decide<'t>(
        &'t self,
        request: &RequestView<'_>,
        observer: &mut impl Observer,
    ) -> Decision<'t> {
        match self.search(request, observer) {
            Some(entry) => Decision { policy: Some(&entry.policy), action: entry.action.choose(request) },
            None => self.otherwise(request),
        }
    }

    fn search(&self, request: &RequestView<'_>, observer: &mut impl Observer) -> Option<&Entry> {
        let mut from = 0;
        if !self.entries.is_empty() {
            let mut candidates = Candidates::default();
            self.index.collect(request, &mut candidates);
            while let Some(route) = candidates.next(request.path()) {
                let route = route as usize;
                let entry = self.entries.get(route)?;
                observer.skipped(self, from..route);
                match entry.rest.iter().find(|predicate| !predicate.holds(request)) {
                    None => return Some(entry),
                    Some(why) => observer.failed(route, entry, why),
                }
                from = route + 1;
            }
        }
        observer.skipped(self, from..self.entries.len());
        None
    }

    fn otherwise(&self, request: &RequestView<'_>) -> Decision<'_> {
        let found = match &self.otherwise {
            Otherwise::App(policy, cluster) => Some((policy, cluster)),
            Otherwise::ByHost(clusters) => {
                clusters.get(&*request.lower_host()).map(|(policy, cluster)| (policy, cluster))
            }
            Otherwise::None => None,
        };
        match found {
            Some((policy, cluster)) => Decision { policy: Some(policy), action: Action::Cluster(cluster) },
            None => Decision { policy: None, action: Action::NotFound { hint: self.hint(request) } },
        }
    }

    fn hint(&self, request: &RequestView<'_>) -> String {
        let names = hint::nearest(&request.lower_host(), self.names.iter().map(|name| &**name));
        names.into_iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(", ")
    }
}

impl Entry {
    /// The first condition that does not hold, of all of them.
    pub(super) fn mismatch(&self, request: &RequestView<'_>) -> Option<&Predicate> {
        self.indexed.iter().chain(&self.rest).find(|predicate| !predicate.holds(request))
    }

    pub(super) fn configured(&self) -> &Configured {
        &self.action
    }
}

fn otherwise(defaults: &Defaults, names: &mut Vec<Box<[u8]>>, problems: &mut Vec<Problem>) -> Otherwise {
    let policy = |cluster: &Arc<Cluster>| Arc::new(default_policy(&cluster.name, defaults.request_timeout));
    match &defaults.fallback {
        Fallback::None => Otherwise::None,
        Fallback::App(cluster) => Otherwise::App(policy(cluster), Arc::clone(cluster)),
        Fallback::ClusterByHost(clusters) => {
            let mut by_host = Map::default();
            for cluster in clusters {
                let host: Box<[u8]> = cluster.name.to_ascii_lowercase().into_bytes().into();
                names.push(host.clone());
                if by_host.insert(host, (policy(cluster), Arc::clone(cluster))).is_some() {
                    let what =
                        "a host cannot name it: another cluster's name differs only in case".to_owned();
                    problems.push(Problem { route: cluster.name.to_string(), what });
                }
            }
            Otherwise::ByHost(by_host)
        }
    }
}

/// Where each route lies in the index.
fn keys<'c>(all: impl Iterator<Item = &'c Conditions> + Clone) -> Vec<Key> {
    let mut crowds: HashMap<(&Option<HostTest>, Key), usize> = HashMap::new();
    for conditions in all.clone() {
        if let Some(key) = path_key(conditions) {
            *crowds.entry((&conditions.host, key)).or_default() += 1;
        }
    }
    all.map(|conditions| {
        let context = context_key(conditions);
        let path = path_key(conditions).filter(|key| {
            let crowd = crowds.get(&(&conditions.host, key.clone())).copied().unwrap_or_default();
            crowd <= CROWD_MAX || context.is_none()
        });
        let pattern = || match &conditions.path {
            Some(PathTest::Regex(regex)) => Some(Key::Pattern(regex.as_str().to_owned())),
            _ => None,
        };
        path.or(context).or_else(pattern).unwrap_or(Key::Rest)
    })
    .collect()
}

fn path_key(conditions: &Conditions) -> Option<Key> {
    match &conditions.path {
        Some(PathTest::Exact(path)) => Some(Key::Exact(path.clone())),
        Some(PathTest::Prefix(prefix)) => Some(Key::Prefix(prefix.clone())),
        _ => None,
    }
}

fn context_key(conditions: &Conditions) -> Option<Key> {
    ContextField::ALL.into_iter().find_map(|wanted| {
        conditions.others.iter().find_map(|predicate| match predicate {
            Predicate::Context { field, values } if *field == wanted => {
                Some(Key::Context(wanted, values.clone()))
            }
            _ => None,
        })
    })
}

fn entry(conditions: Conditions, policy: Arc<Policy>, action: Configured, key: &Key) -> Entry {
    let Conditions { host, path, others } = conditions;
    let mut indexed: Vec<Predicate> = host.map(Predicate::Host).into_iter().collect();
    let mut rest = Vec::new();
    for predicate in path.map(Predicate::Path).into_iter().chain(others) {
        let is_indexed = match (&predicate, key) {
            (Predicate::Path(_), Key::Exact(_) | Key::Prefix(_)) => true,
            (Predicate::Context { field, .. }, Key::Context(by, _)) => field == by,
            _ => false,
        };
        if is_indexed { indexed.push(predicate) } else { rest.push(predicate) }
    }
    Entry { policy, action, indexed, rest }
}
