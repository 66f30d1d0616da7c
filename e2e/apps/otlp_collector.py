"""An OTLP receiver with the messages and services of PyPI's opentelemetry-proto: everything it takes is a line of JSON.

PORT: where OTLP/HTTP is taken. GRPC_PORT: where OTLP/gRPC is. A line is a span, a log record, or one point of a metric:
{"protocol", "signal", "resource", "scope", "metric" (a point's), "item"}, each as protobuf's JSON, with ids in hex digits.
"""

import base64
import gzip
import json
import os
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

SIGNALS = {
    "traces": (trace_service_pb2.ExportTraceServiceRequest, trace_service_pb2.ExportTraceServiceResponse),
    "logs": (logs_service_pb2.ExportLogsServiceRequest, logs_service_pb2.ExportLogsServiceResponse),
    "metrics": (metrics_service_pb2.ExportMetricsServiceRequest, metrics_service_pb2.ExportMetricsServiceResponse),
}
IDS = {"traceId", "spanId", "parentSpanId"}
writing = threading.Lock()


def with_hex_ids(value):
    """The same with ids as hex digits: protobuf's own JSON has bytes in base64."""
    if isinstance(value, list):
        return [with_hex_ids(each) for each in value]
    if isinstance(value, dict):
        return {
            name: base64.b64decode(each).hex() if name in IDS else with_hex_ids(each) for name, each in value.items()
        }
    return value


def attributes(owner):
    """Attributes have no order."""
    if "attributes" in owner:
        owner["attributes"].sort(key=lambda each: each["key"])
    return owner


def items(signal, request):
    whole = with_hex_ids(MessageToDict(request))
    outer, inner, leaf = {
        "traces": ("resourceSpans", "scopeSpans", "spans"),
        "logs": ("resourceLogs", "scopeLogs", "logRecords"),
        "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
    }[signal]
    for of_resource in whole.get(outer, []):
        for of_scope in of_resource.get(inner, []):
            about = {
                "signal": signal,
                "resource": attributes(of_resource.get("resource", {})),
                "scope": attributes(of_scope.get("scope", {})),
            }
            for item in of_scope.get(leaf, []):
                if signal != "metrics":
                    yield {**about, "item": attributes(item)}
                    continue
                kind = next(name for name, value in item.items() if isinstance(value, dict))
                points = item[kind].pop("dataPoints")
                for point in points:
                    yield {**about, "metric": item, "item": attributes(point)}


def take(protocol, signal, request):
    lines = [json.dumps({"protocol": protocol, **item}) for item in items(signal, request)]
    with writing:
        for line in lines:
            print(line, flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        signal = self.path.removeprefix("/v1/")
        is_known = signal in SIGNALS and self.headers["Content-Type"] == "application/x-protobuf"
        answer = b""
        if is_known:
            request, response = SIGNALS[signal]
            take("http", signal, request.FromString(body))
            answer = response().SerializeToString()
        self.send_response(200 if is_known else 404)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments):
        pass


def servicer(base, signal):
    class Servicer(base):
        def Export(self, request, context):
            take("grpc", signal, request)
            return SIGNALS[signal][1]()

    return Servicer()


server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
trace_service_pb2_grpc.add_TraceServiceServicer_to_server(
    servicer(trace_service_pb2_grpc.TraceServiceServicer, "traces"), server
)
logs_service_pb2_grpc.add_LogsServiceServicer_to_server(
    servicer(logs_service_pb2_grpc.LogsServiceServicer, "logs"), server
)
metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(
    servicer(metrics_service_pb2_grpc.MetricsServiceServicer, "metrics"), server
)
if server.add_insecure_port(f"127.0.0.1:{os.environ['GRPC_PORT']}") == 0:
    sys.exit("the port for gRPC is taken")
server.start()
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
