//! Which routes can match a request at all, by hash look-ups.
//!
//! Hosts come first: a bucket for each exact host, for each wildcard, and one for any host. In a bucket a route lies
//! under the most selective thing that it wants: its exact path, its path prefix, one of its context values, or none of
//! these. Each list is in configured order, so merging the lists of a request gives its candidates in that order.
//!
//! Look-ups are bounded by what is configured: a prefix is looked up only at the lengths that prefixes have, a wildcard
//! only at the lengths that wildcards have. Keys come from the configuration alone, so the hash needs no secret seed.

use super::predicate::{ContextField, HostTest, is_boundary};
use super::request::RequestView;
use foldhash::fast::FixedState;
use regex::bytes::RegexSet;
use std::collections::HashMap;

/// A map with keys from the configuration.
pub(super) type Map<V> = HashMap<Box<[u8]>, V, FixedState>;

/// Where a route lies in its bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Context(ContextField, Vec<Box<[u8]>>),
    Pattern(String),
    Rest,
}

/// So many patterns in one bucket are searched for in one pass.
const SET_MIN: usize = 8;

/// The index over a table's routes.
#[derive(Debug, Default)]
pub(super) struct Index {
    exact: Map<Bucket>,
    wildcards: Map<Bucket>,
    /// The lengths of the wildcards' keys, ascending.
    wildcard_lengths: Vec<usize>,
    any: Bucket,
}

#[derive(Debug, Default)]
struct Bucket {
    exact: Map<Vec<u32>>,
    prefixes: Map<Vec<u32>>,
    /// The lengths of the prefixes, ascending.
    prefix_lengths: Vec<usize>,
    context: [Map<Vec<u32>>; ContextField::ALL.len()],
    patterns: Option<PatternSet>,
    rest: Vec<u32>,
}

/// Routes whose path is a pattern, with all patterns in one automaton.
#[derive(Debug)]
struct PatternSet {
    set: RegexSet,
    routes: Vec<u32>,
}

impl PatternSet {
    /// Those that match, in reverse order.
    fn matching(&self, path: &[u8]) -> Vec<u32> {
        let mut matching: Vec<u32> =
            self.set.matches(path).into_iter().filter_map(|at| self.routes.get(at).copied()).collect();
        matching.reverse();
        matching
    }
}

impl Index {
    /// The index over routes in configured order, each with its host and its place.
    pub(super) fn build(routes: impl Iterator<Item = (Option<HostTest>, Key)>) -> Index {
        let mut index = Index::default();
        let mut patterns: HashMap<Option<HostTest>, Vec<(u32, String)>> = HashMap::new();
        for (route, (host, key)) in (0u32..).zip(routes) {
            match key {
                Key::Pattern(pattern) => patterns.entry(host).or_default().push((route, pattern)),
                key => index.bucket(host).insert(route, key),
            }
        }
        for (host, patterns) in patterns {
            index.bucket(host).insert_patterns(patterns);
        }
        index.wildcard_lengths = lengths(&index.wildcards);
        let Index { exact, wildcards, any, .. } = &mut index;
        for bucket in exact.values_mut().chain(wildcards.values_mut()).chain([any]) {
            bucket.prefix_lengths = lengths(&bucket.prefixes);
        }
        index
    }

    fn bucket(&mut self, host: Option<HostTest>) -> &mut Bucket {
        match host {
            None => &mut self.any,
            Some(HostTest::Exact(host)) => self.exact.entry(host).or_default(),
            Some(HostTest::Suffix(suffix)) => self.wildcards.entry(suffix).or_default(),
        }
    }

    /// Collects the routes that can match.
    pub(super) fn collect<'t>(&'t self, request: &RequestView<'_>, candidates: &mut Candidates<'t>) {
        if !self.exact.is_empty() || !self.wildcards.is_empty() {
            let host = &*request.lower_host();
            if let Some(bucket) = self.exact.get(host) {
                bucket.collect(request, candidates);
            }
            for length in &self.wildcard_lengths {
                let Some(start) = host.len().checked_sub(*length).filter(|start| *start > 0) else { break };
                if host.get(start) == Some(&b'.')
                    && let Some(bucket) = host.get(start..).and_then(|suffix| self.wildcards.get(suffix))
                {
                    bucket.collect(request, candidates);
                }
            }
        }
        self.any.collect(request, candidates);
    }
}

fn lengths(map: &Map<impl Sized>) -> Vec<usize> {
    let mut lengths: Vec<usize> = map.keys().map(|key| key.len()).collect();
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}

