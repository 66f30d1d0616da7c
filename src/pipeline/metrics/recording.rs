//! What a scrape says of the recorder.

use super::registry::Registry;
use super::text::{Kind, Page};
use crate::record::Recorder;

impl Registry {
    /// Tells who records. Said once, at start.
    pub fn watch_recorder(&self, recorder: &Recorder) {
        let _ = self.recorder.set(recorder.clone());
    }

    pub(super) fn render_recording(&self, page: &mut Page) {
        let Some(status) = self.recorder.get().map(Recorder::status) else { return };
        if status.directory.is_none() {
            return;
        }
        let books = &status.books;
        page.family("sidelight_recording_on", Kind::Gauge, "Whether exchanges are recorded.");
        page.number(&[], u64::from(status.is_on));
        let help =
            "What became of the exchanges that ended while recording was on; the results add up to seen.";
        page.family("sidelight_recording_exchanges", Kind::Counter, help);
        let results = [
            ("seen", books.seen),
            ("recorded", books.recorded),
            ("sampled_out", books.sampled_out),
            ("filtered", books.filtered),
            ("dropped", books.dropped_total()),
        ];
        for (result, count) in results {
            page.number(&[("result", result)], count);
        }
        page.family(
            "sidelight_recording_dropped",
            Kind::Counter,
            "Exchanges that are missing in the recording.",
        );
        for (reason, count) in &books.dropped {
            page.number(&[("reason", reason)], *count);
        }
        page.family("sidelight_recording_pending", Kind::Gauge, "Exchanges on their way to the recording.");
        page.number(&[], books.pending);
        page.family(
            "sidelight_recording_held_bytes",
            Kind::Gauge,
            "Memory of exchanges that are being recorded.",
        );
        page.number(&[], status.held_bytes.0 as u64);
    }
}
