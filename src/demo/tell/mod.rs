//! The report: each part reads what was observed, prints it, and says what it expected.

mod ejection;
mod failure;
mod graph;
mod refusals;
mod routing;
mod telemetry;
mod trace;

pub(super) use ejection::{Sickness, ejection};
pub(super) use failure::{Failure, failure};
pub(super) use graph::graph;
pub(super) use refusals::refusals;
pub(super) use routing::{explain, routing};
pub(super) use telemetry::{Cost, cost, files, metrics};
pub(super) use trace::trace;
