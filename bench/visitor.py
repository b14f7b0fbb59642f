"""Clients that note when each connection began, ended, and who answered; a process of its own.

Owns the sockets and the notes, judges nothing. Two kinds at the same time: *visits*, one request on
a connection of its own, by ``width`` clients one after the other; and *held* connections that ask
again and again. It speaks plain HTTP/1.1; a node says its name in ``X-Node``, or in the body. The
plan is the argument, the first line out says that all held connections are open, everything ends
with standard input or the plan's bounds, and the notes are the last line out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Plan:
    """Whom to visit, how, and how long at most."""

    address: str
    port: int = 80
    path: str = "/ping"
    width: int = 8
    pause_s: float = 0.0
    """Of each client between two visits."""
    held: int = 0
    ask_every_s: float = 0.1
    timeout_s: float = 0.5
    """For connecting and the answer of a visit."""
    held_timeout_s: float = 3.0
    steps: tuple[tuple[float, float], ...] = ()
    """From so many seconds after the beginning on, this is ``pause_s``."""
    max_s: float = 60.0


@dataclass
class Held:
    """A connection that stays open, and what became of it."""

    node: str = ""
    answers: int = 0
    moved_s: float | None = None
    broken_s: float | None = None
    error: str = ""


@dataclass
class Notes:
    """What was seen: visits as (client, began, ended, node, error), times since the epoch."""

    visits: list[tuple[int, float, float, str, str]] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)


class Visitor:
    """All clients of one process."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.notes = plan, Notes()
        self.over = asyncio.Event()
        self.began = time.monotonic()

    async def run(self) -> None:
        """Hold, say so, visit until it is over, say what was seen."""
        holding = [asyncio.create_task(self._hold()) for _ in range(self.plan.held)]
        while len(self.notes.held) < self.plan.held:
            await asyncio.sleep(0.02)
        print(json.dumps({"held": len(self.notes.held)}), flush=True)
        self.began = time.monotonic()
        ending = asyncio.create_task(self._end())
        await asyncio.gather(*(self._client(number) for number in range(self.plan.width)))
        await asyncio.gather(*holding)
        ending.cancel()
        print(json.dumps(asdict(self.notes)), flush=True)

    async def _end(self) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.read(), self.plan.max_s)
        self.over.set()

    async def _client(self, number: int) -> None:
        await asyncio.sleep(number * 0.003)
        while not self.over.is_set():
            began, node, error = time.time(), "", ""
            try:
                async with asyncio.timeout(self.plan.timeout_s):
                    node = await self._visit()
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as failure:
                error = type(failure).__name__
            self.notes.visits.append((number, began, time.time(), node, error))
            await asyncio.sleep(self._pause_s())

    def _pause_s(self) -> float:
        since = time.monotonic() - self.began
        passed = [pause for after_s, pause in self.plan.steps if since >= after_s]
        return passed[-1] if passed else self.plan.pause_s

    async def _visit(self) -> str:
        reader, writer = await asyncio.open_connection(self.plan.address, self.plan.port)
        try:
            return await self._ask(reader, writer, last=True)
        finally:
            writer.transport.abort() if self.over.is_set() else writer.close()

    async def _hold(self) -> None:
        noted = Held()
        reader, writer = await asyncio.open_connection(self.plan.address, self.plan.port)
        noted.node = await self._ask(reader, writer, last=False)
        self.notes.held.append(noted)
        try:
            while not self.over.is_set():
                await asyncio.sleep(random.uniform(0.5, 1.5) * self.plan.ask_every_s)
                async with asyncio.timeout(self.plan.held_timeout_s):
                    node = await self._ask(reader, writer, last=False)
                noted.answers += 1
                if node != noted.node and noted.moved_s is None:
                    noted.moved_s = time.time()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as failure:
            noted.broken_s, noted.error = time.time(), type(failure).__name__
        writer.transport.abort()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, last: bool
    ) -> str:
        """The node that answered."""
        close = "Connection: close\r\n" if last else ""
        writer.write(f"GET {self.plan.path} HTTP/1.1\r\nHost: bench\r\n{close}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        if " 200 " not in head.partition("\r\n")[0]:
            raise ValueError(head.partition("\r\n")[0])
        lines = (line.partition(":") for line in head.split("\r\n")[1:])
        headers = {name: value.strip() for name, _, value in lines}
        body = await reader.readexactly(int(headers["content-length"]))
        return headers.get("x-node") or body.decode().strip()


def plan_of(raw: dict[str, Any]) -> Plan:
    """The plan from its JSON form."""
    steps = tuple((float(after), float(pause)) for after, pause in raw.pop("steps", ()))
    return Plan(**raw, steps=steps)


if __name__ == "__main__":
    asyncio.run(Visitor(plan_of(json.loads(sys.argv[1]))).run())
