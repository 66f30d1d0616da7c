//! What an SDK sent, through the receiver, the pipeline's events and the OTLP sink, is what a collector gets.

use super::*;
use crate::pipeline::otlp_receiver::intake::{Outcome, Signal, take};
use crate::pipeline::sinks::http::tests::server::{Reply, Server, serve_h2};
use crate::pipeline::sinks::otlp::tests::{Source, service};
use crate::pipeline::sinks::otlp::{Config as SinkConfig, OtlpSink};
use crate::pipeline::sinks::sink::Sink;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::prelude::*;
use prost::Message;
use std::path::Path;
use std::time::{Duration, Instant};

/// A message goes in, and comes out at a collector.
fn through<M: Message + Default>(signal: Signal, message: &M) -> M {
    let (store, put) = Store::new(100_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(take(signal, &message.encode_to_vec(), &put));
    assert_eq!(outcome, Outcome::Taken { rejected: 0, message: "" });
    let events: Vec<Vec<u8>> = store.take().iter().map(with_head).collect();
    for event in &events {
        serde_json::from_slice::<serde_json::Value>(event).unwrap();
    }
    let batch = Source::new().batch(&events);
    let (seen, messages) = std::sync::mpsc::channel();
    let server = Server::start(move |stream| {
        let seen = seen.clone();
        serve_h2(stream, move |asked| {
            seen.send(asked.body).unwrap();
            Reply { status: 200, trailers: vec![("grpc-status", "0".into())], ..Reply::default() }
        });
    });
    let config = SinkConfig::to(&server.url());
    let mut sink = OtlpSink::new(&config, &service(), Path::new("/"), None).unwrap();
    let sent = sink.send(&batch, Instant::now() + Duration::from_secs(20)).unwrap();
    assert_eq!((sent.through, sent.passed_over, sent.rejected.len()), (batch.last_sequence(), 0, 0));
    M::decode(&messages.try_recv().unwrap()[5..]).unwrap()
}

fn double() -> impl Strategy<Value = f64> {
    // That a number is none is one value; what its bits are is not kept.
    prop_oneof![
        any::<f64>().prop_filter("a number", |number| !number.is_nan()),
        Just(0.0),
        Just(5.0),
        Just(f64::INFINITY)
    ]
}

fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        Just(None),
        ".{0,8}".prop_map(|text| Some(Any::StringValue(text))),
        any::<bool>().prop_map(|flag| Some(Any::BoolValue(flag))),
        any::<i64>().prop_map(|number| Some(Any::IntValue(number))),
        double().prop_map(|number| Some(Any::DoubleValue(number))),
        prop::collection::vec(any::<u8>(), 0..8).prop_map(|bytes| Some(Any::BytesValue(bytes))),
    ]
    .prop_map(|value| AnyValue { value });
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3)
                .prop_map(|values| AnyValue { value: Some(Any::ArrayValue(ArrayValue { values })) }),
            prop::collection::vec(("[@a-c]{0,2}|@bytes|@double", inner), 0..3).prop_map(|pairs| {
                let values = pairs.into_iter().map(|(key, value)| pair(key, value)).collect();
                AnyValue { value: Some(Any::KvlistValue(KeyValueList { values })) }
            }),
        ]
    })
}

fn pair(key: String, value: AnyValue) -> KeyValue {
    KeyValue { key, value: Some(value), ..KeyValue::default() }
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    prop::collection::btree_map("[@a-z.\"é]{0,5}|@bytes", any_value(), 0..4)
        .prop_map(|all| all.into_iter().map(|(key, value)| pair(key, value)).collect())
}

fn resource() -> impl Strategy<Value = Option<Resource>> {
    let some = (attributes(), any::<u32>()).prop_map(|(attributes, dropped_attributes_count)| Resource {
        attributes,
        dropped_attributes_count,
        ..Resource::default()
    });
    prop::option::of(some)
}

fn scope() -> impl Strategy<Value = Option<InstrumentationScope>> {
    let some =
        (".{0,4}", ".{0,4}", attributes(), any::<u32>()).prop_map(|(name, version, attributes, dropped)| {
            InstrumentationScope { name, version, attributes, dropped_attributes_count: dropped }
        });
    prop::option::of(some)
}

fn id(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), len).prop_map(|mut id| {
        if let Some(last) = id.last_mut() {
            *last |= 1;
        }
        id
    })
}

