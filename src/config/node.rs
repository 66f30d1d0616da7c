//! A YAML document as a tree in which every key and value knows its line and column.
//!
//! Why an own tree: serde stops at the first problem and forgets where the others are. Values are typed by YAML 1.2's
//! core schema, so `no` and `on` are texts and only `true` and `false` are booleans.

/// Where something is written: from 1, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// Characters on that line; 0 at the end of the line.
    pub length: usize,
}

/// A value and where it is written.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where: the value itself; its key, where the value is a block or nothing.
    pub span: Span,
    /// What.
    pub value: Value,
}

/// What is written.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A plain number, as written.
    Number(String),
    /// Any other scalar.
    Text(String),
    /// `[…]` or `- …`.
    List(Vec<Node>),
    /// `{…}` or `key: …`.
    Map(Vec<Entry>),
}

/// One key of a mapping.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key is.
    pub key_span: Span,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// The value of `key`, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The entry of `key`, if this is a mapping that has it.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value below several keys.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The entries of a mapping; none for anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none for anything else.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, if it is one.
    pub fn integer(&self) -> Option<i128> {
        match &self.value {
            Value::Number(raw) => integer(raw),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn number(&self) -> Option<f64> {
        match &self.value {
            Value::Number(raw) => self.integer().map(|number| number as f64).or_else(|| raw.parse().ok()),
            _ => None,
        }
    }

    /// What it is, for a message: "the number `15`".
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Bool(value) => format!("the boolean `{value}`"),
            Value::Number(raw) => format!("the number `{}`", excerpt(raw)),
            Value::Text(text) => format!("the text `{}`", excerpt(text)),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }
}

/// A text short enough for a message, on one line.
pub fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let mut short: String =
        text.chars().take(CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

/// A whole number in the core schema's forms: `12`, `-3`, `0x1f`, `0o17`.
fn integer(raw: &str) -> Option<i128> {
    if let Some(hex) = raw.strip_prefix("0x") {
        return i128::from_str_radix(hex, 16).ok();
    }
    if let Some(octal) = raw.strip_prefix("0o") {
        return i128::from_str_radix(octal, 8).ok();
    }
    raw.parse().ok()
}

/// The value of a plain scalar (YAML 1.2.2 §10.3.2).
pub fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if is_number(text) => Value::Number(text.to_owned()),
        _ => Value::Text(text.to_owned()),
    }
}

fn is_number(text: &str) -> bool {
    let prefixed = text.starts_with("0x") || text.starts_with("0o");
    if prefixed {
        let digits = text.get(2..).unwrap_or_default();
        return !digits.starts_with(['+', '-']) && integer(text).is_some();
    }
    let starts = text.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit() || c == '.');
    starts && text.contains(|c: char| c.is_ascii_digit()) && text.parse::<f64>().is_ok()
}
