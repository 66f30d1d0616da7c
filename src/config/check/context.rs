//! `context`: names of fields that must exist, values that fields can have, key files that must be right.
//!
//! The compiler of the context layer is asked itself, so that what `check` accepts is what starts.

use std::path::Path;

use super::Check;
use crate::config::node::{Node, Span};
use crate::context::config::Config;
use crate::context::third_party::{self, Zone};
use crate::protocol::propagate::Rules;

impl Check<'_, '_> {
    /// With `base`, key files are looked at too.
    pub(super) fn context(&mut self, base: Option<&Path>) {
        self.third_parties();
        let Some(node) = self.root.get("context") else { return };
        let Some(context) = self.read::<Config>(node) else { return };
        for wrong in Rules::check(&context, base) {
            let span = place(self.root, &wrong.path, wrong.is_key);
            // Names come from the file, and a file cannot write to the terminal.
            let [message, help] =
                [wrong.message, wrong.help].map(|text| text.replace(char::is_control, "\u{fffd}"));
            self.error(span, message, help);
        }
    }

    /// Who keeps something from a third party has to say that it is one.
    fn third_parties(&mut self) {
        for cluster in self.root.get("clusters").map_or(&[][..], Node::entries) {
            let Some(node) = cluster.value.get("context") else { continue };
            let Some(config) = self.read::<third_party::Config>(node) else { continue };
            if let Some(keep) =
                node.entry("keep").filter(|_| config.zone == Zone::Mesh && !config.keep.is_empty())
            {
                let message =
                    "`keep` does nothing: this cluster is of the zone `mesh`, where the whole context goes";
                self.warning(keep.key_span, message, "add `zone: third_party`, or remove it");
            }
        }
    }
}

/// Where the last key of `path` stands, or its value unless the key `is_key` that is wrong. Of what is not written, where
/// the last key before it stands.
fn place(root: &Node, path: &[String], is_key: bool) -> Span {
    let (mut node, mut key_span, mut value_span) = (root, root.span, root.span);
    for key in path {
        let item = key.parse().ok().and_then(|at: usize| node.items().get(at));
        if let Some(item) = item {
            (node, key_span, value_span) = (item, item.span, item.span);
        } else if let Some(entry) = node.entry(key) {
            (node, key_span, value_span) = (&entry.value, entry.key_span, entry.value.span);
        } else {
            return key_span;
        }
    }
    if is_key { key_span } else { value_span }
}