fn maybe_id(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(Vec::new()), id(len)]
}

prop_compose! {
    fn event()(time_unix_nano: u64, name in ".{0,6}", attributes in attributes(), dropped_attributes_count: u32) -> Event {
        Event { time_unix_nano, name, attributes, dropped_attributes_count }
    }
}

prop_compose! {
    fn link()(trace_id in id(16), span_id in id(8), trace_state in ".{0,6}", attributes in attributes(), dropped_attributes_count: u32, flags: u32) -> Link {
        Link { trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags }
    }
}

prop_compose! {
    fn span()(
        ids in (id(16), id(8), maybe_id(8)),
        texts in (".{0,6}", ".{0,6}"),
        numbers in (any::<u32>(), -2..9_i32, any::<u64>(), any::<u64>()),
        attributes in attributes(),
        events in prop::collection::vec(event(), 0..3),
        links in prop::collection::vec(link(), 0..3),
        dropped in any::<[u32; 3]>(),
        status in prop::option::of((".{0,6}", -1..5_i32)),
    ) -> Span {
        Span {
            trace_id: ids.0,
            span_id: ids.1,
            parent_span_id: ids.2,
            trace_state: texts.0,
            name: texts.1,
            flags: numbers.0,
            kind: numbers.1,
            start_time_unix_nano: numbers.2,
            end_time_unix_nano: numbers.3,
            attributes,
            events,
            links,
            dropped_attributes_count: dropped[0],
            dropped_events_count: dropped[1],
            dropped_links_count: dropped[2],
            status: status.map(|(message, code)| Status { message, code }),
        }
    }
}

prop_compose! {
    fn record()(
        ids in (maybe_id(16), maybe_id(8)),
        texts in (".{0,6}", ".{0,6}"),
        numbers in (any::<u64>(), any::<u64>(), any::<i32>(), any::<u32>(), any::<u32>()),
        body in prop::option::of(any_value()),
        attributes in attributes(),
    ) -> LogRecord {
        LogRecord {
            trace_id: ids.0,
            span_id: ids.1,
            severity_text: texts.0,
            event_name: texts.1,
            time_unix_nano: numbers.0,
            observed_time_unix_nano: numbers.1,
            severity_number: numbers.2,
            flags: numbers.3,
            dropped_attributes_count: numbers.4,
            body,
            attributes,
        }
    }
}

fn number() -> impl Strategy<Value = Option<Number>> {
    prop_oneof![
        Just(None),
        any::<i64>().prop_map(|number| Some(Number::AsInt(number))),
        double().prop_map(|number| Some(Number::AsDouble(number)))
    ]
}

prop_compose! {
    fn exemplar()(filtered_attributes in attributes(), time_unix_nano: u64, span_id in maybe_id(8), trace_id in maybe_id(16), number in number()) -> Exemplar {
        let value = number.map(|number| match number {
            Number::AsInt(number) => exemplar::Value::AsInt(number),
            Number::AsDouble(number) => exemplar::Value::AsDouble(number),
        });
        Exemplar { filtered_attributes, time_unix_nano, span_id, trace_id, value }
    }
}

prop_compose! {
    fn point()(attributes in attributes(), times in any::<[u64; 2]>(), exemplars in prop::collection::vec(exemplar(), 0..2), flags: u32, value in number()) -> NumberDataPoint {
        NumberDataPoint { attributes, start_time_unix_nano: times[0], time_unix_nano: times[1], exemplars, flags, value }
    }
}

prop_compose! {
    fn histogram()(point in point(), count: u64, extent in prop::array::uniform3(prop::option::of(double())), bucket_counts in prop::collection::vec(any::<u64>(), 0..3), explicit_bounds in prop::collection::vec(double(), 0..3)) -> HistogramDataPoint {
        let NumberDataPoint { attributes, start_time_unix_nano, time_unix_nano, exemplars, flags, .. } = point;
        let [sum, min, max] = extent;
        HistogramDataPoint { attributes, start_time_unix_nano, time_unix_nano, count, sum, bucket_counts, explicit_bounds, exemplars, flags, min, max }
    }
}

