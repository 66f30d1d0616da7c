//! From what a user writes to what requests read: conditions, policies and actions, with every problem at once.

mod action;
mod terms;

use super::config::{self, PathMatch, StringMatch};
use super::field;
use super::predicate::{ContextField, HostTest, MethodTest, PathTest, Predicate, TextTest, request_type};
use crate::cluster::Cluster;
use crate::exchange::{Edits, PathRewrite, Policy, RetryOn, RetryPolicy, Rewrite};
use crate::quota::Scope;
use crate::svc::Known;
use crate::svc::fields::is_token_byte;
use crate::units::Timeout;
use regex::bytes::Regex;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a list of routes cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// At least one.
    pub problems: Vec<Problem>,
}

/// What is wrong with one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The route's name, as configured or made from its position.
    pub route: String,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route `{}`: {}", self.route, self.what)
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for CompileError {}

/// The conditions of a route; the first two are what it can be found by.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    pub(super) host: Option<HostTest>,
    pub(super) path: Option<PathTest>,
    pub(super) others: Vec<Predicate>,
}

/// Compiles one route.
pub(super) struct Compiler<'c> {
    pub(super) route: &'c config::Route,
    pub(super) name: Arc<str>,
    /// The clusters by name.
    pub(super) clusters: &'c dyn Fn(&str) -> Option<Arc<Cluster>>,
    /// What routes count, of the table's listener.
    pub(super) limits: Scope<'c>,
    pub(super) problems: &'c mut Vec<Problem>,
}

