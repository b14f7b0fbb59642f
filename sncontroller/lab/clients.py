"""The clients: real HTTP/1.1 over TCP, in a process of its own.

Owns the connections and what is counted about them. It knows nothing of the controller: all it
sees of the group is which node's name an answer bears. Two kinds of clients:

- *Users* visit, think, and visit again: a closed loop, so that too little capacity shows as
  latency and never as a lost request. Most visits are one request on a connection of its own, the
  others are a session of several requests on one keep-alive connection.
- *Held* connections stay open, through every scaling event, and ask something small a few times
  per second.

On every connection, every answer must come from the node that gave the first one. Run as
``python -m sncontroller.lab.clients`` with a ``Plan`` as its argument; ``Orders`` come in as lines
of JSON on standard input, ``samples.Traffic`` goes out as lines of JSON on standard output. It
ends when it is told to, when its input ends, and in any case when its plan's bounds are reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from sncontroller.lab.connection import AnswerError, Connection
from sncontroller.lab.samples import Traffic, bucket


class Plan(BaseModel):
    """Whom the clients visit, and within which bounds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str
    port: int
    sources: tuple[str, ...]
    """Own addresses to come from; each has its own supply of ports."""
    page: str = "/"
    page_bytes: int
    """Size of the page: an answer of another size is cut short."""
    ping: str = "/ping"
    think_s: float = 0.2
    session_share: float = 0.2
    """Share of the visits that are sessions."""
    session_requests: tuple[int, int] = (3, 8)
    hold_pause_s: tuple[float, float] = (0.2, 0.5)
    timeout_s: float = 15.0
    report_s: float = 0.5
    seed: int = 1
    max_requests: int = 500_000
    max_s: float = 600.0


