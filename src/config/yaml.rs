//! YAML text to [`Node`].
//!
//! Bounds: nesting, nodes, and what aliases may copy, so that no file (a billion laughs, a million brackets) costs more
//! than a fixed amount of memory. Refused with a reason: tags, merge keys, mappings as keys, a second document,
//! duplicate keys. A syntax error ends the reading, because what follows cannot be understood.

use std::collections::HashMap;

use serde_yaml::granit_parser::{self, Event, Marker, Parser, ScalarStyle, StrInput, StructureStyle};

use super::diagnostics::Diagnostic;
use super::node::{self, Entry, Node, Span, Value};

/// Nested collections of one kind (block or flow).
const NESTING_MAX: usize = 32;
/// Values of one document.
const NODES_MAX: usize = 1_000_000;
/// Values that all aliases together may copy.
const COPIED_NODES_MAX: usize = 20_000;
/// Bytes of text that all aliases together may copy.
const COPIED_BYTES_MAX: usize = 4 << 20;

/// Reads one document. `Ok(None)`: there is none. `problems` gets what does not stop the reading (duplicate keys).
pub fn read(text: &str, problems: &mut Vec<Diagnostic>) -> Result<Option<Node>, Diagnostic> {
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: NESTING_MAX,
        block_nesting_limit: NESTING_MAX,
    };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut reader =
        Reader { parser, problems, anchors: HashMap::new(), nodes: 0, copied_nodes: 0, copied_bytes: 0 };
    let mut document = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(document),
            Event::DocumentStart(..) if document.is_some() => {
                return Err(Diagnostic::error("a second YAML document").at(here(&span.start, 3)).help(
                    "a configuration is one document: remove `---` and what follows it, or make it a file of its own",
                ));
            }
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            event => document = Some(reader.node(event, span, None)?),
        }
    }
}

/// The parser, and what has been read so far.
struct Reader<'t, 'p> {
    parser: Parser<'t, StrInput<'t>>,
    problems: &'p mut Vec<Diagnostic>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    copied_nodes: usize,
    copied_bytes: usize,
}

fn here(mark: &Marker, length: usize) -> Span {
    Span { line: mark.line(), column: mark.col() + 1, length }
}

/// The parser's words, and what to do about the ones that people meet most.
fn syntax(info: &str) -> (String, Option<&'static str>) {
    let help = if info.contains("recursion limit") {
        return (format!("more than {NESTING_MAX} levels of brackets or indentation"), None);
    } else if info.contains("tabs disallowed") {
        Some("indent with spaces")
    } else if info.contains("mapping values are not allowed") {
        Some("put a text that contains `: ` in quotes, or begin the mapping on a line of its own")
    } else if info.contains("unknown anchor") {
        Some(
            "an alias (`*name`) needs an anchor (`&name`) before it; a text that begins with `*` needs quotes",
        )
    } else if info.contains("did not find expected key") {
        Some("keys of one mapping begin in the same column")
    } else {
        None
    };
    (info.to_owned(), help)
}

/// The part of a parser's span that is on its first line.
fn first_line(span: &granit_parser::Span) -> Span {
    let same_line = span.start.line() == span.end.line();
    let length = if same_line { span.end.col().saturating_sub(span.start.col()) } else { 1 };
    here(&span.start, length)
}

