//! The conditions of a route, each one testable and able to say what it wanted and what it got.

use super::config;
use super::query;
use super::request::RequestView;
use crate::context::RequestType;
use crate::context::fields::flags;
use crate::svc::{Known, Method};
use regex::bytes::Regex;

/// One condition.
#[derive(Debug)]
pub(super) enum Predicate {
    Host(HostTest),
    Path(PathTest),
    Method(MethodTest),
    Header { name: Box<[u8]>, known: Option<Known>, test: TextTest },
    Query { name: Box<[u8]>, test: TextTest },
    Context { field: ContextField, values: Vec<Box<[u8]>> },
    RequestType(RequestType),
    Flag(Box<[u8]>),
}

/// A host, in lower case and without a final dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum HostTest {
    Exact(Box<[u8]>),
    /// With its first dot: `.example` of `*.example`.
    Suffix(Box<[u8]>),
}

/// A path.
#[derive(Debug)]
pub(super) enum PathTest {
    Exact(Box<[u8]>),
    /// Without its final slash, so the root is empty.
    Prefix(Box<[u8]>),
    Regex(Regex),
}

/// A text.
#[derive(Debug)]
pub(super) enum TextTest {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Regex(Regex),
    Present(bool),
}

/// Methods: a bit for each that has a name here, and the others.
#[derive(Debug, Default)]
pub(super) struct MethodTest {
    known: u16,
    others: Vec<Box<[u8]>>,
}

/// The context fields that have one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ContextField {
    AccountId,
    UserId,
    License,
}

impl ContextField {
    /// From the most to the least selective.
    pub(super) const ALL: [ContextField; 3] =
        [ContextField::AccountId, ContextField::UserId, ContextField::License];

    pub(super) fn of<'a>(self, request: &RequestView<'a>) -> &'a [u8] {
        match self {
            ContextField::AccountId => request.context.account_id,
            ContextField::UserId => request.context.user_id,
            ContextField::License => request.context.license,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            ContextField::AccountId => "account_id",
            ContextField::UserId => "user_id",
            ContextField::License => "license",
        }
    }
}

impl HostTest {
    /// `*` is every host, which is no condition.
    pub(super) fn new(pattern: &str) -> Option<HostTest> {
        let pattern = pattern.strip_suffix('.').unwrap_or(pattern).to_ascii_lowercase();
        match pattern.strip_prefix('*') {
            Some("") => None,
            Some(suffix) => Some(HostTest::Suffix(suffix.as_bytes().into())),
            None => Some(HostTest::Exact(pattern.as_bytes().into())),
        }
    }

    fn holds(&self, host: &[u8]) -> bool {
        match self {
            HostTest::Exact(wanted) => host.eq_ignore_ascii_case(wanted),
            HostTest::Suffix(suffix) => {
                let start = host.len().checked_sub(suffix.len()).filter(|start| *start > 0);
                start.and_then(|start| host.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
            }
        }
    }
}

impl PathTest {
    fn holds(&self, path: &[u8]) -> bool {
        match self {
            PathTest::Exact(wanted) => path == &**wanted,
            PathTest::Prefix(prefix) => path.starts_with(prefix) && is_boundary(path, prefix.len()),
            PathTest::Regex(regex) => regex.is_match(path),
        }
    }
}

/// Whether a prefix of so many bytes ends where a segment of `path` ends. The empty prefix is that of every path but
/// the `*` of OPTIONS.
pub(super) fn is_boundary(path: &[u8], bytes: usize) -> bool {
    match path.get(bytes) {
        Some(next) => *next == b'/',
        None => path.len() == bytes && bytes > 0,
    }
}

impl TextTest {
    fn holds(&self, value: &[u8]) -> bool {
        match self {
            TextTest::Exact(wanted) => value == &**wanted,
            TextTest::Prefix(prefix) => value.starts_with(prefix),
            TextTest::Regex(regex) => regex.is_match(value),
            TextTest::Present(is_wanted) => *is_wanted,
        }
    }

    /// Whether it holds for one of the values; `present: false` holds when there is none.
    fn holds_for_any<'v>(&self, mut values: impl Iterator<Item = &'v [u8]>) -> bool {
        match self {
            TextTest::Present(false) => values.next().is_none(),
            _ => values.any(|value| self.holds(value)),
        }
    }

    fn wanted(&self) -> String {
        match self {
            TextTest::Exact(text) => quoted(text),
            TextTest::Prefix(text) => format!("a value that starts with {}", quoted(text)),
            TextTest::Regex(regex) => format!("a value that matches {}", quoted(regex.as_str().as_bytes())),
            TextTest::Present(true) => "any value".into(),
            TextTest::Present(false) => "none".into(),
        }
    }
}

impl MethodTest {
    pub(super) fn new(methods: &[String]) -> MethodTest {
        let mut test = MethodTest::default();
        for name in methods {
            match Method::from_known(name.as_bytes()).and_then(method_bit) {
                Some(bit) => test.known |= bit,
                None => test.others.push(name.as_bytes().into()),
            }
        }
        test
    }

