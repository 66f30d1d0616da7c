//! What a route does with a request.

use super::predicate::ContextField;
use super::request::RequestView;
use crate::cluster::{Cluster, stable_hash};
use crate::exchange::{Policy, Response};
use crate::svc::{Body, Fields, Known, ResponseHead, Scheme};
use bytes::Bytes;
use std::sync::Arc;

/// What the table says about a request.
#[derive(Debug)]
pub struct Decision<'t> {
    /// The settings of the route; `None` when no route matches.
    pub policy: Option<&'t Arc<Policy>>,
    /// What to do.
    pub action: Action<'t>,
}

/// What to do with a request.
#[derive(Debug)]
pub enum Action<'t> {
    /// It goes to this cluster, if need be the one that a split chose.
    Cluster(&'t Arc<Cluster>),
    /// It is answered with a redirection.
    Redirect(&'t Redirect),
    /// It is answered at once.
    Respond(&'t Respond),
    /// No route matches.
    NotFound {
        /// The nearest names, for the event; may be empty.
        hint: String,
    },
}

/// A route's action, compiled.
#[derive(Debug)]
pub(super) enum Configured {
    Cluster(Arc<Cluster>),
    Split(Split),
    Redirect(Redirect),
    Respond(Respond),
}

impl Configured {
    pub(super) fn choose(&self, request: &RequestView<'_>) -> Action<'_> {
        match self {
            Configured::Cluster(cluster) => Action::Cluster(cluster),
            Configured::Split(split) => Action::Cluster(split.choose(request)),
            Configured::Redirect(redirect) => Action::Redirect(redirect),
            Configured::Respond(respond) => Action::Respond(respond),
        }
    }
}

/// Clusters by weight.
#[derive(Debug)]
pub(super) struct Split {
    /// The first arm, which also takes what rounding leaves.
    pub(super) first: Arc<Cluster>,
    /// The end of each arm on the line of all weights, ascending.
    pub(super) arms: Vec<(u64, Arc<Cluster>)>,
    pub(super) sticky: Option<ContextField>,
}

impl Split {
    fn choose(&self, request: &RequestView<'_>) -> &Arc<Cluster> {
        let key = self.sticky.map(|field| field.of(request)).filter(|key| !key.is_empty());
        let number = key.map_or(request.random, stable_hash);
        let total = self.arms.last().map_or(0, |(end, _)| *end);
        let point = ((u128::from(number) * u128::from(total)) >> 64) as u64;
        self.arms.iter().find(|(end, _)| point < *end).map_or(&self.first, |(_, cluster)| cluster)
    }

    /// How the choice is made, for people.
    pub(super) fn explain(&self, request: &RequestView<'_>) -> String {
        let mut start = 0;
        let mut shares = Vec::new();
        for (end, cluster) in &self.arms {
            shares.push(format!("{} {}", cluster.name, end - start));
            start = *end;
        }
        let by = match self.sticky {
            Some(field) if !field.of(request).is_empty() => format!("by {}", field.name()),
            Some(field) => format!("at random, there is no {}", field.name()),
            None => "at random".into(),
        };
        format!("{by} of {}", shares.join(" : "))
    }
}

/// A redirection, compiled.
#[derive(Debug)]
pub struct Redirect {
    pub(super) status: u16,
    pub(super) scheme: Option<Scheme>,
    pub(super) host: Option<Box<[u8]>>,
    pub(super) path: RedirectPath,
}

/// What becomes of the path.
#[derive(Debug)]
pub(super) enum RedirectPath {
    Same,
    Full(Box<[u8]>),
    Prefix { matched_bytes: usize, replacement: Box<[u8]> },
}

impl Redirect {
    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Where the client is sent: the request's own target with the configured parts replaced, the query kept.
    ///
    /// With another scheme and the same host, the port goes: one port does not speak both.
    pub fn location(&self, request: &RequestView<'_>) -> Vec<u8> {
        let head = request.head;
        let scheme = self.scheme.unwrap_or(head.scheme);
        let authority = match &self.host {
            Some(host) => host,
            None if scheme != head.scheme => head.host(),
            None => head.authority(),
        };
        let mut location = Vec::with_capacity(authority.len() + head.path().len() + 16);
        if !authority.is_empty() {
            location.extend_from_slice(scheme.as_str().as_bytes());
            location.extend_from_slice(b"://");
            location.extend_from_slice(authority);
        }
        match &self.path {
            RedirectPath::Same if head.path() == b"*" => location.push(b'/'),
            RedirectPath::Same => location.extend_from_slice(head.path()),
            RedirectPath::Full(path) => location.extend_from_slice(path),
            RedirectPath::Prefix { matched_bytes, replacement } => {
                super::rewrite::replace_prefix(head.path(), *matched_bytes, replacement, &mut location);
            }
        }
        if let Some(query) = head.query() {
            location.push(b'?');
            location.extend_from_slice(query);
        }
        location
    }

    /// The answer.
    pub fn answer(&self, request: &RequestView<'_>) -> Response {
        let mut head = ResponseHead::new(self.status);
        head.fields.append(Known::Location, &self.location(request));
        Response::new(head, Body::empty())
    }
}

/// A direct answer, compiled.
#[derive(Debug)]
pub struct Respond {
    pub(super) status: u16,
    pub(super) fields: Fields,
    pub(super) body: Bytes,
}

impl Respond {
    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The answer. To HEAD the codec leaves the content out.
    pub fn answer(&self) -> Response {
        let mut head = ResponseHead::new(self.status);
        head.fields.clone_from(&self.fields);
        Response::new(head, Body::full(self.body.clone()))
    }
}
