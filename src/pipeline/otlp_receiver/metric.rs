//! A point of a metric as `sidelight/app_metric/1`.

use super::json::{self, Object};
use crate::pipeline::sinks::otlp::TEMPORALITIES;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint, SummaryDataPoint,
    exemplar, number_data_point,
};

/// How many points a metric has.
pub(super) fn points(metric: &Metric) -> usize {
    match &metric.data {
        None => 0,
        Some(Data::Gauge(of)) => of.data_points.len(),
        Some(Data::Sum(of)) => of.data_points.len(),
        Some(Data::Histogram(of)) => of.data_points.len(),
        Some(Data::ExponentialHistogram(of)) => of.data_points.len(),
        Some(Data::Summary(of)) => of.data_points.len(),
    }
}

/// When the point was taken, in nanoseconds since 1970.
pub(super) fn time(metric: &Metric, index: usize) -> u64 {
    let time = match &metric.data {
        None => None,
        Some(Data::Gauge(of)) => of.data_points.get(index).map(|point| point.time_unix_nano),
        Some(Data::Sum(of)) => of.data_points.get(index).map(|point| point.time_unix_nano),
        Some(Data::Histogram(of)) => of.data_points.get(index).map(|point| point.time_unix_nano),
        Some(Data::ExponentialHistogram(of)) => of.data_points.get(index).map(|point| point.time_unix_nano),
        Some(Data::Summary(of)) => of.data_points.get(index).map(|point| point.time_unix_nano),
    };
    time.unwrap_or(0)
}

/// The metric with one of its points.
pub(super) fn write(metric: &Metric, index: usize, object: &mut Object<'_>) {
    object.text("name", &metric.name);
    object.text("unit", &metric.unit);
    object.text("description", &metric.description);
    object.attributes("metadata", &metric.metadata);
    match &metric.data {
        None => {}
        Some(Data::Gauge(of)) => {
            object.text("type", "gauge");
            point(object, of.data_points.get(index), number);
        }
        Some(Data::Sum(of)) => {
            object.text("type", "sum");
            object.named("temporality", of.aggregation_temporality, &TEMPORALITIES);
            object.flag("is_monotonic", of.is_monotonic);
            point(object, of.data_points.get(index), number);
        }
        Some(Data::Histogram(of)) => {
            object.text("type", "histogram");
            object.named("temporality", of.aggregation_temporality, &TEMPORALITIES);
            point(object, of.data_points.get(index), histogram);
        }
        Some(Data::ExponentialHistogram(of)) => {
            object.text("type", "exponential_histogram");
            object.named("temporality", of.aggregation_temporality, &TEMPORALITIES);
            point(object, of.data_points.get(index), exponential);
        }
        Some(Data::Summary(of)) => {
            object.text("type", "summary");
            point(object, of.data_points.get(index), summary);
        }
    }
}

fn point<T>(object: &mut Object<'_>, point: Option<&T>, write: impl FnOnce(&T, &mut Object<'_>)) {
    if let Some(point) = point {
        object.object("point", |object| write(point, object));
    }
}

fn head(object: &mut Object<'_>, attributes: &[KeyValue], start: u64, time: u64, flags: u32) {
    object.attributes("attributes", attributes);
    object.unsigned("start_time_unix_nano", start);
    object.unsigned("time_unix_nano", time);
    object.unsigned("flags", flags);
}

fn number(point: &NumberDataPoint, object: &mut Object<'_>) {
    head(object, &point.attributes, point.start_time_unix_nano, point.time_unix_nano, point.flags);
    match point.value {
        Some(number_data_point::Value::AsInt(number)) => object.int("value", number),
        Some(number_data_point::Value::AsDouble(number)) => object.double("value", number),
        None => {}
    }
    object.array("exemplars", &point.exemplars, exemplar);
}

fn histogram(point: &HistogramDataPoint, object: &mut Object<'_>) {
    head(object, &point.attributes, point.start_time_unix_nano, point.time_unix_nano, point.flags);
    object.unsigned("count", point.count);
    extent(object, point.sum, point.min, point.max);
    counts(object, &point.bucket_counts);
    object.array("explicit_bounds", &point.explicit_bounds, |out, bound| json::double(out, *bound));
    object.array("exemplars", &point.exemplars, exemplar);
}

fn exponential(point: &ExponentialHistogramDataPoint, object: &mut Object<'_>) {
    head(object, &point.attributes, point.start_time_unix_nano, point.time_unix_nano, point.flags);
    object.unsigned("count", point.count);
    extent(object, point.sum, point.min, point.max);
    object.signed("scale", point.scale);
    object.unsigned("zero_count", point.zero_count);
    if point.zero_threshold != 0.0 {
        object.double("zero_threshold", point.zero_threshold);
    }
    let mut buckets = |name: &str, buckets: &Option<Buckets>| {
        if let Some(buckets) = buckets {
            object.object(name, |object| {
                object.signed("offset", buckets.offset);
                counts(object, &buckets.bucket_counts);
            });
        }
    };
    buckets("positive", &point.positive);
    buckets("negative", &point.negative);
    object.array("exemplars", &point.exemplars, exemplar);
}

fn summary(point: &SummaryDataPoint, object: &mut Object<'_>) {
    head(object, &point.attributes, point.start_time_unix_nano, point.time_unix_nano, point.flags);
    object.unsigned("count", point.count);
    object.double("sum", point.sum);
    object.array("quantiles", &point.quantile_values, |out, at| {
        json::object(out, |object| {
            object.double("quantile", at.quantile);
            object.double("value", at.value);
        });
    });
}

fn extent(object: &mut Object<'_>, sum: Option<f64>, min: Option<f64>, max: Option<f64>) {
    for (name, value) in [("sum", sum), ("min", min), ("max", max)] {
        if let Some(value) = value {
            object.double(name, value);
        }
    }
}

fn counts(object: &mut Object<'_>, counts: &[u64]) {
    object.array("bucket_counts", counts, |out, count| json::unsigned(out, *count));
}

fn exemplar(out: &mut Vec<u8>, exemplar: &Exemplar) {
    json::object(out, |object| {
        object.attributes("attributes", &exemplar.filtered_attributes);
        object.unsigned("time_unix_nano", exemplar.time_unix_nano);
        object.id("span_id", &exemplar.span_id);
        object.id("trace_id", &exemplar.trace_id);
        match exemplar.value {
            Some(exemplar::Value::AsInt(number)) => object.int("value", number),
            Some(exemplar::Value::AsDouble(number)) => object.double("value", number),
            None => {}
        }
    });
}