impl Compiler<'_> {
    fn problem(&mut self, what: impl Into<String>) {
        self.problems.push(Problem { route: self.name.to_string(), what: what.into() });
    }

    pub(super) fn conditions(&mut self) -> Conditions {
        let matches = &self.route.matches;
        let host = matches.host.as_deref().and_then(|host| self.host(host));
        let path = matches.path.as_ref().and_then(|path| self.path(path));
        let mut others = Vec::new();
        if !matches.method.is_empty() {
            if matches.method.iter().any(|name| name.is_empty() || !name.bytes().all(is_token_byte)) {
                self.problem("`match.method` is not a method");
            }
            others.push(Predicate::Method(MethodTest::new(&matches.method)));
        }
        for (name, test) in &matches.headers {
            let known = Known::classify(name.as_bytes());
            if known == Some(Known::Host) {
                self.problem("`match.headers.host`: write `match.host`");
            } else if name.is_empty() || !name.bytes().all(is_token_byte) {
                self.problem(format!("`match.headers.{name}` is not a field name"));
            }
            if let Some(test) = self.text(test) {
                others.push(Predicate::Header { name: name.as_bytes().into(), known, test });
            }
        }
        for (name, test) in &matches.query {
            if let Some(test) = self.text(test) {
                others.push(Predicate::Query { name: name.as_bytes().into(), test });
            }
        }
        others.extend(context(&matches.context));
        Conditions { host, path, others }
    }

    fn host(&mut self, host: &str) -> Option<HostTest> {
        let name = host.strip_prefix("*.").unwrap_or(if host == "*" { "a" } else { host });
        let is_literal = name.starts_with('[') && name.ends_with(']');
        let is_name = !name.is_empty()
            && !name.bytes().any(|byte| b"*:/@ ,?#[]".contains(&byte) || !byte.is_ascii_graphic());
        if !is_literal && !is_name {
            self.problem(format!(
                "`match.host: {host}` is neither a host without a port nor `*.` and a host"
            ));
        }
        HostTest::new(host)
    }

    fn path(&mut self, path: &PathMatch) -> Option<PathTest> {
        let (PathMatch::Exact(text) | PathMatch::Prefix(text)) = path else {
            let PathMatch::Regex(pattern) = path else { return None };
            return self.regex("match.path.regex", pattern).map(PathTest::Regex);
        };
        self.check_path("match.path", text);
        Some(match path {
            PathMatch::Prefix(_) => {
                PathTest::Prefix(text.strip_suffix('/').unwrap_or(text).as_bytes().into())
            }
            _ => PathTest::Exact(text.as_bytes().into()),
        })
    }

    fn check_path(&mut self, key: &str, path: &str) {
        let is_clean = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\\".contains(&byte));
        if !path.starts_with('/') || !is_clean || has_dot_segment(path.as_bytes()) {
            self.problem(format!(
                "`{key}: {path}` is not a path: `/` and visible ASCII, without query and dot segments"
            ));
        }
    }

    fn regex(&mut self, key: &str, pattern: &str) -> Option<Regex> {
        let regex = Regex::new(pattern);
        if let Err(error) = &regex {
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            self.problem(format!("`{key}: {pattern}` is not a pattern: {why}"));
        }
        regex.ok()
    }

    fn text(&mut self, test: &StringMatch) -> Option<TextTest> {
        Some(match test {
            StringMatch::Exact(text) => TextTest::Exact(text.as_bytes().into()),
            StringMatch::Prefix(text) => TextTest::Prefix(text.as_bytes().into()),
            StringMatch::Regex(pattern) => TextTest::Regex(self.regex("regex", pattern)?),
            StringMatch::Present(is_wanted) => TextTest::Present(*is_wanted),
        })
    }

    /// The bytes of `match.path.prefix` without its final slash, which `prefix` replacements need.
    fn matched_bytes(&mut self, key: &str) -> usize {
        match &self.route.matches.path {
            Some(PathMatch::Prefix(prefix)) => prefix.strip_suffix('/').unwrap_or(prefix).len(),
            _ => {
                self.problem(format!("`{key}` replaces what `match.path.prefix` matched, and there is none"));
                0
            }
        }
    }

    pub(super) fn policy(&mut self, request_timeout: Option<Duration>) -> Policy {
        let route = self.route;
        Policy {
            name: Arc::clone(&self.name),
            pattern: route.matches.path.as_ref().map(pattern),
            timeout: route.timeout.request_or(request_timeout),
            per_try_timeout: route.timeout.per_try.and_then(|timeout| timeout.duration()),
            idle_timeout: route.timeout.idle.map(Timeout::duration),
            stream_timeout: route.timeout.stream.and_then(Timeout::duration),
            ignores_deadline: route.timeout.deadline == config::Deadline::Ignore,
            announces_deadline: route.timeout.request.is_some(),
            retry: retry(&route.retry.clone().unwrap_or_default()),
            hedge: self.hedge(),
            breakers: self.breakers(),
            rate_limits: self.rate_limits(),
            mirror: self.mirror(),
            rewrite: self.rewrite(&route.rewrite),
            request_edits: self.edits("headers.request", &route.headers.request),
            response_edits: self.edits("headers.response", &route.headers.response),
        }
    }

    fn rewrite(&mut self, rewrite: &config::Rewrite) -> Option<Rewrite> {
        let config::Rewrite { path, prefix, regex, host } = rewrite;
        if usize::from(path.is_some()) + usize::from(prefix.is_some()) + usize::from(regex.is_some()) > 1 {
            self.problem("`rewrite` has more than one of `path`, `prefix` and `regex`");
        }
        let path = if let Some(path) = path {
            self.check_path("rewrite.path", path);
            Some(PathRewrite::Full(path.as_bytes().into()))
        } else if let Some(prefix) = prefix {
            self.check_path("rewrite.prefix", prefix);
            let matched_bytes = self.matched_bytes("rewrite.prefix");
            Some(PathRewrite::Prefix { matched_bytes, replacement: without_slash(prefix) })
        } else if let Some(regex) = regex {
            let text = &regex.substitution;
            if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\\".contains(&byte)) {
                self.problem("`rewrite.regex.substitution` has a character that a path cannot have");
            }
            self.regex("rewrite.regex.pattern", &regex.pattern)
                .map(|pattern| PathRewrite::Regex { pattern, substitution: text.as_bytes().into() })
        } else {
            None
        };
        let host = host.as_deref().map(|host| self.authority("rewrite.host", host));
        (path.is_some() || host.is_some()).then_some(Rewrite { path, host })
    }

    fn authority(&mut self, key: &str, authority: &str) -> Box<[u8]> {
        let is_clean = authority.bytes().all(|byte| byte.is_ascii_graphic() && !b"/@,?#\\*".contains(&byte));
        if authority.is_empty() || authority.starts_with(':') || !is_clean {
            self.problem(format!("`{key}: {authority}` is not a host, or a host and a port"));
        }
        authority.as_bytes().into()
    }

    fn edits(&mut self, key: &str, edits: &config::Edits) -> Edits {
        let names = edits.remove.iter().chain(edits.set.keys()).chain(edits.append.keys());
        for name in names {
            if let Some(why) = field::objection(name) {
                self.problem(format!("`{key}`: `{name}` {why}"));
            }
        }
        for (name, value) in edits.set.iter().chain(&edits.append) {
            if let Some(why) = field::value_objection(value) {
                self.problem(format!("`{key}`: `{name}` {why}"));
            }
        }
        Edits {
            remove: edits.remove.iter().map(|name| lower(name)).collect(),
            set: edits.set.iter().map(|(name, value)| (lower(name), value.as_bytes().into())).collect(),
            append: edits.append.iter().map(|(name, value)| (lower(name), value.as_bytes().into())).collect(),
        }
    }
}

