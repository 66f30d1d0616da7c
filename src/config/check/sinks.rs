//! `pipeline.sinks` and `pipeline.receiver`: what only a sink itself can say of its configuration.
//!
//! The sinks' constructors are asked, so that what `check` accepts is what starts. They connect nowhere; but they read the
//! files that are named, so they are asked only where files are looked at. What they say is one line; it is shown at the
//! key that it is about, as far as that can be told, else at the sink.

use std::path::Path;

use super::files::{Kind, TLS};
use super::{Check, written};
use crate::config::diagnostics::Diagnostic;
use crate::config::nearest::listed;
use crate::config::node::{Entry, Node, Span, Value};
use crate::config::read;
use crate::pipeline::config::Sinks;
use crate::pipeline::{Problem, otlp_receiver, problems};

/// Keys of which a sink has one at most, and whether it needs one.
const CHOICES: [(&str, &[&str], bool); 3] = [
    ("archive", &["directory", "s3"], true),
    ("fluent", &["address", "socket"], true),
    ("nats", &["creds_file", "nkey_seed_file", "token_file", "user"], false),
];

/// What of a sink's line is what to do, by its first words.
const HELP: [&str; 6] = [", write ", ": write ", ": give ", ": leave ", ": build ", ": name "];

/// Of a line of a sink.
const MESSAGE_CHARS_MAX: usize = 300;

/// One sink of the file.
struct Item<'a> {
    kind: &'a str,
    node: &'a Node,
}

