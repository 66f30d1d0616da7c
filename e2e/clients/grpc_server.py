"""A gRPC server whose messages are plain bytes. Prints its port."""

import os
import threading
import time
from concurrent import futures

import grpc

cancelled = set()
produced = 0
lock = threading.Lock()


def unary(request, context):
    metadata = {key: value for key, value in context.invocation_metadata()}
    echoed = [(f"echo-{key}", value) for key, value in metadata.items() if key.startswith("x-")]
    context.send_initial_metadata(echoed)
    context.set_trailing_metadata(
        [("x-trailing", "last"), ("x-trailing-bin", b"\x00\xff\x01"), ("x-deadline", str(context.time_remaining()))]
    )
    return request


def fail(request, context):
    context.set_trailing_metadata([("x-reason", "because")])
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no good: ünïcode % \n")


def fail_late(request, context):
    yield b"one"
    yield b"two"
    context.abort(grpc.StatusCode.DATA_LOSS, "lost")


def collect(requests, context):
    total = b"".join(requests)
    return str(len(total)).encode()


def count(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def chat(requests, context):
    for request in requests:
        yield b"re: " + request


def note_end(request, context):
    """An event that is set, and the request's name kept, when the call ends, whoever ends it."""
    done = threading.Event()

    def ended():
        with lock:
            cancelled.add(request.decode())
        done.set()

    context.add_callback(ended)
    return done


def hang(request, context):
    done = note_end(request, context)
    yield b"started"
    done.wait(20)


def hang_unary(request, context):
    note_end(request, context).wait(20)
    return b""


def seen(request, context):
    end = time.monotonic() + 5
    while time.monotonic() < end:
        with lock:
            if request.decode() in cancelled:
                return b"yes"
        time.sleep(0.005)
    return b"no"


def flood(request, context):
    global produced
    part = b"x" * 65536
    for _ in range(2000):
        with lock:
            produced += len(part)
        yield part


def how_much(request, context):
    with lock:
        return str(produced).encode()


def die(request, context):
    yield b"last words"
    time.sleep(0.05)
    os._exit(9)


METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "FailLate": grpc.unary_stream_rpc_method_handler(fail_late),
    "Collect": grpc.stream_unary_rpc_method_handler(collect),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
    "Hang": grpc.unary_stream_rpc_method_handler(hang),
    "HangUnary": grpc.unary_unary_rpc_method_handler(hang_unary),
    "Seen": grpc.unary_unary_rpc_method_handler(seen),
    "Flood": grpc.unary_stream_rpc_method_handler(flood),
    "HowMuch": grpc.unary_unary_rpc_method_handler(how_much),
    "Die": grpc.unary_stream_rpc_method_handler(die),
}

options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=options)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", METHODS),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination()
