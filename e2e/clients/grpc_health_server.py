"""A gRPC server that has `grpc.health.v1.Health/Check` for one service: `grpc_health_server.py SERVICE FILE`. Prints its port.

The file holds the status as a number (1: SERVING, 2: NOT_SERVING); it is read for each call.
"""

import pathlib
import sys
from concurrent import futures

import grpc

service, status = sys.argv[1], pathlib.Path(sys.argv[2])


def check(request, context):
    # HealthCheckRequest { string service = 1 }
    asked = request[2 : 2 + request[1]].decode() if request else ""
    if asked != service:
        context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {asked}")
    # HealthCheckResponse { ServingStatus status = 1 }
    return bytes([0x08, int(status.read_text())])


handlers = {"Check": grpc.unary_unary_rpc_method_handler(check)}
server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers)])
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
