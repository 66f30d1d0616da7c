"""A WebSocket server: echoes, closes on demand, refuses /refuse. Prints its port."""

import asyncio
import http

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def handle(connection):
    try:
        async for message in connection:
            if isinstance(message, str) and message.startswith("close "):
                await connection.close(int(message.split()[1]), "as asked")
                return
            await connection.send(message)
    except ConnectionClosed:
        pass  # how the client leaves is the client's case


def refuse(connection, request):
    if request.path == "/refuse":
        return connection.respond(http.HTTPStatus.FORBIDDEN, "not you\n")
    return None


def choose(_connection, offered):
    return next((name for name in ("chat.v2", "chat.v1") if name in offered), None)


async def main():
    options = {"select_subprotocol": choose, "process_request": refuse, "max_size": 64 << 20}
    async with serve(handle, "127.0.0.1", 0, ping_interval=None, **options) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


asyncio.run(main())
