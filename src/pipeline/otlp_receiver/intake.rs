//! From a message into the pipeline, event by event.

use super::{Incoming, Take, json, log, metric, span};
use crate::pipeline::sinks::otlp::{APP_LOG, APP_METRIC, APP_SPAN};
use crate::pipeline::spool::Class;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the rest of a message may wait for room.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(1);
/// How often it looks.
const ROOM_WAIT: Duration = Duration::from_millis(5);

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was taken, but for so many of its parts, and why.
    Taken { rejected: u64, message: &'static str },
    /// The pipeline is full; nothing was taken.
    Full,
    /// It is not what it should be; nothing was taken.
    Broken(String),
}

/// Which message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Logs,
    Metrics,
}

/// Takes a message, all of it or nothing as far as that can be; see the module's head.
pub(super) async fn take(signal: Signal, body: &[u8], take: &Take) -> Outcome {
    let mut offer = Offer { take, taken: 0, rejected: 0, message: "", waited: Duration::ZERO };
    let result = match signal {
        Signal::Traces => offer.traces(body).await,
        Signal::Logs => offer.logs(body).await,
        Signal::Metrics => offer.metrics(body).await,
    };
    match result {
        Err(error) => Outcome::Broken(format!("it is not an OTLP message: {error}")),
        Ok(false) => Outcome::Full,
        Ok(true) => Outcome::Taken { rejected: offer.rejected, message: offer.message },
    }
}

/// Why something is rejected.
const FULL: &str = "the pipeline is full";
const NO_IDS: &str = "a span needs a trace id of 16 bytes and a span id of 8, not all zero";
const NO_POINT: &str = "a metric without a type that is known";

struct Offer<'t> {
    take: &'t Take,
    taken: u64,
    rejected: u64,
    message: &'static str,
    waited: Duration,
}

impl Offer<'_> {
    /// Offers one event; `false`: nothing was taken yet, and there is no room.
    async fn event(
        &mut self,
        schema: &'static str,
        nanos: u64,
        mut members: impl FnMut(&mut json::Object<'_>),
    ) -> bool {
        let at = if nanos == 0 { SystemTime::now() } else { UNIX_EPOCH + Duration::from_nanos(nanos) };
        loop {
            let mut json = Vec::with_capacity(1024);
            json::object(&mut json, &mut members);
            if (self.take)(Incoming { schema, class: Class::Event, at, json }) {
                self.taken += 1;
                return true;
            }
            if self.taken == 0 {
                return false;
            }
            if self.waited >= ROOM_WAIT_MAX {
                self.reject(1, FULL);
                return true;
            }
            self.waited += ROOM_WAIT;
            tokio::time::sleep(ROOM_WAIT).await;
        }
    }

    fn reject(&mut self, count: u64, why: &'static str) {
        self.rejected += count;
        self.message = why;
    }

    async fn traces(&mut self, body: &[u8]) -> Result<bool, prost::DecodeError> {
        for group in ExportTraceServiceRequest::decode(body)?.resource_spans {
            let resource = json::resource(group.resource.as_ref(), &group.schema_url);
            for group in group.scope_spans {
                let scope = json::scope(group.scope.as_ref(), &group.schema_url);
                for each in &group.spans {
                    if !span::has_ids(each) {
                        self.reject(1, NO_IDS);
                        continue;
                    }
                    let members = |object: &mut json::Object<'_>| {
                        span::write(each, object);
                        object.raw("resource", &resource);
                        object.raw("scope", &scope);
                    };
                    if !self.event(APP_SPAN, each.start_time_unix_nano, members).await {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    async fn logs(&mut self, body: &[u8]) -> Result<bool, prost::DecodeError> {
        for group in ExportLogsServiceRequest::decode(body)?.resource_logs {
            let resource = json::resource(group.resource.as_ref(), &group.schema_url);
            for group in group.scope_logs {
                let scope = json::scope(group.scope.as_ref(), &group.schema_url);
                for each in &group.log_records {
                    let members = |object: &mut json::Object<'_>| {
                        log::write(each, object);
                        object.raw("resource", &resource);
                        object.raw("scope", &scope);
                    };
                    let nanos = if each.time_unix_nano == 0 {
                        each.observed_time_unix_nano
                    } else {
                        each.time_unix_nano
                    };
                    if !self.event(APP_LOG, nanos, members).await {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    async fn metrics(&mut self, body: &[u8]) -> Result<bool, prost::DecodeError> {
        for group in ExportMetricsServiceRequest::decode(body)?.resource_metrics {
            let resource = json::resource(group.resource.as_ref(), &group.schema_url);
            for group in group.scope_metrics {
                let scope = json::scope(group.scope.as_ref(), &group.schema_url);
                for each in &group.metrics {
                    if each.data.is_none() {
                        self.reject(1, NO_POINT);
                    }
                    for index in 0..metric::points(each) {
                        let members = |object: &mut json::Object<'_>| {
                            metric::write(each, index, object);
                            object.raw("resource", &resource);
                            object.raw("scope", &scope);
                        };
                        if !self.event(APP_METRIC, metric::time(each, index), members).await {
                            return Ok(false);
                        }
                    }
                }
            }
        }
        Ok(true)
    }
}
