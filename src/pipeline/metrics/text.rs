//! The two text formats of a scrape: Prometheus text 0.0.4 and OpenMetrics 1.0.
//!
//! They differ in little: OpenMetrics names a counter's family without `_total` and an info's without `_info`, knows
//! units, and ends with a mark (<https://prometheus.io/docs/specs/om/open_metrics_spec/>). How it fails: it cannot.

use super::collect::{self, Family, Number};
use super::exemplars::Exemplar;
use super::histogram::Totals;
use crate::context::ids::{span_id_hex, trace_id_hex};
use std::fmt::Write;
use std::time::UNIX_EPOCH;

/// In which format a scrape is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` header asks for: OpenMetrics where it is named and plain text is not preferred.
    pub fn negotiate(accept: &str) -> Format {
        let (mut open, mut plain) = (0.0, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let quality =
                parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
            if media.eq_ignore_ascii_case("application/openmetrics-text") {
                open = f32::max(open, quality);
            } else if media.eq_ignore_ascii_case("text/plain") {
                plain = f32::max(plain, quality);
            }
        }
        if open > 0.0 && open >= plain { Format::OpenMetrics } else { Format::Prometheus }
    }

    /// The value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What kind of numbers a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only grows; samples end with `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, count and sum.
    Histogram,
    /// Always 1, with labels; samples end with `_info`.
    Info,
}

/// A label.
pub(in crate::pipeline) type Label<'a> = (&'a str, &'a str);

/// A scrape that is being written.
pub(in crate::pipeline) struct Page {
    out: String,
    format: Format,
    name: String,
    kind: Kind,
    /// Where the numbers go instead of into a text.
    pub(super) families: Option<Vec<Family>>,
}

impl Page {
    pub(in crate::pipeline) fn new(format: Format) -> Page {
        let out = String::with_capacity(32 * 1024);
        Page { out, format, name: String::new(), kind: Kind::Gauge, families: None }
    }

