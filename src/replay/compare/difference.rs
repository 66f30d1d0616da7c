//! One place where two answers differ.

use serde::Serialize;
use std::collections::HashSet;

/// Differences that are kept of one comparison; what is beyond becomes one, `_other`.
pub const DIFFERENCES_MAX: usize = 256;
/// Of an example's value.
pub const EXAMPLE_CHARS_MAX: usize = 200;

/// How two values differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The second has it not.
    Missing,
    /// Only the second has it.
    Added,
    /// Another type.
    Type,
    /// Another value.
    Value,
    /// Another number of elements.
    Count,
}

impl Kind {
    /// As in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Missing => "missing",
            Kind::Added => "added",
            Kind::Type => "type",
            Kind::Value => "value",
            Kind::Count => "count",
        }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where; indexes of arrays are `*`.
    pub path: String,
    /// How.
    pub kind: Kind,
    /// The first value, shortened.
    pub left: String,
    /// The second value, shortened.
    pub right: String,
}

/// What gathers differences: each path and kind once.
#[derive(Default)]
pub(super) struct Found {
    pub list: Vec<Difference>,
    known: HashSet<(String, Kind)>,
}

impl Found {
    /// Notes a difference, unless there is one of this path and kind.
    pub fn add(&mut self, path: &str, kind: Kind, left: &str, right: &str) {
        let (path, kind) = match self.list.len() < DIFFERENCES_MAX {
            true => (path, kind),
            false => ("_other", Kind::Value),
        };
        if !self.known.contains(&(path.to_owned(), kind)) {
            self.known.insert((path.to_owned(), kind));
            self.list.push(Difference {
                path: path.to_owned(),
                kind,
                left: shortened(left),
                right: shortened(right),
            });
        }
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.list.len() > DIFFERENCES_MAX
    }
}

/// The beginning of a text, on one line.
pub fn shortened(text: &str) -> String {
    let mut out: String =
        text.chars().take(EXAMPLE_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(EXAMPLE_CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}
