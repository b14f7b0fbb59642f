"""Turning BFD on at the ports of the nodes, where the configuration says that it is ours to do.

Owns which port was told what. The session's verdict comes back as the port's liveness
(``Port.live``); a node that is not heard is down (``Group.port``), as the switch sees it too.
"""

from __future__ import annotations

from collections.abc import Mapping

from sncontroller.core.events import BfdFailed, Kind, SetBfd
from sncontroller.core.lifecycle import State
from sncontroller.core.state import BfdSetting, Group
from sncontroller.core.turn import Turn

AGAIN_S = 10.0
"""After a failure nothing is set for so long."""


def converge(turn: Turn) -> None:
    """Tell the switch's database about ports that came, and about those that are ours no longer."""
    group, wanted = turn.group, _wanted(turn.group)
    if wanted == group.bfd or turn.now < group.bfd_again_s:
        return
    for name, setting in wanted.items():
        if group.bfd.get(name) != setting:
            turn.say(SetBfd(group.spec.zone, name, setting.ovsdb, setting.column, on=True))
    for name in group.bfd.keys() - wanted.keys():
        if name in group.ports:
            old = group.bfd[name]
            turn.say(SetBfd(group.spec.zone, name, old.ovsdb, old.column, on=False))
    turn.change(bfd=wanted)


def failed(turn: Turn, failure: BfdFailed) -> None:
    """Take in that a port could not be told; it is told again after a pause."""
    others = {name: told for name, told in turn.group.bfd.items() if name != failure.port}
    turn.change(bfd=others, bfd_again_s=turn.now + AGAIN_S)
    turn.log(Kind.BFD, None, f"cannot set it on port {failure.port}: {failure.reason}")


def _wanted(group: Group) -> Mapping[str, BfdSetting]:
    spec = group.spec.health.bfd
    if spec is None or spec.ovsdb is None:
        return {}
    nodes = (node for node in group.nodes.values() if node.state is not State.GONE)
    ports = (group.ports.get(node.port_name) for node in nodes)
    return {
        port.name: BfdSetting(port.number, spec.ovsdb, tuple(sorted(spec.column.items())))
        for port in ports
        if port is not None
    }
