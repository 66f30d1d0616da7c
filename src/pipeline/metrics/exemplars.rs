//! Exemplars: for each bucket of a duration histogram a trace that fell into it
//! (<https://prometheus.io/docs/specs/om/open_metrics_spec/#exemplars>), so that a slow bucket leads to a slow trace.
//!
//! What: the pipeline's thread sees each record, and notes those whose trace is recorded (or kept): the last one that it met
//! first in a batch, for each series and bucket. They are given to the registry once a batch. Why not on the workers: what
//! counts an exchange there is on the request's path, and half of the exemplars would be overwritten before anybody looks.
//! Only OpenMetrics has them; Prometheus keeps them with `--enable-feature=exemplar-storage`.
//!
//! How it fails: at most as many series as the histograms have; what is counted into `_other` is an exemplar of `_other`. An
//! event that the ring refused is none.

use super::block::{Key, LocalKey};
use super::histogram::{DURATION_BOUNDS, Durations};
use super::registry::{Registry, SERIES_MAX, lock};
use crate::exchange::Record;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Buckets of a histogram of durations.
pub(super) const BUCKETS: usize = DURATION_BOUNDS.len() + 1;

/// Entries of the thread's own table. Reloads leave some behind, as in the workers' tables.
const LOCAL_SERIES_MAX: usize = 4 * SERIES_MAX;

/// An exchange that stands for its bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Exemplar {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    /// How long it took.
    pub(super) nanos: u64,
    /// When it ended.
    pub(super) at: SystemTime,
}

/// Those of one series.
pub(super) type Row = [Option<Exemplar>; BUCKETS];

/// Those of all series, as a scrape finds them.
pub(super) type Table = HashMap<Key, Row, foldhash::fast::RandomState>;

/// The side of the pipeline's thread.
pub struct Exemplars {
    registry: Arc<Registry>,
    known: HashMap<LocalKey, Series, foldhash::fast::RandomState>,
    noted: Vec<(Key, usize, Exemplar)>,
    /// What was noted lately: most records of a batch fall into a bucket that has one.
    lately: Vec<Lately>,
    /// The number of this batch; never 0.
    batch: u64,
}

/// Places of [`Exemplars::lately`], as a power of two.
const LATELY_BITS: u32 = 6;

/// The buckets of a series that were noted in a batch.
#[derive(Clone, Copy)]
struct Lately {
    key: LocalKey,
    batch: u64,
    /// A bit for each.
    buckets: u32,
}

/// A series, with the labels whose addresses name it.
struct Series {
    key: Key,
    /// Clones of the record's own labels: they are kept alive, so that no other text can get the address.
    _labels: [Option<Arc<str>>; 3],
    /// In which batch each bucket was last noted.
    noted: [u64; BUCKETS],
}

impl Exemplars {
    /// Nothing is noted yet.
    pub fn new(registry: Arc<Registry>) -> Exemplars {
        Exemplars { registry, known: HashMap::default(), noted: Vec::new(), lately: Vec::new(), batch: 1 }
    }

    /// An exchange ended.
    #[inline]
    pub fn note(&mut self, record: &Record) {
        let is_recorded = record.trace.is_sampled() || record.kept_by.is_some();
        if is_recorded && !record.is_opaque && record.trace.trace_id != [0; 16] {
            self.add(record);
        }
    }

