//! What a scrape says of the application's lines.

use super::registry::Registry;
use super::text::{Kind, Page};
use crate::pipeline::app_log::{Counters, Stats, Stream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

type Counter = fn(&Counters) -> &AtomicU64;

const COUNTERS: [(&str, &str, Counter); 5] = [
    ("sidelight_app_output_lines", "Lines that the application wrote.", |of| &of.lines),
    ("sidelight_app_output_bytes", "Bytes that the application wrote.", |of| &of.bytes),
    ("sidelight_app_output_dropped", "Lines that the pipeline had no room for.", |of| &of.dropped),
    ("sidelight_app_output_truncated", "Lines that were too long, and cut.", |of| &of.truncated),
    ("sidelight_app_output_unprinted", "Lines that nobody read where they are printed.", |of| &of.unprinted),
];

impl Registry {
    /// Tells where the lines of the application are counted. Said once, when there is one beside.
    pub fn watch_app_output(&self, stats: &Arc<Stats>) {
        let _ = self.app_output.set(Arc::clone(stats));
    }

    pub(super) fn render_app_output(&self, page: &mut Page) {
        let Some(stats) = self.app_output.get() else { return };
        for (name, help, counter) in COUNTERS {
            page.family(name, Kind::Counter, help);
            for stream in Stream::ALL {
                let value = counter(stats.of(stream)).load(Ordering::Relaxed);
                page.number(&[("stream", stream.as_str())], value);
            }
        }
    }
}
