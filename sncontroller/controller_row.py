"""The row that tells a bridge where its controller is, and how much it may send there.

Owns the columns that such a row has from us, whoever makes it: ``attach`` or a lab. A bridge sends
everything over one connection, in order. In a storm of new flows (``pinning: reactive``) seconds of
packet-ins would stand in it before the statistics that were asked for and before probes' answers.
So Open vSwitch is told how many packet-ins per second may come (``controller_rate_limit``). What is
beyond it waits at the switch, in a queue for each port it came from; these are served in turn, and
when all together are full the longest loses its oldest packet (``ofproto/pinsched.c``). So a client
port's storm costs that port's new flows and not what the nodes' ports bring. Only packet-ins are
limited, and only at this bridge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from sncontroller.errors import OperatorError

PER_S: Final = 1500
"""What the controller sets up in the middle of a storm and has time for statistics besides; 2,000
are read later than they come (docs/performance-control-plane.md)."""
LEAST_PER_S: Final = 100
"""What Open vSwitch takes (ovs-vswitchd.conf.db(5))."""
_TARGET: Final = re.compile(
    r"(tcp|ssl):(\[[0-9A-Fa-f:.%\w]+\]|[^\s:\[\]]+)(:(?P<port>\d{1,5}))?|(unix|punix|ptcp|pssl):\S+"
)
LONGEST_BACKOFF_MS: Final = 1000
"""A controller that comes back waits no longer for its switch; Open vSwitch's own is 8 s."""
_LOOPBACK: Final = ("tcp:127.", "ssl:127.", "tcp:[::1]", "ssl:[::1]", "unix:")


@dataclass(frozen=True, slots=True)
class PacketIns:
    """How many packet-ins a controller is sent; ``None`` where the row says nothing."""

    per_s: int | None = None
    """Without it there is no limit."""
    burst: int | None = None
    """So many may come at once, and as many more may wait; Open vSwitch's own is ``per_s / 4``."""

    @classmethod
    def limited(cls, per_s: int) -> Self:
        """At most ``per_s``, or no limit for 0. Raises ``OperatorError``.

        What waits, waits for a third of a second at most: a client sends its SYN again after one.
        """
        if per_s == 0:
            return cls()
        if per_s < LEAST_PER_S:
            raise OperatorError(
                f"{per_s} packet-ins per second are less than Open vSwitch can limit; "
                f"at least {LEAST_PER_S}, or 0 for no limit"
            )
        return cls(per_s, per_s // 3)

    @property
    def columns(self) -> tuple[str, str]:
        """As ovs-vsctl sets them; an empty set is none."""
        rate, burst = ("[]" if each is None else str(each) for each in (self.per_s, self.burst))
        return f"controller_rate_limit={rate}", f"controller_burst_limit={burst}"

    def __str__(self) -> str:
        if self.per_s is None:
            return "no limit of packet-ins"
        return f"at most {self.per_s} packet-ins per second"


DEFAULT: Final = PacketIns.limited(PER_S)


@dataclass(frozen=True, slots=True)
class Link:
    """How a bridge gets on with a controller, as the row's ``status`` says it."""

    connected: bool
    since_s: int | None
    """How long it has been so; ``None`` while it never was connected."""
    error: str
    """Why there is no connection; empty where Open vSwitch does not say."""
    dropped: int | None
    """Packet-ins dropped on this connection; ``None`` where they are not limited or counted."""

    @classmethod
    def told(cls, connected: bool, status: Mapping[str, str]) -> Self:
        """What the database says."""
        since = status.get(f"sec_since_{'connect' if connected else 'disconnect'}")
        counts = [status.get(f"packet-in-{why}-dropped") for why in ("miss", "action")]
        known = [int(count) for count in counts if count is not None]
        return cls(
            connected,
            None if since is None else int(since),
            "" if connected else status.get("last_error", ""),
            sum(known) if connected and known else None,
        )

    def __str__(self) -> str:
        since = "" if self.since_s is None else f" for {self.since_s} s"
        if not self.connected:
            return f"not connected{since}" + (self.error and f": {self.error}")
        dropped = "" if self.dropped is None else f", {self.dropped} packet-ins dropped"
        return f"connected{since}{dropped}"


def require_target(target: str) -> None:
    """Raise ``OperatorError`` for a place that Open vSwitch would take and never reach."""
    found = _TARGET.fullmatch(target)
    if found is None or not 0 < int(found["port"] or 1) < 65536:
        raise OperatorError(
            f"'{target}' is no place that a bridge can connect to; give it as tcp:127.0.0.1:6653"
        )


def columns(target: str, packet_ins: PacketIns) -> list[str]:
    """A new row; for a controller on this host Open vSwitch needs no hidden in-band flows."""
    mode = ["connection_mode=out-of-band"] if target.startswith(_LOOPBACK) else []
    backoff = f"max_backoff={LONGEST_BACKOFF_MS}"
    return [f'target="{target}"', *mode, backoff, *packet_ins.columns]


def replacing(bridge: str, targets: Iterable[str], packet_ins: PacketIns) -> list[str]:
    """``ovs-vsctl set-controller``, with rows of ours: its arguments."""
    command, names = [], []
    for number, target in enumerate(targets):
        names.append(f"@sn{number}")
        create = (f"--id={names[-1]}", "create", "controller", *columns(target, packet_ins))
        command += [*create, "--"]
    return [*command, "set", "bridge", bridge, f"controller=[{','.join(names)}]"]
