"""The service that a node of the demo runs: nginx with one page, behind a link of fixed rate.

Owns nginx's configuration and the command that runs it, ``python -m sncontroller.lab.service NODE
DIRECTORY``. The same command serves in the primary's namespace and in every secondary's: it limits
what the node can send, then becomes nginx. The limit is what makes a node's capacity physical: 2
cores can run all nodes, and no node can send more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sncontroller.lab.guard import end_with_demo
from sncontroller.lab.namespaces import INNER
from sncontroller.lab.programs import program

PAGE_BYTES = 8192
RATE_BPS = 8_000_000
LINE = "The quick brown fox jumps over the lazy dog."
"""What the page is full of."""
_HEADER_BYTES = 260
"""Of an answer: status line and headers."""
_SEGMENT_BYTES, _SEGMENT_OVERHEAD = 1448, 66
"""TCP payload of a full frame, and the headers around it."""
_HANDSHAKE_BYTES = 66 * 4
"""What the node sends of a connection besides the answer: SYN, acknowledgements, FIN."""
_QUEUE_S = 1.0
"""The queue holds this much: more than all users together ask for, so nothing is dropped."""

_NGINX = """\
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    default_type text/plain;
    keepalive_timeout 3600s;
    keepalive_requests 1000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen {listen} backlog=2048;
        add_header X-Node {node} always;
        location = / {{ root {directory}; try_files /page =500; }}
        location = /ping {{ return 200 "pong\\n"; }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Service:
    """What every node serves, and how fast it can send."""

    page_bytes: int = PAGE_BYTES
    rate_bps: int = RATE_BPS
    port: int = 80

    @property
    def answer_bytes(self) -> int:
        """What an answer takes on the wire, headers of all layers included."""
        body = self.page_bytes + _HEADER_BYTES
        return body + -(-body // _SEGMENT_BYTES) * _SEGMENT_OVERHEAD + _HANDSHAKE_BYTES

    @property
    def answers_per_s(self) -> float:
        """About how many answers per second one node can send."""
        return self.rate_bps / 8 / self.answer_bytes

    @property
    def shaping(self) -> tuple[str, ...]:
        """The command that limits what leaves the node."""
        burst_b = max(6 * 1514, self.rate_bps // 8 // 100)  # 10 ms: more than a tick at HZ=100
        limit_b = int(self.rate_bps / 8 * _QUEUE_S)
        tbf = f"rate {self.rate_bps}bit burst {burst_b} limit {limit_b}"
        return (program("tc"), "qdisc", "replace", "dev", INNER, "root", "tbf", *tbf.split())

    def nginx(self, node: str, directory: Path, listen: str | None = None) -> str:
        """nginx's configuration for the node; the page lies in ``directory``."""
        return _NGINX.format(node=node, directory=directory, listen=listen or self.port)

    def lay_out(self, node: str, directory: Path, listen: str | None = None) -> Path:
        """Write what nginx needs into ``directory``; the path of its configuration."""
        directory.mkdir(parents=True, exist_ok=True)
        line = f"{LINE}\n".encode()
        page = line * (self.page_bytes // len(line) + 1)
        (directory / "page").write_bytes(page[: self.page_bytes])
        configuration = directory / "nginx.conf"
        configuration.write_text(self.nginx(node, directory, listen))
        return configuration

    def command(self, node: str, directory: str) -> tuple[str, ...]:
        """The command that serves in a node's namespace until it is told to end."""
        sizes = ("--page-bytes", f"{self.page_bytes}", "--rate-bps", f"{self.rate_bps}")
        return (sys.executable, "-m", "sncontroller.lab.service", node, directory, *sizes)


def main() -> None:
    """Limit the rate, then become nginx."""
    parser = argparse.ArgumentParser(prog="sncontroller.lab.service", description=__doc__)
    parser.add_argument("node", help="name that answers bear")
    parser.add_argument("directory", type=Path, help="where configuration, page and log go")
    parser.add_argument("--page-bytes", type=int, default=PAGE_BYTES)
    parser.add_argument("--rate-bps", type=int, default=RATE_BPS)
    parser.add_argument("--listen", help="where nginx listens, as [::]:80 for IPv6")
    given = parser.parse_args()
    service = Service(given.page_bytes, given.rate_bps)
    configuration = service.lay_out(given.node, given.directory, given.listen)
    subprocess.run(service.shaping, check=True)
    nginx = program("nginx")
    end_with_demo()
    os.execv(nginx, (nginx, "-c", str(configuration)))


if __name__ == "__main__":
    main()
