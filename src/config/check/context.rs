//! `context`: names of fields that must exist, values that fields can have, key files that must be right.
//!
//! The compiler of the context layer is asked itself, so that what `check` accepts is what starts.

use std::path::Path;

use super::Check;
use crate::config::node::{Node, Span};
use crate::context::config::{Config, Pseudonyms, Sign};
use crate::context::sampling;
use crate::protocol::propagate::{Rules, Source};

impl Check<'_, '_> {
    /// With `base`, key files are looked at too.
    pub(super) fn context(&mut self, base: Option<&Path>) {
        let Some(node) = self.root.get("context") else { return };
        let Some(mut context) = self.read::<Config>(node) else { return };
        let based = |path: &Path| base.map(|base| base.join(path));
        // Without files, the rest is weighed all the same.
        context.sign = context.sign.take().and_then(|sign| Some(Sign { keys: based(&sign.keys)?, ..sign }));
        context.pseudonyms =
            context.pseudonyms.take().and_then(|own| Some(Pseudonyms { keys: based(&own.keys)?, ..own }));
        let source = Source {
            context: &context,
            sampling: &sampling::Config::default(),
            revision: None,
            service: "",
            has_both_sides: true,
            has_sink: true,
            seed: 0,
        };
        for wrong in Rules::compile(&source).err().unwrap_or_default() {
            let span = place(self.root, &wrong.path);
            self.error(span, wrong.message, wrong.help);
        }
    }
}

/// Where the last key of `path` that is written stands: its value, or the key where it has none.
fn place(root: &Node, path: &[String]) -> Span {
    let mut found = (root, root.span);
    for key in path {
        match found.0.entry(key) {
            Some(entry) if entry.value.entries().is_empty() => found = (&entry.value, entry.value.span),
            Some(entry) => found = (&entry.value, entry.key_span),
            None => break,
        }
    }
    found.1
}
