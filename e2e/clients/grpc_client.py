"""Calls the gRPC server through the proxy and says case by case what is wrong.

grpc_client.py ADDRESS AUTHORITY all|unavailable|unimplemented|die
"""

import json
import queue
import sys
import time

import grpc

address, authority, what = sys.argv[1:4]
options = [
    ("grpc.default_authority", authority),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),
]
channel = grpc.insecure_channel(address, options)


def call(kind, name):
    return getattr(channel, kind)(f"/test.Echo/{name}")


unary = call("unary_unary", "Unary")


def failed(expected, run):
    """The error of `run`, which must have the expected status."""
    try:
        got = run()
    except grpc.RpcError as error:
        assert error.code() == expected, f"{error.code()} {error.details()!r} instead of {expected}"
        return error
    raise AssertionError(f"it gave {got!r} instead of {expected}")


def unary_call():
    assert unary(b"hello", timeout=5) == b"hello"
    assert unary(b"", timeout=5) == b""


def metadata():
    sent = [("x-text", "a, b"), ("x-more", "1"), ("x-bytes-bin", b"\x00\x01\xff\xfe")]
    answer, done = unary.with_call(b"m", timeout=5, metadata=sent)
    initial, trailing = dict(done.initial_metadata()), dict(done.trailing_metadata())
    for key, value in sent:
        assert initial.get(f"echo-{key}") == value, (key, initial)
    assert trailing.get("x-trailing") == "last", trailing
    assert trailing.get("x-trailing-bin") == b"\x00\xff\x01", trailing


def deadline_is_passed_on():
    _, done = unary.with_call(b"d", timeout=3)
    left = float(dict(done.trailing_metadata())["x-deadline"])
    assert 2 < left < 3.1, left  # grpcio rounds up by a hundredth


def error_in_trailers():
    error = failed(grpc.StatusCode.FAILED_PRECONDITION, lambda: call("unary_unary", "Fail")(b"", timeout=5))
    assert error.details() == "no good: ünïcode % \n", repr(error.details())
    assert dict(error.trailing_metadata()).get("x-reason") == "because", error.trailing_metadata()


def error_after_messages():
    got = []

    def run():
        for message in call("unary_stream", "FailLate")(b"", timeout=5):
            got.append(message)

    error = failed(grpc.StatusCode.DATA_LOSS, run)
    assert got == [b"one", b"two"] and error.details() == "lost", (got, error.details())


def method_unknown_to_the_server():
    failed(grpc.StatusCode.UNIMPLEMENTED, lambda: call("unary_unary", "Nothing")(b"", timeout=5))


def client_streaming():
    parts = (b"x" * 1000 for _ in range(100))
    assert call("stream_unary", "Collect")(parts, timeout=5) == b"100000"
    assert call("stream_unary", "Collect")(iter(()), timeout=5) == b"0"


def server_streaming():
    got = list(call("unary_stream", "Count")(b"100", timeout=5))
    assert got == [str(number).encode() for number in range(100)], got
    assert list(call("unary_stream", "Count")(b"0", timeout=5)) == []


def both_streaming():
    pending = queue.Queue()
    answers = call("stream_stream", "Chat")(iter(pending.get, None), timeout=5)
    for number in range(20):
        pending.put(f"m{number}".encode())
        assert next(answers) == f"re: m{number}".encode()
    pending.put(None)
    assert list(answers) == []


def large_messages():
    for size in (100_000, 3 << 20, 16 << 20):
        message = bytes(range(256)) * (size // 256)
        assert unary(message, timeout=10) == message, size


def deadline_exceeded():
    began = time.monotonic()
    failed(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: call("unary_unary", "HangUnary")(b"late", timeout=0.3))
    assert time.monotonic() - began < 2
    assert call("unary_unary", "Seen")(b"late", timeout=8) == b"yes", "the server did not see the end"


def cancel_reaches_the_server():
    stream = call("unary_stream", "Hang")(b"stream", timeout=10)
    assert next(stream) == b"started"
    stream.cancel()
    assert call("unary_unary", "Seen")(b"stream", timeout=8) == b"yes", "a cancelled stream"
    future = call("unary_unary", "HangUnary").future(b"unary", timeout=10)
    time.sleep(0.1)
    future.cancel()
    assert call("unary_unary", "Seen")(b"unary", timeout=8) == b"yes", "a cancelled call"


def a_client_that_does_not_read_stops_the_server():
    stream = call("unary_stream", "Flood")(b"", timeout=20)
    next(stream)
    how_much = call("unary_unary", "HowMuch")
    last = -1
    end = time.monotonic() + 8
    while time.monotonic() < end:
        now = int(how_much(b"", timeout=5))
        if now == last:
            break
        last = now
        time.sleep(0.2)
    stream.cancel()
    assert now == last and now < 24 << 20, f"{now} bytes were produced for a client that reads none"


def many_at_once():
    futures = [unary.future(str(number).encode(), timeout=8) for number in range(200)]
    assert [future.result() for future in futures] == [str(number).encode() for number in range(200)]


def unavailable():
    failed(grpc.StatusCode.UNAVAILABLE, lambda: unary(b"", timeout=5))
    failed(grpc.StatusCode.UNAVAILABLE, lambda: list(call("unary_stream", "Count")(b"3", timeout=5)))


def unimplemented():
    failed(grpc.StatusCode.UNIMPLEMENTED, lambda: unary(b"", timeout=5))


def server_dies():
    stream = call("unary_stream", "Die")(b"", timeout=5)
    assert next(stream) == b"last words"
    try:
        rest = list(stream)
    except grpc.RpcError as error:
        allowed = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
        assert error.code() in allowed, error.code()
        return
    raise AssertionError(f"a clean end: {rest}")


CASES = {
    "all": [
        unary_call,
        metadata,
        deadline_is_passed_on,
        error_in_trailers,
        error_after_messages,
        method_unknown_to_the_server,
        client_streaming,
        server_streaming,
        both_streaming,
        large_messages,
        deadline_exceeded,
        cancel_reaches_the_server,
        a_client_that_does_not_read_stops_the_server,
        many_at_once,
    ],
    "unavailable": [unavailable],
    "unimplemented": [unimplemented],
    "die": [server_dies, unavailable],
}

for case in CASES[what]:
    problem = None
    try:
        case()
    except Exception as error:  # whatever goes wrong is this case's problem
        problem = f"{type(error).__name__}: {error}"
    print(json.dumps({"case": case.__name__, "problem": problem}), flush=True)
