"""``python visits.py ADDRESS RATE_PER_S SPAN_S``: connections at a fixed rate, each timed.

A process of its own that runs in the client's namespace. Visits begin when they are due, whatever
became of those before, and are timed from then on: connect, request, whole answer. So a contender
that makes clients wait cannot hide it by being asked less. Prints JSON: latencies in microseconds,
and what went wrong.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
TIMEOUT_S = 5.0


class Visit(asyncio.Protocol):
    """One request; ``over`` is done when the server has closed the connection."""

    def __init__(self, over: asyncio.Future[bool]) -> None:
        """Whether a whole answer came is the result of ``over``."""
        self._over = over
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        """Collect the answer."""
        self._got += data

    def connection_lost(self, exc: Exception | None) -> None:
        """The answer is whole, or it never will be."""
        if not self._over.done():
            whole = self._got.startswith(b"HTTP/1.1 200") and b"\r\n\r\n" in self._got
            self._over.set_result(whole and exc is None)


async def visit(address: str, due: float, took_us: list[int], wrong: Counter[str]) -> None:
    """Make one visit and note how it went."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[bool] = loop.create_future()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            transport, _ = await loop.create_connection(lambda: Visit(over), address, 80)
            try:
                if not await over:
                    wrong["cut short"] += 1
                    return
            finally:
                transport.close()
    except (OSError, TimeoutError) as error:
        wrong[type(error).__name__] += 1
        return
    took_us.append(round((loop.time() - due) * 1e6))


async def visits(address: str, rate_per_s: float, span_s: float) -> None:
    """All visits, and what is said of them."""
    loop = asyncio.get_running_loop()
    began, took_us, wrong = loop.time(), list[int](), Counter[str]()
    tasks = []
    for number in range(round(rate_per_s * span_s)):
        due = began + number / rate_per_s
        await asyncio.sleep(due - loop.time())
        tasks.append(loop.create_task(visit(address, due, took_us, wrong)))
    await asyncio.gather(*tasks)
    print(json.dumps({"took_us": took_us, "wrong": wrong}))


if __name__ == "__main__":
    asyncio.run(visits(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))