fn context(wanted: &config::ContextMatch) -> Vec<Predicate> {
    let one_of = |field: ContextField, values: &[String]| {
        let values: Vec<Box<[u8]>> = values.iter().map(|value| value.as_bytes().into()).collect();
        (!values.is_empty()).then_some(Predicate::Context { field, values })
    };
    let fields = [
        one_of(ContextField::AccountId, &wanted.account_id),
        one_of(ContextField::UserId, &wanted.user_id),
        one_of(ContextField::License, &wanted.license),
        wanted.request_type.map(|wanted| Predicate::RequestType(request_type(wanted))),
    ];
    let flags = wanted.flags.iter().map(|flag| Predicate::Flag(flag.as_bytes().into()));
    fields.into_iter().flatten().chain(flags).collect()
}

/// OpenTelemetry's `http.route`: of low cardinality, so the pattern and not the path.
fn pattern(path: &PathMatch) -> Arc<str> {
    match path {
        PathMatch::Exact(path) => path.as_str().into(),
        PathMatch::Prefix(prefix) => format!("{}/*", prefix.strip_suffix('/').unwrap_or(prefix)).into(),
        PathMatch::Regex(pattern) => pattern.as_str().into(),
    }
}

fn retry(retry: &config::Retry) -> RetryPolicy {
    RetryPolicy {
        retries_max: retry.limit,
        on: retry_on(&retry.on),
        statuses: retry.statuses.as_slice().into(),
        backoff_base: retry.backoff.base,
        backoff_max: retry.backoff.max,
        retry_after_max: retry.retry_after_max,
        is_idempotent: retry.idempotent,
    }
}

/// The conditions of a retry.
fn retry_on(on: &[config::RetryOn]) -> RetryOn {
    use config::RetryOn as On;
    RetryOn {
        connect_failure: on.contains(&On::ConnectFailure),
        refused_stream: on.contains(&On::RefusedStream),
        gateway_error: on.contains(&On::GatewayError),
        server_error: on.contains(&On::ServerError),
        reset: on.contains(&On::Reset),
        retriable_4xx: on.contains(&On::Retriable4xx),
        rate_limited: on.contains(&On::RateLimited),
        grpc_cancelled: on.contains(&On::Cancelled),
        grpc_deadline_exceeded: on.contains(&On::DeadlineExceeded),
        grpc_internal: on.contains(&On::Internal),
        grpc_resource_exhausted: on.contains(&On::ResourceExhausted),
        grpc_unavailable: on.contains(&On::Unavailable),
    }
}

/// The policy of a cluster that is reached without a route.
pub(super) fn default_policy(name: &Arc<str>, request_timeout: Option<Duration>) -> Policy {
    Policy {
        name: Arc::clone(name),
        timeout: request_timeout,
        retry: retry(&config::Retry::default()),
        ..Policy::default()
    }
}

/// Whether a segment of the path is `.` or `..`.
pub(super) fn has_dot_segment(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').any(|segment| segment == b"." || segment == b"..")
}

fn without_slash(prefix: &str) -> Box<[u8]> {
    prefix.strip_suffix('/').unwrap_or(prefix).as_bytes().into()
}

fn lower(name: &str) -> Box<[u8]> {
    name.to_ascii_lowercase().into_bytes().into()
}
