//! `/graph`: whom the service talks to, as this proxy has counted it: its clients, and each cluster that it calls.
//!
//! What: the document of [`crate::pipeline::graph`], or its map in another format. How it fails: it cannot; what was not
//! called is not there.

use crate::pipeline::graph::{Format, Map};
use crate::pipeline::metrics::Registry;
use serde_json::Value;

/// Formats that are asked for by `?format=`, by name.
pub(super) fn names() -> Vec<&'static str> {
    Format::ALL.into_iter().map(Format::name).collect()
}

/// The graph as it is now: a document, or a text and its type.
pub(super) enum Answer {
    /// `sidelight/graph/1`.
    Document(Value),
    /// Another format.
    Text(&'static str, String),
}

/// The graph in the format of that name; `None` where there is none.
pub(super) fn answer(format: &str, metrics: &Registry) -> Option<Answer> {
    let format = Format::named(format)?;
    let report = metrics.graph_report();
    Some(match format {
        Format::Json => Answer::Document(serde_json::to_value(&report).unwrap_or_default()),
        other => Answer::Text(other.content_type(), other.render_map(&Map::of_report(&report))),
    })
}
