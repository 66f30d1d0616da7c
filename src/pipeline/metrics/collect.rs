//! A scrape as numbers: for those that say it in another form than text.
//!
//! What: the families that [`Registry::render`] writes, in the same order, with their labels and values; counters without
//! `_total`, units still in the names. Why out of the same walk: what is on `/metrics` and what is sent are the same
//! numbers, and a new family is written once. How it fails: it cannot.

use super::histogram::Totals;
use super::registry::Registry;
use super::text::{Format, Label, Page};

pub(crate) use super::text::Kind;

/// Numbers with one name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Family {
    /// Prometheus' name, without `_total` and `_info`; its unit is its last part.
    pub(crate) name: String,
    /// What kind of numbers.
    pub(crate) kind: Kind,
    /// One sentence.
    pub(crate) help: String,
    /// The numbers.
    pub(crate) points: Vec<Point>,
}

/// A number with its labels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    /// Names and values; a label without a value is left out.
    pub(crate) labels: Vec<(String, String)>,
    /// The number.
    pub(crate) number: Number,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Number {
    /// A whole number.
    Int(u64),
    /// A fraction.
    Double(f64),
    /// A histogram, in the unit of the family.
    Histogram {
        /// The upper bounds, without infinity.
        bounds: Vec<f64>,
        /// How many values in each bucket, the last above all bounds; not cumulative.
        counts: Vec<u64>,
        /// The sum of all values.
        sum: f64,
    },
}

impl Number {
    pub(super) fn histogram(totals: &Totals, scale: f64) -> Number {
        let bounds: Vec<f64> = totals.bounds.iter().map(|bound| *bound as f64 / scale).collect();
        let counts = totals.buckets.iter().take(bounds.len() + 1).copied().collect();
        Number::Histogram { bounds, counts, sum: totals.sum as f64 / scale }
    }
}

impl Family {
    pub(super) fn new(name: &str, kind: Kind, help: &str) -> Family {
        Family { name: name.into(), kind, help: help.into(), points: Vec::new() }
    }
}

/// Adds a number to the last family.
pub(super) fn add(families: &mut [Family], labels: &[Label<'_>], number: Number) {
    let labels = labels.iter().filter(|(_, value)| !value.is_empty());
    let labels = labels.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    if let Some(family) = families.last_mut() {
        family.points.push(Point { labels, number });
    }
}

impl Registry {
    /// Everything, as numbers.
    pub(crate) fn collect(&self) -> Vec<Family> {
        let mut page = Page::new(Format::OpenMetrics);
        page.families = Some(Vec::new());
        self.walk(&mut page);
        page.families.unwrap_or_default()
    }
}