prop_compose! {
    fn exponential()(of in histogram(), scale: i32, zero_count: u64, buckets in prop::array::uniform2(prop::option::of((any::<i32>(), prop::collection::vec(any::<u64>(), 0..3)))), zero_threshold in double()) -> ExponentialHistogramDataPoint {
        let HistogramDataPoint { attributes, start_time_unix_nano, time_unix_nano, count, sum, exemplars, flags, min, max, .. } = of;
        let [positive, negative] = buckets.map(|of| of.map(|(offset, bucket_counts)| Buckets { offset, bucket_counts }));
        // Zero with a sign is zero: proto3 has no other default.
        let zero_threshold = if zero_threshold == 0.0 { 0.0 } else { zero_threshold };
        ExponentialHistogramDataPoint { attributes, start_time_unix_nano, time_unix_nano, count, sum, scale, zero_count, positive, negative, flags, exemplars, min, max, zero_threshold }
    }
}

prop_compose! {
    fn summary()(of in histogram(), sum in double(), quantiles in prop::collection::vec((double(), double()), 0..3)) -> SummaryDataPoint {
        let HistogramDataPoint { attributes, start_time_unix_nano, time_unix_nano, count, flags, .. } = of;
        let quantile_values = quantiles.into_iter().map(|(quantile, value)| ValueAtQuantile { quantile, value }).collect();
        SummaryDataPoint { attributes, start_time_unix_nano, time_unix_nano, count, sum, quantile_values, flags }
    }
}

fn data() -> impl Strategy<Value = Data> {
    let of = 1..3_usize;
    let temporality = -1..4_i32;
    prop_oneof![
        prop::collection::vec(point(), of.clone()).prop_map(|data_points| Data::Gauge(Gauge { data_points })),
        (prop::collection::vec(point(), of.clone()), temporality.clone(), any::<bool>()).prop_map(
            |(data_points, aggregation_temporality, is_monotonic)| Data::Sum(Sum {
                data_points,
                aggregation_temporality,
                is_monotonic
            })
        ),
        (prop::collection::vec(histogram(), of.clone()), temporality.clone()).prop_map(
            |(data_points, aggregation_temporality)| Data::Histogram(Histogram {
                data_points,
                aggregation_temporality
            })
        ),
        (prop::collection::vec(exponential(), of.clone()), temporality).prop_map(
            |(data_points, aggregation_temporality)| {
                Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality })
            }
        ),
        prop::collection::vec(summary(), of).prop_map(|data_points| Data::Summary(Summary { data_points })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn spans(resource in resource(), scope in scope(), spans in prop::collection::vec(span(), 1..3), urls in (".{0,3}", ".{0,3}")) {
        let scope_spans = vec![ScopeSpans { scope, spans, schema_url: urls.0 }];
        let message = ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource, scope_spans, schema_url: urls.1 }] };
        prop_assert_eq!(through(Signal::Traces, &message), message);
    }

    #[test]
    fn log_records(resource in resource(), scope in scope(), log_records in prop::collection::vec(record(), 1..3), urls in (".{0,3}", ".{0,3}")) {
        let scope_logs = vec![ScopeLogs { scope, log_records, schema_url: urls.0 }];
        let message = ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { resource, scope_logs, schema_url: urls.1 }] };
        prop_assert_eq!(through(Signal::Logs, &message), message);
    }

    #[test]
    fn metrics(resource in resource(), scope in scope(), texts in prop::array::uniform3(".{0,4}"), metadata in attributes(), data in data()) {
        let [name, description, unit] = texts;
        let metrics = vec![Metric { name, description, unit, metadata, data: Some(data) }];
        let scope_metrics = vec![ScopeMetrics { scope, metrics, schema_url: String::new() }];
        let message = ExportMetricsServiceRequest { resource_metrics: vec![ResourceMetrics { resource, scope_metrics, schema_url: String::new() }] };
        prop_assert_eq!(through(Signal::Metrics, &message), message);
    }
}

#[test]
fn an_attribute_that_is_there_twice_counts_once_and_is_counted() {
    let text = |value: &str| AnyValue { value: Some(Any::StringValue(value.into())) };
    let attributes =
        vec![pair("a".into(), text("first")), pair("a".into(), text("second")), pair("b".into(), text(""))];
    let span = Span {
        trace_id: vec![1; 16],
        span_id: vec![1; 8],
        attributes,
        dropped_attributes_count: 4,
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let message = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }],
    };
    let found = &through(Signal::Traces, &message).resource_spans[0].scope_spans[0].spans[0];
    assert_eq!(found.attributes, [pair("a".into(), text("first")), pair("b".into(), text(""))]);
    assert_eq!(found.dropped_attributes_count, 5);
}
