//! Routes: which requests go where, under which terms.
//!
//! What: [`Table`] is a listener's routes, compiled. [`Table::find`] gives the first route that matches, by look-ups
//! and not by walking the list; [`Table::explain`] is the same search with notes. [`Routing`] is the hook that asks the
//! table and writes its decision into the exchange; [`Rewriting`] is the hook that applies what the route changes.
//!
//! Why compiled: a sidecar has ten routes or ten thousand (one for each account), and a request should not pay for
//! those that cannot match. Semantics follow the Gateway API where it has a word: prefixes end at a `/`, the order is
//! the configured one.
//!
//! How it fails: routes that cannot work are refused when the table is compiled ([`CompileError`], all of them at
//! once); a request that no route matches is answered 404 with [`Kind::RouteNotFound`](crate::error::Kind), and the
//! nearest names go into its event.

mod action;
mod compile;
pub mod config;
mod explain;
mod field;
mod hint;
mod index;
mod layer;
mod mirror;
mod predicate;
mod query;
mod request;
mod rewrite;
mod table;
#[cfg(test)]
mod tests;

pub use action::{Action, Decision, Redirect, Respond};
pub use compile::{CompileError, Problem};
pub use explain::{CapView, Considered, Explanation, RateLimitView, Terms, Verdict};
pub use layer::{Open, Routing, TableCell};
pub use mirror::{Duplicate, MARK, Mirroring, Outlet};
pub use request::{ContextView, RequestView};
pub use rewrite::Rewriting;
pub use table::{Defaults, Fallback, Table};
