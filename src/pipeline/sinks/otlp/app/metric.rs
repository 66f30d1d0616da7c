//! `sidelight/app_metric/1`: one point of a metric.

use super::read::{self, Object};
use super::span::position;
use crate::pipeline::event::Value;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, Sum, Summary, SummaryDataPoint, exemplar, number_data_point,
};

/// `AggregationTemporality` by number, as events name it.
pub(crate) const TEMPORALITIES: [&str; 3] = ["unspecified", "delta", "cumulative"];

/// A point of any type.
pub(super) enum Point {
    Number(NumberDataPoint),
    Histogram(HistogramDataPoint),
    Exponential(ExponentialHistogramDataPoint),
    Summary(SummaryDataPoint),
}

/// The metric without points, and its point; `None`: its type is none that OTLP has.
pub(super) fn of(object: Object<'_>) -> Option<(Metric, Point)> {
    let point = object.object("point").unwrap_or(Object(b"{}"));
    let aggregation_temporality = position(object, "temporality", &TEMPORALITIES);
    let (data, point) = match object.text("type").as_str() {
        "gauge" => (Data::Gauge(Gauge::default()), Point::Number(number(point))),
        "sum" => {
            let is_monotonic = object.get("is_monotonic") == Some(Value::Bool(true));
            let sum = Sum { aggregation_temporality, is_monotonic, ..Sum::default() };
            (Data::Sum(sum), Point::Number(number(point)))
        }
        "histogram" => {
            let of = Histogram { aggregation_temporality, ..Histogram::default() };
            (Data::Histogram(of), Point::Histogram(histogram(point)))
        }
        "exponential_histogram" => {
            let of = ExponentialHistogram { aggregation_temporality, ..ExponentialHistogram::default() };
            (Data::ExponentialHistogram(of), Point::Exponential(exponential(point)))
        }
        "summary" => (Data::Summary(Summary::default()), Point::Summary(summary(point))),
        _ => return None,
    };
    let metric = Metric {
        name: object.text("name"),
        description: object.text("description"),
        unit: object.text("unit"),
        metadata: object.attributes("metadata"),
        data: Some(data),
    };
    Some((metric, point))
}

/// Adds a point to a metric of its type.
pub(super) fn append(metric: &mut Metric, point: Point) {
    match (&mut metric.data, point) {
        (Some(Data::Gauge(gauge)), Point::Number(point)) => gauge.data_points.push(point),
        (Some(Data::Sum(sum)), Point::Number(point)) => sum.data_points.push(point),
        (Some(Data::Histogram(of)), Point::Histogram(point)) => of.data_points.push(point),
        (Some(Data::ExponentialHistogram(of)), Point::Exponential(point)) => of.data_points.push(point),
        (Some(Data::Summary(of)), Point::Summary(point)) => of.data_points.push(point),
        // The type is part of what makes two metrics the same.
        _ => {}
    }
}

fn number(point: Object<'_>) -> NumberDataPoint {
    let value = match point.get("value") {
        Some(Value::Int(number)) => Some(number_data_point::Value::AsInt(number)),
        Some(other) => read::double(other).map(number_data_point::Value::AsDouble),
        None => None,
    };
    NumberDataPoint {
        attributes: point.attributes("attributes"),
        start_time_unix_nano: point.unsigned("start_time_unix_nano"),
        time_unix_nano: point.unsigned("time_unix_nano"),
        exemplars: exemplars(point),
        flags: point.count("flags"),
        value,
    }
}

fn histogram(point: Object<'_>) -> HistogramDataPoint {
    HistogramDataPoint {
        attributes: point.attributes("attributes"),
        start_time_unix_nano: point.unsigned("start_time_unix_nano"),
        time_unix_nano: point.unsigned("time_unix_nano"),
        count: point.unsigned("count"),
        sum: point.double("sum"),
        bucket_counts: counts(point),
        explicit_bounds: point.items("explicit_bounds").filter_map(read::double).collect(),
        exemplars: exemplars(point),
        flags: point.count("flags"),
        min: point.double("min"),
        max: point.double("max"),
    }
}

fn exponential(point: Object<'_>) -> ExponentialHistogramDataPoint {
    let buckets = |name| {
        let buckets: Object<'_> = point.object(name)?;
        Some(Buckets { offset: buckets.signed("offset"), bucket_counts: counts(buckets) })
    };
    ExponentialHistogramDataPoint {
        attributes: point.attributes("attributes"),
        start_time_unix_nano: point.unsigned("start_time_unix_nano"),
        time_unix_nano: point.unsigned("time_unix_nano"),
        count: point.unsigned("count"),
        sum: point.double("sum"),
        scale: point.signed("scale"),
        zero_count: point.unsigned("zero_count"),
        positive: buckets("positive"),
        negative: buckets("negative"),
        flags: point.count("flags"),
        exemplars: exemplars(point),
        min: point.double("min"),
        max: point.double("max"),
        zero_threshold: point.double("zero_threshold").unwrap_or(0.0),
    }
}

fn summary(point: Object<'_>) -> SummaryDataPoint {
    let quantile = |at: Object<'_>| ValueAtQuantile {
        quantile: at.double("quantile").unwrap_or(0.0),
        value: at.double("value").unwrap_or(0.0),
    };
    SummaryDataPoint {
        attributes: point.attributes("attributes"),
        start_time_unix_nano: point.unsigned("start_time_unix_nano"),
        time_unix_nano: point.unsigned("time_unix_nano"),
        count: point.unsigned("count"),
        sum: point.double("sum").unwrap_or(0.0),
        quantile_values: point.objects("quantiles").map(quantile).collect(),
        flags: point.count("flags"),
    }
}

fn counts(of: Object<'_>) -> Vec<u64> {
    of.items("bucket_counts").filter_map(read::unsigned).collect()
}

fn exemplars(point: Object<'_>) -> Vec<Exemplar> {
    let of = |object: Object<'_>| Exemplar {
        filtered_attributes: object.attributes("attributes"),
        time_unix_nano: object.unsigned("time_unix_nano"),
        span_id: object.id("span_id"),
        trace_id: object.id("trace_id"),
        value: match object.get("value") {
            Some(Value::Int(number)) => Some(exemplar::Value::AsInt(number)),
            Some(other) => read::double(other).map(exemplar::Value::AsDouble),
            None => None,
        },
    };
    point.objects("exemplars").map(of).collect()
}
