"""Real clients in a process of their own, which a test runs inside a client's namespace.

Owns the sockets and what is counted about them. Commands come in as lines of JSON on standard
input, ``{"id", "do", ...arguments}``, and run side by side; each is answered by one line with its
``id``. Only the standard library, so that it starts at once. Every loop is bounded by a count.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import sys
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

TIMEOUT_S = 5.0
TCP_REPAIR = 19
REQUEST = b"GET / HTTP/1.1\r\nHost: group\r\n\r\n"
LAST_REQUEST = b"GET / HTTP/1.1\r\nHost: group\r\nConnection: close\r\n\r\n"


def family(address: str) -> int:
    """Of sockets that reach the address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@dataclass
class Tcp:
    """A held connection; ``node`` gave its first answer."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    node: str = ""
    state: str = "open"
    """``open``, ``moved`` or ``broken``."""

    @classmethod
    async def open(cls, to: tuple[str, int], source: tuple[str, int]) -> Tcp:
        """Connect, from ``source``."""
        async with asyncio.timeout(TIMEOUT_S):
            sock = socket.socket(family(to[0]), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(source)
            try:
                await asyncio.get_running_loop().sock_connect(sock, to)
            except BaseException:
                sock.close()
                raise
            return cls(*await asyncio.open_connection(sock=sock))

    async def ask(self, request: bytes = REQUEST) -> str:
        """The node that answered."""
        async with asyncio.timeout(TIMEOUT_S):
            self.writer.write(request)
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            await self.reader.readexactly(int(headers["Content-Length"]))
        return headers["X-Node"]

    async def check(self) -> None:
        """Ask once, and note whether another node answers than at first."""
        try:
            node = await self.ask()
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self.state = "broken"
            self.writer.transport.abort()
            print(f"broken: {self.node} {type(error).__name__} {error}", file=sys.stderr)
            return
        if self.node and node != self.node:
            self.state = "moved"
        self.node = self.node or node

    def vanish(self) -> None:
        """Close without a word to the other side (TCP_REPAIR), as a host that loses its power."""
        self.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        self.writer.transport.abort()


@dataclass
class Udp:
    """A UDP socket that is connected to the group; ``node`` gave its first answer."""

    sock: socket.socket
    node: str = ""
    state: str = "open"

    @classmethod
    def open(cls, to: tuple[str, int], source: tuple[str, int]) -> Udp:
        """Make a socket for the group, from ``source``."""
        sock = socket.socket(family(to[0]), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.bind(source)
        sock.connect(to)
        return cls(sock)

    async def check(self, size: int = 16) -> None:
        """Send a datagram and wait for its echo, which begins with the node's name."""
        loop = asyncio.get_running_loop()
        token = random.randbytes(8).hex().encode().ljust(size, b".")
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await loop.sock_sendall(self.sock, token)
                node, _, body = (await loop.sock_recv(self.sock, 65535)).partition(b" ")
        except (OSError, TimeoutError):
            self.state = "broken"
            return
        if body != token:
            self.state = "broken"
        elif self.node and node.decode() != self.node:
            self.state = "moved"
        self.node = self.node or node.decode()


