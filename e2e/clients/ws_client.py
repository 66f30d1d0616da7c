"""Speaks WebSocket through the proxy and says case by case what is wrong.

ws_client.py ADDRESS HOST
"""

import asyncio
import json
import sys
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

address, authority = sys.argv[1:3]
host, port = address.rsplit(":", 1)


def open_at(path="/", **options):
    options.setdefault("max_size", 64 << 20)
    options.setdefault("ping_interval", None)
    return connect(f"ws://{authority}{path}", host=host, port=int(port), proxy=None, open_timeout=5, **options)


async def echo():
    async with open_at() as socket:
        for message in ("hello", "", "ünï", b"\x00\xff", b""):
            await socket.send(message)
            assert await socket.recv() == message


async def large_messages():
    async with open_at(compression=None) as socket:
        for size in (125, 126, 65535, 65536, 1 << 20, 16 << 20):
            message = b"x" * size
            await socket.send(message)
            got = await socket.recv()
            assert got == message, (size, len(got))


async def fragments():
    async with open_at() as socket:
        await socket.send([b"one ", b"two ", b"three"])
        assert await socket.recv() == b"one two three"


async def many_messages_in_flight():
    async with open_at(compression=None) as socket:
        sent = [f"message {number}" for number in range(2000)]

        async def send():
            for message in sent:
                await socket.send(message)

        sender = asyncio.create_task(send())
        got = [await socket.recv() for _ in sent]
        await sender
        assert got == sent


async def close_codes_of_the_server():
    for code in (1000, 1001, 1011, 3000, 4999):
        async with open_at() as socket:
            await socket.send(f"close {code}")
            try:
                await socket.recv()
                raise AssertionError("no close")
            except ConnectionClosed as closed:
                assert closed.rcvd.code == code and closed.rcvd.reason == "as asked", closed


async def close_of_the_client():
    async with open_at() as socket:
        await socket.close(4000, "bye")
        assert socket.close_code == 4000, socket.close_code


async def subprotocols():
    async with open_at(subprotocols=["chat.v1", "other"]) as socket:
        assert socket.subprotocol == "chat.v1", socket.subprotocol
    async with open_at() as socket:
        assert socket.subprotocol is None, socket.subprotocol


async def pings():
    async with open_at() as socket:
        for payload in (b"", b"ping"):
            waiter = await socket.ping(payload)
            await asyncio.wait_for(waiter, 5)


async def compression():
    async with open_at(compression="deflate") as socket:
        message = "abc" * 10000
        await socket.send(message)
        assert await socket.recv() == message
        assert "permessage-deflate" in socket.response.headers.get("Sec-WebSocket-Extensions", "")


async def refused():
    try:
        async with open_at("/refuse"):
            raise AssertionError("let in")
    except InvalidStatus as error:
        response = error.response
        assert response.status_code == 403 and response.body == b"not you\n", response


async def many_connections():
    async def one(number):
        async with open_at() as socket:
            await socket.send(str(number))
            assert await socket.recv() == str(number)

    began = time.monotonic()
    await asyncio.gather(*(one(number) for number in range(100)))
    assert time.monotonic() - began < 8


CASES = [
    echo,
    large_messages,
    fragments,
    many_messages_in_flight,
    close_codes_of_the_server,
    close_of_the_client,
    subprotocols,
    pings,
    compression,
    refused,
    many_connections,
]


async def main():
    for case in CASES:
        problem = None
        try:
            await asyncio.wait_for(case(), 9)
        except Exception as error:  # whatever goes wrong is this case's problem
            problem = f"{type(error).__name__}: {error}"
        print(json.dumps({"case": case.__name__, "problem": problem}), flush=True)


asyncio.run(main())
