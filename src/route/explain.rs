//! Why a request goes where it goes: the search of [`Table::find`], with an observer that takes notes.

mod terms;

pub use terms::{CapView, RateLimitView, Terms};

use super::action::{Action, Configured};
use super::predicate::Predicate;
use super::request::RequestView;
use super::table::{Entry, Observer, Table};
use crate::cluster::Cluster;
use serde::Serialize;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// So many routes that do not match are listed; the others are counted.
const CONSIDERED_MAX: usize = 50;

/// What happens to a request, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    /// The method.
    pub method: String,
    /// Host and port.
    pub host: String,
    /// The path.
    pub path: String,
    /// Routes before the chosen one, in configured order; at most 50.
    pub considered: Vec<Considered>,
    /// How many more there were.
    pub omitted: usize,
    /// The route that matches; `None` when the fallback decides. Then there is still a policy, named after the cluster.
    pub route: Option<String>,
    /// What is done with the request.
    pub verdict: Verdict,
    /// Under which terms; the defaults of the listener where no route matches.
    #[serde(flatten)]
    pub terms: Terms,
}

/// A route that does not match.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Considered {
    /// Its place, from 0.
    pub position: usize,
    /// Its name.
    pub route: String,
    /// The first condition that does not hold, as in the configuration: `headers.x-a`.
    pub condition: String,
    /// What it wants.
    pub wanted: String,
    /// What the request has.
    pub actual: String,
}

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It goes to a cluster.
    Cluster {
        /// The cluster's name.
        name: String,
        /// Its endpoints now: `address`, with the name if that is another, and the zone.
        endpoints: Vec<String>,
        /// Why this cluster, where a split chose it.
        #[serde(skip_serializing_if = "Option::is_none")]
        split: Option<String>,
        /// How an endpoint is chosen.
        balance: &'static str,
        /// The caps and the breaker of the cluster.
        caps: Vec<CapView>,
    },
    /// It is answered with a redirection.
    Redirect {
        /// The status.
        status: u16,
        /// Where to.
        location: String,
    },
    /// It is answered at once.
    Respond {
        /// The status.
        status: u16,
    },
    /// It is answered 404.
    NotFound {
        /// The nearest names.
        hint: String,
    },
}

impl Table {
    /// Says what happens to a request, and why. It is the same search as [`Table::find`].
    pub fn explain(&self, request: &RequestView<'_>) -> Explanation {
        let mut notes = Notes { request, considered: Vec::new(), omitted: 0 };
        let decision = self.decide(request, &mut notes);
        let Notes { considered, omitted, .. } = notes;
        let chosen = considered.len() + omitted;
        let entry = self.entries.get(chosen);
        let policy = decision.policy;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Explanation {
            direction: request.direction.as_str(),
            method: text(request.head.method_bytes()),
            host: text(request.head.authority()),
            path: text(request.head.path()),
            considered,
            omitted,
            route: entry.map(|entry| entry.policy.name.to_string()),
            verdict: verdict(decision.action, entry, request),
            terms: policy.map(|policy| Terms::of(policy, request)).unwrap_or_default(),
        }
    }
}

fn verdict(action: Action<'_>, entry: Option<&Entry>, request: &RequestView<'_>) -> Verdict {
    match action {
        Action::Cluster(cluster) => Verdict::Cluster {
            name: cluster.name.to_string(),
            endpoints: endpoints(cluster),
            split: match entry.map(Entry::configured) {
                Some(Configured::Split(split)) => Some(split.explain(request)),
                _ => None,
            },
            balance: terms::balance(cluster.settings.balance.policy),
            caps: terms::caps(&cluster.breakers),
        },
        Action::Redirect(redirect) => Verdict::Redirect {
            status: redirect.status(),
            location: String::from_utf8_lossy(&redirect.location(request)).into_owned(),
        },
        Action::Respond(respond) => Verdict::Respond { status: respond.status() },
        Action::NotFound { hint } => Verdict::NotFound { hint },
    }
}

fn endpoints(cluster: &Arc<Cluster>) -> Vec<String> {
    let set = cluster.endpoints();
    let texts = set.endpoints.iter().map(|endpoint| {
        let address = endpoint.address.to_string();
        let name = if *endpoint.name == *address { String::new() } else { format!(" ({})", endpoint.name) };
        let zone = endpoint.zone.as_ref().map_or_else(String::new, |zone| format!(" in {zone}"));
        format!("{address}{name}{zone}")
    });
    texts.collect()
}

/// Takes notes of a search.
struct Notes<'r> {
    request: &'r RequestView<'r>,
    considered: Vec<Considered>,
    omitted: usize,
}

impl Observer for Notes<'_> {
    fn skipped(&mut self, table: &Table, routes: Range<usize>) {
        for position in routes {
            match table.entries.get(position).and_then(|entry| Some((entry, entry.mismatch(self.request)?))) {
                Some((entry, why)) => self.failed(position, entry, why),
                None => self.omitted += 1,
            }
        }
    }

    fn failed(&mut self, position: usize, entry: &Entry, why: &Predicate) {
        if self.considered.len() == CONSIDERED_MAX {
            self.omitted += 1;
            return;
        }
        self.considered.push(Considered {
            position,
            route: entry.policy.name.to_string(),
            condition: why.subject(),
            wanted: why.wanted(),
            actual: why.actual(self.request),
        });
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} {}{}", self.direction, self.method, self.host, self.path)?;
        for route in &self.considered {
            let Considered { route, condition, wanted, actual, .. } = route;
            writeln!(f, "  no   {route}: {condition} is {actual}, wanted {wanted}")?;
        }
        if self.omitted > 0 {
            writeln!(f, "  no   {} more", self.omitted)?;
        }
        match &self.route {
            Some(route) => writeln!(f, "  yes  {route}")?,
            None => writeln!(f, "  no route matches")?,
        }
        match &self.verdict {
            Verdict::Cluster { name, endpoints, split, balance, caps } => {
                writeln!(
                    f,
                    "cluster    {name}{}",
                    split.as_ref().map_or_else(String::new, |why| format!(" ({why})"))
                )?;
                let endpoints = if endpoints.is_empty() { "none".to_owned() } else { endpoints.join(", ") };
                writeln!(f, "endpoints  {endpoints}")?;
                writeln!(f, "balance    {balance}")?;
                if !caps.is_empty() {
                    writeln!(f, "caps       {}", terms::listed(caps))?;
                }
                self.terms.fmt(f)
            }
            Verdict::Redirect { status, location } => {
                writeln!(f, "redirect   {status} to {location}")?;
                self.terms.fmt_limits(f)
            }
            Verdict::Respond { status } => {
                writeln!(f, "respond    {status}")?;
                self.terms.fmt_limits(f)
            }
            Verdict::NotFound { hint } if hint.is_empty() => writeln!(f, "answer     404"),
            Verdict::NotFound { hint } => writeln!(f, "answer     404; the nearest names: {hint}"),
        }
    }
}
