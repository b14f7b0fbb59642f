"""Turning BFD on at the ports of the nodes, where the configuration says that it is ours to do.

Owns which port was told what. The session's verdict comes back as the port's liveness
(``Port.live``); a node that is not heard is down (``Group.port``), as the switch sees it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sncontroller.core.commands import Kind, SetBfd
from sncontroller.core.events import BfdSet
from sncontroller.core.lifecycle import State
from sncontroller.core.state import BfdSetting, Group, Node
from sncontroller.core.turn import Turn

AGAIN_S = 10.0
"""After a failure nothing is set for so long."""
SETTLES_S = 0.5
"""A port without BFD is live; so long after it was set, its liveness is the session's."""


def converge(turn: Turn) -> None:
    """Tell the switch's database about ports that came, and about those that are ours no longer."""
    group, wanted = turn.group, _wanted(turn.group)
    if wanted == group.bfd or turn.now < group.bfd_again_s:
        return
    for name, setting in wanted.items():
        if group.bfd.get(name) != setting:
            turn.say(SetBfd(group.spec.zone, name, setting.ovsdb, setting.column, on=True))
    for name in sorted(group.bfd.keys() - wanted.keys()):
        if name in group.ports:
            old = group.bfd[name]
            turn.say(SetBfd(group.spec.zone, name, old.ovsdb, old.column, on=False))
    turn.change(bfd=wanted)


def done(turn: Turn, result: BfdSet) -> None:
    """Take in that a port was told, or could not be; then it is told again after a pause."""
    told = dict(turn.group.bfd)
    setting = told.pop(result.port, None)
    if result.error is not None:
        turn.change(bfd=told, bfd_again_s=turn.now + AGAIN_S)
        turn.log(Kind.BFD, None, f"cannot set it on port {result.port}: {result.error}")
    elif setting is not None:
        turn.change(bfd={**told, result.port: replace(setting, set_s=turn.now)})


def settled(group: Group, node: Node, now: float) -> bool:
    """Whether the liveness of the node's port says what its BFD session says."""
    if not _is_ours(group):
        return True
    setting = group.bfd.get(node.port_name)
    return setting is not None and setting.set_s is not None and now >= setting.set_s + SETTLES_S


def _is_ours(group: Group) -> bool:
    spec = group.spec.health.bfd
    return spec is not None and spec.ovsdb is not None


def _wanted(group: Group) -> Mapping[str, BfdSetting]:
    spec = group.spec.health.bfd
    if spec is None or spec.ovsdb is None:
        return {}
    column, found = tuple(sorted(spec.column.items())), {}
    for node in group.nodes.values():
        port = group.ports.get(node.port_name)
        if port is not None and node.state is not State.GONE:
            setting, told = BfdSetting(port.number, spec.ovsdb, column), group.bfd.get(port.name)
            found[port.name] = told if told is not None and told == setting else setting
    return found
