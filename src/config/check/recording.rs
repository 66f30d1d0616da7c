//! `recording` and `routes[].record`: what only the recorder can say of its configuration.

use std::path::Path;

use super::Check;
use crate::config::node::Node;
use crate::record::redact::Redactor;
use crate::record::{Config, rules};

impl Check<'_, '_> {
    /// `base`: the directory of relative paths; absent where no file is to be looked at.
    pub(super) fn recording(&mut self, base: Option<&Path>) {
        let node = self.root.get("recording");
        let directory = node.and_then(|node| node.get("directory"));
        if directory.is_none() {
            self.recorded_nowhere(node);
        }
        let Some(node) = node else { return };
        let Some(config) = self.read::<Config>(node) else { return };
        let at = |keys: &[&str]| node.at(keys).map_or(node.span, |node| node.span);
        if let Some(wrong) = rules::wrong(&config.r#match) {
            let (message, help) = wrong.split_once(": ").unwrap_or((&wrong, "correct it"));
            self.error(at(&["match"]), message, help);
        }
        if let Err(wrong) = Redactor::new(&config.redact, [0; 32]) {
            self.error(at(&["redact"]), wrong, "correct it, or leave it out");
        }
        if let Some(base) = base
            && let Some(file) = node.at(&["redact", "key_file"])
        {
            let key_file = config.redact.key_file.as_ref().map(|file| base.join(file));
            let redact = crate::record::redact::Config { key_file, ..config.redact.clone() };
            if let Err(wrong) = redact.key() {
                self.error(file.span, wrong, "make one: head -c 32 /dev/urandom > FILE");
            }
        }
        if let (Some(directory), Some(encrypt)) = (&config.directory, &config.encrypt)
            && encrypt.keys.starts_with(directory)
        {
            let message = "the keys lie in the recording, and whoever copies it has them too";
            self.error(at(&["encrypt"]), message, "name a directory elsewhere");
        }
    }

    /// What asks for a recording that has no place.
    fn recorded_nowhere(&mut self, node: Option<&Node>) {
        let told = node.and_then(|node| node.get("flight").or_else(|| node.get("encrypt")));
        let help = "add `directory: …` to `recording`";
        if let Some(told) = told {
            self.warning(told.span, "nothing is recorded, because `recording.directory` is not set", help);
        }
        for listener in ["inbound", "outbound"] {
            let routes = self.root.at(&[listener, "routes"]).map_or(&[][..], Node::items);
            for record in routes.iter().filter_map(|route| route.get("record")) {
                self.warning(
                    record.span,
                    "nothing is recorded, because `recording.directory` is not set",
                    help,
                );
            }
        }
    }
}
