//! What a scrape says of contexts: how the parents of outbound calls were found, and which fields were not believed.
//!
//! Why: an application that does not carry the context on is seen here, as calls whose parent is `lost`, or was found by
//! something else than their own header. How it fails: calls beyond the registry's cap count for the cluster `_other`.

use super::registry::Registry;
use super::text::{Kind, Page};
use crate::context::formats::Format;
use crate::exchange::{Direction, ParentSource};

/// Sources besides the formats of others.
const OWN: usize = 6;

/// Every source, the most certain first.
pub(super) const SOURCES: [ParentSource; OWN + Format::COUNT] = {
    let mut all = [ParentSource::Root; OWN + Format::COUNT];
    all[0] = ParentSource::Header;
    let mut format = 0;
    while format < Format::COUNT {
        all[1 + format] = ParentSource::Format(Format::ALL[format]);
        format += 1;
    }
    all[1 + Format::COUNT] = ParentSource::RequestId;
    all[2 + Format::COUNT] = ParentSource::Echo;
    all[3 + Format::COUNT] = ParentSource::Sole;
    all[4 + Format::COUNT] = ParentSource::Lost;
    all
};

/// The position of a source in [`SOURCES`].
#[inline]
pub(super) fn position(source: ParentSource) -> usize {
    match source {
        ParentSource::Header => 0,
        ParentSource::Format(format) => 1 + format as usize,
        ParentSource::RequestId => 1 + Format::COUNT,
        ParentSource::Echo => 2 + Format::COUNT,
        ParentSource::Sole => 3 + Format::COUNT,
        ParentSource::Lost => 4 + Format::COUNT,
        ParentSource::Root => 5 + Format::COUNT,
    }
}

impl Registry {
    pub(super) fn render_context(&self, page: &mut Page) {
        page.family(
            "sidelight_outbound_calls",
            Kind::Counter,
            "Outbound exchanges, by how their parent was found; lost: nobody could know.",
        );
        for edge in self.edges().iter().filter(|edge| edge.direction == Direction::Outbound) {
            // `lost` also where there is none, so that it can be divided.
            for (source, count) in edge.parents().filter(|(source, count)| *count > 0 || *source == "lost") {
                let cluster = edge.cluster.as_deref().unwrap_or_default();
                page.number(&[("sidelight_cluster", cluster), ("parent_source", source)], count);
            }
        }
        let directions = [Direction::Inbound, Direction::Outbound];
        let help = "Context fields that were refused: malformed, twice, or from a peer that is not trusted.";
        page.family("sidelight_context_dropped", Kind::Counter, help);
        for direction in directions {
            let count = self.sum(|block| block.context_dropped.get(direction));
            page.number(&[("direction", direction.as_str())], count);
        }
        let help = "Context fields whose two carriers disagreed.";
        page.family("sidelight_context_disagreed", Kind::Counter, help);
        for direction in directions {
            let count = self.sum(|block| block.context_disagreed.get(direction));
            page.number(&[("direction", direction.as_str())], count);
        }
    }
}
