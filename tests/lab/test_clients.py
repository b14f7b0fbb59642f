"""The clients, against real servers on loopback: good ones, and each way of being a bad one."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from sncontroller.lab.clients import Clients, Orders, Plan
from sncontroller.lab.programs import program
from sncontroller.lab.samples import Traffic
from sncontroller.lab.service import Service

PAGE_BYTES = 2000
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


def plan(port: int, **changes: Any) -> Plan:
    """A plan of visits to loopback, quick and impatient."""
    given: dict[str, Any] = {
        "address": "127.0.0.1",
        "port": port,
        "sources": ("127.0.0.1",),
        "page_bytes": PAGE_BYTES,
        "think_s": 0.01,
        "hold_pause_s": (0.01, 0.03),
        "timeout_s": 1.0,
        "report_s": 0.1,
    }
    return Plan(**given | changes)


def answer(node: str, size: int = PAGE_BYTES, *, sent: int | None = None) -> bytes:
    """The bytes of an answer that announces ``size`` and has ``sent`` bytes of body."""
    head = f"HTTP/1.1 200 OK\r\nX-Node: {node}\r\nContent-Length: {size}\r\n\r\n"
    return head.encode() + b"x" * (size if sent is None else sent)


def answering(*answers: bytes) -> Handler:
    """A server that gives these answers on each connection; closes it after them, or when asked."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            for text in answers or (b"",):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(text)
                await writer.drain()
                if b"Connection: close" in request:
                    break
        writer.close()

    return handle


@contextlib.asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[int]:
    """The port of a server on loopback."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def seen(handler: Handler, orders: Orders, **changes: Any) -> Traffic:
    """What clients with these orders saw once something had failed, moved, or 20 had been made."""
    async with served(handler) as port:
        clients = Clients(plan(port, **changes))
        clients.obey(orders)
        async with asyncio.timeout(20):
            while not (clients.counts.failed or clients.counts.moved or clients.counts.made >= 20):
                await asyncio.sleep(0.01)
            await clients.finish()
        return clients.sample(1.0)


def test_visits_are_counted_with_their_node_and_latency() -> None:
    """Each answered request is counted once: in all, by node and by latency; nothing fails."""
    handler = answering(*[answer("web-1")] * 10)
    sample = asyncio.run(seen(handler, Orders(users=3), session_share=0.0))
    assert sample.failed_total == sample.moved_total == 0
    assert sample.made_total == sample.requests == sum(sample.latency.values()) >= 20
    assert sample.by_node == {"web-1": sample.requests}


@pytest.mark.parametrize(
    ("answers", "word"),
    [
        ((), "closed after 0 bytes"),
        ((answer("web-1", sent=100),), "closed after 100 bytes"),
        ((answer("web-1", 1999),), "1999 bytes instead of 2000"),
        ((answer("web-1") + b"more",), "more bytes than announced"),
        ((b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",), "502 Bad Gateway"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",), "unexpected answer"),
        ((b"HTTP/1.1 200 OK\r\nX-Node: a\r\n\r\n",), "unexpected answer"),
    ],
)
def test_a_bad_answer_is_a_failed_connection(answers: tuple[bytes, ...], word: str) -> None:
    """An answer that is missing, short, too long or an error counts, and says why."""
    sample = asyncio.run(seen(answering(*answers), Orders(users=1), session_share=0.0))
    assert sample.failed_total >= 1
    assert word in sample.errors[0]


def test_silence_is_a_failed_connection() -> None:
    """A server that accepts and never answers counts as failed when the timeout is over."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    sample = asyncio.run(seen(silent, Orders(users=1), timeout_s=0.2))
    assert sample.failed_total >= 1
    assert "no answer in 0.2 s" in sample.errors[0]


def test_a_refused_connection_is_a_failed_one() -> None:
    """Nobody listening counts as failed."""

    async def refused() -> Traffic:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        clients = Clients(plan(port))
        clients.obey(Orders(users=1))
        async with asyncio.timeout(20):
            while not clients.counts.failed:
                await asyncio.sleep(0.01)
            await clients.finish()
        return clients.sample(1.0)

    assert str(errno.ECONNREFUSED) in asyncio.run(refused()).errors[0]


@pytest.mark.parametrize("orders", [Orders(users=1), Orders(hold_total=1)])
def test_another_node_on_the_same_connection_is_a_move(orders: Orders) -> None:
    """A session and a held connection that get answers of two nodes count as moved, once each."""
    handler = answering(answer("web-1"), *[answer("web-2")] * 50)
    sample = asyncio.run(seen(handler, orders, session_share=1.0))
    assert sample.moved_total == 1
    assert sample.errors[0] == "moved: web-1 answered first, then web-2"


