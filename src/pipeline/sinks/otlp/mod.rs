//! OTLP: to an OpenTelemetry Collector, or to any backend that speaks its protocol
//! (<https://opentelemetry.io/docs/specs/otlp/>, 1.x; gRPC, or Protocol Buffers over HTTP).
//!
//! What: exchanges and attempts as spans, every other event as a log record, the application's own telemetry as what it
//! was, and the proxy's metrics at an interval. Why spans are written straight from the event's members: it is the one
//! thing here that is done for every request (`benches/otlp.rs`); see `proto`, `span`, `log`.
//!
//! - `part`: a message that grows; `call`: the call and what its answer means; `app`: the application's telemetry
//! - `resource`: who the telemetry is about; `clock`: its times; `metrics`: the registry, cumulative
//!
//! How it fails: what the specification calls retryable comes again; credentials that are refused too, since that is not
//! the events' fault. What is refused is refused as a batch, and split by the caller. One batch may be three calls: what
//! was taken is remembered, and left out when the batch comes again. A *partial success* tells how many were rejected, and
//! not which: the last ones are reported, as a guess; their number is exact. A kind of telemetry that the other side does
//! not know is rejected event by event, and does not hold up the others. Metrics are no events: a snapshot that fails is
//! followed by a later one, which has everything.

mod app;
mod call;
mod clock;
mod config;
mod log;
mod metrics;
mod part;
mod proto;
mod resource;
mod span;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use app::{CODES, KINDS, TEMPORALITIES};
pub use config::{Config, Protocol};
#[doc(hidden)]
pub use part::Encoder;
#[doc(hidden)]
pub use span::Became;

use super::http::{HttpClient, Protocol as Http};
use super::sink::{Failure, Pace, Sent, Sink};
use crate::pipeline::event;
use crate::pipeline::metrics::Registry;
use crate::pipeline::spool::Batch;
use crate::pipeline::{Service, encode};
use app::App;
use call::{Caller, PREFIX_BYTES, Signal, Verdict};
use metrics::Snapshots;
use part::{Form, Frame, Part};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the receiver calls the application's telemetry.
pub(crate) const APP_SPAN: &str = "sidelight/app_span/1";
/// See [`APP_SPAN`].
pub(crate) const APP_LOG: &str = "sidelight/app_log/1";
/// See [`APP_SPAN`].
pub(crate) const APP_METRIC: &str = "sidelight/app_metric/1";

/// See the module.
pub(crate) struct OtlpSink {
    pace: Pace,
    /// Which kinds go out, by [`Signal`].
    is_on: [bool; 3],
    caller: Caller,
    frame: Frame,
    parts: [Part; 3],
    /// Up to which event each kind was taken, while the batch as a whole was not.
    taken: [Option<u64>; 3],
    /// What was rejected of a batch that is not settled yet.
    rejected: Vec<(u64, String)>,
    /// Something was taken: the endpoint is one for OTLP.
    is_endpoint_known: bool,
    snapshots: Option<Snapshots>,
}

impl OtlpSink {
    /// Makes no connection yet. Files are read; relative paths start at `base_dir`. `registry`: the metrics that are sent.
    ///
    /// # Errors
    /// What is wrong with the configuration, and what to write instead.
    pub(crate) fn new(
        config: &Config,
        about: &Service,
        base_dir: &Path,
        registry: Option<Arc<Registry>>,
    ) -> Result<OtlpSink, String> {
        config.check()?;
        let is_grpc = config.protocol == Protocol::Grpc;
        let http = if is_grpc { Http::Http2 } else { Http::Http1 };
        let client = HttpClient::new(&config.endpoint, config.tls.as_ref(), base_dir, http)
            .map_err(|why| format!("`endpoint`: {why}"))?;
        let pace = Pace { events_max: config.batch_events_max, timeout: config.timeout, ..Pace::default() };
        let registry = registry.filter(|_| config.metrics);
        Ok(OtlpSink {
            pace,
            is_on: [config.traces, config.logs, config.metrics],
            caller: Caller::new(client, is_grpc, config.all_headers(base_dir)?),
            frame: Frame::new(about),
            parts: Default::default(),
            taken: [None; 3],
            rejected: Vec::new(),
            is_endpoint_known: false,
            snapshots: registry.map(|registry| Snapshots::new(registry, about, config.metrics_interval)),
        })
    }

    /// Writes the events of a batch into the messages. Returns how many have no form here, and which are no events.
    fn sort(&mut self, batch: &Batch) -> (u64, Vec<(u64, String)>) {
        let (mut passed_over, mut malformed) = (0, Vec::new());
        self.parts.iter_mut().for_each(Part::clear);
        let mut app = App::default();
        for event in batch.events() {
            let (signal, form) = kind_of(event.payload);
            let index = signal as usize;
            let is_taken =
                self.taken.get(index).copied().flatten().is_some_and(|through| event.sequence <= through);
            if is_taken {
                continue;
            }
            let (Some(part), true) = (self.parts.get_mut(index), self.is_on.get(index) == Some(&true)) else {
                passed_over += 1;
                continue;
            };
            let became = match form {
                Some(form) => part.push(&mut self.frame, form, event.sequence, event.payload),
                None => {
                    let is_taken = match signal {
                        Signal::Traces => app.push_span(event.payload),
                        Signal::Logs => app.push_log(event.payload),
                        Signal::Metrics => app.push_metric(event.payload),
                    };
                    if is_taken {
                        part.sequences.push(event.sequence);
                    }
                    if is_taken { Became::Written } else { Became::Malformed }
                }
            };
            match became {
                Became::Written => {}
                Became::Nothing => passed_over += 1,
                Became::Malformed => {
                    malformed.push((event.sequence, "it is not an event that can be read".into()))
                }
            }
        }
        let [traces, logs, metrics] = &mut self.parts;
        [&mut *traces, &mut *logs, &mut *metrics].into_iter().for_each(Part::finish);
        if let Some(spans) = app.spans() {
            traces.append(&spans);
        }
        if let Some(records) = app.logs() {
            logs.append(&records);
        }
        if let Some(points) = app.metrics() {
            metrics.append(&points);
        }
        (passed_over, malformed)
    }

