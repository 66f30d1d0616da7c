//! The report: each part reads what was observed, prints it, and says what it expected.

mod archive;
mod ejection;
mod failure;
mod graph;
mod map;
mod refusals;
mod replay;
mod routing;
mod sinks;
mod telemetry;
mod trace;

pub(super) use archive::archive;
pub(super) use ejection::{Sickness, ejection};
pub(super) use failure::{Failure, failure};
pub(super) use graph::graph;
pub(super) use map::map;
pub(super) use refusals::refusals;
pub(super) use replay::replay;
pub(super) use routing::{explain, routing};
pub(super) use sinks::{Delivery, Outage, sinks};
pub(super) use telemetry::{Cost, cost, files, metrics};
pub(super) use trace::trace;
