//! Where a replay is: a bar on a terminal, plain lines elsewhere.

use crate::replay::Progress;
use crate::replay::verdict::micros;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often a plain line is written.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Tells people, on stderr.
pub(super) struct Reporter {
    bar: Option<ProgressBar>,
    last: Instant,
}

impl Reporter {
    pub(super) fn new() -> Reporter {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = ProgressStyle::with_template("{elapsed} [{bar:32}] {msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Reporter { bar, last: Instant::now() }
    }

    pub(super) fn tell(&mut self, progress: &Progress) {
        let Progress { seconds, total, handed, ended, failed, in_flight, p99_us, lag_p99_us, rate } =
            progress;
        let of = total.map(|total| format!("/{total}")).unwrap_or_default();
        let trying = rate.map(|rate| format!(", trying {rate:.0}/s")).unwrap_or_default();
        let text = format!(
            "{handed}{of} sent, {ended} answered, {failed} failed, {in_flight} under way, p99 {}, send lag p99 {}{trying}",
            micros(*p99_us),
            micros(*lag_p99_us)
        );
        match &self.bar {
            Some(bar) => {
                if let Some(total) = total {
                    bar.set_length(*total);
                    bar.set_position((*handed).min(*total));
                }
                bar.set_message(text);
            }
            None if self.last.elapsed() >= LINE_EVERY => {
                self.last = Instant::now();
                eprintln!("{seconds:.0}s: {text}");
            }
            None => {}
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
