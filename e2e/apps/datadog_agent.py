"""Datadog's test agent, as PyPI has it: PORT is where OTLP/HTTP is taken, GRPC_PORT where OTLP/gRPC is, AGENT_PORT its own."""

import os
import sys

from ddapm_test_agent.agent import main

main(
    [
        "--host=127.0.0.1",
        f"--port={os.environ['AGENT_PORT']}",
        f"--otlp-http-port={os.environ['PORT']}",
        f"--otlp-grpc-port={os.environ['GRPC_PORT']}",
        "--log-level=WARNING",
    ]
)
sys.exit()
