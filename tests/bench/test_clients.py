"""What the clients' notes say: which requests a fault cost, and for how long."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from bench import REPOSITORY
from bench.clients import Held, Seen, Visit

FAULT_S = 100.0


def visit(client: int, began_s: float, took_s: float = 0.01, error: str = "") -> Visit:
    """One visit, to whom does not matter."""
    return Visit(client, began_s, began_s + took_s, "" if error else "web-1", error)


def test_a_request_that_was_under_way_is_lost_by_the_fault() -> None:
    """It began before, but it ended without an answer afterwards."""
    seen = Seen((visit(0, 99.9, 0.5, "TimeoutError"), visit(0, 100.5)), ())
    cost = seen.fault(FAULT_S, 110)
    assert (cost["lost"], cost["requests"]) == (1, 2)
    assert cost["last_lost_s"] == pytest.approx(-0.1)
    assert cost["first_success_s"] == pytest.approx(0.51)


def test_the_unluckiest_client_counts() -> None:
    """Each client's wait ends with its own first answer."""
    lucky = [visit(0, 100.1)]
    unlucky = [visit(1, 100.0, 0.5, "TimeoutError"), visit(1, 100.6, 0.5, "TimeoutError")]
    cost = Seen((*lucky, *unlucky, visit(1, 101.2)), ()).fault(FAULT_S, 110)
    assert cost["first_success_s"] == pytest.approx(1.21)
    assert cost["errors"] == {"TimeoutError": 2}


def test_a_client_that_is_never_answered() -> None:
    """There is no first success then."""
    cost = Seen((visit(0, 100.1, 0.5, "TimeoutError"),), ()).fault(FAULT_S, 110)
    assert cost["first_success_s"] is None


def test_losses_before_the_fault_and_after_the_window_do_not_count() -> None:
    """Whatever they were."""
    others = (visit(0, 98.0, 0.5, "OSError"), visit(0, 111.0, 0.5, "OSError"))
    assert Seen((*others, visit(0, 101.0)), ()).fault(FAULT_S, 110)["lost"] == 0


def test_held_connections() -> None:
    """Broken and moved ones are counted apart."""
    held = (
        Held("web-1", 9, None, None, ""),
        Held("web-1", 9, 101.0, None, ""),
        Held("web-2", 9, None, 102.0, "ConnectionResetError"),
    )
    seen = Seen((), held)
    assert (seen.held_moved(), seen.held_broken()) == (1, 1)
    assert seen.errors() == {"ConnectionResetError": 1}


def test_the_visitor_notes_what_really_happens() -> None:
    """A server that moves held connections to another node, and breaks one, is found out."""
    first, last = asyncio.run(_visited())
    assert json.loads(first) == {"held": 2}
    notes = json.loads(last)
    assert any(each["moved_s"] for each in notes["held"])
    assert sum(bool(each["broken_s"]) for each in notes["held"]) == 1
    assert {node for _, _, _, node, error in notes["visits"] if not error} == {"web-1", "web-2"}


async def _visited() -> list[bytes]:
    """What the clients say of a server whose answers bear another name from the 20th on."""
    asked = 0
    broken = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while head := await reader.readuntil(b"\r\n\r\n"):
            asked += 1
            node = b"web-1" if asked < 20 else b"web-2"
            writer.write(b"HTTP/1.1 200 OK\r\nX-Node: %b\r\nContent-Length: 0\r\n\r\n" % node)
            held = b"Connection: close" not in head
            if not held or (asked > 40 and not broken.is_set()):
                if held:
                    broken.set()
                break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pace = {"ask_every_s": 0.01, "pause_s": 0.01, "width": 1, "held": 2}
    plan = json.dumps({"address": "127.0.0.1", "port": port, **pace})
    clients = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.visitor", plan),
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert clients.stdout is not None
    first = await clients.stdout.readline()
    await asyncio.wait_for(broken.wait(), 20)
    await asyncio.sleep(0.1)
    rest, _ = await clients.communicate(b"")  # the end of its input ends it
    server.close()
    return [first, rest]
