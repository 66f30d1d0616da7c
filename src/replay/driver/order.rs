//! Happens-before: what started after something ended, when it was recorded, waits for it.
//!
//! For an account and for a connection, the exchanges that nothing later covers are kept: those that were concurrent,
//! a few. A new one waits for those that had ended before it started; what it would wait for only through them is let go of.

use super::lines::LineKey;
use super::{Job, Map};
use crate::replay::seam::Actor;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Group {
    Actor(Actor),
    Line(LineKey),
}

#[derive(Clone, Copy)]
struct Open {
    start_ns: u64,
    end_ns: u64,
    id: u64,
}

/// Exchanges that are not over, by group.
#[derive(Default)]
pub(super) struct Order {
    groups: Map<Group, Vec<Open>>,
}

impl Order {
    /// Adds an exchange; says which it has to wait for. An id may come twice.
    pub(super) fn enter(&mut self, job: &Job, actor: Actor, line: LineKey, id: u64) -> Vec<u64> {
        let mut before = Vec::new();
        for group in [Some(Group::Actor(actor)), line.is_recorded().then_some(Group::Line(line))] {
            let Some(group) = group else { continue };
            let open = self.groups.entry(group).or_default();
            let ended = open.iter().filter(|other| other.end_ns <= job.start_ns);
            // What ended before the start of one that itself ended is waited for by that one.
            if let Some(covered_ns) = ended.map(|other| other.start_ns).max() {
                open.retain(|other| other.end_ns > covered_ns || other.start_ns >= covered_ns);
            }
            before.extend(open.iter().filter(|other| other.end_ns <= job.start_ns).map(|other| other.id));
            open.push(Open { start_ns: job.start_ns, end_ns: job.end_ns, id });
        }
        before
    }

    /// Removes one that is over.
    pub(super) fn leave(&mut self, actor: Actor, line: LineKey, id: u64) {
        for group in [Group::Actor(actor), Group::Line(line)] {
            if let Some(open) = self.groups.get_mut(&group) {
                open.retain(|other| other.id != id);
                if open.is_empty() {
                    self.groups.remove(&group);
                }
            }
        }
    }
}
