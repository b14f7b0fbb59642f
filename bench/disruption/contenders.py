"""Who is on the stage."""

from __future__ import annotations

from bench.disruption.haproxy import Haproxy
from bench.disruption.ours import Ours
from bench.disruption.ovn import Ovn
from bench.disruption.stage import Contender

CONTENDERS: dict[str, type[Contender]] = {
    "ours": Ours,
    "ovn": Ovn,
    "haproxy": Haproxy,
}
"""In the order of the tables, by the name in the results."""