class Orders(BaseModel):
    """What the clients are to do from now on; a line repeats all of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: int = 0
    hold_total: int = 0
    """Long-lived connections to have opened since the start."""
    release: tuple[str, ...] = ()
    """Nodes whose long-lived connections are to be closed, one after the other."""
    stop: bool = False


@dataclass
class Counts:
    """What is counted, over all connections."""

    made: int = 0
    held: int = 0
    failed: int = 0
    moved: int = 0
    requests: int = 0
    latency: Counter[int] = field(default_factory=Counter)
    by_node: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    MAX_ERRORS: ClassVar[int] = 5

    def error(self, text: str) -> None:
        """Keep this text if there are not many yet."""
        if len(self.errors) < self.MAX_ERRORS:
            self.errors.append(text)


@dataclass
class Clients:
    """All clients of one process."""

    plan: Plan
    orders: Orders = field(default_factory=Orders)
    counts: Counts = field(default_factory=Counts)
    users: int = 0
    held: list[Connection] = field(default_factory=list)
    opened: int = 0
    started: int = 0
    """Requests begun; bounded by the plan."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.random = random.Random(self.plan.seed)

    @property
    def exhausted(self) -> bool:
        """Whether the plan allows no further request."""
        return self.started >= self.plan.max_requests

    def obey(self, orders: Orders) -> None:
        """Start the users and long-lived connections that are missing; the others see to it."""
        self.orders = Orders(stop=True) if orders.stop else orders
        while self.users < self.orders.users and not self.exhausted:
            self.users += 1
            self._spawn(self._user())
        while self.opened < self.orders.hold_total:
            self.opened += 1
            self._spawn(self._hold(delay_s=self.random.uniform(0, 1)))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _user(self) -> None:
        try:
            while self.users <= self.orders.users and not self.exhausted:
                await self._think()
                await self._attempt(self._visit, "visit")
        finally:
            self.users -= 1

    async def _think(self) -> None:
        await asyncio.sleep(min(self.random.expovariate(1 / self.plan.think_s), 5.0))

    async def _attempt(self, work: Callable[[], Coroutine[Any, Any, None]], what: str) -> None:
        """Do it, and count the ways in which a connection can fail."""
        try:
            await work()
        except TimeoutError:
            self._failed(f"{what}: no answer in {self.plan.timeout_s:g} s")
        except asyncio.IncompleteReadError as error:
            self._failed(f"{what}: closed after {len(error.partial)} bytes")
        except (OSError, AnswerError, asyncio.LimitOverrunError, ValueError) as error:
            self._failed(f"{what}: {str(error) or type(error).__name__}")

    def _failed(self, text: str) -> None:
        self.counts.failed += 1
        self.counts.error(text)

    async def _visit(self) -> None:
        session = self.random.random() < self.plan.session_share
        requests = self.random.randint(*self.plan.session_requests) if session else 1
        begun = time.monotonic()
        connection = await self._open()
        try:
            for number in range(1, requests + 1):
                await self._page(connection, begun, last=number == requests)
                if number < requests:
                    await self._think()
                begun = time.monotonic()
        except BaseException:
            connection.abort()
            raise
        await connection.close()

    async def _open(self) -> Connection:
        async with asyncio.timeout(self.plan.timeout_s):
            source = self.random.choice(self.plan.sources)
            return await Connection.open(self.plan.address, self.plan.port, source)

    async def _page(self, connection: Connection, begun: float, *, last: bool) -> None:
        size = await self._ask(connection, self.plan.page, last=last)
        if size != self.plan.page_bytes:
            raise AnswerError(f"{size} bytes instead of {self.plan.page_bytes}")
        self.counts.requests += 1
        self.counts.latency[bucket(time.monotonic() - begun)] += 1
        self.counts.by_node[connection.node or ""] += 1

    async def _ask(self, connection: Connection, path: str, *, last: bool) -> int:
        """The size of the answer; counts the connection with its first one, and when it moves."""
        self.started += 1
        async with asyncio.timeout(self.plan.timeout_s):
            node, size = await connection.get(path, last=last)
        if connection.node is None:
            connection.node = node
            self.counts.made += 1
        elif connection.node != node and not connection.moved:
            connection.moved = True
            self.counts.moved += 1
            self.counts.error(f"moved: {connection.node} answered first, then {node}")
        return size

    async def _hold(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await self._attempt(self._held, "held connection")

    async def _held(self) -> None:
        connection = await self._open()
        try:
            await self._ask(connection, self.plan.ping, last=False)
            self.counts.held += 1
            self.held.append(connection)
            while not self._is_over(connection):
                await asyncio.sleep(self.random.uniform(*self.plan.hold_pause_s))
                await self._ask(connection, self.plan.ping, last=False)
            await self._ask(connection, self.plan.ping, last=True)
        except BaseException:
            connection.abort()
            raise
        finally:
            if connection in self.held:
                self.held.remove(connection)
        await connection.close()

    def _is_over(self, connection: Connection) -> bool:
        """Whether the client ends this connection now; a node's ones end one after the other."""
        if self.orders.stop or self.exhausted:
            return True
        return connection.node in self.orders.release and self.random.random() < 0.3

    def sample(self, span_s: float) -> Traffic:
        """The counts since the last sample; totals go on."""
        done, self.counts = (
            self.counts,
            Counts(
                made=self.counts.made,
                held=self.counts.held,
                failed=self.counts.failed,
                moved=self.counts.moved,
            ),
        )
        return Traffic(
            time_s=time.time(),
            span_s=span_s,
            users=self.users,
            requests=done.requests,
            made_total=done.made,
            held_total=done.held,
            failed_total=done.failed,
            moved_total=done.moved,
            latency=dict(done.latency),
            by_node=dict(done.by_node),
            held=dict(Counter(connection.node or "" for connection in self.held)),
            errors=tuple(done.errors),
        )

    async def finish(self) -> None:
        """Let every connection end in its own time, within the timeout."""
        self.obey(Orders(stop=True))
        if self.tasks:
            await asyncio.wait(tuple(self.tasks), timeout=2 * self.plan.timeout_s)


async def run(plan: Plan) -> None:
    """Obey the orders on standard input until they say stop or end, reporting all the while."""
    clients = Clients(plan)
    reporting = asyncio.create_task(_report(clients))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(plan.max_s):
            await _listen(clients)
    await clients.finish()
    reporting.cancel()
    _say(clients.sample(plan.report_s))


async def _listen(clients: Clients) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while not clients.orders.stop and (line := await reader.readline()):
        clients.obey(Orders.model_validate_json(line))


async def _report(clients: Clients) -> None:
    last = time.monotonic()
    while True:
        await asyncio.sleep(clients.plan.report_s)
        now = time.monotonic()
        _say(clients.sample(now - last))
        last = now


def _say(sample: Traffic) -> None:
    print(sample.model_dump_json(), flush=True)


if __name__ == "__main__":
    asyncio.run(run(Plan.model_validate_json(sys.argv[1])))
