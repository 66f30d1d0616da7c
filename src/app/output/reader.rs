//! The thread that reads one of the application's outputs.
//!
//! What: it waits for bytes, splits them into lines, finds the exchange of those that name one, and hands each to the pipeline,
//! in order. A pipeline that is full is waited for; meanwhile nothing is read, the pipe fills, and the application waits in its
//! `write`, as it would for any slow reader: nothing is lost. After `stall_max` lines are dropped and counted until there is
//! room, so that it is held up for a bounded time.
//! How it fails: a read error ends it, told in the log.

use super::echo::Echo;
use super::lines::{Line, Lines};
use super::{Accept, Incoming};
use crate::pipeline::app_log::{
    Context, Counters, Exchanges, OUTPUT_SCHEMA, Parsed, SCHEMA, Stats, Stream, Told, add, parse,
};
use crate::pipeline::spool::Class;
use serde_json::json;
use std::collections::HashMap;
use std::io::PipeReader;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long a full pipeline is left alone before it is asked again; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_micros(200);
const PAUSE_MAX: Duration = Duration::from_millis(10);
/// The application ended: so long without a byte, and nothing more is expected from a pipe that others hold open.
const QUIET: Duration = Duration::from_millis(100);
/// The application ended: for at most so long what others write into its pipe is read.
const AFTER_END_MAX: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Reader {
    pub(super) stream: Stream,
    pub(super) pipe: PipeReader,
    /// Closed on the other side when the application has ended.
    pub(super) ended: PipeReader,
    pub(super) lines: Lines,
    pub(super) echo: Option<Echo>,
    pub(super) exchanges: Option<Arc<Exchanges>>,
    pub(super) accept: Accept,
    pub(super) stats: Arc<Stats>,
    pub(super) gate: Gate,
}

/// Whether lines are waited with, or dropped.
pub(super) struct Gate {
    pub(super) stall_max: Duration,
    /// Lines that were dropped since the pipeline last had room.
    dropped: u64,
}

impl Gate {
    pub(super) fn new(stall_max: Duration) -> Gate {
        Gate { stall_max, dropped: 0 }
    }
}

/// What a look at the pipe found.
enum Found {
    Bytes,
    Nothing,
    Ended,
}

impl Reader {
    /// Reads to the end.
    pub(super) fn run(mut self) {
        let mut spans = Vec::new();
        let mut ended_at: Option<Instant> = None;
        loop {
            let is_over = ended_at.is_some_and(|at| at.elapsed() > AFTER_END_MAX);
            match self.look(ended_at.is_some()) {
                Found::Ended => {
                    ended_at.get_or_insert_with(Instant::now);
                    continue;
                }
                Found::Bytes if !is_over => {}
                Found::Bytes | Found::Nothing => {
                    let stream = self.stream.as_str();
                    tracing::warn!(
                        stream,
                        "the application ended, and another process holds its output open"
                    );
                    break;
                }
            }
            match self.lines.read(&mut self.pipe, &mut spans) {
                Ok(0) => break,
                Ok(count) => add(&self.counters().bytes, count as u64),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let stream = self.stream.as_str();
                    tracing::error!(stream, %error, "the application's output cannot be read");
                    break;
                }
            }
            self.tell(&spans);
            spans.clear();
            self.lines.settle();
        }
        self.lines.end(&mut spans);
        self.tell(&spans);
        self.tell_dropped();
    }

    fn counters(&self) -> &Counters {
        self.stats.of(self.stream)
    }

    /// Waits for bytes, for the end of the application, or after it for a moment.
    fn look(&self, has_ended: bool) -> Found {
        let entry = |fd: &PipeReader| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut polls = [entry(&self.pipe), entry(&self.ended)];
        let (count, wait) = if has_ended { (1, QUIET.as_millis() as i32) } else { (2, -1) };
        // SAFETY: as many entries as there are, alive for the call.
        let ready = unsafe { libc::poll(polls.as_mut_ptr(), count, wait) };
        let [pipe, ended] = polls;
        if pipe.revents != 0 {
            Found::Bytes
        } else if !has_ended && ended.revents != 0 {
            Found::Ended
        } else if ready == 0 {
            Found::Nothing
        } else {
            // Interrupted, or no poll at all: the read waits.
            Found::Bytes
        }
    }

    /// Hands lines over.
    fn tell(&mut self, spans: &[Line]) {
        if spans.is_empty() {
            return;
        }
        let observed = SystemTime::now();
        let parsed: Vec<Parsed<'_>> =
            spans.iter().map(|span| parse(self.lines.get(*span), span.cut_bytes)).collect();
        let contexts = self.exchanges.as_deref().map(|exchanges| contexts(exchanges, &parsed));
        let counters = self.stats.of(self.stream);
        for (at, (line, span)) in parsed.iter().zip(spans).enumerate() {
            add(&counters.lines, 1);
            if span.cut_bytes > 0 {
                add(&counters.truncated, 1);
            }
            if let Some(echo) = &mut self.echo {
                echo.line(self.lines.get(*span));
            }
            let context = contexts.as_ref().and_then(|contexts| contexts.get(at)?.as_deref());
            let told = Told { stream: self.stream, observed, context };
            let make =
                || Incoming { schema: SCHEMA, class: line.class(), at: observed, json: line.event(&told) };
            if !self.gate.pass(&self.accept, self.stream, make) {
                add(&counters.dropped, 1);
            }
        }
        if let Some(echo) = &mut self.echo {
            echo.flush();
            add(&counters.unprinted, std::mem::take(&mut echo.unprinted));
        }
    }

    fn tell_dropped(&mut self) {
        self.gate.report(&self.accept, self.stream);
    }
}