    fn holds(&self, request: &RequestView<'_>) -> bool {
        match method_bit(request.head.method) {
            Some(bit) => self.known & bit != 0,
            None => self.others.iter().any(|name| **name == *request.head.method_bytes()),
        }
    }

    fn wanted(&self) -> String {
        let known =
            METHODS.into_iter().filter(|method| method_bit(*method).is_some_and(|bit| self.known & bit != 0));
        let known = known.filter_map(|method| method.known_name().map(str::to_owned));
        known.chain(self.others.iter().map(|name| text(name))).collect::<Vec<_>>().join(" or ")
    }
}

const METHODS: [Method; 9] = [
    Method::Get,
    Method::Head,
    Method::Post,
    Method::Put,
    Method::Delete,
    Method::Connect,
    Method::Options,
    Method::Trace,
    Method::Patch,
];

fn method_bit(method: Method) -> Option<u16> {
    Some(match method {
        Method::Get => 1,
        Method::Head => 1 << 1,
        Method::Post => 1 << 2,
        Method::Put => 1 << 3,
        Method::Delete => 1 << 4,
        Method::Connect => 1 << 5,
        Method::Options => 1 << 6,
        Method::Trace => 1 << 7,
        Method::Patch => 1 << 8,
        Method::Other(_) => return None,
    })
}

/// The kind of a request, as configured.
pub(super) fn request_type(configured: config::RequestType) -> RequestType {
    match configured {
        config::RequestType::Standard => RequestType::Standard,
        config::RequestType::Trace => RequestType::Trace,
    }
}

impl Predicate {
    /// Whether the request has what the route wants.
    pub(super) fn holds(&self, request: &RequestView<'_>) -> bool {
        let fields = &request.head.fields;
        match self {
            Predicate::Host(test) => test.holds(request.host()),
            Predicate::Path(test) => test.holds(request.path()),
            Predicate::Method(test) => test.holds(request),
            Predicate::Header { known: Some(known), test, .. } => test.holds_for_any(fields.all(*known)),
            Predicate::Header { name, test, .. } => test.holds_for_any(fields.named(name)),
            Predicate::Query { name, test } => {
                let value = request.head.query().and_then(|query| query::parameter(query, name));
                test.holds_for_any(value.as_deref().into_iter())
            }
            Predicate::Context { field, values } => {
                let actual = field.of(request);
                !actual.is_empty() && values.iter().any(|value| **value == *actual)
            }
            Predicate::RequestType(wanted) => request.context.request_type == *wanted,
            Predicate::Flag(wanted) => flags(request.context.flags).any(|flag| flag == &**wanted),
        }
    }

    /// What is looked at, as in the configuration.
    pub(super) fn subject(&self) -> String {
        match self {
            Predicate::Host(_) => "host".into(),
            Predicate::Path(_) => "path".into(),
            Predicate::Method(_) => "method".into(),
            Predicate::Header { name, .. } => format!("headers.{}", text(name)),
            Predicate::Query { name, .. } => format!("query.{}", text(name)),
            Predicate::Context { field, .. } => format!("context.{}", field.name()),
            Predicate::RequestType(_) => "context.request_type".into(),
            Predicate::Flag(_) => "context.flags".into(),
        }
    }

    /// What the route wants, for people.
    pub(super) fn wanted(&self) -> String {
        match self {
            Predicate::Host(HostTest::Exact(host)) => quoted(host),
            Predicate::Host(HostTest::Suffix(suffix)) => format!("`*{}`", text(suffix)),
            Predicate::Path(PathTest::Exact(path)) => quoted(path),
            Predicate::Path(PathTest::Prefix(prefix)) => format!("`{}/` or below", text(prefix)),
            Predicate::Path(PathTest::Regex(regex)) => format!("a path that matches `{}`", regex.as_str()),
            Predicate::Method(test) => test.wanted(),
            Predicate::Header { test, .. } | Predicate::Query { test, .. } => test.wanted(),
            Predicate::Context { values, .. } => {
                values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(" or ")
            }
            Predicate::RequestType(wanted) => wanted.as_str().into(),
            Predicate::Flag(flag) => quoted(flag),
        }
    }

    /// What the request has, for people.
    pub(super) fn actual(&self, request: &RequestView<'_>) -> String {
        let fields = &request.head.fields;
        match self {
            Predicate::Host(_) => quoted(request.host()),
            Predicate::Path(_) => quoted(request.path()),
            Predicate::Method(_) => text(request.head.method_bytes()),
            Predicate::Header { name, .. } => {
                let values: Vec<String> = fields.named(name).map(quoted).collect();
                if values.is_empty() { "none".into() } else { values.join(" and ") }
            }
            Predicate::Query { name, .. } => {
                let value = request.head.query().and_then(|query| query::parameter(query, name));
                value.map_or_else(|| "none".into(), |value| quoted(&value))
            }
            Predicate::Context { field, .. } => or_none(field.of(request)),
            Predicate::RequestType(_) => request.context.request_type.as_str().into(),
            Predicate::Flag(_) => or_none(request.context.flags),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn quoted(bytes: &[u8]) -> String {
    format!("`{}`", text(bytes))
}

fn or_none(bytes: &[u8]) -> String {
    if bytes.is_empty() { "none".into() } else { quoted(bytes) }
}
