"""One change of one group's table: all of it at once, or nothing.

Owns the conversation with the switch, a step per reply:

    FILLING     open, add every message, close. A message that the switch cannot read is answered
                by an error and left out, and a commit would apply the rest (Open vSwitch 3.1.0),
                so the commit waits for the reply to close.
    COMMITTING  commit and a barrier, whose reply confirms the new table.

Open vSwitch drops a bundle that was idle for 10 s; the commit is then refused like any other.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from enum import Enum

from sncontroller.core import diff, ofctl
from sncontroller.core.entries import FlowEntry
from sncontroller.openflow import codec, requests
from sncontroller.openflow.requests import Control
from sncontroller.openflow.wire import Answer, Problem, Wire

_TOLD = 3
"""How many of a table's problems a refusal names."""


class Step(Enum):
    """Which replies are awaited."""

    FILLING = "filling"
    COMMITTING = "committing"


class Change:
    """Carries out ``operations``; ``finish`` gets ``None``, or the reason of a refusal."""

    def __init__(
        self,
        wire: Wire,
        operations: Sequence[diff.Operation],
        finish: Callable[[str | None], None],
    ) -> None:
        self._wire, self._operations, self._finish = wire, operations, finish
        self._step = Step.FILLING
        self._problems: list[str] = []
        self._sent: dict[int, diff.Operation] = {}
        self._encoder = codec.Encoder()
        self._bundle_id = 0
        self._awaited = 0

    def start(self) -> None:
        """Send the bundle, but for its commit."""
        self._bundle_id = self._wire.xid(self._hear_bundle)
        self._awaited = self._wire.xid(self._hear_bundle)
        try:
            adds = [self._added(operation) for operation in self._operations]
        except (KeyError, ValueError, OverflowError, struct.error) as error:
            self._problems.append(f"no OpenFlow message for an entry: {error}")
            self._refuse()
            return
        self._wire.send(
            requests.bundle_control(self._bundle_id, self._bundle_id, Control.OPEN),
            *adds,
            requests.bundle_control(self._awaited, self._bundle_id, Control.CLOSE),
        )

    def _added(self, operation: diff.Operation) -> bytes:
        xid = self._wire.xid(self._hear_bundle)
        self._sent[xid] = operation
        return codec.bundle_add(self._bundle_id, self._encoder.encode(operation, xid), xid)

    def _hear_bundle(self, xid: int, answer: Answer) -> None:
        if isinstance(answer, Problem):
            operation = self._sent.get(xid)
            about = "the bundle" if operation is None else described(operation)
            self._problems.append(f"{answer.name}: {about}")
        if xid != self._awaited:
            return
        if self._step is Step.COMMITTING:
            self._end()
        elif self._problems:
            self._discard()
        else:
            self._commit()

    def _commit(self) -> None:
        self._step = Step.COMMITTING
        commit, self._awaited = self._wire.xid(self._hear_bundle), self._wire.xid(self._hear_bundle)
        self._wire.send(
            requests.bundle_control(commit, self._bundle_id, Control.COMMIT),
            requests.barrier(self._awaited),
        )

    def _discard(self) -> None:
        """Nothing was applied: throw the bundle away; whether it still exists does not matter."""
        xid = self._wire.xid(lambda xid, answer: None)
        self._wire.send(requests.bundle_control(xid, self._bundle_id, Control.DISCARD))
        self._refuse()

    def _end(self) -> None:
        if self._problems:
            self._refuse()
        else:
            self._close(None)

    def _refuse(self) -> None:
        problems = list(dict.fromkeys(self._problems))
        more = [f"and {len(problems) - _TOLD} more"] if len(problems) > _TOLD else []
        self._close("; ".join(problems[:_TOLD] + more))

    def _close(self, reason: str | None) -> None:
        self._wire.forget((self._bundle_id, self._awaited, *self._sent))
        self._finish(reason)


def described(what: diff.Operation | FlowEntry) -> str:
    """The entry as ``ovs-ofctl`` would show it, with what was to be done to it."""
    match what:
        case diff.AddFlow(flow):
            return f"add {described(flow)}"
        case diff.DeleteFlow(flow):
            return f"delete {described(flow)}"
        case diff.AddGroup(group):
            return f"add {_shortened(ofctl.group(group))}"
        case diff.ModifyGroup(group):
            return f"modify {_shortened(ofctl.group(group))}"
        case diff.DeleteGroup(group_id):
            return f"delete group_id={group_id}"
        case FlowEntry():
            return _flow_text(what)


def _flow_text(flow: FlowEntry) -> str:
    """Foreign flows may have fields and actions that ``ofctl`` has no words for."""
    try:
        return ofctl.flow(flow)
    except (KeyError, ValueError):
        return f"cookie={flow.cookie:#x}, table={flow.table}, priority={flow.priority}, ..."


def _shortened(text: str, limit: int = 400) -> str:
    """A slot table's 256 buckets are no help in a message."""
    return text if len(text) <= limit else f"{text[:limit]}..."


def in_the_way(foreign: FlowEntry) -> str:
    """Why a table cannot be applied in whose place a foreign flow is, and what mends it."""
    return (
        f"the bridge has a flow that is not ours in this place: {described(foreign)};"
        " give switch.priority another value, or remove that flow"
    )
