//! `service.depends_on`: the file that it names, and the clusters that it does not.

use std::path::Path;

use super::Check;
use crate::config::node::{Node, excerpt};
use crate::pipeline::graph::DependsOn;
use crate::pipeline::graph::declared::Undeclared;

/// Of what is told about the file.
const MESSAGE_CHARS_MAX: usize = 300;

impl Check<'_, '_> {
    /// `base`: the directory of relative paths; absent where no file is to be looked at.
    pub(super) fn dependencies(&mut self, base: Option<&Path>) {
        let Some(node) = self.root.at(&["service", "depends_on"]) else { return };
        let Some(depends_on) = self.read::<DependsOn>(node) else { return };
        let lists = [Some(node), node.get("services")];
        let items = lists.into_iter().flatten().flat_map(Node::items);
        for cluster in items.filter_map(|item| item.get("clusters")).flat_map(Node::items) {
            self.cluster_exists(cluster);
        }
        let file = node.get("file");
        if file.is_some() && base.is_none() {
            return;
        }
        let name = self.root.at(&["service", "name"]).and_then(Node::text).unwrap_or_default();
        let declared = match depends_on.declared(name, base.unwrap_or(Path::new("."))) {
            Ok(declared) => declared,
            Err(problem) => {
                let span = file.map_or(node.span, |file| file.span);
                let help = "the file is a mapping from services to lists: `checkout: [payments, stock]`";
                let message: String =
                    problem.chars().filter(|char| !char.is_control()).take(MESSAGE_CHARS_MAX).collect();
                return self.error(span, message, help);
            }
        };
        let clusters = self.root.get("clusters").map_or(&[][..], Node::entries);
        for entry in clusters.iter().filter(|entry| declared.is_undeclared(&entry.key)) {
            let shown = excerpt(&entry.key);
            let message = format!("cluster `{shown}` is not declared in `service.depends_on`");
            let place = if file.is_some() { "the file of `depends_on`" } else { "`depends_on`" };
            let help = format!("add `{shown}` to {place}, or to the `clusters` of the service that it is");
            match declared.undeclared {
                Undeclared::Refuse => self.error(entry.key_span, message, help),
                Undeclared::Allow | Undeclared::Warn => self.warning(entry.key_span, message, help),
            }
        }
    }
}