impl Gate {
    /// Hands an event over; `false`: it was dropped.
    fn pass(&mut self, accept: &Accept, stream: Stream, make: impl Fn() -> Incoming) -> bool {
        if accept(make()) {
            if self.dropped > 0 {
                self.report(accept, stream);
            }
            return true;
        }
        if self.dropped == 0 {
            let deadline = Instant::now() + self.stall_max;
            let mut pause = PAUSE_MIN;
            while Instant::now() < deadline {
                std::thread::sleep(pause);
                pause = (pause * 2).min(PAUSE_MAX);
                if accept(make()) {
                    return true;
                }
            }
            let stall_ms = self.stall_max.as_millis() as u64;
            let stream = stream.as_str();
            tracing::warn!(stream, stall_ms, "the pipeline is full: lines of the application are dropped");
        }
        self.dropped += 1;
        false
    }

    /// Says how many were dropped, once there is room again.
    fn report(&mut self, accept: &Accept, stream: Stream) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped == 0 {
            return;
        }
        let stream = stream.as_str();
        tracing::warn!(stream, dropped, "lines of the application were dropped");
        let event = json!({
            "timestamp": crate::pipeline::encode::rfc3339(SystemTime::now()),
            "severity_text": "WARN",
            "severity_number": 13,
            "body": "lines of the application were dropped: the pipeline was full",
            "log.iostream": stream,
            "sidelight.app_output.dropped": dropped,
        });
        // Where even this does not fit, the metrics say it.
        let _ = accept(Incoming {
            schema: OUTPUT_SCHEMA,
            class: Class::Event,
            at: SystemTime::now(),
            json: event.to_string().into_bytes(),
        });
    }
}

/// The exchange of each line that names one, with one wait for all that are in doubt.
fn contexts(exchanges: &Exchanges, parsed: &[Parsed<'_>]) -> Vec<Option<Arc<Context>>> {
    let mut known = HashMap::new();
    for line in parsed.iter().filter(|line| !line.ids.is_empty()) {
        known.entry(&line.ids).or_insert_with_key(|ids| exchanges.find(ids));
    }
    if known.values().any(Option::is_none) {
        exchanges.catch_up();
        for (ids, context) in known.iter_mut().filter(|(_, context)| context.is_none()) {
            *context = exchanges.find(ids);
        }
    }
    parsed.iter().map(|line| known.get(&line.ids).cloned().flatten()).collect()
}