impl<'t> Reader<'t, '_> {
    fn next(&mut self) -> Result<(Event<'t>, granit_parser::Span), Diagnostic> {
        match self.parser.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let (message, help) = syntax(&error.info());
                let problem =
                    Diagnostic::error(format!("YAML syntax: {message}")).at(here(error.marker(), 1));
                Err(Diagnostic { help: help.map(str::to_owned), ..problem })
            }
            None => Ok((Event::StreamEnd, granit_parser::Span::default())),
        }
    }

    fn node(
        &mut self,
        event: Event<'t>,
        span: granit_parser::Span,
        key: Option<Span>,
    ) -> Result<Node, Diagnostic> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let message = format!("more than {NODES_MAX} values in one file");
            return Err(Diagnostic::error(message).at(first_line(&span)));
        }
        let (value, anchor, block) = match event {
            Event::Alias(id) => return self.alias(id, first_line(&span)),
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.is_some(), &span)?;
                let value = match style {
                    ScalarStyle::Plain => node::plain(&text),
                    _ => Value::Text(text.into_owned()),
                };
                let block = matches!(value, Value::Null) && span.is_empty();
                (value, anchor, block)
            }
            Event::SequenceStart(style, anchor, tag) => {
                refuse_tag(tag.is_some(), &span)?;
                (self.list()?, anchor, style == StructureStyle::Block)
            }
            Event::MappingStart(style, anchor, tag) => {
                refuse_tag(tag.is_some(), &span)?;
                (self.map()?, anchor, style == StructureStyle::Block)
            }
            _ => return Err(Diagnostic::error("YAML syntax: a value is missing").at(first_line(&span))),
        };
        let own = first_line(&span);
        let node = Node { span: if block { key.unwrap_or(own) } else { own }, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
            self.charge(&node)?;
        }
        Ok(node)
    }

    fn list(&mut self) -> Result<Value, Diagnostic> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                return Ok(Value::List(items));
            }
            items.push(self.node(event, span, None)?);
        }
    }

    fn map(&mut self) -> Result<Value, Diagnostic> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, Span> = HashMap::new();
        let mut merged: Vec<Entry> = Vec::new(); // so that later checks see what was meant
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                entries.extend(merged.into_iter().filter(|entry| !seen.contains_key(&entry.key)));
                return Ok(Value::Map(entries));
            }
            let key_span = first_line(&span);
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = key_text(event, key_span)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, Some(key_span))?;
            if is_merge {
                let problem = Diagnostic::error("merge keys (`<<`) are not part of YAML 1.2");
                self.problems
                    .push(problem.at(key_span).help("write the keys out, or use an alias as a whole value"));
                merged = value.entries().to_vec();
            } else if let Some(first) = seen.get(&key) {
                let problem = Diagnostic::error(format!("key `{}` is written twice", node::excerpt(&key)));
                self.problems.push(
                    problem.at(key_span).help(format!("it is already on line {}: keep one", first.line)),
                );
            } else {
                seen.insert(key.clone(), key_span);
                entries.push(Entry { key, key_span, value });
            }
        }
    }

    /// Copies what the alias names. The bounds on copies bound the depth of the tree too, since every level that an
    /// alias adds has to be copied again with the next.
    fn alias(&mut self, id: usize, span: Span) -> Result<Node, Diagnostic> {
        let Some(node) = self.anchors.get(&id).cloned() else {
            return Err(Diagnostic::error("an alias inside of what it names").at(span));
        };
        self.charge(&node).map_err(|problem| problem.at(span))?;
        Ok(node)
    }

    fn charge(&mut self, node: &Node) -> Result<(), Diagnostic> {
        let (nodes, bytes) = weight(node);
        self.copied_nodes += nodes;
        self.copied_bytes += bytes;
        if self.copied_nodes > COPIED_NODES_MAX || self.copied_bytes > COPIED_BYTES_MAX {
            let message = "the aliases (`*name`) of this file expand to too much";
            return Err(Diagnostic::error(message)
                .at(node.span)
                .help(format!("at most {COPIED_NODES_MAX} values and 4 MiB may be repeated by aliases")));
        }
        Ok(())
    }
}

/// Values in a tree, and bytes of text.
fn weight(node: &Node) -> (usize, usize) {
    let (mut nodes, mut bytes) = (1, 0);
    let mut add = |part: (usize, usize), text: usize| {
        nodes += part.0;
        bytes += part.1 + text;
    };
    match &node.value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(text) | Value::Text(text) => add((0, 0), text.len()),
        Value::List(items) => items.iter().for_each(|item| add(weight(item), 0)),
        Value::Map(entries) => entries.iter().for_each(|entry| add(weight(&entry.value), entry.key.len())),
    }
    (nodes, bytes)
}

fn key_text(event: Event<'_>, span: Span) -> Result<String, Diagnostic> {
    match event {
        Event::Scalar(text, _, 0, None) if !text.is_empty() => Ok(text.into_owned()),
        Event::Scalar(text, ..) if text.is_empty() => Err(Diagnostic::error("a key is empty").at(span)),
        Event::Scalar(..) => Err(Diagnostic::error("a key with an anchor or a tag").at(span)),
        _ => Err(Diagnostic::error("a key must be a text, not a list, a mapping or an alias").at(span)),
    }
}

fn refuse_tag(is_tagged: bool, span: &granit_parser::Span) -> Result<(), Diagnostic> {
    if !is_tagged {
        return Ok(());
    }
    let at = span.tag_span().map_or_else(|| first_line(span), |tag| first_line(&tag));
    Err(Diagnostic::error("YAML tags are not supported").at(at).help("write the value without `!…`"))
}
