"""A service asked from the controller's own host: a TCP connection, or an HTTP request.

What it proves is what the same probe through the switch proves, but for the way there. Every
connection ends with a reset, so that nothing is left on either side.
"""

from __future__ import annotations

import http.client
import socket
import struct
import time

from sncontroller.core.commands import AskNode
from sncontroller.core.events import Heard
from sncontroller.core.health_spec import Kind

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


def node(command: AskNode) -> Heard | None:
    """What the node answered; ``None`` when it did not in time."""
    began = time.monotonic()
    try:
        ok, detail = _asked(command)
    except TimeoutError:
        return None
    except OSError as error:
        ok, detail = False, _why(error, command.port)
    except http.client.HTTPException:
        ok, detail = False, "what answers is not HTTP/1"
    key = (command.zone, command.index, command.asked_s)
    return Heard(*key, ok, detail, time.monotonic() - began)


def _asked(command: AskNode) -> tuple[bool, str]:
    where = (command.address, command.port)
    with socket.create_connection(where, command.spec.probe_timeout_s) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        if command.spec.kind is Kind.TCP:
            return True, f"port {command.port} accepts"
        status = _status(connection, command)
    return command.spec.accepts(status), f"HTTP {status}"


def _status(connection: socket.socket, command: AskNode) -> int:
    spec = command.spec
    client = http.client.HTTPConnection(command.address, command.port)
    client.sock = connection
    client.putrequest("GET", spec.path, skip_host=True, skip_accept_encoding=True)
    client.putheader("Host", spec.host or _host(command))
    client.putheader("User-Agent", "sncontroller")
    client.putheader("Accept", "*/*")
    client.putheader("Connection", "close")
    client.endheaders()
    with client.getresponse() as answer:
        return answer.status


def _host(command: AskNode) -> str:
    host = f"[{command.address}]" if ":" in command.address else command.address
    return host if command.port == http.client.HTTP_PORT else f"{host}:{command.port}"


def _why(error: OSError, port: int) -> str:
    if isinstance(error, ConnectionRefusedError):
        return f"port {port} refuses"
    if isinstance(error, http.client.RemoteDisconnected):
        return "closed before a status line"
    if isinstance(error, ConnectionResetError):
        return "reset before a status line"
    return error.strerror or str(error)
