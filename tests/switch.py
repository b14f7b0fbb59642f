"""A real switch's side of the text form: operations as an ``ovs-ofctl bundle``, and a dump.

Owns what tests need to put compiled tables on a bridge without a controller, and to read them back
in the form that ``sncontroller.core.ofctl`` writes.
"""

from __future__ import annotations

from collections.abc import Iterable

from sncontroller.core import ofctl
from sncontroller.core.diff import (
    AddFlow,
    AddGroup,
    DeleteFlow,
    DeleteGroup,
    ModifyGroup,
    Operation,
)
from sncontroller.core.layout import Kind, group_origin, origin
from sncontroller.lab.ovs import PrivateOvs


def bundle(operations: Iterable[Operation]) -> str:
    """The input of ``ovs-ofctl bundle BRIDGE -`` that does these operations, all or none."""
    return "".join(f"{_line(operation)}\n" for operation in operations)


def _line(operation: Operation) -> str:
    match operation:
        case AddGroup(group):
            return f"group add {ofctl.group(group)}"
        case ModifyGroup(group):
            return f"group modify {ofctl.group(group)}"
        case AddFlow(flow):
            return f"flow add {ofctl.flow(flow)}"
        case DeleteFlow(flow):
            alone = flow._replace(cookie=0, idle_timeout_s=0)
            where = ofctl.flow(alone).partition(" actions=")[0]
            return f"flow delete_strict cookie={flow.cookie:#x}/-1, {where}"
        case DeleteGroup(group_id):
            return f"group delete group_id={group_id}"


def dump(ovs: PrivateOvs, bridge: str, *, pins: bool = False) -> tuple[str, ...]:
    """Our entries on the bridge, groups then flows, sorted; learned ones only with ``pins``."""
    form = ("-O", "OpenFlow13", "--no-stats", "--no-names")
    groups = ovs.ofctl(*form, "dump-groups", bridge).splitlines()
    flows = ovs.ofctl(*form, "dump-flows", bridge).splitlines()
    return (
        *sorted(line.strip() for line in groups if _our_group(line)),
        *sorted(line.strip() for line in flows if _our_flow(line, pins)),
    )


def foreign(ovs: PrivateOvs, bridge: str) -> tuple[str, ...]:
    """Everybody else's entries on the bridge, in the form of :func:`dump`."""
    form = ("-O", "OpenFlow13", "--no-stats", "--no-names")
    groups = ovs.ofctl(*form, "dump-groups", bridge).splitlines()[1:]
    flows = ovs.ofctl(*form, "dump-flows", bridge).splitlines()
    return (
        *sorted(line.strip() for line in groups if not _our_group(line)),
        *sorted(line.strip() for line in flows if not _our_flow(line, pins=True)),
    )


def _our_group(line: str) -> bool:
    _, found, rest = line.partition("group_id=")
    return bool(found) and group_origin(int(rest.partition(",")[0])) is not None


def _our_flow(line: str, pins: bool) -> bool:
    _, found, rest = line.partition("cookie=")
    said = origin(int(rest.partition(",")[0], 16)) if found else None
    return said is not None and (pins or said.kind is not Kind.PIN)