    /// Sends one of the messages.
    fn export(&mut self, signal: Signal, last: u64, deadline: Instant) -> Result<(), Failure> {
        let Some(Part { out, sequences, .. }) = self.parts.get_mut(signal as usize) else { return Ok(()) };
        if sequences.is_empty() {
            return Ok(());
        }
        match self.caller.export(signal, out, deadline) {
            Verdict::Failed(failure) => return Err(failure),
            Verdict::Unknown(reason) => {
                // A kind that is not taken there is settled; an endpoint that knows no kind at all is a mistake in the
                // configuration, which must not send everything to the dead letters. Messages without content tell.
                let mut others = Signal::ALL.into_iter().filter(|other| *other != signal);
                self.is_endpoint_known = self.is_endpoint_known
                    || others.any(|other| {
                        matches!(
                            self.caller.export(other, &mut vec![0; PREFIX_BYTES], deadline),
                            Verdict::Taken { .. }
                        )
                    });
                if !self.is_endpoint_known {
                    let reason = format!("{reason}: nothing of OTLP is known there; is the endpoint right?");
                    return Err(Failure::retry(reason));
                }
                self.rejected.extend(sequences.iter().map(|sequence| (*sequence, reason.clone())));
            }
            Verdict::Taken { rejected: 0, message } => {
                if !message.is_empty() {
                    tracing::debug!(signal = signal.name(), %message, "the OTLP receiver took a batch, and says");
                }
            }
            Verdict::Taken { rejected, message } if rejected >= sequences.len() as u64 => {
                return Err(Failure::refused(format!("{}: rejected: {message}", signal.name())));
            }
            Verdict::Taken { rejected, message } => {
                // Which ones is not said; the last ones are as good as any.
                let count = usize::try_from(rejected).unwrap_or(usize::MAX).min(sequences.len());
                let reason = format!(
                    "{}: {rejected} of {} rejected, not known which: {message}",
                    signal.name(),
                    sequences.len()
                );
                let last = sequences.iter().rev().take(count).rev();
                self.rejected.extend(last.map(|sequence| (*sequence, reason.clone())));
            }
        }
        self.is_endpoint_known = true;
        if let Some(taken) = self.taken.get_mut(signal as usize) {
            *taken = Some(last);
        }
        Ok(())
    }

    fn send_metrics(&mut self, deadline: Instant) {
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.send(&mut self.caller, deadline);
        }
    }
}

/// What an event is, and how it is written; `None`: as what the application sent.
fn kind_of(payload: &[u8]) -> (Signal, Option<Form>) {
    let schema = event::member(payload, "schema").and_then(event::Value::text);
    let is = |name: &str| schema.is_some_and(|schema| schema.raw() == name.as_bytes());
    match () {
        () if is(encode::EXCHANGE) || is(encode::SPAN) => (Signal::Traces, Some(Form::Span)),
        () if is(APP_SPAN) => (Signal::Traces, None),
        () if is(APP_METRIC) => (Signal::Metrics, None),
        () if is(APP_LOG) && app::is_of_otlp(payload) => (Signal::Logs, None),
        () => (Signal::Logs, Some(Form::Log)),
    }
}

impl Sink for OtlpSink {
    fn pace(&self) -> Pace {
        self.pace
    }

    fn send(&mut self, batch: &Batch, deadline: Instant) -> Result<Sent, Failure> {
        let Some(last) = batch.last_sequence() else { return Ok(Sent::nothing()) };
        let (passed_over, mut rejected) = self.sort(batch);
        for signal in Signal::ALL {
            self.export(signal, last, deadline)?;
        }
        self.send_metrics(deadline);
        for taken in &mut self.taken {
            *taken = taken.filter(|through| *through > last);
        }
        let settled = self.rejected.extract_if(.., |(sequence, _)| *sequence <= last);
        rejected.extend(settled);
        rejected.sort_by_key(|(sequence, _)| *sequence);
        Ok(Sent { through: Some(last), rejected, passed_over })
    }

    fn idle(&mut self, deadline: Instant) -> Result<Sent, Failure> {
        self.send_metrics(deadline);
        self.caller.idle();
        Ok(Sent::nothing())
    }

    fn close(&mut self, deadline: Instant) -> Result<Sent, Failure> {
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.make_due();
        }
        self.send_metrics(deadline.min(Instant::now() + Duration::from_secs(5)));
        Ok(Sent::nothing())
    }
}
