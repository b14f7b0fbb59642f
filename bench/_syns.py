"""Opens TCP connections that nobody answers, at a fixed rate: SYNs from ever new ports.

A process of its own, for a namespace whose only way out is a bridge of the benchmark's. Bounded by
its arguments: interface, destination's hardware address, rate per second, seconds. Says as JSON how
many it really sent, and how long that took.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time

_ETHERNET = struct.Struct("!6s6sH")
_IP = struct.Struct("!BBHHHBBH4s4s")
_TCP = struct.Struct("!HHIIBBHHH")
_FIRST_PORT, _PORTS = 1024, 64000
_BATCH_S = 0.005
MOST = 400_000
SOURCE, DESTINATION = "10.0.0.101", "10.0.0.10"


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def syn(source_mac: bytes, to_mac: bytes, number: int) -> bytes:
    """The frame that opens the connection with that number."""
    source = socket.inet_aton(SOURCE)[:3] + bytes([100 + number // _PORTS])
    to, port = socket.inet_aton(DESTINATION), _FIRST_PORT + number % _PORTS
    head = _IP.pack(0x45, 0, 40, 0, 0, 64, 6, 0, source, to)
    head = _IP.pack(0x45, 0, 40, 0, 0, 64, 6, checksum(head), source, to)
    pseudo = source + to + struct.pack("!HH", 6, 20)
    tcp = _TCP.pack(port, 80, number, 0, 0x50, 0x02, 65535, 0, 0)
    tcp = _TCP.pack(port, 80, number, 0, 0x50, 0x02, 65535, checksum(pseudo + tcp), 0)
    return _ETHERNET.pack(to_mac, source_mac, 0x0800) + head + tcp


def main(interface: str, to_mac: str, rate: float, seconds: float) -> None:
    """Send."""
    with open(f"/sys/class/net/{interface}/address") as file:
        own = bytes.fromhex(file.read().strip().replace(":", ""))
    to = bytes.fromhex(to_mac.replace(":", ""))
    sent = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((interface, 0))
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds and sent < MOST:
            while sent < min(rate * passed, MOST):
                raw.send(syn(own, to, sent))
                sent += 1
            time.sleep(_BATCH_S)
    print(json.dumps({"sent": sent, "took_s": passed}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
