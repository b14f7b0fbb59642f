"""One client's TCP connection that speaks HTTP/1.1 and knows who answered.

Owns the bytes on the wire and nothing that is counted. A node tells its name in the ``X-Node``
header of every answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

_MAX_HEADER_BYTES = 8192
_NEEDED = {"x-node", "content-length"}


class AnswerError(Exception):
    """A connection did not get the answer it asked for; the message says what it got."""


@dataclass
class Connection:
    """One TCP connection; ``node`` is who gave its first answer."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    host: str
    node: str | None = None
    moved: bool = False

    @classmethod
    async def open(cls, host: str, port: int, source: str) -> Connection:
        """A new connection from the address ``source``. Raises ``OSError``."""
        reader, writer = await asyncio.open_connection(
            host, port, local_addr=(source, 0), limit=2 * _MAX_HEADER_BYTES
        )
        return cls(reader, writer, host)

    async def get(self, path: str, *, last: bool) -> tuple[str, int]:
        """The node that answered, and the size of the body; the ``last`` answer ends in a close.

        Raises ``AnswerError``, ``OSError`` or ``asyncio.IncompleteReadError``.
        """
        close = "Connection: close\r\n" if last else ""
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\n{close}\r\n".encode())
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:])}
        if " 200 " not in head[0] or not headers.keys() >= _NEEDED:
            raise AnswerError(f"unexpected answer: {head[0]}")
        size = len(await self.reader.readexactly(int(headers["content-length"])))
        if last and await self.reader.read(1):
            raise AnswerError("more bytes than announced")
        return headers["x-node"], size

    def abort(self) -> None:
        """End it at once, whatever is on its way."""
        self.writer.transport.abort()

    async def close(self) -> None:
        """End it well."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()
