//! The hook that routes.
//!
//! Position: inside context and normalisation, which say what the request is; outside everything that reads a route's
//! policy. Records: route, pattern, cluster; the hint when nothing matches. How it fails: [`Kind::RouteNotFound`].
//!
//! A route may answer by itself: redirections, direct answers. Whatever may refuse a request by its route (rate limits)
//! must come between that decision and that answer, so it stands here as a gate: another hook, which is asked when the
//! exchange has its policy, and before anything is done about it.

use super::action::Action;
use super::request::{ContextView, RequestView};
use super::table::Table;
use crate::context::Rng;
use crate::error::{Error, Kind, Result};
use crate::exchange::{Answer, Ctx, Exchange, Hook, Response};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// Where a worker keeps a listener's table: every connection reads it at each request, a reload replaces it.
#[derive(Clone, Debug)]
pub struct TableCell(Rc<RefCell<Arc<Table>>>);

impl TableCell {
    /// A cell with its first table.
    pub fn new(table: Arc<Table>) -> TableCell {
        TableCell(Rc::new(RefCell::new(table)))
    }

    /// The table now.
    pub fn load(&self) -> Arc<Table> {
        Arc::clone(&self.0.borrow())
    }

    /// Replaces the table; exchanges that are routed already keep what they got.
    pub fn swap(&self, table: Arc<Table>) -> Arc<Table> {
        self.0.replace(table)
    }
}

/// The hook; `G` is the gate.
#[derive(Clone, Debug)]
pub struct Routing<G = Open> {
    table: TableCell,
    rng: Rc<RefCell<Rng>>,
    gate: G,
}

/// A gate that lets everything through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open;

impl Hook for Open {}

impl Routing {
    /// Routes by `table`; `rng` chooses the arms of splits that are not sticky.
    pub fn new(table: TableCell, rng: Rc<RefCell<Rng>>) -> Routing {
        Routing { table, rng, gate: Open }
    }
}

impl<G> Routing<G> {
    /// The same, with a gate: it is asked about each request that has a route, and sees each answer.
    pub fn behind<H: Hook>(self, gate: H) -> Routing<H> {
        Routing { table: self.table, rng: self.rng, gate }
    }

    /// Writes the table's decision into the exchange; the answer, if the route gives it itself.
    fn decide(&self, exchange: &mut Exchange) -> Result<Option<Response>> {
        let Exchange { head, ctx, .. } = exchange;
        let table = self.table.0.borrow();
        let mut record = ctx.recorder.edit();
        let request = RequestView {
            head,
            direction: ctx.connection.direction,
            context: ContextView::of(&record),
            random: self.rng.borrow_mut().next_u64(),
        };
        let decision = table.find(&request);
        let own = match &decision.action {
            Action::Redirect(redirect) => Some(redirect.answer(&request)),
            Action::Respond(respond) => Some(respond.answer()),
            _ => None,
        };
        if let Some(policy) = decision.policy {
            record.route = Some(Arc::clone(&policy.name));
            record.pattern.clone_from(&policy.pattern);
            ctx.deadline.set(policy.timeout.and_then(|timeout| record.started.checked_add(timeout)));
            *ctx.policy.borrow_mut() = Some(Arc::clone(policy));
        }
        match decision.action {
            Action::Cluster(cluster) => {
                record.cluster = Some(Arc::clone(&cluster.name));
                *ctx.cluster.borrow_mut() = Some(Arc::clone(cluster));
                Ok(None)
            }
            Action::Redirect(_) | Action::Respond(_) => Ok(own.map(|mut response| {
                if let Some(policy) = decision.policy {
                    policy.response_edits.apply(&mut response.head.fields);
                }
                response
            })),
            Action::NotFound { hint } => {
                let detail =
                    if hint.is_empty() { String::new() } else { format!("the nearest names: {hint}") };
                record.hint = hint;
                drop(record);
                let error = Error::new(Kind::RouteNotFound, detail);
                ctx.recorder.fail(&error);
                Err(error)
            }
        }
    }
}

impl<G: Hook> Hook for Routing<G> {
    fn before(&self, exchange: &mut Exchange) -> Result<Option<Response>> {
        let own = self.decide(exchange)?;
        Ok(self.gate.before(exchange)?.or(own))
    }

    fn after(&self, ctx: &Ctx, answer: &mut Answer) {
        self.gate.after(ctx, answer);
    }
}
