"""Whose an object is, as a line of JSON in the free text that a cloud keeps with it.

Pure. For objects that get a description when they come into being, and tags only by a second call.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from sncontroller.hypervisors.base import NodeRequest, Owner

KEY: Final = "sncontroller"


@dataclass(frozen=True, slots=True)
class Ownership:
    """The owner's tags of one object, and what its node was asked to be."""

    owner: Owner
    name: str
    index: int
    mac: str

    @classmethod
    def of(cls, owner: Owner, request: NodeRequest) -> Ownership:
        """What is written on the objects of this node."""
        return cls(owner, request.name, request.index, request.mac.lower())

    def text(self) -> str:
        """The description."""
        return json.dumps(
            {
                KEY: self.owner.controller,
                "group": self.owner.group,
                "node": self.name,
                "index": self.index,
                "mac": self.mac,
            }
        )


def ownership(text: str | None) -> Ownership | None:
    """What a description says, ``None`` when it is none of ours."""
    try:
        said = json.loads(text or "")
        owner = Owner(str(said[KEY]), str(said["group"]))
        return Ownership(owner, str(said["node"]), int(said["index"]), str(said["mac"]).lower())
    except (ValueError, KeyError, TypeError):
        return None