impl<'a> Check<'a, '_> {
    /// `base`: the directory of relative paths; absent where no file is to be looked at.
    pub(super) fn sinks(&mut self, base: Option<&Path>) {
        self.receiver();
        let Some(sinks) = self.root.at(&["pipeline", "sinks"]) else { return };
        let of_kind = |entry: &'a Entry| {
            let nodes = match &entry.value.value {
                Value::List(items) => items.as_slice(),
                _ => std::slice::from_ref(&entry.value),
            };
            nodes.iter().map(|node| Item { kind: &entry.key, node })
        };
        let mut items: Vec<Item<'a>> = sinks.entries().iter().flat_map(of_kind).collect();
        items.retain(|item| self.has_one_choice(item));
        if let Some(base) = base {
            items.iter().for_each(|item| self.sink_files(item, base));
            self.asked(&items, sinks.span, base);
        }
    }

    fn receiver(&mut self) {
        let Some(node) = self.root.at(&["pipeline", "receiver", "otlp"]) else { return };
        let Some(config) = self.read::<otlp_receiver::Config>(node) else { return };
        if let Some(line) = config.problem() {
            self.told(node, &line, None);
        }
    }

    /// Whether there is not too much and not too little; else it says so.
    fn has_one_choice(&mut self, item: &Item<'a>) -> bool {
        let Some((_, keys, is_needed)) = CHOICES.iter().find(|(kind, ..)| *kind == item.kind) else {
            return true;
        };
        match written(item.node, keys).as_slice() {
            [] if *is_needed && !self.is_refused(item.node) => {
                let keys = listed(keys.iter().copied(), "or");
                let message = format!("nothing says where the events go: {keys} is missing");
                self.error(item.node.span, message, format!("add {keys}"));
                false
            }
            [] => !is_needed,
            [_] => true,
            [(first, _), (second, span), ..] => {
                self.error(*span, format!("`{first}` and `{second}` exclude each other"), "keep one");
                false
            }
        }
    }

    /// The files that a sink reads.
    fn sink_files(&mut self, item: &Item<'a>, base: &Path) {
        for entry in all_entries(item.node) {
            if entry.key.ends_with("_file") {
                self.file(base, &entry.value, Kind::Any);
            }
            if entry.key == "tls" {
                for (key, kind) in TLS {
                    entry.value.get(key).into_iter().for_each(|node| self.file(base, node, kind));
                }
            }
        }
    }

    /// Asks the sinks that can be read, all of them at once: names are theirs together.
    fn asked(&mut self, items: &[Item<'a>], span: Span, base: &Path) {
        let mut good: Vec<(&Item<'a>, Entry)> = Vec::new();
        for item in items {
            let entry = Entry { key: item.kind.to_owned(), key_span: span, value: item.node.clone() };
            let alone = Node { span, value: Value::Map(vec![entry.clone()]) };
            if self.read::<Sinks>(&alone).is_some() {
                good.push((item, entry));
            }
        }
        let mut kinds: Vec<Entry> = Vec::new();
        for (item, entry) in &good {
            match kinds.iter_mut().find(|kind| kind.key == item.kind) {
                Some(Entry { value: Node { value: Value::List(list), .. }, .. }) => {
                    list.push(entry.value.clone());
                }
                _ if item.kind == "stdout" => kinds.push(entry.clone()),
                _ => {
                    let list = Node { span, value: Value::List(vec![entry.value.clone()]) };
                    kinds.push(Entry { value: list, ..entry.clone() });
                }
            }
        }
        let Ok(sinks) = read::from_node::<Sinks>(&Node { span, value: Value::Map(kinds) }) else { return };
        for Problem { kind, index, message } in problems(&sinks, base) {
            let item = good.iter().filter(|(item, _)| item.kind == kind).nth(index);
            if let Some((item, _)) = item {
                self.told(item.node, &message, Some(base));
            }
        }
    }

    /// Shows a line where it belongs, unless something is shown there already: a file that is not there.
    fn told(&mut self, node: &Node, line: &str, base: Option<&Path>) {
        let (span, line) = place(node, line, base);
        if self.problems.iter().any(|problem| problem.span == Some(span)) {
            return;
        }
        // It has texts of the file, which cannot write to the terminal.
        let line: String = line.chars().take(MESSAGE_CHARS_MAX).collect();
        let line = line.replace(char::is_control, "\u{fffd}");
        let at = HELP.iter().filter_map(|words| line.rfind(words)).max();
        let problem = match at.and_then(|at| Some((line.get(..at)?, line.get(at + 2..)?))) {
            Some((message, help)) => Diagnostic::error(message).help(help),
            None => Diagnostic::error(line),
        };
        self.problems.push(problem.at(span));
    }
}

/// Which key of a sink a line is about, and the line without what the place says: that of a file that it names, else of the
/// key that it begins with (or of one below that it names), else of the value that it quotes.
fn place<'l>(node: &Node, line: &'l str, base: Option<&Path>) -> (Span, &'l str) {
    let entries = all_entries(node);
    // The longest: `/etc/a` is also in `/etc/a-token`.
    let longest = |is_meant: &dyn Fn(&Entry, &str) -> bool| {
        let texts = entries.iter().filter_map(|entry| Some((entry, entry.value.text()?)));
        let meant = texts.filter(|(entry, text)| !text.is_empty() && is_meant(entry, text));
        meant.max_by_key(|(_, text)| text.len()).map(|(entry, _)| entry.value.span)
    };
    let is_file = |entry: &Entry, text: &str| {
        let is_read = entry.key.ends_with("_file") || TLS.iter().any(|(key, _)| *key == entry.key);
        is_read && base.is_some_and(|base| line.contains(&base.join(text).display().to_string()))
    };
    if let Some(span) = longest(&is_file) {
        return (span, line);
    }
    let begins = |key: &str| -> Option<&'l str> {
        let rest = line.strip_prefix('`').unwrap_or(line).strip_prefix(key)?;
        let is_word = rest.starts_with(|char: char| char.is_ascii_alphanumeric() || char == '_');
        (!is_word).then_some(rest)
    };
    if let Some((entry, rest)) = entries.iter().find_map(|entry| Some((entry, begins(&entry.key)?))) {
        let below = entry.value.entries().iter().find(|below| line.contains(&format!("`{}`", below.key)));
        let span = below.map_or(entry.value.span, |below| below.key_span);
        return (span, rest.strip_prefix("`: ").unwrap_or(line));
    }
    (longest(&|_, text| line.contains(&format!("`{text}`"))).unwrap_or(node.span), line)
}

/// The entries of a mapping, and of those in it.
fn all_entries(node: &Node) -> Vec<&Entry> {
    let mut all: Vec<&Entry> = node.entries().iter().collect();
    all.extend(node.entries().iter().flat_map(|entry| all_entries(&entry.value)));
    all
}
