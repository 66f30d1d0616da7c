//! `recording` and `routes[].record`: what only the recorder can say of its configuration.

use std::path::Path;

use super::Check;
use crate::config::nearest::{listed, nearest};
use crate::config::node::{Node, Value, excerpt};
use crate::pipeline::KINDS_FOR_RECORDINGS;
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
        self.recording_sinks(node);
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

    /// The sinks that are to get the recording, too: they must be there, and able to give it back.
    fn recording_sinks(&mut self, node: &Node) {
        let sinks = self.root.at(&["pipeline", "sinks"]);
        let kinds = sinks.map_or(&[][..], Node::entries);
        let mut known: Vec<(&str, &str, Option<&Node>)> = Vec::new();
        for entry in kinds {
            let of_kind = match &entry.value.value {
                Value::List(items) => items.as_slice(),
                _ => std::slice::from_ref(&entry.value),
            };
            known.extend(of_kind.iter().map(|sink| {
                let name = sink.get("name").and_then(Node::text).unwrap_or(&entry.key);
                (name, entry.key.as_str(), Some(sink))
            }));
        }
        if sinks.is_none() {
            known.push(("stdout", "stdout", None));
        }
        for item in node.get("sinks").map_or(&[][..], Node::items) {
            let Some(name) = item.text() else { continue };
            let names = || known.iter().map(|(name, ..)| *name);
            let Some((_, kind, sink)) = known.iter().find(|(known, ..)| *known == name) else {
                let help = match nearest(name, names()) {
                    Some(near) => format!("write `{near}`"),
                    None if known.is_empty() => "add it to `pipeline.sinks`".into(),
                    None if known.len() == 1 => format!("the only sink is {}", listed(names(), "and")),
                    None => format!("the sinks are {}", listed(names(), "and")),
                };
                self.error(item.span, format!("there is no sink `{}`", excerpt(name)), help);
                continue;
            };
            let format = sink.and_then(|sink| sink.get("format")).and_then(Node::text);
            if !KINDS_FOR_RECORDINGS.contains(kind) {
                let message =
                    format!("`{}` cannot keep a recording: {kind} has no form for it", excerpt(name));
                let help = format!("the kinds that can are {}", listed(KINDS_FOR_RECORDINGS, "and"));
                self.error(item.span, message, help);
            } else if *kind == "archive" && format == Some("parquet") {
                let message =
                    format!("`{}` writes Parquet, which no recording is made of again", excerpt(name));
                self.error(item.span, message, "name an archive with `format: ndjson`");
            }
        }
    }

    /// What asks for a recording that has no place.
    fn recorded_nowhere(&mut self, node: Option<&Node>) {
        let sinks = node.and_then(|node| node.get("sinks")).filter(|sinks| !sinks.items().is_empty());
        let told = node.and_then(|node| node.get("flight").or_else(|| node.get("encrypt"))).or(sinks);
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
