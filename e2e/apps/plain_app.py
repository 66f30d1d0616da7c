"""An application without a framework that carries on what COPY names, a list of headers; without it, nothing.

PORT: where it listens. NEXT: its sidecar's outbound listener. GET /call/<number> asks `next` for /seen/<number>, after a
moment of work that differs. `?after=<step>` waits for a step instead before it asks, `?until=<step>` before it answers;
either may be given more than once. Steps are `began:<number>` and `called:<number>`; each is a line of JSON on standard
output.
"""

import http.client
import http.server
import json
import os
import random
import sys
import threading
import time
import urllib.parse

NEXT = urllib.parse.urlsplit(os.environ["NEXT"]).netloc
COPY = os.environ.get("COPY", "").split()
PATIENCE = 10

STEPS = {}
LOCK = threading.Lock()


def event_of(name):
    with LOCK:
        return STEPS.setdefault(name, threading.Event())


def step(name):
    line = json.dumps({"step": name}) + "\n"
    with LOCK:
        sys.stdout.write(line)
        sys.stdout.flush()
    event_of(name).set()


def await_steps(names):
    for name in names:
        if not event_of(name).wait(PATIENCE):
            raise TimeoutError(name)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        target = urllib.parse.urlsplit(self.path)
        number = target.path.rsplit("/", 1)[-1]
        step(f"began:{number}")
        query = urllib.parse.parse_qs(target.query)
        if "after" in query:
            await_steps(query["after"])
        else:
            time.sleep(random.uniform(0, 0.004))
        status, content = self.call(number)
        step(f"called:{number}")
        await_steps(query.get("until", []))
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def call(self, number):
        headers = {name: self.headers[name] for name in COPY if name in self.headers}
        connection = http.client.HTTPConnection(NEXT, timeout=PATIENCE)
        try:
            connection.request("GET", f"/seen/{number}", headers={**headers, "host": "next"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def handle(self):
        try:
            super().handle()
        except ConnectionError:
            pass  # a client that leaves is the test's case

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024


Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
