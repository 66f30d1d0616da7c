"""A FastAPI application, served by uvicorn, that copies the context from what it serves to what it calls.

PORT: where it listens. NEXT: its sidecar's outbound listener. GET /call/<number> asks `next` for /seen/<number>.
"""

import os

import fastapi
import httpx
import uvicorn

app = fastapi.FastAPI()
NEXT = os.environ["NEXT"]

CONTEXT = ("traceparent", "tracestate", "baggage", "x-request-id")


def context(request: fastapi.Request):
    return {name: request.headers[name] for name in CONTEXT if name in request.headers}


@app.get("/call/{number}")
async def call(number: str, request: fastapi.Request):
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{NEXT}/seen/{number}", headers={**context(request), "host": "next"})
    return fastapi.Response(answer.text, answer.status_code)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")
