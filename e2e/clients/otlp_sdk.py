"""OpenTelemetry's own SDK and exporters: the same telemetry to a sidecar and to a collector. PROTOCOL SIDECAR COLLECTOR.

Each case is an export; what it is called is what was exported: {"to", "signal", "count", "trace_id"}.
"""

import json
import logging
import sys

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

protocol, *places = sys.argv[1:]
if protocol == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter


def exporter(kind, place, signal):
    if protocol == "grpc":
        return kind(endpoint=place, insecure=True)
    return kind(endpoint=f"http://{place}/v1/{signal}")


logging.getLogger("opentelemetry").setLevel(logging.ERROR)
resource = Resource.create({"service.name": "shop", "service.version": "1.4", "shelves": [1, 2], "is_open": True})

kept_spans = InMemorySpanExporter()
tracing = TracerProvider(resource=resource)
tracing.add_span_processor(SimpleSpanProcessor(kept_spans))
tracer = tracing.get_tracer("shop.tracer", "0.1", attributes={"of": "the scope"})
with tracer.start_as_current_span("sell", kind=trace.SpanKind.SERVER) as span:
    span.set_attributes({"item": "kettle \U0001fad6 \"big\"\n", "price": 12.5, "pieces": 3, "tags": ["a", "b"], "none": ""})
    span.add_event("packed", {"by": "ann"})
    with tracer.start_as_current_span("pay", kind=trace.SpanKind.CLIENT, links=[trace.Link(span.get_span_context(), {"why": "test"})]):
        pass
    try:
        with tracer.start_as_current_span("ship"):
            raise ValueError("no ship")
    except ValueError:
        pass
    context = trace.set_span_in_context(span)
trace_id = f"{span.get_span_context().trace_id:032x}"

kept_logs = InMemoryLogRecordExporter()
logs = LoggerProvider(resource=resource)
logs.add_log_record_processor(SimpleLogRecordProcessor(kept_logs))
logger = logs.get_logger("shop.logger", "0.2")
logger.emit(
    LogRecord(
        timestamp=1_700_000_000_123_456_789,
        observed_timestamp=1_700_000_000_123_456_790,
        context=context,
        severity_text="WARN",
        severity_number=SeverityNumber.WARN,
        body={"said": ["out of", {"what": "kettles"}, 0, 1.5, True, b"\x00\xff"]},
        attributes={"shelf": 7},
        event_name="shop.shelf.empty",
    )
)
logger.emit(LogRecord(timestamp=1_700_000_001_000_000_000, body="plain", severity_number=SeverityNumber.INFO))

reader = InMemoryMetricReader()
exponential = View(instrument_name="shop.weight", aggregation=ExponentialBucketHistogramAggregation())
metering = MeterProvider(metric_readers=[reader], resource=resource, views=[exponential])
meter = metering.get_meter("shop.meter", "0.3")
sold = meter.create_counter("shop.sold", "{piece}", "pieces that were sold")
sold.add(3, {"item": "kettle"})
sold.add(4, {"item": "cup"})
meter.create_up_down_counter("shop.open_orders").add(-2)
meter.create_gauge("shop.temperature", "Cel").set(21.5, {"room": "1"})
for name in ("shop.price", "shop.weight"):
    histogram = meter.create_histogram(name)
    for value in (0.5, 7, 90, 12_345):
        histogram.record(value, {"shop": "one"})
metrics = reader.get_metrics_data()

points = sum(
    len(metric.data.data_points)
    for of_resource in metrics.resource_metrics
    for of_scope in of_resource.scope_metrics
    for metric in of_scope.metrics
)
everything = [
    ("traces", OTLPSpanExporter, kept_spans.get_finished_spans(), 3),
    ("logs", OTLPLogExporter, kept_logs.get_finished_logs(), 2),
    ("metrics", OTLPMetricExporter, metrics, points),
]
for place in places:
    for signal, kind, what, count in everything:
        result = exporter(kind, place, signal).export(what)
        case = json.dumps({"to": place, "signal": signal, "count": count, "trace_id": trace_id})
        print(json.dumps({"case": case, "problem": None if result.name == "SUCCESS" else result.name}), flush=True)
