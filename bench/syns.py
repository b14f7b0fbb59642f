"""``python syns.py INTERFACE ADDRESS MAC COUNT RATE_PER_S [WITHIN_S [FIRST]]``: many flows' SYNs.

A process of its own that runs in the client's namespace and writes frames to its interface. Flow
number n comes from ``10.64.0.0`` and an address and a port that follow from n; nobody answers, so
a pin is all that comes of it. Checksums are right, because connection tracking looks. It ends with
the last flow, or after so many seconds, and prints how many there were and how long it took.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import sys
import time
from collections.abc import Iterator

PORTS = 50_000
FIRST_PORT = 10_000
CHUNK = 128
"""So many are sent in one go."""
_SOURCES = socket.inet_aton("10.64.0.0")


def flow(number: int) -> tuple[str, int]:
    """Source address and port of a flow."""
    return socket.inet_ntoa(struct.pack("!I", _source(number))), FIRST_PORT + number % PORTS


def frames(here: bytes, address: str, mac: str, count: int, first: int = 0) -> Iterator[bytes]:
    """A SYN from the hardware address ``here`` to port 80 of the address for each flow.

    ``first`` is the first flow's number: others than before are new flows.
    """
    ethernet = bytes.fromhex(mac.replace(":", "")) + here + b"\x08\x00"
    to = socket.inet_aton(address)
    ip_fixed = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0x4000, 64, 6, 0)
    tcp_fixed = struct.pack("!HIIBBHHH", 80, 1, 0, 0x50, 0x02, 64240, 0, 0)
    ip_base = _words(ip_fixed) + _words(to)
    tcp_base = _words(to) + 6 + 20 + _words(tcp_fixed)
    for number in range(first, first + count):
        source, port = _source(number), FIRST_PORT + number % PORTS
        halves = (source >> 16) + (source & 0xFFFF)
        yield b"".join(
            (
                ethernet,
                ip_fixed[:10],
                struct.pack("!HI", _checksum(ip_base + halves), source),
                to,
                struct.pack("!H", port),
                tcp_fixed[:14],
                struct.pack("!HH", _checksum(tcp_base + halves + port), 0),
            )
        )


def _source(number: int) -> int:
    return int.from_bytes(_SOURCES, "big") + 1 + number // PORTS


def _words(data: bytes) -> int:
    return sum(struct.unpack(f"!{len(data) // 2}H", data))


def _checksum(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def main(
    interface: str,
    address: str,
    mac: str,
    count: int,
    rate_per_s: float,
    within_s: float = math.inf,
    first: int = 0,
) -> None:
    """Write the frames, not faster than the rate, and say how many that were."""
    sent = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.bind((interface, 0))
        here: bytes = out.getsockname()[4]
        began = time.monotonic()
        for frame in frames(here, address, mac, count, first):
            if sent % CHUNK == 0:
                time.sleep(max(0.0, began + sent / rate_per_s - time.monotonic()))
                if time.monotonic() - began > within_s:
                    break
            out.send(frame)
            sent += 1
        print(json.dumps({"sent": sent, "took_s": time.monotonic() - began}))


if __name__ == "__main__":
    _interface, _address, _mac, _count, _rate, *_rest = sys.argv[1:]
    _bounds = (kind(text) for kind, text in zip((float, int), _rest, strict=False))
    main(_interface, _address, _mac, int(_count), float(_rate), *_bounds)