    fn add(&mut self, record: &Record) {
        let local = LocalKey::of(record);
        let nanos = u64::try_from(record.duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = Durations::bucket_of(nanos);
        if let Some(lately) = self.lately.get_mut(local.place(LATELY_BITS))
            && lately.batch == self.batch
            && lately.key == local
        {
            if lately.buckets & 1 << bucket != 0 {
                return;
            }
            lately.buckets |= 1 << bucket;
        } else {
            self.remember(local, bucket);
        }
        if self.known.len() >= LOCAL_SERIES_MAX && !self.known.contains_key(&local) {
            self.known.clear();
            // Its addresses are kept alive there.
            self.lately.clear();
        }
        let registry = &self.registry;
        let series = self.known.entry(local).or_insert_with(|| Series::new(registry, record));
        let Some(last) = series.noted.get_mut(bucket).filter(|last| **last != self.batch) else { return };
        *last = self.batch;
        let at = record.started_at.checked_add(record.duration).unwrap_or(UNIX_EPOCH);
        let (trace_id, span_id) = (record.trace.trace_id, record.trace.parent_id);
        self.noted.push((series.key.clone(), bucket, Exemplar { trace_id, span_id, nanos, at }));
    }

    fn remember(&mut self, key: LocalKey, bucket: usize) {
        let lately = Lately { key, batch: self.batch, buckets: 1 << bucket };
        if self.lately.is_empty() {
            self.lately = vec![Lately { batch: 0, ..lately }; 1 << LATELY_BITS];
        }
        if let Some(place) = self.lately.get_mut(key.place(LATELY_BITS)) {
            *place = lately;
        }
    }

    /// The batch is over: scrapes find what was noted.
    pub fn publish(&mut self) {
        if self.noted.is_empty() {
            return;
        }
        self.batch += 1;
        let mut table = lock(&self.registry.exemplars);
        for (key, bucket, exemplar) in self.noted.drain(..) {
            // The two series of what is beyond the cap are there in any case.
            if table.len() >= SERIES_MAX + 2 && !table.contains_key(&key) {
                continue;
            }
            if let Some(place) = table.entry(key).or_insert([None; BUCKETS]).get_mut(bucket) {
                *place = Some(exemplar);
            }
        }
    }
}

impl Series {
    fn new(registry: &Registry, record: &Record) -> Series {
        let key = Key::of(record);
        // Its worker has counted it before, so its series is there, unless there were too many.
        let key = if registry.series.contains_key(&key) { key } else { Key::other(record.direction) };
        let labels = [record.cluster.clone(), record.route.clone(), record.pattern.clone()];
        Series { key, _labels: labels, noted: [0; BUCKETS] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::TraceParent;
    use crate::exchange::Direction;
    use crate::pipeline::metrics::{Format, block};
    use crate::pipeline::{Accounts, Service};
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn registry() -> Arc<Registry> {
        let blocks = vec![Arc::<block::Block>::default()];
        Arc::new(Registry::new(Service::default(), blocks, Accounts::default()))
    }

    fn record(cluster: &Arc<str>, trace: u8, millis: u64) -> Record {
        let mut record = Record::new();
        record.direction = Direction::Outbound;
        record.cluster = Some(Arc::clone(cluster));
        record.method = record.store(b"GET");
        record.status = 200;
        record.trace = TraceParent { version: 0, trace_id: [trace; 16], parent_id: [trace; 8], flags: 1 };
        record.started_at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 - millis);
        record.duration = Duration::from_millis(millis);
        record
    }

    /// The exemplars of a page by cluster and bound, every line of which is held to the rules of OpenMetrics.
    fn exemplars(page: &str) -> BTreeMap<(String, String), (String, f64)> {
        let mut found = BTreeMap::new();
        let (mut lower, mut kind) = (0.0, String::new());
        for line in page.lines() {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                kind = family.rsplit(' ').next().unwrap().to_owned();
            }
            if line.starts_with('#') {
                continue;
            }
            let (sample, exemplar) =
                line.split_once(" # ").map_or((line, None), |(one, two)| (one, Some(two)));
            let label = |name: &str| {
                let value =
                    sample.split_once(&format!("{name}=\"")).map(|(_, rest)| rest.split('"').next().unwrap());
                value.unwrap_or_default().to_owned()
            };
            let bound: f64 = label("le").parse().unwrap_or(f64::NAN);
            if let Some(exemplar) = exemplar {
                assert!(kind == "histogram" && sample.contains("_bucket{"), "only buckets have them: {line}");
                let (labels, rest) = exemplar.strip_prefix('{').unwrap().split_once("} ").unwrap();
                let parts: Vec<&str> = labels.split(',').collect();
                let text = |part: &str, name: &str| {
                    part.strip_prefix(&format!("{name}=\"")).unwrap().strip_suffix('"').unwrap().to_owned()
                };
                let (trace, span) = (text(parts[0], "trace_id"), text(parts[1], "span_id"));
                let characters = trace.len() + span.len() + "trace_id".len() + "span_id".len();
                assert!(
                    parts.len() == 2 && characters <= 128 && trace.len() == 32 && span.len() == 16,
                    "{line}"
                );
                let numbers: Vec<f64> = rest.split(' ').map(|number| number.parse().unwrap()).collect();
                let [value, at] = numbers[..] else { panic!("value and timestamp: {line}") };
                assert!(value > lower && value <= bound, "{value} is not in the bucket: {line}");
                assert_eq!(at, 1_700_000_000.0);
                assert!(found.insert((label("sidelight_cluster"), label("le")), (trace, value)).is_none());
            }
            lower = if bound.is_infinite() || bound.is_nan() { 0.0 } else { bound };
        }
        found
    }

    #[test]
    fn each_bucket_has_the_last_trace_that_was_recorded() {
        let registry = registry();
        let (mut writer, mut noted) = (registry.writer(0), Exemplars::new(Arc::clone(&registry)));
        let (payments, stock): (Arc<str>, Arc<str>) = ("payments".into(), "stock".into());
        let mut quiet = record(&stock, 9, 3);
        quiet.trace = quiet.trace.with_sampled(false);
        let mut kept = record(&stock, 8, 20_000);
        kept.trace = kept.trace.with_sampled(false);
        kept.kept_by = Some(crate::context::sampling::KeptBy::Error);
        for batch in [
            vec![record(&payments, 1, 3), record(&payments, 2, 60)],
            vec![record(&payments, 3, 4), quiet, kept],
        ] {
            for record in &batch {
                writer.count(record);
                noted.note(record);
            }
            noted.publish();
        }
        let id = |byte: u8| format!("{byte:02x}").repeat(16);
        let key = |cluster: &str, bound: &str| (cluster.to_owned(), bound.to_owned());
        let want = BTreeMap::from([
            (key("payments", "0.005"), (id(3), 0.004)),
            (key("payments", "0.075"), (id(2), 0.06)),
            (key("stock", "+Inf"), (id(8), 20.0)),
        ]);
        assert_eq!(exemplars(&registry.render(Format::OpenMetrics)), want);
        let plain = registry.render(Format::Prometheus);
        assert!(!plain.contains("trace_id"), "the older format has none");
    }

    #[test]
    fn there_are_no_more_than_series() {
        let registry = registry();
        let (mut writer, mut noted) = (registry.writer(0), Exemplars::new(Arc::clone(&registry)));
        for number in 0..SERIES_MAX + 50 {
            let record = record(&format!("c{number}").into(), 1, 3);
            writer.count(&record);
            noted.note(&record);
            noted.publish();
        }
        let found = exemplars(&registry.render(Format::OpenMetrics));
        assert_eq!(found.len(), SERIES_MAX + 1);
        assert!(found.contains_key(&("_other".to_owned(), "0.005".to_owned())));
        // Reloads make the same labels again and again: they stay one series, and the table stays small.
        for _ in 0..3 * LOCAL_SERIES_MAX {
            noted.note(&record(&"c1".into(), 2, 3));
        }
        noted.publish();
        assert!(noted.known.len() <= LOCAL_SERIES_MAX);
        assert_eq!(exemplars(&registry.render(Format::OpenMetrics)).len(), SERIES_MAX + 1);
    }
}