    /// Begins a family. `name` has no `_total` or `_info`; a unit is its last part.
    pub(in crate::pipeline) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        if let Some(families) = &mut self.families {
            return families.push(Family::new(name, kind, help));
        }
        self.name.clear();
        self.name.push_str(name);
        self.kind = kind;
        let (suffix, kind_name) = match (kind, self.format) {
            (Kind::Counter, Format::Prometheus) => ("_total", "counter"),
            (Kind::Counter, Format::OpenMetrics) => ("", "counter"),
            (Kind::Gauge, _) => ("", "gauge"),
            (Kind::Histogram, _) => ("", "histogram"),
            (Kind::Info, Format::Prometheus) => ("_info", "gauge"),
            (Kind::Info, Format::OpenMetrics) => ("", "info"),
        };
        // Writing into a String does not fail, here and below.
        let _ = writeln!(self.out, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind_name}");
        let unit = ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit));
        if let (Format::OpenMetrics, Some(unit)) = (self.format, unit) {
            let _ = writeln!(self.out, "# UNIT {name} {unit}");
        }
    }

    /// A whole number of the family.
    pub(in crate::pipeline) fn number(&mut self, labels: &[Label<'_>], value: u64) {
        if let Some(families) = &mut self.families {
            return collect::add(families, labels, Number::Int(value));
        }
        self.sample(self.suffix(), labels, None);
        let _ = writeln!(self.out, " {value}");
    }

    /// A fraction of the family.
    pub(in crate::pipeline) fn fraction(&mut self, labels: &[Label<'_>], value: f64) {
        if let Some(families) = &mut self.families {
            return collect::add(families, labels, Number::Double(value));
        }
        self.sample(self.suffix(), labels, None);
        let _ = writeln!(self.out, " {value:?}");
    }

    /// The buckets, count and sum of a histogram. `scale` turns its unit into the family's.
    pub(super) fn histogram(&mut self, labels: &[Label<'_>], totals: &Totals, scale: f64) {
        self.histogram_with(labels, totals, scale, &[]);
    }

    /// The same with an exemplar for each bucket that has one; only OpenMetrics shows them.
    pub(super) fn histogram_with(
        &mut self,
        labels: &[Label<'_>],
        totals: &Totals,
        scale: f64,
        exemplars: &[Option<Exemplar>],
    ) {
        if let Some(families) = &mut self.families {
            return collect::add(families, labels, Number::histogram(totals, scale));
        }
        let exemplar = |bucket: usize| exemplars.get(bucket).copied().flatten();
        let mut cumulative = 0;
        for (bucket, (bound, count)) in totals.bounds.iter().zip(&totals.buckets).enumerate() {
            cumulative += count;
            let bound = format!("{:?}", *bound as f64 / scale);
            self.sample("_bucket", labels, Some(&bound));
            let _ = write!(self.out, " {cumulative}");
            self.end_bucket(exemplar(bucket), scale);
        }
        let count = totals.count();
        self.sample("_bucket", labels, Some("+Inf"));
        let _ = write!(self.out, " {count}");
        self.end_bucket(exemplar(totals.bounds.len()), scale);
        self.sample("_sum", labels, None);
        let _ = writeln!(self.out, " {:?}", totals.sum as f64 / scale);
        self.sample("_count", labels, None);
        let _ = writeln!(self.out, " {count}");
    }

    /// The end of a bucket's line.
    fn end_bucket(&mut self, exemplar: Option<Exemplar>, scale: f64) {
        if let Some(Exemplar { trace_id, span_id, nanos, at }) =
            exemplar.filter(|_| self.format == Format::OpenMetrics)
        {
            let (trace_id, span_id) = (trace_id_hex(&trace_id), span_id_hex(&span_id));
            let (trace_id, span_id) = (String::from_utf8_lossy(&trace_id), String::from_utf8_lossy(&span_id));
            let at = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as f64 / 1e3;
            let value = nanos as f64 / scale;
            let _ = write!(self.out, " # {{trace_id=\"{trace_id}\",span_id=\"{span_id}\"}} {value:?} {at:?}");
        }
        self.out.push('\n');
    }

    /// A histogram out of how many values are at or below each bound.
    pub(in crate::pipeline) fn buckets(
        &mut self,
        labels: &[Label<'_>],
        cumulative: impl IntoIterator<Item = (f64, u64)>,
        sum: f64,
        count: u64,
    ) {
        if self.families.is_some() {
            // Families that are drawn in one tool's own names have no other form.
            return;
        }
        for (bound, here) in cumulative {
            let bound = format!("{bound:?}");
            self.sample("_bucket", labels, Some(&bound));
            let _ = writeln!(self.out, " {}", here.min(count));
        }
        self.sample("_bucket", labels, Some("+Inf"));
        let _ = writeln!(self.out, " {count}");
        self.sample("_sum", labels, None);
        let _ = writeln!(self.out, " {sum:?}");
        self.sample("_count", labels, None);
        let _ = writeln!(self.out, " {count}");
    }

    fn suffix(&self) -> &'static str {
        match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        }
    }

    /// Name and labels. A label without a value is the same as none, and left out.
    fn sample(&mut self, suffix: &str, labels: &[Label<'_>], le: Option<&str>) {
        self.out.push_str(&self.name);
        self.out.push_str(suffix);
        let mut before = '{';
        let bound = le.map(|le| ("le", le));
        for (name, value) in labels.iter().copied().chain(bound).filter(|(_, value)| !value.is_empty()) {
            self.out.push(before);
            before = ',';
            self.out.push_str(name);
            self.out.push_str("=\"");
            for char in value.chars() {
                match char {
                    '\\' => self.out.push_str("\\\\"),
                    '"' => self.out.push_str("\\\""),
                    '\n' => self.out.push_str("\\n"),
                    other => self.out.push(other),
                }
            }
            self.out.push('"');
        }
        if before == ',' {
            self.out.push('}');
        }
    }

    /// The whole text.
    pub(in crate::pipeline) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_given_to_those_that_ask() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for (accept, want) in [
            (prometheus, Format::OpenMetrics),
            ("application/openmetrics-text; version=1.0.0", Format::OpenMetrics),
            ("text/plain, application/openmetrics-text;q=0.2", Format::Prometheus),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("", Format::Prometheus),
            ("text/html,;;q=", Format::Prometheus),
        ] {
            assert_eq!(Format::negotiate(accept), want, "{accept}");
        }
    }

    #[test]
    fn label_values_are_escaped() {
        let mut page = Page::new(Format::OpenMetrics);
        page.family("x", Kind::Counter, "X.");
        page.number(&[("a", "q\"b\\c\nd"), ("empty", "")], 1);
        page.number(&[], 2);
        assert_eq!(
            page.finish(),
            "# HELP x X.\n# TYPE x counter\nx_total{a=\"q\\\"b\\\\c\\nd\"} 1\nx_total 2\n# EOF\n"
        );
    }
}
