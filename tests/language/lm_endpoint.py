"""A server of the OpenAI protocol on the loopback address, whose misbehaviour the model's name chooses."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import defaultdict
from typing import Any

import uvicorn


class FakeEndpoint:
    """Counts and keeps every request; ``model`` names what happens.

    ``echo`` repeats the last message; ``flaky-N`` fails N times with 503 first; ``busy`` says 429 once with Retry-After 0.2;
    ``slow`` waits 3 s; ``trickle`` streams a piece every 0.15 s; ``refuse`` is 400; ``noschema`` is 400 where a response_format
    is asked; ``wrong-N`` gives JSON out of the schema N times, then right; ``cut`` obeys max_tokens; ``empty`` has no choices;
    ``nousage`` tells no tokens; ``drop`` ends the stream in its middle.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.seen: dict[str, int] = defaultdict(int)
        self.busy = self.most_busy = 0
        config = uvicorn.Config(self.app, host="127.0.0.1", port=0, log_level="error", lifespan="off", interface="asgi3")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        until = time.monotonic() + 10
        while not self.server.started:
            assert time.monotonic() < until, "the fake endpoint does not start"
            time.sleep(0.01)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        raw, more = b"", True
        while more:
            event = await receive()
            raw, more = raw + event.get("body", b""), event.get("more_body", False)
        body = json.loads(raw)
        self.requests.append({"path": scope["path"], **body})
        self.headers.append({k.decode(): v.decode() for k, v in scope["headers"]})
        self.times.append(time.monotonic())
        self.seen[body["model"]] += 1
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        try:
            await self.reply(body, send)
        finally:
            self.busy -= 1

    async def reply(self, body: dict[str, Any], send: Any) -> None:
        model, n = body["model"], self.seen[body["model"]]
        kind, _, times = model.partition("-")
        if (kind == "flaky" and n <= int(times)) or (kind == "busy" and n == 1):
            status, headers = (503, []) if kind == "flaky" else (429, [(b"retry-after", b"0.2")])
            return await self.send(send, status, {"error": {"message": "not now"}}, headers)
        if kind == "refuse" or (kind == "noschema" and "response_format" in body):
            return await self.send(send, 400, {"error": {"message": "no"}})
        if "input" in body:
            rows = [{"object": "embedding", "index": i, "embedding": [float(len(t)), 1.0]} for i, t in enumerate(body["input"])]
            rows.reverse()
            used = {"prompt_tokens": 1, "total_tokens": 1}
            return await self.send(send, 200, {"object": "list", "data": rows, "model": model, "usage": used})
        if kind == "slow":
            await asyncio.sleep(3)
        if kind == "work":
            await asyncio.sleep(0.05)
        text, finish = self.text(body, kind, times, n)
        if body.get("stream"):
            return await self.stream(send, body, kind, text, finish)
        chat = "messages" in body
        choice = {
            "index": 0,
            "finish_reason": finish,
            **({"message": {"role": "assistant", "content": text}} if chat else {"text": text}),
        }
        reply: dict[str, Any] = {
            "id": "1",
            "object": "x",
            "created": 1,
            "model": model,
            "choices": [] if kind == "empty" else [choice],
        }
        if kind != "nousage":
            reply["usage"] = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        return await self.send(send, 200, reply)

    def text(self, body: dict[str, Any], kind: str, times: str, n: int) -> tuple[str, str]:
        said = body["messages"][-1]["content"] if "messages" in body else body["prompt"] + "…"
        if kind == "wrong":
            return ('{"stars": "many"}' if n <= int(times) else 'Sure:\n```json\n{"stars": 4}\n```'), "stop"
        if kind == "cut":
            whole = '{"stars": 4, "why": "good"}'
            return (whole, "stop") if body["max_tokens"] >= 16 else (whole[: body["max_tokens"]], "length")
        return said, "stop"

    async def stream(self, send: Any, body: dict[str, Any], kind: str, text: str, finish: str) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})

        async def event(value: Any) -> None:
            data = value if isinstance(value, str) else json.dumps(value)
            await send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})

        base = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        for at, word in enumerate(text.split(" ")):
            if kind == "trickle":
                await asyncio.sleep(0.15)
            if kind == "drop" and at == 1:
                raise RuntimeError("dropped on purpose")
            piece = word if at == 0 else f" {word}"
            await event({**base, "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
        await event({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        used = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        await event({**base, "choices": [], "usage": used})
        await event("[DONE]")
        await send({"type": "http.response.body", "body": b""})

    async def send(self, send: Any, status: int, value: Any, headers: list[Any] | None = None) -> None:
        head = [(b"content-type", b"application/json"), *(headers or [])]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": json.dumps(value).encode()})
