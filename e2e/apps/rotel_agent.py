"""The collector rotel, as PyPI has it: takes OTLP over both transports, and sends it on as OTLP/HTTP to NEXT.

PORT: where OTLP/HTTP is taken. GRPC_PORT: where OTLP/gRPC is.
"""

import os
import tempfile
from pathlib import Path

import rotel

program = Path(rotel.__file__).parent / "rotel-agent"
directory = tempfile.gettempdir()
os.execv(
    program,
    [
        str(program),
        "start",
        f"--otlp-http-endpoint=127.0.0.1:{os.environ['PORT']}",
        f"--otlp-grpc-endpoint=127.0.0.1:{os.environ['GRPC_PORT']}",
        "--exporter=otlp",
        f"--otlp-exporter-endpoint={os.environ['NEXT']}",
        "--otlp-exporter-protocol=http",
        "--otlp-exporter-retry-initial-backoff=50ms",
        "--batch-timeout=50ms",
        f"--pid-file={directory}/rotel-{os.getpid()}.pid",
    ],
)