def test_users_come_and_go_as_ordered() -> None:
    """More users are there at once, fewer as soon as the surplus ones end their visit."""

    async def scenario() -> list[int]:
        numbers = []
        async with served(answering(answer("web-1"))) as port:
            clients = Clients(plan(port, session_share=0.0))
            for users in (7, 2):
                clients.obey(Orders(users=users))
                async with asyncio.timeout(20):
                    while clients.users != users:
                        await asyncio.sleep(0.01)
                numbers.append(clients.users)
            await clients.finish()
            return [*numbers, clients.users, clients.counts.failed]

    assert asyncio.run(scenario()) == [7, 2, 0, 0]


def test_only_the_released_nodes_connections_are_closed() -> None:
    """Held connections of a released node end well; those of the other node stay open."""

    async def scenario() -> tuple[dict[str, int], dict[str, int], Traffic]:
        nodes = iter(["web-1", "web-2", "web-1", "web-2"])

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await answering(*[answer(next(nodes))] * 10_000)(reader, writer)

        async with served(handle) as port:
            clients = Clients(plan(port))
            clients.obey(Orders(hold_total=4))
            async with asyncio.timeout(20):
                while len(clients.held) < 4:
                    await asyncio.sleep(0.01)
                before = clients.sample(1.0).held
                clients.obey(Orders(hold_total=4, release=("web-2",)))
                while len(clients.held) > 2:
                    await asyncio.sleep(0.01)
                after = clients.sample(1.0).held
            await clients.finish()
            return before, after, clients.sample(1.0)

    before, after, end = asyncio.run(scenario())
    assert before == {"web-1": 2, "web-2": 2}
    assert after == {"web-1": 2}
    assert (end.made_total, end.held_total, end.failed_total, end.held) == (4, 4, 0, {})


def test_the_number_of_requests_is_bounded() -> None:
    """The plan's bound ends the traffic whatever the orders say."""

    async def scenario() -> Clients:
        async with served(answering(answer("web-1"))) as port:
            clients = Clients(plan(port, session_share=0.0, max_requests=30))
            clients.obey(Orders(users=4))
            async with asyncio.timeout(20):
                while clients.users:
                    await asyncio.sleep(0.01)
            clients.obey(Orders(users=4))
            return clients

    clients = asyncio.run(scenario())
    assert 30 <= clients.started <= 34
    assert clients.users == 0


# -- the process, against nginx -------------------------------------------------------------------


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[int]:
    """The port of the demo's nginx on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    configuration = Service(page_bytes=PAGE_BYTES).lay_out("web-1", tmp_path, f"127.0.0.1:{port}")
    server = subprocess.Popen([program("nginx"), "-c", str(configuration)])
    try:
        _await_port(server, port)
        yield port
    finally:
        server.terminate()
        server.wait(10)


def _await_port(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise AssertionError("nginx does not listen")


@pytest.fixture
def process(nginx: int) -> Iterator[subprocess.Popen[str]]:
    """The clients' process, visiting nginx."""
    words = [sys.executable, "-m", "sncontroller.lab.clients", plan(nginx).model_dump_json()]
    pipe = subprocess.PIPE
    child = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env=os.environ)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def test_the_process_obeys_reports_and_ends_by_order(process: subprocess.Popen[str]) -> None:
    """Orders in, samples out; after ``stop`` the last sample has all, and the status is 0."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(Orders(users=4, hold_total=3).model_dump_json() + "\n")
    process.stdin.flush()
    samples = []
    for line in process.stdout:
        samples.append(Traffic.model_validate_json(line))
        if sum(s.requests for s in samples) > 50 and samples[-1].held == {"web-1": 3}:
            break
    process.stdin.write(Orders(stop=True).model_dump_json() + "\n")
    process.stdin.flush()
    rest, _ = process.communicate(timeout=20)
    samples += [Traffic(**json.loads(line)) for line in rest.splitlines()]
    assert process.returncode == 0
    assert samples[-1].users == 0
    assert samples[-1].held == {}
    assert samples[-1].failed_total == samples[-1].moved_total == 0
    assert samples[-1].made_total > 0
    assert samples[-1].held_total == 3


def test_the_process_ends_with_its_input(process: subprocess.Popen[str]) -> None:
    """When whoever gives the orders is gone, the clients stop by themselves."""
    assert process.stdin is not None
    process.stdin.write(Orders(users=2).model_dump_json() + "\n")
    process.stdin.close()
    process.stdin = None
    process.communicate(timeout=20)
    assert process.returncode == 0