impl Bucket {
    fn insert(&mut self, route: u32, key: Key) {
        match key {
            Key::Exact(path) => self.exact.entry(path).or_default().push(route),
            Key::Prefix(prefix) => self.prefixes.entry(prefix).or_default().push(route),
            Key::Context(field, values) => {
                for value in values {
                    let Some(map) = self.context.get_mut(field as usize) else { continue };
                    let list = map.entry(value).or_default();
                    if list.last() != Some(&route) {
                        list.push(route);
                    }
                }
            }
            Key::Pattern(_) | Key::Rest => self.rest.push(route),
        }
    }

    /// Few patterns are tried one by one; so are those that are too large for one automaton together.
    fn insert_patterns(&mut self, patterns: Vec<(u32, String)>) {
        let routes: Vec<u32> = patterns.iter().map(|(route, _)| *route).collect();
        let set = if patterns.len() < SET_MIN {
            None
        } else {
            RegexSet::new(patterns.iter().map(|(_, pattern)| pattern)).ok()
        };
        match set {
            Some(set) => self.patterns = Some(PatternSet { set, routes }),
            None => {
                self.rest.extend(routes);
                self.rest.sort_unstable();
            }
        }
    }

    fn collect<'t>(&'t self, request: &RequestView<'_>, candidates: &mut Candidates<'t>) {
        let path = request.path();
        if !self.exact.is_empty()
            && let Some(list) = self.exact.get(path)
        {
            candidates.push(list);
        }
        for length in &self.prefix_lengths {
            if *length > path.len() {
                break;
            }
            if is_boundary(path, *length)
                && let Some(list) = path.get(..*length).and_then(|prefix| self.prefixes.get(prefix))
            {
                candidates.push(list);
            }
        }
        for (field, map) in ContextField::ALL.into_iter().zip(&self.context) {
            let value = field.of(request);
            if !map.is_empty()
                && !value.is_empty()
                && let Some(list) = map.get(value)
            {
                candidates.push(list);
            }
        }
        if let Some(set) = &self.patterns {
            candidates.sets.push(PendingSet { set, matching: None });
        }
        if !self.rest.is_empty() {
            candidates.push(&self.rest);
        }
    }
}

/// So many lists of one request lie on the stack.
const LISTS_MAX: usize = 16;

/// The routes that can match a request, merged from lists in configured order.
#[derive(Default)]
pub(super) struct Candidates<'t> {
    lists: [&'t [u32]; LISTS_MAX],
    len: usize,
    more: Vec<&'t [u32]>,
    sets: Vec<PendingSet<'t>>,
}

/// A set of patterns that is searched only when one of its routes could be the next.
struct PendingSet<'t> {
    set: &'t PatternSet,
    matching: Option<Vec<u32>>,
}

impl PendingSet<'_> {
    fn first(&self) -> Option<u32> {
        match &self.matching {
            Some(matching) => matching.last().copied(),
            None => self.set.routes.first().copied(),
        }
    }
}

impl<'t> Candidates<'t> {
    fn push(&mut self, list: &'t [u32]) {
        match self.lists.get_mut(self.len) {
            Some(slot) => {
                *slot = list;
                self.len += 1;
            }
            None => self.more.push(list),
        }
    }

    /// The next candidate. No route is in two lists of one request, so none comes twice.
    pub(super) fn next(&mut self, path: &[u8]) -> Option<u32> {
        if self.len == 1 && self.sets.is_empty() {
            return self.lists.first_mut().and_then(take_first);
        }
        self.merge(path)
    }

    fn merge(&mut self, path: &[u8]) -> Option<u32> {
        loop {
            let lists = self.lists.get_mut(..self.len).unwrap_or_default().iter_mut().chain(&mut self.more);
            let list = lists.filter(|list| !list.is_empty()).min_by_key(|list| list.first().copied());
            let first = list.as_ref().and_then(|list| list.first().copied());
            let set = self.sets.iter_mut().filter(|set| set.first().is_some()).min_by_key(|set| set.first());
            match set.filter(|set| first.is_none_or(|first| set.first() < Some(first))) {
                None => return list.and_then(take_first),
                Some(PendingSet { matching: Some(matching), .. }) => return matching.pop(),
                Some(pending) => pending.matching = Some(pending.set.matching(path)),
            }
        }
    }
}

fn take_first(list: &mut &[u32]) -> Option<u32> {
    let (first, rest) = list.split_first()?;
    *list = rest;
    Some(*first)
}
