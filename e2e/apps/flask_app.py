"""A Flask application that copies the context from what it serves to what it calls.

PORT: where it listens. NEXT: its sidecar's outbound listener. GET /call/<number> asks `next` for /seen/<number>.
"""

import os

import flask
import requests

app = flask.Flask(__name__)
NEXT = os.environ["NEXT"]

CONTEXT = ("traceparent", "tracestate", "baggage", "x-request-id")


def context():
    return {name: flask.request.headers[name] for name in CONTEXT if name in flask.request.headers}


@app.get("/call/<number>")
def call(number):
    answer = requests.get(f"{NEXT}/seen/{number}", headers={**context(), "host": "next"}, timeout=10)
    return answer.text, answer.status_code


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ["PORT"]))
