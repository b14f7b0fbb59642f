"""Short connections with a time on each, for tests in which something fails meanwhile.

The agent of the data plane's tests, and one command more: to tell a connection that began before a
fault from one that began after it, every visit has its own beginning and end.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import Any

from tests.dataplane import agent


@dataclass
class Visitor(agent.Agent):
    """All sockets of the process, and the commands."""

    visiting: bool = False

    async def do_visit(
        self, address: str, port: int, total: int, width: int = 8, pause_s: float = 0.0
    ) -> dict[str, Any]:
        """Short connections, one request each, ``width`` at a time, until halted or ``total``."""
        self.visiting = True
        visits: list[tuple[float, float, str, str]] = []

        async def one() -> None:
            if not self.visiting:
                return
            began, node, error = time.time(), "", ""
            try:
                node = await self._visit((address, port))
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as failure:
                error = f"{type(failure).__name__} {failure}"
            visits.append((began, time.time(), node, error))
            await asyncio.sleep(pause_s)

        await agent.bounded((one() for _ in range(total)), width)
        return {"visits": visits}

    async def do_halt(self) -> dict[str, Any]:
        """End the visits that are under way."""
        self.visiting = False
        return {}

    async def _visit(self, to: tuple[str, int]) -> str:
        connection = await agent.Tcp.open(to, ("", 0))
        try:
            node = await connection.ask(agent.LAST_REQUEST)
        except BaseException:
            connection.writer.transport.abort()
            raise
        connection.writer.close()
        with contextlib.suppress(OSError):
            await connection.writer.wait_closed()
        return node


if __name__ == "__main__":
    agent.Agent = Visitor  # type: ignore[misc]  # whom main() makes
    asyncio.run(agent.main())
