"""A node's UDP service: answers each datagram with the node's name and the datagram itself.

Run as ``udp_echo.py NAME PORT... [--ipv6]`` inside the node's namespace; ends with the namespace.
"""

from __future__ import annotations

import selectors
import socket
import sys

IP_PKTINFO = 8
"""From linux/in.h; Python names it since 3.14."""


def listening(port: int, ipv6: bool) -> socket.socket:
    """A socket on all addresses that tells which of them was asked."""
    if not ipv6:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    else:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    sock.bind(("", port))
    return sock


def serve(name: bytes, ports: list[int], ipv6: bool) -> None:
    """Answer on all ports; each answer comes from the address that was asked."""
    selector = selectors.DefaultSelector()
    for port in ports:
        sock = listening(port, ipv6)
        selector.register(sock, selectors.EVENT_READ, sock)
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            sock = key.data
            data, control, _, peer = sock.recvmsg(65535, 512)
            sock.sendmsg([name + b" " + data], control, 0, peer)


if __name__ == "__main__":
    serve(
        sys.argv[1].encode(),
        [int(port) for port in sys.argv[2:] if port.isdigit()],
        "--ipv6" in sys.argv,
    )
