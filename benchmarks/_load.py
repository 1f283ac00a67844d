"""A small HTTP/1.1 load generator: open loop at a set rate (latency counts from when a request was due), or closed loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Request:
    """What is sent, ready made."""

    raw: bytes

    @classmethod
    def post(cls, host: str, path: str, body: bytes, key: str | None = None) -> Request:
        """Make a POST of JSON."""
        auth = f"Authorization: Bearer {key}\r\n" if key else ""
        more = f"{auth}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return cls(f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{more}".encode() + body)


@dataclass
class Result:
    """What came of a run."""

    seconds: float
    latencies: np.ndarray
    failed: int

    def summary(self) -> dict[str, float]:
        """Return rate and latencies in milliseconds."""
        ms = 1_000 * self.latencies
        return {
            "requests/s": round(len(ms) / self.seconds, 1),
            "p50 ms": round(float(np.percentile(ms, 50)), 2),
            "p99 ms": round(float(np.percentile(ms, 99)), 2),
            "max ms": round(float(ms.max()), 2),
            "failed": self.failed,
        }


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request) -> bool:
    writer.write(request.raw)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    await reader.readexactly(length)
    return head.startswith(b"HTTP/1.1 2")


async def _run(host: str, port: int, requests: Iterator[Request], rate: float | None, seconds: float, lanes: int) -> Result:
    latencies: list[float] = []
    failed = 0
    started = time.perf_counter()
    end = started + seconds
    turn = iter(range(2**62))

    async def lane() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(host, port)
        while True:
            due = time.perf_counter() if rate is None else started + next(turn) / rate
            if due >= end:
                break
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            good = await _exchange(reader, writer, next(requests))
            latencies.append(time.perf_counter() - due)
            failed += not good
        writer.close()

    await asyncio.gather(*(lane() for _ in range(lanes)))
    return Result(time.perf_counter() - started, np.array(latencies), failed)


def load(url: str, make: Callable[[], Iterator[Request]], *, rate: float | None, seconds: float, lanes: int) -> Result:
    """Send requests at a rate (or as fast as answers come) for some seconds over some connections."""
    host, port = url.removeprefix("http://").split(":")
    return asyncio.run(_run(host, int(port), make(), rate, seconds, lanes))
