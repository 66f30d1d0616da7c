//! What the sidecars wrote down, all together.

use super::event::{Event, events, exchanges};
use super::mesh::{Mesh, Node};
use super::traffic::Refusal;
use std::time::{Duration, Instant};

/// How long events may take to be in the files: a nap of the pipeline's thread, and room for a busy machine.
const WRITTEN_TIMEOUT: Duration = Duration::from_secs(3);

/// The events of every sidecar.
#[derive(Debug)]
pub(super) struct Observed {
    /// By instance, callers first.
    pub(super) by_node: Vec<(&'static str, Vec<Event>)>,
    /// How many events each should have: one for each exchange that the demo knows of.
    pub(super) expected: Vec<usize>,
}

impl Observed {
    /// Reads the events once they are all written, or after a bounded time.
    pub(super) fn read(mesh: &Mesh, refusals: &[Refusal]) -> Observed {
        let expected: Vec<usize> = mesh.nodes.iter().map(|node| expected(node, refusals)).collect();
        let deadline = Instant::now() + WRITTEN_TIMEOUT;
        loop {
            let by_node: Vec<_> =
                mesh.nodes.iter().map(|node| (node.name, exchanges(&node.sidecar.events))).collect();
            let is_whole = by_node.iter().zip(&expected).all(|((_, events), count)| events.len() >= *count);
            if is_whole || Instant::now() >= deadline {
                return Observed { by_node, expected };
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The events of an instance's sidecar.
    pub(super) fn of(&self, name: &str) -> &[Event] {
        let found = self.by_node.iter().find(|(node, _)| *node == name);
        found.map(|(_, events)| events.as_slice()).unwrap_or_default()
    }

    /// The outbound events of an instance's sidecar that were sent somewhere, in the order in which they ended.
    pub(super) fn calls<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Event> {
        self.of(name)
            .iter()
            .filter(|event| !event.is_inbound() && !event.text("sidelight.cluster").is_empty())
    }

    /// The events of an endpoint's health that an instance's sidecar has written by now.
    pub(super) fn health(mesh: &Mesh, name: &str) -> Result<Vec<Event>, String> {
        Ok(events(&mesh.node(name)?.sidecar.events, "sidelight/health/1"))
    }
}

/// One event for what the service answered, one for each call that it made for it, and one for each refusal.
fn expected(node: &Node, refusals: &[Refusal]) -> usize {
    let served = usize::try_from(node.service.served()).unwrap_or(usize::MAX);
    let refused = usize::try_from(node.service.refused()).unwrap_or(usize::MAX);
    let calls = if node.service_name == "payments" { 0 } else { served };
    served + refused + calls + refusals.iter().filter(|refusal| refusal.node == node.name).count()
}
