//! A tree against the schema: every wrong type, unknown key, missing key, bad value, at its place, in one pass.

use std::collections::HashMap;

use serde_json::Value as Schema;

use super::diagnostics::{Diagnostic, HELPED_MAX};
use super::format;
use super::nearest::{listed, nearest};
use super::node::{Entry, Node, Span, Value, excerpt};
use super::shape::{Keys, Shape};
use super::{schema, synonyms};

/// Checks `node` against the whole schema of the configuration. Keys that are misspelt are reported, and then renamed
/// to what was meant, so that later checks do not report what follows from them.
pub fn walk(node: &mut Node, problems: &mut Vec<Diagnostic>) {
    let root = schema::compiled();
    let mut walker = Walker { root, problems, renames: HashMap::new() };
    walker.value(root, node, None);
    let renames = walker.renames;
    if !renames.is_empty() {
        rename(node, &renames);
    }
}

fn rename(node: &mut Node, renames: &HashMap<Span, &str>) {
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| rename(item, renames)),
        Value::Map(entries) => {
            for entry in entries {
                if let Some(name) = renames.get(&entry.key_span) {
                    entry.key = (*name).to_owned();
                }
                rename(&mut entry.value, renames);
            }
        }
        _ => {}
    }
}

struct Walker<'a, 'p> {
    root: &'a Schema,
    problems: &'p mut Vec<Diagnostic>,
    renames: HashMap<Span, &'a str>,
}

