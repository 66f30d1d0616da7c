"""A Flask application with the OpenTelemetry SDK as it comes: nothing here knows of a sidecar.

PORT: where it listens. NEXT: its sidecar's outbound listener. GET /call/<number> asks `next` for /seen/<number>.
Each span that ended is a line of JSON on standard output.
"""

import json
import os

import flask
import requests
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor


def line(span):
    return json.dumps({
        "trace_id": f"{span.context.trace_id:032x}",
        "span_id": f"{span.context.span_id:016x}",
        "parent_id": f"{span.parent.span_id:016x}" if span.parent else None,
        "kind": span.kind.name,
    }) + "\n"


provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=line)))
trace.set_tracer_provider(provider)

app = flask.Flask(__name__)
NEXT = os.environ["NEXT"]
FlaskInstrumentor().instrument_app(app)
RequestsInstrumentor().instrument()


@app.get("/call/<number>")
def call(number):
    answer = requests.get(f"{NEXT}/seen/{number}", headers={"host": "next"}, timeout=10)
    return answer.text, answer.status_code


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ["PORT"]))