@dataclass
class Agent:
    """All sockets of the process, and the commands."""

    tcp: list[Tcp] = field(default_factory=list)
    udp: list[Udp] = field(default_factory=list)
    churning: bool = False
    asked: int = 0

    async def do_open(
        self, address: str, port: int, count: int = 1, source: str = "", source_port: int = 0
    ) -> dict[str, Any]:
        """Open held connections, eight at a time, and ask each once."""
        to = (address, port)
        return await self._open_all(self.tcp, count, self._tcp, to, source, source_port)

    async def do_udp_open(
        self,
        address: str,
        port: int,
        count: int = 1,
        source: str = "",
        source_port: int = 0,
        size: int = 16,
    ) -> dict[str, Any]:
        """Open UDP sockets and ask on each once."""
        to = (address, port)
        flows = [Udp.open(to, (source, source_port)) for _ in range(count)]
        self.udp += flows
        await bounded([flow.check(size) for flow in flows], 8)
        return report(flows)

    async def do_check(self, size: int = 16) -> dict[str, Any]:
        """Ask once on everything that is held."""
        self.asked += len(self.tcp) + len(self.udp)
        held = [c for c in self.tcp if c.state == "open"]
        await bounded([c.check() for c in held], 16)
        await bounded([u.check(size) for u in self.udp if u.state == "open"], 16)
        return report([*self.tcp, *self.udp])

    async def do_churn(self, rounds: int, pause_s: float = 0.0) -> dict[str, Any]:
        """Ask on everything, again and again, until told to stop or ``rounds`` are over."""
        self.churning, done = True, 0
        while self.churning and done < rounds:
            await self.do_check()
            await asyncio.sleep(pause_s)
            done += 1
        return {**report([*self.tcp, *self.udp]), "rounds": done, "asked": self.asked}

    async def do_stop(self) -> dict[str, Any]:
        """End a churn after its round."""
        self.churning = False
        return {}

    async def do_burst(
        self, address: str, port: int, total: int, width: int = 16, source: str = ""
    ) -> dict[str, Any]:
        """Short connections, one request each; ``width`` at a time, as fast as they go.

        ``refused`` could not be opened, ``cut`` were open and got no answer.
        """
        nodes: Counter[str] = Counter()
        errors: Counter[str] = Counter()

        cut: Counter[str] = Counter()

        async def one() -> None:
            into = errors
            try:
                connection = await Tcp.open((address, port), (source, 0))
                into = cut
                nodes[await connection.ask(LAST_REQUEST)] += 1
                connection.writer.close()
                with contextlib.suppress(OSError):
                    await connection.writer.wait_closed()
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                into[f"{type(error).__name__} {error}"] += 1

        await bounded((one() for _ in range(total)), width)
        return {
            "made": nodes.total(),
            "refused": errors.total(),
            "cut": cut.total(),
            "nodes": nodes,
            "errors": {**errors, **cut},
        }

    async def do_vanish(self) -> dict[str, Any]:
        """Forget all held TCP connections without telling the nodes."""
        for connection in self.tcp:
            connection.vanish()
        self.tcp.clear()
        return {}

    async def do_close(self) -> dict[str, Any]:
        """Close everything that is held in the regular way; what it was."""
        last = report([*self.tcp, *self.udp])
        for connection in self.tcp:
            connection.writer.close()
        for flow in self.udp:
            flow.sock.close()
        self.tcp.clear()
        self.udp.clear()
        return last

    async def do_raw(self, packets: list[str]) -> dict[str, Any]:
        """Send IPv4 packets as they are (hex, without link layer); at most 2,000."""
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            for packet in map(bytes.fromhex, packets[:2000]):
                raw.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
        return {}

    async def do_frame(self, interface: str, frames: list[str]) -> dict[str, Any]:
        """Send Ethernet frames as they are (hex); at most 2,000."""
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((interface, 0))
            for frame in map(bytes.fromhex, frames[:2000]):
                raw.send(frame)
        return {}

    async def _tcp(self, to: tuple[str, int], source: tuple[str, int]) -> Tcp:
        connection = await Tcp.open(to, source)
        await connection.check()
        return connection

    async def _open_all(
        self, into: list[Any], count: int, opened: Any, to: Any, source: str, source_port: int
    ) -> dict[str, Any]:
        failed: list[str] = []

        async def one() -> None:
            try:
                into.append(await opened(to, (source, source_port)))
            except (OSError, TimeoutError) as error:
                failed.append(f"{type(error).__name__} {error}")

        await bounded((one() for _ in range(count)), 8)
        return {**report(into), "failed": len(failed), "errors": failed[:5]}


def report(held: list[Any]) -> dict[str, Any]:
    """How all of these are, and which nodes they belong to."""
    states = Counter(flow.state for flow in held)
    return {
        "held": len(held),
        "broken": states["broken"],
        "moved": states["moved"],
        "nodes": Counter(flow.node for flow in held),
    }


async def bounded(work: Any, width: int) -> None:
    """Run the coroutines, ``width`` at a time."""
    todo = iter(work)

    async def worker() -> None:
        for item in todo:
            await item

    await asyncio.gather(*(worker() for _ in range(width)))


async def main() -> None:
    """Obey standard input to its end."""
    agent, tasks = Agent(), set()
    reader = asyncio.StreamReader(limit=2**24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def answer(number: int, work: Coroutine[Any, Any, dict[str, Any]]) -> None:
        try:
            said = await work
        except Exception as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({"id": number, **said}), flush=True)

    while line := await reader.readline():
        command = json.loads(line)
        work = getattr(agent, f"do_{command.pop('do')}")
        task = asyncio.create_task(answer(command.pop("id"), work(**command)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    asyncio.run(main())