impl<'a> Walker<'a, '_> {
    fn report(&mut self, span: Span, message: String, help: Option<String>) {
        let problem = Diagnostic::error(message).at(span);
        self.problems.push(Diagnostic { help, ..problem });
    }

    fn value(&mut self, schema: &'a Schema, node: &Node, key: Option<&Entry>) {
        let shape = Shape::of(schema, self.root);
        match &node.value {
            Value::Null => self.null(&shape, node, key),
            Value::Bool(_) if shape.boolean => {}
            Value::Number(_) if shape.integer.is_some() => self.integer(&shape, node, key),
            Value::Number(_) if shape.number.is_some() => self.number(&shape, node),
            Value::Text(text) if shape.choices.contains(&text.as_str()) => {}
            Value::Text(text) if shape.text.is_some() => self.text(&shape, node, text),
            Value::Text(text) if !shape.choices.is_empty() => self.choice(&shape, node, text),
            Value::List(items) => match shape.list {
                Some((schema, least)) => {
                    if (items.len() as u64) < least {
                        self.report(
                            node.span,
                            "the list is empty".into(),
                            Some("write at least one value".into()),
                        );
                    }
                    items.iter().for_each(|item| self.value(schema, item, None));
                }
                None => self.mismatch(&shape, node, key),
            },
            Value::Map(entries) => self.map(&shape, node, entries, key),
            _ => self.mismatch(&shape, node, key),
        }
    }

    /// A section or a list whose lines are all commented out is an empty one.
    fn null(&mut self, shape: &Shape<'a>, node: &Node, key: Option<&Entry>) {
        if shape.keys.is_some() {
            return self.map(shape, node, &[], key);
        }
        let is_list = shape.list.is_some_and(|(_, least)| least == 0) && shape.text.is_none();
        if shape.any_key.is_some() || is_list {
            return;
        }
        let name = key.map_or("this item".into(), |entry| format!("`{}`", excerpt(&entry.key)));
        self.report(node.span, format!("{name} has no value"), Some(format!("write {}", shape.expected())));
    }

    fn number(&mut self, shape: &Shape<'a>, node: &Node) {
        let Some((least, most)) = shape.number else { return };
        if !node.number().is_some_and(|number| (least..=most).contains(&number)) {
            let message = format!("{} is out of range", node.describe());
            self.report(node.span, message, Some(format!("write a number from {least} to {most}")));
        }
    }

    fn integer(&mut self, shape: &Shape<'a>, node: &Node, key: Option<&Entry>) {
        let Some((least, most)) = shape.integer else { return };
        let Some(number) = node.integer() else {
            let share = node.number().filter(|number| most == 100 && *number > 0.0 && *number < 1.0);
            let help = share.map(|share| format!("it is in percent: write `{}`", (share * 100.0).round()));
            return self.report(node.span, format!("{} is not a whole number", node.describe()), help);
        };
        let is_size = matches!(shape.text, Some(Some("size" | "size_or_none" | "size_or_auto")));
        if is_size && u64::try_from(number).is_ok() {
            return;
        }
        if number == 0 && least > 0 && key.is_some_and(|entry| entry.key == "weight") {
            let help = format!("remove the endpoint, or write a weight from {least} to {most}");
            return self.report(node.span, "with a weight of 0 it would get no request".into(), Some(help));
        }
        if !(least..=most).contains(&number) {
            let message = format!("{} is out of range", node.describe());
            let mut help = format!("write a number from {least} to {most}");
            if number == 0 && !shape.choices.is_empty() {
                help.push_str(&format!(", or {}", listed(shape.choices.iter().copied(), "or")));
            }
            self.report(node.span, message, Some(help));
        }
    }

    fn text(&mut self, shape: &Shape<'a>, node: &Node, text: &str) {
        let Some(Some(format)) = shape.text else { return };
        if let Err(problem) = format::check(format, text) {
            self.report(node.span, problem.message, problem.help);
        }
    }

    fn choice(&mut self, shape: &Shape<'a>, node: &Node, text: &str) {
        let message = format!("`{}` is not a valid value: expected {}", excerpt(text), shape.expected());
        self.report(node.span, message, self.meant(shape, text));
    }

    /// What was probably meant by a plain word that is not one of the choices.
    fn meant(&self, shape: &Shape<'a>, text: &str) -> Option<String> {
        let write = |name: &str| Some(format!("write `{name}`"));
        if let Some(name) = synonyms::value(text, &shape.choices) {
            return write(name);
        }
        // A word that needs a value, and the value of such a word: `header`, and `account_id` for `{ context: account_id }`.
        for (name, schema, _) in shape.keys.iter().flat_map(|keys| &keys.known) {
            if *name == text {
                return Some(format!("write `{{ {name}: … }}`"));
            }
            if Shape::of(schema, self.root).choices.contains(&text) {
                return Some(format!("write `{{ {name}: {text} }}`"));
            }
        }
        if synonyms::snake_case(text).ends_with("status_codes") && shape.choices.contains(&"gateway_error") {
            return Some("name the statuses in `statuses`, as in `[425]`".into());
        }
        nearest(text, shape.choices.iter().copied()).and_then(write)
    }

    fn mismatch(&mut self, shape: &Shape<'a>, node: &Node, key: Option<&Entry>) {
        let message = format!("expected {}, found {}", shape.expected(), node.describe());
        self.report(node.span, message, self.repair(shape, node, key));
    }

    /// What was probably meant by a value of the wrong type.
    fn repair(&self, shape: &Shape<'a>, node: &Node, key: Option<&Entry>) -> Option<String> {
        let scalar = match &node.value {
            Value::Number(raw) => Some(raw.clone()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Text(text) => Some(excerpt(text)),
            _ => None,
        };
        let name = key.map_or("", |entry| entry.key.as_str());
        match (&node.value, shape.text) {
            (Value::Number(raw), Some(Some(format))) if format.starts_with("duration") => {
                return Some(format!("add a unit: `{raw}s` or `{raw}ms`"));
            }
            (Value::Number(raw), Some(Some("hedge_after"))) => {
                return Some(format!("write `p{raw}` for a quantile, or `{raw}ms`"));
            }
            (Value::Number(raw), Some(Some("listen_address" | "socket_address" | "host_port"))) => {
                return Some(format!("write `127.0.0.1:{raw}`"));
            }
            (Value::Number(_) | Value::Bool(_), Some(None)) => {
                return scalar.map(|raw| format!("put it in quotes: `\"{raw}\"`"));
            }
            (Value::List(items), Some(_)) if items.len() == 1 && shape.list.is_none() => {
                return Some("write the value without the brackets".into());
            }
            _ => {}
        }
        if matches!(node.value, Value::Map(_)) {
            let (items, _) = shape.list?;
            let of_mappings = Shape::of(items, self.root);
            let takes = of_mappings.keys.is_some() || of_mappings.any_key.is_some();
            return takes.then(|| "write it as a list: `[{ … }]`, or `- ` before its first key".into());
        }
        let scalar = scalar?;
        if let (Value::Text(text), Some(keys)) = (&node.value, &shape.keys)
            && keys.names().any(|name| name == text)
        {
            return Some(format!("write `{{ {text}: … }}`"));
        }
        if let Value::Number(raw) = &node.value
            && raw.len() == 3
            && shape.choices.contains(&"gateway_error")
        {
            return Some(format!("name statuses in `statuses: [{raw}]`"));
        }
        if shape.boolean {
            let meant = nearest_boolean(&scalar)?;
            return Some(format!("write `{meant}`"));
        }
        if shape.list.is_some() {
            return Some(format!("write `[{scalar}]`"));
        }
        let is_number = shape.integer.is_some() || shape.number.is_some();
        if is_number
            && (scalar.parse::<u32>().is_ok() || shape.number.is_some() && scalar.parse::<f64>().is_ok())
        {
            return Some(format!("write it without quotes: `{scalar}`"));
        }
        if let Some(percent) =
            scalar.strip_suffix('%').filter(|rest| is_number && rest.parse::<f64>().is_ok())
        {
            return Some(format!("write it without the sign: `{percent}`"));
        }
        match &shape.keys {
            Some(keys) if keys.exactly_one && shape.choices.is_empty() => {
                keys.known.first().map(|(first, _, _)| format!("write `{{ {first}: {scalar} }}`"))
            }
            Some(keys) if keys.names().any(|name| name == "status") => None,
            Some(keys) if name == "tls" => Some(format!("write its keys: {}", listed(keys.names(), "and"))),
            Some(keys) => keys
                .names()
                .find(|name| {
                    matches!(
                        *name,
                        "address" | "request" | "limit" | "after" | "policy" | "cluster" | "path" | "name"
                    )
                })
                .map(|first| format!("write `{{ {first}: {scalar} }}`")),
            None => None,
        }
    }

    fn map(&mut self, shape: &Shape<'a>, node: &Node, entries: &[Entry], key: Option<&Entry>) {
        if let Some(schema) = shape.any_key {
            return entries.iter().for_each(|entry| self.value(schema, &entry.value, Some(entry)));
        }
        let Some(keys) = &shape.keys else { return self.mismatch(shape, node, key) };
        for entry in entries {
            match keys.known.iter().find(|(name, _, _)| *name == entry.key) {
                Some((_, schema, _)) => self.value(schema, &entry.value, Some(entry)),
                None => self.unknown(shape, keys, entry, entries),
            }
        }
        if shape.is_choice(keys) {
            self.exactly_one(keys, node, entries);
        } else {
            self.missing(keys, node, entries, key);
        }
    }

    fn unknown(&mut self, shape: &Shape<'a>, keys: &Keys<'a>, entry: &Entry, entries: &[Entry]) {
        let is_helped = self.problems.len() < HELPED_MAX;
        let synonym = synonyms::key(&entry.key, keys.names());
        let elsewhere = synonym.is_none().then(|| synonyms::elsewhere(&entry.key, keys.names())).flatten();
        let near = || (is_helped && elsewhere.is_none()).then(|| nearest(&entry.key, keys.names())).flatten();
        let near = synonym.or_else(near);
        let word = plain_word(shape, entry).filter(|_| synonym.is_none());
        let help = match near {
            _ if word.is_some() => format!("write `{}`, without a mapping", word.unwrap_or_default()),
            Some(name) if entries.iter().any(|other| other.key == name) => {
                format!("`{name}` is already here: remove this one")
            }
            Some(name) => format!("write `{name}`"),
            None if elsewhere.is_some() => elsewhere.unwrap_or_default().to_owned(),
            None if keys.known.is_empty() => "nothing can be set here".into(),
            None => format!("the keys here are {}", listed(keys.names(), "and")),
        };
        self.report(entry.key_span, format!("unknown key `{}`", excerpt(&entry.key)), Some(help));
        let free = near.filter(|name| !entries.iter().any(|other| other.key == *name));
        if let Some((name, schema, _)) = keys.known.iter().find(|(name, _, _)| Some(*name) == free) {
            self.renames.insert(entry.key_span, name);
            self.value(schema, &entry.value, Some(entry));
        }
    }

    fn exactly_one(&mut self, keys: &Keys<'a>, node: &Node, entries: &[Entry]) {
        let known = entries.iter().filter(|entry| keys.names().any(|name| name == entry.key));
        let written: Vec<&Entry> = known.collect();
        let names = listed(keys.names(), "and");
        match written.as_slice() {
            [] if entries.is_empty() => {
                let one_of = if keys.known.len() == 1 { "" } else { "one of " };
                self.report(node.span, format!("{one_of}{names} is missing"), None);
            }
            [first, second, ..] => {
                let message = format!("`{}` and `{}` exclude each other", first.key, second.key);
                self.report(second.key_span, message, Some(format!("write exactly one of {names}")));
            }
            _ => {}
        }
    }

    fn missing(&mut self, keys: &Keys<'a>, node: &Node, entries: &[Entry], key: Option<&Entry>) {
        let absent = |name: &str| !entries.iter().any(|entry| entry.key == name);
        // A key that is misspelt is reported as unknown; that it is missing too would say the same twice.
        let misspelt = |name: &str| {
            let unknown = entries.iter().filter(|entry| !keys.names().any(|known| known == entry.key));
            unknown.into_iter().any(|entry| nearest(&entry.key, [name]).is_some())
        };
        for (name, schema, _) in keys.known.iter().filter(|(_, _, is_required)| *is_required) {
            if absent(name) && !misspelt(name) {
                let place = key.map_or(String::new(), |entry| format!(" in `{}`", excerpt(&entry.key)));
                let expected = Shape::of(schema, self.root).expected();
                let help = format!("add `{name}: …` ({expected})");
                self.report(node.span, format!("`{name}` is missing{place}"), Some(help));
            }
        }
    }
}

/// The plain word that was meant by a mapping: `path` for `{ path: true }`, `account_id` for `{ context: account_id }`.
fn plain_word<'a>(shape: &Shape<'a>, entry: &Entry) -> Option<&'a str> {
    let find = |word: &str| shape.choices.iter().copied().find(|choice| *choice == word);
    find(&entry.key).or_else(|| find(entry.value.text()?))
}

fn nearest_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "on" | "y" | "1" | "true" | "enabled" => Some(true),
        "no" | "off" | "n" | "0" | "false" | "disabled" | "none" => Some(false),
        _ => None,
    }
}
